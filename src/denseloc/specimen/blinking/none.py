"""No blinking: every frame has emitters of its own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from .base import Blinking, Traces, movie_of_each


class NoneSettings(Section):
    """Settings of emitters that live one frame: there are none."""

    kind: Literal["none"] = "none"

    def build(self) -> NoBlinking:
        """Make the law."""
        return NoBlinking()


class NoBlinking(Blinking):
    """Each emitter is a molecule of its own, on for one whole frame; frames are independent."""

    def draw(self, per_frame: Tensor, n_frames: int, generator: torch.Generator) -> Traces:
        """Draw molecules and rows."""
        place = movie_of_each(torch.poisson(per_frame.repeat_interleave(n_frames), generator))
        molecule = torch.arange(len(place), device=place.device)
        on = torch.ones(len(place), device=place.device)
        return Traces(movie=place // n_frames, molecule=molecule, frame=place % n_frames, on=on)
