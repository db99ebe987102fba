"""Which rows of a table are kept: in the table, the picture, the report and the comparison, and said in the provenance."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from denseloc.data import Localizations, Provenance
from denseloc.errors import TableError
from denseloc.formats import read_table, write_table
from denseloc.selection import Selection, error_limit_nm, expected_error_nm
from denseloc.verbs import convert

BARE = ("--no-picture", "--no-report")


def table(n=200) -> Localizations:
    rng = np.random.default_rng(3)
    sigma = rng.uniform(5, 60, (2, n))
    return Localizations(
        {
            "frame": np.arange(n),
            "x_nm": rng.uniform(0, 3000, n),
            "y_nm": rng.uniform(0, 3000, n),
            "photons": rng.uniform(100, 3000, n),
            "probability": rng.random(n),
            "sigma_x_nm": sigma[0],
            "sigma_y_nm": sigma[1],
        },
        Provenance((100.0, 100.0), (30, 30), n, settings={"assumed": ["camera: given"]}),
    )


def test_rows_are_kept_by_all_conditions_at_once():
    rows = table().with_columns(photons=np.where(np.arange(200) == 0, np.nan, table().photons))
    kept = Selection(0.5, 30.0, 500.0).of(rows)
    expected = (rows.probability >= 0.5) & (np.maximum(rows.sigma_x_nm, rows.sigma_y_nm) <= 30) & (rows.photons >= 500)
    assert 0 < expected.sum() < 200
    np.testing.assert_array_equal(kept.frame, rows.frame[expected])
    said = kept.provenance.settings
    assert said["selection"] == {"min_probability": 0.5, "max_sigma_nm": 30.0, "min_photons": 500.0}
    assert said["assumed"] == [
        "camera: given",
        "kept: probability at least 0.5, sigma in x and y at most 30 nm, at least 500 photons",
    ]


def test_a_second_selection_joins_the_first():
    twice = Selection(min_probability=0.3, max_sigma_nm=20.0).of(Selection(min_probability=0.6).of(table()))
    assert twice.provenance.settings["selection"] == {"min_probability": 0.6, "max_sigma_nm": 20.0}
    assert len([line for line in twice.provenance.settings["assumed"] if line.startswith("kept: ")]) == 1


def test_nothing_asked_for_changes_nothing():
    rows = table()
    assert not Selection()
    assert Selection().keep(rows) is rows
    assert Selection().noted(rows.provenance) is rows.provenance


def test_a_column_that_is_missing_is_named():
    bare = Localizations({name: table().columns[name] for name in ("frame", "x_nm", "y_nm")})
    for wish, name in (
        ({"min_probability": 0.5}, "probability"),
        ({"max_sigma_nm": 9.0}, "sigma_x_nm"),
        ({"min_photons": 9.0}, "photons"),
        ({"filter_rate": 0.3}, "sigma_x_nm"),
    ):
        with pytest.raises(TableError, match=f"no column {name}"):
            Selection(**wish).keep(bare)


@pytest.mark.parametrize("name", ["localize", "render", "report", "evaluate"])
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--min-probability", "1.2", "from 0 to 1"),
        ("--min-probability", "nan", "from 0 to 1"),
        ("--max-sigma-nm", "0", "above 0"),
        ("--min-photons", "-3", "at least 0"),
        ("--min-photons", "many", "number"),
        ("--filter-rate", "0.86", "a share from 0 to 0.85, as fewer rows show the filter more than the sample"),
        ("--filter-rate", "-0.1", "a share from 0 to 0.85"),
        ("--filter-rate", "nan", "a share from 0 to 0.85"),
        ("--filter-rate", "30 %", "number"),
    ],
)
def test_wrong_values_are_one_line(command, place, tmp_path, name, option, value, words):
    write_table(tmp_path / "t.parquet", table())
    start = {
        "localize": ("localize", place.movie, "-o", tmp_path / "o.parquet", "--model", place.model),
        "render": ("render", tmp_path / "t.parquet", "-o", tmp_path / "o.png"),
        "report": ("report", tmp_path / "t.parquet", "-o", tmp_path / "o.html"),
        "evaluate": ("evaluate", tmp_path / "t.parquet", tmp_path / "t.parquet"),
    }[name]
    answer = command(*start, f"{option}={value}")
    assert answer.code == 2
    assert len(answer.err.splitlines()) <= 2
    assert option in answer.err
    assert words in answer.err
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet"}


def test_localize_keeps_the_rows_asked_for_and_says_so(command, place, tmp_path):
    base = ("localize", place.movie, "--model", place.model, "-o")
    assert command(*base, tmp_path / "all.parquet", *BARE).code == 0
    every = read_table(tmp_path / "all.parquet")
    sigma, photons = (round(float(np.median(values))) for values in (every.sigma_x_nm, every.photons))
    wish = ("--min-photons", photons, "--max-sigma-nm", sigma + 5)
    answer = command(*base, tmp_path / "few.parquet", *wish, "--block-frames", 7)
    assert answer.code == 0, answer
    few, expected = read_table(tmp_path / "few.parquet"), Selection(max_sigma_nm=sigma + 5, min_photons=photons).keep(every)
    assert 0 < len(few) < len(every)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(few.columns[name], values)
    assert few.provenance.settings["selection"] == {"max_sigma_nm": sigma + 5, "min_photons": photons}
    assert "selection" not in every.provenance.settings
    assert f"at least {photons:g} photons" in (tmp_path / "few.html").read_text()


def test_render_and_evaluate_and_report_take_the_rows_asked_for(command, tmp_path):
    rows = table()
    write_table(tmp_path / "t.parquet", rows)
    write_table(tmp_path / "sure.parquet", rows.select(rows.probability >= 0.8))
    wish = ("--min-probability", "0.8")
    n = int((rows.probability >= 0.8).sum())
    answer = command("render", tmp_path / "t.parquet", "-o", tmp_path / "p.tif", "--mode", "histogram", *wish)
    assert f"kept     {n} localizations (probability at least 0.8)" in answer.out
    assert tifffile.imread(tmp_path / "p.tif").sum() == n
    answer = command("evaluate", tmp_path / "t.parquet", tmp_path / "sure.parquet", *wish)
    assert "100.0" in answer.out
    assert command("report", tmp_path / "t.parquet", "-o", tmp_path / "r.html", *wish).code == 0
    page = (tmp_path / "r.html").read_text()
    assert "probability at least 0.8" in page
    assert f">{n}<" in page


# ------------------------------------------------------------------------------------------------------------------- filter rate


def ranked(n=5000, seed=1) -> Localizations:
    """Draw a table with depth whose errors spread over many orders of magnitude."""
    rng = np.random.default_rng(seed)
    place = {name: rng.uniform(0, 3000, n) for name in ("x_nm", "y_nm", "z_nm")}
    sigmas = {f"sigma_{axis}_nm": np.exp(rng.normal(3, 2, n)) for axis in "xyz"}
    return Localizations({"frame": np.arange(n), **place, **sigmas})


@pytest.mark.parametrize("rate", [0.0, 0.0001, 0.1, 1 / 3, 0.5, 0.85])
@pytest.mark.parametrize("n", [1, 7, 5000])
def test_exactly_the_share_of_largest_expected_error_goes(rate, n):
    rows = ranked(n)
    error = np.sqrt(rows.sigma_x_nm.astype(float) ** 2 + rows.sigma_y_nm.astype(float) ** 2 + rows.sigma_z_nm.astype(float) ** 2)
    expected = np.sort(np.argsort(error)[: n - int(rate * n + 1e-9)])
    selection = Selection(filter_rate=rate)
    np.testing.assert_array_equal(selection.of(rows).frame, expected)
    parts = [rows.select(slice(start, start + 611)) for start in range(0, n, 611)]
    parts.insert(1, Localizations.empty())  # a block without molecules may lack columns
    streamed = Localizations.concat([part for part in selection.whole(lambda: parts) if len(part)])
    np.testing.assert_array_equal(streamed.frame, expected)


def test_without_depth_the_error_is_that_of_x_and_y():
    np.testing.assert_allclose(expected_error_nm(table()), np.hypot(table().sigma_x_nm, table().sigma_y_nm), rtol=1e-6)


def test_rows_that_tie_are_kept_and_those_without_a_sigma_are_not():
    rows = ranked(100)
    even = rows.with_columns(**{name: np.full(100, 9.0) for name in rows.columns if name.startswith("sigma")})
    assert len(Selection(filter_rate=0.5).of(even)) == 100
    blind = rows.with_columns(sigma_y_nm=np.where(np.arange(100) < 40, np.nan, rows.sigma_y_nm))
    kept = Selection(filter_rate=0.5).of(blind)
    assert len(kept) == 30  # half of the others
    assert kept.frame.min() >= 40


def test_the_share_is_of_the_rows_that_the_other_conditions_leave():
    rows = table()
    sure = Selection(min_probability=0.5).keep(rows)
    kept = Selection(min_probability=0.5, filter_rate=0.25).of(rows)
    assert len(kept) == len(sure) - len(sure) // 4
    assert expected_error_nm(kept).max() == np.float32(error_limit_nm(lambda: (sure,), 0.25))


def test_shares_of_shares_are_said_as_one():
    twice = Selection(filter_rate=0.5).of(Selection(filter_rate=0.2).of(table()))
    assert twice.provenance.settings["selection"] == {"filter_rate": pytest.approx(0.6)}
    assert twice.provenance.settings["assumed"][-1] == "kept: without the 60 % of largest expected error"
    with pytest.raises(TableError, match=r"leaves out 88 %, expected 85 % at most; give 0\.625 or less"):
        Selection(filter_rate=0.7).of(twice.with_provenance(settings={"selection": {"filter_rate": 0.6}}))


def test_a_streamed_movie_loses_exactly_the_worst_rows(command, place, tmp_path):
    base = ("localize", place.movie, "--model", place.model, "-o")
    assert command(*base, tmp_path / "all.parquet", *BARE).code == 0
    every = read_table(tmp_path / "all.parquet")
    answer = command(*base, tmp_path / "few.parquet", *BARE, "--filter-rate", "0.4", "--block-frames", 3)
    assert answer.code == 0, answer
    few = read_table(tmp_path / "few.parquet")
    expected = Selection(filter_rate=0.4).of(every)
    assert len(few) == len(every) - int(0.4 * len(every))
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(few.columns[name], values)
    assert few.provenance.settings["selection"] == {"filter_rate": 0.4}
    assert convert(tmp_path / "all.parquet", tmp_path / "few.csv", filter_rate=0.4).rows == len(few)


def test_a_second_filter_that_leaves_too_little_says_what_may_be_asked_for(tmp_path):
    write_table(tmp_path / "t.parquet", table())
    convert(tmp_path / "t.parquet", tmp_path / "half.parquet", filter_rate=0.5)
    with pytest.raises(TableError, match=r"--filter-rate 0\.8 .* filtered by 0\.5 before leaves out 90 %, .* give 0\.7 or less"):
        convert(tmp_path / "half.parquet", tmp_path / "less.parquet", filter_rate=0.8)
    assert convert(tmp_path / "half.parquet", tmp_path / "less.parquet", filter_rate=0.7).rows == 30


@pytest.mark.parametrize("noted", [["a"], "all", {"filter_rate": 7, "min_photons": "many", "colour": 1}])
def test_what_other_programs_note_as_selection_is_no_obstacle(noted):
    known = table().provenance.settings | {"selection": noted}
    kept = Selection(filter_rate=0.25).of(table().with_provenance(settings=known))
    assert kept.provenance.settings["selection"] == {"filter_rate": 0.25}
