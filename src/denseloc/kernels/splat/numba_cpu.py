"""The splat on the CPU, without gradients: one pass over the patches."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True)
def splat(patches: np.ndarray, frame: np.ndarray, row: np.ndarray, column: np.ndarray, frames: np.ndarray) -> None:
    """Add patches (n, planes, k, k) into ``frames`` (frames, planes, h, w) in place."""
    n, planes, k, _ = patches.shape
    _, _, h, w = frames.shape
    half = k // 2
    for i in range(n):
        top, left = row[i] - half, column[i] - half
        first_row, last_row = max(0, -top), min(k, h - top)
        first_column, last_column = max(0, -left), min(k, w - left)
        for plane in range(planes):
            for r in range(first_row, last_row):
                for c in range(first_column, last_column):
                    frames[frame[i], plane, top + r, left + c] += patches[i, plane, r, c]
