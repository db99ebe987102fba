"""What every phase mask is: a phase on the pupil."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ...description import Section
from ..zernike import single_index, zernike

if TYPE_CHECKING:
    from ..pupil import PupilSettings


class MaskSettings(Section):
    """What the sections of all masks share."""

    is_path: ClassVar[bool] = False
    """Whether the mask is a way of so many nm, whose phase goes as 1 / wavelength, and not a phase whatever the wavelength."""

    turn_deg: float = Field(0.0, ge=-360, le=360, description="turn of the mask, from +x (columns) towards +y (rows)")

    def phase(self, pupil_x: Tensor, pupil_y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase that the mask adds.

        Args:
            pupil_x, pupil_y: places in units of the aperture's radius, x along columns, y along rows, same shape.
            settings: the microscope around the mask.

        Returns:
            Phase in rad, same shape. A positive phase delays, as a longer way to the objective does.
        """
        turn = math.radians(self.turn_deg)
        c, s = math.cos(turn), math.sin(turn)
        return self.upright(c * pupil_x + s * pupil_y, c * pupil_y - s * pupil_x, settings)

    @abstractmethod
    def upright(self, x: Tensor, y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase in rad of the mask before it is turned."""


def defocus_rad(settings: PupilSettings, defocus_nm: float) -> float:
    """Give the phase between centre and edge of the aperture (at most at the critical angle) that a defocus makes."""
    n = settings.medium_index
    sine = min(settings.numerical_aperture / n, 1.0)
    return 2 * math.pi * n / settings.wavelength_nm * defocus_nm * (1 - math.sqrt(1 - sine**2))


def astigmatic_orders(x: Tensor, y: Tensor, settings: PupilSettings, shares: tuple[float, ...], range_nm: float) -> Tensor:
    """Give the phase of the Zernike polynomials (2, 2), (4, 2), (6, 2), ... with amplitudes that grow with a range of depths.

    Args:
        x, y: places on the pupil.
        settings: the microscope around the mask.
        shares: amplitude of each, in units of the phase that a defocus of half of the range makes.
        range_nm: the range.
    """
    strength = defocus_rad(settings, range_nm / 2)
    phase = torch.zeros_like(x)
    for order, share in enumerate(shares):
        phase = phase + strength * share * zernike(single_index(2 * order + 2, 2), x, y)
    return phase


def spread(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give radius and angle (from +x towards +y) of places on the pupil."""
    return torch.sqrt(x**2 + y**2), torch.atan2(y, x)
