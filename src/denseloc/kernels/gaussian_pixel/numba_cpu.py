"""Turned Gaussians on the CPU, without gradients: the quadrature of naive.py with one exponential a row instead of one a point.

Along a row of points that are 1 px apart, neighbouring values of a Gaussian have a ratio, and neighbouring ratios have one ratio for the whole
patch, so that each value is the last one times a factor. Points farther than 6 standard deviations from the centre count as 0.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .naive import POINTS, WEIGHTS

MADE_OF = "5acc028d0560"
"""Digest of the imported files: compiled code is kept until this file changes, and a test says when it must."""

_CUT2 = 36.0  # square of the standard deviations beyond which nothing is computed


@njit(cache=True, fastmath=True)
def rotated(
    dx_px: np.ndarray,
    dy_px: np.ndarray,
    width_a_px: np.ndarray,
    width_b_px: np.ndarray,
    angle: float,
    aspect: float,
    patches: np.ndarray,
) -> None:
    """Write the patches (n, k, k) with odd k; the other arguments as in naive.py."""
    k = patches.shape[1]
    half = k // 2
    cos, sin = math.cos(angle), math.sin(angle)
    row = np.empty(k)
    for i in range(len(dx_px)):
        a, b = 1.0 / width_a_px[i] ** 2, 1.0 / width_b_px[i] ** 2
        xx, xy, yy = cos * cos * a + sin * sin * b, cos * sin * (a - b), sin * sin * a + cos * cos * b  # the exponent's matrix
        curvature, peak = math.exp(-xx), aspect / (2 * math.pi * width_a_px[i] * width_b_px[i])
        for r in range(k):
            row[:] = 0.0
            for q in range(3):
                y = aspect * (r - half + POINTS[q] - dy_px[i])
                free = (_CUT2 - (yy - xy * xy / xx) * y * y) / xx  # (xx x^2 + 2 xy x y + yy y^2 < cut) as (x - ridge)^2 < free
                if free <= 0:
                    continue
                ridge, reach = dx_px[i] - xy / xx * y + half, math.sqrt(free)
                for p in range(3):
                    middle = ridge - POINTS[p]
                    first, last = max(0, math.ceil(middle - reach)), min(k - 1, math.floor(middle + reach))
                    x = first - half + POINTS[p] - dx_px[i]
                    value = peak * WEIGHTS[p] * WEIGHTS[q] * math.exp(-0.5 * (xx * x * x + 2 * xy * x * y + yy * y * y))
                    ratio = math.exp(-xx * (x + 0.5) - xy * y)
                    for c in range(first, last + 1):
                        row[c] += value
                        value *= ratio
                        ratio *= curvature
            for c in range(k):
                patches[i, r, c] = row[c]
