"""EMCCD: shot noise, electron multiplication, read noise, digitisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from . import density, draws
from .base import MAX_COUNTS, PER_COUNT, Camera, CameraSettings, above_zero, at_least_zero, efficiency


def _gain(value: float) -> float:
    if value < 1:
        raise ValueError("must be at least 1; it is electrons out per electron in, and 1 means that multiplication is off")
    return value


class EMCCDSettings(CameraSettings):
    """Settings of an EMCCD as its data sheet gives them.

    Args:
        offset_counts: level that the camera adds before rounding down.
        electrons_per_count: conversion after multiplication.
        em_gain: mean multiplication; 1 means off (then there is no excess noise).
        quantum_efficiency: fraction of photons that become electrons; leave at 1 to speak of detected photons.
        spurious_electrons: clock-induced charge per pixel and frame, before multiplication.
        read_noise_electrons: standard deviation after multiplication.
    """

    kind: Literal["emccd"] = "emccd"
    offset_counts: Annotated[float, at_least_zero("it is the level of a dark frame")] = Field(examples=[100.0])
    electrons_per_count: Annotated[float, above_zero(PER_COUNT)] = Field(examples=[20.0])
    em_gain: Annotated[float, AfterValidator(_gain)] = Field(examples=[200.0])
    quantum_efficiency: Annotated[float, efficiency()] = Field(1.0, examples=[0.9])
    spurious_electrons: Annotated[float, at_least_zero()] = 0.002
    read_noise_electrons: Annotated[float, at_least_zero()] = Field(0.0, examples=[60.0])

    def build(self) -> EMCCD:
        """Make the camera."""
        return EMCCD(self)


class EMCCD(Camera):
    """Draw ``floor((Gamma(Poisson(q p + c), g) + Normal(0, r)) / k + offset)``, clipped to 16 bits.

    With q the quantum efficiency, p photons, c spurious electrons, g gain, r read noise, k electrons per count. Rounding down puts
    the mean half a count below the straight line, as it does in the reference evaluation; `to_photons` follows the line.

    Source: Sage et al. 2019, Super-resolution fight club (camera of the challenge).
    """

    def __init__(self, settings: EMCCDSettings) -> None:
        super().__init__()
        self.settings = settings
        self.multiplies = settings.em_gain > 1
        self.photons_per_count = settings.electrons_per_count / settings.em_gain / settings.quantum_efficiency

    @property
    def counts_per_photon(self) -> float:
        """Mean counts that one photon adds."""
        return 1 / self.photons_per_count

    @property
    def excess(self) -> float:
        """2 / quantum efficiency, or 1 / quantum efficiency where multiplication is off."""
        return (2.0 if self.multiplies else 1.0) / self.settings.quantum_efficiency

    @torch.no_grad()
    def sample(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts."""
        s = self.settings
        mean = (photons * s.quantum_efficiency).clamp_(min=0).add_(s.spurious_electrons)
        value = draws.multiplied(mean, generator) if self.multiplies else draws.poisson(mean, generator)
        value.mul_(s.em_gain / s.electrons_per_count).add_(s.offset_counts)
        if s.read_noise_electrons > 0:
            value.add_(draws.normal_like(value, generator), alpha=s.read_noise_electrons / s.electrons_per_count)
        return value.floor_().clamp_(0, MAX_COUNTS)

    def to_photons(self, counts: Tensor) -> Tensor:
        """Give ``(counts - offset) k / (g q)``."""
        return (counts - self.settings.offset_counts) * self.photons_per_count

    def noise_variance(self, shape: Sequence[int]) -> Tensor:
        """Give read noise, digitisation and spurious charge in photons^2."""
        s = self.settings
        read = s.read_noise_electrons / s.electrons_per_count * self.photons_per_count
        spurious = self.excess * s.spurious_electrons / s.quantum_efficiency
        return self._filled(shape, read**2 + self.photons_per_count**2 / 12 + spurious)

    def log_prob(self, counts: Tensor, photons: Tensor) -> Tensor:
        """Give the log-probability of each count (clipping apart).

        Electrons after multiplication (`density.multiplied`) convolved with read noise and digitisation, plus the charge of exactly
        zero, which read noise alone spreads over the counts around the offset. Where multiplication is off: the shifted Poisson
        law.
        """
        s = self.settings
        mean = (photons * s.quantum_efficiency).clamp(min=0) + s.spurious_electrons
        middle = (counts + 0.5 - s.offset_counts) * s.electrons_per_count
        smoothing = math.hypot(s.read_noise_electrons, s.electrons_per_count / math.sqrt(12))
        if not self.multiplies:
            return density.shifted_poisson(middle, mean, smoothing**2) + math.log(s.electrons_per_count)
        charged = density.multiplied_with_noise(middle / s.em_gain, mean, smoothing / s.em_gain)
        charged = charged + math.log(s.electrons_per_count / s.em_gain)
        return torch.logaddexp(charged, self._log_zero_charge(middle) - mean)

    def _log_zero_charge(self, middle: Tensor) -> Tensor:
        """Give the log-probability that read noise alone falls into the count around ``middle`` (electrons)."""
        half = self.settings.electrons_per_count / 2
        noise = max(self.settings.read_noise_electrons, 1e-3 * half)
        scale = noise * math.sqrt(2)
        distance = middle.abs()
        inside = 0.5 * (torch.erfc((distance - half) / scale) - torch.erfc((distance + half) / scale))
        return inside.clamp(min=1e-30).log()
