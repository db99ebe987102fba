"""A classifier tells samples apart where they differ, and only there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from denseloc.suitability.two_sample import auc, patches_elsewhere, told_apart


def sample(rng: np.random.Generator, shift: float = 0.0, spread: float = 1.0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    values = rng.normal(size=(n, 6)) * np.array([1, spread, 1, 1, 1, 1]) + np.array([shift, 0, 0, 0, 0, 0])
    return values * 100 + 7, np.arange(n) // 40


def test_auc_counts_pairs_in_order():
    assert auc(np.array([3.0, 2.0, 1.0]), np.array([True, True, False])) == 1.0
    assert auc(np.array([1.0, 2.0, 3.0]), np.array([True, True, False])) == 0.0
    assert auc(np.array([1.0, 1.0, 1.0, 1.0]), np.array([True, False, True, False])) == 0.5


def test_equal_samples_are_not_told_apart():
    rng = np.random.default_rng(0)
    assert told_apart(sample(rng), sample(rng)) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("other", [{"shift": 1.5}, {"spread": 3.0}])
def test_a_shift_and_a_spread_are_noticed(other):
    rng = np.random.default_rng(1)
    assert told_apart(sample(rng), sample(rng, **other)) > 0.72


def test_windows_are_held_out_whole():
    """What only tells windows apart must not help."""
    rng = np.random.default_rng(2)
    (a, window), (b, _) = sample(rng), sample(rng)
    a[:, 5], b[:, 5] = 1000 * rng.normal(size=10)[window], 1000 * rng.normal(size=10)[window]
    assert told_apart((a, window), (b, window)) < 0.8


def test_a_few_patches_say_nothing():
    rng = np.random.default_rng(3)
    assert np.isnan(told_apart(sample(rng, n=20), sample(rng)))


def test_a_crowd_without_a_dark_place_gives_no_patches():
    scene = SimpleNamespace(shape_px=(20, 20), inner=np.zeros((2, 3, 20, 20)))
    light = np.full((6, 1, 20, 20), 50.0)
    view = SimpleNamespace(
        light=light, variance=np.ones_like(light), residual=np.zeros_like(light), inside=lambda one: one, rim_px=0, scene=scene
    )
    numbers, window = patches_elsewhere(view, np.random.default_rng(1))
    assert len(numbers) == len(window) == 0
    assert np.isnan(told_apart((numbers, window), (numbers, window)))
