"""The stacks of several colours behind one mask that is being designed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .colours import ColoursPSF, ColoursSettings
from .designed_mask import DesignedMask
from .pupil import PupilPSF
from .spline import SplineSettings
from .stack import DesignedPSF, StackPSF


class ColourStackPSF(ColoursPSF, DesignedPSF):
    """A stack (see `StackPSF`) for each colour channel; call `renew` after each change of the mask.

    Args:
        colours: the microscope, with [psf.optics]; its parameters stay as they are, and its own mask does not count.
        mask: the phase on the pupil at ``optics.wavelength_nm``.
        z_nm: (low, high) of the depths.
        z_step_nm: largest distance of two depths.

    Raises:
        DocumentError: too many depths.
    """

    parts: nn.ModuleList

    def __init__(self, colours: ColoursPSF, mask: DesignedMask, z_nm: tuple[float, float], z_step_nm: float = 100.0) -> None:
        pupils = [part for part in colours.parts if isinstance(part, PupilPSF)]
        stacks = [StackPSF(pupil, mask, z_nm, z_step_nm) for pupil in pupils]
        super().__init__(colours.settings, colours.pixel_size_nm, list(stacks))
        self.mask, self.z_range_nm = mask, z_nm

    @property
    def stacks(self) -> tuple[StackPSF, ...]:
        """Give the stacks of the channels."""
        return tuple(part for part in self.parts if isinstance(part, StackPSF))

    def renew(self) -> Tensor:
        """Draw the stacks for the mask as it is now; (channels, 1, depths + 2, nodes, nodes) coefficients of the splines."""
        return torch.stack([stack.renew() for stack in self.stacks])

    def spline(self) -> ColoursSettings:
        """Give the stacks as they are now as a section, which is drawn fast and forgets optics and mask."""
        channels: tuple[SplineSettings, ...] = tuple(stack.spline() for stack in self.stacks)
        return ColoursSettings(roi_px=self.roi_px, channel=channels)
