"""The score of spots on the CPU: one pass over the pixels of a window, sums in double precision."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .naive import LEAST_MEAN

_LOOSE = {"reassoc", "contract", "arcp", "nsz"}  # not "nnan": absent pixels are NaN
_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


@njit(cache=True, fastmath=_LOOSE)
def _line(centre: float, width: float, size: int, values: np.ndarray) -> None:
    """Write the integrals over the pixels, and the derivatives by centre and width, to ``values`` (3, size)."""
    inverse = 1.0 / width
    u0 = (-0.5 - centre) * inverse
    e0, g0 = math.erf(u0 * _ROOT_HALF), math.exp(-0.5 * u0 * u0) * _DENSITY * inverse
    for k in range(size):
        u1 = (k + 0.5 - centre) * inverse
        e1, g1 = math.erf(u1 * _ROOT_HALF), math.exp(-0.5 * u1 * u1) * _DENSITY * inverse
        values[0, k], values[1, k], values[2, k] = 0.5 * (e1 - e0), g0 - g1, u0 * g0 - u1 * g1
        u0, e0, g0 = u1, e1, g1


@njit(cache=True, fastmath=_LOOSE)
def _weights(
    counts: np.ndarray,
    dark: np.ndarray,
    fractions: np.ndarray,
    photons: float,
    level: float,
    weight: np.ndarray,
    residual: np.ndarray,
) -> float:
    """Write ``1 / m`` and ``c / m - 1`` of one row of pixels, 0 where there is none; gives the row's objective."""
    objective = 0.0
    for c in range(len(counts)):
        mean = max(photons * fractions[c] + level + dark[c], LEAST_MEAN)
        count = float(counts[c])
        there = 1.0 if count == count else 0.0
        count = count if count == count else 0.0
        weight[c] = there / mean
        residual[c] = (count / mean - 1.0) * there
        objective += there * mean - count * math.log(mean)
    return objective


@njit(cache=True, fastmath=_LOOSE)
def score_aligned(
    counts: np.ndarray,
    dark: np.ndarray,
    which: np.ndarray,
    position: np.ndarray,
    width: np.ndarray,
    growth: np.ndarray,
    photons: np.ndarray,
    background: np.ndarray,
    gain: float,
    n_slopes: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score Gaussians aligned with the pixels; as `naive.score_aligned`. Along a row only the column's four factors vary."""
    m, (h, w), p = len(which), counts.shape[2:], n_slopes + 2
    objective, gradient, fisher = np.zeros(m), np.zeros((m, p)), np.zeros((m, p, p))
    along_x, along_y = np.empty((3, w)), np.empty((3, h))
    fractions, weight, residual = np.empty(w), np.empty(w), np.empty(w)
    full, slope = np.empty((5, 5)), np.empty(5)
    for j in range(m):
        window, blank = counts[which[j], 0], dark[which[j] if len(dark) > 1 else 0, 0]
        _line(position[j, 0], width[j, 0], w, along_x)
        _line(position[j, 1], width[j, 1], h, along_y)
        grow_x, grow_y, bright, level = growth[j, 0], growth[j, 1], gain * photons[j], gain * background[j, 0]
        full[:], slope[:] = 0.0, 0.0
        for r in range(h):
            f, fy, fs = along_y[0, r], along_y[1, r], grow_y * along_y[2, r]
            for c in range(w):
                fractions[c] = f * along_x[0, c]
            objective[j] += _weights(window[r], blank[r], fractions, bright, level, weight, residual)
            s00 = s0v = svv = s0x = svx = sxx = s0s = svs = sxs = sss = t0 = tv = tx = ts = 0.0
            for c in range(w):
                k, v, x, s, t = weight[c], along_x[0, c], along_x[1, c], along_x[2, c], residual[c]
                kv, kx, ks = k * v, k * x, k * s
                s00, s0v, s0x, s0s = s00 + k, s0v + kv, s0x + kx, s0s + ks
                svv, svx, svs = svv + kv * v, svx + kv * x, svs + kv * s
                sxx, sxs, sss = sxx + kx * x, sxs + kx * s, sss + ks * s
                t0, tv, tx, ts = t0 + t, tv + t * v, tx + t * x, ts + t * s
            g = grow_x * f
            slope[0] += f * tx
            slope[1] += fy * tv
            slope[2] += g * ts + fs * tv
            slope[3] += f * tv
            slope[4] += t0
            full[0, 0] += f * f * sxx
            full[0, 1] += f * fy * svx
            full[0, 2] += f * (g * sxs + fs * svx)
            full[0, 3] += f * f * svx
            full[0, 4] += f * s0x
            full[1, 1] += fy * fy * svv
            full[1, 2] += fy * (g * svs + fs * svv)
            full[1, 3] += fy * f * svv
            full[1, 4] += fy * s0v
            full[2, 2] += g * g * sss + 2 * g * fs * svs + fs * fs * svv
            full[2, 3] += f * (g * svs + fs * svv)
            full[2, 4] += g * s0s + fs * s0v
            full[3, 3] += f * f * svv
            full[3, 4] += f * s0v
            full[4, 4] += s00
        _store(full, slope, bright, gain, n_slopes, gradient[j], fisher[j])
    return objective, gradient, fisher


@njit(cache=True)
def _store(
    full: np.ndarray, slope: np.ndarray, bright: float, gain: float, n_slopes: int, gradient: np.ndarray, fisher: np.ndarray
) -> None:
    """Give the sums over x, y, third, fraction, one their factors, and leave the third out where it is not asked for."""
    to = 0
    for a in range(5):
        if a == 2 and n_slopes == 2:
            continue
        factor = bright if a < 3 else gain
        gradient[to] = factor * slope[a]
        at = to
        for b in range(a, 5):
            if b == 2 and n_slopes == 2:
                continue
            fisher[to, at] = fisher[at, to] = factor * (bright if b < 3 else gain) * full[a, b]
            at += 1
        to += 1


@njit(cache=True, fastmath=_LOOSE)
def score(
    counts: np.ndarray,
    dark: np.ndarray,
    which: np.ndarray,
    values: np.ndarray,
    slopes: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    photons: np.ndarray,
    background: np.ndarray,
    gain: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score patches; as `naive.score`."""
    m, (_, planes, h, w), d, size = len(which), counts.shape, slopes.shape[1], values.shape[-1]
    lights = background.shape[1]
    p = d + 1 + lights
    objective, gradient, fisher = np.zeros(m), np.zeros((m, p)), np.zeros((m, p, p))
    terms = np.zeros((d + 2, w))  # of one row: the slopes, the fraction, one
    weight, residual = np.empty(w), np.empty(w)
    factors = np.full(d + 2, gain)
    for j in range(m):
        factors[:d] = gain * photons[j]
        left, top = column[j] - size // 2, row[j] - size // 2
        first, last = min(max(left, 0), w), max(min(left + size, w), 0)
        for q in range(planes):
            light = q if lights > 1 else 0
            for r in range(h):
                covered = top <= r < top + size
                terms[: d + 1], terms[d + 1] = 0.0, 1.0
                if covered:
                    for c in range(first, last):
                        terms[d, c] = values[j, q, r - top, c - left]
                        for a in range(d):
                            terms[a, c] = slopes[j, a, q, r - top, c - left]
                blank = dark[which[j] if len(dark) > 1 else 0, q, r]
                objective[j] += _weights(
                    counts[which[j], q, r], blank, terms[d], gain * photons[j], gain * background[j, light], weight, residual
                )
                for a in range(0 if covered else d + 1, d + 2):
                    at = a if a <= d else d + 1 + light
                    total = 0.0
                    for c in range(w):
                        total += residual[c] * terms[a, c]
                    gradient[j, at] += factors[a] * total
                    for b in range(a, d + 2):
                        total = 0.0
                        for c in range(w):
                            total += weight[c] * terms[a, c] * terms[b, c]
                        fisher[j, at, b if b <= d else d + 1 + light] += factors[a] * factors[b] * total
        for a in range(p):
            for b in range(a):
                fisher[j, a, b] = fisher[j, b, a]
    return objective, gradient, fisher
