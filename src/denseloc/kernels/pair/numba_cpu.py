"""Pairing on the CPU: only pairs inside the tolerance are listed, sorted once, and walked through once.

This gives the pairs of `naive.pair`. A pair outside the tolerance is discarded there without taking a point away, so leaving it out
beforehand changes nothing in what follows. What remains is visited by rising distance with the same order of ties, and a pair is
kept when both of its points are still free; that is the closest remaining pair at that moment. Frames share no points, so that
one sorted list of all frames gives the same pairs as one list a frame.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _candidates(
    frame_a: np.ndarray,
    a: np.ndarray,
    frame_b: np.ndarray,
    b: np.ndarray,
    lateral: float,
    axial: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the pairs inside the tolerance; both sets are ordered by frame, then x. Gives rows of a, rows of b, distances."""
    rows_a, rows_b = np.empty(len(a) + 16, np.int64), np.empty(len(a) + 16, np.int64)
    distances = np.empty(len(a) + 16, np.float64)
    n, first = 0, 0
    for i in range(len(a)):
        while first < len(b) and (
            frame_b[first] < frame_a[i] or (frame_b[first] == frame_a[i] and a[i, 0] - b[first, 0] > lateral)
        ):
            first += 1
        j = first
        while j < len(b) and frame_b[j] == frame_a[i] and b[j, 0] - a[i, 0] <= lateral:
            dx, dy, dz = b[j, 0] - a[i, 0], b[j, 1] - a[i, 1], b[j, 2] - a[i, 2]
            in_plane = dx * dx + dy * dy
            if np.sqrt(in_plane) <= lateral and abs(dz) <= axial:
                if n == len(rows_a):
                    rows_a = np.concatenate((rows_a, np.empty_like(rows_a)))
                    rows_b = np.concatenate((rows_b, np.empty_like(rows_b)))
                    distances = np.concatenate((distances, np.empty_like(distances)))
                rows_a[n], rows_b[n], distances[n] = i, j, np.sqrt(in_plane + dz * dz)
                n += 1
            j += 1
    return rows_a[:n], rows_b[:n], distances[:n]


@njit(cache=True)
def _take(rows_a: np.ndarray, rows_b: np.ndarray, partner: np.ndarray, taken: np.ndarray) -> None:
    """Walk through the ordered candidates; ``partner[a]`` becomes the row of b, ``taken[b]`` true."""
    for k in range(len(rows_a)):
        if partner[rows_a[k]] < 0 and not taken[rows_b[k]]:
            partner[rows_a[k]] = rows_b[k]
            taken[rows_b[k]] = True


def _ordered(frame: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order points by frame, then x; two columns get z = 0. Gives the rows, the frames and (n, 3) positions in that order."""
    rows = np.lexsort((position[:, 0], frame))
    points = np.zeros((len(rows), 3))
    points[:, : position.shape[1]] = position[rows]
    return rows, np.ascontiguousarray(frame[rows], np.int64), points


def pair(
    frame_a: np.ndarray,
    position_a: np.ndarray,
    frame_b: np.ndarray,
    position_b: np.ndarray,
    lateral: float,
    axial: float = float("inf"),
) -> tuple[np.ndarray, np.ndarray]:
    """Pair points a with points b; arguments, result and order of ties as in `naive.pair`."""
    order_a, sorted_frame_a, a = _ordered(frame_a, position_a)
    order_b, sorted_frame_b, b = _ordered(frame_b, position_b)
    found_a, found_b, distances = _candidates(sorted_frame_a, a, sorted_frame_b, b, float(lateral), float(axial))
    rows_a, rows_b = order_a[found_a], order_b[found_b]
    by_distance = np.lexsort((rows_b, rows_a, distances))
    partner, taken = np.full(len(a), -1, np.int64), np.zeros(len(b), np.bool_)
    _take(rows_a[by_distance], rows_b[by_distance], partner, taken)
    paired = np.flatnonzero(partner >= 0)
    return paired, partner[paired]
