"""Grid: the pixel raster on which a microscope forms its frames."""

from __future__ import annotations

from dataclasses import dataclass

from ..units import PixelSize


@dataclass(frozen=True)
class Grid:
    """Pixels of a simulated frame.

    Args:
        shape_px: (rows, columns).
        pixel_size_nm: (y, x).
        margin_px: emitters are also drawn this far outside of the frame, so that their light leaks in.
    """

    shape_px: tuple[int, int]
    pixel_size_nm: PixelSize
    margin_px: float = 0.0

    @property
    def size_nm(self) -> tuple[float, float]:
        """(height, width) of the frame in nm, without the margin."""
        return self.shape_px[0] * self.pixel_size_nm[0], self.shape_px[1] * self.pixel_size_nm[1]

    @property
    def area_um2(self) -> float:
        """Area of the frame in um^2, without the margin."""
        height, width = self.size_nm
        return height * width * 1e-6
