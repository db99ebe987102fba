"""How long molecules are on: from how long the light of a place stays alike.

The light in a frame, through a band-pass of the size of the PSF, is compared with that of later frames. Shot noise and read noise are
new in each frame, so that from a lag of one frame on the covariance is that of the molecules alone: for molecules that are on for an
exponential time of mean T frames, with any begin,

    covariance(k) = A exp(-k / T) + B      for k >= 1,

where B is what changes over the whole movie (bleaching, drift, structure, the mean that was taken away).

Source: D. Magde, E. Elson, W. W. Webb, Phys. Rev. Lett. 29, 705, 1972 (kinetics from the covariance of fluctuations).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..data import Movie
from .photon_transfer import Span

RUN_FRAMES = 240
MOST_RUNS = 4
MOST_PIXELS = 6_000_000
SIDE_PX = 128
TILES = 4
LONGEST_LAG = 40
LEAST_FRAMES = 12
SEEN = 3.0
"""Standard errors that the covariance of neighbouring frames must stand above zero."""
RATIOS = np.exp(-1 / np.geomspace(0.15, 400, 300))


@dataclass(frozen=True, eq=False)
class Lifetime:
    """Mean time that a molecule is on.

    Args:
        frames: with the ends of its 95 % interval; the upper end is infinite where the movie is too short to tell.
        covariance: (lags,) from lag 1 on, counts^2 of the band-passed light.
        sigma: (lags,) standard errors.
    """

    frames: Span
    covariance: np.ndarray
    sigma: np.ndarray


def measure_lifetime(movie: Movie, width_px: float) -> Lifetime | None:
    """Measure the lifetime from up to four runs of neighbouring frames; None where the movie is too short.

    Where no light stays from frame to frame the lifetime is 0 with an upper end.

    Args:
        movie: counts; the first plane is looked at.
        width_px: standard deviation of the PSF.
    """
    part = _middle(movie)
    pixels = part.shape_px[0] * part.shape_px[1]
    frames = int(min(movie.n_frames, RUN_FRAMES, max(MOST_PIXELS // pixels, LEAST_FRAMES)))
    if frames < LEAST_FRAMES:
        return None
    runs = max(1, min(MOST_RUNS, movie.n_frames // frames, MOST_PIXELS // (pixels * frames)))
    starts = np.linspace(movie.frames[0], movie.frames[1] - frames, runs).astype(int)
    tiles = [tile_covariances(part.read(int(at), int(at) + frames)[:, 0], width_px) for at in starts]
    return fit_lifetime(np.concatenate(tiles))


def _middle(movie: Movie) -> Movie:
    """Crop large fields to the place where a few frames differ most from their mean."""
    rows, columns = movie.shape_px
    height, width = min(rows, SIDE_PX), min(columns, SIDE_PX)
    if (height, width) == (rows, columns):
        return movie
    few = movie.sample(12)[:, 0].astype(np.float32)
    restless = ndimage.uniform_filter(few.std(0), (height, width), mode="constant")
    y, x = np.unravel_index(int(restless.argmax()), restless.shape)
    y0, x0 = movie.origin_px
    top, left = (int(np.clip(at - side // 2, 0, n - side)) for at, side, n in ((y, height, rows), (x, width, columns)))
    return movie.crop(roi_px=(y0 + top, x0 + left, height, width))


def tile_covariances(counts: np.ndarray, width_px: float) -> np.ndarray:
    """Give the covariance of frames k apart in each of 4 x 4 tiles, (tiles, lags), lags from 1 on.

    Args:
        counts: (frames, y, x).
        width_px: standard deviation of the PSF.
    """
    light = counts.astype(np.float32)
    light = light - light.mean(0)
    light = ndimage.gaussian_filter(light, (0, width_px, width_px)) - ndimage.gaussian_filter(
        light, (0, 2 * width_px, 2 * width_px)
    )
    frames = len(light)
    lags = min(LONGEST_LAG, frames // 4)
    found = np.empty((lags, *light.shape[1:]))
    for lag in range(1, lags + 1):
        found[lag - 1] = np.einsum("nyx,nyx->yx", light[:-lag], light[lag:]) / (frames - lag)
    tiles = [block for strip in np.array_split(found, TILES, axis=1) for block in np.array_split(strip, TILES, axis=2)]
    return np.stack([tile.mean((1, 2)) for tile in tiles if tile.size])


def fit_lifetime(tiles: np.ndarray) -> Lifetime:
    """Fit the lifetime to covariances; its interval is from drawing the tiles again with replacement.

    Args:
        tiles: (tiles, lags), as of `tile_covariances`.
    """
    n = len(tiles)
    mean = tiles.mean(0)
    sigma = np.maximum(tiles.std(0, ddof=1) / np.sqrt(n), 1e-9 * max(float(np.abs(mean).max()), 1e-30))
    drawn = np.random.default_rng(0).integers(0, n, (200, n))  # the draws are part of the method, not of a simulation
    values = np.concatenate([mean[None], tiles[drawn].mean(1)])
    sharp = np.maximum(sigma, 0.1 * np.median(sigma))
    ratio, amplitude = _fit_decay(values, sharp)
    lifetime = np.where(amplitude > 0, -1 / np.log(ratio), 0.0)
    low, high = np.quantile(lifetime[1:], [0.025, 0.975])
    if mean[0] - np.median(mean[len(mean) // 2 :]) < SEEN * sigma[0]:
        least = float(-1 / np.log(RATIOS[0]))
        return Lifetime(Span(0.0, 0.0, max(least, 0.5)), mean, sigma)
    end = float(high) if high < 2 * tiles.shape[1] else np.inf
    return Lifetime(Span(float(lifetime[0]), min(float(low), float(lifetime[0])), max(end, float(lifetime[0]))), mean, sigma)


def _fit_decay(values: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit ``A r^(k-1) + B`` to each row by weighted least squares over a raster of r; give r and A."""
    weight = 1 / sigma**2
    shapes = RATIOS[:, None] ** np.arange(values.shape[1])
    total = weight.sum()
    centred = shapes - (shapes @ weight / total)[:, None]
    power = (centred**2 @ weight).clip(1e-300)
    overlap = (values - (values @ weight / total)[:, None]) @ (centred * weight).T
    gained = np.where(overlap > 0, overlap**2 / power, 0.0)
    best = gained.argmax(1)
    return RATIOS[best], overlap[np.arange(len(values)), best] / power[best]
