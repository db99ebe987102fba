"""Gamma camera: one differentiable gamma law with a learnable scale, in place of shot noise, multiplication and read noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from . import draws
from .base import Camera, CameraSettings, above_zero

SMALL = 1e-3
"""Smallest expected photons that the law is evaluated at."""


class GammaSettings(CameraSettings):
    """Settings of the gamma camera.

    Args:
        eta: scale of the gamma law in photons at the start: its variance per photon (1 like shot noise, 2 like an EMCCD).
        counts_per_photon: counts that one photon adds; leave at 1 for movies in photons.
        offset_counts: level at zero light; leave at 0 for movies in photons.
    """

    kind: Literal["gamma"] = "gamma"
    eta: Annotated[float, above_zero("it is the variance per photon")] = Field(2.0, examples=[1.5])
    counts_per_photon: Annotated[float, above_zero()] = Field(1.0, examples=[2.0])
    offset_counts: float = Field(0.0, examples=[10.0])

    def build(self) -> Gamma:
        """Make the camera."""
        return Gamma(self)


class Gamma(Camera):
    """Draw ``Gamma(shape = p / eta, scale = eta)`` photons; the logarithm of eta is a parameter that training can move.

    Draws and densities are differentiable in the photons and in eta; the counts are continuous numbers.

    Source: Speiser, Turaga, Macke 2019, Teaching deep neural networks to localize sources in super-resolution microscopy, eq. 3.
    """

    def __init__(self, settings: GammaSettings) -> None:
        super().__init__()
        self.settings = settings
        self.log_eta = torch.nn.Parameter(torch.tensor(math.log(settings.eta)))

    @property
    def eta(self) -> Tensor:
        """Scale of the gamma law in photons, ()."""
        return self.log_eta.exp()

    @property
    def counts_per_photon(self) -> float:
        """Mean counts that one photon adds."""
        return self.settings.counts_per_photon

    @property
    def excess(self) -> Tensor:
        """Eta."""
        return self.eta

    def sample(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts; differentiable in photons and eta where gradients are asked for."""
        drawn = draws.gamma(photons.clamp(min=SMALL) / self.eta, generator) * self.eta
        return drawn * self.settings.counts_per_photon + self.settings.offset_counts

    def to_photons(self, counts: Tensor) -> Tensor:
        """Give ``(counts - offset) / counts_per_photon``."""
        return (counts - self.settings.offset_counts) / self.settings.counts_per_photon

    def noise_variance(self, shape: Sequence[int]) -> Tensor:
        """Give zeros: all noise of this law grows with the light."""
        return self._filled(shape, 0.0)

    def log_prob(self, counts: Tensor, photons: Tensor) -> Tensor:
        """Give the gamma log-density per count; counts less than half a count above the offset are read as half a count."""
        found = self.to_photons(counts).clamp(min=0.5 / self.settings.counts_per_photon)
        shape = photons.clamp(min=SMALL) / self.eta
        scaled = found / self.eta
        log_density = (shape - 1) * scaled.log() - scaled - torch.lgamma(shape) - self.log_eta
        return log_density - math.log(self.settings.counts_per_photon)
