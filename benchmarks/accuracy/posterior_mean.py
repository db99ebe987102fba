"""Can any estimator come nearer to the Cramer-Rao bound than maximum likelihood, where emitters are dim?

    python benchmarks/accuracy/posterior_mean.py                 dim emitters of `isolated.py`, some minutes on one core

Of all estimators the mean of the posterior errs least (in the mean square, over emitters drawn from the prior). It is taken here under the law by
which the emitters are drawn: flat in place and depth within the fit's limits; photons and background flat, as the fit knows nothing of them. Its
integrals are sums over points around the likeliest values (quasi-random, on both sides, spread `SPREAD` wider than the bound, weighed by the
likelihood). "ratio" as in `isolated.py`; "pull" by the posterior's own standard deviation.

Source: minimum mean squared error, e.g. S. Kay, Fundamentals of Statistical Signal Processing I (1993), chapter 10.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from denseloc.fit import fit_single
from denseloc.fit.drawing import Drawing, Windows
from denseloc.fit.noise import Noise
from denseloc.fit.start import depth_starts
from denseloc.localize.single import window_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import RESULTS, keep
from isolated import PIXEL_NM, bounds, cameras, draw, kinds

ONLY = ("astigmatic", "spline", "quad-plane")
PHOTONS = 300.0
POINTS, SPREAD, REACH_PX = 256, 1.2, 2.5
PIXEL = torch.tensor(PIXEL_NM[::-1], dtype=torch.float64)


def spread_points(p: int) -> tuple[Tensor, Tensor]:
    """Give normal points (POINTS, p) in pairs of opposite ones, and the logarithm of their density up to a constant."""
    even = torch.quasirandom.SobolEngine(p, scramble=True, seed=3).draw(POINTS // 2).double().clamp(1e-4, 1 - 1e-4)
    half = torch.special.ndtri(even)
    points = torch.cat((half, -half))
    return points, -0.5 * points.square().sum(1)


def log_likelihood(drawing: Drawing, windows: Windows, at: Tensor) -> Tensor:
    """Give the likelihood (n,) of parameters (n, p) of the fit, up to a constant."""
    k, which = drawing.n_coordinates, torch.arange(len(at))
    light = at[:, k, None, None, None] * drawing.fractions(which, at, windows.shape_px) + at[:, k + 1 :, None, None]
    mean = (windows.gain * light.to(windows.counts) + windows.dark).clamp(min=1e-6)
    there = ~torch.isnan(windows.counts)
    counts = torch.where(there, windows.counts, mean).clamp(min=0)
    return torch.where(there, torch.special.xlogy(counts, mean) - mean, 0.0).sum((1, 2, 3), dtype=torch.float64)


@torch.no_grad()
def posterior(
    drawing: Drawing, windows: Windows, best: Tensor, covariance: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Give mean and standard deviation (n, p) of the posterior around the likeliest values."""
    root = torch.linalg.cholesky(covariance)
    points, density = spread_points(best.shape[1])
    places, weights = [], []
    for point, held in zip(points, density, strict=True):
        at = best + SPREAD * (root @ point)
        inside = ((at >= low) & (at <= high)).all(1)
        value = log_likelihood(drawing, windows, torch.minimum(torch.maximum(at, low), high))
        places.append(at)
        weights.append(torch.where(inside, value - held, -torch.inf))
    weight = torch.softmax(torch.stack(weights), 0)[..., None]
    at = torch.stack(places)
    mean = (weight * at).sum(0)
    return mean, (weight * (at - mean).square()).sum(0).sqrt()


def measure(name: str, camera_name: str, n: int, seed: int) -> dict[str, Any]:
    """Draw spots, fit them, and compare the likeliest values and the means with the truth."""
    kind, camera = kinds()[name], cameras()[camera_name]
    psf = kind.right.build(PIXEL_NM)
    side = window_for(psf, depth_starts(psf, kind.z_range_nm))
    truth, light, noise = draw(kind, camera, PHOTONS, n, side, torch.Generator().manual_seed(seed))
    excess = float(camera.excess)
    fits = fit_single(psf, light, excess=excess, noise_variance=noise, reach_px=REACH_PX, z_range_nm=kind.z_range_nm)
    drawing, windows = Drawing(psf, "depth", light.float(), None), Windows.of(light.float(), Noise(excess, noise))
    p, middle = len(fits.names), (side - 1) // 2
    unit = torch.ones(p, dtype=torch.float64)
    unit[:2] = PIXEL
    corner = torch.zeros(p, dtype=torch.float64)
    corner[:2] = 0.5 * PIXEL
    low = torch.tensor([middle - REACH_PX] * 2 + [kind.z_range_nm[0]] + [1e-3] * (p - 3), dtype=torch.float64)
    high = torch.tensor([middle + REACH_PX] * 2 + [kind.z_range_nm[1]] + [torch.inf] * (p - 3), dtype=torch.float64)
    good = fits.converged
    covariance = torch.where(good[:, None, None], fits.covariance / (unit[:, None] * unit), torch.eye(p, dtype=torch.float64))
    mean, deviation = posterior(drawing, windows, (fits.values - corner) / unit, covariance, low, high)
    mean, deviation = mean * unit + corner, deviation * unit
    bound = bounds(psf, truth, side, excess, noise, ["x_nm", "y_nm", "z_nm", "photons"])
    result: dict[str, Any] = {"converged": good.double().mean().item()}
    for key, at_truth in bound.items():
        i = fits.names.index(key)
        ways = {"likeliest": (fits.values[:, i], fits.crlb(key)), "mean": (mean[:, i], deviation[:, i])}
        for way, (value, said) in ways.items():
            error = (value - getattr(truth, key))[good]
            result.setdefault(way, {})[key] = {
                "ratio": (error / at_truth[good]).square().mean().sqrt().item(),
                "pull": (error / said[good]).std().item(),
            }
    return result


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spots", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for name in ONLY:
        for camera in cameras():
            found = results[f"{name}, {camera}"] = measure(name, camera, args.spots, args.seed)
            for way in ("likeliest", "mean"):
                print(
                    name, camera, way, {k: (round(v["ratio"], 3), round(v["pull"], 3)) for k, v in found[way].items()}, flush=True
                )
    keep("posterior_mean", seed=args.seed, results=results, summary=[], file=args.results / "posterior_mean.json")


if __name__ == "__main__":
    main()
