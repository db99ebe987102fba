"""Brightness evenly spread in photons, or in their logarithm; with or without a typical brightness of each movie."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from ...description import Section
from ..ranges import NotNegative, Positive, uniform
from .base import Molecules, PhotonLaw


class UniformSettings(Section):
    """Settings of a law that is even in photons.

    Args:
        low: least photons.
        high: most photons.
        spread: if given, the range holds for the typical brightness of a movie, and the molecules of one movie scatter around it by
            this relative standard deviation (log-normal).
    """

    kind: Literal["uniform"] = "uniform"
    low: NotNegative
    high: Positive
    spread: Positive | None = None

    @model_validator(mode="after")
    def _in_order(self) -> UniformSettings:
        if self.low > self.high:
            raise ValueError(f"photons must run from low to high (found {self.low:g} .. {self.high:g})")
        return self

    def build(self) -> EvenLaw:
        """Make the law."""
        return EvenLaw(self.low, self.high, self.spread, is_log=False)


class LogUniformSettings(Section):
    """Settings of a law that is even in the logarithm of photons.

    Args:
        low: least photons, above 0.
        high: most photons.
        spread: as for the even law.
    """

    kind: Literal["log_uniform"] = "log_uniform"
    low: Positive
    high: Positive
    spread: Positive | None = None

    @model_validator(mode="after")
    def _in_order(self) -> LogUniformSettings:
        if self.low > self.high:
            raise ValueError(f"photons must run from low to high (found {self.low:g} .. {self.high:g})")
        return self

    def build(self) -> EvenLaw:
        """Make the law."""
        return EvenLaw(self.low, self.high, self.spread, is_log=True)


class EvenLaw(PhotonLaw):
    """Numbers even between low and high, in photons or in their logarithm; optionally as the typical brightness of movies."""

    def __init__(self, low: float, high: float, spread: float | None, is_log: bool) -> None:
        self.low, self.high, self.is_log = low, high, is_log
        self.log_sd = math.sqrt(math.log1p(spread**2)) if spread else 0.0

    def draw(self, molecules: Molecules, generator: torch.Generator) -> Tensor:
        """Draw the brightness of each molecule."""
        if self.log_sd == 0:
            return self._even(uniform(len(molecules), generator))
        typical = self._even(uniform(molecules.n_movies, generator))
        z = torch.randn(len(molecules), generator=generator, device=generator.device)
        return typical[molecules.movie] * (self.log_sd * z - self.log_sd**2 / 2).exp()

    def log_prob(self, photons: Tensor) -> Tensor:
        """Give the log-density; with a spread as a mean over 64 typical brightnesses."""
        if self.log_sd == 0:
            inside = (photons >= self.low) & (photons <= self.high)
            return torch.where(inside, self._log_even(photons), -math.inf)
        typical = self._even((torch.arange(64, device=photons.device) + 0.5) / 64)
        log_photons = photons.clamp(min=1e-6).log().unsqueeze(-1)
        z = (log_photons - typical.log() + self.log_sd**2 / 2) / self.log_sd
        log_density = -0.5 * z.square() - math.log(self.log_sd * math.sqrt(2 * math.pi)) - log_photons
        return torch.where(photons > 0, torch.logsumexp(log_density, -1) - math.log(64), -math.inf)

    def _even(self, u: Tensor) -> Tensor:
        if self.is_log:
            return (math.log(self.low) + math.log(self.high / self.low) * u).exp()
        return self.low + (self.high - self.low) * u

    def _log_even(self, photons: Tensor) -> Tensor:
        width = math.log(self.high / self.low) if self.is_log else self.high - self.low
        constant = torch.full_like(photons, -math.log(max(width, 1e-6)))
        return constant - photons.clamp(min=1e-6).log() if self.is_log else constant
