"""Cubic splines as other programs keep them: 64 coefficients for each cell between eight nodes.

Here cells are arrays (planes, z, y, x, 4, 4, 4): the last three axes are the powers of the fraction of a cell along z, y and x.
"""

from __future__ import annotations

import numpy as np


def from_smap(coefficients: np.ndarray) -> np.ndarray:
    """Turn (rows, columns, z, 64) into cells (z, y, x, 4, 4, 4).

    Coefficient ``16 c + 4 b + a`` belongs to ``dz^c dcolumn^b drow^a``.
    """
    rows, columns, planes, _ = coefficients.shape
    return coefficients.reshape(rows, columns, planes, 4, 4, 4).transpose(2, 0, 1, 3, 5, 4)


def to_smap(cells: np.ndarray) -> np.ndarray:
    """Turn cells (z, y, x, 4, 4, 4) into (rows, columns, z, 64)."""
    planes, rows, columns = cells.shape[:3]
    return np.ascontiguousarray(cells.transpose(1, 2, 0, 3, 5, 4)).reshape(rows, columns, planes, 64)


def from_uipsf(coefficients: np.ndarray) -> np.ndarray:
    """Turn (64, z, y, x) into cells (z, y, x, 4, 4, 4); coefficient ``16 c + 4 b + a`` belongs to ``dz^c dy^b dx^a``."""
    planes, rows, columns = coefficients.shape[1:]
    return coefficients.reshape(4, 4, 4, planes, rows, columns).transpose(3, 4, 5, 0, 1, 2)


def reversed_z(cells: np.ndarray) -> np.ndarray:
    """Let z run the other way: cell ``k`` becomes cell ``n - 1 - k`` and the fraction t becomes 1 - t."""
    mirror = np.array([[1, 1, 1, 1], [0, -1, -2, -3], [0, 0, 1, 3], [0, 0, 0, -1]], cells.dtype)  # (1 - t)^p in powers of t
    return np.einsum("qp,...zyxpba->...zyxqba", mirror, cells[..., ::-1, :, :, :, :, :])


def nodes(cells: np.ndarray) -> np.ndarray:
    """Read the values at the nodes: (..., z + 1, y + 1, x + 1)."""
    first = cells.ndim - 6
    for step in range(3):  # the axis of cells, and the first of the powers that are left
        axis = first + step
        here, there = cells.take(0, first + 3), cells.sum(first + 3)
        cells = np.concatenate((here, there.take([-1], axis)), axis)
    return cells
