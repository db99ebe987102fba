"""A smooth mask as a sum of Zernike polynomials."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..zernike import zernike
from .base import MaskSettings

if TYPE_CHECKING:
    from ..pupil import PupilSettings

MOST_NM = 1e4
"""Amplitude beyond which nothing is a mask; some fifteen waves of visible light."""


class ZernikeMaskSettings(MaskSettings):
    """``[psf.mask] kind = "zernike"``: ``2 pi / wavelength`` times the sum of amplitudes and OSA/ANSI polynomials j = 0, 1, 2, ...

    What the document gives as ``zernike_nm`` are aberrations of the microscope; these are those that a mask adds on purpose.
    """

    is_path: ClassVar[bool] = True

    kind: Literal["zernike"] = "zernike"
    rms_nm: tuple[float, ...] = Field(
        min_length=1,
        max_length=496,
        description="rms wavefront of each polynomial, from j = 0 on",
        examples=[(0.0, 0.0, 0.0, 0.0, 0.0, 60.0)],
    )

    @model_validator(mode="after")
    def _in_nm(self) -> ZernikeMaskSettings:
        most = max(abs(value) for value in self.rms_nm)
        if most > MOST_NM:
            raise ValueError(f"rms_nm up to {most:.3g} nm; expected at most {MOST_NM:g} nm: give rms wavefronts in nm")
        return self

    def upright(self, x: Tensor, y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase in rad of the mask before it is turned."""
        total = torch.zeros_like(x)
        for index, amplitude in enumerate(self.rms_nm):
            if amplitude:
                total = total + 2 * math.pi * amplitude / settings.wavelength_nm * zernike(index, x, y)
        return total
