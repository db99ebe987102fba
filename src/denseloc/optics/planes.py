"""Any PSFs in several focal planes, each plane with its own share of the light and its own registration onto the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..description import Section, Shelf
from ..errors import DocumentError
from ..units import PixelSize
from .astigmatic import AstigmaticSettings
from .base import MOST_LIGHT, PSF, PSFSettings
from .double_helix import DoubleHelixSettings
from .field import FieldSettings
from .gaussian import GaussianSettings, TwoGaussianSettings
from .pupil import PupilSettings
from .spline import SplineSettings

ONE_PLANE: Shelf[PSFSettings] = Shelf(
    "PSF of a plane",
    GaussianSettings,
    TwoGaussianSettings,
    AstigmaticSettings,
    DoubleHelixSettings,
    PupilSettings,
    FieldSettings,
    SplineSettings,
)
"""What may stand in a plane."""

if TYPE_CHECKING:
    PlanePSF = Any
else:
    PlanePSF = ONE_PLANE.field()

Row = tuple[float, float, float]


class Plane(Section):
    """One focal plane of ``[psf] kind = "planes"``."""

    psf: PlanePSF = Field(description="PSF of this plane, of a kind with one plane")
    transmission: float = Field(gt=0, le=1, description="share of the emitter's photons that reach this plane")
    affine: tuple[Row, Row] = Field(
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
        description="rows (xx, xy, x0) and (yx, yy, y0): place in this plane from that in the first, both relative to the centre; x0, y0 in nm",
    )


class PlanesSettings(PSFSettings):
    """``[psf] kind = "planes"``: two planes make a biplane microscope, four a quad-plane one.

    An emitter at (x, y) stands in plane p at ``centre + A_p (x - centre_x, y - centre_y, 1)``. The patch must have room for the largest
    displacement that this makes in the field.
    """

    kind: Literal["planes"] = "planes"
    plane: tuple[Plane, ...] = Field(
        min_length=1,
        max_length=64,
        description="the focal planes, [[psf.plane]]",
        examples=[
            [
                {"psf": {"kind": "gaussian", "width_nm": 130.0, "depth_nm": 350.0, "focus_nm": focus}, "transmission": 0.5}
                for focus in (-250.0, 250.0)
            ]
        ],
    )
    centre_nm: tuple[float, float] = Field(
        (0.0, 0.0), description="place (x, y) about which the planes are turned and stretched: the middle of the field"
    )

    @model_validator(mode="after")
    def _possible(self) -> PlanesSettings:
        total = sum(plane.transmission for plane in self.plane)
        if total > MOST_LIGHT:
            raise ValueError(f"the transmissions add up to {total:g}; expected 1 or less, shares of all light that is detected")
        if self.residual_maps is not None or any(plane.psf.residual_maps is not None for plane in self.plane):
            raise ValueError("planes carry no residual_maps; give splines")
        for number, plane in enumerate(self.plane, 1):
            (xx, xy, _), (yx, yy, _) = plane.affine
            if abs(xx * yy - xy * yx) < 0.01:
                raise ValueError(
                    f"the affine of plane {number} is flat (determinant {xx * yy - xy * yx:g}); expected rows such as (1, 0, 0), (0, 1, 0)"
                )
        return self

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart: any plane changes with depth."""
        return any(plane.psf.tells_depth or getattr(plane.psf, "depth_nm", None) is not None for plane in self.plane)

    def width_in_focus_nm(self) -> float:
        """Give the size in focus as a Gaussian standard deviation: of the sharpest plane."""
        return min(float(plane.psf.width_in_focus_nm()) for plane in self.plane)

    def build(self, pixel_size_nm: PixelSize) -> PlanesPSF:
        """Make the PSF for a pixel size."""
        return PlanesPSF(self, pixel_size_nm)


class PlanesPSF(PSF):
    """The PSFs of the planes side by side. Learnable: what they can learn, ``transmission`` (planes,) and ``affine`` (planes, 2, 3)."""

    varies_in_field = True

    settings: PlanesSettings
    centre_nm: Tensor

    def __init__(self, settings: PlanesSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__(settings, pixel_size_nm)
        built = [plane.psf.model_copy(update={"roi_px": self.roi_px}).build(pixel_size_nm) for plane in settings.plane]
        self.parts = nn.ModuleList(built)
        self.planes = len(built)
        self.transmission = nn.Parameter(torch.tensor([plane.transmission for plane in settings.plane]))
        self.affine = nn.Parameter(torch.tensor([plane.affine for plane in settings.plane]))
        self.register_buffer("centre_nm", torch.tensor(settings.centre_nm), persistent=False)
        fields = [part.field_nm for part in built if part.field_nm is not None]
        self.field_nm = fields[0] if fields else (2 * settings.centre_nm[1], 2 * settings.centre_nm[0])
        known = [part.z_range_nm for part in built if part.z_range_nm is not None]
        self.z_range_nm = (max(low for low, _ in known), min(high for _, high in known)) if known else None

    def forward(self, offset_px: Tensor, z_nm: Tensor, scale: Tensor | None = None, place_nm: Tensor | None = None) -> Tensor:
        """Draw emitters; arguments and result as for every PSF."""
        moved = self._moved(offset_px, place_nm)
        drawn = [part(at, z_nm, scale, place_nm)[:, 0] for part, at in zip(self.parts, moved.unbind(1), strict=True)]
        return torch.stack(drawn, 1) * self.transmission[:, None, None]

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formulas: (n, planes, roi, roi)."""
        return self(torch.stack((dx_px, dy_px), -1), z_nm, scale)

    def with_derivatives(self, offset_px: Tensor, z_nm: Tensor, place_nm: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw emitters together with the derivatives by position; arguments and results as for every PSF."""
        moved = self._moved(offset_px, place_nm).detach()
        both = [part.with_derivatives(at, z_nm, place_nm) for part, at in zip(self._parts(), moved.unbind(1), strict=True)]
        share = self.transmission.detach()[:, None, None]
        slopes = torch.stack([slope[:, :, 0] for _, slope in both], 2)
        if place_nm is not None:  # a step of the emitter is a turned and stretched step in the plane
            pixel = self._pixel(offset_px)
            turn = self.affine.detach()[:, :, :2] * pixel / pixel[:, None]
            lateral = torch.einsum("npkhw,kpi->nikhw", slopes[:, :2], turn.to(slopes))
            slopes = torch.cat((lateral, slopes[:, 2:]), 1)
        return torch.stack([values[:, 0] for values, _ in both], 1) * share, slopes * share

    def values(self) -> dict[str, Any]:
        """Give the present planes under their name in the document."""
        rows = self.affine.detach().cpu().tolist()
        shares = self.transmission.detach().cpu().tolist()
        planes = tuple(
            plane.model_copy(update={"psf": part.described(), "transmission": share, "affine": (tuple(row[0]), tuple(row[1]))})
            for plane, part, share, row in zip(self.settings.plane, self._parts(), shares, rows, strict=True)
        )
        return {"plane": planes}

    @torch.no_grad()
    def keep_possible(self) -> None:
        """Bring what a fit has moved out of the ranges of the document to the nearest possible values, in place."""
        self.transmission.clamp_(min=1e-6)
        self.transmission.div_(self.transmission.sum().clamp(min=1))
        for part in self._parts():
            part.keep_possible()

    def _parts(self) -> list[PSF]:
        return [part for part in self.parts if isinstance(part, PSF)]

    def _pixel(self, like: Tensor) -> Tensor:
        return torch.tensor(self.pixel_size_nm[::-1], dtype=like.dtype, device=like.device)

    def _moved(self, offset_px: Tensor, place_nm: Tensor | None) -> Tensor:
        """Give the offsets (n, planes, 2) in the planes."""
        shift = self.affine[:, :, 2].expand(len(offset_px), -1, -1)
        if place_nm is not None:
            turn = self.affine[:, :, :2] - torch.eye(2, dtype=self.affine.dtype, device=self.affine.device)
            shift = shift + torch.einsum("pij,nj->npi", turn, (place_nm - self.centre_nm).to(turn))
        shift = shift.to(offset_px) / self._pixel(offset_px)
        if len(shift) and float(shift.detach().abs().max()) > self.roi_px / 2 - 1:
            raise DocumentError(
                f"the registration moves emitters by {float(shift.detach().abs().max()):.1f} px in the patch of {self.roi_px} px, out of which their "
                "light falls; put centre_nm into the middle of the field, cut the planes to the same field, or raise roi_px"
            )
        return offset_px[:, None] + shift
