"""Frames: photons with what the localizers need to know of them; the carrier on the analysis stair."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..units import PixelSize


@dataclass(frozen=True)
class Frames:
    """A block of frames in photons.

    Args:
        photons: (n, planes, y, x) float32.
        variance: (n, planes, y, x) or broadcastable, variance of the camera's own noise in photons^2 (without shot noise), or None.
        background: (y, x) smooth background in photons where it is known to be uneven, or None.
        first_frame: number of the first frame in the movie.
        pixel_size_nm: (y, x).
        origin_px: (row, column) of the first pixel in the whole field.
    """

    photons: Tensor
    pixel_size_nm: PixelSize
    variance: Tensor | None = None
    background: Tensor | None = None
    first_frame: int = 0
    origin_px: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.photons)

    @property
    def shape_px(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.photons.shape[-2], self.photons.shape[-1]
