"""Tables in other formats, whole and filtered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from denseloc.cli import main
from denseloc.data import Localizations, Provenance
from denseloc.errors import TableError
from denseloc.formats import read_table, write_table
from denseloc.verbs import convert


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    columns = {
        "frame": np.arange(50) // 5,
        "x_nm": rng.uniform(100, 3000, 50),
        "y_nm": rng.uniform(100, 3000, 50),
        "photons": np.linspace(100, 1000, 50),
        "background": np.full(50, 10.0),
        "sigma_x_nm": np.linspace(5, 54, 50),
        "sigma_y_nm": np.linspace(5, 54, 50),
    }
    provenance = Provenance(pixel_size_nm=(100.0, 100.0), shape_px=(32, 32), n_frames=10)
    write_table(tmp_path / "t.parquet", Localizations(columns, provenance))
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("suffix", [".csv", ".hdf5", ".parquet"])
def test_rows_travel_and_are_chosen(table: Path, tmp_path: Path, suffix: str) -> None:
    before = table.read_bytes()
    whole = convert(table, tmp_path / f"whole{suffix}")
    assert (whole.rows, whole.read) == (50, 50)
    np.testing.assert_allclose(read_table(whole.table).x_nm, read_table(table).x_nm, rtol=1e-6)
    part = convert(table, tmp_path / f"part{suffix}", max_sigma_nm=30, min_photons=300)
    kept = read_table(part.table)
    assert part.rows == len(kept) == 15
    assert kept.photons.min() >= 300
    assert table.read_bytes() == before


def test_the_command_says_what_was_left_out(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(table), "-o", str(tmp_path / "a.csv"), "--min-photons", "500"]) == 0
    assert "28 localizations, 22 left out" in capsys.readouterr().out
    assert main(["convert", str(table), "-o", str(table)]) == 2
    assert "is the table itself" in capsys.readouterr().err
    assert main(["convert", str(table), "-o", str(tmp_path / "a.xlsx")]) == 2
    assert "unknown table format '.xlsx'" in capsys.readouterr().err
    (tmp_path / "theirs.mat").write_bytes(b"MATLAB 5.0")
    assert main(["convert", str(tmp_path / "theirs.mat"), "-o", str(tmp_path / "c.csv")]) == 2
    told = capsys.readouterr().err
    assert "export it as .csv" in told
    assert "rename" not in told
    assert main(["convert", str(table), "-o", str(tmp_path / "b.csv"), "--min-probability", "0.5"]) == 2
    told = capsys.readouterr().err
    assert "no column probability" in told
    assert "leave --min-probability out" in told
    assert not (tmp_path / "b.csv").exists()


def test_memory_holds_a_part_only(table: Path, tmp_path: Path) -> None:
    told: list[int] = []
    convert(table, tmp_path / "a.csv", progress=told.append)
    assert told == [50]
    with pytest.raises(TableError, match="no such file"):
        convert(tmp_path / "none.parquet", tmp_path / "a.csv")


def test_rows_that_picasso_takes_out_are_told_apart_from_those_not_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {
        "frame": np.arange(4),
        "x_nm": [20.0, 500.0, 500.0, 500.0],
        "y_nm": np.full(4, 500.0),
        "photons": [900.0, 900, 900, 50],
    }
    provenance = Provenance(pixel_size_nm=(100.0, 100.0), shape_px=(32, 32), n_frames=4)
    write_table(tmp_path / "edge.parquet", Localizations({k: np.asarray(v) for k, v in columns.items()}, provenance))
    made = convert(tmp_path / "edge.parquet", tmp_path / "edge.hdf5", min_photons=100)
    assert (made.read, made.rows, made.nowhere, made.refused) == (4, 2, 0, 1)
    assert convert(tmp_path / "edge.parquet", tmp_path / "edge.csv", min_photons=100).refused == 0
    assert main(["convert", str(tmp_path / "edge.parquet"), "-o", str(tmp_path / "again.hdf5")]) == 0
    assert "1 row lies outside of the centres of the outermost pixels" in capsys.readouterr().out


def test_a_selection_that_leaves_nothing_is_said(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(table), "-o", str(tmp_path / "none.csv"), "--max-sigma-nm", "1"]) == 0
    assert "no row is left" in capsys.readouterr().out


def test_a_csv_does_not_promise_what_picasso_needs(table: Path, tmp_path: Path) -> None:
    bare = convert(table, tmp_path / "bare.csv").table
    with pytest.raises(TableError, match=r"no \.csv does; convert the \.parquet"):
        convert(bare, tmp_path / "bare.hdf5")
