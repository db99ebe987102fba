"""Gaussians integrated over square pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Gauss-Legendre points and weights on [-0.5, 0.5]: integrates a Gaussian over a pixel to 1e-4 of its peak at a width of 0.6 px and to 1e-5
# from 1 px on.
POINTS = (-0.5 * math.sqrt(0.6), 0.0, 0.5 * math.sqrt(0.6))
WEIGHTS = (5 / 18, 8 / 18, 5 / 18)


def line_integrals(centre_px: Tensor, width_px: Tensor, size: int) -> Tensor:
    """Integrate a 1D Gaussian over ``size`` pixels.

    Args:
        centre_px: (n,) position relative to the centre of the middle pixel.
        width_px: (n,) standard deviation.
        size: odd number of pixels.

    Returns:
        (n, size) fractions; ``(erf((u + 1/2 - c) / (s sqrt 2)) - erf((u - 1/2 - c) / (s sqrt 2))) / 2``.
    """
    half = size // 2
    edges = torch.arange(-half, half + 2, device=centre_px.device, dtype=centre_px.dtype) - 0.5
    steps = torch.erf((edges - centre_px[:, None]) / (math.sqrt(2.0) * width_px[:, None]))
    return 0.5 * (steps[:, 1:] - steps[:, :-1])


def aligned(dx_px: Tensor, dy_px: Tensor, width_x_px: Tensor, width_y_px: Tensor, size: int) -> Tensor:
    """Integrate 2D Gaussians whose axes lie along the pixels; all arguments (n,), result (n, size, size) indexed (row, column)."""
    rows = line_integrals(dy_px, width_y_px, size)
    columns = line_integrals(dx_px, width_x_px, size)
    return rows[:, :, None] * columns[:, None, :]


def rotated(
    dx_px: Tensor, dy_px: Tensor, width_a_px: Tensor, width_b_px: Tensor, angle: Tensor, size: int, aspect: float = 1.0
) -> Tensor:
    """Integrate 2D Gaussians whose first axis (width a) is turned by ``angle`` (radians, from +x towards +y); result (n, size, size).

    There is no closed form over a square pixel, so each pixel takes 3 x 3 Gauss-Legendre points. Widths count in the pixel's width;
    ``aspect`` is its height over its width.
    """
    half = size // 2
    pixel = torch.arange(-half, half + 1, device=dx_px.device, dtype=dx_px.dtype)
    points = torch.tensor(POINTS, device=dx_px.device, dtype=dx_px.dtype)
    weights = torch.tensor(WEIGHTS, device=dx_px.device, dtype=dx_px.dtype)
    grid = (pixel[:, None] + points).reshape(-1)
    x = (grid - dx_px[:, None])[:, None, :]
    y = aspect * (grid - dy_px[:, None])[:, :, None]
    cos, sin = torch.cos(angle)[..., None, None], torch.sin(angle)[..., None, None]
    a = (x * cos + y * sin) / width_a_px[:, None, None]
    b = (y * cos - x * sin) / width_b_px[:, None, None]
    density = aspect * torch.exp(-0.5 * (a * a + b * b)) / (2 * math.pi * (width_a_px * width_b_px))[:, None, None]
    patches = density.reshape(len(dx_px), size, 3, size, 3)
    return torch.einsum("nipjq,p,q->nij", patches, weights, weights)
