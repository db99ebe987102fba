"""The saddle point: the Tetrapod's kin for ranges of some 3 um, nearly secondary astigmatism alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from .base import MaskSettings, astigmatic_orders

if TYPE_CHECKING:
    from ..pupil import PupilSettings

SHARES = (-0.034, 0.104, 0.002)
"""Zernike amplitudes (n, 2), n = 2, 4, 6, in units of the defocus that is half of the range (rad between centre and edge).

They are a local minimum, 1 % above that of the Tetrapod, of the mean Cramer-Rao bound in x, y and z over 2.5 um (conditions as there).
"""


class SaddlePointSettings(MaskSettings):
    """``[psf.mask] kind = "saddle_point"``: a saddle that is flat in the middle of the aperture and steep at its edge.

    Source: Shechtman et al., Phys. Rev. Lett. 113 (2014) 133902, for the idea; the amplitudes are ours.
    """

    is_path: ClassVar[bool] = True

    kind: Literal["saddle_point"] = "saddle_point"
    range_nm: float = Field(2500.0, ge=500, le=5000, description="range of depths around the focus that the mask is to cover")

    def upright(self, x: Tensor, y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase in rad of the mask before it is turned."""
        return astigmatic_orders(x, y, settings, SHARES, self.range_nm)
