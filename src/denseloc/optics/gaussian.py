"""The 2D Gaussian, integrated over the pixels; with a depth, it widens out of focus."""

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


class GaussianSettings(PSFSettings):
    """``[psf] kind = "gaussian"``."""

    kind: Literal["gaussian"] = "gaussian"
    width_nm: float = Field(gt=0, description="standard deviation in focus")
    depth_nm: float | None = Field(
        None, gt=0, description="defocus at which the width has grown by sqrt 2; absent: the same at all depths"
    )
    focus_nm: float = Field(0.0, description="depth of best focus")

    def build(self, pixel_size_nm: PixelSize) -> GaussianPSF:
        """Make the PSF for a pixel size."""
        return GaussianPSF(self, pixel_size_nm)


class GaussianPSF(PSF):
    """``N(x - dx, w) N(y - dy, w)`` integrated over each pixel."""

    told_by_movies: ClassVar[Mapping[str, Told]] = {"width_nm": 1.6}

    def __init__(self, settings: GaussianSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__(settings, pixel_size_nm)
        self.width_nm = parameter(settings.width_nm)
        self.focus_nm = parameter(settings.focus_nm)
        self.depth_nm = None if settings.depth_nm is None else parameter(settings.depth_nm)

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formula: (n, 1, roi, roi)."""
        width = self.width_nm * scale
        if self.depth_nm is not None:
            width = gaussian_width(z_nm, width, self.focus_nm, self.depth_nm)
        y_nm, x_nm = self.pixel_size_nm
        return aligned(dx_px, dy_px, width / x_nm, width / y_nm, self.roi_px)[:, None]


class TwoGaussianSettings(PSFSettings):
    """``[psf] kind = "two_gaussian"``: a narrow core and a wide halo, both widening with depth."""

    kind: Literal["two_gaussian"] = "two_gaussian"
    width_1_nm: float = Field(gt=0, description="standard deviation of the first Gaussian, before the softplus factor")
    width_2_nm: float = Field(gt=0, description="standard deviation of the second Gaussian, before the softplus factor")
    weight_1: float = Field(0.7, ge=0, le=1, description="share of the first Gaussian")
    z_unit_nm: float = Field(300.0, gt=0, description="nm per unit of the latent Z in 1 + softplus(Z)")

    def width_in_focus_nm(self) -> float:
        """Give the size of the narrower Gaussian at Z = 0."""
        return (1 + math.log(2)) * min(self.width_1_nm, self.width_2_nm)

    def build(self, pixel_size_nm: PixelSize) -> TwoGaussianPSF:
        """Make the PSF for a pixel size."""
        return TwoGaussianPSF(self, pixel_size_nm)


class TwoGaussianPSF(PSF):
    """``sum_n w_n N(x, y; (1 + softplus(Z)) s_n)`` with ``Z = z / z_unit``.

    Source: Speiser et al. 2019, equation 4.
    """

    told_by_movies: ClassVar[Mapping[str, Told]] = {"width_1_nm": 1.6, "width_2_nm": 1.6, "weight_1": "share"}

    def __init__(self, settings: TwoGaussianSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__(settings, pixel_size_nm)
        self.width_1_nm = parameter(settings.width_1_nm)
        self.width_2_nm = parameter(settings.width_2_nm)
        self.weight_1 = parameter(settings.weight_1)
        self.z_unit_nm = parameter(settings.z_unit_nm)

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formula: (n, 1, roi, roi)."""
        growth = (1 + torch.nn.functional.softplus(z_nm / self.z_unit_nm)) * scale
        y_nm, x_nm = self.pixel_size_nm
        first, second = (
            aligned(dx_px, dy_px, growth * width / x_nm, growth * width / y_nm, self.roi_px)
            for width in (self.width_1_nm, self.width_2_nm)
        )
        return (self.weight_1 * first + (1 - self.weight_1) * second)[:, None]
