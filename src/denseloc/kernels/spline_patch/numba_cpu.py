"""Spline patches on the CPU, one core: all pixels of a patch lie at one phase between the nodes, so they share their weights.

The four weights of an axis and their slopes are computed once an emitter. The coefficients are sorted beforehand by their place inside a
pixel, so that every step of the three contractions (z, then x, then y) runs over neighbours in memory.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core.options import DefaultOptions

REACH_PX = 1.0
"""Largest |dx|, |dy| that `values` and the like take; others are for naive.py."""

_fast = njit(cache=True, nogil=True, fastmath={"contract"})
_UNCOUNTED: dict[str, Any] = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}
_bare = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"}, **_UNCOUNTED)  # for what makes no arrays


class Phases(NamedTuple):
    """Coefficients sorted by their place inside a pixel, with zeros as far as emitters within REACH_PX see; and where things lie.

    Args:
        values: (planes, nz, s, s, w, w), where [p, k, a, b, i, j] is the node (i s + a, j s + b) counted from the first one in reach.
        first: (2,) the node in y and x that lies first.
        start: (2,) place of the first pixel of a patch among the nodes in y and x, for an emitter at offset 0.
        node: (2, m) what the m-th row (0) and column (1) of nodes add to the place of a value inside one depth.
        tap: (2, 4) where the four taps in y lie after the contraction of x (0), and those in x after that of z (1).
        more: (4,) by how many pixels more than the patch the phases from the first tap on are read.
    """

    values: np.ndarray
    first: np.ndarray
    start: np.ndarray
    node: np.ndarray
    tap: np.ndarray
    more: np.ndarray


def sort_phases(coefficients: np.ndarray, size: int, nodes_per_px: int) -> Phases:
    """Sort coefficients (planes, nz, ny, nx) for patches of ``size`` pixels; one depth becomes four alike."""
    if coefficients.shape[1] == 1:
        coefficients = np.repeat(coefficients, 4, axis=1)
    planes, nz, *nodes = coefficients.shape
    s = nodes_per_px
    wide = size + (2 * s + 3) // s
    start = (np.array(nodes) - 1) / 2 - s * (size // 2)
    first = np.floor(start - s * REACH_PX).astype(np.int64) - 1
    padded = np.zeros((planes, nz, s * wide, s * wide), coefficients.dtype)
    (to_y, of_y), (to_x, of_x) = (_overlap(int(low), n, s * wide) for low, n in zip(first, nodes, strict=True))
    padded[:, :, to_y, to_x] = coefficients[:, :, of_y, of_x]
    values = np.ascontiguousarray(padded.reshape(planes, nz, wide, s, wide, s).transpose(0, 1, 3, 5, 2, 4))
    m, k, phases = np.arange(2 * s + 4), np.arange(4), min(s, 4)
    node = np.stack((m % s * s * wide**2 + m // s * wide, m % s * wide**2 + m // s))
    tap = np.stack((k % phases * (size + 3) * size + k // phases * size, k % phases * (size + 3) * wide + k // phases))
    return Phases(values, first, start, node, tap, (3 - k) // phases)


def unsort_phases(values: np.ndarray, phases: Phases, shape: tuple[int, ...]) -> np.ndarray:
    """Bring sums over sorted coefficients back into the raster (planes, nz, ny, nx); the adjoint of `sort_phases`."""
    planes, nz, s, _, wide, _ = values.shape
    padded = values.transpose(0, 1, 4, 2, 5, 3).reshape(planes, nz, s * wide, s * wide)
    if shape[1] == 1:
        padded = padded.sum(1, keepdims=True)
    raster = np.zeros(shape, values.dtype)
    (to_y, of_y), (to_x, of_x) = (_overlap(int(low), n, s * wide) for low, n in zip(phases.first, shape[2:], strict=True))
    raster[:, :, of_y, of_x] = padded[:, :, to_y, to_x]
    return raster


def _overlap(first: int, nodes: int, length: int) -> tuple[slice, slice]:
    """Give the places in a window that begins at node ``first``, and the nodes that lie there."""
    low, high = max(first, 0), min(first + length, nodes)
    high = max(low, high)
    return slice(low - first, high - first), slice(low, high)


@_fast
def far(dx_px: np.ndarray, dy_px: np.ndarray, level: np.ndarray) -> np.ndarray:
    """List the emitters that only naive.py can draw: out of reach or not a number."""
    rows = np.empty(len(dx_px), np.int64)
    n = 0
    for i in range(len(dx_px)):
        if not (abs(dx_px[i]) <= REACH_PX and abs(dy_px[i]) <= REACH_PX and level[i] == level[i]):
            rows[n] = i
            n += 1
    return rows[:n]


# ------------------------------------------------------------------------------------------------------------------- contractions


@_bare
def _weigh(f: float, slope_factor: float, w: np.ndarray) -> None:
    """Write weights and slopes (2, 4) of the nodes -1, 0, 1, 2 around a place at fraction f."""
    g = 1.0 - f
    w[0, 0], w[0, 3] = g * g * g / 6.0, f * f * f / 6.0
    w[0, 1], w[0, 2] = 2.0 / 3.0 - 0.5 * f * f * (2.0 - f), 2.0 / 3.0 - 0.5 * g * g * (2.0 - g)
    w[1, 0], w[1, 3] = -0.5 * g * g * slope_factor, 0.5 * f * f * slope_factor
    w[1, 1], w[1, 2] = f * (1.5 * f - 2.0) * slope_factor, -g * (1.5 * g - 2.0) * slope_factor


@_bare
def _place(phases: Phases, dx: float, dy: float, level: float, w: np.ndarray) -> tuple[int, int, int]:
    """Write the weights (3 axes z, y, x; 2; 4) of one emitter; gives its first coefficient in z, y and x."""
    nz, s = phases.values.shape[1:3]
    at_y, at_x = phases.start[0] - s * dy, phases.start[1] - s * dx
    y, x = math.floor(at_y), math.floor(at_x)
    held = min(max(level, 0.0), nz - 3.0)
    z = min(int(held), nz - 4)
    _weigh(held - z, 1.0 if level == held else 0.0, w[0])
    _weigh(at_y - y, -float(s), w[1])
    _weigh(at_x - x, -float(s), w[2])
    return z, int(y) - 1 - phases.first[0], int(x) - 1 - phases.first[1]


@_bare
def _mix(source: np.ndarray, a: int, b: int, c: int, d: int, w: np.ndarray, target: np.ndarray, first: int, n: int) -> None:
    """Weigh four runs of n places that begin at a, b, c and d, and write the sum from ``first`` on."""
    # numbers without a sign, because a negative index would count from the end, and asking for that costs time
    ia, ib, ic, id_, out = np.uint64(a), np.uint64(b), np.uint64(c), np.uint64(d), np.uint64(first)
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    for i in range(np.uint64(n)):
        target[out + i] = w0 * source[ia + i] + w1 * source[ib + i] + w2 * source[ic + i] + w3 * source[id_ + i]


@_bare
def _along_z(
    flat: np.ndarray,
    first: int,
    y: int,
    x: int,
    size: int,
    s: int,
    wide: int,
    node: np.ndarray,
    more: np.ndarray,
    w: np.ndarray,
    out: np.ndarray,
) -> None:
    """Contract z, from the depth that begins at ``first``: (q, q) phases of rows as wide as the coefficients', q = min(s, 4)."""
    q, depth = min(s, 4), s * s * wide * wide
    for fy in range(q):
        for fx in range(q):
            a = first + node[0, y + fy] + node[1, x + fx]
            n = (size - 1 + more[fy]) * wide + size + more[fx]
            _mix(flat, a, a + depth, a + 2 * depth, a + 3 * depth, w, out, (fy * q + fx) * (size + 3) * wide, n)


@_bare
def _along_x(
    source: np.ndarray, size: int, s: int, wide: int, tap: np.ndarray, more: np.ndarray, w: np.ndarray, target: np.ndarray
) -> None:
    """Contract x: q phases of rows as wide as the patch."""
    columns, step, one, two, three = np.uint64(size), np.uint64(wide), np.uint64(1), np.uint64(2), np.uint64(3)
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    if s == 1:  # the taps are neighbours, which the compiler turns to account
        for row in range(size + 3):
            a, out = np.uint64(row * wide), np.uint64(row * size)
            for i in range(columns):
                target[out + i] = (
                    w0 * source[a + i] + w1 * source[a + i + one] + w2 * source[a + i + two] + w3 * source[a + i + three]
                )
        return
    q = min(s, 4)
    for fy in range(q):
        first = fy * q * (size + 3) * wide
        a, b, c, d = np.uint64(first), np.uint64(first + tap[1, 1]), np.uint64(first + tap[1, 2]), np.uint64(first + tap[1, 3])
        out = np.uint64(fy * (size + 3) * size)
        for _ in range(size + more[fy]):
            for i in range(columns):
                target[out + i] = w0 * source[a + i] + w1 * source[b + i] + w2 * source[c + i] + w3 * source[d + i]
            a, b, c, d, out = a + step, b + step, c + step, d + step, out + columns


@_bare
def _along_y(source: np.ndarray, size: int, tap: np.ndarray, w: np.ndarray, target: np.ndarray, first: int) -> None:
    """Contract y into the patch that begins at ``first``."""
    _mix(source, tap[0, 0], tap[0, 1], tap[0, 2], tap[0, 3], w, target, first, size * size)


@_fast
def _scratch(size: int, s: int, wide: int, like: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make room for the weights, and for what the contractions of z and of x leave."""
    q = min(s, 4)
    in_z, in_x = np.empty(q * q * (size + 3) * wide, like.dtype), np.empty(q * (size + 3) * size, like.dtype)
    return np.empty((3, 2, 4), like.dtype), in_z, in_x


@_fast
def room(phases: Phases, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make scratch for `draw`."""
    return _scratch(size, phases.values.shape[2], phases.values.shape[4], phases.values)


# ------------------------------------------------------------------------------------------------------------------ the operations


@_fast
def values(phases: Phases, dx_px: np.ndarray, dy_px: np.ndarray, level: np.ndarray, out: np.ndarray) -> None:
    """Draw emitters into ``out`` (n, planes, k, k) as `naive.patches` does; none of them `far`."""
    planes, nz, s, _, wide, _ = phases.values.shape
    size, depth = out.shape[-1], s * s * wide * wide
    flat, drawn, node, tap, more = phases.values.ravel(), out.ravel(), phases.node, phases.tap, phases.more
    w, in_z, in_x = _scratch(size, s, wide, out)
    wz, wy, wx = w[0, 0], w[1, 0], w[2, 0]
    for i in range(len(dx_px)):
        z, y, x = _place(phases, dx_px[i], dy_px[i], level[i], w)
        for p in range(planes):
            _along_z(flat, (p * nz + z) * depth, y, x, size, s, wide, node, more, wz, in_z)
            _along_x(in_z, size, s, wide, tap, more, wx, in_x)
            _along_y(in_x, size, tap, wy, drawn, (i * planes + p) * size * size)


@_bare
def draw(
    phases: Phases,
    plane: int,
    dx: float,
    dy: float,
    level: float,
    size: int,
    scratch: tuple[np.ndarray, np.ndarray, np.ndarray],
    out: np.ndarray,
    to_value: int,
    slopes: np.ndarray,
    to_x: int,
    to_y: int,
    to_z: int,
) -> None:
    """Draw one plane of one emitter into runs of ``size * size`` that begin at these places of ``out`` and, unless -1, ``slopes``."""
    nz, s, _, wide = phases.values.shape[1:5]
    w, in_z, in_x = scratch
    flat, node, tap, more = phases.values.reshape(phases.values.size), phases.node, phases.tap, phases.more
    wz, wy, wx, by_z, by_y, by_x = w[0, 0], w[1, 0], w[2, 0], w[0, 1], w[1, 1], w[2, 1]
    z, y, x = _place(phases, dx, dy, level, w)
    first = (plane * nz + z) * s * s * wide * wide
    _along_z(flat, first, y, x, size, s, wide, node, more, wz, in_z)
    if to_x >= 0:
        _along_x(in_z, size, s, wide, tap, more, by_x, in_x)
        _along_y(in_x, size, tap, wy, slopes, to_x)
    _along_x(in_z, size, s, wide, tap, more, wx, in_x)
    _along_y(in_x, size, tap, wy, out, to_value)
    if to_y >= 0:
        _along_y(in_x, size, tap, by_y, slopes, to_y)
    if to_z >= 0:
        _along_z(flat, first, y, x, size, s, wide, node, more, by_z, in_z)
        _along_x(in_z, size, s, wide, tap, more, wx, in_x)
        _along_y(in_x, size, tap, wy, slopes, to_z)


@_fast
def values_and_derivatives(
    phases: Phases, dx_px: np.ndarray, dy_px: np.ndarray, level: np.ndarray, out: np.ndarray, derivatives: np.ndarray
) -> None:
    """Do as `values`, and write ``derivatives`` (n, 3, planes, k, k) by dx, dy and level."""
    planes, size = out.shape[1], out.shape[-1]
    area = size * size
    drawn, slopes = out.ravel(), derivatives.ravel()
    scratch = room(phases, size)
    for i in range(len(dx_px)):
        for p in range(planes):
            to = (3 * i * planes + p) * area
            to_y, to_z = to + planes * area, to + 2 * planes * area
            draw(phases, p, dx_px[i], dy_px[i], level[i], size, scratch, drawn, (i * planes + p) * area, slopes, to, to_y, to_z)


@_fast
def _spread(source: np.ndarray, first: int, n: int, weight: float, target: np.ndarray, to: int) -> None:
    """Add a run of n places, weighed, to another run."""
    a, out = np.uint64(first), np.uint64(to)
    for i in range(np.uint64(n)):
        target[out + i] += weight * source[a + i]


@_fast
def adjoint(
    phases: Phases, dx_px: np.ndarray, dy_px: np.ndarray, level: np.ndarray, patches: np.ndarray, total: np.ndarray
) -> None:
    """Add to ``total``, shaped as ``phases.values``, what `values` does to each coefficient times ``patches`` (n, planes, k, k)."""
    planes, nz, s, _, wide, _ = total.shape
    size, q, depth = patches.shape[-1], min(s, 4), s * s * wide * wide
    flat, drawn, node, tap, more = total.ravel(), patches.ravel(), phases.node, phases.tap, phases.more
    w, in_z, in_x = _scratch(size, s, wide, patches)
    for i in range(len(dx_px)):
        z, y, x = _place(phases, dx_px[i], dy_px[i], level[i], w)
        for p in range(planes):
            in_x[:], in_z[:] = 0, 0
            for k in range(4):
                _spread(drawn, (i * planes + p) * size * size, size * size, w[1, 0, k], in_x, tap[0, k])
            for fy in range(q):
                for row in range(size + more[fy]):
                    for k in range(4):
                        to = fy * q * (size + 3) * wide + tap[1, k] + row * wide
                        _spread(in_x, (fy * (size + 3) + row) * size, size, w[2, 0, k], in_z, to)
                for fx in range(q):
                    to = (p * nz + z) * depth + node[0, y + fy] + node[1, x + fx]
                    n = (size - 1 + more[fy]) * wide + size + more[fx]
                    for k in range(4):
                        _spread(in_z, (fy * q + fx) * (size + 3) * wide, n, w[0, 0, k], flat, to + k * depth)


# ------------------------------------------------------------------------------------------------------------------ other sizes


@_fast
def _line(offset: float, m: float, nodes: int, s: int, w: np.ndarray, at: np.ndarray) -> tuple[int, int]:
    """Write weights and nodes (4, size) of the pixels of one axis under a scale m; gives the first node and one past the last."""
    size = w.shape[1]
    low, high = nodes, 0
    excess = (m * m - 1) / 24 * (s / m) ** 2
    for pixel in range(size):
        place = s * (pixel - size // 2 - offset) / m + 0.5 * (nodes - 1)
        place = min(max(place, -4.0), nodes + 4.0)  # beyond the raster all is 0
        node = math.floor(place)
        f = place - node
        g = 1.0 - f
        w[0, pixel], w[3, pixel] = (g * g * g / 6.0 - excess * g) / m, (f * f * f / 6.0 - excess * f) / m
        w[1, pixel] = (2.0 / 3.0 - 0.5 * f * f * (2.0 - f) - excess * (3.0 * f - 2.0)) / m
        w[2, pixel] = (2.0 / 3.0 - 0.5 * g * g * (2.0 - g) - excess * (3.0 * g - 2.0)) / m
        for k in range(4):
            j = int(node) - 1 + k
            at[k, pixel] = j
            if j < 0 or j >= nodes:
                at[k, pixel], w[k, pixel] = 0, 0.0
            else:
                low, high = min(low, j), max(high, j + 1)
    return low, max(low, high)


@_fast
def scaled(
    coefficients: np.ndarray,
    dx_px: np.ndarray,
    dy_px: np.ndarray,
    level: np.ndarray,
    nodes_per_px: int,
    scale: np.ndarray,
    out: np.ndarray,
) -> None:
    """Draw emitters of other sizes as `naive.patches` does; coefficients (planes, nz, ny, nx) of at least four depths.

    Here each pixel has weights of its own, but those of a row and of a column are still shared.
    """
    planes, nz, ny, nx = coefficients.shape
    size = out.shape[-1]
    flat = coefficients.ravel()
    wz, wy, wx = np.empty((2, 4), out.dtype), np.empty((4, size), out.dtype), np.empty((4, size), out.dtype)
    at_y, at_x = np.empty((4, size), np.int64), np.empty((4, size), np.int64)
    in_z, in_y = np.zeros(ny * nx, out.dtype), np.empty(nx, out.dtype)
    for i in range(len(dx_px)):
        if not (abs(dx_px[i]) < np.inf and abs(dy_px[i]) < np.inf and 0 < scale[i] < np.inf and level[i] == level[i]):
            out[i] = np.nan
            continue
        held = min(max(level[i], 0.0), nz - 3.0)
        z = min(int(held), nz - 4)
        _weigh(held - z, 1.0, wz)
        low, high = _line(dy_px[i], scale[i], ny, nodes_per_px, wy, at_y)
        _line(dx_px[i], scale[i], nx, nodes_per_px, wx, at_x)
        for p in range(planes):
            a, area = ((p * nz + z) * ny + low) * nx, ny * nx
            _mix(flat, a, a + area, a + 2 * area, a + 3 * area, wz[0], in_z, low * nx, (high - low) * nx)
            for row in range(size):
                b = at_y[:, row]
                _mix(in_z, b[0] * nx, b[1] * nx, b[2] * nx, b[3] * nx, wy[:, row], in_y, 0, nx)
                for c in range(size):
                    value = wx[0, c] * in_y[at_x[0, c]] + wx[1, c] * in_y[at_x[1, c]]
                    out[i, p, row, c] = value + wx[2, c] * in_y[at_x[2, c]] + wx[3, c] * in_y[at_x[3, c]]
