"""The astigmatic Gaussian: two widths with foci at two depths, along axes at any angle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from ..kernels.gaussian_pixel import naive
from ..units import PixelSize
from .base import PSF, PSFSettings, Told, gaussian_width, parameter


class AstigmaticSettings(PSFSettings):
    """``[psf] kind = "astigmatic"``."""

    kind: Literal["astigmatic"] = "astigmatic"
    width_nm: float = Field(gt=0, description="standard deviation of each axis in its own focus")
    width_ratio: float = Field(1.0, gt=0, description="width of the second axis over that of the first")
    focus_a_nm: float = Field(description="depth at which the first axis is narrowest")
    focus_b_nm: float = Field(description="depth at which the second axis is narrowest")
    depth_nm: float = Field(gt=0, description="defocus at which a width has grown by sqrt 2")
    cubic: float = Field(0.0, description="coefficient A of u^3 in the defocus curve")
    quartic: float = Field(0.0, ge=0, description="coefficient B of u^4 in the defocus curve")
    angle_deg: float = Field(0.0, ge=-90, le=90, description="direction of the first axis, from +x (columns) towards +y (rows)")

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart: they can."""
        return True

    def build(self, pixel_size_nm: PixelSize) -> AstigmaticPSF:
        """Make the PSF for a pixel size."""
        return AstigmaticPSF(self, pixel_size_nm)


class AstigmaticPSF(PSF):
    """``N(a; w_a(z)) N(b; w_b(z))`` with ``w(z) = w sqrt(1 + u^2 + A u^3 + B u^4)``, ``u = (z - focus) / depth``.

    Source: Huang et al. 2008; Speiser et al. 2019, equation 5 (with the square inside the root).
    """

    told_by_movies: ClassVar[Mapping[str, Told]] = {
        "width_nm": 1.6,
        "width_ratio": 1.5,
        "focus_a_nm": "focus",
        "focus_b_nm": "focus",
    }

    def __init__(self, settings: AstigmaticSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__(settings, pixel_size_nm)
        self.width_nm = parameter(settings.width_nm)
        self.width_ratio = parameter(settings.width_ratio)
        self.focus_a_nm = parameter(settings.focus_a_nm)
        self.focus_b_nm = parameter(settings.focus_b_nm)
        self.depth_nm = parameter(settings.depth_nm)
        self.cubic = parameter(settings.cubic)
        self.quartic = parameter(settings.quartic)
        self.angle_deg = parameter(settings.angle_deg)

    def widths_nm(self, z_nm: Tensor) -> tuple[Tensor, Tensor]:
        """Give the widths (n,) of the first and the second axis at depths z."""
        a = gaussian_width(z_nm, self.width_nm, self.focus_a_nm, self.depth_nm, self.cubic, self.quartic)
        b = gaussian_width(z_nm, self.width_nm * self.width_ratio, self.focus_b_nm, self.depth_nm, self.cubic, self.quartic)
        return a, b

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formula: (n, 1, roi, roi)."""
        a, b = self.widths_nm(z_nm)
        y_nm, x_nm = self.pixel_size_nm
        turns = torch.is_grad_enabled() and self.angle_deg.requires_grad
        if not turns and float(self.angle_deg.detach()) == 0:
            return naive.aligned(dx_px, dy_px, a * scale / x_nm, b * scale / y_nm, self.roi_px)[:, None]
        return self._turned(dx_px, dy_px, a * scale / x_nm, b * scale / x_nm, y_nm / x_nm)[:, None]

    def _turned(self, dx_px: Tensor, dy_px: Tensor, a_px: Tensor, b_px: Tensor, aspect: float) -> Tensor:
        angle = torch.deg2rad(self.angle_deg)
        slopes = torch.is_grad_enabled() or any(unpack_dual(t).tangent is not None for t in (dx_px, a_px))  # backward, forward
        if slopes or a_px.device.type != "cpu" or a_px.dtype != torch.float32:
            return naive.rotated(dx_px, dy_px, a_px, b_px, angle, self.roi_px, aspect)
        from ..kernels.gaussian_pixel import numba_cpu

        patches = torch.empty(len(a_px), self.roi_px, self.roi_px)
        dx, dy, a, b = (t.contiguous().numpy() for t in (dx_px, dy_px, a_px, b_px))
        numba_cpu.rotated(dx, dy, a, b, float(angle), aspect, patches.numpy())
        return patches
