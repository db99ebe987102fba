"""Lone emitters of five PSFs behind two cameras, fitted one by one: errors against the Cramer-Rao bound, pulls, and what the p-values say.

    python benchmarks/accuracy/isolated.py                       all, a few minutes on one core
    python benchmarks/accuracy/isolated.py --only helix --spots 1000

Each spot lies anywhere in the middle pixel of its window, as it would behind the single-emitter localizer, and its fit begins as that one's do: by
moments, at all depths that the PSF asks for. "ratio" is the root mean square of error over bound, the bound of each spot at its true place;
"bias" the mean of the same; "pull" the standard deviation of error over the bound that the fit itself states; "unbiased" holds the same for
`fit_single(unbiased=True)`. All are of the fits that have converged. "likelier_elsewhere" is the share of spots that reach a
likelihood higher by 0.1 and more if their fit begins at the truth: faults of the search. Offsets are those of dark frames: an EMCCD that rounds
down shows half a count less than it adds. The p-values of the right model are compared with the uniform law (Kolmogorov and Smirnov); the wrong
model is 15 % wider.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from denseloc.camera import EMCCD, Camera, EMCCDSettings, SCMOSSettings
from denseloc.data import Emitters, Grid
from denseloc.fit import SingleFits, crlb, fit_single
from denseloc.fit.start import depth_starts
from denseloc.localize.single import window_for
from denseloc.microscope import Microscope
from denseloc.optics import (
    PSF,
    AstigmaticSettings,
    DoubleHelixSettings,
    GaussianSettings,
    MultiplaneSettings,
    PSFSettings,
    PupilSettings,
)
from denseloc.optics.bake import bake

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import RESULTS, keep

PIXEL_NM = (100.0, 100.0)
PHOTONS = (300.0, 1000.0, 3000.0, 10000.0)
BACKGROUND = 10.0
WIDER = 1.15
SENSOR_PX, CROPS = 256, 40
RATIO = {300.0: 1.15}  # to reach; 1.05 elsewhere
Sample = tuple[Emitters, Tensor, Tensor | float]  # truth, photons (n, planes, h, w), variance of the camera's noise


@dataclass(frozen=True)
class Kind:
    """A PSF, one that is wider, and the depths of the emitters."""

    right: PSFSettings
    wrong: PSFSettings
    z_nm: float
    z_range_nm: tuple[float, float]


def kinds() -> dict[str, Kind]:
    """Make the PSFs: parametric ones, and the spline of a pupil with astigmatism."""
    made: dict[str, tuple[PSFSettings, float]] = {
        "gaussian": (GaussianSettings(width_nm=130, roi_px=21), 0.0),
        "astigmatic": (AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=25), 400.0),
        "helix": (DoubleHelixSettings(width_nm=140, separation_nm=800, turn_deg_per_um=80, roi_px=29), 600.0),
        "quad-plane": (
            MultiplaneSettings(width_nm=133, plane_focus_nm=(-600, -200, 200, 600), depth_nm=302, quartic=6.27e-3, roi_px=25),
            600.0,
        ),
    }
    found = {
        name: Kind(right, right.model_copy(update={"width_nm": WIDER * right.width_in_focus_nm()}), z, (-1.5 * z, 1.5 * z))
        for name, (right, z) in made.items()
    }
    pupil = PupilSettings(
        wavelength_nm=660,
        numerical_aperture=1.2,
        immersion_index=1.333,
        model="scalar",
        mask={"kind": "astigmatism", "rms_nm": 70.0},
        roi_px=25,
        pupil_px=64,
    )
    blur = pupil.width_in_focus_nm() * math.sqrt(WIDER**2 - 1)
    right, wrong = (bake(one.build(PIXEL_NM), -750, 750, 3e-3) for one in (pupil, pupil.model_copy(update={"blur_nm": blur})))
    return found | {"spline": Kind(right, wrong, 500.0, (-750.0, 750.0))}


def cameras() -> dict[str, Camera]:
    """Make an EMCCD, and an sCMOS camera whose pixels have noise of their own."""
    rng = np.random.default_rng(2)
    side = (SENSOR_PX, SENSOR_PX)
    gain, read = rng.uniform(0.45, 0.5, side), 1.2 * rng.lognormal(0.0, 0.35, side)
    read[rng.random(side) < 0.01] *= 5
    maps = np.stack((rng.normal(100, 3, side), gain, (read / gain) ** 2)).astype(np.float32)
    em = EMCCDSettings(offset_counts=100, electrons_per_count=10, em_gain=300, quantum_efficiency=0.9, read_noise_electrons=60)
    return {"EMCCD": em.build(), "sCMOS": SCMOSSettings(pixel_maps=maps, quantum_efficiency=0.8).build()}


def draw(kind: Kind, camera: Camera, photons: float, n: int, side: int, generator: torch.Generator) -> Sample:
    """Draw spots, each in a small frame of its own, on many places of the sensor."""
    psf = kind.right.build(PIXEL_NM)
    x, y, z = (torch.rand(n, generator=generator) - 0.5 for _ in range(3))
    middle = 0.5 * side * PIXEL_NM[0]
    truth = Emitters.of(
        torch.arange(n), middle + PIXEL_NM[1] * x, middle + PIXEL_NM[0] * y, torch.full((n,), photons), 2 * kind.z_nm * z
    )
    level = torch.full((n, 1, side, side), BACKGROUND / psf.planes)
    with torch.no_grad():
        light = Microscope(psf, camera, Grid((side, side), PIXEL_NM)).expected(truth, level)
    taken, noise = [], []
    for part in light.chunk(CROPS):
        region = camera.random_crop((side, side), generator)
        rounded = 0.5 * camera.photons_per_count if isinstance(camera, EMCCD) else 0.0
        taken.append(region.to_photons(region.sample(part, generator)) + rounded)
        noise.append(region.noise_variance((side, side)).expand_as(part))
    return truth, torch.cat(taken), torch.cat(noise)


def bounds(psf: PSF, truth: Emitters, side: int, excess: float, noise: Tensor | float, names: list[str]) -> dict[str, Tensor]:
    """Give the bounds at the true places, (n,) each."""
    at = torch.stack((truth.x_nm, truth.y_nm, truth.z_nm), 1)[:, None]
    level = BACKGROUND / psf.planes
    bound = crlb(psf, at, truth.photons[:, None], level, window_px=(side, side), excess=excess, noise_variance=noise)
    return {name: getattr(bound, name)[:, 0] for name in names}


def marks(fits: SingleFits, truth: Emitters, bound: dict[str, Tensor]) -> dict[str, Any]:
    """Compare fits that have converged with the truth."""
    good = fits.converged
    result: dict[str, Any] = {"converged": good.double().mean().item()}
    for name, at_truth in bound.items():
        error = (fits[name] - getattr(truth, name))[good]
        relative, pull = error / at_truth[good], error / fits.crlb(name)[good]
        result[name] = {
            "ratio": relative.square().mean().sqrt().item(),
            "bias": relative.mean().item(),
            "pull": pull.std().item(),
            "rmse": error.square().mean().sqrt().item(),
            "crlb": at_truth[good].square().mean().sqrt().item(),
        }
    return result


def measure(kind: Kind, camera: Camera, photons: float, n: int, seed: int) -> dict[str, Any]:
    """Draw, fit with the right and with the wrong PSF, compare."""
    generator = torch.Generator().manual_seed(seed)
    psf = kind.right.build(PIXEL_NM)
    starts = depth_starts(psf, kind.z_range_nm) if kind.right.tells_depth else torch.zeros(1)
    side = window_for(psf, starts)
    truth, light, noise = draw(kind, camera, photons, n, side, generator)
    excess = float(camera.excess)
    told: dict[str, Any] = {"excess": excess, "noise_variance": noise, "reach_px": 2.5}
    if kind.right.tells_depth:
        told["z_range_nm"] = kind.z_range_nm
    began = time.process_time()
    fits = fit_single(psf, light, **told)
    seconds = time.process_time() - began
    names = [name for name in ("x_nm", "y_nm", "z_nm", "photons") if name in fits]
    result = {"window_px": side, "spots": n, "fits_per_s": round(n / seconds)}
    bound = bounds(psf, truth, side, excess, noise, names)
    result |= marks(fits, truth, bound)
    began = time.process_time()
    unbiased = fit_single(psf, light, unbiased=True, **told)
    result["unbiased"] = {**marks(unbiased, truth, bound), "fits_per_s": round(n / (time.process_time() - began))}
    place = torch.stack((truth.x_nm, truth.y_nm, truth.z_nm), 1)
    place = place[:, : 3 if "z_nm" in fits else 2]
    led = fit_single(psf, light, start_nm=place, **told)
    better = led.converged & ~(fits.converged & (fits.log_likelihood > led.log_likelihood - 0.1))
    result["likelier_elsewhere"] = better.double().mean().item()
    wrong = fit_single(kind.wrong.build(PIXEL_NM), light, **told)
    p, q = fits.p_value[fits.converged].numpy(), wrong.p_value[wrong.converged].numpy()
    test = stats.kstest(p, "uniform")
    result["p_values"] = {
        "distance": float(test.statistic),
        "of_uniform": float(test.pvalue),
        "wrong_below_1_percent": float((q < 0.01).mean()),
        "wrong_median": float(np.median(q)),
    }
    return result


def misses(result: dict[str, Any], photons: float) -> Iterator[str]:
    """Say what is not as it should be: ratio, bias, pulls and p-values."""
    for name in ("x_nm", "y_nm", "z_nm", "photons"):
        if name not in result:
            continue
        found = result[name]
        if found["ratio"] > RATIO.get(photons, 1.05):
            yield f"{name} ratio {found['ratio']:.3f}"
        unbiased = result["unbiased"][name]["bias"]
        if abs(unbiased) > 0.1:
            yield f"{name} bias {unbiased:+.3f} ({found['bias']:+.3f} of the likeliest values)"
        if not 0.97 <= found["pull"] <= 1.03:
            yield f"{name} pull {found['pull']:.3f}"
    if result["p_values"]["of_uniform"] < 1e-3:
        yield f"p-values {result['p_values']['distance']:.3f} from uniform"


def main() -> None:
    """Measure all cases, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of PSFs")
    parser.add_argument("--spots", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    summary, missed = [], []
    for name, kind in kinds().items():
        if args.only and name not in args.only:
            continue
        for camera_name, camera in cameras().items():
            cases = {
                f"{photons:g}": measure(kind, camera, photons, args.spots, args.seed + 10 * len(results) + k)
                for k, photons in enumerate(PHOTONS)
            }
            results[f"{name}, {camera_name}"] = cases
            for photons, case in zip(PHOTONS, cases.values(), strict=True):
                case["misses"] = list(misses(case, photons))
                missed += case["misses"]
                ratios = {k: round(case[k]["ratio"], 3) for k in ("x_nm", "y_nm", "z_nm", "photons") if k in case}
                p = {k: round(v, 3) for k, v in case["p_values"].items()}
                lost = (f"{case['converged']:.4f}", f"{case['likelier_elsewhere']:.4f}")
                print(name, camera_name, f"{photons:g}", case["window_px"], *lost, ratios, p, case["misses"], flush=True)
            worst = [max(case[k]["ratio"] for k in ("x_nm", "y_nm", "z_nm", "photons") if k in case) for case in cases.values()]
            text = ", ".join(f"{ratio:.2f} at {photons:g}" for ratio, photons in zip(worst, PHOTONS, strict=True))
            summary.append(
                (f"lone emitters, {name}, {camera_name}: error over bound, the worst of x, y, z, photons", f"{text} photons")
            )
    print(f"{len(missed)} misses")
    if not args.only:
        keep("isolated", seed=args.seed, results=results, summary=summary, file=args.results / "isolated.json")


if __name__ == "__main__":
    main()
