"""Confusion of voxels, with the errors that are flips across a border counted apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from denseloc.data import Localizations
from denseloc.errors import TableError
from denseloc.evaluate import voxel_confusion

VOXEL, SHAPE = (400.0, 200.0, 100.0), (4, 6, 8)


def table(*rows: tuple[float, float, float, float]) -> Localizations:
    """Make a table of (frame, slice, row, column) in voxels."""
    values = np.array(rows, float).reshape(-1, 4)
    columns = {"frame": values[:, 0], "z_nm": values[:, 1] * 400 - 800, "y_nm": values[:, 2] * 200, "x_nm": values[:, 3] * 100}
    return Localizations(columns)


def counts(found: Localizations, true: Localizations, n_frames: int = 2) -> dict[str, int]:
    every = voxel_confusion(found, true, voxel_nm=VOXEL, shape=SHAPE, n_frames=n_frames, z_nm=-800.0)
    return {name: value for name, value in dataclasses.asdict(every).items() if value}


def test_hits_misses_and_the_rest() -> None:
    true = table((0, 1.5, 2.5, 3.5), (0, 1.6, 2.6, 3.6), (1, 0.5, 0.5, 0.5), (1, 3.5, 5.5, 7.5))
    found = table((0, 1.1, 2.9, 3.1), (0, 3.5, 0.5, 0.5), (1, 0.5, 5.5, 0.5), (1, 0.1, 5.4, 0.2))
    assert counts(found, true) == {"TP": 1, "FP": 2, "FN": 2, "TN": 2 * 192 - 5, "fp_alone": 2, "fn_alone": 2}


def test_flips_across_a_border_are_paired_one_to_one() -> None:
    true = table((0, 1.01, 2.5, 3.5), (0, 1.5, 2.5, 5.95))
    found = table((0, 0.99, 2.5, 3.5), (0, 1.5, 2.5, 6.05), (0, 1.5, 1.9, 6.5))
    every = voxel_confusion(found, true, voxel_nm=VOXEL, shape=SHAPE, n_frames=2, z_nm=-800.0)
    assert (every.FP, every.FN, every.paired, every.fp_adjacent, every.fn_adjacent) == (3, 2, 2, 1, 0)
    assert every.jaccard == 0
    assert every.jaccard_across_borders == pytest.approx(2 / 3)


def test_the_closest_are_paired_first() -> None:
    true = table((0, 1.5, 2.5, 3.9), (0, 1.5, 2.5, 5.5))
    found = table((0, 1.5, 2.5, 4.1))
    assert counts(found, true) == {"FP": 1, "FN": 2, "TN": 2 * 192 - 3, "paired": 1, "fn_adjacent": 1}


def test_other_frames_and_the_far_side_do_not_touch() -> None:
    true = table((0, 1.5, 2.5, 7.5), (0, 0.5, 0.5, 0.5))
    found = table((1, 1.5, 2.5, 6.5), (0, 1.5, 3.5, 0.5), (0, 3.5, 5.5, 7.5))
    assert counts(found, true) == {"FP": 3, "FN": 2, "TN": 2 * 192 - 5, "fp_alone": 3, "fn_alone": 2}


def test_beside_a_hit_stands_a_duplicate() -> None:
    true = table((0, 1.5, 2.5, 3.9))
    found = table((0, 1.5, 2.5, 3.8), (0, 1.5, 2.5, 4.05))
    assert counts(found, true) == {"TP": 1, "FP": 1, "TN": 2 * 192 - 2, "fp_adjacent": 1}


def test_rows_outside_count_in_the_nearest_voxel_and_nothing_is_right() -> None:
    assert counts(table((0, -0.5, 2.5, 8.5)), table((0, 0.5, 2.5, 7.5))) == {"TP": 1, "TN": 2 * 192 - 1}
    nothing = voxel_confusion(table(), table(), voxel_nm=VOXEL, shape=SHAPE, n_frames=1)
    assert (nothing.TN, nothing.jaccard, nothing.jaccard_across_borders) == (192, 1.0, 1.0)


def test_bad_tables_are_refused() -> None:
    flat = Localizations({"frame": np.zeros(1), "x_nm": np.zeros(1), "y_nm": np.zeros(1)})
    with pytest.raises(TableError, match="the localizations have no column z_nm, which 4 slices of voxels need"):
        counts(flat, table())
    with pytest.raises(TableError, match=r"the truth have frames 0 \.\. 5; expected 0 \.\. 1"):
        counts(table(), table((0, 1, 1, 1), (5, 1, 1, 1)))
    assert voxel_confusion(flat, flat, voxel_nm=VOXEL, shape=(1, 6, 8), n_frames=1).TP == 1
