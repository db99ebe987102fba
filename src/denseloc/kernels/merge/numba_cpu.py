"""The merge on the CPU: pixels are found through an index image of each frame."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _walk(
    order: np.ndarray,
    starts: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    shape: tuple[int, int],
    reach: int,
    radius: float,
    depth: float,
) -> np.ndarray:
    group = np.full(len(row), -1, np.int64)
    index = np.full(shape, -1, np.int64)
    for f in range(len(starts) - 1):
        for k in range(starts[f], starts[f + 1]):
            index[row[order[k]], column[order[k]]] = order[k]
        for k in range(starts[f], starts[f + 1]):
            i = order[k]
            if group[i] >= 0:
                continue
            for r in range(max(0, row[i] - reach), min(shape[0], row[i] + reach + 1)):
                for c in range(max(0, column[i] - reach), min(shape[1], column[i] + reach + 1)):
                    j = index[r, c]
                    if j >= 0 and group[j] < 0:
                        distance2 = (x[j] - x[i]) ** 2 + (y[j] - y[i]) ** 2
                        if distance2 <= radius * radius and abs(z[j] - z[i]) <= depth:
                            group[j] = i
            group[i] = i
        for k in range(starts[f], starts[f + 1]):
            index[row[order[k]], column[order[k]]] = -1
    return group


def merge(
    frame: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    probability: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    reach: int,
    radius: float,
    depth: float,
) -> np.ndarray:
    """Same as naive.merge."""
    if len(frame) == 0:
        return np.empty(0, np.int64)
    order = np.lexsort((column, row, -probability, frame))
    sorted_frame = frame[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(sorted_frame)) + 1, [len(frame)]])
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    return _walk(order, starts, row, column, x, y, z, shape, reach, radius, depth)
