"""Voxel-wise regression: the paper's size, the target, the hardest negatives, and molecules on the border between voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from denseloc.data import Emitters, Localizations
from denseloc.localize import Batch, InputConditions, Scales, VoxelWise, VoxelWiseSettings

SIZE = (200.0, 192.0)  # y, x


def localizer(planes: int = 4, z_unit_nm: float = 800.0, **settings: Any) -> VoxelWise:
    scales = Scales(SIZE, z_unit_nm, 3000.0, planes, InputConditions(10.0, 1.0, 9.0, 0.7))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VoxelWiseSettings(**{"preset": "tiny", **settings}).build(scales)


def emitters(*rows: tuple[float, ...], frame: int = 0) -> Emitters:
    """Make emitters of (x, y, z) in nm, or with photons as a fourth number."""
    values = torch.tensor([(*row, 1000.0)[:4] for row in rows]).reshape(-1, 4)
    return Emitters.of(torch.full((len(rows),), frame), values[:, 0], values[:, 1], values[:, 3], values[:, 2])


def maps_of(places: dict[tuple[int, int, int], tuple[float, ...]], of: VoxelWise, side: int = 6) -> torch.Tensor:
    """Draw maps of one frame: (slice, row, column) -> (probability, x, y, z in the voxel); nothing elsewhere."""
    maps = torch.zeros(1, of.slices * (1 + of.axes), side, side)
    maps[:, : of.slices] = -15.0
    for (depth, row, column), (p, *place) in places.items():
        maps[0, depth, row, column] = torch.logit(torch.tensor(p))
        first = of.slices + depth * of.axes
        maps[0, first : first + of.axes, row, column] = torch.logit(torch.tensor(place[: of.axes]))
    return maps


def read(of: VoxelWise, maps: torch.Tensor) -> Localizations:
    n, side = len(maps), maps.shape[-1]
    return of.read(maps, torch.zeros(n, 4, side, side), of.conditions.tensor(n), SIZE).table


def test_the_papers_network_has_its_size_and_learns() -> None:
    paper = localizer(preset="paper")
    assert sum(weight.numel() for weight in paper.parameters()) == 206_704
    generator = torch.Generator().manual_seed(1)
    truth = emitters((700.0, 900.0, -300.0), (2000.0, 1100.0, 500.0))
    photons = torch.poisson(torch.full((2, 1, 4, 16, 16), 10.0), generator=generator)
    for e, (plane, row, column) in zip(range(2), ((1, 4, 3), (3, 5, 10)), strict=True):
        photons[0, 0, plane, row, column] += 300 + e
    batch = Batch(photons, paper.conditions.tensor(2), truth, torch.full((2, 1, 16, 16), 10.0), torch.zeros(2, dtype=torch.bool))
    optimizer = torch.optim.Adam(paper.parameters(), 3e-3)
    losses = []
    for _ in range(4):
        loss = paper.batch_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_molecules_have_their_voxel_and_place() -> None:
    index, place = localizer().voxels_of(emitters((200.0, 50.0, -700.0), (10.0, 430.0, 399.0), frame=3), (8, 8))
    order = torch.argsort(index[:, 1])
    assert index[order].tolist() == [[3, 0, 0, 1], [3, 2, 2, 0]]
    torch.testing.assert_close(place[order], torch.tensor([[8 / 192, 0.25, 0.25], [10 / 192, 0.15, 399 / 400]]))


def test_of_two_in_one_voxel_the_brighter_counts_and_ends_belong_to_the_volume() -> None:
    given = emitters((10.0, 10.0, 0.0, 500.0), (100.0, 10.0, 0.0, 900.0), (50.0, 10.0, 0.0, 700.0), (1536.0, 1600.0, 800.0))
    index, place = localizer().voxels_of(given, (8, 8))
    assert index.tolist() == [[0, 2, 0, 0], [0, 3, 7, 7]]
    torch.testing.assert_close(place, torch.tensor([[100 / 192, 0.05, 0.0], [1.0, 1.0, 1.0]]))


def test_without_depth_there_is_one_slice_and_no_z() -> None:
    flat = localizer(planes=1, z_unit_nm=0.0)
    assert (flat.slices, flat.axes) == (1, 2)
    table = read(flat, maps_of({(0, 2, 3): (0.9, 0.25, 0.5)}, flat))
    assert not table.is_3d
    np.testing.assert_allclose([table.x_nm[0], table.y_nm[0]], [3.25 * 192, 2.5 * 200], rtol=1e-5)
    assert localizer(planes=1, z_unit_nm=500.0, slices=5).slices == 5


def test_only_the_hardest_empty_voxels_are_learned_from() -> None:
    of = localizer(negatives=2.5)
    maps = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(2)).requires_grad_()
    truth = emitters((200.0, 50.0, -700.0), (500.0, 500.0, 10.0))
    of.loss(maps, truth).backward()
    assert maps.grad is not None
    learned = maps.grad[:, :4] != 0
    positive = torch.zeros_like(learned)
    positive[0, 0, 0, 1] = positive[0, 2, 2, 2] = True
    assert learned[positive].all()
    negative = learned & ~positive
    assert negative.sum() == 5
    assert maps[:, :4][negative].min() > maps[:, :4][~learned].max()
    assert (maps.grad[:, 4:] != 0).sum() == 2 * 3  # places of true voxels alone


def test_a_perfect_answer_costs_nothing() -> None:
    of, truth = localizer(), emitters((200.0, 50.0, -700.0))
    perfect = maps_of({(0, 0, 1): (1 - 1e-6, 8 / 192, 0.25, 0.25)}, of)
    assert of.loss(perfect, truth).item() < 1e-4
    moved = maps_of({(0, 0, 1): (1 - 1e-6, 8 / 192 + 0.2, 0.25, 0.35)}, of)
    assert of.loss(moved, truth).item() == pytest.approx(0.3, abs=1e-3)
    assert of.loss(perfect, truth.select(torch.tensor([False]))).item() > 1


@pytest.mark.parametrize(
    ("other", "where", "beside"),
    [
        ((1, 2, 3), (0.02, 0.5, 0.5), (0.98, 0.5, 0.5)),
        ((2, 2, 2), (0.5, 0.5, 0.02), (0.5, 0.5, 0.98)),
        ((0, 1, 1), (0.97,) * 3, (0.03,) * 3),
    ],
)
def test_a_molecule_on_a_border_is_found_once(
    other: tuple[int, int, int], where: tuple[float, float, float], beside: tuple[float, float, float]
) -> None:
    """Two touching voxels are half sure each; the paper's rule finds none, a lower threshold two."""
    of = localizer()
    maps = maps_of({(1, 2, 2): (0.4, *beside), other: (0.4, *where)}, of)
    table = read(of, maps)
    assert len(table) == 1
    assert table.probability[0] == pytest.approx(0.8, abs=1e-4)
    place = np.array([table.x_nm[0] / 192, table.y_nm[0] / 200, (table.z_nm[0] + 800) / 400])
    corners = np.array([[2, 2, 1], other[::-1]], float)
    np.testing.assert_allclose(place, (corners + np.array([beside, where])).mean(0), atol=1e-4)
    for threshold, found in ((None, 0), (0.3, 2)):
        assert len(read(localizer(suppression="none", threshold=threshold), maps)) == found


def test_neighbours_farther_apart_are_two() -> None:
    maps = maps_of({(1, 2, 2): (0.9, 0.4, 0.5, 0.5), (1, 2, 3): (0.8, 0.3, 0.5, 0.5), (3, 2, 2): (0.7, 0.4, 0.5, 0.0)}, localizer())
    assert len(read(localizer(), maps)) == 3
    assert len(read(localizer(border_nm=180.0), maps)) == 2
    assert len(read(localizer(border_nm=150.0), maps)) == 3


def test_frames_do_not_mix() -> None:
    of = localizer()
    maps = torch.cat((maps_of({(0, 0, 0): (0.9, 0.9, 0.5, 0.5)}, of), maps_of({(0, 0, 1): (0.8, 0.1, 0.5, 0.5)}, of)))
    assert read(of, maps).frame.tolist() == [0, 1]
