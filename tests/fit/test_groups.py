"""Which emitters are neighbours, and how they are put into groups."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.fit.groups import group, neighbours, turns


def test_neighbours_lie_close_along_both_axes_in_one_frame() -> None:
    frame = np.array([0, 0, 0, 1, 1])
    place = np.array([[0.0, 0.0], [2.9, 2.9], [0.0, 3.2], [0.0, 0.0], [10.0, 0.0]])
    pairs = neighbours(frame, place, 3.0)
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 1), (1, 2)}
    assert (pairs[:, 0] < pairs[:, 1]).all()


@pytest.mark.parametrize("n", [0, 1])
def test_few_emitters_have_no_neighbours(n: int) -> None:
    assert neighbours(np.zeros(n, int), np.zeros((n, 2)), 5.0).shape == (0, 2)
    assert group(np.zeros(n, int), np.zeros((n, 2)), 5.0, 8).tolist() == [0] * n


def test_late_frames_are_kept_apart_too() -> None:
    frame = np.array([10**6, 10**6 + 1, 10**6])
    pairs = neighbours(frame, np.array([[3.0, 3.0], [3.0, 3.0], [3.1, 3.0]]), 0.5)
    assert pairs.tolist() == [[0, 2]]


def test_groups_are_what_neighbours_lead_to() -> None:
    rng = np.random.default_rng(3)
    frame, place = rng.integers(0, 3, 120), rng.uniform(0, 40, (120, 2))
    label = group(frame, place, 2.5, 1000)
    near = (np.abs(place[:, None] - place).max(2) <= 2.5) & (frame[:, None] == frame)
    led = near.copy()
    for _ in range(120):  # until no more are reached
        led = led @ near
    np.testing.assert_array_equal(led, label[:, None] == label)
    assert set(label) == set(range(label.max() + 1))


@pytest.mark.parametrize("most", [1, 3, 8])
def test_large_groups_are_halved_across_their_longer_side(most: int) -> None:
    place = np.column_stack((np.zeros(20), np.arange(20.0)))
    label = group(np.zeros(20, int), place, 1.5, most)
    sizes = np.bincount(label)
    assert sizes.max() <= most
    assert sizes.sum() == 20
    assert sizes.min() >= most // 2  # halves, not splinters
    assert set(label) == set(range(len(sizes)))
    for one in range(len(sizes)):
        own = np.flatnonzero(label == one)
        assert own.max() - own.min() == len(own) - 1  # a piece of the row


def test_the_order_of_emitters_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    frame, place = rng.integers(0, 2, 200), rng.uniform(0, 30, (200, 2))
    order = rng.permutation(200)
    label, mixed = group(frame, place, 3.0, 6), group(frame[order], place[order], 3.0, 6)
    there = label[order]
    np.testing.assert_array_equal(there[:, None] == there, mixed[:, None] == mixed)


def test_groups_that_share_a_pair_have_turns_of_their_own() -> None:
    label = np.array([0, 0, 1, 2, 3, 4])
    pairs = np.array([[1, 2], [2, 3], [0, 1], [3, 0]])  # 0-1, 1-2, 2-0; 3 and 4 are alone
    turn = turns(label, pairs)
    assert len({turn[0], turn[1], turn[2]}) == 3
    assert (turn[3:] == 0).all()
    assert len(turns(np.zeros(0, np.int64), np.zeros((0, 2), np.int64))) == 0
