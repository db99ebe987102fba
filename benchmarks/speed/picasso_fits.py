"""Time Picasso's single-emitter fits, asked line by line; `fitting.py` starts this with a Python that has Picasso.

    python benchmarks/speed/picasso_fits.py SPOTS.npz

SPOTS.npz holds the windows of each case ``(n, side, side)``, and the polynomials of a spline (depths, rows, columns, 4, 4, 4) with its nodes in
the middle. Each line "METHOD CASE THREADS" is answered by one line of JSON: seconds of the clock and of the processor, and the largest and root
mean square distance of x from ``CASE_x`` in pixels. The first call of a method, which compiles, is not timed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from picasso import gaussmle
from picasso.fitting import gaussfit, seeds, splinefit

FITTED = {"x": 0, "photons": 2}


def newton(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    """Make the older fit (Smith et al. 2010) with one width or two, tolerance 1e-3; gives x."""
    return lambda spots: gaussmle._gaussmle(spots, 1e-3, 100, kind)[0][:, 0]


def levenberg(model: int, mle: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Make the newer fit by Levenberg-Marquardt with the program's own starts and tolerance; gives x."""

    def fit(spots: np.ndarray) -> np.ndarray:
        start = seeds.initial_parameters_gauss(spots, spots.shape[1], spherical=model == gaussfit.SPHERICAL)
        return gaussfit.fit_spots(model, spots, start, mle=mle)[0][:, 1]

    return fit


def spline(coefficients: np.ndarray, middle: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Make the fit of a spline from one start in focus, with the program's own starts and tolerance; gives x."""

    def fit(spots: np.ndarray) -> np.ndarray:
        n, side, _ = spots.shape
        z, y, x = middle
        shift = (side - 1) / 2
        light = np.ptp(spots, axis=(1, 2))
        scale = light / coefficients[:, int(z), int(y), int(x), 0, 0, 0].max()
        start = np.stack((scale, np.full(n, shift - x), np.full(n, shift - y), np.full(n, -z), spots.min((1, 2))), 1)
        one = np.tile(np.array([1.0, 0, 0, 1], np.float32), (n, 1, 1))
        none = np.zeros((n, 1, 2), np.float32)
        found = splinefit.fit_spots(
            splinefit.KIND_3D,
            spots[:, None],
            coefficients,
            one,
            none,
            start.astype(np.float32),
            np.zeros(1, np.float32),
            False,
            True,
        )
        return found[0][:, 1] + x

    return fit


def main() -> None:
    """Answer lines until there are no more."""
    data = np.load(sys.argv[1])
    methods = {
        "newton": newton("sigma"),
        "newton_xy": newton("sigmaxy"),
        "levenberg": levenberg(gaussfit.SPHERICAL, True),
        "levenberg_xy": levenberg(gaussfit.ELLIPTIC, True),
        "levenberg_lsq": levenberg(gaussfit.SPHERICAL, False),
        "spline": spline(data["polynomials"], data["middle"]),
    }
    warm: set[str] = set()
    print(json.dumps({"picasso": importlib.metadata.version("picassosr")}), flush=True)
    for line in sys.stdin:
        method, case, threads = line.split()
        spots, fit = data[case], methods[method]
        parts = np.array_split(spots, int(threads))
        with contextlib.redirect_stdout(sys.stderr), ThreadPoolExecutor(int(threads)) as pool:
            if method not in warm:
                fit(spots[:20])
                warm.add(method)
            wall, cpu = time.perf_counter(), time.process_time()
            x = np.concatenate(list(pool.map(fit, parts))) if int(threads) > 1 else fit(spots)
            seconds = time.perf_counter() - wall, time.process_time() - cpu
        error = x - data[f"{case}_x"]
        good = np.isfinite(error) & (np.abs(error) < 1)
        answer = {
            "wall": seconds[0],
            "cpu": seconds[1],
            "rmse_px": float(np.sqrt(np.mean(error[good] ** 2))),
            "lost": int((~good).sum()),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
