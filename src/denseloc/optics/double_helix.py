"""The double helix: two lobes that turn about each other with depth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..kernels.gaussian_pixel.naive import aligned
from ..units import PixelSize
from .base import PSF, PSFSettings, Told, gaussian_width, parameter


class DoubleHelixSettings(PSFSettings):
    """``[psf] kind = "double_helix"``."""

    kind: Literal["double_helix"] = "double_helix"
    roi_px: int = Field(25, ge=5, le=101, description="pixels across the patch on which the PSF is drawn; odd")
    width_nm: float = Field(gt=0, description="standard deviation of a lobe in focus")
    separation_nm: float = Field(gt=0, description="distance of the two lobes")
    turn_deg_per_um: float = Field(description="rotation per um of depth; the sign gives the handedness")
    angle_deg: float = Field(0.0, description="direction of the first lobe at z = 0, from +x (columns) towards +y (rows)")
    depth_nm: float = Field(1000.0, gt=0, description="defocus at which a lobe has grown by sqrt 2")
    balance: float = Field(0.5, ge=0, le=1, description="share of the first lobe")

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart: they can."""
        return True

    def build(self, pixel_size_nm: PixelSize) -> DoubleHelixPSF:
        """Make the PSF for a pixel size."""
        return DoubleHelixPSF(self, pixel_size_nm)


class DoubleHelixPSF(PSF):
    """Two Gaussians at ``+-(r cos(b z + b0), r sin(b z + b0))``.

    Source: Speiser et al. 2019, equation 6.
    """

    told_by_movies: ClassVar[Mapping[str, Told]] = {"width_nm": 1.6, "separation_nm": 1.3, "balance": "share"}

    def __init__(self, settings: DoubleHelixSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__(settings, pixel_size_nm)
        self.width_nm = parameter(settings.width_nm)
        self.separation_nm = parameter(settings.separation_nm)
        self.turn_deg_per_um = parameter(settings.turn_deg_per_um)
        self.angle_deg = parameter(settings.angle_deg)
        self.depth_nm = parameter(settings.depth_nm)
        self.balance = parameter(settings.balance)

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formula: (n, 1, roi, roi)."""
        angle = (self.angle_deg + self.turn_deg_per_um * z_nm * 1e-3) * (math.pi / 180)
        width = gaussian_width(z_nm, self.width_nm * scale, torch.zeros_like(self.depth_nm), self.depth_nm)
        y_nm, x_nm = self.pixel_size_nm
        ax, ay = (0.5 * self.separation_nm * scale * turn for turn in (torch.cos(angle), torch.sin(angle)))
        first, second = (
            aligned(dx_px + side * ax / x_nm, dy_px + side * ay / y_nm, width / x_nm, width / y_nm, self.roi_px) for side in (1, -1)
        )
        return (self.balance * first + (1 - self.balance) * second)[:, None]
