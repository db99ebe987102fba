"""What every camera does: counts from photons and back, with a likelihood.

Photons are the expected photons per pixel and frame that reach the sensor; where the quantum efficiency is 1 they are detected
photons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from pydantic import AfterValidator
from torch import Tensor

from ..description import Section

MAX_COUNTS = 65535.0
"""Largest value of a 16-bit camera."""

PER_COUNT = "it is electrons per count, the inverse of counts per electron"


class CameraSettings(Section):
    """What the sections of all cameras share: they make a camera."""

    @abstractmethod
    def build(self) -> Camera:
        """Make the camera."""


class Camera(torch.nn.Module, ABC):
    """Turn expected photons into counts and counts into photons.

    All tensors of pixels may have any shape; where a camera knows its pixels one by one, the last two axes are rows and columns.
    To first and second order ``to_photons(sample(p))`` has mean ``p`` (less half a count where the camera rounds down) and variance
    ``excess * p + noise_variance``.
    """

    _zero: Tensor

    read_noise_assumed: bool = False
    """Whether the read noise is a usual one, because nobody gave it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    @property
    @abstractmethod
    def counts_per_photon(self) -> float | Tensor:
        """Mean counts that one photon adds (number, or (h, w) where pixels differ)."""

    @property
    @abstractmethod
    def excess(self) -> float | Tensor:
        """Variance of `to_photons` per photon: 2 with electron multiplication, else 1, both divided by the quantum efficiency."""

    @abstractmethod
    def sample(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts (float32) for expected photons of the same shape."""

    @abstractmethod
    def to_photons(self, counts: Tensor) -> Tensor:
        """Turn counts into photons; the result scatters around the truth and can be negative."""

    @abstractmethod
    def log_prob(self, counts: Tensor, photons: Tensor) -> Tensor:
        """Give the log-probability of each count, elementwise; differentiable in the expected photons."""

    @abstractmethod
    def noise_variance(self, shape: Sequence[int]) -> Tensor:
        """Give the variance of `to_photons` at zero light (photons^2) in the given shape."""

    def _filled(self, shape: Sequence[int], value: float) -> Tensor:
        """Fill a shape with one number, on the camera's device."""
        return torch.full(tuple(shape), value, device=self._zero.device)

    def crop(self, y0: int, x0: int, height: int, width: int) -> Camera:
        """Give the camera of a region of its sensor; cameras with equal pixels give themselves."""
        return self

    def random_crop(self, shape: Sequence[int], generator: torch.Generator) -> Camera:
        """Give the camera of a random region; the last two numbers of ``shape`` are its rows and columns."""
        return self


def above_zero(meaning: str = "") -> AfterValidator:
    """Make a validator for numbers above zero; ``meaning`` is added to its message."""
    return _bounded(lambda v: v > 0, "must be above 0", meaning)


def at_least_zero(meaning: str = "") -> AfterValidator:
    """Make a validator for numbers at or above zero."""
    return _bounded(lambda v: v >= 0, "must not be negative", meaning)


def efficiency() -> AfterValidator:
    """Make a validator for a quantum efficiency."""
    return _bounded(lambda v: 0 < v <= 1, "must be above 0 and at most 1", "it is the fraction of photons that become electrons")


def _bounded(holds: Callable[[float], bool], rule: str, meaning: str) -> AfterValidator:
    def check(value: float) -> float:
        if not holds(value):
            raise ValueError(rule + (f"; {meaning}" if meaning else ""))
        return value

    return AfterValidator(check)
