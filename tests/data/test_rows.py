"""Emitters, localizations, grids and frames."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from denseloc.data import COLUMNS, Emitters, Frames, Grid, Localizations, Provenance


def emitters() -> Emitters:
    return Emitters.of(
        frame=torch.tensor([2, 0, 2]),
        x_nm=torch.tensor([1.0, 2.0, 3.0]),
        y_nm=torch.tensor([4.0, 5.0, 6.0]),
        photons=torch.tensor([10.0, 20.0, 30.0]),
    )


def table() -> Localizations:
    return Localizations(
        {"y_nm": [5.0, 1.0, 1.0], "x_nm": [1.0, 9.0, 2.0], "frame": [1, 0, 0], "photons": [7, 8, 9]}, Provenance(movie="m")
    )


def test_emitters_have_defaults_and_one_length() -> None:
    e = emitters()
    assert len(e) == 3
    assert e.molecule.tolist() == [0, 1, 2]
    assert e.z_nm.tolist() == e.channel.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="one length"):
        Emitters.of(torch.tensor([1]), torch.zeros(2), torch.zeros(2), torch.zeros(2))


def test_emitters_sort_by_frame_and_keep_the_order_inside() -> None:
    assert emitters().sort().x_nm.tolist() == [2.0, 1.0, 3.0]
    assert emitters().select(emitters().photons > 15).x_nm.tolist() == [2.0, 3.0]


def test_emitters_shift_join_and_become_a_frame() -> None:
    e = emitters().shifted(1.0, -1.0, 5.0)
    assert (e.x_nm[0].item(), e.y_nm[0].item(), e.z_nm[0].item()) == (2.0, 3.0, 5.0)
    both = Emitters.concat([emitters(), e])
    assert len(both) == 6
    rows = both.to_pandas()
    assert list(rows.columns) == ["frame", "molecule", "x_nm", "y_nm", "z_nm", "photons", "channel"]
    assert rows.x_nm.tolist() == [1, 2, 3, 2, 3, 4]


def test_localizations_have_the_types_and_the_order_of_the_dictionary() -> None:
    t = table()
    assert list(t.columns) == ["frame", "x_nm", "y_nm", "photons"]
    assert all(values.dtype == COLUMNS[name].dtype for name, values in t.columns.items())
    assert t.photons.tolist() == [7, 8, 9]
    assert "photons" in t
    assert "z_nm" not in t
    assert not t.is_3d
    with pytest.raises(AttributeError, match="no column 'z_nm'; this table has frame, x_nm, y_nm, photons"):
        _ = t.z_nm


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"frame": [0], "x_nm": [1.0]}, "need the columns y_nm"),
        ({"frame": [0], "x_nm": [1.0], "y_nm": [1.0], "lpx": [1.0]}, "unknown columns of Localizations: lpx"),
        ({"frame": [0, 1], "x_nm": [1.0], "y_nm": [1.0]}, "one length"),
    ],
)
def test_impossible_tables_are_refused(columns: dict[str, list], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Localizations(columns)


def test_localizations_sort_by_frame_y_x() -> None:
    assert table().sort().photons.tolist() == [9, 8, 7]


def test_localizations_change_by_copy() -> None:
    t = table()
    t3 = t.with_columns(z_nm=np.array([1.0, 2.0, 3.0])).with_provenance(n_frames=5)
    assert t3.is_3d
    assert not t.is_3d
    assert (t3.provenance.movie, t3.provenance.n_frames, t.provenance.n_frames) == ("m", 5, None)
    moved = t3.shifted(1, 2, 3)
    assert (moved.x_nm[0], moved.y_nm[0], moved.z_nm[0]) == (2.0, 7.0, 4.0)
    assert t.select(t.photons > 7).provenance.movie == "m"
    joined = Localizations.concat([t3, t])
    assert len(joined) == 6
    assert "z_nm" not in joined
    assert len(Localizations.empty(("frame", "x_nm", "y_nm", "z_nm"))) == 0
    assert list(t.to_pandas().columns) == list(t.columns)


def test_localizations_copy_and_pickle() -> None:
    for again in (copy.deepcopy(table()), pickle.loads(pickle.dumps(table()))):
        assert again.x_nm.tolist() == [1, 9, 2]


def test_grid_and_frames_know_their_size() -> None:
    grid = Grid((20, 30), (110.0, 100.0))
    assert grid.size_nm == (2200.0, 3000.0)
    assert grid.area_um2 == pytest.approx(6.6)
    frames = Frames(torch.zeros(4, 1, 5, 7), (100.0, 100.0))
    assert (len(frames), frames.shape_px) == (4, (5, 7))
