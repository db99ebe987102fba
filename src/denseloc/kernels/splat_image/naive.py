"""The definition of drawing points into a picture. Pixel k covers k .. k + 1, so that 0 is the outer corner of the picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 4.0
"""Gaussians end this many standard deviations from their centre, in x and in y."""


def _per_pixel(position: Tensor, sigma: Tensor, n_pixels: int) -> Tensor:
    """Integrate a normal density cut at +-REACH sigma and scaled to total 1 over the pixels of one axis: (n, n_pixels)."""
    edges = torch.arange(n_pixels + 1, dtype=position.dtype, device=position.device)
    t = ((edges - position[:, None]) / sigma[:, None]).clamp(-REACH, REACH)
    below = torch.erf(t / math.sqrt(2.0)) / (2.0 * math.erf(REACH / math.sqrt(2.0)))
    return below[:, 1:] - below[:, :-1]


def gaussian(x: Tensor, y: Tensor, sigma_x: Tensor, sigma_y: Tensor, weight: Tensor, shape: tuple[int, int]) -> Tensor:
    """Draw points as Gaussians integrated over the pixels.

    The value in a pixel is ``weight * X * Y``, where X and Y are the integrals over the pixel's width and height of a normal
    density that is cut at +-4 sigma and scaled to total 1. A point whole inside the picture adds exactly its weight; what lies
    outside is lost.

    Args:
        x: (n,) column positions in pixels of the picture.
        y: (n,) row positions in pixels.
        sigma_x: (n,) standard deviations along the columns in pixels, > 0.
        sigma_y: (n,) standard deviations along the rows in pixels, > 0.
        weight: (n, channels) what each point adds to each channel.
        shape: (rows, columns) of the picture.

    Returns:
        (rows, columns, channels).
    """
    return torch.einsum("ny,nx,nc->yxc", _per_pixel(y, sigma_y, shape[0]), _per_pixel(x, sigma_x, shape[1]), weight)


def histogram(x: Tensor, y: Tensor, weight: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add the weight of each point to the pixel it lies in; points outside of the picture are lost.

    Args:
        x: (n,) column positions in pixels of the picture.
        y: (n,) row positions in pixels.
        weight: (n, channels) what each point adds to each channel.
        shape: (rows, columns) of the picture.

    Returns:
        (rows, columns, channels).
    """
    column, row = torch.floor(x), torch.floor(y)
    inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
    image = torch.zeros((*shape, weight.shape[1]), dtype=weight.dtype, device=weight.device)
    return image.index_put((row[inside].long(), column[inside].long()), weight[inside], accumulate=True)
