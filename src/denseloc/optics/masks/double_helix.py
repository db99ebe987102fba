"""Rings of vortices: two lobes that turn around each other with depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from .base import MaskSettings, spread

if TYPE_CHECKING:
    from ..pupil import PupilSettings


class DoubleHelixMaskSettings(MaskSettings):
    """``[psf.mask] kind = "double_helix"``: ring l = 1 .. L of equal area carries a vortex of charge ``(l - 1) lobes + 1``.

    The image turns with depth, by ``1 / (lobes L)`` rad for each rad of defocus between the aperture's centre and its edge; more rings
    make a longer range and larger lobes.

    Source: Prasad, Opt. Lett. 38 (2013) 585 (one lobe: charges 1, 2, 3, ...); Baranek and Bouchal, JEOS 8 (2013) 13017 (two lobes:
    charges 1, 3, 5, ...).
    """

    kind: Literal["double_helix"] = "double_helix"
    rings: int = Field(6, ge=2, le=40, description="number of rings L of equal area")
    lobes: int = Field(2, ge=1, le=4, description="number of lobes of the image; 1 makes a corkscrew")

    def upright(self, x: Tensor, y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase in rad of the mask before it is turned."""
        radius, angle = spread(x, y)
        ring = torch.floor(radius**2 * self.rings).clamp(max=self.rings - 1)
        return (ring * self.lobes + 1) * angle
