"""Predictions that speak of one emitter are joined, whatever their order and however they chain."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.localize.joining import join, join_lists, surest, weighted


def naive(probability: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Walk by falling probability; each free one takes the free ones near it that are nearer to no surer founder of its round."""
    group = np.full(len(probability), -1)
    for i in np.argsort(-probability, kind="stable"):
        if group[i] < 0:
            group[i] = i
            for j in np.flatnonzero(near[i] & (group < 0)):
                group[j] = i
    return group


@pytest.mark.parametrize("seed", range(4))
def test_founders_are_those_of_the_greedy_walk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    place, probability = 6 * rng.random((60, 2)), rng.random(60)
    near = np.square(place[:, None] - place).sum(2) <= 1
    np.fill_diagonal(near, False)
    neighbours = np.where(near, np.arange(60), 60)
    group = join(probability, neighbours, near, rounds=60)
    assert set(group) == set(naive(probability, near))
    assert all(near[i, g] or i == g for i, g in enumerate(group))
    assert (probability[group] >= probability).all()


def test_a_chain_is_not_swallowed_whole() -> None:
    place = np.array([[0.0], [0.8], [1.6], [2.4]])
    group = join_lists(np.zeros(4, int), np.array([0.9, 0.8, 0.7, 0.6]), place, rounds=3)
    assert group.tolist() == [0, 0, 2, 2]
    assert join_lists(np.zeros(4, int), np.array([0.9, 0.8, 0.7, 0.6]), place, rounds=1).tolist() == [0, 0, 2, 3]


def test_lists_do_not_mix_and_equal_ones_keep_their_order() -> None:
    number, place = np.array([0, 0, 1, 1, 1]), np.zeros((5, 2))
    group = join_lists(number, np.full(5, 0.5), place, rounds=2)
    assert group.tolist() == [0, 0, 2, 2, 2]
    assert len(join_lists(np.empty(0, int), np.empty(0), np.empty((0, 2)), 2)) == 0


def test_weights_add_and_places_are_averaged() -> None:
    founders, total, place = weighted(
        np.array([1, 1, 2]), np.array([0.25, 0.75, 0.5]), np.array([[0.0, 4.0], [4.0, 0.0], [9.0, 9.0]])
    )
    assert founders.tolist() == [1, 2]
    np.testing.assert_allclose(total, [1.0, 0.5])
    np.testing.assert_allclose(place, [[3.0, 1.0], [9.0, 9.0]])


def test_of_the_finds_of_several_windows_the_surest_stays() -> None:
    frame, window = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 0])
    place = np.array([[0.0], [0.1], [0.2], [0.0]])
    assert surest(frame, window, np.array([0.6, 0.9, 0.7, 0.5]), place).tolist() == [False, True, True, True]
    assert surest(frame[:2], window[:2], np.array([0.7, 0.7]), place[:2]).tolist() == [True, False]
