"""Several focal planes seen at once: biplane, quad-plane and any other number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..kernels.gaussian_pixel.naive import aligned
from ..units import PixelSize
from .base import MOST_LIGHT, PSF, PSFSettings, Told, gaussian_width, parameter


class MultiplaneSettings(PSFSettings):
    """``[psf] kind = "multiplane"``; two planes make a biplane, four a quad-plane microscope."""

    kind: Literal["multiplane"] = "multiplane"
    width_nm: float = Field(gt=0, description="standard deviation in focus")
    plane_focus_nm: tuple[float, ...] = Field(min_length=1, description="depth of best focus of each plane")
    transmission: tuple[float, ...] | None = Field(None, description="share of the photons of each plane; absent: equal shares")
    depth_nm: float = Field(gt=0, description="D in the defocus curve")
    cubic: float = Field(0.0, description="coefficient A of u^3 in the defocus curve")
    quartic: float = Field(0.0, ge=0, description="coefficient B of u^4 in the defocus curve")
    shift_nm: tuple[tuple[float, float], ...] | None = Field(
        None, description="(x, y) displacement of each plane against the first"
    )

    @model_validator(mode="after")
    def _lengths(self) -> MultiplaneSettings:
        planes = len(self.plane_focus_nm)
        for name in ("transmission", "shift_nm"):
            value = getattr(self, name)
            if value is not None and len(value) != planes:
                raise ValueError(f"{name} has {len(value)} entries, plane_focus_nm has {planes}")
        if self.transmission is not None and (min(self.transmission) <= 0 or sum(self.transmission) > MOST_LIGHT):
            raise ValueError(
                f"transmission {self.transmission}: expected shares above 0 that add up to 1 or less (found {sum(self.transmission):g})"
            )
        return self

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart: they can."""
        return True

    def build(self, pixel_size_nm: PixelSize) -> MultiplanePSF:
        """Make the PSF for a pixel size."""
        return MultiplanePSF(self, pixel_size_nm)


class MultiplanePSF(PSF):
    """A Gaussian of width ``w sqrt(1 + u^2 + A u^3 + B u^4)`` in each plane, ``u = (z - focus of the plane) / D``.

    Source: Aritake et al. 2020 (quad-plane: w 133 nm, D 302 nm, A 7.37e-4, B 6.27e-3, planes 400 nm apart).
    """

    told_by_movies: ClassVar[Mapping[str, Told]] = {"width_nm": 1.6}

    def __init__(self, settings: MultiplaneSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__(settings, pixel_size_nm)
        self.planes = len(settings.plane_focus_nm)
        self.width_nm = parameter(settings.width_nm)
        self.depth_nm = parameter(settings.depth_nm)
        self.cubic = parameter(settings.cubic)
        self.quartic = parameter(settings.quartic)
        shares = settings.transmission or (1.0 / self.planes,) * self.planes
        self.plane_focus_nm = nn.Parameter(torch.tensor(settings.plane_focus_nm, dtype=torch.float32))
        self.transmission = nn.Parameter(torch.tensor(shares, dtype=torch.float32))
        self.shift_nm = nn.Parameter(torch.tensor(settings.shift_nm or ((0.0, 0.0),) * self.planes, dtype=torch.float32))

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formula: (n, planes, roi, roi)."""
        y_nm, x_nm = self.pixel_size_nm
        planes = []
        for focus, share, shift in zip(self.plane_focus_nm, self.transmission, self.shift_nm, strict=True):
            width = gaussian_width(z_nm, self.width_nm * scale, focus, self.depth_nm, self.cubic, self.quartic)
            at_x, at_y = dx_px + shift[0] / x_nm, dy_px + shift[1] / y_nm
            planes.append(share * aligned(at_x, at_y, width / x_nm, width / y_nm, self.roi_px))
        return torch.stack(planes, dim=1)

    @torch.no_grad()
    def keep_possible(self) -> None:
        """Bring what a fit has moved out of the ranges of the document back, in place; all light that is detected is in the planes."""
        super().keep_possible()
        self.transmission.clamp_(min=1e-6)
        self.transmission.div_(self.transmission.sum())

    def values(self) -> dict[str, object]:
        """Give the present values of the formula's parameters under their names in the document."""
        shifts = tuple((float(x), float(y)) for x, y in self.shift_nm.detach())
        return {
            **super().values(),
            "plane_focus_nm": tuple(self.plane_focus_nm.tolist()),
            "transmission": tuple(self.transmission.tolist()),
            "shift_nm": shifts,
        }
