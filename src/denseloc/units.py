"""Units: nm and pixels, counts and electrons and photons. Positions have their origin at the outer corner of pixel (0, 0)."""

from __future__ import annotations

from typing import TypeVar

Number = TypeVar("Number")  # float, numpy array or torch tensor

PixelSize = tuple[float, float]
"""(y, x) in nm."""

SMALLEST_PIXEL_NM, LARGEST_PIXEL_NM = 5.0, 2000.0

ORIGIN = "outer corner of pixel (0, 0)"
Z_SIGN = "z = 0 at best focus; positive z as in the calibration of the PSF"


def pixel_size_pair(pixel_size_nm: float | tuple[float, float]) -> PixelSize:
    """Give the pixel size as a pair (y, x) in nm."""
    if isinstance(pixel_size_nm, (int, float)):
        return (float(pixel_size_nm), float(pixel_size_nm))
    y, x = pixel_size_nm
    return (float(y), float(x))


def is_plausible_pixel_size(pixel_size_nm: PixelSize) -> bool:
    """Say whether both sides of a camera pixel are 5 to 2000 nm wide in the sample, as those of microscopes are."""
    return all(SMALLEST_PIXEL_NM <= side <= LARGEST_PIXEL_NM for side in pixel_size_nm)


def index_to_nm(index: Number, pixel_nm: float) -> Number:
    """Turn a pixel index (pixel centres on the integers) into nm from the outer corner: ``(index + 0.5) p``."""
    return (index + 0.5) * pixel_nm  # type: ignore[operator,return-value]


def nm_to_index(position_nm: Number, pixel_nm: float) -> Number:
    """Turn nm from the outer corner into a pixel index with pixel centres on the integers: ``x / p - 0.5``."""
    return position_nm / pixel_nm - 0.5  # type: ignore[operator,return-value]
