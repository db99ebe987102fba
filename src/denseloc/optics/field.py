"""A PSF that changes over the field: the pupil's aberrations are smooth maps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..description import Array
from ..units import PixelSize
from .base import PSF, PSFSettings
from .pupil import PupilPSF, PupilSettings
from .zernike import is_whole, next_whole

_POWERS = ((1 / 6, 4 / 6, 1 / 6, 0.0), (-0.5, 0.0, 0.5, 0.0), (0.5, -1.0, 0.5, 0.0), (-1 / 6, 0.5, -0.5, 1 / 6))


class FieldSettings(PSFSettings):
    """``[psf] kind = "field"``: a pupil whose Zernike amplitudes are cubic splines over the field.

    ``zernike_maps_nm`` gives each amplitude on a raster of places, the first in the corner (0, 0) of the field and the last in the opposite
    one; between them it is interpolated with continuous slope and curvature, beyond them it stays as at the border.
    """

    kind: Literal["field"] = "field"
    pupil: PupilSettings = Field(
        description="the optics; its zernike_nm is added everywhere",
        examples=[{"kind": "pupil", "wavelength_nm": 650.0, "numerical_aperture": 1.1, "immersion_index": 1.33, "model": "scalar"}],
    )
    zernike_maps_nm: Array = Field(
        description="(polynomials j = 0, 1, ..., rows, columns) rms wavefronts at the places of the raster",
        examples=[np.zeros((6, 2, 2)).tolist()],
    )
    field_nm: tuple[float, float] = Field(description="height and width (y, x) of the field", examples=[(20_000.0, 20_000.0)])

    @model_validator(mode="after")
    def _possible(self) -> FieldSettings:
        maps = self.zernike_maps_nm
        if maps.ndim != 3 or min(maps.shape[1:], default=0) < 2 or not np.isfinite(maps).all():
            raise ValueError(
                f"zernike_maps_nm of shape {maps.shape}: expected finite numbers on (polynomials, rows, columns), 2 x 2 places or more"
            )
        if not is_whole(len(maps)):
            raise ValueError(
                f"zernike_maps_nm has {len(maps)} polynomials; fill the radial degree with maps of zeros, to {next_whole(len(maps))}"
            )
        if min(self.field_nm) <= 0:
            raise ValueError(f"field_nm must be above 0 (found {self.field_nm})")
        if self.residual_maps is not None or self.pupil.residual_maps is not None:
            raise ValueError("a PSF that changes over the field carries no residual_maps; leave them out")
        return self

    def width_in_focus_nm(self) -> float:
        """Give the size in focus as a Gaussian standard deviation, in the middle of the field."""
        return self.at(self.field_nm[1] / 2, self.field_nm[0] / 2).width_in_focus_nm()

    def at(self, x_nm: float, y_nm: float) -> PupilSettings:
        """Give the pupil at a place of the field."""
        with torch.no_grad():
            amplitudes = interpolated(torch.from_numpy(self.zernike_maps_nm.copy()), torch.tensor([[x_nm, y_nm]]), self.field_nm)[
                0
            ].numpy()
        own = np.array(self.pupil.zernike_nm)
        total = np.zeros(max(len(own), len(amplitudes)))
        total[: len(own)] += own
        total[: len(amplitudes)] += amplitudes
        return self.pupil.model_copy(update={"zernike_nm": tuple(total.tolist()), "roi_px": self.roi_px})

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart: they can."""
        return True

    def build(self, pixel_size_nm: PixelSize) -> FieldPSF:
        """Make the PSF for a pixel size."""
        return FieldPSF(self, pixel_size_nm)


class FieldPSF(PSF):
    """The image by the pupil at the emitter's place; without a place, that in the middle of the field. Learnable: ``zernike_maps_nm``.

    Source: Fu et al., Nature Methods 20 (2023) 459, for Zernike maps over the field; the spline is ours.
    """

    varies_in_field = True

    settings: FieldSettings

    def __init__(self, settings: FieldSettings, pixel_size_nm: PixelSize) -> None:
        super().__init__(settings, pixel_size_nm)
        count = max(len(settings.pupil.zernike_nm), len(settings.zernike_maps_nm))
        whole = (*settings.pupil.zernike_nm, *(0.0,) * count)[:count]
        self.pupil: PupilPSF = settings.pupil.model_copy(update={"zernike_nm": whole, "roi_px": self.roi_px}).build(pixel_size_nm)
        self.zernike_maps_nm = nn.Parameter(torch.from_numpy(settings.zernike_maps_nm.copy()))
        self.z_range_nm = self.pupil.z_range_nm
        self.field_nm = settings.field_nm

    def forward(self, offset_px: Tensor, z_nm: Tensor, scale: Tensor | None = None, place_nm: Tensor | None = None) -> Tensor:
        """Draw emitters; arguments and result as for every PSF."""
        maps, (height, width) = self.zernike_maps_nm, self.settings.field_nm
        if place_nm is None:
            place_nm = offset_px.new_tensor([[width / 2, height / 2]]).expand(len(offset_px), -1)
        more = interpolated(maps, place_nm.to(maps), self.settings.field_nm)
        dx, dy = offset_px.unbind(-1)
        return self.pupil.drawn(dx, dy, z_nm, torch.ones_like(dx) if scale is None else scale, more)

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the formula in the middle of the field: (n, 1, roi, roi)."""
        return self(torch.stack((dx_px, dy_px), -1), z_nm, scale)

    def values(self) -> dict[str, Any]:
        """Give the present maps and pupil under their names in the document."""
        own = self.pupil.described()
        return {"zernike_maps_nm": self.zernike_maps_nm.detach().cpu().float().numpy().copy(), "pupil": own}


def interpolated(maps: Tensor, place_nm: Tensor, field_nm: tuple[float, float]) -> Tensor:
    """Interpolate maps (j, rows, columns), which span a field (y, x) from corner to corner, at places (n, 2) x, y: (n, j).

    The cubic spline through the values, with zero curvature at the border; differentiable in maps and places.
    """
    _, rows, columns = maps.shape
    coefficients = torch.einsum("yr,jrc,xc->jyx", _through(rows, maps), maps, _through(columns, maps))
    (iy, wy), (ix, wx) = (
        _weights((place_nm[:, axis] / size).clamp(0, 1) * (n - 1), n)
        for axis, size, n in ((1, field_nm[0], rows), (0, field_nm[1], columns))
    )
    near = coefficients[:, iy[:, :, None], ix[:, None, :]]
    return torch.einsum("jnyx,ny,nx->nj", near, wy, wx)


def _weights(at: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Give numbers and weights (places, 4) of the coefficients around places in units of the raster."""
    first = at.detach().floor().clamp(max=n - 2)
    fraction = at - first
    powers = torch.stack([fraction**p for p in range(4)], -1)
    return first.long()[:, None] + torch.arange(4, device=at.device), powers @ powers.new_tensor(_POWERS)


def _through(n: int, like: Tensor) -> Tensor:
    """Give the matrix (n + 2, n) from values to the coefficients of the natural cubic B-spline through them."""
    system = np.zeros((n + 2, n + 2))
    for i in range(n):
        system[i, i : i + 3] = 1 / 6, 4 / 6, 1 / 6
    system[n, :3] = system[n + 1, -3:] = 1, -2, 1
    return torch.as_tensor(np.linalg.inv(system)[:, :n], dtype=like.dtype, device=like.device)
