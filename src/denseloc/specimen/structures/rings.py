"""Rings: nuclear pores, two rings of eight corners each."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import NotNegative, Positive
from ..volume import Volume
from .base import Structure


class RingsSettings(Section):
    """Settings of nuclear pores.

    Args:
        radius_nm: radius of the rings.
        spacing_nm: distance of the two rings.
        corners: labelled places on a ring.
        pores_per_um2: pores per area.
        tilt_degrees: largest tilt of a pore's axis.
        label_nm: standard deviation of a label around its corner, per axis.
    """

    kind: Literal["rings"] = "rings"
    radius_nm: Positive = 55.0
    spacing_nm: NotNegative = 50.0
    corners: int = 8
    pores_per_um2: Positive = 5.0
    tilt_degrees: NotNegative = 20.0
    label_nm: NotNegative = 3.0

    def build(self, volume: Volume) -> Rings:
        """Make the structure."""
        return Rings(self, volume)


class Rings(Structure):
    """Places at the corners of pores, which lie anywhere, turned and tilted.

    Pores that reach over the edge of the volume go on at the opposite edge.
    """

    def __init__(self, settings: RingsSettings, volume: Volume) -> None:
        self.settings = settings
        self.volume = volume
        self.inside_fraction = volume.inside_fraction

    def places(self, movie: Tensor, n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw a place for each molecule."""
        s, n, device = self.settings, len(movie), generator.device
        per_movie = max(1, round(s.pores_per_um2 * self.volume.area_um2))
        centres = self.volume.uniform(n_movies * per_movie, generator)
        turns = torch.rand(3, n_movies * per_movie, generator=generator, device=device)
        u = torch.rand(3, n, generator=generator, device=device)
        pore = movie * per_movie + (u[0] * per_movie).long()
        angle = 2 * math.pi * ((u[1] * s.corners).floor() / s.corners + turns[0, pore])
        x, y = s.radius_nm * angle.cos(), s.radius_nm * angle.sin()
        z = s.spacing_nm * ((u[2] < 0.5).float() - 0.5)
        tilt, azimuth = math.radians(s.tilt_degrees) * turns[1, pore], 2 * math.pi * turns[2, pore]
        x, z = x * tilt.cos() + z * tilt.sin(), z * tilt.cos() - x * tilt.sin()
        x, y = x * azimuth.cos() - y * azimuth.sin(), x * azimuth.sin() + y * azimuth.cos()
        jitter = s.label_nm * torch.randn(3, n, generator=generator, device=device)
        return self.volume.wrap(centres[:, pore] + torch.stack([x, y, z]) + jitter)
