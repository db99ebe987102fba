"""Time the drawing of the spline PSF on one core, beside the aligned Gaussian, alone and as a part of training batches.

Run as ``python benchmarks/speed/spline.py``. Seconds are processor time (other programs may run beside), the best of many repeats, each
a batch as a caller hands it over, with all overhead. The first call, which compiles or loads the compiled code, is timed apart.

For comparison: fit3Dcspline (C, one core, GPL) spends 103 ns per pixel and iteration on a whole maximum-likelihood fit of a spline, of
which drawing with derivatives is the greater part but not all (gradient, Hessian matrix and the step are the rest).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from denseloc.experiment import Experiment
from denseloc.kernels.gaussian_pixel.naive import aligned
from denseloc.optics import SplineSettings
from denseloc.optics.spline import SplinePSF

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

EMITTERS, DEPTHS = 1000, 25
BATCHES, ROUNDS = 12, 5


def psf_of(size: int, nodes_per_px: int) -> SplinePSF:
    """Make a spline of a Gaussian that widens with depth, nodes two pixels beyond the patch."""
    at = np.arange(-(half := nodes_per_px * (size // 2 + 2)), half + 1) / nodes_per_px
    widths = 1.3 * np.sqrt(1 + np.linspace(-1.5, 1.5, DEPTHS) ** 2)
    samples = [np.exp(-0.5 * (at[:, None] ** 2 + at**2) / width**2) / (2 * np.pi * width**2) for width in widths]
    return SplineSettings.from_samples(np.array([samples]), -600.0, 50.0, nodes_per_px, size, pixel_size_nm=100.0).build(
        (100.0, 100.0)
    )


def best(work: Callable[[], object], repeats: int = 60) -> float:
    """Give the shortest processor time of several runs, in seconds."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure(size: int, nodes_per_px: int) -> dict[str, float]:
    """Time one size of patch: ns per pixel of each way of drawing."""
    generator = torch.Generator().manual_seed(1)
    psf = psf_of(size, nodes_per_px)
    offset = torch.rand(EMITTERS, 2, generator=generator) - 0.5
    z, width = 1000 * torch.rand(EMITTERS, generator=generator) - 500, 1.3 + torch.rand(EMITTERS, generator=generator)
    weight = torch.rand(EMITTERS, 1, size, size, generator=generator)

    def learn() -> None:
        (psf(offset, z) * weight).sum().backward()

    with torch.no_grad():
        seconds = {
            "gaussian": best(lambda: aligned(offset[:, 0], offset[:, 1], width, width, size)),
            "values": best(lambda: psf(offset, z)),
            "values_and_3_derivatives": best(lambda: psf.with_derivatives(offset, z)),
            "values_scaled": best(lambda: psf(offset, z, width)),
        }
    seconds["values_and_gradient_of_coefficients"] = best(learn)
    result = {f"{name}_ns_per_pixel": 1e9 * value / (EMITTERS * size**2) for name, value in seconds.items()}
    return {key: round(value, 3) for key, value in result.items()} | {
        "values_over_gaussian": round(seconds["values"] / seconds["gaussian"], 2)
    }


def batches() -> dict[str, float]:
    """Time whole training batches of a gaussian, an astigmatic and two spline PSFs, 21 px wide, in turns: median ms a batch."""
    formulas: dict[str, Any] = {
        "gaussian": {"kind": "gaussian", "width_nm": 130.0, "depth_nm": 400.0, "roi_px": 21},
        "astigmatic": {
            "kind": "astigmatic",
            "width_nm": 130.0,
            "focus_a_nm": -250.0,
            "focus_b_nm": 250.0,
            "depth_nm": 400.0,
            "roi_px": 21,
        },
        **{f"spline_{s}": psf_of(21, s).described().model_dump() for s in (1, 2)},
    }
    simulators = {}
    for name, psf in formulas.items():
        document = Experiment.from_json(
            {
                "pixel_size_nm": 100,
                "psf": psf,
                "camera": {
                    "kind": "emccd",
                    "offset_counts": 100,
                    "electrons_per_count": 45,
                    "em_gain": 300,
                    "read_noise_electrons": 74.4,
                },
                "specimen": {
                    "density_per_um2": [0.03, 2.0],
                    "z_nm": [-600, 600],
                    "blinking": {"kind": "four_state"},
                    "photons": {"kind": "flux", "photons": 5000, "relative": [0.4, 1.4]},
                    "background": {"kind": "uniform", "photons": [50, 100]},
                },
            }
        )
        simulators[name] = document.build_simulator(document.build_localizer())
    spent: dict[str, list[float]] = {name: [] for name in simulators}
    for _ in range(ROUNDS):
        for name, simulator in simulators.items():
            generator = torch.Generator().manual_seed(0)
            simulator.draw(document.training.batch_size, generator)
            began = time.process_time()
            for _ in range(BATCHES):
                simulator.draw(document.training.batch_size, generator)
            spent[name].append((time.process_time() - began) / BATCHES)
    return {f"batch_{name}_ms": round(1e3 * float(np.median(times)), 2) for name, times in spent.items()}


def main() -> None:
    """Time and keep."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    psf_of(13, 1).with_derivatives(torch.zeros(1, 2), torch.zeros(1))
    first = time.perf_counter() - start
    sizes = {f"{size}_px_{s}_nodes_per_px": measure(size, s) for size in (13, 21) for s in (1, 2)}
    drawn = batches()
    results = {"emitters": EMITTERS, "first_call_seconds": round(first, 2), **sizes, **drawn}
    print(json.dumps(results, indent=2))
    each = [sizes[f"13_px_{s}_nodes_per_px"]["values_and_3_derivatives_ns_per_pixel"] for s in (1, 2)]
    ratios = [drawn[f"batch_spline_{s}_ms"] / drawn["batch_gaussian_ms"] for s in (1, 2)]
    rows = [
        ("spline PSF with 3 derivatives, 13 x 13 px", f"{each[0]:.1f} ns per pixel; {each[1]:.1f} with 2 nodes per pixel"),
        (
            "training batch with a spline PSF, 21 px",
            f"{drawn['batch_spline_1_ms']:.0f} ms, {ratios[0]:.2f} of a Gaussian one; {ratios[1]:.2f} with 2 nodes per pixel",
        ),
    ]
    keep("spline_speed", seed=0, results=results, summary=rows)


if __name__ == "__main__":
    main()
