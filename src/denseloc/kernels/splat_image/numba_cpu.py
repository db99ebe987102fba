"""Drawing points on the CPU, one after the other; each touches only the pixels within its reach.

Serial on purpose: points share pixels, and one core draws about a million Gaussians of one pixel sigma in a second.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .naive import REACH

MADE_OF = "456056faaaf1"
"""Digest of the imported files: compiled code is kept until this file changes, and a test says when it must."""

_SCALE = 1.0 / (2.0 * math.erf(REACH / math.sqrt(2.0)))
_ROOT_HALF = math.sqrt(0.5)


@njit(cache=True)
def _fill(centre: float, sigma: float, n_pixels: int, values: np.ndarray) -> tuple[int, int]:
    """Write the integrals over the pixels within reach to the front of ``values``; gives the first pixel and one past the last."""
    low, high = centre - REACH * sigma, centre + REACH * sigma
    if not (low < n_pixels and high > 0.0):
        return 0, 0
    first = math.floor(max(low, 0.0))
    stop = min(n_pixels, math.floor(min(high, n_pixels)) + 1)
    before = math.erf(max((first - centre) / sigma, -REACH) * _ROOT_HALF)
    for k in range(first, stop):
        after = math.erf(min((k + 1 - centre) / sigma, REACH) * _ROOT_HALF)
        values[k - first] = (after - before) * _SCALE
        before = after
    return first, stop


@njit(cache=True)
def gaussian(x: np.ndarray, y: np.ndarray, sigma_x: np.ndarray, sigma_y: np.ndarray, weight: np.ndarray, image: np.ndarray) -> None:
    """Add Gaussians to ``image`` (rows, columns, channels) in place, the rest as in `naive.gaussian`; NaN draws nothing."""
    rows, columns, channels = image.shape
    along_y, along_x = np.empty(rows), np.empty(columns)
    for i in range(len(x)):
        left, right = _fill(x[i], sigma_x[i], columns, along_x)
        top, bottom = _fill(y[i], sigma_y[i], rows, along_y)
        for channel in range(channels):
            for row in range(top, bottom):
                value = along_y[row - top] * weight[i, channel]
                for column in range(left, right):
                    image[row, column, channel] += value * along_x[column - left]


@njit(cache=True)
def histogram(x: np.ndarray, y: np.ndarray, weight: np.ndarray, image: np.ndarray) -> None:
    """Add counts to ``image`` (rows, columns, channels) in place, the rest as in `naive.histogram`; NaN draws nothing."""
    rows, columns, channels = image.shape
    for i in range(len(x)):
        if x[i] >= 0.0 and x[i] < columns and y[i] >= 0.0 and y[i] < rows:
            for channel in range(channels):
                image[int(y[i]), int(x[i]), channel] += weight[i, channel]
