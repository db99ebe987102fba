"""Zernike polynomials: orthonormal on the disc, in the OSA/ANSI order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from denseloc.optics.zernike import NAMES, is_whole, next_whole, order, single_index, zernike, zernikes


def disc(rings: int = 20, turns: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places and weights of a quadrature over the disc, exact for polynomials up to degree 39."""
    nodes, shares = np.polynomial.legendre.leggauss(rings)
    radius = np.sqrt((nodes + 1) / 2)[:, None]
    angle = 2 * np.pi * (np.arange(turns) + 0.25) / turns
    weight = np.repeat(shares[:, None] / 2, turns, 1) / turns
    return tuple(torch.from_numpy(v) for v in (radius * np.cos(angle), radius * np.sin(angle), weight))


def test_they_are_orthonormal_over_the_disc() -> None:
    x, y, weight = disc()
    values = zernikes(45, x, y).flatten(1)
    products = (values * weight.flatten()) @ values.T
    torch.testing.assert_close(products, torch.eye(45, dtype=torch.float64), rtol=0, atol=1e-11)


def test_order_and_single_index_are_inverse() -> None:
    expected = [(0, 0), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2), (3, -3), (3, -1), (3, 1), (3, 3), (4, -4)]
    assert [order(j) for j in range(11)] == expected
    assert [single_index(*order(j)) for j in range(200)] == list(range(200))
    assert len(NAMES) == 15


@pytest.mark.parametrize(
    ("index", "formula"),
    [
        (0, lambda x, y: 1 + 0 * x),
        (1, lambda x, y: 2 * y),
        (2, lambda x, y: 2 * x),
        (3, lambda x, y: 2 * math.sqrt(6) * x * y),
        (4, lambda x, y: math.sqrt(3) * (2 * (x**2 + y**2) - 1)),
        (5, lambda x, y: math.sqrt(6) * (x**2 - y**2)),
        (8, lambda x, y: math.sqrt(8) * x * (3 * (x**2 + y**2) - 2)),
        (12, lambda x, y: math.sqrt(5) * (6 * (x**2 + y**2) ** 2 - 6 * (x**2 + y**2) + 1)),
        (13, lambda x, y: math.sqrt(10) * (x**2 - y**2) * (4 * (x**2 + y**2) - 3)),
    ],
)
def test_known_polynomials(index: int, formula) -> None:
    x, y, _ = disc(4, 8)
    torch.testing.assert_close(zernike(index, x, y), formula(x, y), rtol=1e-12, atol=1e-12)


def test_whole_radial_degrees() -> None:
    assert [n for n in range(40) if is_whole(n)] == [1, 3, 6, 10, 15, 21, 28, 36]
    assert [next_whole(n) for n in (1, 2, 3, 4, 16, 21)] == [1, 3, 3, 6, 21, 21]


@pytest.mark.parametrize(("n", "m"), [(2, 1), (1, 3), (-1, 0)])
def test_there_are_no_others(n: int, m: int) -> None:
    with pytest.raises(ValueError, match="no Zernike polynomial"):
        single_index(n, m)
