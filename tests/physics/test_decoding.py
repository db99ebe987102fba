"""From hand-made maps to localizations: borders, neighbours, and the rule of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from denseloc.localize.candidates import Candidates, candidates, merge_by_position, suppress_non_maxima, to_localizations
from denseloc.localize.posterior import PixelPosterior


def pixels(*rows: tuple[float, ...], frame: int = 0) -> Candidates:
    """Make candidates of (row, column, probability, x, y[, z])."""
    filled = [(*row, *(0.0,) * (6 - len(row))) for row in rows]
    r, c, p, x, y, z = np.array(filled, float).reshape(-1, 6).T
    value = np.stack((x, y, z, np.zeros_like(x)), 1)
    return Candidates(
        np.full(len(r), frame), r.astype(int), c.astype(int), p, value, np.full((len(r), 4), 0.1), np.full(len(r), 5.0)
    )


def posterior(h: int, w: int, *rows: tuple[int, int, float, float, float]) -> PixelPosterior:
    """Make maps that are dark except for (row, column, probability, dx, dy)."""
    logit = torch.full((1, h, w), -12.0)
    mean = torch.zeros(1, 4, h, w)
    for r, c, p, dx, dy in rows:
        logit[0, r, c] = math.log(p / (1 - p))
        mean[0, 0, r, c], mean[0, 1, r, c] = dx, dy
    return PixelPosterior(logit, mean, torch.full((1, 4, h, w), 0.1), torch.full((1, h, w), 7.0), (110.0, 100.0), 0.0, 1000.0)


# ------------------------------------------------------------------------------------------------------------------- by position


def test_an_emitter_on_a_pixel_border_is_one() -> None:
    found = candidates(posterior(9, 9, (4, 3, 0.5, 0.49, 0.1), (4, 4, 0.48, -0.51, 0.1)), 0, (0, 0))
    merged = merge_by_position(found, 0.45)
    assert len(merged) == 1
    table = to_localizations(merged, (110.0, 100.0), 0.0, 1000.0)
    assert table.x_nm[0] == pytest.approx(399.0, abs=0.1)
    assert table.y_nm[0] == pytest.approx(4.6 * 110, abs=0.1)
    assert table.probability[0] == pytest.approx(0.98, abs=1e-4)
    assert not table.is_3d


def test_an_emitter_on_a_corner_of_four_pixels_is_one() -> None:
    four = [(4 + r, 4 + c, 0.25, 0.5 - c, 0.5 - r) for r in (0, 1) for c in (0, 1)]
    merged = merge_by_position(candidates(posterior(9, 9, *four), 0, (0, 0)), 0.45)
    assert len(merged) == 1
    np.testing.assert_allclose(merged.value[0, :2], [4.5, 4.5], atol=1e-6)
    assert merged.probability[0] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("gap", [2, 1])
def test_two_emitters_stay_two(gap: int) -> None:
    maps = posterior(9, 12, (4, 3, 0.9, 0.1, 0.0), (4, 3 + gap, 0.8, 0.1, 0.0))
    merged = merge_by_position(candidates(maps, 0, (0, 0)), 0.45)
    np.testing.assert_allclose(np.sort(merged.value[:, 0]), [3.1, 3.1 + gap], atol=1e-6)


def test_depth_parts_emitters_at_one_place() -> None:
    both = pixels((4, 3, 0.9, 3.4, 4, -0.6), (4, 4, 0.8, 3.5, 4, 0.6))
    assert len(merge_by_position(both, 0.45)) == 2
    assert len(merge_by_position(both, 0.45, depth=2.0)) == 1


def test_weak_groups_fall_and_weak_pixels_help() -> None:
    assert len(merge_by_position(pixels((4, 3, 0.3, 3, 4), (4, 4, 0.1, 3, 4)), 0.45)) == 0
    found = merge_by_position(pixels((4, 3, 0.3, 3.0, 4), (4, 4, 0.3, 3.4, 4)), 0.45)
    assert found.value[0, 0] == pytest.approx(3.2)
    assert found.probability[0] == pytest.approx(0.6)
    assert found.sigma[0, 0] == pytest.approx(0.1)
    assert found.background[0] == 5.0


def test_probability_is_at_most_one() -> None:
    assert merge_by_position(pixels((4, 3, 0.9, 3, 4), (4, 4, 0.9, 3, 4)), 0.45).probability.tolist() == [1.0]


def test_frames_do_not_mix() -> None:
    two = Candidates.concat([pixels((4, 3, 0.9, 3.5, 4)), pixels((4, 4, 0.9, 3.5, 4), frame=1)])
    assert merge_by_position(two, 0.45).frame.tolist() == [0, 1]


# ------------------------------------------------------------------------------------------------------------- the paper's rule


def test_a_maximum_above_the_candidate_limit_takes_its_cross() -> None:
    cross = pixels((4, 4, 0.35, 4.2, 4), (3, 4, 0.1, 4.2, 4), (4, 3, 0.1, 4.0, 4), (4, 5, 0.2, 4.4, 4), (5, 4, 0.05, 4.2, 4))
    found = suppress_non_maxima(cross, 0.7)
    assert len(found) == 1
    assert found.probability[0] == pytest.approx(0.8)
    assert found.value[0, 0] == pytest.approx((0.35 * 4.2 + 0.1 * 4.2 + 0.1 * 4.0 + 0.2 * 4.4 + 0.05 * 4.2) / 0.8)


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([(4, 4, 0.29, 4, 4), (4, 5, 0.28, 4, 4), (4, 3, 0.28, 4, 4)], 0),  # no pixel above 0.3, whatever the sum
        ([(4, 4, 0.5, 4, 4)], 0),  # the cross must pass 0.7
        ([(4, 4, 0.71, 4, 4)], 1),
        ([(4, 4, 0.5, 4, 4), (5, 5, 0.25, 4, 4)], 0),  # a diagonal neighbour lends nothing
        ([(4, 4, 0.8, 4, 4), (5, 5, 0.75, 5, 5)], 1),  # but it is suppressed
        ([(4, 4, 0.8, 4, 4), (4, 6, 0.75, 6, 4)], 2),  # two pixels off it is not
        ([(4, 4, 0.5, 4, 4), (4, 5, 0.5, 5, 4)], 1),  # equal neighbours: one of them
    ],
)
def test_who_survives(rows: list[tuple[float, ...]], number: int) -> None:
    assert len(suppress_non_maxima(pixels(*rows), 0.7)) == number


def test_a_shared_arm_belongs_to_both_crosses() -> None:
    found = suppress_non_maxima(pixels((4, 4, 0.6, 4, 4), (4, 5, 0.2, 5, 4), (4, 6, 0.65, 6, 4)), 0.7)
    np.testing.assert_allclose(found.probability, [0.8, 0.85])
    np.testing.assert_allclose(found.value[:, 0], [(2.4 + 1.0) / 0.8, (3.9 + 1.0) / 0.85])


@pytest.mark.parametrize("decode", [merge_by_position, suppress_non_maxima])
def test_nothing_gives_an_empty_table(decode) -> None:
    nothing = candidates(posterior(5, 5), 0, (0, 0))
    assert len(nothing) == 0
    table = to_localizations(decode(nothing, 0.5), (100.0, 100.0), 500.0, 1000.0)
    assert len(table) == 0
    assert table.is_3d


# -------------------------------------------------------------------------------------------------------------------- candidates


def test_candidates_carry_the_place_in_movie_and_field() -> None:
    maps = posterior(9, 9, (4, 3, 0.5, 0.2, -0.3), (0, 0, 0.5, 0.0, 0.0))
    found = candidates(maps, 17, (100, 200), (slice(2, 6), slice(3, 9)))
    assert (found.frame.tolist(), found.row.tolist(), found.column.tolist()) == ([17], [104], [203])
    np.testing.assert_allclose(found.value[0, :2], [203.2, 103.7], atol=1e-6)
    assert found.background.tolist() == [7.0]


def test_units_of_a_table() -> None:
    found = Candidates(
        np.array([3, 1]),
        np.array([0, 0]),
        np.array([0, 0]),
        np.array([0.9, 0.8]),
        np.array([[0.0, 1.0, 0.5, math.log(2)], [2.0, 0.0, 0.0, 0.0]]),
        np.full((2, 4), 0.1),
        np.array([5.0, 6.0]),
    )
    table = to_localizations(found, (110.0, 100.0), 400.0, 1000.0)
    assert table.frame.tolist() == [1, 3]
    np.testing.assert_allclose(table.x_nm, [250.0, 50.0])
    np.testing.assert_allclose(table.y_nm, [55.0, 165.0])
    np.testing.assert_allclose(table.z_nm, [0.0, 200.0])
    np.testing.assert_allclose(table.photons, [1000.0, 2000.0], rtol=1e-6)
    np.testing.assert_allclose(table.sigma_x_nm, 10.0, rtol=1e-6)
    np.testing.assert_allclose(table.sigma_y_nm, 11.0, rtol=1e-6)
    np.testing.assert_allclose(table.sigma_z_nm, 40.0, rtol=1e-6)
    np.testing.assert_allclose(table.sigma_photons, [100.0, 200.0], rtol=1e-6)
