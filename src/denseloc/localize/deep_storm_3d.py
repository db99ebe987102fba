"""DeepSTORM3D: dense molecules in three dimensions from frames of a PSF that tells depths apart over microns.

The network gives a grid of voxels, four times finer than the camera's pixels, with planes over the whole depth, in emitters per voxel. Local
maxima become localizations by their centre of mass; above one place there may be several.

Source: Nehme et al., "DeepSTORM3D: dense 3D localization microscopy and PSF design by deep learning", Nature Methods 17 (2020) 734.

As in the paper: the grid, and the preset ``paper`` with the authors' layers (612 703 weights with 121 planes). What is done otherwise:

- The overlap term is ``sum (p - t)^2 / (sum p^2 + sum t^2)`` of the smoothed grids, one minus the coefficient of Dice. That of the authors'
  code has ``sum p t`` in place of ``sum p^2``, which leaves voxels without an emitter free to be anything.
- Smoothing pads all three axes; in the authors' code the rim of the frame does not count.
- Truth is shared between the voxels next to an emitter, so that the centre of mass is its place.
- All emitters are to be found, not only those above a number of photons.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from torch import Tensor

from ..data import Emitters
from ..description import Range
from .base import LocalizerSettings, Scales
from .fine_networks import DilatedNet, QuickNet
from .on_voxels import OnVoxels
from .peaks import VoxelGrid

FINER = 4
LATERAL_NM, AXIAL_NM = 110.0, 200.0  # within which there is one localization
SIZES = {"tiny": (32, 16, (1,)), "small": (96, 48, (1, 2, 4, 6, 2, 1))}
PLANES = {"tiny": 4, "small": 25, "paper": 121}


class DeepStorm3DSettings(LocalizerSettings):
    """``[localizer] kind = "deep_storm_3d"``."""

    kind: Literal["deep_storm_3d"] = "deep_storm_3d"
    preset: Literal["tiny", "small", "paper"] = Field(
        "small", description="size: for trials, two CPU cores in under an hour, the paper's", examples=["tiny"]
    )
    depths: int | None = Field(
        None, ge=3, le=1024, description="planes of the voxel grid; absent: 4 (tiny), 25 (small), 121 (paper)"
    )
    z_range_nm: Range | None = Field(
        None,
        description="lowest and highest depth of the voxel grid; absent: as far below 0 as above it, over the specimen's depths",
    )
    threshold: float | None = Field(None, gt=0, lt=1, description="least probability of a localization; absent: that of the method")

    @field_validator("z_range_nm")
    @classmethod
    def _in_order(cls, value: Range | None) -> Range | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("must run from low to high")
        return value

    @property
    def depths_nm(self) -> tuple[float, float] | None:
        """Those of the voxel grid, where the document gives them."""
        return self.z_range_nm

    def grid(self, z_unit_nm: float) -> VoxelGrid:
        """Give the voxels for emitters up to this far from z = 0; one plane where there is no depth."""
        if not z_unit_nm:
            return VoxelGrid(FINER)
        return VoxelGrid(FINER, self.depths or PLANES[self.preset], self.z_range_nm or (-z_unit_nm, z_unit_nm))

    def build(self, scales: Scales) -> DeepStorm3D:
        """Make the localizer, untrained."""
        return DeepStorm3D(self, scales)


class DeepStorm3D(OnVoxels):
    """Network, loss and decoding in one."""

    def __init__(self, settings: DeepStorm3DSettings, scales: Scales) -> None:
        grid = settings.grid(scales.z_unit_nm)
        net = (
            DilatedNet(scales.planes, 64, grid.depths)
            if settings.preset == "paper"
            else QuickNet(scales.planes, *SIZES[settings.preset], FINER, grid.depths)
        )
        lateral = max(1, round(LATERAL_NM / min(scales.pixel_size_nm) * FINER))
        axial = max(1, round(AXIAL_NM / grid.step_nm)) if grid.step_nm else 0
        super().__init__(net, grid, (axial, lateral, lateral), scales, settings.threshold)

    def loss(self, found: Tensor, emitters: Emitters) -> Tensor:
        """Give the squared error of the smoothed grids per emitter, plus what their overlap lacks.

        Args:
            found: (n, depths, rows, columns) emitters per voxel.
            emitters: true ones.
        """
        error, energy = self.error_and_energy(found, emitters)
        return error + error / energy
