"""Add points to a picture, as Gaussians integrated over the pixels or as counts.

`naive.py` defines the operations; `numba_cpu.py` is the fast one, imported (and compiled) at first use.
"""

from __future__ import annotations

import numpy as np


def gaussian(x: np.ndarray, y: np.ndarray, sigma_x: np.ndarray, sigma_y: np.ndarray, weight: np.ndarray, image: np.ndarray) -> None:
    """Add Gaussians to ``image`` (rows, columns, channels) in place; the other arguments as in `naive.gaussian`."""
    from .numba_cpu import gaussian as fast

    fast(x, y, sigma_x, sigma_y, weight, image)


def histogram(x: np.ndarray, y: np.ndarray, weight: np.ndarray, image: np.ndarray) -> None:
    """Add counts to ``image`` (rows, columns, channels) in place; the other arguments as in `naive.histogram`."""
    from .numba_cpu import histogram as fast

    fast(x, y, weight, image)
