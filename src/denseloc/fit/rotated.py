"""Gaussians of two widths along axes at any angle: their images in windows, and what a fit of them says in nm and degrees.

Their covariance is ``w^2 exp(2 L)`` with a width w that is given and ``L = [[l + p, q], [q, l - p]]``. The widths are ``w exp(l + r)`` and
``w exp(l - r)`` with ``r^2 = p^2 + q^2``, and the first lies along half the angle of (p, q). Every (l, p, q) is possible, and none is special:
round spots, whose angle is not defined, lie at p = q = 0, where image and likelihood are as smooth as elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..kernels.gaussian_pixel.naive import POINTS, WEIGHTS
from ..units import PixelSize

MOST_LEAN = 1.0  # of |p| and |q|: one width 7 times the other
LEAST_LEAN = 1e-4  # in place of smaller r under fractions: their limits to 1e-8


def drawn(at: Tensor, width_nm: float, pixel_size_nm: PixelSize, shape_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Integrate the Gaussians over the pixels of windows, by 3 x 3 points in each, with the derivatives.

    Args:
        at: (m, 5) x, y in px of the window, l, p, q; float64.
        width_nm: w.
        pixel_size_nm: (y, x).
        shape_px: (rows, columns).

    Returns:
        (m, 1, rows, columns) fractions of the photons, and (m, 5, 1, rows, columns).
    """
    y_nm, x_nm = pixel_size_nm
    points, weights = (at.new_tensor(values) for values in (POINTS, WEIGHTS))
    x, y = (
        size * ((torch.arange(side, device=at.device)[:, None] + points).flatten() - centre[:, None])
        for size, side, centre in ((x_nm, shape_px[1], at[:, 0]), (y_nm, shape_px[0], at[:, 1]))
    )
    form, by_shape = _form(at[:, 2:], width_nm)
    xx, xy, yy, height = form.T[:, :, None, None]
    x, y = x[:, None, :], y[:, :, None]
    density = torch.exp(height - 0.5 * xx * x**2 - (xy * y) * x - 0.5 * yy * y**2) * (x_nm * y_nm)
    density *= weights.repeat(shape_px[0])[:, None] * weights.repeat(shape_px[1])

    def summed(values: Tensor) -> Tensor:
        return values.reshape(len(at), shape_px[0], 3, shape_px[1], 3).sum((2, 4))

    along, across = density * x, density * y
    first, second, whole = summed(along), summed(across), summed(density)
    by_form = torch.stack((-0.5 * summed(along * x), -summed(along * y), -0.5 * summed(across * y), whole), 1)
    moved = torch.stack((x_nm * (xx * first + xy * second), y_nm * (xy * first + yy * second)), 1)
    return whole[:, None], torch.cat((moved, torch.einsum("nfhw,nfs->nshw", by_form, by_shape)), 1)[:, :, None]


def _form(shape: Tensor, width_nm: float) -> tuple[Tensor, Tensor]:
    """Give the logarithm of a density ``h - (a x^2 + 2 b x y + c y^2) / 2`` as (m, 4) a, b, c, h, and its derivatives (m, 4, 3) by l, p, q.

    ``exp(-2 [[p, q], [q, -p]]) = C - S [[p, q], [q, -p]]`` with ``C = cosh 2 r``, ``S = sinh(2 r) / r``; the derivatives of these by p are 2 S p
    and K p with ``K = (2 C - S) / r^2``.
    """
    grown, p, q = shape.unbind(1)
    r = torch.hypot(p, q).clamp(min=LEAST_LEAN)
    even, odd = torch.cosh(2 * r), torch.sinh(2 * r) / r
    bend = (2 * even - odd) / r**2
    scale = (width_nm * grown.exp()) ** 2
    a, b, c = (even - odd * p) / scale, -odd * q / scale, (even + odd * p) / scale
    nothing = torch.zeros_like(p)
    by_p = (2 * odd * p - bend * p * p - odd, -bend * p * q, 2 * odd * p + bend * p * p + odd)
    by_q = (2 * odd * q - bend * p * q, -bend * q * q - odd, 2 * odd * q + bend * p * q)
    slopes = [
        torch.stack((-2 * a, -2 * b, -2 * c, nothing - 2), 1),
        *(torch.stack((*(one / scale for one in by), nothing), 1) for by in (by_p, by_q)),
    ]
    return torch.stack((a, b, c, -torch.log(2 * math.pi * scale)), 1), torch.stack(slopes, 2)


def to_axes(values: Tensor, width_nm: float) -> tuple[Tensor, Tensor]:
    """Tell widths and angle from l, p, q.

    The first axis is the one nearer to x, so that nothing jumps where one width outgrows the other.

    Args:
        values: (n, 3) l, p, q.
        width_nm: w.

    Returns:
        (n, 3) widths along the first and the second axis in nm and the angle of the first from +x towards +y in degrees, above -45 and up
        to 45; and their derivatives (n, 3, 3) by l, p, q. Those of the angle grow without bound as spots become round.
    """
    grown, p, q = values.unbind(1)
    side = torch.where(p < 0, -1.0, 1.0)
    lean = torch.hypot(p, q)
    along, across = torch.where(lean > 0, side * p / lean, 1.0), torch.where(lean > 0, side * q / lean, 0.0)
    angle = torch.rad2deg(0.5 * torch.atan2(across, along))
    first, second = width_nm * torch.exp(grown + side * lean), width_nm * torch.exp(grown - side * lean)
    by_p, by_q = side * along, side * across  # of r
    turn = torch.rad2deg(0.5 * side / lean.clamp(min=LEAST_LEAN))
    rows = [
        torch.stack((first, first * side * by_p, first * side * by_q), 1),
        torch.stack((second, -second * side * by_p, -second * side * by_q), 1),
        torch.stack((torch.zeros_like(turn), -turn * across, turn * along), 1),
    ]
    return torch.stack((first, second, angle), 1), torch.stack(rows, 1)
