"""The definition of drawing patches of a tricubic spline: B-splines on a raster of nodes, read at the centres of pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def bspline(distance: Tensor) -> Tensor:
    """Evaluate the cubic B-spline at distances from its node, in nodes; 0 from 2 nodes on, twice continuously differentiable."""
    t = distance.abs()
    return ((2 - t).clamp(min=0) ** 3 - 4 * (1 - t).clamp(min=0) ** 3) / 6


def curvature(distance: Tensor) -> Tensor:
    """Evaluate the second derivative of the cubic B-spline."""
    t = distance.abs()
    return (2 - t).clamp(min=0) - 4 * (1 - t).clamp(min=0)


def patches(
    coefficients: Tensor,
    dx_px: Tensor,
    dy_px: Tensor,
    level: Tensor,
    size: int,
    nodes_per_px: int,
    scale: Tensor | None = None,
) -> Tensor:
    """Read a spline at the pixel centres around emitters.

    ``V(r, c) = sum_kji C(k, j, i) B(v - k) B(y - j) B(x - i)`` with ``x = s (c - size // 2 - dx) + (nx - 1) / 2``, y alike, and
    ``v = level + 1``. Beyond the raster the coefficients are 0 in x and y, so that the spline ends smoothly; in z the level is
    held at the ends of its range, so that the derivative by z is 0 there. With a scale m, x and y are magnified about the emitter,
    ``V(x / m) / m^2``, except for the light-gathering square of a pixel (in the coefficients already), which keeps its size: the
    excess ``(m^2 - 1) / 12`` of its variance is taken back by ``1 - (m^2 - 1) / 24 d^2/dx^2``, and in y.

    Source: Unser, IEEE Signal Processing Magazine 16(6):22 (1999), for the B-splines.

    Args:
        coefficients: (planes, nz, ny, nx); nz is 1 (the same at all depths) or at least 4.
        dx_px, dy_px: (n,) emitter relative to the centre of the middle pixel.
        level: (n,) depth in steps of the nodes in z; 0 at the second plane of coefficients, ``nz - 3`` at the last but one.
        size: odd number of pixels across a patch.
        nodes_per_px: s.
        scale: (n,) factor m on all widths, or None.

    Returns:
        (n, planes, size, size), indexed (row, column).
    """
    planes, nz, ny, nx = coefficients.shape
    along_y = _line(dy_px, ny, size, nodes_per_px, scale)
    along_x = _line(dx_px, nx, size, nodes_per_px, scale)
    if nz == 1:
        flat = coefficients.reshape(1, planes, ny, nx).expand(len(level), -1, -1, -1)
    else:
        at = level.clamp(0, nz - 3)[:, None] + 1 - torch.arange(nz, dtype=level.dtype, device=level.device)
        flat = torch.einsum("nk,pkyx->npyx", bspline(at), coefficients)
    return along_y[:, None] @ flat @ along_x[:, None].mT


def _line(offset_px: Tensor, nodes: int, size: int, nodes_per_px: int, scale: Tensor | None) -> Tensor:
    """Weigh the nodes of one axis for each pixel: (n, size, nodes)."""
    pixel = torch.arange(size, dtype=offset_px.dtype, device=offset_px.device) - size // 2
    node = torch.arange(nodes, dtype=offset_px.dtype, device=offset_px.device) - (nodes - 1) / 2
    at = nodes_per_px * (pixel - offset_px[:, None])
    if scale is None:
        return bspline(at[:, :, None] - node)
    m = scale[:, None, None]
    distance = at[:, :, None] / m - node
    return (bspline(distance) - (m**2 - 1) / 24 * (nodes_per_px / m) ** 2 * curvature(distance)) / m


def with_derivatives(
    coefficients: Tensor, dx_px: Tensor, dy_px: Tensor, level: Tensor, size: int, nodes_per_px: int
) -> tuple[Tensor, Tensor]:
    """Give `patches` together with their derivatives (n, 3, planes, size, size) by dx, dy and level."""

    def draw(dx: Tensor, dy: Tensor, at: Tensor) -> Tensor:
        return patches(coefficients.detach(), dx, dy, at, size, nodes_per_px)

    place = (dx_px.detach(), dy_px.detach(), level.detach())
    one, zero = torch.ones_like(dx_px), torch.zeros_like(dx_px)
    rows = [torch.func.jvp(draw, place, tuple(one if a == axis else zero for a in range(3))) for axis in range(3)]
    return rows[0][0], torch.stack([row[1] for row in rows], dim=1)
