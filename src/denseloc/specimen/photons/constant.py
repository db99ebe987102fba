"""All molecules equally bright."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Positive
from .base import Molecules, PhotonLaw


class ConstantSettings(Section):
    """Settings of one brightness.

    Args:
        photons: photons of each molecule in a frame in which it is on all the time.
    """

    kind: Literal["constant"] = "constant"
    photons: Positive

    def build(self) -> Constant:
        """Make the law."""
        return Constant(self.photons)


class Constant(PhotonLaw):
    """One number; its density is given the width of shot noise, so that near values compare."""

    def __init__(self, photons: float) -> None:
        self.photons = photons

    def draw(self, molecules: Molecules, generator: torch.Generator) -> Tensor:
        """Give the number to each molecule."""
        return torch.full((len(molecules),), self.photons, device=generator.device)

    def log_prob(self, photons: Tensor) -> Tensor:
        """Give a normal log-density of variance ``photons`` around the number."""
        return -0.5 * ((photons - self.photons).square() / self.photons + math.log(2 * math.pi * self.photons))
