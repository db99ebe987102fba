"""Grids finer than the pixels: smoothing, truth and maxima against what they mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from denseloc.data import Emitters
from denseloc.localize.peaks import VoxelGrid, find_peaks, lone_energy, lone_height, smoothed

PIXEL_NM = (110.0, 100.0)


def kernel() -> np.ndarray:
    values = np.exp(-(np.arange(-3, 4.0) ** 2) / 2)
    return values / values.sum()


def emitters(x, y, z, frame=None) -> Emitters:
    frame = torch.zeros(len(x), dtype=torch.long) if frame is None else torch.tensor(frame)
    x, y, z = (torch.tensor(values, dtype=torch.float64) for values in (x, y, z))
    return Emitters.of(frame, x, y, torch.ones(len(x)), z)


@pytest.mark.parametrize("depths", [1, 2, 5, 9])
def test_smoothing_is_a_convolution(depths, generator):
    maps = torch.rand(2, depths, 12, 9, generator=generator)
    expected = maps.numpy()
    for axis in (2, 3) if depths == 1 else (1, 2, 3):
        expected = correlate1d(expected, kernel(), axis=axis, mode="constant")
    np.testing.assert_allclose(smoothed(maps).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("depths", [1, 7])
def test_a_lone_emitter(depths):
    maps = torch.zeros(1, depths, 15, 15)
    maps[0, depths // 2, 7, 7] = 1
    lone = smoothed(maps)
    assert lone.max().item() == pytest.approx(lone_height(depths), rel=1e-5)
    assert lone.square().sum().item() == pytest.approx(lone_energy(depths), rel=1e-5)


def test_truth_is_the_smoothed_points():
    grid = VoxelGrid(4, 6, (-300.0, 300.0))
    step = grid.step_nm
    assert step == 100
    x, y, z = (5 + 0.5) * 25.0, (9 + 0.5) * 27.5, -300 + (2 + 0.5) * step
    found = grid.smooth_truth(emitters([x, x + 10.0], [y, y], [z, z], [0, 1]), 2, (24, 20), PIXEL_NM)
    points = torch.zeros(2, 6, 24, 20)
    points[0, 2, 9, 5] = 1
    points[1, 2, 9, 5], points[1, 2, 9, 6] = 0.6, 0.4
    torch.testing.assert_close(found, smoothed(points), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("depths", [1, 8])
def test_places_come_back(depths, generator):
    grid = VoxelGrid(4, depths, (0.0, 800.0)) if depths > 1 else VoxelGrid(8)
    n = 6
    x, y = 2000 * torch.rand(n, generator=generator) + 500, 2000 * torch.rand(n, generator=generator) + 500
    z = 200 + 400 * torch.rand(n, generator=generator)
    truth = Emitters.of(torch.arange(n), x, y, torch.ones(n), z)
    shape = (30 * grid.finer, 30 * grid.finer)
    reach = (3 if depths > 1 else 0, 4, 4)
    table = find_peaks(grid.smooth_truth(truth, n, shape, PIXEL_NM), 0.3 * lone_height(depths), reach).table(grid, PIXEL_NM)
    assert len(table) == n
    np.testing.assert_allclose(table.x_nm, x, atol=0.3)
    np.testing.assert_allclose(table.y_nm, y, atol=0.3)
    if depths > 1:
        np.testing.assert_allclose(table.z_nm, z, atol=3)
        assert (table.sigma_z_nm < 0.6 * grid.step_nm).all()
    assert (table.probability > 0.8).all()
    assert (table.sigma_x_nm < 0.6 * 100 / grid.finer).all()


def test_one_place_holds_several_depths():
    grid = VoxelGrid(4, 20, (0.0, 2000.0))
    maps = grid.smooth_truth(emitters([600.0] * 2, [700.0] * 2, [450.0, 1450.0]), 1, (60, 60), PIXEL_NM)
    found = find_peaks(maps, 0.01, (2, 4, 4)).table(grid, PIXEL_NM).z_nm
    np.testing.assert_allclose(found, [450, 1450], atol=2)
    assert len(find_peaks(maps, 0.01, (12, 4, 4)).at) == 1  # a reach over both


def test_the_first_of_equal_voxels_counts():
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, 4, 3:6] = 1
    assert find_peaks(maps, 0.5, (0, 2, 2)).at.tolist() == [[0, 0, 4, 3]]


def test_maxima_are_those_of_the_whole_window(generator):
    maps = torch.rand(2, 4, 30, 26, generator=generator)
    pooled = torch.nn.functional.max_pool3d(maps, (3, 5, 7), 1, (1, 2, 3))
    expected = torch.nonzero((maps == pooled) & (maps > 0.4))
    assert 4 < len(expected) < 100
    torch.testing.assert_close(find_peaks(maps, 0.4, (1, 2, 3)).at, expected)


def test_nothing_above_the_least():
    found = find_peaks(torch.zeros(1, 3, 8, 8), 0.1, (1, 2, 2))
    assert len(found.at) == 0
    assert len(found.table(VoxelGrid(4, 3, (0.0, 300.0)), PIXEL_NM)) == 0
