"""The Tetrapod: two lobes that run apart along one axis on one side of the focus, and across it on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from .base import MaskSettings, astigmatic_orders

if TYPE_CHECKING:
    from ..pupil import PupilSettings

SHARES = (-0.128, 0.0925, 0.006)
"""Zernike amplitudes (n, 2), n = 2, 4, 6, in units of the defocus that is half of the range (rad between centre and edge).

They are the minimum of the mean Cramer-Rao bound in x, y and z over a range of 4 um (NA 1.2, water, 670 nm, 3500 photons, background 10,
pixel 110 nm); over 2.5 um the same shares come out to a tenth.
"""


class TetrapodSettings(MaskSettings):
    """``[psf.mask] kind = "tetrapod"``: secondary astigmatism minus astigmatism, as strong as the range asks for.

    With ``turn_deg`` 0 the lobes lie along columns (x) for an emitter farther than the focus, and along rows for a nearer one.

    Source: Shechtman et al., Phys. Rev. Lett. 113 (2014) 133902, and Nano Lett. 15 (2015) 4194, for the idea (the least bound over a
    range); the amplitudes are ours.
    """

    is_path: ClassVar[bool] = True

    kind: Literal["tetrapod"] = "tetrapod"
    range_nm: float = Field(4000.0, ge=1000, le=20000, description="range of depths around the focus that the mask is to cover")

    def upright(self, x: Tensor, y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase in rad of the mask before it is turned."""
        return astigmatic_orders(x, y, settings, SHARES, self.range_nm)
