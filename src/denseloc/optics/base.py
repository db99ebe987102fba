"""What every PSF is: fractions of an emitter's photons on the pixels around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..description import Array, Section
from ..errors import DocumentError
from ..kernels.map_interpolation import naive
from ..units import PixelSize

MOST_LIGHT = 1.05
"""Sum of the shares of focal planes, with room for what a fit leaves behind."""


class ResidualMaps(Section):
    """Residual pixel maps that a parametric PSF carries: what the formula misses, per depth.

    Source: Speiser et al. 2019, equations 4 and 5 (delta_xy): one map per 100 nm of z, trilinear in between.
    """

    values: Array = Field(description="([planes,] depths, s k + 1, s k + 1) photon fractions; s nodes per pixel, k pixels wide")
    z_min_nm: float = Field(description="depth of the first map")
    z_step_nm: float = Field(100.0, gt=0, description="distance of two maps")
    nodes_per_px: int = Field(1, ge=1, le=8, description="nodes per camera pixel")

    @model_validator(mode="after")
    def _shape(self) -> ResidualMaps:
        shape = self.values.shape
        if len(shape) not in (3, 4) or shape[-2] != shape[-1] or (shape[-1] - 1) % self.nodes_per_px or not self.size_px % 2:
            raise ValueError(f"residual maps of shape {shape}: expected ([planes,] depths, s k + 1, s k + 1) with odd k")
        return self

    @property
    def size_px(self) -> int:
        """Width k of the maps in camera pixels."""
        return (self.values.shape[-1] - 1) // self.nodes_per_px


class PSFSettings(Section):
    """What the sections of all parametric PSFs share."""

    roi_px: int = Field(15, ge=5, le=101, description="pixels across the patch on which the PSF is drawn; odd")
    residual_maps: ResidualMaps | None = Field(None, description="pixel maps of what the formula misses")

    @model_validator(mode="after")
    def _odd(self) -> PSFSettings:
        if self.roi_px % 2 == 0:
            raise ValueError(f"roi_px must be odd (found {self.roi_px})")
        if self.residual_maps is not None and self.residual_maps.size_px != self.roi_px:
            raise ValueError(f"residual maps are {self.residual_maps.size_px} px wide, roi_px is {self.roi_px}")
        return self

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart, so that a localizer is to find z."""
        return False

    @property
    def channels(self) -> int:
        """Number of colour channels: emitters of different ones look different."""
        return 1

    def width_in_focus_nm(self) -> float:
        """Give the size in focus as a Gaussian standard deviation; kinds without a key ``width_nm`` say it themselves.

        Raises:
            TypeError: the kind does neither.
        """
        width = getattr(self, "width_nm", None)
        if width is None:
            raise TypeError(
                f"{type(self).__name__} has no key width_nm; give the class a method width_in_focus_nm() that says the size in focus"
            )
        return float(width)

    @abstractmethod
    def build(self, pixel_size_nm: PixelSize) -> PSF:
        """Make the PSF for a pixel size."""


Told = float | Literal["share", "focus"]
"""What a movie can tell of a parameter: a positive number, which may change by this factor at most; a share of the light; a depth at which the
image is sharpest, of which the mean stays, for no movie says where z = 0 is."""


class PSF(nn.Module, ABC):
    """Photon fraction per pixel around a point; differentiable in position and in its own parameters.

    Attributes:
        planes: number of focal planes.
        channels: number of colour channels.
        roi_px: odd width of the patch in pixels.
        pixel_size_nm: (y, x).
        z_range_nm: depths between which the PSF is known, or None for a PSF without depth.
        varies_in_field: whether the image depends on the place in the field.
        field_nm: (y, x) size of the field in which it is known how it varies, or None.
        told_by_movies: what molecules of unknown place, depth and light can tell of its parameters, by key; all else is kept by `adapt`.
    """

    told_by_movies: ClassVar[Mapping[str, Told]] = {}
    varies_in_field: bool = False
    field_nm: tuple[float, float] | None = None
    planes: int = 1
    channels: int = 1
    z_range_nm: tuple[float, float] | None = None

    def __init__(self, settings: PSFSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__()
        self.settings = settings
        self.pixel_size_nm = pixel_size_nm
        self.roi_px = settings.roi_px
        maps = settings.residual_maps
        self.maps = (
            None if maps is None else nn.Parameter(torch.from_numpy(maps.values.copy()).reshape(-1, *maps.values.shape[-3:]))
        )

    def forward(self, offset_px: Tensor, z_nm: Tensor, scale: Tensor | None = None, place_nm: Tensor | None = None) -> Tensor:
        """Draw emitters.

        Args:
            offset_px: (n, 2) as (dx, dy) from the centre of the middle pixel, each in -0.5 .. 0.5.
            z_nm: (n,) depth.
            scale: (n,) factor on all widths, or None.
            place_nm: (n, 2) as (x, y) in the field from the outer corner of its pixel (0, 0), for PSFs that vary; None for the middle.

        Returns:
            (n, planes, roi, roi) fractions of the photons, indexed (row, column).
        """
        dx, dy = offset_px.unbind(-1)
        patches = self.shape(dx, dy, z_nm, torch.ones_like(dx) if scale is None else scale)
        return patches if self.maps is None else self._add_maps(patches, dx, dy, z_nm)

    def in_channel(self, channel: int) -> PSF:
        """Give the PSF of emitters of one colour channel.

        Raises:
            ValueError: there is no such channel.
        """
        if channel != 0:
            raise ValueError(f"channel {channel} of a PSF of one colour; expected 0")
        return self

    def in_channels(
        self,
        channel: Tensor,
        offset_px: Tensor,
        z_nm: Tensor,
        scale: Tensor | None = None,
        place_nm: Tensor | None = None,
    ) -> Tensor:
        """Draw emitters each in its colour channel (n,) int64, which a PSF of one colour does not look at; the rest as for `forward`."""
        drawn: Tensor = self(offset_px, z_nm, scale, place_nm)
        return drawn

    def with_derivatives(self, offset_px: Tensor, z_nm: Tensor, place_nm: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw emitters together with the derivatives by position, for fits and bounds.

        Args:
            offset_px: (n, 2) as for `forward`.
            z_nm: (n,) depth.
            place_nm: (n, 2) as for `forward`.

        Returns:
            (n, planes, roi, roi) fractions, and (n, 3, planes, roi, roi) their derivatives by dx (per px), dy (per px) and z (per nm).
        """

        def draw(position: Tensor) -> Tensor:
            return self(position[:, :2], position[:, 2], place_nm=place_nm)

        position = torch.cat((offset_px, z_nm[:, None]), 1)
        axes = torch.eye(3, dtype=position.dtype, device=position.device)
        with torch.enable_grad():  # without, the maps would take the way that knows no derivatives
            rows = [torch.func.jvp(draw, (position,), (axis.expand_as(position),)) for axis in axes]
        return rows[0][0].detach(), torch.stack([row[1].detach() for row in rows], dim=1)

    @abstractmethod
    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formula alone, without maps: (n, planes, roi, roi)."""

    def described(self) -> PSFSettings:
        """Give the document section with the present values of the parameters (after a fit).

        Raises:
            TypeError: `values` leaves out a parameter with the name of a key of the section.
        """
        maps, update = self.settings.residual_maps, self.values()
        for name, value in self.named_parameters():
            if name in type(self.settings).model_fields and name not in update:
                raise TypeError(
                    f"{type(self).__name__}: values() leaves out the parameter '{name}' of shape {tuple(value.shape)}, which a fit would "
                    f"lose; give the class a method values() with '{name}' in it"
                )
        if maps is not None and self.maps is not None:
            values = self.maps.detach().cpu().numpy().reshape(maps.values.shape)
            update["residual_maps"] = maps.model_copy(update={"values": values})
        return self.settings.model_copy(update=update)

    def values(self) -> dict[str, Any]:
        """Give the present values of the formula's parameters under their names in the document.

        Here these are the scalar ones; a class whose parameters have more elements adds them in a method of its own.
        """
        return {name: parameter.detach().item() for name, parameter in self.named_parameters() if parameter.ndim == 0}

    @torch.no_grad()
    def keep_possible(self) -> None:
        """Bring parameters that a fit has moved out of the ranges of the document to the nearest possible values, in place."""
        for name, value in self.named_parameters():
            field = type(self.settings).model_fields.get(name)
            for limit in field.metadata if field is not None else ():
                for bound in ("ge", "gt", "le", "lt"):
                    at = getattr(limit, bound, None)
                    if not isinstance(at, (int, float)):
                        continue
                    margin = 1e-6 * max(1.0, abs(at)) if bound in ("gt", "lt") else 0.0  # float32 tells the two apart
                    if bound in ("ge", "gt"):
                        value.clamp_(min=at + margin)
                    else:
                        value.clamp_(max=at - margin)

    def _add_maps(self, patches: Tensor, dx: Tensor, dy: Tensor, z_nm: Tensor) -> Tensor:
        maps = self.settings.residual_maps
        assert maps is not None
        assert self.maps is not None
        if len(self.maps) != self.planes:
            raise DocumentError(
                f"the residual maps have {len(self.maps)} focal planes, the PSF has {self.planes}; give maps for each"
            )
        level = (z_nm - maps.z_min_nm) / maps.z_step_nm
        if torch.is_grad_enabled() or patches.device.type != "cpu" or patches.dtype != torch.float32:
            planes = [naive.interpolate(plane, dx, dy, level, self.roi_px, maps.nodes_per_px) for plane in self.maps]
            return patches + torch.stack(planes, dim=1)
        from ..kernels.map_interpolation import numba_cpu

        total = patches.contiguous()
        x, y, z = (t.contiguous().numpy() for t in (dx, dy, level))
        for plane, values in enumerate(self.maps.detach()):
            phases = naive.polyphase(values, self.roi_px, maps.nodes_per_px).contiguous()
            numba_cpu.add_interpolated(phases.numpy(), x, y, z, maps.nodes_per_px, total[:, plane].numpy())
        return total


def parameter(value: float) -> nn.Parameter:
    """Make a learnable scalar."""
    return nn.Parameter(torch.tensor(float(value)))


def gaussian_width(
    z_nm: Tensor, width: Tensor, focus: Tensor, depth: Tensor, a: Tensor | float = 0.0, b: Tensor | float = 0.0
) -> Tensor:
    """Width of a defocused Gaussian: ``w sqrt(1 + u^2 + A u^3 + B u^4)``, ``u = (z - focus) / depth``; same unit as ``width``.

    Source: Huang et al., Science 319 (2008) 810; Aritake et al. 2020, equation of the quad-plane PSF.
    """
    u = (z_nm - focus) / depth
    return width * torch.sqrt((1 + u**2 + a * u**3 + b * u**4).clamp(min=0.05))
