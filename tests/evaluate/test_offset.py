"""Offsets are found and removed; wobble tables are read and applied."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import Localizations
from denseloc.errors import TableError
from denseloc.evaluate import find_offset, match, read_wobble, remove_offset, shift_truth


def pair_of_tables(offset, n=3000, per_frame=5, seed=0):
    rng = np.random.default_rng(seed)
    frame = np.arange(n) // per_frame
    x, y, z = rng.uniform(0, 6400, n), rng.uniform(0, 6400, n), rng.uniform(-600, 600, n)
    truth = Localizations({"frame": frame, "x_nm": x, "y_nm": y, "z_nm": z})
    keep = rng.random(n) < 0.8
    found = truth.select(keep).shifted(*offset)
    m = len(found)
    noisy = found.with_columns(
        x_nm=found.x_nm + rng.normal(0, 15, m), y_nm=found.y_nm + rng.normal(0, 15, m), z_nm=found.z_nm + rng.normal(0, 30, m)
    )
    false = Localizations(
        {
            "frame": rng.integers(0, n // per_frame, 400),
            "x_nm": rng.uniform(0, 6400, 400),
            "y_nm": rng.uniform(0, 6400, 400),
            "z_nm": rng.uniform(-600, 600, 400),
        }
    )
    return Localizations.concat([noisy, false]), truth


@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (-54.9, 45.1, 12.8), (50.0, 150.0, -120.0)])
def test_a_constant_offset_is_found_in_spite_of_misses_and_false_ones(offset):
    table, truth = pair_of_tables(offset)
    found = find_offset(table, truth)
    assert (found.dx_nm, found.dy_nm, found.dz_nm) == pytest.approx(offset, abs=3.0)
    again = find_offset(remove_offset(table, found), truth)
    assert (again.dx_nm, again.dy_nm, again.dz_nm) == pytest.approx((0, 0, 0), abs=0.2)
    assert found.n_pairs > 2000


def test_an_offset_in_the_plane_leaves_z():
    table, truth = pair_of_tables((30.0, -20.0, 200.0))
    found = find_offset(table, truth, dimensions=2)
    assert (found.dx_nm, found.dy_nm, found.dz_nm) == pytest.approx((30.0, -20.0, 0.0), abs=3.0)
    assert found.dz_nm == 0.0


def test_no_pairs_is_said():
    table, truth = pair_of_tables((0.0, 0.0, 0.0))
    with pytest.raises(TableError, match="no localization lies within 250 nm"):
        find_offset(table.with_columns(frame=table.frame + 10**6), truth)


def test_wobble_takes_the_nearest_row_and_the_earlier_of_two():
    truth = Localizations({"frame": [0] * 5, "x_nm": [0.0] * 5, "y_nm": [0.0] * 5, "z_nm": [-900.0, -6, 5, 16, 900]})
    wobble = np.array([[1.0, 10, -10], [2, 20, 0], [3, 30, 10], [4, 40, 20]])
    assert shift_truth(truth, wobble).x_nm.tolist() == [1, 1, 2, 4, 4]
    assert shift_truth(truth, wobble[::-1]).x_nm.tolist() == [1, 1, 3, 4, 4]
    moved = shift_truth(truth, wobble)
    assert moved.y_nm.tolist() == [10, 10, 20, 40, 40]
    assert moved.z_nm.tolist() == truth.z_nm.tolist()
    assert shift_truth(truth, np.array([[1.0, 0, 0], [2, 0, 0]])).x_nm.tolist() == [1] * 5


def test_wobble_table_is_read(tmp_path):
    path = tmp_path / "wobble.csv"
    path.write_text("-1.5,2,-750\n\n0.5,1e1,750\r\n")
    assert read_wobble(path).tolist() == [[-1.5, 2.0, -750.0], [0.5, 10.0, 750.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [("dx,dy,z\n1,2,3\n", "line 1: found 'dx,dy,z'"), ("1,2,3\n1,2\n", "line 2"), ("1,2,nan\n", "line 1"), ("\n", "empty")],
)
def test_a_wrong_wobble_table_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "wobble.csv"
    path.write_text(content)
    with pytest.raises(TableError, match=message) as caught:
        read_wobble(path)
    assert "\n" not in str(caught.value)
    assert "dx,dy,z" in str(caught.value)


def test_a_missing_wobble_table_is_said(tmp_path):
    with pytest.raises(TableError, match="cannot read the wobble table"):
        read_wobble(tmp_path / "none.csv")


def test_match_gives_rows_of_both():
    table, truth = pair_of_tables((0.0, 0.0, 0.0), n=200)
    pairs = match(table, truth, dimensions=3)
    assert (table.frame[pairs.table] == truth.frame[pairs.truth]).all()
    assert np.abs(pairs.difference("x_nm", table, truth)).max() <= 250.0
    assert (np.diff(pairs.truth) > 0).all()
