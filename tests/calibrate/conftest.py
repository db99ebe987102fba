"""Movies with known conditions for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr


def draw_movie(
    rng: np.random.Generator,
    frames: int,
    shape: tuple[int, int],
    *,
    width_px: float,
    per_px: float,
    photons: float,
    background: float | np.ndarray,
    offset: float = 100.0,
    gain: float = 1.0,
    multiplied: bool = False,
    read_noise: float = 0.0,
    shape_of_photons: float = 3.0,
) -> np.ndarray:
    """Draw counts (frames, y, x); ``gain`` is the slope of variance against mean, ``read_noise`` is in photons of that slope."""
    rows, columns = shape
    rim = 4 * width_px
    light = np.empty((frames, rows, columns))
    for frame in light:
        n = rng.poisson(per_px * (rows + 2 * rim) * (columns + 2 * rim))
        y, x = rng.uniform(-rim, rows + rim, n), rng.uniform(-rim, columns + rim, n)
        bright = rng.gamma(shape_of_photons, photons / shape_of_photons, n)
        in_y = np.diff(ndtr((np.arange(rows + 1) - y[:, None]) / width_px), axis=1)
        in_x = np.diff(ndtr((np.arange(columns + 1) - x[:, None]) / width_px), axis=1)
        frame[:] = (bright[:, None] * in_y).T @ in_x
    if multiplied:  # twice the electrons at half of the gain: the same mean and the variance of ``gain``
        counts = gain / 2 * rng.gamma(np.maximum(rng.poisson(2 * (light + background)), 1e-9))
    else:
        counts = gain * rng.poisson(light + background)
    counts = counts + offset + rng.normal(0, read_noise * gain + 1e-12, counts.shape)
    return np.clip(np.round(counts), 0, 65535).astype(np.uint16)


@pytest.fixture(scope="session")
def simulate() -> Callable[..., np.ndarray]:
    return draw_movie
