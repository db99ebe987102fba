"""The definition of pairing: take the closest pair of the frame, keep or discard it, repeat."""

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
    """Pair points a with points b, greedily and closest first.

    In each frame the closest remaining pair (a, b) is taken, by the Euclidean distance over all columns. If its distance in x, y
    is at most ``lateral`` and its distance in z at most ``axial``, the pair is kept and both points leave the frame; otherwise
    this one pair is discarded and both points stay. This repeats until no pair is left. Among equally close pairs the lower row
    of a, then the lower row of b comes first. A point with a coordinate that is not a number pairs with nothing.

    Source: the frame-wise assessment of Sage et al., Nature Methods 16:387 (2019).

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
    kept: list[tuple[int, int]] = []
    for frame in np.intersect1d(frame_a, frame_b):
        rows_a, rows_b = np.flatnonzero(frame_a == frame), np.flatnonzero(frame_b == frame)
        step = position_b[rows_b][None, :, :] - position_a[rows_a][:, None, :]
        in_plane = np.sqrt(step[..., 0] ** 2 + step[..., 1] ** 2)
        along_z = np.abs(step[..., 2]) if step.shape[-1] == 3 else np.zeros_like(in_plane)
        distance = np.sqrt((step**2).sum(-1))
        distance[np.isnan(distance)] = np.inf
        while np.isfinite(distance).any():
            i, j = np.unravel_index(np.argmin(distance), distance.shape)
            if in_plane[i, j] <= lateral and along_z[i, j] <= axial:
                kept.append((int(rows_a[i]), int(rows_b[j])))
                distance[i, :] = np.inf
                distance[:, j] = np.inf
            else:
                distance[i, j] = np.inf
    pairs = np.array(sorted(kept), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
