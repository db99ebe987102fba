"""Every kernel has a plain definition, and a fast file gives what the definition gives."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import denseloc.kernels
from denseloc.kernels.gaussian_pixel import naive as gaussian_pixel
from denseloc.kernels.gaussian_pixel import numba_cpu as gaussian_pixel_fast
from denseloc.kernels.map_interpolation import naive as maps_naive
from denseloc.kernels.map_interpolation import numba_cpu as maps_fast
from denseloc.kernels.merge import naive as merge_naive
from denseloc.kernels.merge import numba_cpu as merge_fast
from denseloc.kernels.splat import naive as splat_naive
from denseloc.kernels.splat import numba_cpu as splat_fast

ROOT = Path(denseloc.kernels.__file__).parent
FOLDERS = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__")
FAST = [(f, p.stem) for f in FOLDERS for p in sorted((ROOT / f).glob("*.py")) if p.stem not in ("__init__", "naive")]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_has_its_definition(folder: str) -> None:
    naive = importlib.import_module(f"denseloc.kernels.{folder}.naive")
    assert naive.__doc__
    public = [f for name, f in inspect.getmembers(naive, inspect.isfunction) if f.__module__ == naive.__name__ and name[0] != "_"]
    assert public
    assert all(f.__doc__ for f in public)


@pytest.mark.parametrize(("folder", "file"), FAST)
def test_every_fast_file_is_tested_against_its_definition(folder: str, file: str) -> None:
    beside = Path(__file__).resolve().parents[1] / "kernels" / f"test_{folder}.py"
    text = Path(__file__).read_text(encoding="utf-8") + (beside.read_text(encoding="utf-8") if beside.exists() else "")
    imports = [line for line in text.splitlines() if "import" in line and folder in line.replace(".", " ").split()]
    chosen_by_folder = file in (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
    assert any("naive" in line for line in imports), f"no test reads kernels/{folder}/naive.py"
    assert chosen_by_folder or any(file in line for line in imports), f"no test compares kernels/{folder}/{file}.py with naive.py"


@pytest.mark.parametrize("folder", FOLDERS)
def test_kernels_know_no_type_of_the_project(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path}:{node.lineno} looks outside of its kernel"
                assert not (node.module or "").startswith("denseloc"), f"{path}:{node.lineno} looks outside of its kernel"


# ------------------------------------------------------------------------------------------------------------------------- splat


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("planes", "size", "shape"), [(1, 5, (9, 11)), (3, 7, (5, 3)), (2, 1, (1, 1)), (1, 9, (4, 21))])
def test_splat_fast_is_the_definition(dtype: torch.dtype, planes: int, size: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    n = 60
    patches = torch.rand(n, planes, size, size, generator=generator, dtype=dtype)
    frame = torch.randint(0, 4, (n,), generator=generator)
    row = torch.randint(-8, shape[0] + 8, (n,), generator=generator)
    column = torch.randint(-8, shape[1] + 8, (n,), generator=generator)
    row[0], column[0] = -(10**9), 10**9  # far outside
    frames = torch.rand(4, planes, *shape, generator=generator, dtype=dtype)
    before = frames.clone()
    expected = splat_naive.splat(patches, frame, row, column, frames)
    torch.testing.assert_close(frames, before, rtol=0, atol=0)
    splat_fast.splat(patches.numpy(), frame.numpy(), row.numpy(), column.numpy(), frames.numpy())
    torch.testing.assert_close(frames, expected, rtol=1e-6 if dtype == torch.float32 else 1e-13, atol=1e-6)


def test_splat_adds_patches_where_they_belong_and_is_differentiable() -> None:
    patch = torch.arange(9.0, dtype=torch.float64).reshape(1, 1, 3, 3).requires_grad_()
    frames = torch.zeros(2, 1, 4, 5, dtype=torch.float64)
    total = splat_naive.splat(patch, torch.tensor([1]), torch.tensor([0]), torch.tensor([4]), frames)
    expected = torch.zeros_like(frames)
    expected[1, 0, 0, 3:], expected[1, 0, 1, 3:] = torch.tensor([3.0, 4.0]), torch.tensor([6.0, 7.0])
    torch.testing.assert_close(total, expected)
    (gradient,) = torch.autograd.grad(total.sum(), patch)
    torch.testing.assert_close(gradient[0, 0], torch.tensor([[0.0, 0, 0], [1, 1, 0], [1, 1, 0]], dtype=torch.float64))


# ------------------------------------------------------------------------------------------------------------- map interpolation


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("nodes_per_px", [1, 2, 3])
@pytest.mark.parametrize(("depths", "size"), [(1, 5), (2, 7), (5, 3)])
def test_map_interpolation_fast_is_the_definition(dtype: torch.dtype, nodes_per_px: int, depths: int, size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    side = nodes_per_px * size + 1
    maps = torch.randn(depths, side, side, generator=generator, dtype=dtype)
    dx, dy = torch.rand(2, 50, generator=generator, dtype=dtype) - 0.5
    level = torch.rand(50, generator=generator, dtype=dtype) * (depths + 2) - 1.5
    dx[:4], dy[:4] = torch.tensor([-0.5, 0.5, 0.0, 0.5], dtype=dtype), torch.tensor([0.5, 0.5, 0.0, -0.5], dtype=dtype)
    level[:4] = torch.tensor([0.0, depths - 1.0, depths + 9.0, -9.0], dtype=dtype)
    expected = maps_naive.interpolate(maps, dx, dy, level, size, nodes_per_px)
    found = torch.ones(50, size, size, dtype=dtype)
    phases = maps_naive.polyphase(maps, size, nodes_per_px).contiguous()
    maps_fast.add_interpolated(phases.numpy(), dx.numpy(), dy.numpy(), level.numpy(), nodes_per_px, found.numpy())
    torch.testing.assert_close(found - 1, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("nodes_per_px", [1, 2])
def test_map_interpolation_reproduces_a_plane(nodes_per_px: int) -> None:
    size, depths = 5, 4
    at = torch.arange(nodes_per_px * size + 1, dtype=torch.float64) / nodes_per_px - size / 2
    z = torch.arange(depths, dtype=torch.float64)
    maps = 2 * at[None, None, :] - 3 * at[None, :, None] + 0.5 * z[:, None, None]
    dx, dy, level = (torch.tensor(v, dtype=torch.float64) for v in ([0.1, -0.37], [0.4, -0.5], [1.25, 2.9]))
    found = maps_naive.interpolate(maps, dx, dy, level, size, nodes_per_px)
    pixel = torch.arange(size, dtype=torch.float64) - size // 2
    x, y = pixel[None, None, :] - dx[:, None, None], pixel[None, :, None] - dy[:, None, None]
    torch.testing.assert_close(found, 2 * x - 3 * y + 0.5 * level[:, None, None])


def test_map_interpolation_has_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 11, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    dx, dy, level = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([0.13, -0.31], [0.21, -0.07], [1.3, 0.4]))
    assert torch.autograd.gradcheck(lambda *a: maps_naive.interpolate(*a, 5, 2), (maps, dx, dy, level))


# ------------------------------------------------------------------------------------------------------------------------- merge


def crowd(seed: int, n_frames: int = 4, side: int = 12) -> tuple[np.ndarray, ...]:
    """Pixels in clumps, with equal probabilities here and there."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(n_frames * side * side)[: rng.integers(1, 250)]
    frame, row, column = cells // side**2 + 7, cells % side**2 // side, cells % side
    probability = rng.integers(1, 8, len(cells)) / 8.0
    x, y = column + rng.normal(0, 0.6, len(cells)), row + rng.normal(0, 0.6, len(cells))
    return frame, row, column, probability, x, y, rng.normal(0, 0.4, len(cells))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_merge_fast_is_the_definition(seed: int, dtype: type) -> None:
    frame, row, column, *values = crowd(seed)
    arguments = (frame, row, column, *(v.astype(dtype) for v in values))
    expected = merge_naive.merge(*arguments, 2, 0.8, 0.5)
    np.testing.assert_array_equal(merge_fast.merge(*arguments, 2, 0.8, 0.5), expected)
    assert (frame[expected] == frame).all()
    assert (expected[expected] == expected).all()  # founders belong to themselves


def test_merge_of_nothing() -> None:
    none, whole = np.empty(0), np.empty(0, np.int64)
    for file in (merge_naive, merge_fast):
        assert len(file.merge(whole, whole, whole, none, none, none, none, 2, 0.8, 0.5)) == 0


def test_merge_limits() -> None:
    frame, row = np.zeros(5, np.int64), np.zeros(5, np.int64)
    column = np.array([4, 5, 6, 7, 3])
    probability = np.array([0.9, 0.5, 0.4, 0.3, 0.2])
    x, y, z = np.full(5, 4.0), np.zeros(5), np.array([0.0, 0.5, 0, 0, 0.6])
    x[2] = 4.9
    group = merge_fast.merge(frame, row, column, probability, x, y, z, 2, 0.8, 0.5)
    # the second agrees to the limit in z; the third lies 0.9 px away; the fourth three columns away, though within reach of the third
    assert group.tolist() == [0, 0, 2, 3, 4]


# --------------------------------------------------------------------------------------------------------------- Gaussian pixels


def test_line_integrals_are_differences_of_the_error_function() -> None:
    from scipy.stats import norm

    centre, width = torch.tensor([0.3, -0.5], dtype=torch.float64), torch.tensor([0.7, 2.0], dtype=torch.float64)
    found = gaussian_pixel.line_integrals(centre, width, 7)
    edges = np.arange(8) - 3.5
    for i in range(2):
        np.testing.assert_allclose(found[i], np.diff(norm.cdf(edges, float(centre[i]), float(width[i]))), atol=1e-12)


@pytest.mark.parametrize(("width", "error"), [(0.6, 2e-4), (1.0, 1e-5), (1.3, 2e-6)])
def test_the_quadrature_of_turned_gaussians_is_as_good_as_it_says(width: float, error: float) -> None:
    dx, dy = torch.tensor([0.2], dtype=torch.float64), torch.tensor([-0.4], dtype=torch.float64)
    a = torch.tensor([width], dtype=torch.float64)
    exact = gaussian_pixel.aligned(dx, dy, a, 1.5 * a, 11)
    turned = gaussian_pixel.rotated(dx, dy, 1.5 * a, a, torch.tensor(np.pi / 2), 11)
    assert (turned - exact).abs().max() < error * exact.max()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 2e-8), (torch.float32, 5e-7)])
@pytest.mark.parametrize("aspect", [1.0, 1.3, 0.6])
@pytest.mark.parametrize("size", [5, 7, 27])
@pytest.mark.parametrize("angle", [0.0, 0.8, -0.35, np.pi / 2])
def test_turned_gaussians_fast_are_the_definition(dtype: torch.dtype, error: float, aspect: float, size: int, angle: float) -> None:
    generator = torch.Generator().manual_seed(2)
    n = 120
    dx, dy = torch.rand(2, n, generator=generator, dtype=dtype) - 0.5
    dx[:4], dy[:4] = torch.tensor([-0.5, 0.5, 0.0, 0.5], dtype=dtype), torch.tensor([0.5, 0.5, 0.0, -0.5], dtype=dtype)
    a, b = 0.4 * 20 ** torch.rand(2, n, generator=generator, dtype=dtype)  # 0.4 to 8 px
    a[4:6] = 0.01  # far narrower than any PSF, beside a wide axis and a narrow one
    b[5] = 0.01
    expected = gaussian_pixel.rotated(dx, dy, a, b, torch.tensor(angle, dtype=dtype), size, aspect)
    found = torch.full((n, size, size), torch.nan, dtype=dtype)
    gaussian_pixel_fast.rotated(dx.numpy(), dy.numpy(), a.numpy(), b.numpy(), angle, aspect, found.numpy())
    peak = aspect / (2 * np.pi * a * b)
    assert ((found - expected).abs().amax((1, 2)) / peak).max() < error
