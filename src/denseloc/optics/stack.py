"""A pupil PSF drawn as a stack of depths at once, with a spline in between: gradients reach the phase of its mask at little cost.

To draw each emitter from the pupil costs a Fourier transform an emitter. A design draws one transform a depth and step, on two nodes a
camera pixel, whatever the number of emitters; what lies between is a cubic spline, as in `bake`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import DocumentError
from ..kernels import spline_patch
from ..kernels.spline_patch import naive
from .base import PSF, PSFSettings
from .designed_mask import DesignedMask
from .pixel_weights import AxisSampling
from .pupil import PupilPSF
from .pupil_field import intensity
from .spline import SplineSettings, interpolation

NODES_PER_PX = 2
MARGIN_PX = 1
"""Pixels by which the nodes reach beyond the patch: half a pixel for emitters off the middle, half for the spline's end."""
AT_ONCE = 1 << 25
"""Numbers that the depths held at once may need (128 MiB); where more are needed, they are computed again for the gradient."""
MOST_PLANES = 1000


class DesignedPSF(PSF):
    """What a design works on: a PSF that is drawn from stacks of depths, one for each colour channel, all with one mask."""

    mask: DesignedMask

    @property
    @abstractmethod
    def stacks(self) -> tuple[StackPSF, ...]:
        """Give the stacks of the channels."""

    @abstractmethod
    def renew(self) -> Tensor:
        """Draw the stacks for the mask as it is now."""

    @abstractmethod
    def spline(self) -> PSFSettings:
        """Give the images as they are now as a section, which is drawn fast and forgets optics and mask."""


class StackPSF(DesignedPSF):
    """A pupil PSF with a designed mask, known on depths of equal distance; call `renew` after each change of the mask.

    Args:
        optics: the microscope; its parameters stay as they are, and its own mask does not count.
        mask: the phase on its pupil.
        z_nm: (low, high) of the depths.
        z_step_nm: largest distance of two depths.

    Raises:
        DocumentError: too many depths.
    """

    along_rows: Tensor
    along_columns: Tensor
    along_z: Tensor
    depths_nm: Tensor
    to_rows: Tensor
    to_columns: Tensor
    coefficients: Tensor

    def __init__(self, optics: PupilPSF, mask: DesignedMask, z_nm: tuple[float, float], z_step_nm: float = 100.0) -> None:
        super().__init__(optics.settings.model_copy(update={"residual_maps": None}), optics.pixel_size_nm)
        low, high = z_nm
        planes = max(4, math.ceil((high - low) / z_step_nm) + 1)
        if planes > MOST_PLANES:
            raise DocumentError(
                f"z from {low:g} to {high:g} nm in steps of {z_step_nm:g} nm are {planes} depths, expected at most {MOST_PLANES}; "
                "raise design.z_step_nm or check specimen.z_nm"
            )
        self.optics, self.mask = optics.requires_grad_(False), mask
        self.z_range_nm, self.z_step_nm = z_nm, (high - low) / (planes - 1)
        self.axes = [_finer(axis, self.roi_px + 2 * MARGIN_PX) for axis in (optics.rows, optics.columns)]
        nodes = (self.roi_px + 2 * MARGIN_PX - 1) * NODES_PER_PX + 1
        across, deep = torch.from_numpy(interpolation(nodes, 2, 0.0)), torch.from_numpy(interpolation(planes, 4, 0.0))
        blur = optics.blur()[None]
        for name, axis in zip(("rows", "columns"), self.axes, strict=True):
            weights = axis.weights(blur, NODES_PER_PX)[0].double()
            self.register_buffer(f"along_{name}", (across @ weights).float(), persistent=False)
            matrix = torch.view_as_real(optics.matrix(axis, optics.frequency()))
            self.register_buffer(f"to_{name}", matrix.contiguous(), persistent=False)
        self.register_buffer("along_z", deep.float(), persistent=False)
        self.register_buffer("depths_nm", torch.linspace(low, high, planes), persistent=False)
        self.register_buffer("coefficients", torch.zeros(0), persistent=False)
        with torch.no_grad():
            self.renew()

    @property
    def stacks(self) -> tuple[StackPSF, ...]:
        """Give itself: one colour."""
        return (self,)

    def renew(self) -> Tensor:
        """Draw the stack for the mask as it is now; gradients of later drawings reach the mask where they are asked for.

        Returns:
            (1, depths + 2, nodes, nodes) coefficients of the spline.
        """
        phase = self.mask.phase()
        most = max(1, AT_ONCE // self.numbers_per_depth)
        parts = self.depths_nm.split(most)
        if len(parts) > 1 and torch.is_grad_enabled():
            images = [checkpoint(self._images, z, phase, use_reentrant=False) for z in parts]
        else:
            images = [self._images(z, phase) for z in parts]
        self.coefficients = torch.einsum("lk,kyx->lyx", self.along_z, torch.cat(images))[None]
        return self.coefficients

    @property
    def numbers_per_depth(self) -> int:
        """Numbers that one depth needs for a step, with what is kept for the gradient."""
        samples, cells = len(self.axes[0].places_nm()), self.optics.settings.pupil_px
        return 2 * len(self.optics.amplitude) * (3 * cells**2 + 2 * cells * samples + 2 * samples**2)

    def _images(self, z_nm: Tensor, phase: Tensor) -> Tensor:
        """Give coefficients across the image (depths, nodes, nodes) of some depths."""
        field = self.optics.pupil(mask_phase=phase) * self.optics.travel(z_nm)[:, None]
        image = intensity(field, torch.view_as_complex(self.to_rows), torch.view_as_complex(self.to_columns))
        return self.optics.cell() * (self.along_rows @ image @ self.along_columns.mT)

    def forward(self, offset_px: Tensor, z_nm: Tensor, scale: Tensor | None = None, place_nm: Tensor | None = None) -> Tensor:
        """Draw emitters; arguments and result as for every PSF."""
        dx, dy = offset_px.unbind(-1)
        return spline_patch.patches(self.coefficients, dx, dy, self._level(z_nm), self.roi_px, NODES_PER_PX, scale)

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the spline: (n, 1, roi, roi)."""
        return self(torch.stack((dx_px, dy_px), -1), z_nm, scale)

    def with_slopes(self, offset_px: Tensor, z_nm: Tensor) -> tuple[Tensor, Tensor]:
        """Give what `with_derivatives` gives, with gradients that reach the mask."""
        dx, dy = offset_px.unbind(-1)
        stack = self.coefficients[0]
        deep, nodes = stack.shape[0], stack.shape[1]
        level = self._level(z_nm).clamp(0, deep - 3)[:, None] + 1 - torch.arange(deep, dtype=z_nm.dtype, device=z_nm.device)
        flat, along_z = (
            torch.einsum("nk,kyx->nyx", weights, stack) for weights in (naive.bspline(level), slope(level) / self.z_step_nm)
        )
        (row, row_slope), (column, column_slope) = (self._line(d, nodes) for d in (dy, dx))
        slopes = [row @ flat @ column_slope.mT, row_slope @ flat @ column.mT, row @ along_z @ column.mT]
        return (row @ flat @ column.mT)[:, None], torch.stack(slopes, 1)[:, :, None]

    def _line(self, offset_px: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
        """Weigh the nodes of one axis for each pixel, and give the derivatives by the offset: (n, roi, nodes) each."""
        pixel, node = (torch.arange(n, dtype=offset_px.dtype, device=offset_px.device) - (n - 1) / 2 for n in (self.roi_px, nodes))
        distance = (NODES_PER_PX * (pixel - offset_px[:, None]))[:, :, None] - node
        return naive.bspline(distance), -NODES_PER_PX * slope(distance)

    def spline(self) -> SplineSettings:
        """Give the stack as it is now as a section, which is drawn fast and forgets optics and mask."""
        assert self.z_range_nm is not None
        return SplineSettings(
            roi_px=self.roi_px,
            coefficients=self.coefficients.detach().cpu().numpy(),
            z_min_nm=self.z_range_nm[0],
            z_step_nm=self.z_step_nm,
            nodes_per_px=NODES_PER_PX,
            pixel_size_nm=self.pixel_size_nm,
        )

    def _level(self, z_nm: Tensor) -> Tensor:
        assert self.z_range_nm is not None
        return (z_nm - self.z_range_nm[0]) / self.z_step_nm


def _finer(axis: AxisSampling, roi_px: int) -> AxisSampling:
    """Sample an axis so that nodes between the pixels fall on samples."""
    per_px = math.ceil(axis.per_px / NODES_PER_PX) * NODES_PER_PX
    return replace(axis, roi_px=roi_px, per_px=per_px)


def slope(distance: Tensor) -> Tensor:
    """Evaluate the first derivative of the cubic B-spline at distances from its node, in nodes."""
    t = distance.abs()
    return distance.sign() * (4 * (1 - t).clamp(min=0) ** 2 - (2 - t).clamp(min=0) ** 2) / 2
