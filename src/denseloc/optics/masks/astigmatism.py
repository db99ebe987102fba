"""A weak cylinder lens, as a mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ..zernike import single_index, zernike
from .base import MaskSettings

if TYPE_CHECKING:
    from ..pupil import PupilSettings


class AstigmatismSettings(MaskSettings):
    """``[psf.mask] kind = "astigmatism"``: ``2 pi rms / wavelength`` times the Zernike polynomial (2, 2).

    With ``turn_deg`` 0 the image of an emitter farther than the focus is long across the rows (y), for a positive ``rms_nm``.
    """

    is_path: ClassVar[bool] = True

    kind: Literal["astigmatism"] = "astigmatism"
    rms_nm: float = Field(gt=-2000, lt=2000, description="rms of the wavefront over the aperture; usual: 40 to 120")

    def upright(self, x: Tensor, y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase in rad of the mask before it is turned."""
        return 2 * math.pi * self.rms_nm / settings.wavelength_nm * zernike(single_index(2, 2), x, y)
