"""DeepLoco: its loss compares lists as distributions, its windows cover fields of any size, and its rows become localizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from denseloc.data import Emitters
from denseloc.errors import TrainingError
from denseloc.localize import Batch, DeepLoco, DeepLocoSettings, InputConditions, Scales
from denseloc.localize.deep_loco import spread
from denseloc.localize.windows import Windows

SIZE = (110.0, 100.0)  # y, x


def localizer(z_unit_nm: float = 0.0, **settings: Any) -> DeepLoco:
    scales = Scales(SIZE, z_unit_nm, 1000.0, 1, InputConditions(10.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DeepLocoSettings(**{"preset": "tiny", **settings}).build(scales).eval()


def rows(*of: tuple[float, ...], rows: int = 24, axes: int = 2) -> torch.Tensor:
    """Make a list (rows, 1 + axes) of (weight, x, y, ...) from 0 to 1, filled up with rows of no weight."""
    filled = torch.full((rows, 1 + axes), 0.5)
    filled[:, 0] = 1e-6
    for i, row in enumerate(of):
        filled[i] = torch.tensor(row)
    return torch.logit(filled)


def test_the_papers_size_is_built_and_learns() -> None:
    paper = localizer(700.0, preset="paper").train()
    assert (paper.side, paper.rows) == (64, 256)
    convolutions = [16 * 25 + 16, 16 * 16 * 25 + 16, 16 * 64 * 4 + 64, 2 * (64 * 64 * 9 + 64), 64 * 256 * 4 + 256]
    convolutions += [2 * (256 * 256 * 9 + 256), 256 * 256 * 16 + 256]
    dense = [4096 * 1024 + 1024, 2 * (2 * 1024**2 + 1024), 1024 * 256 * 4 + 256 * 4]
    assert sum(weight.numel() for weight in paper.parameters()) == sum(convolutions) + sum(dense)
    truth = Emitters.of(
        torch.tensor([0, 0]), torch.tensor([900.0, 5000.0]), torch.tensor([700.0, 400.0]), torch.ones(2), torch.ones(2)
    )
    photons = torch.full((1, 1, 1, 64, 64), 10.0)
    photons[0, 0, 0, 6, 9] = photons[0, 0, 0, 3, 50] = 500.0
    batch = Batch(photons, paper.conditions.tensor(1), truth, torch.full((1, 1, 64, 64), 10.0), torch.tensor([False]))
    optimizer = torch.optim.Adam(paper.parameters(), 3e-4)
    losses = []
    for _ in range(3):
        loss = paper.batch_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


def test_the_loss_is_the_discrepancy_of_weighted_points() -> None:
    of = localizer(500.0)
    generator = torch.Generator().manual_seed(3)
    lists, place = torch.randn(2, 24, 4, generator=generator), torch.rand(2, 3, 3, generator=generator)
    real = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    total = 0.0
    scale = torch.tensor([1600.0, 1760.0, 200.0])
    for one, true, is_real in zip(lists, place, real, strict=True):
        points = torch.cat((torch.sigmoid(one[:, 1:]), true[is_real > 0])) * scale
        weights = torch.cat((torch.sigmoid(one[:, 0]), -torch.ones(int(is_real.sum()))))
        for i in range(len(points)):
            for j in range(len(points)):
                apart = (points[i] - points[j]).abs().sum()
                total += sum(float(weights[i] * weights[j] * torch.exp(-apart / s)) for s in (64, 320, 640, 1920))
    assert of.loss(lists, place, real).item() == pytest.approx(total / 4, rel=1e-4)


def test_the_loss_is_least_for_the_truth_in_any_order() -> None:
    of = localizer()
    place, real = torch.tensor([[[0.2, 0.3], [0.7, 0.6]]]), torch.ones(1, 2)

    def loss(*given: tuple[float, ...]) -> float:
        return of.loss(rows(*given)[None], place, real).item()

    right = loss((0.999999, 0.7, 0.6), (0.999999, 0.2, 0.3))
    assert right == pytest.approx(0, abs=1e-3)
    shared = loss((0.999999, 0.7, 0.6), (0.5, 0.2, 0.3), (0.5, 0.2, 0.3))
    assert shared == pytest.approx(0, abs=1e-3)
    near, far = (loss((0.999999, 0.7, 0.6), (0.999999, 0.2 + d, 0.3)) for d in (0.01, 0.1))
    assert right + 0.05 < near < far < loss((0.999999, 0.7, 0.6))


def test_the_truth_of_windows_is_padded() -> None:
    of = localizer(500.0)
    windows = Windows((16, 24), 16, 0)
    e = Emitters.of(
        torch.tensor([1, 0, 1]),
        torch.tensor([100.0, 2000.0, 1200.0]),
        torch.tensor([55.0, 110.0, 880.0]),
        torch.ones(3),
        torch.tensor([0.0, 250.0, -500.0]),
    )
    place, real = of.truth(e, 2, windows)
    assert windows.corners.tolist() == [[0, 0], [0, 8]]
    assert real.tolist() == [[0, 0], [1, 0], [1, 1], [1, 0]]
    torch.testing.assert_close(place[1, 0], torch.tensor([0.75, 1 / 16, 0.75]))
    torch.testing.assert_close(place[2], torch.tensor([[1 / 16, 0.5 / 16, 0.5], [0.75, 0.5, 0.0]]))
    torch.testing.assert_close(place[3, 0], torch.tensor([0.25, 0.5, 0.0]))


def test_patches_smaller_than_the_input_are_refused() -> None:
    e = Emitters.of(torch.tensor([0]), torch.ones(1), torch.ones(1), torch.ones(1))
    small = Batch(torch.ones(1, 1, 1, 24, 24), InputConditions(10.0).tensor(1), e, torch.ones(1, 1, 24, 24), torch.tensor([False]))
    with pytest.raises(
        TrainingError,
        match=r"training\.patch_px 24; the preset 'small' of deep_loco looks at 32 x 32 pixels: make it 32 or a multiple",
    ):
        localizer(preset="small").batch_loss(small)


def test_rows_near_each_other_are_one_molecule() -> None:
    of = localizer()
    given = rows((0.3, 0.50, 0.5), (0.6, 0.53, 0.5), (0.9, 0.2, 0.2), (0.34, 0.8, 0.8))[None, None]
    found = of.read(given, torch.zeros(1, 1, 16, 16), of.conditions.tensor(1), SIZE)
    table = found.table.select(np.argsort(found.table.x_nm))
    np.testing.assert_allclose(table.probability, [0.9, 0.9], atol=1e-4)
    np.testing.assert_allclose(table.x_nm, [320.0, 1600 * (0.3 * 0.5 + 0.6 * 0.53) / 0.9], rtol=1e-3)
    np.testing.assert_allclose(table.y_nm, [352.0, 880.0], rtol=1e-3)
    assert sorted(found.column) == [3, 8]


def test_depth_counts_a_fifth() -> None:
    of = localizer(500.0)
    for apart, found in ((0.45, 1), (0.55, 2)):
        given = rows((0.9, 0.5, 0.5, 0.2), (0.8, 0.5, 0.5, 0.2 + apart), axes=3)[None, None]
        table = of.read(given, torch.zeros(1, 1, 16, 16), of.conditions.tensor(1), SIZE).table
        assert len(table) == found
    np.testing.assert_allclose(np.sort(table.z_nm), [-300.0, 250.0], rtol=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (40, 61), (130, 20), (9, 33)])
def test_each_molecule_is_read_once_wherever_windows_meet(shape: tuple[int, int], generator: torch.Generator) -> None:
    """Every window reports all it sees, a little wrong, those near its ends badly; exactly the molecules come out."""
    of = localizer()
    windows = of.windows(shape)
    grid = torch.cartesian_prod(torch.arange(1.0, shape[1] - 0.5, 3.01), torch.arange(1.0, shape[0] - 0.5, 2.77))  # x, y in px
    corners = windows.corners
    lists = torch.stack([rows(rows=200)] * len(corners))
    for w, (row, column) in enumerate(corners.tolist()):
        here = (grid[:, 0] > column) & (grid[:, 0] < column + 16) & (grid[:, 1] > row) & (grid[:, 1] < row + 16)
        seen = grid[here] - torch.tensor([column, row])
        seen = (seen + 0.1 * torch.randn(seen.shape, generator=generator)).clamp(0.01, 15.99) / 16
        lists[w, : len(seen)] = torch.logit(torch.cat((0.6 + 0.3 * torch.rand(len(seen), 1, generator=generator), seen), 1))
    found = of.read(lists[None], torch.zeros(1, 1, *shape), of.conditions.tensor(1), SIZE).table
    assert len(found) == len(grid)
    at = np.stack((found.x_nm / 100, found.y_nm / 110), 1)
    nearest = np.abs(at[:, None] - grid.numpy()).max(2).argmin(1)
    assert len(set(nearest)) == len(grid)


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (5, 90), (101, 33)])
def test_cores_cover_the_field_once(shape: tuple[int, int], generator: torch.Generator) -> None:
    windows = Windows(shape, 16, 5)
    at = (torch.rand(500, 2, generator=generator) * torch.tensor(shape)).double().numpy()
    owners = np.stack([windows.owns(np.full(500, w), at) for w in range(len(windows.corners))])
    assert (owners.sum(0) == 1).all()
    corners = windows.corners.numpy()
    assert (corners >= 0).all()
    for axis in range(2):
        inside = at[:, axis] - corners[owners.argmax(0), axis]
        assert (inside >= np.minimum(5, at[:, axis]) - 1e-9).all()
        assert (16 - inside >= np.minimum(5, np.maximum(shape[axis] - at[:, axis], 0)) - 1e-9).all()


def test_windows_show_the_field_and_nothing_beyond_it() -> None:
    images = torch.arange(20.0 * 12).reshape(1, 1, 20, 12) + 1
    windows = Windows((20, 12), 16, 5)
    cut = windows.cut(images)
    assert cut.shape == (1, 2, 1, 16, 16)
    assert torch.equal(cut[0, 1, 0, :, :12], images[0, 0, 4:20])
    assert (cut[..., 12:] == 0).all()


@pytest.mark.parametrize("axes", [2, 3])
def test_rows_begin_spread_over_the_volume(axes: int) -> None:
    points = spread(64, axes)
    assert points.min() >= 0.1
    assert points.max() <= 0.9
    apart = torch.cdist(points, points).fill_diagonal_(9).min(1).values
    assert apart.min() > 0.3 * 64 ** (-1 / axes)
