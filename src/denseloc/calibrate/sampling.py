"""A few frames of a movie, enough to judge it by and few enough to be quick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..data import Movie
from ..errors import CalibrationError

MOST_FRAMES = 200
FEWEST_FRAMES = 16
MOST_PIXELS = 4_000_000
REGION_PX = 512
MOST_FULL = 0.5
"""Share of full pixels from which on a movie says nothing."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Counts of a region in frames spread over the movie.

    Args:
        counts: (frames, y, x) float32.
        saturation: counts at which pixels are full, infinite where none seems to be.
        quantization: variance of rounding to whole counts, 1/12 or 0.
        lowest_offset: camera offsets below make no sense.
    """

    counts: np.ndarray
    saturation: float
    quantization: float
    lowest_offset: float

    def fluctuation(self) -> np.ndarray:
        """Take away what stands still, keeping the variance of what does not."""
        frames = len(self.counts)
        if frames < 4:
            return self.counts - self.counts.mean(axis=(1, 2), keepdims=True)
        return (self.counts - self.counts.mean(0)) * np.float32(np.sqrt(frames / (frames - 1)))


def take_sample(movie: Movie) -> Sample:
    """Read up to 200 frames of the first plane; of large fields fewer, and of them the 512 x 512 px with the most fine structure.

    Raises:
        CalibrationError: the movie holds values that are not finite, or most of its pixels are full.
    """
    part = _busiest_region(movie)
    frames = int(np.clip(MOST_PIXELS // (part.shape_px[0] * part.shape_px[1]), FEWEST_FRAMES, MOST_FRAMES))
    raw = part.sample(frames)[:, 0]
    counts = raw.astype(np.float32)
    if not np.isfinite(counts).all():
        raise CalibrationError(
            f"movie {movie.name} holds values that are not finite; expected counts: export it again without them"
        )
    whole = bool((counts[:4] == np.round(counts[:4])).all())
    top, bottom = float(counts.max()), float(counts.min())
    full = top >= 255 and float(np.log2(top + 1)).is_integer() and (counts == top).sum() > 3
    if full and (share := float((counts == top).mean())) > MOST_FULL:
        raise CalibrationError(
            f"{movie.name}: {100 * share:.0f} % of the pixels are full ({top:.0f} counts), expected light that the camera can count: record with "
            "less light or gain, or look whether the movie was exported right"
        )
    lowest = 0.0 if bottom > 0 else 2 * bottom - float(np.median(counts))
    return Sample(counts, top if full else np.inf, 1 / 12 if whole else 0.0, lowest)


def _busiest_region(movie: Movie) -> Movie:
    """Crop to the region where neighbouring pixels differ most smoothly, which is where the molecules are."""
    rows, columns = movie.shape_px
    height, width = min(rows, REGION_PX), min(columns, REGION_PX)
    if (height, width) == (rows, columns):
        return movie
    few = movie.sample(3)[:, 0].astype(np.float32)
    fine = ndimage.gaussian_filter(few, (0, 1, 1)) - ndimage.gaussian_filter(few, (0, 4, 4))
    energy = np.pad((fine**2).mean(0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    y = np.arange(0, rows - height + 1, max(1, height // 4))
    x = np.arange(0, columns - width + 1, max(1, width // 4))
    inside = (
        energy[np.ix_(y + height, x + width)] - energy[np.ix_(y, x + width)] - energy[np.ix_(y + height, x)] + energy[np.ix_(y, x)]
    )
    i, j = np.unravel_index(int(np.argmax(inside)), inside.shape)
    y0, x0 = movie.origin_px
    return movie.crop(roi_px=(y0 + int(y[i]), x0 + int(x[j]), height, width))
