"""Normal brightness, cut off at zero."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Positive
from .base import Molecules, PhotonLaw


class NormalSettings(Section):
    """Settings of a normal law above zero.

    Args:
        mean: photons, before the cut.
        sd: standard deviation in photons, before the cut.
    """

    kind: Literal["normal"] = "normal"
    mean: Positive
    sd: Positive

    def build(self) -> Normal:
        """Make the law."""
        return Normal(self.mean, self.sd)


class Normal(PhotonLaw):
    """Normal numbers above zero, by the inverse of the distribution function."""

    def __init__(self, mean: float, sd: float) -> None:
        self.mean, self.sd = mean, sd
        self.below_zero = 0.5 * math.erfc(mean / sd / math.sqrt(2))

    def draw(self, molecules: Molecules, generator: torch.Generator) -> Tensor:
        """Draw the brightness of each molecule."""
        u = torch.rand(len(molecules), generator=generator, device=generator.device, dtype=torch.float64)
        z = torch.special.ndtri((self.below_zero + (1 - self.below_zero) * u).clamp(1e-12, 1 - 1e-12))
        return (self.mean + self.sd * z).clamp(min=0).float()

    def log_prob(self, photons: Tensor) -> Tensor:
        """Give the log-density."""
        scaled = (photons - self.mean) / self.sd
        log_density = -0.5 * scaled.square() - math.log(self.sd * math.sqrt(2 * math.pi) * (1 - self.below_zero))
        return torch.where(photons > 0, log_density, -math.inf)
