"""From samples of a band-limited image to integrals over camera pixels, with a Gaussian blur in the same step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_ROLL_OFF = 0.227
"""Width of the roll-off over half of the sampling rate: at a quarter of the rate it has taken 1e-3 of the amplitude."""


@dataclass(frozen=True)
class AxisSampling:
    """Where an image is sampled along one camera axis, and how its samples make pixels.

    The image has no frequency above its band; ``per_px`` even samples a pixel are more than four a period of the band's edge. A pixel
    is then a weighted sum of samples, with weights that follow from the pixel's transfer function (a sinc, times that of the blur)
    cut off smoothly between the band's edge and its first alias: exact to about 1e-4 of the peak, with any blur.

    Attributes:
        pixel_nm: width of a pixel.
        roi_px: pixels of the patch.
        per_px: samples per pixel.
        margin_px: pixels around the patch that are sampled too, since blur and weights reach beyond a pixel.
    """

    pixel_nm: float
    roi_px: int
    per_px: int
    margin_px: int

    @staticmethod
    def of(pixel_nm: float, roi_px: int, band_per_nm: float, blur_nm: float) -> AxisSampling:
        """Choose samples and margin for an image of a band (its highest frequency) and for a blur (standard deviation)."""
        per_px = max(1, math.ceil(4 * band_per_nm * pixel_nm))
        return AxisSampling(pixel_nm, roi_px, per_px, math.ceil(7 / per_px + 3.5 * blur_nm / pixel_nm))

    def places_nm(self) -> np.ndarray:
        """Give the places of the samples, relative to the centre of the patch."""
        n = (self.roi_px + 2 * self.margin_px) * self.per_px
        return (np.arange(n) + 0.5 - n / 2) * self.pixel_nm / self.per_px

    def weights(self, blur_nm: Tensor, nodes_per_px: int = 1) -> Tensor:
        """Give the weights that turn samples of a density (per nm) into pixels.

        Args:
            blur_nm: (k,) standard deviation of a Gaussian blur; differentiable.
            nodes_per_px: also pixels that stand between those of the patch, so many to a pixel; must divide ``per_px``.

        Returns:
            (k, (roi - 1) nodes_per_px + 1, samples).
        """
        step = self.pixel_nm / self.per_px
        reach = (2 * self.margin_px + 1) * self.per_px
        nodes, shares = np.polynomial.legendre.leggauss(32 + 4 * reach)
        top = 0.5 * (1 + 3.5 * _ROLL_OFF) / step
        f = (nodes + 1) * top / 2
        cut = [0.5 * math.erfc((2 * v * step - 1) / _ROLL_OFF) for v in f]
        distance = ((np.arange(reach) + 0.5) / self.per_px - self.margin_px - 0.5) * self.pixel_nm
        table = step * self.pixel_nm * top * (shares * cut * np.sinc(f * self.pixel_nm))[:, None]
        table = table * np.cos(2 * np.pi * f[:, None] * distance)
        damping = torch.exp(-2 * math.pi**2 * blur_nm[:, None] ** 2 * torch.from_numpy(f**2).to(blur_nm))
        kernel = damping @ torch.from_numpy(table).to(blur_nm)
        node = torch.arange((self.roi_px - 1) * nodes_per_px + 1, device=blur_nm.device)
        sample = torch.arange(len(self.places_nm()), device=blur_nm.device)
        lag = sample - self.per_px // nodes_per_px * node[:, None]
        return torch.where((lag >= 0) & (lag < reach), kernel[:, lag.clamp(0, reach - 1)], 0.0)
