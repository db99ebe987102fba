"""What every blinking law does: molecules, and the part of each frame that they are on."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

SHORTEST = 0.01
"""Rows of molecules that are on for no more than this part of a frame are dropped."""


@dataclass(frozen=True)
class Traces:
    """Molecules, and the rows (molecule, frame) in which they are on.

    Args:
        movie: (m,) movie of each molecule.
        molecule: (n,) molecule of each row, an index into ``movie``.
        frame: (n,) frame of each row in its movie.
        on: (n,) part of the frame that the molecule is on, above 0 and at most 1.
    """

    movie: Tensor
    molecule: Tensor
    frame: Tensor
    on: Tensor


class Blinking(abc.ABC):
    """When molecules are on."""

    @abc.abstractmethod
    def draw(self, per_frame: Tensor, n_frames: int, generator: torch.Generator) -> Traces:
        """Draw molecules so that each frame of movie i has ``per_frame[i]`` rows on average, from the first frame on.

        Args:
            per_frame: (n_movies,) expected rows in each frame.
            n_frames: frames of each movie.
            generator: source of randomness.
        """

    def on_fractions(self) -> Tensor:
        """Give (k,) equally likely on-fractions that stand for the law of the rows; always the same."""
        return torch.ones(1)


def rows_of_intervals(molecule: Tensor, start: Tensor, stop: Tensor, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut on-times into frames.

    Args:
        molecule: (k,) int64 molecule of each interval.
        start: (k,) begin in frames.
        stop: (k,) end in frames, not before the begin.
        n_frames: frames 0 .. n_frames - 1 are kept.

    Returns:
        molecule, frame, on-fraction, (n,) each: one row for each frame that an interval touches.
    """
    start, stop = start.clamp(min=0), stop.clamp(max=n_frames)
    first = start.floor().long()
    n_rows = (stop.ceil().long() - first).clamp(min=0)
    index = torch.repeat_interleave(torch.arange(len(molecule), device=molecule.device), n_rows)
    before = torch.cumsum(n_rows, 0) - n_rows
    frame = first[index] + torch.arange(len(index), device=index.device) - before[index]
    on = torch.minimum(stop[index], frame + 1) - torch.maximum(start[index], frame.to(start.dtype))
    return molecule[index], frame, on


def exponential(n: int | tuple[int, ...], mean: Tensor | float, generator: torch.Generator) -> Tensor:
    """Draw exponential waiting times, ``-mean log(1 - u)`` (faster than torch's own exponential numbers)."""
    return torch.rand(n, generator=generator, device=generator.device).neg_().log1p_().mul_(mean).neg_()


def movie_of_each(counts: Tensor) -> Tensor:
    """Give the movie number of each molecule from the number of molecules of each movie (float or int)."""
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts.long())
