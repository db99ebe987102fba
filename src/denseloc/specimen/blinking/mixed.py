"""Mixed: each movie has one of several blinking laws, so that one trained model serves dyes of many kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...description import Section, Shelf
from .base import Blinking, Traces
from .exponential import ExponentialSettings
from .four_state import FourStateSettings
from .none import NoneSettings
from .survival import SurvivalSettings

PLAIN: Shelf[Any] = Shelf("blinking law", NoneSettings, SurvivalSettings, ExponentialSettings, FourStateSettings)

if TYPE_CHECKING:
    PlainKind = Any
else:
    PlainKind = PLAIN.field()


class MixedSettings(Section):
    """Settings of mixed blinking.

    Args:
        laws: each movie has one of them, all equally likely.
    """

    kind: Literal["mixed"] = "mixed"
    laws: tuple[PlainKind, ...] = Field(min_length=1)

    def build(self) -> Mixed:
        """Make the law."""
        return Mixed([law.build() for law in self.laws])


class Mixed(Blinking):
    """Draws a law for each movie."""

    def __init__(self, laws: list[Blinking]) -> None:
        self.laws = laws

    def draw(self, per_frame: Tensor, n_frames: int, generator: torch.Generator) -> Traces:
        """Draw molecules and rows of each movie by its own law."""
        chosen = torch.randint(len(self.laws), per_frame.shape, generator=generator, device=generator.device)
        parts = [law.draw(per_frame * (chosen == k), n_frames, generator) for k, law in enumerate(self.laws)]
        first, molecules = 0, []
        for part in parts:
            molecules.append(part.molecule + first)
            first += len(part.movie)
        return Traces(
            movie=torch.cat([p.movie for p in parts]),
            molecule=torch.cat(molecules),
            frame=torch.cat([p.frame for p in parts]),
            on=torch.cat([p.on for p in parts]),
        )

    def on_fractions(self) -> Tensor:
        """Give the on-fractions of all laws, each law with the same weight."""
        fractions = [law.on_fractions() for law in self.laws]
        longest = max(len(f) for f in fractions)
        return torch.cat([f.repeat(-(-longest // len(f)))[:longest] for f in fractions])
