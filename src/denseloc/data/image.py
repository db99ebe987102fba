"""Image: a rendered picture that knows where it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..units import PixelSize


@dataclass(frozen=True, eq=False)
class Image:
    """A super-resolved picture.

    Args:
        pixels: (rows, columns) float32 of localizations (or weight) per pixel, or (rows, columns, 3) float32 in 0..1 when colour shows z.
        pixel_size_nm: (y, x) of the picture's own pixels.
        origin_nm: (y, x) of the outer corner of the first pixel in the field.
        z_range_nm: (lowest, highest) z that the colours stand for, None where colour does not show z.
    """

    pixels: np.ndarray
    pixel_size_nm: PixelSize
    origin_nm: tuple[float, float] = (0.0, 0.0)
    z_range_nm: tuple[float, float] | None = None
