"""Even background."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Level, LevelFromZero, draw_level
from .base import Background


class UniformSettings(Section):
    """Settings of an even background.

    Args:
        photons: photons per pixel and frame, or (low, high), drawn evenly in the logarithm for each movie.
    """

    kind: Literal["uniform"] = "uniform"
    photons: LevelFromZero

    def build(self) -> Uniform:
        """Make the background."""
        return Uniform(self.photons)


class Uniform(Background):
    """One number for all pixels of a movie."""

    def __init__(self, photons: Level) -> None:
        self.photons = photons

    def draw(self, shape_px: tuple[int, int], n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw one background for each movie."""
        return draw_level(self.photons, n_movies, generator)[:, None, None, None].expand(n_movies, 1, *shape_px)
