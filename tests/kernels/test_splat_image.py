"""The fast drawing gives what its definition gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denseloc.kernels import splat_image
from denseloc.kernels.splat_image import naive


def points(n, shape, channels, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-8, shape[1] + 8, n), rng.uniform(-8, shape[0] + 8, n)
    return x, y, rng.uniform(0.2, 5, n), rng.uniform(0.2, 5, n), rng.uniform(0, 2, (n, channels))


def tensors(*arrays):
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]


@pytest.mark.parametrize(("shape", "channels"), [((1, 1), 1), ((7, 30), 1), ((33, 21), 3), ((40, 3), 2)])
def test_fast_gaussian_equals_naive(shape, channels):
    x, y, sx, sy, weight = points(80, shape, channels)
    image = np.zeros((*shape, channels))
    splat_image.gaussian(x, y, sx, sy, weight, image)
    expected = naive.gaussian(*tensors(x, y, sx, sy, weight), shape).numpy()
    assert expected.max() > 0.01
    np.testing.assert_allclose(image, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("shape", "channels"), [((1, 1), 1), ((7, 30), 1), ((33, 21), 3)])
def test_fast_histogram_equals_naive(shape, channels):
    x, y, _, _, weight = points(300, shape, channels)
    x[0], y[0], x[1], y[1] = 0.0, 0.0, shape[1], 0.0  # on the edges: the lower belongs to the picture, the upper does not
    image = np.zeros((*shape, channels))
    splat_image.histogram(x, y, weight, image)
    np.testing.assert_allclose(image, naive.histogram(*tensors(x, y, weight), shape).numpy(), rtol=1e-12)


def test_a_gaussian_inside_adds_its_weight_at_its_place():
    image = np.zeros((41, 51, 1))
    one = np.array([1.0])
    splat_image.gaussian(one * 20.3, one * 17.8, one * 2.5, one * 1.5, np.array([[3.0]]), image)
    assert image.sum() == pytest.approx(3.0, rel=1e-12)
    share = image[:, :, 0] / 3.0
    rows, columns = np.arange(41) + 0.5, np.arange(51) + 0.5
    assert share.sum(0) @ columns == pytest.approx(20.3, abs=1e-3)
    assert share.sum(1) @ rows == pytest.approx(17.8, abs=1e-3)
    spread = share.sum(0) @ (columns - 20.3) ** 2  # variance of the cut Gaussian, and 1 / 12 for the width of a pixel
    assert spread == pytest.approx(2.5**2 * (1 - 2 * 4 * np.exp(-8) / np.sqrt(2 * np.pi)) + 1 / 12, rel=1e-3)


def test_adding_goes_on_from_what_is_there():
    x, y, sx, sy, weight = points(40, (12, 12), 1)
    at_once, in_parts = np.zeros((12, 12, 1)), np.zeros((12, 12, 1))
    splat_image.gaussian(x, y, sx, sy, weight, at_once)
    for half in (slice(0, 13), slice(13, None)):
        splat_image.gaussian(x[half], y[half], sx[half], sy[half], weight[half], in_parts)
    np.testing.assert_allclose(in_parts, at_once, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_no_number_draws_nothing(bad):
    image = np.zeros((5, 5, 1))
    one = np.array([2.5])
    splat_image.gaussian(np.array([bad]), one, one, one, one[:, None], image)
    splat_image.histogram(one, np.array([bad]), one[:, None], image)
    assert not image.any()


def test_naive_gaussian_is_differentiable():
    x, y, sx, sy, weight = (t.requires_grad_() for t in tensors(*points(3, (6, 5), 2)))
    with torch.no_grad():
        x.copy_(torch.tensor([1.3, 2.2, 3.7]))
        y.copy_(torch.tensor([2.1, 3.3, 4.4]))
    assert torch.autograd.gradcheck(lambda *a: naive.gaussian(*a, (6, 5)), (x, y, sx, sy, weight))
