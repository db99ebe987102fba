"""Greedy closest-first pairing of two sets of points, frame by frame.

`naive.py` defines the operation; `numba_cpu.py` is the fast one, imported (and compiled) at first use.
"""

from __future__ import annotations

import numpy as np


def pair(
    frame_a: np.ndarray,
    position_a: np.ndarray,
    frame_b: np.ndarray,
    position_b: np.ndarray,
    lateral: float,
    axial: float = float("inf"),
) -> tuple[np.ndarray, np.ndarray]:
    """Pair points a with points b as `naive.pair` does, fast.

    Args:
        frame_a: (n,) int64 frame of each point a.
        position_a: (n, 2) of x, y or (n, 3) of x, y, z, in one unit of length.
        frame_b: (m,) int64 frame of each point b.
        position_b: (m, 2) or (m, 3), as many columns as ``position_a``.
        lateral: largest distance in x, y of a pair.
        axial: largest distance in z of a pair; unused with two columns.

    Returns:
        Rows of a and rows of b that belong together, two int64 arrays of one length, ordered by the rows of a.
    """
    from .numba_cpu import pair as fast

    return fast(frame_a, position_a, frame_b, position_b, lateral, axial)
