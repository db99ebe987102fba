"""Various cameras: every movie has a camera of its own, so that one trained model serves many microscopes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from ..description import Range, ordered
from . import draws
from .base import Camera, CameraSettings


def _positive_range(value: Range) -> Range:
    if value[0] <= 0:
        raise ValueError("must be above 0 at both ends; it is drawn evenly in its logarithm")
    return ordered(value, "it")


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("must be between 0 and 1")
    return value


LogRange = Annotated[Range, AfterValidator(_positive_range)]


class VariousSettings(CameraSettings):
    """Settings of the cameras that movies are given; all ranges are drawn evenly in the logarithm.

    Args:
        em_fraction: fraction of movies with electron multiplication.
        read_noise_electrons: (low, high) without multiplication.
        em_read_noise_electrons: (low, high) with multiplication, divided by the gain.
        electrons_per_count: (low, high) step of digitisation in detected photons.
    """

    kind: Literal["various"] = "various"
    em_fraction: Annotated[float, AfterValidator(_fraction)] = 0.5
    read_noise_electrons: LogRange = (0.7, 3.0)
    em_read_noise_electrons: LogRange = (0.05, 0.5)
    electrons_per_count: LogRange = (0.1, 0.6)

    def build(self) -> Various:
        """Make the camera."""
        return Various(self)


@dataclass(frozen=True)
class CameraDraw:
    """The cameras of n movies.

    Args:
        excess: (n,) variance per photon: 2 with multiplication, else 1.
        read_noise: (n,) standard deviation in photons.
        photons_per_count: (n,) step of digitisation.
    """

    excess: Tensor
    read_noise: Tensor
    photons_per_count: Tensor

    def noise_variance(self) -> Tensor:
        """Give the (n,) variance at zero light in photons^2."""
        return self.read_noise**2 + self.photons_per_count**2 / 12


class Various(Camera):
    """Draw frames in photons from many cameras: shot noise (with multiplication or without), read noise, digitisation.

    "Counts" of this camera are photons already, without offset; `to_photons` gives them back.
    """

    def __init__(self, settings: VariousSettings) -> None:
        super().__init__()
        self.settings = settings

    @property
    def counts_per_photon(self) -> float:
        """1."""
        return 1.0

    @property
    def excess(self) -> float:
        """Mean over the cameras."""
        return 1.0 + self.settings.em_fraction

    def draw(self, n_movies: int, generator: torch.Generator) -> CameraDraw:
        """Draw one camera for each movie."""
        u = torch.rand(3, n_movies, generator=generator, device=generator.device)
        multiplies = u[0] < self.settings.em_fraction
        plain = _log_uniform(u[1], self.settings.read_noise_electrons)
        multiplied = _log_uniform(u[1], self.settings.em_read_noise_electrons)
        return CameraDraw(
            excess=torch.where(multiplies, 2.0, 1.0),
            read_noise=torch.where(multiplies, multiplied, plain),
            photons_per_count=_log_uniform(u[2], self.settings.electrons_per_count),
        )

    @torch.no_grad()
    def sample_with(self, photons: Tensor, draw: CameraDraw, generator: torch.Generator) -> Tensor:
        """Draw frames (n_movies * n_frames, ...) with the cameras of ``draw``; frames of one movie stand together."""
        n_movies = len(draw.excess)
        by_movie = photons.clamp(min=0).reshape(n_movies, -1)
        multiplies = draw.excess > 1
        value = torch.empty_like(by_movie)
        value[multiplies] = draws.multiplied(by_movie[multiplies], generator)
        value[~multiplies] = draws.poisson(by_movie[~multiplies], generator)
        step = draw.photons_per_count[:, None]
        value.addcmul_(draws.normal_like(value, generator), draw.read_noise[:, None].to(value.dtype))
        return value.div_(step).round_().mul_(step).reshape(photons.shape)

    def sample(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """Draw frames of one movie, with a camera drawn for it."""
        return self.sample_with(photons, self.draw(1, generator), generator)

    def to_photons(self, counts: Tensor) -> Tensor:
        """Give the values themselves: they are photons."""
        return counts

    def noise_variance(self, shape: Sequence[int]) -> Tensor:
        """Give the variance at zero light of the middle camera: geometric means of the ranges, weighted by the fraction."""
        s = self.settings
        read = s.em_fraction * math.prod(s.em_read_noise_electrons) + (1 - s.em_fraction) * math.prod(s.read_noise_electrons)
        return self._filled(shape, read + math.prod(s.electrons_per_count) / 12)

    def log_prob(self, counts: Tensor, photons: Tensor) -> Tensor:
        """Give the normal log-density of the middle camera: mean p, variance ``excess p + noise_variance``."""
        variance = self.excess * photons.clamp(min=0) + float(self.noise_variance(()))
        return -0.5 * ((counts - photons).square() / variance + (2 * math.pi * variance).log())


def _log_uniform(u: Tensor, limits: Range) -> Tensor:
    low, high = math.log(limits[0]), math.log(limits[1])
    return (low + (high - low) * u).exp()
