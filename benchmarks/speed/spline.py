"""Time the drawing of the spline PSF on one core, beside the aligned Gaussian; prints JSON.

Run as ``python benchmarks/speed/spline.py``. Seconds are processor time (other programs may run beside), the best of many repeats, each
a batch as a caller hands it over, with all overhead. The first call, which compiles or loads the compiled code, is timed apart.

For comparison: fit3Dcspline (C, one core, GPL) spends 103 ns per pixel and iteration on a whole maximum-likelihood fit of a spline, of
which drawing with derivatives is the greater part but not all (gradient, Hessian matrix and the step are the rest).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import torch

from denseloc.kernels.gaussian_pixel.naive import aligned
from denseloc.optics import SplineSettings
from denseloc.optics.spline import SplinePSF

EMITTERS, DEPTHS = 1000, 25


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


def main() -> None:
    torch.set_num_threads(1)
    start = time.perf_counter()
    psf_of(13, 1).with_derivatives(torch.zeros(1, 2), torch.zeros(1))
    first = time.perf_counter() - start
    sizes = {f"{size}_px_{s}_nodes_per_px": measure(size, s) for size in (13, 21) for s in (1, 2)}
    print(json.dumps({"emitters": EMITTERS, "first_call_seconds": round(first, 2), **sizes}, indent=2))


if __name__ == "__main__":
    main()
