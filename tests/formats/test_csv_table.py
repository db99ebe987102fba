"""CSV in the manners of ThunderSTORM, of the challenge and our own."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denseloc.data import Localizations
from denseloc.errors import TableError
from denseloc.formats import read_table, write_table


def text_table(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path)


def test_written_as_thunderstorm(tmp_path, table):
    assert write_table(tmp_path / "t.csv", table) == 500
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == (
        '"id","frame","x [nm]","y [nm]","z [nm]","sigma [nm]","intensity [photon]","offset [photon]",'
        '"uncertainty_xy [nm]","uncertainty_z [nm]","probability"'
    )
    row = dict(zip(next(csv.reader(lines[:1])), map(float, lines[18].split(",")), strict=True))
    assert row["id"] == 18
    assert row["frame"] == table.frame[17] + 1  # from 1
    assert row["x [nm]"] == table.x_nm[17]  # corner origin, nm, every digit
    assert row["sigma [nm]"] == pytest.approx(table.width_nm[17])
    expected = np.sqrt((float(table.sigma_x_nm[17]) ** 2 + float(table.sigma_y_nm[17]) ** 2) / 2)
    assert row["uncertainty_xy [nm]"] == pytest.approx(expected, rel=1e-6)


def test_unknown_columns_are_left_out(tmp_path):
    write_table(tmp_path / "t.csv", Localizations({"frame": [0], "x_nm": [1.5], "y_nm": [2.5], "sigma_x_nm": [3.0]}))
    assert (tmp_path / "t.csv").read_text() == '"id","frame","x [nm]","y [nm]"\n1,1,1.5,2.5\n'


def test_ids_go_on_over_many_parts(tmp_path, monkeypatch, table):
    monkeypatch.setattr("denseloc.formats.csv_table.steady", lambda parts, path: iter(parts))
    write_table(tmp_path / "t.csv", [table.select(slice(0, 200)), table.select(slice(200, 500))])
    ids = [int(line.split(",")[0]) for line in (tmp_path / "t.csv").read_text().splitlines()[1:]]
    assert ids == list(range(1, 501))


doubles = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.integers(0, 2**40), doubles, doubles, st.floats(0, 2.0**99, width=32)), max_size=30))
def test_round_trip_keeps_every_digit(tmp_path, rows):
    columns = dict(zip(("frame", "x_nm", "y_nm", "photons"), zip(*rows, strict=True), strict=True)) if rows else {}
    table = Localizations(columns) if rows else Localizations.empty(("frame", "x_nm", "y_nm", "photons"))
    write_table(tmp_path / "t.csv", table)
    found = read_table(tmp_path / "t.csv")
    for name in table.columns:
        np.testing.assert_array_equal(found.columns[name], table.columns[name])


def test_not_finite_numbers_are_spelt_as_java_reads_them(tmp_path):
    write_table(tmp_path / "t.csv", Localizations({"frame": [0, 1], "x_nm": [1, 2], "y_nm": [1, 2], "photons": [np.nan, np.inf]}))
    assert "NaN\n" in (tmp_path / "t.csv").read_text()
    assert "Infinity\n" in (tmp_path / "t.csv").read_text()
    np.testing.assert_array_equal(read_table(tmp_path / "t.csv").photons, [np.nan, np.inf])


@pytest.mark.parametrize(
    "header",
    [
        '"id","frame","x [nm]","y [nm]","intensity [photon]","uncertainty [nm]"',
        "id,frame,x [nm],y [nm],intensity [photon],uncertainty_xy [nm]",
        "\ufeffid,frame,x [nm],y [nm],I [photon],uncertainty [nm]",
        '"id,""frame"",""x [nm]"",""y [nm]"",""intensity [photon]"",""uncertainty [nm]"""',
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_thunderstorm_headers(tmp_path, header, end):
    found = text_table(tmp_path / "t.csv", f"{header}{end}1.0,3.0,150.25,99.5,1000,7.5{end}2,4,1,2,3,4{end}")
    np.testing.assert_array_equal(found.frame, [2, 3])
    np.testing.assert_array_equal(found.x_nm, [150.25, 1])
    np.testing.assert_array_equal(found.sigma_x_nm, [7.5, 4])
    np.testing.assert_array_equal(found.sigma_y_nm, found.sigma_x_nm)


def test_two_widths(tmp_path):
    values = {"frame": [0, 1], "x_nm": [1, 2], "y_nm": [1, 2], "width_x_nm": [130.0, 140.0], "width_y_nm": [150.0, 160.0]}
    write_table(tmp_path / "t.csv", Localizations(values))
    assert '"sigma1 [nm]","sigma2 [nm]"' in (tmp_path / "t.csv").read_text()
    found = read_table(tmp_path / "t.csv")
    np.testing.assert_array_equal(found.width_x_nm, [130, 140])
    np.testing.assert_array_equal(found.width_y_nm, [150, 160])


def test_micrometres(tmp_path):
    found = text_table(tmp_path / "t.csv", '"frame","x [um]","y [µm]"\n1,1.5,2.5\n')
    np.testing.assert_allclose([found.x_nm[0], found.y_nm[0]], [1500, 2500])


def test_intensity_that_is_not_in_photons_is_left_out(tmp_path):
    found = text_table(tmp_path / "t.csv", "frame,x [nm],y [nm],intensity [au]\n1,2,3,4\n")
    assert "photons" not in found


def test_thunderstorm_columns_that_count_from_zero(tmp_path):
    found = text_table(tmp_path / "t.csv", '"frame","x [nm]","y [nm]"\n4,1,2\n0,3,4\n')
    np.testing.assert_array_equal(found.frame, [4, 0])


@pytest.mark.parametrize(
    "header", ["Ground-truth,frame,xnano,ynano,znano,intensity ", "id,frame,xnano,ynano,znano,intensity", None]
)
def test_challenge(tmp_path, header):
    rows = "    1,  9039, 43.325, 839.830, 340.704, 2473.663 \n2,1,0.1,0.2,-0.3,5\n"
    found = text_table(tmp_path / "t.csv", rows if header is None else f"{header}\n{rows}")
    np.testing.assert_array_equal(found.frame, [9038, 0])
    np.testing.assert_array_equal(found.x_nm, [43.325, 0.1])
    np.testing.assert_array_equal(found.z_nm, [340.704, -0.3])


def test_our_own_names_count_from_zero(tmp_path):
    found = text_table(tmp_path / "t.csv", "frame,x_nm,y_nm,crlb_x_nm,other\n1,2,3,4,a\n")
    np.testing.assert_array_equal(found.frame, [1])
    assert list(found.columns) == ["frame", "x_nm", "y_nm", "crlb_x_nm"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b,c\n1,2,3\n", "columns a, b, c, expected at least one of"),
        ('"frame","x [px]","y [px]"\n1,2,3\n', r"columns frame, x \[px\], y \[px\], expected"),
        ("1,2,3\n4,5,6\n", "3 columns without a header"),
        ("\n", "not a text table"),
        (b"\x00\x01\x02\x03", "not a text table"),
        ("frame,x_nm,y_nm\n1,2,there\n", "expected numbers in 3 columns"),
        ("frame,x_nm,y_nm\n1,2\n", "expected numbers in 3 columns"),
        ("frame,x_nm,y_nm\n1.5,2,3\n", "frame numbers that are empty, negative or not whole"),
        ("frame,x_nm,y_nm\n-1,2,3\n", "frame numbers that are empty, negative or not whole"),
        ("frame,x_nm,y_nm\n,2,3\n", "frame numbers that are empty, negative or not whole"),
    ],
)
def test_unsuited_tables(tmp_path, text, match):
    with pytest.raises(TableError, match=match) as caught:
        text_table(tmp_path / "t.csv", text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "n", "columns", "first"),
    [
        ("data/Locan/Thunderstorm_dstorm_data.csv", 19, {"width_nm", "sigma_x_nm"}, (2000, 1320.109670647555, 26344.7124618434)),
        ("data/ColiCoords/03_storm.csv", 17361, {"background", "sigma_y_nm"}, (0, 20718.527, 21925.144)),
        ("data/Deep-STORM/positions_demo1.csv", 4956, {"photons", "width_nm"}, (0, 67.843, 2484.15594)),
        ("data/3denseSTORM/knot_biplane/knot.csv", 3000, {"z_nm", "background"}, (0, 1134.8, 541.03)),
        ("data/thunderstorm/tubulins1_00020.csv", 49, {"z_nm", "photons"}, (19, 25713.33, 26788.90)),
        ("data/deep_loco/MT0.N1.LD_activations.csv", 24938, {"z_nm", "photons"}, (9038, 43.325, 839.830)),
        ("data/VIPR/EPFL_DH_beads_activations.csv", 906, {"z_nm", "photons"}, (0, 2505.051088, 2037.593071)),
        ("data/bstore_test_files/MT0.N1.LD-AS-Exp_Localizations.csv", 18948, {"photons"}, (0, 5425.6, 2754.2)),
        ("challenge/cases/08_border_photons_gt.csv", 241, {"z_nm", "photons"}, (0, 4046.561, 754.596)),
    ],
)
def test_real_files(shared, name, n, columns, first):
    found = read_table(shared / name)
    assert len(found) == n
    assert columns <= set(found.columns)
    assert (found.frame[0], found.x_nm[0], found.y_nm[0]) == first


def test_challenge_numbers_survive_exactly(shared):
    path = shared / "challenge" / "cases" / "07_z_errors_loc.csv"
    with open(path) as file:
        rows = list(csv.DictReader(file))
    found = read_table(path)
    for ours, theirs in (("x_nm", "xnano"), ("y_nm", "ynano"), ("z_nm", "znano")):
        assert found.columns[ours].tolist() == [float(row[theirs]) for row in rows]
    assert found.frame.tolist() == [int(row["frame"]) - 1 for row in rows]
