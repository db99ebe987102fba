"""sCMOS: shot noise and read noise, with one number for all pixels or with maps of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ..description import Array
from ..errors import CameraError
from . import density, draws
from .base import MAX_COUNTS, PER_COUNT, Camera, CameraSettings, above_zero, at_least_zero, efficiency

_NUMBERS = ("offset_counts", "electrons_per_count", "read_noise_electrons")
_MAPS = ("map 0, offset in counts,", "map 1, electrons per count,", "map 2, variance in counts^2,")


class SCMOSSettings(CameraSettings):
    """Settings of an sCMOS camera: three numbers, or maps of them.

    Args:
        offset_counts: mean of dark frames.
        electrons_per_count: conversion.
        read_noise_electrons: standard deviation.
        pixel_maps: (3, h, w) of offset (counts), electrons per count and variance (counts^2), in place of the three numbers.
        quantum_efficiency: fraction of photons that become electrons; leave at 1 to speak of detected photons.
    """

    kind: Literal["scmos"] = "scmos"
    offset_counts: Annotated[float, at_least_zero("it is the level of a dark frame")] | None = Field(None, examples=[100.0])
    electrons_per_count: Annotated[float, above_zero(PER_COUNT)] | None = Field(None, examples=[0.5])
    read_noise_electrons: Annotated[float, at_least_zero()] | None = Field(None, examples=[1.5])
    pixel_maps: Array | None = None
    quantum_efficiency: Annotated[float, efficiency()] = Field(1.0, examples=[0.8])

    @field_validator("pixel_maps")
    @classmethod
    def _maps_are_possible(cls, maps: Array | None) -> Array | None:
        if maps is None:
            return maps
        if maps.ndim != 3 or maps.shape[0] != 3:
            raise ValueError(f"must have the shape (3, rows, columns): offset, electrons per count, variance; found {maps.shape}")
        if 0 in maps.shape:
            raise ValueError(f"holds no pixels (shape {maps.shape}); give maps of the sensor, in rows and columns")
        for values, name in zip(maps, _MAPS, strict=True):
            _refuse_pixels(~np.isfinite(values), values, name, "finite")
        _refuse_pixels(maps[1] <= 0, maps[1], _MAPS[1], "above 0")
        _refuse_pixels(maps[2] < 0, maps[2], _MAPS[2], "at or above 0")
        return maps

    @model_validator(mode="after")
    def _numbers_or_maps(self) -> SCMOSSettings:
        given = [name for name in _NUMBERS if getattr(self, name) is not None]
        if self.pixel_maps is not None and given:
            raise ValueError(
                f"an sCMOS camera takes pixel_maps or numbers, found pixel_maps and {', '.join(given)}; drop one of them"
            )
        if self.pixel_maps is None and len(given) < len(_NUMBERS):
            missing = ", ".join(name for name in _NUMBERS if name not in given)
            raise ValueError(f"an sCMOS camera needs {missing} (or pixel_maps in place of the three numbers)")
        return self

    def build(self) -> SCMOS:
        """Make the camera."""
        if self.pixel_maps is not None:
            offset, conversion, variance = torch.from_numpy(self.pixel_maps.copy()).unbind()
            return SCMOS(offset, conversion, variance, self.quantum_efficiency)
        assert self.offset_counts is not None
        assert self.electrons_per_count is not None
        assert self.read_noise_electrons is not None
        counts_squared = (self.read_noise_electrons / self.electrons_per_count) ** 2
        numbers = torch.tensor([self.offset_counts, self.electrons_per_count, counts_squared])
        return SCMOS(numbers[0], numbers[1], numbers[2], self.quantum_efficiency)


def _refuse_pixels(wrong: np.ndarray, values: np.ndarray, name: str, expected: str) -> None:
    """Refuse a map of ``values`` (rows, columns) if any pixel is marked as wrong."""
    if not wrong.any():
        return
    row, column = np.argwhere(wrong)[0]
    found = f"{int(wrong.sum())} of {wrong.size} pixels are not (row {row}, column {column} is {values[row, column]:g})"
    mend = "calibrate these pixels again or give them the median of their neighbours"
    raise ValueError(f"{name} must be {expected} everywhere; {found}; {mend}")


class SCMOS(Camera):
    """Draw ``round(Poisson(q p) / k + Normal(offset, sqrt(variance)))``, clipped to 16 bits.

    Args:
        offset: () or (h, w), counts.
        electrons_per_count: () or (h, w).
        variance: () or (h, w), read noise in counts^2.
        quantum_efficiency: fraction of photons that become electrons.
    """

    offset: Tensor
    electrons_per_count: Tensor
    variance: Tensor

    def __init__(self, offset: Tensor, electrons_per_count: Tensor, variance: Tensor, quantum_efficiency: float) -> None:
        super().__init__()
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("electrons_per_count", electrons_per_count, persistent=False)
        self.register_buffer("variance", variance, persistent=False)
        self.quantum_efficiency = quantum_efficiency

    @property
    def counts_per_photon(self) -> Tensor:
        """Mean counts that one photon adds, () or (h, w)."""
        return self.quantum_efficiency / self.electrons_per_count

    @property
    def excess(self) -> float:
        """1 / quantum efficiency."""
        return 1 / self.quantum_efficiency

    @torch.no_grad()
    def sample(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts; with maps, the frames must have their size (see `random_crop`)."""
        self._check(photons.shape)
        electrons = draws.poisson((photons * self.quantum_efficiency).clamp_(min=0), generator)
        noise = draws.normal_like(electrons, generator).mul_(self.variance.sqrt())
        return electrons.div_(self.electrons_per_count).add_(noise).add_(self.offset).round_().clamp_(0, MAX_COUNTS)

    def to_photons(self, counts: Tensor) -> Tensor:
        """Give ``(counts - offset) k / q``."""
        self._check(counts.shape)
        return (counts - self.offset) * (self.electrons_per_count / self.quantum_efficiency)

    def noise_variance(self, shape: Sequence[int]) -> Tensor:
        """Give read noise and digitisation in photons^2."""
        self._check(shape)
        photons_per_count = self.electrons_per_count / self.quantum_efficiency
        return ((self.variance + 1 / 12) * photons_per_count**2).expand(tuple(shape))

    def log_prob(self, counts: Tensor, photons: Tensor) -> Tensor:
        """Give the log-density of each count by the Poisson law shifted by the read noise (`density.shifted_poisson`)."""
        self._check(counts.shape)
        electrons = (counts - self.offset) * self.electrons_per_count
        variance = (self.variance + 1 / 12) * self.electrons_per_count**2
        mean = (photons * self.quantum_efficiency).clamp(min=0)
        return density.shifted_poisson(electrons, mean, variance) + self.electrons_per_count.log()

    def crop(self, y0: int, x0: int, height: int, width: int) -> SCMOS:
        """Give the camera of a region of the maps."""
        if self.offset.ndim == 0:
            return self
        rows, columns = self.offset.shape
        if y0 < 0 or x0 < 0 or y0 + height > rows or x0 + width > columns:
            wanted = f"y0,x0,height,width = {y0},{x0},{height},{width}"
            raise CameraError(
                f"region {wanted} px is not inside the camera's maps of {rows} x {columns} px; give maps of the whole field"
            )
        region = (slice(y0, y0 + height), slice(x0, x0 + width))
        return SCMOS(self.offset[region], self.electrons_per_count[region], self.variance[region], self.quantum_efficiency)

    def random_crop(self, shape: Sequence[int], generator: torch.Generator) -> SCMOS:
        """Give the camera of a random region of the size that ends ``shape``; use it for `sample` and `to_photons` alike."""
        if self.offset.ndim == 0:
            return self
        corner = []
        for have, want in zip(self.offset.shape, shape[-2:], strict=True):
            room = max(have - want, 0) + 1
            corner.append(int(torch.randint(room, (), generator=generator, device=generator.device)))
        return self.crop(corner[0], corner[1], shape[-2], shape[-1])

    def _check(self, shape: Sequence[int]) -> None:
        if self.offset.ndim and tuple(shape[-2:]) != tuple(self.offset.shape):
            have, want = ("x".join(map(str, s)) for s in (self.offset.shape, shape[-2:]))
            raise CameraError(
                f"the camera's maps have {have} px, the frames {want} px; take the camera's crop of the frames' region"
            )
