"""Time single-emitter fits by maximum likelihood on one thread and on two, in turn with Picasso's on the same spots.

    python benchmarks/speed/fitting.py --picasso PYTHON

13 x 13 windows of an emitter anywhere in the middle pixel, width 1.3 px, background 10, 1000 and 5000 photons; the spline goes through an astigmatic
volume of 23 x 23 x 49 nodes (25 nm steps), z within 450 nm of the focus, one start. PYTHON is one that has `picassosr` (0.11.3), in an environment
of its own; without it only our fits are timed. A fit is everything from the windows to estimates, bounds, log-likelihood and p-values for
ours, and from the windows to the estimates for Picasso's. Rounds go through all fits once (A B A B); kept are the median and the best of the
rounds, by the clock and, for one thread, by processor time (which does not count other programs).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denseloc.fit import SingleFits, fit_single
from denseloc.optics import PSF, GaussianSettings, SplineSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

SIDE, WIDTH_PX, PIXEL_NM, BACKGROUND, Z_NM = 13, 1.3, 100.0, 10.0, 450.0
PHOTONS = (1000, 5000)
PEER_ROUNDS = 3
SPOTS = {"gaussian": 20000, "spline": 20000}
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "fixed": ("gaussian", {}),
    "free": ("gaussian", {"free_width": True}),
    "xy": ("gaussian", {"free_width": "xy"}),
    "spline": ("spline", {"z_starts_nm": torch.zeros(1)}),
}
PICASSO = {
    "newton": "gaussian",
    "newton_xy": "gaussian",
    "levenberg": "gaussian",
    "levenberg_xy": "gaussian",
    "levenberg_lsq": "gaussian",
    "spline": "spline",
}
BESIDE = {"free": ("newton", "levenberg", "levenberg_lsq"), "xy": ("newton_xy", "levenberg_xy"), "spline": ("spline",)}


def spline_settings() -> SplineSettings:
    """Make the spline of an astigmatic Gaussian volume."""
    at, z = np.arange(-11, 12), np.linspace(-600, 600, 49)
    wide, high = (WIDTH_PX * np.sqrt(1 + ((z - focus) / 350) ** 2)[:, None, None] for focus in (250, -250))
    samples = np.exp(-0.5 * (at**2 / wide**2 + at[:, None] ** 2 / high**2)) / (2 * np.pi * wide * high)
    return SplineSettings.from_samples(samples, -600.0, 25.0, 1, SIDE, pixel_size_nm=PIXEL_NM)


def spots_of(psf: PSF, photons: float, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw windows (n, 1, side, side), and where the emitters are (n, 3): x, y in nm of the window, z in nm."""
    generator = torch.Generator().manual_seed(seed)
    offset = torch.rand(n, 2, generator=generator) - 0.5
    z = (2 * torch.rand(n, generator=generator) - 1) * (Z_NM if psf.settings.tells_depth else 0.0)
    edge = (psf.roi_px - SIDE) // 2
    with torch.no_grad():
        light = psf(offset, z)[:, :, edge : edge + SIDE, edge : edge + SIDE]
    truth = torch.cat(((offset + SIDE / 2) * PIXEL_NM, z[:, None]), 1)
    return torch.poisson(photons * light + BACKGROUND, generator=generator), truth


class Peer:
    """Picasso in a process of its own."""

    def __init__(self, python: str, spots: Path) -> None:
        script = Path(__file__).with_name("picasso_fits.py")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.process = subprocess.Popen(
            [python, str(script), str(spots)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.version = self._answer()["picasso"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("Picasso has ended; see what it says above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def time(self, method: str, case: str, threads: int) -> dict[str, Any]:
        """Time one fit of all spots of a case."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{method} {case} {threads}\n")
        self.process.stdin.flush()
        return self._answer()


def timed(psf: PSF, spots: Tensor, how: dict[str, Any], threads: int) -> tuple[dict[str, float], SingleFits]:
    """Time one of our fits."""
    torch.set_num_threads(threads)
    wall, cpu = time.perf_counter(), time.process_time()
    fits = fit_single(psf, spots, **how)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}, fits


def rmse_of(fits: SingleFits, truth: Tensor) -> dict[str, float]:
    """Give root mean square errors in nm, and over the fits' own bounds."""
    good, result = fits.converged, {"converged": float(fits.converged.double().mean())}
    for index, name in enumerate(("x_nm", "y_nm", "z_nm")):
        if name in fits:
            error = (fits[name] - truth[:, index])[good].square().mean().sqrt()
            result[f"rmse_{name}"] = round(float(error), 3)
            result[f"rmse_over_crlb_{name}"] = round(float(error / fits.crlb(name)[good].square().mean().sqrt()), 3)
    return result | {"iterations": round(float(fits.iterations.double().mean()), 2)}


def summed(times: list[dict[str, float]], n: int, threads: int) -> dict[str, float]:
    """Give fits per second: median and best by the clock, and by processor time where one thread works."""
    wall, cpu = (np.array([t[kind] for t in times]) for kind in ("wall", "cpu"))
    rates = {"median": n / float(np.median(wall)), "best": n / float(wall.min())}
    if threads == 1:
        rates |= {"median_of_processor_time": n / float(np.median(cpu)), "best_of_processor_time": n / float(cpu.min())}
    return {name: round(rate) for name, rate in rates.items()}


def main() -> None:
    """Time and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picasso", help="a Python that has picassosr")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = {"gaussian": GaussianSettings(width_nm=WIDTH_PX * PIXEL_NM, roi_px=SIDE + 6), "spline": spline_settings()}
    psfs = {name: each.build((PIXEL_NM, PIXEL_NM)) for name, each in settings.items()}
    drawn = {f"{kind}_{p}": spots_of(psfs[kind], p, SPOTS[kind], options.seed) for kind in psfs for p in PHOTONS}
    begun = time.perf_counter()
    timed(psfs["gaussian"], drawn["gaussian_1000"][0][:100], {}, 1)
    first = time.perf_counter() - begun
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if options.picasso:
            peer = Peer(options.picasso, written(Path(folder) / "spots.npz", drawn, settings["spline"]))
        results = rounds_of(options.rounds, psfs, drawn, peer)
    load.append(os.getloadavg()[0])
    results = {"first_call_seconds": round(first, 2), "load": load, "picasso": peer and peer.version, **results}
    print(json.dumps(results, indent=1))
    keep("fitting_speed", seed=options.seed, results=results, summary=summary_of(results))


def written(path: Path, drawn: dict[str, tuple[Tensor, Tensor]], spline: SplineSettings) -> Path:
    """Write what the other process reads."""
    arrays = {name: spots[:, 0].numpy().astype(np.float32) for name, (spots, _) in drawn.items()}
    arrays |= {f"{name}_x": (truth[:, 0] / PIXEL_NM - 0.5).numpy() for name, (_, truth) in drawn.items()}
    polynomials = spline.polynomials().astype(np.float32)
    np.savez(path, polynomials=polynomials, middle=np.array([24.0, 11.0, 11.0]), **arrays)
    return path


def rounds_of(
    rounds: int, psfs: dict[str, PSF], drawn: dict[str, tuple[Tensor, Tensor]], peer: Peer | None
) -> dict[str, dict[str, Any]]:
    """Go through all fits some times."""
    times: dict[tuple[str, str, int, int], list[dict[str, float]]] = {}
    errors: dict[tuple[str, str, int], dict[str, Any]] = {}
    for turn in range(rounds + 1):  # the first is to warm up
        for p in PHOTONS:
            for threads in (1, 2):
                for name, (kind, how) in OURS.items():
                    spots, truth = drawn[f"{kind}_{p}"]
                    spent, fits = timed(psfs[kind], spots, how, threads)
                    errors["ours", name, p] = rmse_of(fits, truth)
                    times.setdefault(("ours", name, p, threads), []).append(spent)
                for name, kind in PICASSO.items() if peer and turn <= PEER_ROUNDS else ():
                    answer = peer.time(name, f"{kind}_{p}", threads)
                    errors["picasso", name, p] = {"rmse_x_nm": round(PIXEL_NM * answer["rmse_px"], 3), "lost": answer["lost"]}
                    times.setdefault(("picasso", name, p, threads), []).append(answer)
    results: dict[str, dict[str, Any]] = {}
    for (whose, name, p, threads), each in times.items():
        kind = OURS[name][0] if whose == "ours" else PICASSO[name]
        entry = results.setdefault(f"{whose}_{name}_{p}_photons", {**errors[whose, name, p]})
        entry[f"fits_per_second_{threads}_threads"] = summed(each[1:], SPOTS[kind], threads)
    return results


def summary_of(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Give the rows for the README."""
    words = {"fixed": "width known", "free": "width free", "xy": "widths along x and y free", "spline": "z by a spline PSF"}
    rows = []
    for name, word in words.items():
        own = results[f"ours_{name}_1000_photons"]
        one, two = (own[f"fits_per_second_{threads}_threads"]["best"] for threads in (1, 2))
        text = f"{one:,} fits/s on one thread, {two:,} on two; RMSE {own['rmse_over_crlb_x_nm']:.2f} of the bound"
        peers = [results.get(f"picasso_{peer}_1000_photons") for peer in BESIDE.get(name, ())]
        rates = [peer["fits_per_second_1_threads"]["best"] for peer in peers if peer]
        if rates:
            text += f"; Picasso's fastest of the kind {max(rates):,} on one"
        rows.append((f"maximum-likelihood fit, 13 x 13 px, 1000 photons, {word}", text))
    return rows


if __name__ == "__main__":
    main()
