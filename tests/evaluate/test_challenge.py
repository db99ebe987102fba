"""The challenge's own numbers, and the corners of its rule."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import numpy as np
import pytest

from denseloc.data import Localizations, Provenance
from denseloc.errors import TableError
from denseloc.evaluate import Assessment, assess, assess_all, read_wobble

CASES = (
    "01_perfect",
    "02_jitter",
    "03_missed_false",
    "04_dense_ambiguous",
    "05_tolerance_edge",
    "06_empty_frames",
    "07_z_errors",
    "08_border_photons",
    "09_wobble_offset",
)


def read(path):
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    columns = {"frame": rows[:, 1] - 1, "x_nm": rows[:, 2], "y_nm": rows[:, 3], "z_nm": rows[:, 4], "photons": rows[:, 5]}
    return Localizations(columns)


def rows(x, y=3000.0, z=None, photons=1000.0, frame=0, **provenance):
    n = len(np.atleast_1d(x))
    columns = {
        "frame": np.zeros(n, int) + frame,
        "x_nm": np.atleast_1d(x),
        "y_nm": np.zeros(n) + y,
        "photons": np.zeros(n) + photons,
    }
    if z is not None:
        columns["z_nm"] = np.zeros(n) + z
    return Localizations(columns, Provenance(**provenance))


@pytest.fixture(scope="module")
def cases(shared):
    folder = shared / "challenge" / "cases"
    if not folder.is_dir():
        pytest.skip("the challenge's reference cases are not in 'shared'")
    return folder


def agree(found, expected, where):
    assert list(found) == list(expected), where
    for name, value in expected.items():
        if isinstance(value, dict):
            agree(found[name], value, f"{where} {name}")
        elif value is None:
            assert found[name] is None, f"{where} {name}"
        else:
            assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-9), f"{where} {name}"


@pytest.mark.parametrize(("name", "wobble"), [*((name, False) for name in CASES), ("09_wobble_offset", True)])
def test_every_number_of_the_organisers(cases, name, wobble):
    expected = json.loads((cases / "expected.json").read_text())["cases"][name]["matlab"]
    suffix = "_wobble" if wobble else ""
    keys = [f"{d}_{t}{suffix}" for d in ("3d", "2d") for t in ("all", "p25")]
    table, truth = read(cases / f"{name}_loc.csv"), read(cases / f"{name}_gt.csv")
    correction = read_wobble(cases / f"{name}_wobble.csv") if wobble else None
    found = assess_all(table, truth, wobble=correction)
    assert [f"{key}{suffix}" for key in found] == keys
    for key, assessment in found.items():
        agree(json.loads(json.dumps(assessment.to_json())), expected[f"{key}{suffix}"], f"{name} {key}{suffix}")
        alone = assess(table, truth, dimensions=int(key[0]), threshold=key[3:], wobble=correction)
        assert alone.to_json() == assessment.to_json()


def test_fields_have_the_names_of_the_reference(cases):
    expected = json.loads((cases / "expected.json").read_text())["cases"]["01_perfect"]["matlab"]["3d_all"]
    assert [f.name for f in fields(Assessment)] == [*expected, "colours"]


def test_errors_are_found_minus_true_and_lateral_is_a_distance():
    found = assess(rows([2003.0, 3003.0], 3004.0, z=[10.0, -10.0]), rows([2000.0, 3000.0], z=0.0), dimensions=3)
    assert (found.mean_dx_nm, found.mean_dy_nm, found.mean_dz_nm) == (3.0, 4.0, 0.0)
    assert (found.rmse_lateral_nm, found.mad_lateral_nm) == (5.0, 7.0)
    assert (found.rmse_axial_nm, found.mad_axial_nm) == (10.0, 10.0)
    assert found.efficiency_from_formula == {"E_lateral": 95.0, "E_axial": 95.0, "E_3d": 95.0}


def test_dim_emitters_and_their_partners_do_not_count():
    truth = rows([1000.0, 2000, 3000, 4000], photons=[10.0, 20, 30, 40])
    table = rows([1000.0, 2000, 5000])
    found = assess(table, truth, dimensions=2, threshold="p25")
    assert found.photon_threshold == 15.0  # midpoint rule: half way between the two dimmest of four
    assert (found.TP, found.FP, found.FN) == (1, 1, 2)
    assert (found.n_gt_in_border, found.n_loc_in_border) == (4, 3)


def test_nothing_paired_is_undefined():
    found = assess(rows([]), rows([]), dimensions=2)
    assert math.isnan(found.recall)
    assert math.isnan(found.jaccard_percent)
    assert found.to_json()["rmse_lateral_nm"] is None
    assert found.to_json()["efficiency_from_formula"] == {}
    missed = assess(rows([]), rows([2000.0]), dimensions=2)
    assert (missed.recall, missed.jaccard_percent, missed.FN) == (0.0, 0.0, 1)


def test_tables_without_z_or_photons():
    flat, deep = rows([2000.0]), rows([2000.0], z=0.0)
    assert list(assess_all(flat, deep)) == ["2d_all", "2d_p25"]
    assert list(assess_all(deep, flat)) == ["2d_all", "2d_p25"]
    assert assess(flat, deep, dimensions=2).to_json()["rmse_axial_nm"] is None
    dark = Localizations({k: v for k, v in flat.columns.items() if k != "photons"})
    assert list(assess_all(flat, dark)) == ["2d_all"]
    assert assess(flat, dark, dimensions=2).TP == 1
    with pytest.raises(TableError, match="z_nm"):
        assess(flat, deep, dimensions=3)
    with pytest.raises(TableError, match="photons"):
        assess(flat, dark, dimensions=2, threshold="p25")
    with pytest.raises(TableError, match="z_nm"):
        assess(flat, flat, dimensions=2, wobble=np.zeros((1, 3)))


def test_field_is_given_then_known_then_the_challenges_then_what_the_data_need():
    edge = rows([5900.0], 5900.0)
    assert assess(edge, edge, dimensions=2).TP == 1
    assert assess(edge, edge, dimensions=2, field_nm=(6400.0, 6000.0)).TP == 0
    small = rows([5900.0], 5900.0, shape_px=(60, 100), pixel_size_nm=(100.0, 100.0))
    assert assess(edge, small, dimensions=2).TP == 0
    assert assess(small, edge, dimensions=2).TP == 0
    assert assess(small, small, dimensions=2, field_nm=(6400.0, 6400.0)).TP == 1
    wide = rows([6300.0, 9000.0], [3000.0, 4000.0])
    assert assess(wide, wide, dimensions=2).TP == 1


def test_border_is_strict_and_on_each_ones_own_coordinates():
    truth = rows([450.0, 450.01, 5950.0], 3000.0)
    table = rows([455.0, 449.0, 5949.0], 3000.0)
    found = assess(table, truth, dimensions=2)
    assert (found.n_gt_in_border, found.n_loc_in_border, found.TP, found.FP, found.FN) == (1, 2, 1, 1, 0)
    assert assess(table, truth, dimensions=2, border_nm=0.0).TP == 3
