"""Slowly varying background: a smooth random field."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Level, LevelFromZero, NotNegative, Positive, draw_level
from .base import Background


class SlowlyVaryingSettings(Section):
    """Settings of a slowly varying background.

    Args:
        photons: photons per pixel and frame, or (low, high), drawn evenly in the logarithm for each movie.
        length_px: distance over which it changes.
        amplitude: relative change.
    """

    kind: Literal["slowly_varying"] = "slowly_varying"
    photons: LevelFromZero
    length_px: Positive = 12.0
    amplitude: NotNegative = 0.3

    def build(self) -> SlowlyVarying:
        """Make the background."""
        return SlowlyVarying(self.photons, self.length_px, self.amplitude)


class SlowlyVarying(Background):
    """``level exp(a f - a^2 / 2)`` with f a coarse raster of normal numbers, interpolated by cubic splines, for each movie."""

    def __init__(self, photons: Level, length_px: float, amplitude: float) -> None:
        self.photons, self.length_px, self.amplitude = photons, length_px, amplitude

    def draw(self, shape_px: tuple[int, int], n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw one background for each movie."""
        level = draw_level(self.photons, n_movies, generator)
        cells = [math.ceil(n / self.length_px) + 1 for n in shape_px]
        coarse = torch.randn(n_movies, 1, *cells, generator=generator, device=generator.device)
        field = torch.nn.functional.interpolate(coarse, size=shape_px, mode="bicubic", align_corners=True)
        return level[:, None, None, None] * (self.amplitude * field - self.amplitude**2 / 2).exp()
