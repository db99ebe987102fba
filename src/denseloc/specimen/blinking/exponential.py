"""Exponential lifetimes with any begin inside a frame."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Level, PositiveLevel, draw_level
from .base import SHORTEST, Blinking, Traces, exponential, movie_of_each, rows_of_intervals


class ExponentialSettings(Section):
    """Settings of exponential lifetimes.

    Args:
        lifetime_frames: mean time that an emitter is on, or (low, high), drawn evenly in the logarithm for each movie.
    """

    kind: Literal["exponential"] = "exponential"
    lifetime_frames: PositiveLevel = 2.0

    def build(self) -> Exponential:
        """Make the law."""
        return Exponential(self.lifetime_frames)


class Exponential(Blinking):
    """Each molecule is on once, from any time for an exponential time; the first and the last frame are on in part.

    Starts have the rate that gives the wanted rows: a molecule of mean lifetime T has ``exp(-q / T) (1 + T - q)`` rows that are on
    for more than q of a frame.

    Args:
        lifetime_frames: mean, or range of means over movies.
    """

    def __init__(self, lifetime_frames: Level) -> None:
        self.lifetime_frames = lifetime_frames

    def draw(self, per_frame: Tensor, n_frames: int, generator: torch.Generator) -> Traces:
        """Draw molecules and rows: those on at time 0 (with an exponential rest of their time), then new ones."""
        lifetime = draw_level(self.lifetime_frames, len(per_frame), generator).to(per_frame.device)
        rate = per_frame / ((-SHORTEST / lifetime).exp() * (1 + lifetime - SHORTEST))
        n_old = torch.poisson(rate * lifetime, generator)
        n_new = torch.poisson(rate * n_frames, generator)
        movie = torch.cat([movie_of_each(n_old), movie_of_each(n_new)])
        start = torch.rand(len(movie), generator=generator, device=movie.device) * n_frames
        start[: int(n_old.sum())] = 0.0
        stop = start + exponential(len(movie), lifetime[movie], generator)
        molecule, frame, on = rows_of_intervals(torch.arange(len(movie), device=movie.device), start, stop, n_frames)
        kept = on > SHORTEST
        return Traces(movie, molecule[kept], frame[kept], on[kept])

    def on_fractions(self) -> Tensor:
        """Give some thousand drawn on-fractions."""
        return self.draw(torch.full((64,), 20.0), 5, torch.Generator().manual_seed(0)).on
