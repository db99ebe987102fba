"""The score of spots: the fast file is the definition, and the definition is the derivative of the likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from denseloc.kernels.spot_score import elementary, naive, numba_cpu, score, score_aligned

SHAPES = [(1, 9, 9), (2, 7, 12), (3, 5, 4)]


def windows(planes: int, h: int, w: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((20, planes, h, w), 4.0), generator=generator).to(dtype) - 0.5
    counts[3, 0, :2], counts[5] = float("nan"), float("nan")
    return counts, torch.rand(20, planes, h, w, generator=generator).to(dtype)


def spots(m: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(1)
    which = torch.randint(0, 20, (m,), generator=generator)
    photons, background = (torch.rand(m, generator=generator).double() * 300, torch.rand(m, 3, generator=generator).double() * 5)
    return which, photons, background, generator


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "d", "shared"), [(7, 3, False), (3, 2, True), (15, 3, True)])
def test_fast_score_is_the_definition(dtype: torch.dtype, shape: tuple[int, int, int], size: int, d: int, shared: bool) -> None:
    counts, dark = windows(*shape, dtype)
    which, photons, background, generator = spots()
    values = torch.rand(50, shape[0], size, size, generator=generator).to(dtype) * 0.05
    slopes = torch.randn(50, d, shape[0], size, size, generator=generator).to(dtype) * 0.02
    row, column = torch.randint(-4, 12, (2, 50), generator=generator)
    row[0], column[1] = -1000, 1000  # no light in the window
    lights = background[:, : 1 if shared else shape[0]].contiguous()
    for blank in (dark, dark[:1]):
        arguments = (counts, blank, which, values, slopes, row, column, photons, lights)
        expected = naive.score(*arguments, 0.5)
        found = numba_cpu.score(*(a.numpy() for a in arguments), 0.5)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(score(*arguments, 0.5), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(9, 9), (7, 12), (5, 4)])
@pytest.mark.parametrize("n_slopes", [2, 3, 4])
def test_fast_aligned_score_is_the_definition(shape: tuple[int, int], n_slopes: int) -> None:
    counts, dark = windows(1, *shape, torch.float64)
    which, photons, background, generator = spots()
    position = torch.rand(50, 2, generator=generator).double() * 12 - 2
    width, growth = torch.rand(50, 2, generator=generator).double() + 0.5, torch.randn(50, 2, generator=generator).double()
    arguments = (counts, dark, which, position, width, growth, photons, background[:, :1].contiguous())
    expected = naive.score_aligned(*arguments, 0.7, n_slopes)
    found = numba_cpu.score_aligned(*(a.numpy() for a in arguments), 0.7, n_slopes)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(score_aligned(*arguments, 0.7, n_slopes), expected, rtol=1e-9, atol=1e-9)


def test_gradient_and_fisher_matrix_are_derivatives_of_the_objective() -> None:
    counts, dark = windows(1, 9, 8, torch.float64)
    which = torch.tensor([2])
    at = torch.tensor([3.2, 4.4, 0.3, 150.0, 4.0], dtype=torch.float64)

    def scored(at: torch.Tensor, data: torch.Tensor) -> tuple[torch.Tensor, ...]:
        width = torch.stack((1.2 + 0.5 * at[2], 1.1 - 0.3 * at[2]))[None]
        growth = torch.tensor([[0.5, -0.3]], dtype=torch.float64)
        return naive.score_aligned(data, dark, which, at[None, :2], width, growth, at[3:4], at[None, 4:], 0.5, 3)

    _, gradient, fisher = scored(at, counts)
    slope = torch.autograd.functional.jacobian(lambda a: scored(a, counts)[0][0], at)
    torch.testing.assert_close(gradient[0], -slope, rtol=1e-8, atol=1e-8)
    line = naive._line(at[:1], torch.tensor([1.35], dtype=torch.float64), 8)[0][0]
    column = naive._line(at[1:2], torch.tensor([1.01], dtype=torch.float64), 9)[0][0]
    mean = counts.clone()
    mean[2, 0] = 0.5 * (150 * column[:, None] * line + 4) + dark[2, 0]  # where the counts are expected, both matrices agree
    curvature = torch.autograd.functional.hessian(lambda a: scored(a, mean)[0][0], at)
    torch.testing.assert_close(fisher[0], curvature, rtol=1e-8, atol=1e-8)


def test_patches_are_put_where_they_belong() -> None:
    patch = torch.arange(9.0).reshape(1, 1, 3, 3)
    placed = naive.placed(patch.expand(3, 2, 3, 3), torch.tensor([0, 2, 9]), torch.tensor([3, 1, 0]), (4, 5))
    expected = torch.zeros(3, 2, 4, 5)
    expected[0, :, :2, 2:5] = patch[0, 0, 1:]
    expected[1, :, 1:4, 0:3] = patch[0, 0]
    torch.testing.assert_close(placed, expected)


def test_elementary_functions_are_those_of_the_library() -> None:
    positive, negative = np.exp(np.linspace(-300, 300, 3001)), -np.exp(np.linspace(-30, 6.5, 3001))
    log = np.array([elementary.log_and_inverse(x) for x in positive[:2000]])
    np.testing.assert_allclose(log[:, 0], np.log(positive[:2000]), rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(log[:, 1], 1 / positive[:2000], rtol=1e-15)
    np.testing.assert_allclose([elementary.log(x) for x in positive], np.log(positive), rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose([elementary.exp_of_negative(x) for x in negative], np.exp(negative), rtol=1e-13)
    x = np.concatenate((np.linspace(0, 7, 2001), [30.0, 1e6]))
    np.testing.assert_allclose([elementary.upper_tail(v, np.exp(-v * v)) for v in x], special.erfc(x), rtol=0, atol=5e-15)
    x = np.concatenate((np.linspace(0, 60, 2001), np.geomspace(60, 1e9, 100)))
    np.testing.assert_allclose([elementary.log_factorial(v) for v in x], special.gammaln(x + 1), rtol=1e-14, atol=2e-14)


def test_aligned_gaussians_are_drawn_as_they_are_scored() -> None:
    position, width = torch.tensor([[3.2, 2.6]]).double(), torch.tensor([[1.2, 1.4]]).double()
    drawn = naive.drawn_aligned(position, width, (6, 8))
    counts, one = 100 * drawn + 2, torch.ones(1).double()
    zero = torch.zeros_like(width)
    _, gradient, _ = naive.score_aligned(
        counts, counts * 0, torch.tensor([0]), position, width, zero, 100 * one, 2 * one[:, None], 1.0, 2
    )
    assert gradient.abs().max() < 1e-12  # the truth is the maximum


def test_no_spots_have_no_score() -> None:
    counts, none = torch.ones(2, 1, 5, 6), torch.zeros(0, 2, dtype=torch.float64)
    which = torch.zeros(0, dtype=torch.long)
    for scored in (naive.score_aligned, score_aligned):
        objective, gradient, fisher = scored(counts, 0 * counts, which, none, none, none, none[:, 0], none[:, :1], 1.0, 2)
        assert (objective.shape, gradient.shape, fisher.shape) == ((0,), (0, 4), (0, 4, 4))
