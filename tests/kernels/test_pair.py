"""The fast pairing gives what its definition gives."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.kernels.pair import naive, numba_cpu, pair


def both(*arguments):
    expected, found = naive.pair(*arguments), numba_cpu.pair(*arguments)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    return found


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_numba_equals_naive_in_crowds(columns, seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 150, 2)
    arguments = (
        rng.integers(0, 4, n),
        rng.uniform(0, 900, (n, columns)),
        rng.integers(-1, 5, m),
        rng.uniform(0, 900, (m, columns)),
        250.0,
        200.0,
    )
    both(*arguments)


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_numba_equals_naive_where_distances_are_equal(columns, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, (60, columns)) * 50.0, rng.integers(0, 6, (70, columns)) * 50.0
    rows_a, rows_b = both(rng.integers(0, 2, 60), a, rng.integers(0, 2, 70), b, 100.0, 50.0)
    assert len(rows_a) == len(set(rows_a)) == len(set(rows_b)) > 20


def test_limits_belong_to_the_tolerance():
    frame = np.arange(5)
    a = np.zeros((5, 3))
    b = np.array([[250.0, 0, 0], [250.001, 0, 0], [150, 200, 0], [0, 0, -500], [0, 0, 500.001]])
    rows_a, rows_b = both(frame, a, frame, b, 250.0, 500.0)
    assert rows_a.tolist() == rows_b.tolist() == [0, 2, 3]


def test_closest_first_even_where_that_finds_fewer():
    zero = np.zeros(2, np.int64)
    a, b = np.array([[0.0, 0], [200, 0]]), np.array([[110.0, 0], [340, 0]])
    rows_a, rows_b = both(zero, a, zero, b, 250.0)
    assert rows_a.tolist() == [1]
    assert rows_b.tolist() == [0]


def test_a_discarded_pair_leaves_its_points_free():
    zero = np.zeros(1, np.int64)
    b = np.array([[0.0, 0, 501], [240, 0, 499]])
    rows_a, rows_b = both(zero, np.zeros((1, 3)), np.zeros(2, np.int64), b, 250.0, 500.0)
    assert (rows_a.tolist(), rows_b.tolist()) == ([0], [1])


def test_frames_do_not_mix_and_rows_come_in_any_order():
    a = np.array([[0.0, 0], [0, 0], [0, 0]])
    rows_a, rows_b = both(np.array([7, 2, 5]), a, np.array([2, 7]), a[:2], 10.0)
    assert dict(zip(rows_a.tolist(), rows_b.tolist(), strict=True)) == {0: 1, 1: 0}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_point_that_is_not_a_number_pairs_with_nothing(axis):
    zero = np.zeros(3, np.int64)
    a, b = np.arange(9.0).reshape(3, 3), np.arange(9.0).reshape(3, 3)
    a[1, axis] = np.nan
    rows_a, _ = both(zero, a, zero, b, 2.0, 2.0)
    assert rows_a.tolist() == [0, 2]
    rows_a, rows_b = both(zero, b, zero, a, 2.0, 2.0)
    assert rows_b.tolist() == [0, 2]


def test_nothing_pairs_with_nothing():
    none, points = np.zeros(0, np.int64), np.zeros((0, 2))
    for result in (pair(none, points, none, points, 1.0), pair(none, points, np.zeros(1, np.int64), np.zeros((1, 2)), 1.0)):
        assert [len(rows) for rows in result] == [0, 0]
