"""Smooth background per pixel of a movie: the low quantile of tiles, corrected for its bias by noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

QUANTILE = 0.15
TILE_PX = 8
VALUES_PER_TILE = 300
ROUNDS = 3


def background_map(frames_photons: np.ndarray, noise_variance: float = 0.0, excess: float = 1.0) -> np.ndarray:
    """Estimate the background that stays over the movie, under noise of the variance ``excess * mean + noise_variance``.

    Frames are averaged over 3 x 3 pixels; the low quantile of all values in a tile is raised by what shot noise and read noise
    lower it; tiles are made larger where there are few frames, cleaned by a median and joined smoothly. Where molecules cover a
    tile in most frames, the map is too high.

    Args:
        frames_photons: (frames, y, x) photons.
        noise_variance: read noise in photons^2.
        excess: factor on the variance of shot noise.

    Returns:
        (y, x) float32 photons per pixel and frame.
    """
    frames, rows, columns = frames_photons.shape
    blurred = ndimage.uniform_filter(frames_photons.astype(np.float32), (0, 3, 3), mode="nearest")
    side = max(TILE_PX, int(np.ceil(np.sqrt(VALUES_PER_TILE / frames))))
    ny, nx = max(1, round(rows / side)), max(1, round(columns / side))
    y_edges, x_edges = np.linspace(0, rows, ny + 1).astype(int), np.linspace(0, columns, nx + 1).astype(int)
    low = np.zeros((ny, nx))
    level, found = low, np.zeros((rows, columns), np.float32)
    for _ in range(ROUNDS):
        rest = blurred - found  # what is left of the slope within a tile would be taken for noise
        for i in range(ny):
            for j in range(nx):
                low[i, j] = np.quantile(rest[:, y_edges[i] : y_edges[i + 1], x_edges[j] : x_edges[j + 1]], QUANTILE)
        variance = excess * np.maximum(level + low, 0) + noise_variance + (0.5 * excess) ** 2
        lowered = -float(ndtri(QUANTILE)) / 3 * np.sqrt(variance)
        change = ndimage.gaussian_filter(ndimage.median_filter(low + lowered, 3, mode="nearest"), 0.7, mode="nearest")
        level = np.maximum(level + change, 0)
        found = _joined(level, (rows, columns), y_edges, x_edges)
    return found


def _joined(level: np.ndarray, shape: tuple[int, int], y_edges: np.ndarray, x_edges: np.ndarray) -> np.ndarray:
    """Interpolate the levels of the tiles, (tiles, tiles), over all pixels."""
    y = np.interp(np.arange(shape[0]), (y_edges[1:] + y_edges[:-1] - 1) / 2, np.arange(len(y_edges) - 1))
    x = np.interp(np.arange(shape[1]), (x_edges[1:] + x_edges[:-1] - 1) / 2, np.arange(len(x_edges) - 1))
    return ndimage.map_coordinates(level, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest").astype(np.float32)
