"""What every localizer on the shelf keeps to: Frames in, Localizations out, however they are cut."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from shelf_examples import example_of

from denseloc.data import Emitters, Frames, Localizations
from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.localize import LOCALIZERS, Batch, InputConditions, Localizer, LocalizerSettings, Scales, TrainableLocalizer

PIXEL_NM = (110.0, 100.0)


def settings_of(kind: str, **change: object) -> LocalizerSettings:
    section = LOCALIZERS.get(kind)
    return parse(section, {**example_of(section), **change}, "example")


def localizer_of(kind: str, planes: int = 1, z_unit_nm: float = 400.0, **change: object) -> Localizer:
    """Build a localizer; a network gets weights that make it find something everywhere."""
    scales = Scales(PIXEL_NM, z_unit_nm, 1000.0, planes, InputConditions(10.0, 1.0, 2.0, 1.3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        built = settings_of(kind, **change).build(scales)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in built.named_parameters():
            weight.add_(0.06 * torch.randn(weight.shape, generator=generator))
            if name.endswith("leave.bias"):
                weight[:4] += 5.0  # detections are no longer rare
    return built.eval()


def frames(n: int, rows: int, columns: int, planes: int = 1, first: int = 0, seed: int = 3) -> Frames:
    """Draw noisy frames with bright pixels."""
    generator = torch.Generator().manual_seed(seed)
    bright = torch.rand(n, planes, rows, columns, generator=generator) > 0.97
    return Frames(torch.poisson(10 + 120 * bright.float(), generator=generator), PIXEL_NM, first_frame=first)


def assert_same(found: Localizations, expected: Localizations, exact: bool = False) -> None:
    assert list(found.columns) == list(expected.columns)
    if not exact and len(found) == len(expected) > 0:  # rows whose y differ by rounding alone may have changed places
        here, there = (np.stack((1e6 * table.frame, table.x_nm, table.y_nm), 1) for table in (found, expected))
        order = cKDTree(here).query(there)[1]
        assert len(np.unique(order)) == len(order)
        found = found.select(order)
    np.testing.assert_array_equal(found.frame, expected.frame)
    for name in expected.columns:
        if exact:
            np.testing.assert_array_equal(found.columns[name], expected.columns[name], err_msg=name)
        else:
            np.testing.assert_allclose(found.columns[name], expected.columns[name], rtol=2e-3, atol=2e-3, err_msg=name)


def rows_of(table: Localizations, start: int, stop: int) -> Localizations:
    return table.select((table.frame >= start) & (table.frame < stop))


@pytest.fixture(params=LOCALIZERS.names())
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def localizer(kind: str) -> Localizer:
    return localizer_of(kind)


@pytest.fixture
def trainable(localizer: Localizer) -> TrainableLocalizer:
    if not isinstance(localizer, TrainableLocalizer):
        pytest.skip("is not trained")
    return localizer


def test_document_round_trip(kind: str) -> None:
    settings = settings_of(kind)
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings


def test_frames_become_a_sorted_table(localizer: Localizer) -> None:
    table = localizer(frames(4, 48, 40, first=100))
    assert len(table) > 20
    assert set(np.unique(table.frame)) == {100, 101, 102, 103}
    assert_same(table.sort(), table, exact=True)
    assert all(np.isfinite(values).all() for values in table.columns.values())
    if "photons" in table:
        assert (table.photons > 0).all()
    if "probability" in table:
        assert ((table.probability > 0) & (table.probability <= 1)).all()
    for name in (name for name in table.columns if name.startswith(("sigma_", "crlb_"))):
        assert (table.columns[name] > 0).all(), name


def test_a_network_says_how_sure_it_is(trainable: TrainableLocalizer) -> None:
    table = trainable(frames(2, 40, 36))
    for name in ("probability", "sigma_x_nm", "sigma_y_nm"):
        assert name in table


@pytest.mark.parametrize("tile_px", [16, 32, 64])
def test_tiles_do_not_change_the_result(localizer: Localizer, tile_px: int) -> None:
    movie = frames(2, 108, 130)
    assert tile_px + localizer.halo_px < 108  # inner tiles end inside of the frame
    expected = localizer(movie, tile_px=256)
    assert len(expected) > 100
    assert_same(localizer(movie, tile_px=tile_px), expected)


@pytest.mark.parametrize("n", [1, 4, 7, 50])
def test_blocks_do_not_change_the_result(localizer: Localizer, n: int) -> None:
    movie = frames(15, 40, 36, first=20)
    whole = localizer(movie)
    parts = []
    for start in range(20, 35, n):
        stop = min(start + n, 35)
        lo, hi = max(20, start - localizer.context), min(35, stop + localizer.context)
        block = dataclasses.replace(movie, photons=movie.photons[lo - 20 : hi - 20], first_frame=lo)
        parts.append(localizer(block, keep=(start, stop)))
    assert_same(Localizations.concat(parts).sort(), whole, exact=True)


def test_the_context_counts(localizer: Localizer) -> None:
    if localizer.context == 0:
        pytest.skip("looks at each frame alone")
    movie = frames(6, 40, 36)
    whole = rows_of(localizer(movie), 2, 4)
    alone = localizer(dataclasses.replace(movie, photons=movie.photons[2:4], first_frame=2))
    assert len(alone) != len(whole) or not np.allclose(alone.x_nm, whole.x_nm)


def test_both_ends_of_a_movie_are_localized(localizer: Localizer) -> None:
    movie = frames(9, 40, 36)
    table = localizer(movie)
    assert {0, 8} <= set(table.frame)
    assert_same(localizer(movie, keep=(0, 2)), rows_of(table, 0, 2), exact=True)
    assert_same(localizer(movie, keep=(7, 9)), rows_of(table, 7, 9), exact=True)


def test_a_movie_of_one_frame(localizer: Localizer) -> None:
    table = localizer(frames(1, 40, 36, first=5))
    assert set(table.frame) == {5}


@pytest.mark.parametrize("shape", [(37, 41), (5, 7), (1, 1), (4, 130)])
def test_frames_of_any_size(localizer: Localizer, shape: tuple[int, int]) -> None:
    table = localizer(frames(3, *shape), tile_px=64)
    assert_same(localizer(frames(3, *shape), tile_px=256), table)
    reach = 5
    assert ((table.x_nm > -reach * 100) & (table.x_nm < (shape[1] + reach) * 100)).all()
    assert ((table.y_nm > -reach * 110) & (table.y_nm < (shape[0] + reach) * 110)).all()


def test_the_place_of_a_region_is_that_of_the_field(localizer: Localizer) -> None:
    movie = frames(2, 40, 36)
    here = localizer(movie)
    there = localizer(dataclasses.replace(movie, origin_px=(100, 200)))
    assert_same(there.shifted(-200 * 100.0, -100 * 110.0), here)


def test_dark_frames_give_an_empty_table(kind: str) -> None:
    plain = settings_of(kind).build(Scales(PIXEL_NM, 0.0, 1000.0, 1, InputConditions(10.0))).eval()
    table = plain(Frames(torch.full((2, 1, 24, 24), 10.0), PIXEL_NM))
    assert len(table) == 0
    assert not table.is_3d


def test_the_frames_given_are_not_changed(localizer: Localizer) -> None:
    movie = frames(3, 37, 41)
    before = movie.photons.clone()
    localizer(movie)
    torch.testing.assert_close(movie.photons, before, rtol=0, atol=0)


def test_several_planes(kind: str) -> None:
    table = localizer_of(kind, planes=2)(frames(3, 40, 36, planes=2))
    assert len(table) > 0


def test_a_higher_threshold_keeps_fewer(localizer: Localizer) -> None:
    movie = frames(3, 40, 36)
    every = localizer(movie)
    if "probability" not in every:
        pytest.skip("gives no probability")
    localizer.threshold = float(np.median(every.probability))
    fewer = localizer(movie)
    assert 0 < len(fewer) < len(every)
    assert fewer.probability.min() >= localizer.threshold


# ---------------------------------------------------------------------------------------------------------------------- training


def batch(context: int, b: int = 2, side: int = 24) -> Batch:
    """Draw windows of two inner frames with three emitters each, at the places of bright pixels or not."""
    generator = torch.Generator().manual_seed(8)
    t, n = 2 + 2 * context, 2 * b
    x, y = (side * p * torch.rand(3 * n, generator=generator) for p in (PIXEL_NM[1], PIXEL_NM[0]))
    z = 600 * torch.rand(3 * n, generator=generator) - 300
    emitters = Emitters.of(torch.arange(n).repeat_interleave(3), x, y, torch.full((3 * n,), 900.0), z)
    photons = torch.stack([frames(t, side, side, seed=i).photons for i in range(b)])
    conditions = InputConditions(10.0, 1.0, 2.0, 1.3).tensor(b)
    return Batch(photons, conditions, emitters, torch.full((n, 1, side, side), 10.0), torch.arange(b) == 1)


def test_what_needs_training_can_be_trained(kind: str, localizer: Localizer) -> None:
    if LOCALIZERS.get(kind).needs_training:
        assert isinstance(localizer, TrainableLocalizer)


def test_the_loss_reaches_every_weight(trainable: TrainableLocalizer) -> None:
    loss = trainable.train().batch_loss(batch(trainable.context))
    assert loss.shape == ()
    loss.backward()
    for name, weight in trainable.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    assert sum(weight.grad.abs().sum().item() for weight in trainable.parameters()) > 0


def test_the_loss_depends_on_the_truth(trainable: TrainableLocalizer) -> None:
    given = batch(trainable.context)
    with torch.no_grad():
        here, again = (trainable.batch_loss(given).item() for _ in range(2))
        there = trainable.batch_loss(dataclasses.replace(given, emitters=given.emitters.shifted(150.0, 90.0))).item()
        none = trainable.batch_loss(dataclasses.replace(given, emitters=given.emitters.select(torch.tensor([], dtype=torch.long))))
    assert here == again
    assert there != here
    assert none.isfinite()


def test_a_batch_is_localized_without_its_truth(trainable: TrainableLocalizer) -> None:
    given = batch(trainable.context)
    with torch.no_grad():
        table = trainable.localize_batch(given)
        blind = dataclasses.replace(given, emitters=given.emitters.shifted(500.0), background=given.background + 3)
        assert_same(trainable.localize_batch(blind), table, exact=True)
    assert set(np.unique(table.frame)) == {0, 1, 2, 3}
    assert (table.x_nm.max(), table.y_nm.max()) < (30 * 100.0, 30 * 110.0)


def test_hidden_weights_are_matrices_inside_of_the_network(trainable: TrainableLocalizer) -> None:
    hidden = [id(weight) for weight in trainable.hidden_weights()]
    every = {id(weight): weight for weight in trainable.parameters()}
    assert len(set(hidden)) == len(hidden) < len(every)
    assert all(every[one].ndim >= 2 for one in hidden)


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(DocumentError, match="unknown localizer 'decoed' \\(did you mean 'decode'\\?\\)"):
        LOCALIZERS.get("decoed")
