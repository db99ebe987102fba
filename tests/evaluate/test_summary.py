"""The table for people."""

from __future__ import annotations

from denseloc.data import Localizations
from denseloc.evaluate import assess, assess_all, describe


def table(z=True):
    columns = {"frame": [0, 0], "x_nm": [1000.0, 3000.0], "y_nm": [1000.0, 3000.0], "photons": [500.0, 900.0]}
    return Localizations(columns | ({"z_nm": [0.0, 50.0]} if z else {}))


def test_columns_stand_side_by_side():
    lines = describe(assess_all(table().shifted(dx_nm=7.25), table())).splitlines()
    assert lines[0].split("  ")[-1] == "2D, brightest 75 %"
    text = {line[:31].strip(): line[31:].split() for line in lines[1:]}
    assert text["true positives"] == ["2", "1", "2", "1"]
    assert text["RMSE lateral / nm"] == ["7.2"] * 4
    assert text["efficiency axial"] == ["100.0", "100.0", "-", "-"]
    assert len({len(line) for line in lines}) == 1


def test_undefined_lines_are_left_out():
    text = describe(assess(table(z=False), table(z=False), dimensions=2))
    assert "axial" not in text
    assert "nan" not in text
    assert "recall / %" in text
