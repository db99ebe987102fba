"""Zernike polynomials on the unit disc: OSA/ANSI order, each of unit rms over the disc."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NAMES = (
    "piston",
    "vertical tilt",
    "horizontal tilt",
    "oblique astigmatism",
    "defocus",
    "vertical astigmatism",
    "vertical trefoil",
    "vertical coma",
    "horizontal coma",
    "oblique trefoil",
    "oblique quadrafoil",
    "oblique secondary astigmatism",
    "primary spherical",
    "vertical secondary astigmatism",
    "vertical quadrafoil",
)
"""Usual names of the single indices 0 .. 14."""


def order(index: int) -> tuple[int, int]:
    """Turn the single index j = 0, 1, ... into (n, m): radial degree and signed azimuthal frequency.

    Source: ANSI Z80.28: ``j = (n (n + 2) + m) / 2``.
    """
    n = (math.isqrt(8 * index + 1) - 1) // 2
    return n, 2 * index - n * (n + 2)


def single_index(n: int, m: int) -> int:
    """Turn (n, m) into the single index j; the inverse of `order`.

    Raises:
        ValueError: there is no such polynomial.
    """
    if n < 0 or abs(m) > n or (n - m) % 2:
        raise ValueError(f"no Zernike polynomial has n = {n}, m = {m}; |m| <= n and n - m must be even")
    return (n * (n + 2) + m) // 2


def is_whole(count: int) -> bool:
    """Say whether ``count`` amplitudes fill whole radial degrees: 1, 3, 6, 10, 15, 21, ..."""
    return count > 0 and order(count - 1)[1] == order(count - 1)[0]


def next_whole(count: int) -> int:
    """Give the smallest whole number of amplitudes that is at least ``count``."""
    n = order(max(count - 1, 0))[0]
    return (n + 1) * (n + 2) // 2


def zernike(index: int, x: Tensor, y: Tensor) -> Tensor:
    """Evaluate one polynomial.

    Args:
        index: OSA/ANSI single index.
        x, y: places on the disc in units of its radius, x along columns, y along rows (downwards), same shape. Outside of the
            disc the polynomial goes on.

    Returns:
        ``sqrt(2 (n + 1) / (1 + [m = 0])) R_n^|m|(r) cos(m t)`` for m >= 0, with ``sin(|m| t)`` for m < 0, ``t = atan2(y, x)``; its
        square has mean 1 over the disc.
    """
    n, m = order(index)
    squared = x**2 + y**2
    radial = torch.zeros_like(squared)
    for k in range((n - abs(m)) // 2, -1, -1):  # powers r^(n - 2k) without the factor r^|m|, lowest first
        power = (n - abs(m)) // 2 - k
        parts = math.factorial(k) * math.factorial((n + m) // 2 - k) * math.factorial((n - m) // 2 - k)
        radial = radial + (-1) ** k * math.factorial(n - k) / parts * squared**power
    turn = torch.ones_like(x, dtype=torch.complex128 if x.dtype == torch.float64 else torch.complex64)
    for _ in range(abs(m)):
        turn = turn * torch.complex(x, y)  # r^|m| exp(i |m| t), smooth through the centre
    norm = math.sqrt((n + 1) * (1 if m == 0 else 2))
    return norm * radial * (turn.imag if m < 0 else turn.real)


def zernikes(count: int, x: Tensor, y: Tensor) -> Tensor:
    """Evaluate the first ``count`` polynomials, stacked before the dimensions of x."""
    return torch.stack([zernike(j, x, y) for j in range(count)]) if count else x.new_zeros((0, *x.shape))
