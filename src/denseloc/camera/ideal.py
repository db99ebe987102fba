"""Ideal camera: shot noise alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from . import density, draws
from .base import Camera, CameraSettings


class IdealSettings(CameraSettings):
    """Settings of a camera that counts photons: there are none."""

    kind: Literal["ideal"] = "ideal"

    def build(self) -> Ideal:
        """Make the camera."""
        return Ideal()


class Ideal(Camera):
    """Count photons: ``Poisson(p)``, one count a photon, no offset."""

    @property
    def counts_per_photon(self) -> float:
        """1."""
        return 1.0

    @property
    def excess(self) -> float:
        """1."""
        return 1.0

    @torch.no_grad()
    def sample(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts."""
        return draws.poisson(photons.clamp(min=0), generator)

    def to_photons(self, counts: Tensor) -> Tensor:
        """Give the counts themselves."""
        return counts

    def noise_variance(self, shape: Sequence[int]) -> Tensor:
        """Give zeros."""
        return self._filled(shape, 0.0)

    def log_prob(self, counts: Tensor, photons: Tensor) -> Tensor:
        """Give the Poisson log-probability."""
        return density.shifted_poisson(counts, photons, 0.0)
