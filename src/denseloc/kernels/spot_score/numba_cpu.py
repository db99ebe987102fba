"""The score of spots on the CPU, spot by spot: draw, weigh the pixels, sum; in double precision and in the processor's vectors.

The pixels of a window lie behind each other in rows of scratch, filled up by absent ones, so that every loop is one long run.
"""

from __future__ import annotations

import math

import numpy as np

from .elementary import exp_of_negative, fast, log_and_inverse, upper_tail, whole
from .naive import LEAST_MEAN

MADE_OF = "50cfb8a7445b"
"""Digest of the imported files: compiled code is kept until this file changes, and a test says when it must."""

COUNT, THERE, DARK = 0, 1, 2
"""Rows of the pixels of a window: counts (0 where absent), 1 where there is a pixel, mean counts without light."""

_ROOT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


@fast
def run_length(h: int, w: int) -> int:
    """Give the pixels of a row of scratch: those of a window, and room for the end of its last line in steps of 8."""
    return ((h - 1) * w + (w + 7) // 8 * 8 + 15) // 16 * 16


@fast
def load(counts: np.ndarray, dark: np.ndarray, pixels: np.ndarray) -> None:
    """Write the pixels (rows, run) of one plane of a window (h, w)."""
    n = counts.size
    given, blank = counts.reshape(n), dark.reshape(n)
    count, there, without = pixels[COUNT], pixels[THERE], pixels[DARK]
    count[n:], there[n:], without[n:] = 0.0, 0.0, 0.0
    for i in range(np.uint64(n)):
        count[i] = given[i] if given[i] == given[i] else 0.0
    for i in range(np.uint64(n)):
        there[i] = 1.0 if given[i] == given[i] else 0.0
    for i in range(np.uint64(n)):
        without[i] = blank[i]


# ------------------------------------------------------------------------------------------------------------------------ drawing


@whole
def line_room(h: int, w: int) -> np.ndarray:
    """Make scratch for `draw_aligned`: (10, 2 n), n the edges of the longer side in steps of 8."""
    return np.zeros((10, 2 * (max(h, w) // 8 * 8 + 8)))


@fast
def _lines(position: np.ndarray, width: np.ndarray, h: int, w: int, lines: np.ndarray) -> None:
    """Integrate Gaussians over the pixels of both axes, x in the first and y in the second half of the rows of scratch.

    Writes the integrals to row 3 and their derivatives by centre and width to rows 4 and 5.
    """
    n = lines.shape[1] // 2
    u, bell, below, fraction, by_centre, by_width = lines[0], lines[1], lines[2], lines[3], lines[4], lines[5]
    for axis in range(2):
        inverse, to = 1.0 / width[axis], np.uint64(axis * n)
        first = (-0.5 - position[axis]) * inverse
        for k in range(np.uint64(n)):
            u[to + k] = first + np.int64(k) * inverse
    for k in range(np.uint64(2 * n)):
        bell[k] = exp_of_negative(-0.5 * u[k] * u[k])
    for k in range(np.uint64(2 * n)):
        tail = 0.5 * upper_tail(abs(u[k]) * _ROOT_HALF, bell[k])
        below[k] = 1.0 - tail if u[k] > 0 else tail
    for axis in range(2):
        factor, start, end = _DENSITY / width[axis], axis * n, axis * n + (h if axis else w)
        for k in range(start, end):
            fraction[k] = below[k + 1] - below[k]
        for k in range(start, end):
            by_centre[k] = factor * (bell[k] - bell[k + 1])
        for k in range(start, end):
            by_width[k] = factor * (u[k] * bell[k] - u[k + 1] * bell[k + 1])


@fast
def _outer(out: np.ndarray, first: int, a: float, x: np.ndarray, n: int) -> None:
    start = np.uint64(first)
    for c in range(np.uint64(n)):
        out[start + c] = a * x[c]


@fast
def _outer_two(out: np.ndarray, first: int, a: float, x: np.ndarray, b: float, y: np.ndarray, n: int) -> None:
    start = np.uint64(first)
    for c in range(np.uint64(n)):
        out[start + c] = a * x[c] + b * y[c]


@fast
def draw_aligned(
    position: np.ndarray, width: np.ndarray, growth: np.ndarray, h: int, w: int, lines: np.ndarray, n_slopes: int, terms: np.ndarray
) -> None:
    """Draw an aligned Gaussian into ``terms`` (n_slopes + 1, run): slopes as `naive.score_aligned` orders them, then the fraction;
    without slopes only the latter.

    ``lines`` is `line_room`. Each line of the window is written in steps of 8 pixels; what is too much falls under the next one.
    """
    _lines(position, width, h, w, lines)
    edges, n = lines.shape[1] // 2, (w + 7) // 8 * 8
    value_x, centre_x, width_x = lines[3, :n], lines[4, :n], lines[5, :n]
    value_y, centre_y, width_y = lines[3, edges:], lines[4, edges:], lines[5, edges:]
    if n_slopes > 0:
        by_x, by_y = terms[0], terms[1]
        for r in range(h):
            _outer(by_x, r * w, value_y[r], centre_x, n)
        for r in range(h):
            _outer(by_y, r * w, centre_y[r], value_x, n)
    if n_slopes == 3:
        by_width = terms[2]
        for r in range(h):
            _outer_two(by_width, r * w, growth[0] * value_y[r], width_x, growth[1] * width_y[r], value_x, n)
    elif n_slopes == 4:
        by_width, by_other = terms[2], terms[3]
        for r in range(h):
            _outer(by_width, r * w, growth[0] * value_y[r], width_x, n)
            _outer(by_other, r * w, growth[1] * width_y[r], value_x, n)
    fraction = terms[n_slopes]
    for r in range(h):
        _outer(fraction, r * w, value_y[r], value_x, n)


@fast
def place(patch: np.ndarray, row: int, column: int, h: int, w: int, out: np.ndarray) -> None:
    """Write a patch (k * k), its middle on a pixel of a window (h, w), into a run of scratch; 0 where it does not reach."""
    size = int(math.sqrt(len(patch)) + 0.5)
    top, left = row - size // 2, column - size // 2
    if size == w and left == 0 and top == 0 and size == h:
        for i in range(np.uint64(size * size)):
            out[i] = patch[i]
        return
    out[: h * w] = 0.0
    first, last = max(left, 0), min(left + size, w)
    for r in range(max(top, 0), min(top + size, h)):
        to, of = r * w, (r - top) * size - left
        for c in range(first, last):
            out[to + c] = patch[of + c]


# ------------------------------------------------------------------------------------------------------------------------ scoring


@fast
def _weigh(
    pixels: np.ndarray, fractions: np.ndarray, bright: float, level: float, weight: np.ndarray, residual: np.ndarray
) -> tuple[float, float, float]:
    """Write ``1 / m`` and ``c / m - 1``, 0 where there is no pixel; gives the objective and the sums of both."""
    count, there, dark = pixels[COUNT], pixels[THERE], pixels[DARK]
    objective = weights = residuals = 0.0
    for i in range(np.uint64(len(weight))):
        mean = max(bright * fractions[i] + level + dark[i], LEAST_MEAN)
        logarithm, inverse = log_and_inverse(mean)
        k, r = there[i] * inverse, count[i] * inverse - there[i]
        weight[i], residual[i] = k, r
        objective += there[i] * mean - count[i] * logarithm
        weights, residuals = weights + k, residuals + r
    return objective, weights, residuals


@fast
def _four(
    weight: np.ndarray, residual: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, sums: np.ndarray
) -> None:
    """Write the weighed sums of the products of four runs and one to ``sums`` (5, 5 or more), those with the residuals to its row 5."""
    aa = ab = ac = ad = a1 = bb = bc = bd = b1 = cc = cd = c1 = dd = d1 = ra = rb = rc = rd = 0.0
    for i in range(np.uint64(len(weight))):
        k, r, p, q, s, t = weight[i], residual[i], a[i], b[i], c[i], d[i]
        kp, kq, ks, kt = k * p, k * q, k * s, k * t
        aa, ab, ac, ad, a1 = aa + kp * p, ab + kp * q, ac + kp * s, ad + kp * t, a1 + kp
        bb, bc, bd, b1 = bb + kq * q, bc + kq * s, bd + kq * t, b1 + kq
        cc, cd, c1 = cc + ks * s, cd + ks * t, c1 + ks
        dd, d1 = dd + kt * t, d1 + kt
        ra, rb, rc, rd = ra + r * p, rb + r * q, rc + r * s, rd + r * t
    sums[0, 0], sums[0, 1], sums[0, 2], sums[0, 3], sums[0, 5] = aa, ab, ac, ad, a1
    sums[1, 1], sums[1, 2], sums[1, 3], sums[1, 5] = bb, bc, bd, b1
    sums[2, 2], sums[2, 3], sums[2, 5] = cc, cd, c1
    sums[3, 3], sums[3, 5] = dd, d1
    sums[6, 0], sums[6, 1], sums[6, 2], sums[6, 3] = ra, rb, rc, rd


@fast
def _one(weight: np.ndarray, residual: np.ndarray, terms: np.ndarray, a: int, sums: np.ndarray) -> None:
    """Write the sums of the products of run ``a`` with those up to it, and with one."""
    own = terms[a]
    one = total = 0.0
    for i in range(np.uint64(len(weight))):
        one, total = one + weight[i] * own[i], total + residual[i] * own[i]
    sums[a, 5], sums[6, a] = one, total
    for b in range(a + 1):
        other, total = terms[b], 0.0
        for i in range(np.uint64(len(weight))):
            total += weight[i] * own[i] * other[i]
        sums[b, a] = total


@fast
def add_plane(
    pixels: np.ndarray,
    terms: np.ndarray,
    d: int,
    bright: float,
    gain: float,
    level: float,
    light: int,
    work: np.ndarray,
    sums: np.ndarray,
    gradient: np.ndarray,
    fisher: np.ndarray,
) -> float:
    """Add what one plane says to the gradient (p,) and to the upper half of the Fisher matrix (p, p); gives its objective.

    Args:
        pixels: (3, run) as `load` writes them.
        terms: (d + 1, run) slopes and the fraction; finite where there are no pixels.
        d: number of slopes, up to 4.
        bright: counts that the whole emitter makes.
        gain: counts per photon.
        level: counts of the background on a pixel.
        light: which of the backgrounds it is.
        work: (2, run) scratch.
        sums: (7, 6) scratch.
    """
    weight, residual = work[0], work[1]
    objective, weights, residuals = _weigh(pixels, terms[d], bright, level, weight, residual)
    if d >= 2:
        _four(weight, residual, terms[0], terms[1], terms[2], terms[min(d, 3)], sums)
    for a in range(4 if d >= 2 else 0, d + 1):
        _one(weight, residual, terms, a, sums)
    sums[5, 5], sums[6, 5] = weights, residuals
    for k in range(d + 2):
        a, to = (k, k) if k <= d else (5, d + 1 + light)
        factor = bright if k < d else gain
        gradient[to] += factor * sums[6, a]
        for m in range(k, d + 2):
            b, at = (m, m) if m <= d else (5, d + 1 + light)
            fisher[to, at] += factor * (bright if m < d else gain) * sums[a, b]
    return objective


@fast
def mirror(fisher: np.ndarray) -> None:
    """Write the lower half of a matrix."""
    for a in range(len(fisher)):
        for b in range(a):
            fisher[a, b] = fisher[b, a]


# ------------------------------------------------------------------------------------------------------------------ the operations


@whole
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
    """Score Gaussians aligned with the pixels; as `naive.score_aligned`."""
    m, (h, w), p = len(which), counts.shape[2:], n_slopes + 2
    objective, gradient, fisher = np.zeros(m), np.zeros((m, p)), np.zeros((m, p, p))
    run = run_length(h, w)
    pixels, terms, work, sums = np.zeros((3, run)), np.zeros((5, run)), np.empty((2, run)), np.empty((7, 6))
    lines = line_room(h, w)
    for j in range(m):
        load(counts[which[j], 0], dark[which[j] if len(dark) > 1 else 0, 0], pixels)
        draw_aligned(position[j], width[j], growth[j], h, w, lines, n_slopes, terms)
        bright, level = gain * photons[j], gain * background[j, 0]
        objective[j] = add_plane(pixels, terms, n_slopes, bright, gain, level, 0, work, sums, gradient[j], fisher[j])
        mirror(fisher[j])
    return objective, gradient, fisher


@whole
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
    m, (_, planes, h, w), d, area = len(which), counts.shape, slopes.shape[1], values.shape[-1] ** 2
    lights = background.shape[1]
    p = d + 1 + lights
    objective, gradient, fisher = np.zeros(m), np.zeros((m, p)), np.zeros((m, p, p))
    run = run_length(h, w)
    pixels, terms, work, sums = np.zeros((3, run)), np.zeros((5, run)), np.empty((2, run)), np.empty((7, 6))
    for j in range(m):
        bright = gain * photons[j]
        for q in range(planes):
            load(counts[which[j], q], dark[which[j] if len(dark) > 1 else 0, q], pixels)
            for a in range(d):
                place(slopes[j, a, q].reshape(area), row[j], column[j], h, w, terms[a])
            place(values[j, q].reshape(area), row[j], column[j], h, w, terms[d])
            light = q if lights > 1 else 0
            level = gain * background[j, light]
            objective[j] += add_plane(pixels, terms, d, bright, gain, level, light, work, sums, gradient[j], fisher[j])
        mirror(fisher[j])
    return objective, gradient, fisher
