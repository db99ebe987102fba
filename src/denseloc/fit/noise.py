"""What the fits take a pixel to be: a Poisson count, also behind a noisy camera.

Photons d of a camera scatter around the expected light mu with variance ``excess mu + v``. In the units

    c = d / excess + v / excess^2,      m = mu / excess + v / excess^2

the mean and the variance of c are both m, and c is taken as Poisson. Without electron multiplication (excess 1) this is the sCMOS likelihood,
in which data and model are moved by the variance of each pixel; with it (excess 2) the light counts half, which is the loss of information
behind an EM register. Negative c are kept in the fits (only ``m - c log m`` is needed), so that dark pixels do not pull the background upwards.

Source: Huang et al., Nature Methods 10 (2013) 653 (sCMOS); Mortensen et al., Nature Methods 7 (2010) 377 (excess noise factor 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

AMPLIFIED_FROM = 1.5
"""Excess from which on an EM register is assumed: a quantum efficiency alone rarely makes as much."""


@dataclass(frozen=True)
class Noise:
    """Noise of `Camera.to_photons`.

    Args:
        excess: variance of the shot noise per photon.
        variance: variance of the camera's own noise in photons^2, one number or broadcastable to the pixels.

    Raises:
        ValueError: an impossible excess.
    """

    excess: float = 1.0
    variance: Tensor | float = 0.0

    def __post_init__(self) -> None:
        if not self.excess > 0:
            raise ValueError(
                f"excess {self.excess}; expected the variance per photon, 1 for an ideal camera and 2 behind an EM register"
            )

    @property
    def gain(self) -> float:
        """Mean counts per photon."""
        return 1 / self.excess

    @property
    def is_amplified(self) -> bool:
        """Whether the light has passed an EM register."""
        return self.excess >= AMPLIFIED_FROM

    def dark(self, like: Tensor) -> Tensor:
        """Give the mean counts without light, broadcast to all but the first axis of ``like`` (n, planes, h, w); (n or 1, planes, h, w)."""
        dark = torch.as_tensor(self.variance, dtype=like.dtype, device=like.device) / self.excess**2
        n = len(dark) if dark.ndim == like.ndim else 1
        return dark.expand(n, *like.shape[1:])

    def counts(self, photons: Tensor) -> Tensor:
        """Turn photons (n, planes, h, w) into counts whose variance is their mean."""
        return photons / self.excess + self.dark(photons)
