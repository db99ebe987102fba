"""Pairs of emitters 50 to 500 nm apart: joint fits against the joint Cramer-Rao bound, and how often the localizer calls two two and one two.

    python benchmarks/accuracy/pairs.py

A Gaussian of 130 nm, pixels of 100 nm, 10 photons of background a pixel. "fits" begin at the true places, as two; "ratio" is the root mean square
of error over bound of all coordinates and photons of those that have converged, the robust one the median of its size over 0.6745. "localizer" is
`multi` as it comes: the share of pairs found as none, one, two and more within 500 nm of their middle, beside lone emitters of the same photons.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denseloc.camera import Ideal
from denseloc.data import Emitters, Frames, Grid
from denseloc.fit import Noise, crlb
from denseloc.fit.joint import Joint
from denseloc.fit.joint_fits import JointFits
from denseloc.localize import InputConditions, MultiSettings, Scales
from denseloc.microscope import Microscope
from denseloc.optics import GaussianSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import RESULTS, keep

PIXEL_NM = (100.0, 100.0)
PSF = GaussianSettings(width_nm=130, roi_px=25)
APART_NM = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0)
PHOTONS = (1000.0, 5000.0)
BACKGROUND, SIDE, WINDOW = 10.0, 24, 13
NEAR_NM = 500.0


def draw(n: int, apart_nm: float | None, photons: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs in any direction, or lone emitters, in the middle of frames of their own: places (n, 1 or 2, 2) in nm, photons (n, 1, h, w)."""
    middle = 50.0 * SIDE + 100 * (torch.rand(n, 1, 2, generator=generator) - 0.5)
    turn = 2 * math.pi * torch.rand(n, generator=generator)
    step = 0.5 * (apart_nm or 0.0) * torch.stack((turn.cos(), turn.sin()), 1)[:, None]
    at = middle if apart_nm is None else torch.cat((middle - step, middle + step), 1)
    e = at.shape[1]
    flat = at.flatten(0, 1)
    emitters = Emitters.of(torch.arange(n).repeat_interleave(e), flat[:, 0], flat[:, 1], torch.full((n * e,), photons))
    with torch.no_grad():
        light = Microscope(PSF.build(PIXEL_NM), Ideal(), Grid((SIDE, SIDE), PIXEL_NM)).expected(
            emitters, torch.full((n, 1, SIDE, SIDE), BACKGROUND)
        )
    return at, torch.poisson(light, generator=generator)


def fitted(at: Tensor, light: Tensor, photons: float) -> dict[str, float]:
    """Fit pairs from their true places and compare with the bound on the same pixels."""
    n = len(at)
    psf = PSF.build(PIXEL_NM).requires_grad_(False)
    begun = torch.cat((at.flatten(0, 1) / 100 - 0.5, torch.full((2 * n, 1), photons)), 1)
    frame = torch.arange(n).repeat_interleave(2)
    fits = Joint(psf, light, Noise(), window_px=WINDOW).fit(
        JointFits.beginning(frame, begun, torch.full((2 * n, 1), BACKGROUND)), max_iterations=100
    )
    pixel = begun[:, :2].round().long().reshape(n, 2, 2)
    steps = torch.arange(SIDE)
    near = [(steps - pixel[:, :, k, None]).abs() <= WINDOW // 2 for k in (1, 0)]
    seen = (near[0][..., :, None] & near[1][..., None, :]).any(1)
    place = torch.cat((at, torch.zeros(n, 2, 1)), 2)
    bound = crlb(psf, place, photons, BACKGROUND, window_px=(SIDE, SIDE), noise_variance=torch.where(seen, 0.0, 1e12)[:, None])
    limit = torch.stack((bound.x_nm, bound.y_nm, bound.photons), 2).reshape(2 * n, 3)
    relative = (fits.at - begun) * torch.tensor([100.0, 100.0, 1.0]) / limit
    good = fits.converged & torch.isfinite(relative).all(1)
    pull = ((fits.at - begun) / fits.covariance.diagonal(dim1=1, dim2=2).sqrt())[good]
    ratio = relative[good].square().mean(0).sqrt()
    return {
        "converged": good.double().mean().item(),
        "crlb_nm": limit[:, :2].square().mean().sqrt().item(),
        "rmse_nm": 100 * (fits.at - begun)[good, :2].square().mean().sqrt().item(),
        "ratio": ratio[:2].square().mean().sqrt().item(),
        "robust_ratio": relative[good, :2].abs().median().item() / 0.6745,
        "photons_ratio": ratio[2].item(),
        "pull": pull[:, :2].std().item(),
        "robust_pull": pull[:, :2].abs().median().item() / 0.6745,
    }


def counted(light: Tensor, rate: float = 1e-3, significance: float = 5.0) -> np.ndarray:
    """Localize frames as they are; gives how many emitters each has near its middle."""
    conditions = InputConditions(BACKGROUND, 1.0, 0.0, 1.3)
    settings = MultiSettings(psf=PSF, false_positive_rate=rate, significance=significance)
    table = settings.build(Scales(PIXEL_NM, 0.0, 1000.0, 1, conditions))(Frames(light, PIXEL_NM))
    middle = 50.0 * SIDE
    close = np.hypot(table.x_nm - middle, table.y_nm - middle) < NEAR_NM
    return np.bincount(table.frame[close], minlength=len(light))


def shares(counts: np.ndarray) -> dict[str, float]:
    """Give the shares of frames in which none, one, two and more were found."""
    names = {"none": counts == 0, "one": counts == 1, "two": counts == 2, "more": counts > 2}
    return {name: float(which.mean()) for name, which in names.items()}


def main() -> None:
    """Measure all, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--lone", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    summary = []
    for photons in PHOTONS:
        generator = torch.Generator().manual_seed(args.seed)
        steps: dict[str, Any] = {}
        for apart in APART_NM:
            at, light = draw(args.pairs, apart, photons, generator)
            steps[f"{apart:g} nm"] = one = {"fits": fitted(at, light, photons), "localizer": shares(counted(light))}
            print(photons, apart, {k: round(v, 3) for k, v in one["fits"].items()}, one["localizer"], flush=True)
        _, light = draw(args.lone, None, photons, generator)
        alone = {"as it comes": shares(counted(light)), "significance 3, rate 0.05": shares(counted(light[:1000], 0.05, 3.0))}
        print(photons, "lone", alone, flush=True)
        results[f"{photons:g} photons"] = {"pairs": steps, "lone": alone}
        text = ", ".join(f"{steps[f'{d} nm']['fits']['ratio']:.2f} at {d}" for d in (100, 200, 300, 500))
        summary.append((f"pairs of {photons:g} photons: error over the joint bound, fits from the truth", f"{text} nm"))
        text = ", ".join(f"{steps[f'{d} nm']['localizer']['two']:.0%} at {d}" for d in (100, 150, 200, 300, 500))
        called = alone["as it comes"]["two"] + alone["as it comes"]["more"]
        summary.append((f"pairs of {photons:g} photons that `multi` calls two", f"{text} nm; lone ones {called:.2%}"))
    keep("pairs", seed=args.seed, results=results, summary=summary, file=args.results / "pairs.json")


if __name__ == "__main__":
    main()
