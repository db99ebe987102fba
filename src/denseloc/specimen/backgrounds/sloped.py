"""Sloped background: a plane."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Fraction, Level, LevelFromZero, draw_level
from .base import Background


class SlopedSettings(Section):
    """Settings of a sloped background.

    Args:
        photons: photons per pixel and frame in the middle, or (low, high), drawn evenly in the logarithm for each movie.
        slope: largest relative rise over the field, 0 .. 1.
    """

    kind: Literal["sloped"] = "sloped"
    photons: LevelFromZero
    slope: Fraction = 0.5

    def build(self) -> Sloped:
        """Make the background."""
        return Sloped(self.photons, self.slope)


class Sloped(Background):
    """``level (1 + s (u cos a + v sin a))`` with u, v in -0.5 .. 0.5 over the field, and slope s and direction a of each movie."""

    def __init__(self, photons: Level, slope: float) -> None:
        self.photons, self.slope = photons, slope

    def draw(self, shape_px: tuple[int, int], n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw one background for each movie."""
        level = draw_level(self.photons, n_movies, generator)
        chance = torch.rand(2, n_movies, generator=generator, device=generator.device)
        slope, angle = self.slope * chance[0], 2 * math.pi * chance[1]
        v, u = ((torch.arange(n, device=generator.device) + 0.5) / n - 0.5 for n in shape_px)
        rise_x = (slope * angle.cos())[:, None, None, None] * u
        rise_y = (slope * angle.sin())[:, None, None, None] * v[:, None]
        return level[:, None, None, None] * (1 + rise_x + rise_y)
