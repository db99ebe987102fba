"""The score of groups on the CPU: one pass over the rows of a window, only over what a patch reaches; sums in double precision."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .naive import LEAST_MEAN

MADE_OF = "426c8782ad16"
"""Digest of the imported files: compiled code is kept until this file changes, and a test says when it must."""

_LOOSE = {"reassoc", "contract", "arcp", "nsz"}  # not "nnan": absent pixels are NaN


@njit(cache=True, nogil=True, fastmath=_LOOSE)
def _weigh(counts: np.ndarray, mean: np.ndarray, weight: np.ndarray, residual: np.ndarray) -> float:
    """Write ``1 / m`` and ``c / m - 1`` of one row of pixels, 0 where there is none; gives the row's objective."""
    objective = 0.0
    for c in range(len(counts)):
        count = float(counts[c])
        there = 1.0 if count == count else 0.0
        count = count if count == count else 0.0
        expected = max(mean[c], LEAST_MEAN)
        weight[c] = there / expected
        residual[c] = (count / expected - 1.0) * there
        if there > 0.0:
            objective += expected - count * math.log(expected)
    return objective


@njit(cache=True, nogil=True, fastmath=_LOOSE)
def _products(
    first: np.ndarray, second: np.ndarray, weight: np.ndarray, low: int, high: int, to: np.ndarray, at: int, other: int
) -> None:
    """Add the weighted products of the rows of two blocks of terms (t, w), from column low to high, to a matrix."""
    for i in range(len(first)):
        for j in range(len(second)):
            total = 0.0
            for c in range(low, high):
                total += weight[c] * first[i, c] * second[j, c]
            to[at + i, other + j] += total


@njit(cache=True, nogil=True, fastmath=_LOOSE)
def score(
    counts: np.ndarray,
    dark: np.ndarray,
    extent: np.ndarray,
    which: np.ndarray,
    values: np.ndarray,
    slopes: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    photons: np.ndarray,
    background: np.ndarray,
    gain: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score groups of patches; as `groups_naive.score`."""
    (m, e), (_, planes, full_h, full_w) = photons.shape, counts.shape
    d, size, lights = slopes.shape[2], values.shape[-1], background.shape[1]
    own, kinds, t = e * (d + 1), lights // planes, d + 1
    p = own + lights
    objective, gradient, fisher = np.zeros(m), np.zeros((m, p)), np.zeros((m, p, p))
    terms, flat = np.zeros((e, t, full_w)), np.zeros((kinds, full_w))
    mean, weight, residual = np.empty(full_w), np.empty(full_w), np.empty(full_w)
    low, high = np.empty(e, np.int64), np.empty(e, np.int64)
    for j in range(m):
        h, w = extent[which[j], 0], extent[which[j], 1]
        blank = dark[which[j] if len(dark) > 1 else 0]
        for i in range(e):
            left = column[j, i] - size // 2
            low[i], high[i] = min(max(left, 0), w), max(min(left + size, w), 0)
        for q in range(planes):
            base = own + q * kinds
            for r in range(h):
                flat[0] = gain
                if kinds > 1:
                    for c in range(w):
                        flat[1, c] = gain * (c - 0.5 * (full_w - 1)) / (0.5 * full_w)
                    flat[2] = gain * (r - 0.5 * (full_h - 1)) / (0.5 * full_h)
                for c in range(w):
                    mean[c] = blank[q, r, c]
                    for k in range(kinds):
                        mean[c] += background[j, q * kinds + k] * flat[k, c]
                for i in range(e):
                    top = row[j, i] - size // 2
                    if top <= r < top + size:
                        left = column[j, i] - size // 2
                        bright = gain * photons[j, i]
                        for c in range(low[i], high[i]):
                            for a in range(d):
                                terms[i, a, c] = bright * slopes[j, i, a, q, r - top, c - left]
                            terms[i, d, c] = gain * values[j, i, q, r - top, c - left]
                            mean[c] += photons[j, i] * terms[i, d, c]
                objective[j] += _weigh(counts[which[j], q, r, :w], mean, weight, residual)
                for k in range(kinds):
                    total = 0.0
                    for c in range(w):
                        total += residual[c] * flat[k, c]
                    gradient[j, base + k] += total
                _products(flat, flat, weight, 0, w, fisher[j], base, base)
                for i in range(e):
                    top = row[j, i] - size // 2
                    if not top <= r < top + size:
                        continue
                    for a in range(t):
                        total = 0.0
                        for c in range(low[i], high[i]):
                            total += residual[c] * terms[i, a, c]
                        gradient[j, i * t + a] += total
                    _products(terms[i], flat, weight, low[i], high[i], fisher[j], i * t, base)
                    for other in range(i, e):
                        above = row[j, other] - size // 2
                        if above <= r < above + size:
                            first, last = max(low[i], low[other]), min(high[i], high[other])
                            _products(terms[i], terms[other], weight, first, last, fisher[j], i * t, other * t)
        for a in range(p):
            for b in range(a):
                fisher[j, a, b] = fisher[j, b, a]
    return objective, gradient, fisher
