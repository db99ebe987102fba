"""Our own table."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denseloc.data import COLUMNS, CONVENTIONS, Localizations, Provenance
from denseloc.errors import TableError
from denseloc.formats import iter_table, read_table, write_table


def same(a, b):
    assert list(a.columns) == list(b.columns)
    for name in a.columns:
        assert a.columns[name].dtype == b.columns[name].dtype
        np.testing.assert_array_equal(a.columns[name], b.columns[name])


def test_round_trip_with_provenance(tmp_path, table, provenance):
    assert write_table(tmp_path / "t.parquet", table) == 500
    found = read_table(tmp_path / "t.parquet")
    same(found, table)
    assert found.provenance == provenance


names = st.sets(st.sampled_from([n for n in COLUMNS if n not in ("frame", "x_nm", "y_nm")]))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=names, n=st.integers(0, 40), data=st.data())
def test_any_columns_and_numbers_survive(tmp_path, names, n, data):
    columns = {}
    for name in ("frame", "x_nm", "y_nm", *names):
        kind = COLUMNS[name].dtype
        if kind == "int64":
            element = st.integers(-(2**62), 2**62)
        else:
            element = st.floats(width=64 if kind == "float64" else 32)
        columns[name] = np.array(data.draw(st.lists(element, min_size=n, max_size=n)), dtype=kind)
    table = Localizations(columns)
    write_table(tmp_path / "t.parquet", table)
    same(read_table(tmp_path / "t.parquet"), table)


def test_metadata_say_conventions_and_units(tmp_path, table):
    write_table(tmp_path / "t.parquet", table)
    schema = pq.read_schema(tmp_path / "t.parquet")
    document = json.loads(schema.metadata[b"denseloc"])
    assert document["conventions"] == CONVENTIONS
    assert document["units"]["x_nm"] == "nm"
    assert document["format_version"] == 1
    assert document["provenance"]["experiment"]["psf"]["kind"] == "gaussian"
    assert schema.field("photons").metadata[b"unit"] == b"photons"


def test_equal_contents_give_equal_bytes(tmp_path, table):
    write_table(tmp_path / "a.parquet", table)
    pieces = (table.select(slice(start, start + 37)) for start in range(0, 500, 37))
    write_table(tmp_path / "b.parquet", pieces)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_numpy_numbers_in_settings(tmp_path, table):
    settings = {"threshold": np.float32(0.5), "sizes": (np.int64(3), 4), "deep": {"array": np.arange(2)}}
    write_table(tmp_path / "t.parquet", table.with_provenance(settings=settings))
    found = read_table(tmp_path / "t.parquet").provenance.settings
    assert found == {"threshold": 0.5, "sizes": [3, 4], "deep": {"array": [0, 1]}}


def test_walk_in_parts(tmp_path, table):
    write_table(tmp_path / "t.parquet", table)
    parts = list(iter_table(tmp_path / "t.parquet", rows=200))
    assert [len(part) for part in parts] == [200, 200, 100]
    same(Localizations.concat(parts), table)
    assert parts[1].provenance == table.provenance


def test_newer_version_is_refused(tmp_path, table, monkeypatch):
    from denseloc.formats import parts

    monkeypatch.setattr(parts, "FORMAT_VERSION", 2)
    write_table(tmp_path / "t.parquet", table)
    monkeypatch.undo()
    with pytest.raises(TableError, match="table format 2, this denseloc reads up to 1; update denseloc"):
        read_table(tmp_path / "t.parquet")


def test_file_of_another_program(tmp_path):
    columns = {"frame": pa.array([0, 1], pa.int32()), "y_nm": [1.0, 2.0], "x_nm": [3.0, 4.0], "note": ["a", "b"]}
    pq.write_table(pa.table({**columns, "photons": [100.0, None]}), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert list(found.columns) == ["frame", "x_nm", "y_nm", "photons"]
    assert found.provenance == Provenance()
    np.testing.assert_array_equal(found.photons, [100, np.nan])


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"x": [1.0], "y": [2.0], "t": [0]}, "columns x, y, t, expected at least frame, x_nm, y_nm"),
        ({"frame": [0, None], "x_nm": [1.0, 2.0], "y_nm": [2.0, 1.0]}, "'frame' has 1 empty entries"),
        ({"frame": ["a"], "x_nm": [1.0], "y_nm": [2.0]}, "not a readable Parquet table"),
        ({"frame": [0.5], "x_nm": [1.0], "y_nm": [2.0]}, "not a readable Parquet table"),
    ],
)
def test_unsuited_files(tmp_path, columns, match):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(TableError, match=match):
        read_table(tmp_path / "t.parquet")


def test_damaged_metadata(tmp_path):
    table = pa.table({"frame": [0], "x_nm": [1.0], "y_nm": [2.0]}).replace_schema_metadata({"denseloc": "{}"})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TableError, match="'denseloc' metadata are damaged"):
        read_table(tmp_path / "t.parquet")
