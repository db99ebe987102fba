"""Volume: the box in which molecules lie, the frame with its margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.grid import Grid
from ..description import Range


@dataclass(frozen=True)
class Volume:
    """Box in nm; x and y run from the margin on one side of the frame to the margin on the other side.

    Args:
        grid: the pixels in its middle.
        z_nm: (low, high).
    """

    grid: Grid
    z_nm: Range

    @property
    def origin_nm(self) -> tuple[float, float]:
        """(y, x) of the lower corner."""
        size_y, size_x = self.grid.pixel_size_nm
        return -self.grid.margin_px * size_y, -self.grid.margin_px * size_x

    @property
    def size_nm(self) -> tuple[float, float]:
        """(height, width)."""
        height, width = self.grid.size_nm
        size_y, size_x = self.grid.pixel_size_nm
        return height + 2 * self.grid.margin_px * size_y, width + 2 * self.grid.margin_px * size_x

    @property
    def area_um2(self) -> float:
        """Area with the margin."""
        return self.size_nm[0] * self.size_nm[1] * 1e-6

    @property
    def inside_fraction(self) -> float:
        """Part of the area that lies in the frame."""
        return self.grid.area_um2 / self.area_um2

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n places, (3, n) of x, y, z in nm."""
        u = torch.rand(3, n, generator=generator, device=generator.device)
        (y0, x0), (height, width) = self.origin_nm, self.size_nm
        u[0].mul_(width).add_(x0)
        u[1].mul_(height).add_(y0)
        u[2].mul_(self.z_nm[1] - self.z_nm[0]).add_(self.z_nm[0])
        return u

    def wrap(self, places_nm: Tensor) -> Tensor:
        """Bring (3, n) places into the box: x and y around its edges, z to its nearer end."""
        (y0, x0), (height, width) = self.origin_nm, self.size_nm
        x = torch.remainder(places_nm[0] - x0, width) + x0
        y = torch.remainder(places_nm[1] - y0, height) + y0
        return torch.stack([x, y, places_nm[2].clamp(*self.z_nm)])

    def contains(self, x_nm: Tensor, y_nm: Tensor, z_nm: Tensor) -> Tensor:
        """Tell which places lie in the box."""
        (y0, x0), (height, width) = self.origin_nm, self.size_nm
        inside = (x_nm >= x0) & (x_nm <= x0 + width) & (y_nm >= y0) & (y_nm <= y0 + height)
        return inside & (z_nm >= self.z_nm[0]) & (z_nm <= self.z_nm[1])
