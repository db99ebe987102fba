"""Survival: an emitter stays on in the next frame with a fixed probability."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from ...description import Section
from .base import Blinking, Traces, movie_of_each, rows_of_intervals


def _below_one(value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError("must be at least 0 and below 1; it is the probability to stay on in the next frame")
    return value


class SurvivalSettings(Section):
    """Settings of survival from frame to frame.

    Args:
        survival: probability that an emitter is on in the next frame too; the mean lifetime is 1 / (1 - survival) frames.
    """

    kind: Literal["survival"] = "survival"
    survival: Annotated[float, AfterValidator(_below_one)] = 0.5

    def build(self) -> Survival:
        """Make the law."""
        return Survival(self)


class Survival(Blinking):
    """Emitters on in whole frames, with geometric lifetimes, from the stationary law on.

    Source: Speiser, Turaga, Macke 2019, Teaching deep neural networks to localize sources in super-resolution microscopy, eq. 1.
    """

    def __init__(self, settings: SurvivalSettings) -> None:
        self.settings = settings

    def draw(self, per_frame: Tensor, n_frames: int, generator: torch.Generator) -> Traces:
        """Draw molecules and rows: those on in frame 0, then new ones in each frame."""
        stay = self.settings.survival
        rate = per_frame[:, None].repeat(1, n_frames)
        rate[:, 1:] *= 1 - stay
        place = movie_of_each(torch.poisson(rate, generator).flatten())
        u = torch.rand(len(place), generator=generator, device=place.device).clamp(min=1e-7)
        lifetime = 1 + (u.log() / math.log(stay)).floor() if stay > 0 else torch.ones_like(u)
        start = place % n_frames
        rows = rows_of_intervals(torch.arange(len(place), device=place.device), start.float(), start + lifetime, n_frames)
        return Traces(place // n_frames, *rows)
