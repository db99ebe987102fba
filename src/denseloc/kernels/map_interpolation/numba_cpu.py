"""The map interpolation on the CPU, without gradients."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True)
def add_interpolated(
    maps: np.ndarray,
    dx_px: np.ndarray,
    dy_px: np.ndarray,
    level: np.ndarray,
    nodes_per_px: int,
    patches: np.ndarray,
) -> None:
    """Add map values to ``patches`` (n, k, k) in place; ``maps`` as in naive.py, sorted by phase: (nz, s + 1, s + 1, k, k)."""
    nz, _, _, k, _ = maps.shape
    for i in range(len(dx_px)):
        z = min(max(level[i], 0.0), nz - 1.0)
        z0 = min(int(z), max(nz - 2, 0))
        z1 = min(z0 + 1, nz - 1)
        at_x, at_y = (0.5 - dx_px[i]) * nodes_per_px, (0.5 - dy_px[i]) * nodes_per_px
        x0, y0 = min(max(int(at_x), 0), nodes_per_px - 1), min(max(int(at_y), 0), nodes_per_px - 1)
        fz, fx, fy = np.float32(z - z0), np.float32(at_x - x0), np.float32(at_y - y0)
        for r in range(k):
            for c in range(k):
                low = (1 - fy) * ((1 - fx) * maps[z0, y0, x0, r, c] + fx * maps[z0, y0, x0 + 1, r, c]) + fy * (
                    (1 - fx) * maps[z0, y0 + 1, x0, r, c] + fx * maps[z0, y0 + 1, x0 + 1, r, c]
                )
                high = (1 - fy) * ((1 - fx) * maps[z1, y0, x0, r, c] + fx * maps[z1, y0, x0 + 1, r, c]) + fy * (
                    (1 - fx) * maps[z1, y0 + 1, x0, r, c] + fx * maps[z1, y0 + 1, x0 + 1, r, c]
                )
                patches[i, r, c] += (1 - fz) * low + fz * high
