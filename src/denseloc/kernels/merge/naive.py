"""Join the pixels that speak of one emitter, by their predicted positions."""

from __future__ import annotations

import numpy as np


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
    """Give each pixel the number of the group that it belongs to.

    Pixels are walked by falling probability (ties: by frame, row, column). A pixel that belongs to no group founds one and takes to itself
    all free pixels of its frame within ``reach`` rows and columns whose predicted position lies within ``radius`` of its own, and whose z lies
    within ``depth``.

    Args:
        frame, row, column: (n,) integers, each pixel once.
        probability: (n,).
        x, y: (n,) predicted positions in pixels (same frame of reference as row and column).
        z: (n,) predicted depth in any unit.
        reach, radius, depth: limits in pixels, pixels and the unit of z.

    Returns:
        (n,) int64 index of the founding pixel of each pixel's group (its own index for founders).
    """
    order = np.lexsort((column, row, frame, -probability))
    group = np.full(len(frame), -1, np.int64)
    for i in order:
        if group[i] >= 0:
            continue
        near = (frame == frame[i]) & (np.abs(row - row[i]) <= reach) & (np.abs(column - column[i]) <= reach)
        alike = (x - x[i]) ** 2 + (y - y[i]) ** 2 <= radius * radius
        group[near & alike & (np.abs(z - z[i]) <= depth) & (group < 0)] = i
        group[i] = i
    return group
