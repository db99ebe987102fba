"""The document section ``[specimen]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..data.grid import Grid
from ..description import Section
from .backgrounds import BACKGROUNDS
from .base import Specimen
from .blinking import BLINKING, NoneSettings
from .photons import PHOTONS
from .ranges import OrderedRange, PositiveLevel
from .structures import STRUCTURES, UniformSettings
from .volume import Volume

if TYPE_CHECKING:
    StructureKind = Any
    BlinkingKind = Any
    PhotonsKind = Any
    BackgroundKind = Any
else:
    StructureKind, BlinkingKind = STRUCTURES.field(), BLINKING.field()
    PhotonsKind, BackgroundKind = PHOTONS.field(), BACKGROUNDS.field()


class SpecimenSettings(Section):
    """What lies under the objective.

    Args:
        density_per_um2: emitters per um^2 and frame, or (low, high), drawn evenly in the logarithm for each movie.
        z_nm: (low, high) of the molecules.
        structure: where molecules sit.
        blinking: when they are on.
        photons: how bright they are.
        background: the light of no molecule.
    """

    density_per_um2: PositiveLevel
    z_nm: OrderedRange
    photons: PhotonsKind
    background: BackgroundKind
    structure: StructureKind = UniformSettings()
    blinking: BlinkingKind = NoneSettings()

    def build(self, grid: Grid) -> Specimen:
        """Make the specimen under a grid of pixels."""
        volume = Volume(grid, self.z_nm)
        return Specimen(
            volume=volume,
            density_per_um2=self.density_per_um2,
            structure=self.structure.build(volume),
            blinking=self.blinking.build(),
            photons=self.photons.build(),
            background=self.background.build(),
        )
