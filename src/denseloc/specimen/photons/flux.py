"""Flux: one dye under a light that is not even over the field."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Level, OrderedRange, PositiveLevel, draw_level, high, low, uniform
from .base import Molecules, PhotonLaw


class FluxSettings(Section):
    """Settings of a flux.

    Args:
        photons: photons of a molecule that is on for the whole frame, or (low, high), drawn evenly in the logarithm for each movie.
        relative: (low, high) even factor of each molecule.
        is_uneven: whether the light falls off from the middle of the field as in the reference evaluation.
    """

    kind: Literal["flux"] = "flux"
    photons: PositiveLevel
    relative: OrderedRange = (1.0, 1.0)
    is_uneven: bool = False

    def build(self) -> Flux:
        """Make the law."""
        return Flux(self.photons, self.relative, self.is_uneven)


class Flux(PhotonLaw):
    """Photons times a relative factor times the light at the molecule's place, A / mean(A).

    ``A = 1 - 1 / (1 + exp(-s (d - m)))``, ``s = ln 3 / (0.15 L)``, with d the distance from a centre displaced by up to 0.1 L,
    m = 0.55 L within 2.5 % for each molecule, and L the side of the field.

    Source: Sage et al. 2019, Super-resolution fight club (simulation of the challenge).
    """

    def __init__(self, photons: Level, relative: tuple[float, float], is_uneven: bool) -> None:
        self.photons, self.relative, self.is_uneven = photons, relative, is_uneven

    def draw(self, molecules: Molecules, generator: torch.Generator) -> Tensor:
        """Draw the brightness of each molecule."""
        typical = draw_level(self.photons, molecules.n_movies, generator)
        brightness = typical[molecules.movie] * uniform(len(molecules), generator, *self.relative)
        return brightness * self._light(molecules, generator) if self.is_uneven else brightness

    def _light(self, molecules: Molecules, generator: torch.Generator) -> Tensor:
        device = generator.device
        height, width = molecules.volume.grid.size_nm
        side = max(height, width)
        u = torch.rand(2, molecules.n_movies, generator=generator, device=device) * 2 - 1
        centre_x, centre_y = width / 2 + 0.1 * side * u[0], height / 2 + 0.1 * side * u[1]
        distance = torch.hypot(molecules.x_nm - centre_x[molecules.movie], molecules.y_nm - centre_y[molecules.movie])
        middle = 0.55 * (1 + 0.05 * (uniform(len(molecules), generator) - 0.5))
        at = (torch.arange(16, device=device) + 0.5) / 16
        away_x = width * at - centre_x[:, None, None]
        away_y = (height * at)[:, None] - centre_y[:, None, None]
        raster = torch.hypot(away_x, away_y)
        mean = _fall_off(raster / side, torch.tensor(0.55, device=device)).mean((1, 2))
        return _fall_off(distance / side, middle) / mean[molecules.movie]

    def log_prob(self, photons: Tensor) -> Tensor:
        """Give the log-density of a law even in the logarithm over all that can occur (the light taken as 0.02 .. 2)."""
        light = (0.02, 2.0) if self.is_uneven else (1.0, 1.0)
        least = max(low(self.photons) * self.relative[0] * light[0], 1e-3)
        most = high(self.photons) * self.relative[1] * light[1]
        if most < 1.05 * least:
            least, most = least / 1.05, most * 1.05
        inside = (photons >= least) & (photons <= most)
        log_density = -photons.clamp(min=1e-6).log() - math.log(math.log(most / least))
        return torch.where(inside, log_density, -math.inf)


def _fall_off(distance: Tensor, middle: Tensor) -> Tensor:
    """Give the light at a distance; both as parts of the field's side."""
    return torch.sigmoid(-math.log(3) / 0.15 * (distance - middle))
