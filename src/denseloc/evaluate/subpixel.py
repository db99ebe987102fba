"""Where in their pixels positions lie: evenly, unless the method or the sample prefers a place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from ..data import Localizations
from ..errors import TableError
from ..units import PixelSize

BINS = 20


@dataclass(frozen=True, eq=False)
class Evenness:
    """How even positions are spread over the width (or height) of the camera pixels.

    Args:
        counts: (bins,) positions from one edge of the pixel to the other.
        chi2: ``sum((counts - n / bins)^2 / (n / bins))``; about ``bins - 1`` for even and independent positions. Positions of the same molecule in
            several frames are not independent, and raise it.
    """

    counts: np.ndarray
    chi2: float

    @classmethod
    def of(cls, offsets_px: np.ndarray, bins: int = BINS) -> Evenness:
        """Count offsets (n,) from the pixel's centre, -0.5 to 0.5 px."""
        counts = np.histogram(offsets_px, bins, (-0.5, 0.5))[0]
        expected = max(len(offsets_px), 1) / bins
        return cls(counts, float(((counts - counts.sum() / bins) ** 2).sum() / expected))

    @property
    def reduced(self) -> float:
        """The chi2 per degree of freedom, 1 for even positions."""
        return self.chi2 / (len(self.counts) - 1)

    @property
    def p_value(self) -> float:
        """Probability that even and independent positions are spread as unevenly by chance."""
        return float(chi2.sf(self.chi2, len(self.counts) - 1))

    @property
    def modulation(self) -> float:
        """Relative standard deviation of the density over the pixel, less what chance adds: 0 for even positions, however many there are."""
        return math.sqrt(max(0.0, self.chi2 - (len(self.counts) - 1)) / max(1, int(self.counts.sum())))


def subpixel_offsets(position_nm: np.ndarray, pixel_nm: float) -> np.ndarray:
    """Give how far positions lie from the centres of their pixels, (n,) px, at least -0.5 and below 0.5."""
    with np.errstate(invalid="ignore"):  # those of infinite positions are no numbers
        return np.remainder(position_nm / pixel_nm, 1.0) - 0.5


def subpixel_evenness(table: Localizations, pixel_size_nm: PixelSize | None = None, bins: int = BINS) -> dict[str, Evenness]:
    """Say for x and y how evenly the positions of a table lie in the camera pixels.

    Args:
        table: positions that were not moved since (drift, offsets).
        pixel_size_nm: (y, x); None takes what the table says.
        bins: of the histogram over a pixel.

    Returns:
        Under "x" and "y"; rows whose position is no finite number do not count.

    Raises:
        TableError: the pixel size is not known.
    """
    y_nm, x_nm = known_pixel_size(table, pixel_size_nm)
    offsets = {"x": subpixel_offsets(table.x_nm, x_nm), "y": subpixel_offsets(table.y_nm, y_nm)}
    return {axis: Evenness.of(values[np.isfinite(values)], bins) for axis, values in offsets.items()}


def known_pixel_size(table: Localizations, given: PixelSize | None) -> PixelSize:
    """Give the pixel size that was given, or else that of the table.

    Raises:
        TableError: neither is there.
    """
    size = given or table.provenance.pixel_size_nm
    if size is None:
        raise TableError(
            "the table does not say the pixel size of its camera, which the place in a pixel follows from; give it (pixel_size_nm)"
        )
    return size
