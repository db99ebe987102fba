"""Smooth background per pixel of a movie: the low quantile of tiles, corrected for its bias by noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

QUANTILE = 0.15
TILE_PX = 8
VALUES_PER_TILE = 600


def background_map(frames_photons: np.ndarray, noise_variance: float = 0.0) -> np.ndarray:
    """Estimate the background that stays over the movie.

    Frames are averaged over 3 x 3 pixels; the low quantile of all values in a tile is raised by what shot noise and read noise
    lower it; tiles are made larger where there are few frames, cleaned by a median and joined smoothly. Where molecules cover a
    tile in most frames, the map is too high.

    Args:
        frames_photons: (frames, y, x) photons.
        noise_variance: read noise in photons^2.

    Returns:
        (y, x) float32 photons per pixel and frame.
    """
    frames, rows, columns = frames_photons.shape
    blurred = ndimage.uniform_filter(frames_photons.astype(np.float32), (0, 3, 3), mode="nearest")
    side = max(TILE_PX, int(np.ceil(np.sqrt(VALUES_PER_TILE / frames))))
    ny, nx = max(1, round(rows / side)), max(1, round(columns / side))
    y_edges, x_edges = np.linspace(0, rows, ny + 1).astype(int), np.linspace(0, columns, nx + 1).astype(int)
    low = np.empty((ny, nx))
    for i in range(ny):
        for j in range(nx):
            low[i, j] = np.quantile(blurred[:, y_edges[i] : y_edges[i + 1], x_edges[j] : x_edges[j + 1]], QUANTILE)
    low = np.maximum(low, 0)
    half = -float(ndtri(QUANTILE)) / 2 / 3  # low = level - 2 half sqrt(level + noise), solved for the level
    level = low + 2 * half**2 + 2 * half * np.sqrt(half**2 + low + noise_variance)
    level = ndimage.gaussian_filter(ndimage.median_filter(level, 3, mode="nearest"), 0.7, mode="nearest")
    y = np.interp(np.arange(rows), (y_edges[1:] + y_edges[:-1] - 1) / 2, np.arange(ny))
    x = np.interp(np.arange(columns), (x_edges[1:] + x_edges[:-1] - 1) / 2, np.arange(nx))
    return ndimage.map_coordinates(level, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest").astype(np.float32)
