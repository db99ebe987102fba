"""Filaments: labelled tubes around smooth random centre lines, like microtubules."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from ...description import Section
from ..ranges import Fraction, NotNegative
from ..volume import Volume
from .base import Structure

_NODES = 64
"""Points along a centre line."""


def _count(value: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= value[0] <= value[1]:
        raise ValueError("must run from at least 1 to a number not below it")
    return value


class FilamentsSettings(Section):
    """Settings of filaments.

    Args:
        radius_nm: radius of the tube to the middle of its wall.
        thickness_nm: thickness of the wall.
        count: (least, most) filaments in one movie.
        bending_per_um: typical change of direction along the line, radian per um.
        fraction: part of the movies that are structured; the others have molecules anywhere.
    """

    kind: Literal["filaments"] = "filaments"
    radius_nm: NotNegative = 12.0
    thickness_nm: NotNegative = 6.0
    count: Annotated[tuple[int, int], AfterValidator(_count)] = (1, 4)
    bending_per_um: NotNegative = 0.5
    fraction: Fraction = 1.0

    def build(self, volume: Volume) -> Filaments:
        """Make the structure."""
        return Filaments(self, volume)


class Filaments(Structure):
    """Places evenly over the walls of tubes.

    A centre line starts anywhere with any direction; its direction wanders smoothly, its height follows a slow wave within the z
    range. Lines that leave the volume enter again at the opposite edge, so that every place of the field is equally likely over
    many movies.
    """

    def __init__(self, settings: FilamentsSettings, volume: Volume) -> None:
        self.settings = settings
        self.volume = volume
        self.inside_fraction = volume.inside_fraction

    def places(self, movie: Tensor, n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw a place for each molecule."""
        s, n, device = self.settings, len(movie), generator.device
        nodes = self._centre_lines(n_movies * s.count[1], generator)
        counts = torch.randint(s.count[0], s.count[1] + 1, (n_movies,), generator=generator, device=device)
        u = torch.rand(4, n, generator=generator, device=device)
        line = movie * s.count[1] + (u[0] * counts[movie]).long()
        along = u[1] * (_NODES - 1)
        first = along.long().clamp(max=_NODES - 2)
        start, stop = nodes[:, line, first], nodes[:, line, first + 1]
        centre = torch.lerp(start, stop, along - first)
        normal, binormal = _across(stop - start)
        radius = s.radius_nm + (u[2] - 0.5) * s.thickness_nm
        angle = 2 * math.pi * u[3]
        placed = self.volume.wrap(centre + radius * (angle.cos() * normal + angle.sin() * binormal))
        if s.fraction == 1:
            return placed
        is_structured = torch.rand(n_movies, generator=generator, device=device) < s.fraction
        return torch.where(is_structured[movie], placed, self.volume.uniform(n, generator))

    def _centre_lines(self, n_lines: int, generator: torch.Generator) -> Tensor:
        """Draw the centre lines, (3, n_lines, nodes) in nm."""
        device = generator.device
        length = 1.5 * math.hypot(*self.volume.size_nm)
        step = length / (_NODES - 1)
        u = torch.rand(6, n_lines, 1, generator=generator, device=device)
        (y0, x0), (height, width) = self.volume.origin_nm, self.volume.size_nm
        wander = torch.randn(4, n_lines, 1, generator=generator, device=device)
        at = torch.linspace(0, 1, _NODES, device=device)
        amplitude = self.settings.bending_per_um * length * 1e-3 / math.pi
        waves = sum(wander[k] / (k + 1) * torch.sin(math.pi * (k + 1) * at + k) for k in range(4))
        direction = 2 * math.pi * u[0] + amplitude / 2 * waves
        x = u[1] * width + x0 + step * torch.cumsum(direction.cos(), -1)
        y = u[2] * height + y0 + step * torch.cumsum(direction.sin(), -1)
        low, high = self.volume.z_nm
        wall = min(self.settings.radius_nm + self.settings.thickness_nm / 2, (high - low) / 2)
        half = (high - low) / 2 - wall
        swing = u[3] * half
        middle = (low + high) / 2 + (2 * u[4] - 1) * (half - swing)
        z = middle + swing * torch.sin(2 * math.pi * (at * (0.5 + u[3]) + u[5]))
        return torch.stack([x, y, z.expand_as(x)])


def _across(tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Give two unit vectors (3, n) at right angles to a tangent (3, n) that is not vertical."""
    tangent = tangent / tangent.norm(dim=0).clamp(min=1e-9)
    flat = tangent[:2].norm(dim=0).clamp(min=1e-9)
    zero = torch.zeros_like(flat)
    normal = torch.stack([-tangent[1] / flat, tangent[0] / flat, zero])
    return normal, torch.linalg.cross(tangent, normal, dim=0)
