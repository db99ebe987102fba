"""The fast drawing of splines gives what its definition gives, and the definition is a twice differentiable spline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.interpolate import BSpline

from denseloc.kernels import spline_patch
from denseloc.kernels.spline_patch import naive, numba_cpu

GENERATOR = torch.Generator()


def raster(planes: int, nz: int, ny: int, nx: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(planes, nz, ny, nx, generator=GENERATOR.manual_seed(seed), dtype=dtype)


def places(n: int, levels: float, dtype: torch.dtype = torch.float64, reach: float = 1.0) -> list[torch.Tensor]:
    """Random places, and places on nodes, on the borders of pixels and of the reach, and at the ends of z."""
    generator = GENERATOR.manual_seed(2)
    dx, dy, level = torch.rand(3, n, generator=generator, dtype=torch.float64)
    dx, dy, level = (2 * dx - 1) * reach, (2 * dy - 1) * reach, level * (levels + 3) - 1.5
    ends = torch.tensor([[-0.5, 0.5, 0.0, 1.0, -1.0, 0.25], [0.5, -0.5, 0.0, -1.0, 1.0, -0.75]], dtype=torch.float64)
    dx, dy = torch.cat((dx, ends[0])), torch.cat((dy, ends[1]))
    level = torch.cat((level, torch.tensor([0.0, levels, levels + 9, -9.0, min(1.0, levels), 0.5], dtype=torch.float64)))
    return [t.to(dtype) for t in (dx, dy, level)]


# ---------------------------------------------------------------------------------------------------------------- the definition


def test_the_b_spline_is_that_of_scipy() -> None:
    t = torch.linspace(-2.5, 2.5, 101, dtype=torch.float64)
    exact = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    np.testing.assert_allclose(naive.bspline(t), np.nan_to_num(exact(t.numpy())), atol=1e-15)
    np.testing.assert_allclose(naive.curvature(t)[1:-1], np.nan_to_num(exact.derivative(2)(t.numpy()))[1:-1], atol=1e-14)


@pytest.mark.parametrize("s", [1, 2])
def test_the_definition_is_the_sum_over_b_splines(s: int) -> None:
    c, size = raster(2, 5, 4 * s + 2, 5 * s), 5
    dx, dy, level = (torch.tensor([v], dtype=torch.float64) for v in (0.3, -0.2, 1.4))
    found = naive.patches(c, dx, dy, level, size, s)[0]
    pixel = np.arange(size) - size // 2
    x, y = (torch.from_numpy(s * (pixel - d) + (nodes - 1) / 2) for d, nodes in ((0.3, 5 * s), (-0.2, 4 * s + 2)))
    for plane in range(2):
        for row in range(size):
            for column in range(size):
                weights = [
                    naive.bspline(at - torch.arange(n, dtype=torch.float64))
                    for at, n in zip((level + 1, y[row], x[column]), c.shape[1:], strict=True)
                ]
                assert found[plane, row, column] == pytest.approx(float(torch.einsum("kji,k,j,i->", c[plane], *weights)), abs=1e-13)


def test_values_slopes_and_curvatures_go_on_across_nodes_and_ends() -> None:
    c, step = raster(1, 6, 9, 9), 1e-4
    at = (torch.arange(-60, 60, dtype=torch.float64) + 0.5) * step  # around the phase 0, where the nodes change

    def jumps(line: torch.Tensor) -> list[float]:
        """Greatest second difference of value, slope and curvature along a line, beside the greatest value of each."""
        found = []
        for order in range(3):
            d = line.diff(n=order, dim=0) / step**order
            found.append(float(d.diff(dim=0).abs().max() / d.abs().max()))
        return found

    fixed = torch.full_like(at, 0.3)
    edge = torch.full_like(at, 6.0)  # the spline ends two nodes beyond the raster: at 6 px from the centre of nine
    for dx, dy, level in (
        (at, fixed, fixed),
        (fixed, at, fixed),
        (fixed, fixed, 2 + at),
        (at - edge, fixed, fixed),
        (edge + at, at, fixed),
    ):
        drawn = naive.patches(c, dx, dy, level, 5, 1).flatten(1)
        for order, jump in enumerate(jumps(drawn)):
            assert jump < (0.05 if order < 2 else 0.2)


def test_beyond_the_raster_is_nothing_and_beyond_z_nothing_changes() -> None:
    c = raster(1, 5, 5, 7)
    zero, level = torch.zeros(2, dtype=torch.float64), torch.tensor([1.2, 0.3], dtype=torch.float64)
    patches = naive.patches(c, zero, zero, level, 21, 1)[:, 0]
    assert (patches[:, 7:14, 6:15] != 0).all()
    patches[:, 7:14, 6:15] = 0
    assert (patches == 0).all()
    ends = naive.patches(c, zero, zero, torch.tensor([0.0, 2.0], dtype=torch.float64), 5, 1)
    values, slopes = naive.with_derivatives(c, zero, zero, torch.tensor([-7.0, 2.01], dtype=torch.float64), 5, 1)
    torch.testing.assert_close(values, ends, rtol=0, atol=0)
    assert (slopes[:, 2] == 0).all()
    assert (slopes[:, :2] != 0).all()


@pytest.mark.parametrize("s", [1, 2, 3])
def test_a_pixel_further_is_the_patch_shifted(s: int) -> None:
    c = raster(1, 4, 12 * s, 11 * s)
    dx, dy, level = places(10, 1, reach=0.5)
    for fast in (naive.patches, spline_patch.patches):
        here = fast(c, dx, dy, level, 7, s)
        torch.testing.assert_close(fast(c, dx + 1, dy, level, 7, s)[..., 1:], here[..., :-1], rtol=0, atol=1e-13)
        torch.testing.assert_close(fast(c, dx, dy - 1, level, 7, s)[..., :-1, :], here[..., 1:, :], rtol=0, atol=1e-13)


def test_coefficients_that_interpolate_give_the_samples_back_at_the_nodes() -> None:
    samples = np.random.default_rng(0).normal(size=(9, 9))
    c = torch.from_numpy(ndimage.spline_filter(samples, order=3, mode="mirror"))[None, None]
    zero = torch.zeros(1, dtype=torch.float64)
    np.testing.assert_allclose(naive.patches(c, zero, zero, zero, 7, 1)[0, 0], samples[1:-1, 1:-1], atol=1e-13)


@pytest.mark.parametrize("m", [0.8, 1.0, 1.7])
def test_a_scale_widens_all_but_the_pixel(m: float) -> None:
    at = torch.arange(61, dtype=torch.float64) - 30
    bump = torch.exp(-0.5 * (at / 2.5) ** 2)
    c = (bump[:, None] * bump / bump.sum() ** 2)[None, None]
    zero, scale = torch.zeros(1, dtype=torch.float64), torch.tensor([m], dtype=torch.float64)

    def variance(scale: torch.Tensor) -> float:
        drawn = naive.patches(c, zero, zero, zero, 61, 1, scale)[0, 0]
        assert float(drawn.sum()) == pytest.approx(1, abs=1e-4)
        return float((drawn.sum(0) * at**2).sum())

    assert variance(scale) - 1 / 12 == pytest.approx(m**2 * (variance(torch.ones_like(scale)) - 1 / 12), rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------- numba on the CPU


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("s", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("planes", "nz", "size", "nodes"), [(1, 1, 5, 11), (2, 4, 7, 6), (3, 6, 13, 20), (4, 5, 3, 30), (1, 4, 1, 4)]
)
def test_numba_is_the_definition(dtype: torch.dtype, s: int, planes: int, nz: int, size: int, nodes: int) -> None:
    c = raster(planes, nz, nodes * s, nodes * s + 1 - 2 * (s > 1), dtype)
    dx, dy, level = places(25, max(nz - 3, 0), dtype)
    expected, slopes = naive.with_derivatives(c, dx, dy, level, size, s)
    near = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 2e-5}
    torch.testing.assert_close(spline_patch.patches(c, dx, dy, level, size, s), expected, **near)
    found, found_slopes = spline_patch.with_derivatives(c, dx, dy, level, size, s)
    torch.testing.assert_close(found, expected, **near)
    torch.testing.assert_close(found_slopes, slopes, rtol=0, atol=50 * s * near["atol"])
    scale = torch.linspace(0.6, 2.0, len(dx), dtype=dtype)
    expected = naive.patches(c, dx, dy, level, size, s, scale)
    torch.testing.assert_close(spline_patch.patches(c, dx, dy, level, size, s, scale), expected, rtol=0, atol=30 * near["atol"])


def test_numba_reads_no_phase_of_a_neighbour() -> None:
    """A single coefficient in a corner of the reach shows where it is and nowhere else."""
    for s in (1, 2, 3):
        for row, column in ((0, 0), (0, 8 * s), (8 * s, 0), (4 * s, 8 * s)):
            c = torch.zeros(1, 4, 8 * s + 1, 8 * s + 1, dtype=torch.float64)
            c[:, :, row, column] = 1
            dx, dy, level = places(0, 1)
            torch.testing.assert_close(
                spline_patch.patches(c, dx, dy, level, 7, s), naive.patches(c, dx, dy, level, 7, s), rtol=0, atol=1e-15
            )


@pytest.mark.parametrize("nz", [1, 5])
def test_places_out_of_reach_and_places_that_are_none(nz: int) -> None:
    c = raster(2, nz, 15, 14)
    nan, inf = float("nan"), float("inf")
    dx, dy, level = (
        torch.tensor(v, dtype=torch.float64)
        for v in (
            [0.2, 3.4, nan, -0.1, 0.0, -90.0, 0.3, 0.1],
            [0.1, -1.01, 0.0, nan, 0.1, 1e12, 0.0, 0.2],
            [1.0, 0.4, 1, 1, nan, 1, inf, -inf],
        )
    )
    expected, slopes = naive.with_derivatives(c, dx, dy, level, 7, 1)
    found, found_slopes = spline_patch.with_derivatives(c, dx, dy, level, 7, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13, equal_nan=True)
    torch.testing.assert_close(found_slopes, slopes, rtol=0, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(spline_patch.patches(c, dx, dy, level, 7, 1), expected, rtol=0, atol=1e-13, equal_nan=True)
    scaled = spline_patch.patches(c, dx, dy, level, 7, 1, torch.ones_like(dx))
    known = ~(dx.isnan() | dy.isnan() | (level.isnan() & (nz > 1)))
    torch.testing.assert_close(scaled[known], expected[known], rtol=0, atol=1e-13)
    assert found[2:4].isnan().all()
    assert (found[5] == 0).all()


@pytest.mark.parametrize("s", [1, 2, 5])
@pytest.mark.parametrize("nz", [1, 4, 6])
def test_gradients_are_those_of_the_definition(s: int, nz: int) -> None:
    c = raster(2, nz, 7 * s, 6 * s + 1)
    dx, dy, level = places(12, max(nz - 3, 0))
    dx[3] = 1.6  # out of reach
    weight = torch.randn(len(dx), 2, 5, 5, generator=GENERATOR, dtype=torch.float64)
    gradients = []
    for draw in (naive.patches, spline_patch.patches):
        leaves = [t.clone().requires_grad_() for t in (c, dx, dy, level)]
        total = (draw(*leaves, 5, s) * weight).sum()
        gradients.append(torch.autograd.grad(total, leaves, allow_unused=True))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if expected is None else expected, rtol=0, atol=1e-11)


def test_gradients_are_finite_differences() -> None:
    generator = GENERATOR.manual_seed(4)
    leaves = [
        raster(2, 5, 7, 8),
        *(torch.rand(3, 4, generator=generator, dtype=torch.float64) * torch.tensor([[0.9], [0.9], [1.9]])),
    ]
    leaves = [t.requires_grad_() for t in leaves]
    assert torch.autograd.gradcheck(lambda *a: spline_patch.patches(*a, 5, 2), leaves)
    scale = torch.linspace(0.9, 1.3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: spline_patch.patches(*a[:-1], 3, 1, a[-1]), [*leaves, scale])


def test_only_what_is_asked_for_has_a_gradient() -> None:
    c, (dx, dy, level) = raster(1, 4, 7, 7), places(3, 1)
    level.requires_grad_()
    drawn = spline_patch.patches(c, dx, dy, level, 5, 1)
    assert torch.autograd.grad(drawn.sum(), level)[0].shape == level.shape
    with torch.no_grad():
        assert not spline_patch.patches(c, dx, dy, level, 5, 1).requires_grad


def test_sorted_coefficients_can_be_kept() -> None:
    c, (dx, dy, level) = raster(2, 5, 15, 17), places(9, 2)
    kept = spline_patch.sort_phases(c, 7, 2)
    assert kept.values.shape[:4] == (2, 5, 2, 2)
    torch.testing.assert_close(
        spline_patch.patches(c, dx, dy, level, 7, 2, phases=kept), naive.patches(c, dx, dy, level, 7, 2), rtol=0, atol=1e-12
    )


def test_the_adjoint_undoes_the_order_of_phases() -> None:
    c = raster(1, 4, 9, 11).numpy()
    for s, size in ((1, 15), (2, 9), (3, 9)):
        phases = numba_cpu.sort_phases(c, size, s)
        np.testing.assert_array_equal(numba_cpu.unsort_phases(phases.values, phases, c.shape), c)


def test_nobody_is_drawn() -> None:
    c, none = raster(2, 4, 9, 9), torch.zeros(0, dtype=torch.float64)
    assert spline_patch.patches(c, none, none, none, 5, 1).shape == (0, 2, 5, 5)
    assert spline_patch.patches(c, none, none, none, 5, 1, none).shape == (0, 2, 5, 5)
    values, slopes = spline_patch.with_derivatives(c, none, none, none, 5, 1)
    assert (values.shape, slopes.shape) == ((0, 2, 5, 5), (0, 3, 2, 5, 5))


# ------------------------------------------------------------------------------------------------------------------ Triton on CUDA


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("s", "planes", "nz", "size"), [(1, 1, 1, 5), (1, 2, 6, 13), (2, 3, 4, 7), (3, 4, 5, 21)])
def test_triton_is_the_definition(dtype: torch.dtype, s: int, planes: int, nz: int, size: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here; the Triton kernel runs on one only")
    pytest.importorskip("triton", reason="triton is not installed")
    from denseloc.kernels.spline_patch import triton_gpu

    c = raster(planes, nz, 9 * s, 10 * s + 1, dtype).cuda()
    dx, dy, level = (t.cuda() for t in places(25, max(nz - 3, 0), dtype))
    dx[0], dy[1] = 40.0, -1e9
    expected, slopes = naive.with_derivatives(c, dx, dy, level, size, s)
    atol = 1e-12 if dtype == torch.float64 else 5e-5
    torch.testing.assert_close(triton_gpu.patches(c, dx, dy, level, size, s), expected, rtol=0, atol=atol)
    found, found_slopes = triton_gpu.with_derivatives(c, dx, dy, level, size, s)
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)
    torch.testing.assert_close(found_slopes, slopes, rtol=0, atol=50 * s * atol)
