"""The document section ``[specimen]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from ..data.grid import Grid
from ..description import Section
from .backgrounds import BACKGROUNDS
from .base import Specimen
from .blinking import BLINKING, NoneSettings
from .photons import PHOTONS
from .ranges import OrderedRange, PositiveLevel, ends
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


DENSEST = 1000.0
"""Emitters per um^2 and frame beyond which nothing is told apart and a draw takes more memory than there is."""
SHARES_OFF = 1e-3
"""Shares may miss 1 by this much, as rounded ones do."""


class SpecimenSettings(Section):
    """What lies under the objective.

    Args:
        density_per_um2: emitters per um^2 and frame, or (low, high), drawn evenly in the logarithm for each movie.
        z_nm: (low, high) of the molecules.
        structure: where molecules sit.
        blinking: when they are on.
        photons: how bright they are.
        background: the light of no molecule.
        channel_shares: share of the molecules in each colour channel of the PSF.
    """

    density_per_um2: PositiveLevel
    z_nm: OrderedRange
    photons: PhotonsKind
    background: BackgroundKind
    structure: StructureKind = UniformSettings()
    blinking: BlinkingKind = NoneSettings()
    channel_shares: tuple[float, ...] | None = Field(
        None,
        description="share of the molecules in each colour channel of a PSF of kind 'colours', together 1; absent: equal shares",
    )

    @field_validator("density_per_um2")
    @classmethod
    def _possible_density(cls, level: PositiveLevel) -> PositiveLevel:
        _, high = ends(level)
        if high > DENSEST:
            raise ValueError(
                f"at most {DENSEST:g} emitters per um^2 and frame can be drawn (found {high:g}); one per um^2 is dense already"
            )
        return level

    @field_validator("channel_shares")
    @classmethod
    def _whole(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (min(value, default=0.0) <= 0 or abs(sum(value) - 1) > SHARES_OFF):
            raise ValueError(f"expected shares above 0 that add up to 1, they add up to {sum(value):g}")
        return value

    def build(self, grid: Grid, channels: int = 1) -> Specimen:
        """Make the specimen under a grid of pixels, for a PSF of so many colour channels."""
        volume = Volume(grid, self.z_nm)
        return Specimen(
            volume=volume,
            density_per_um2=self.density_per_um2,
            structure=self.structure.build(volume),
            blinking=self.blinking.build(),
            photons=self.photons.build(),
            background=self.background.build(),
            channel_shares=self.channel_shares or (1.0 / channels,) * channels,
        )
