"""No structure: molecules anywhere in the volume."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..volume import Volume
from .base import Structure


class UniformSettings(Section):
    """Settings of molecules anywhere: there are none."""

    kind: Literal["uniform"] = "uniform"

    def build(self, volume: Volume) -> Uniform:
        """Make the structure."""
        return Uniform(volume)


class Uniform(Structure):
    """Places evenly over the volume."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.inside_fraction = volume.inside_fraction

    def places(self, movie: Tensor, n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw a place for each molecule."""
        return self.volume.uniform(len(movie), generator)
