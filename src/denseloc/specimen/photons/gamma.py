"""Gamma brightness: always positive, skewed to bright molecules."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Positive
from .base import Molecules, PhotonLaw


class GammaSettings(Section):
    """Settings of a gamma law.

    Args:
        mean: photons.
        sd: standard deviation in photons.
    """

    kind: Literal["gamma"] = "gamma"
    mean: Positive
    sd: Positive

    def build(self) -> Gamma:
        """Make the law."""
        return Gamma(self.mean, self.sd)


class Gamma(PhotonLaw):
    """Gamma numbers of shape ``(mean / sd)^2`` and scale ``sd^2 / mean``."""

    def __init__(self, mean: float, sd: float) -> None:
        self.shape, self.scale = (mean / sd) ** 2, sd**2 / mean

    def draw(self, molecules: Molecules, generator: torch.Generator) -> Tensor:
        """Draw the brightness of each molecule."""
        shape = torch.full((len(molecules),), self.shape, device=generator.device)
        return torch._standard_gamma(shape, generator=generator) * self.scale

    def log_prob(self, photons: Tensor) -> Tensor:
        """Give the log-density."""
        scaled = photons.clamp(min=1e-6) / self.scale
        log_density = (self.shape - 1) * scaled.log() - scaled - math.lgamma(self.shape) - math.log(self.scale)
        return torch.where(photons > 0, log_density, -math.inf)
