"""Tables that claim more than their files hold or whose metadata are not what we write; and targets that are looked at before the work."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from denseloc.data import Localizations, Provenance
from denseloc.errors import OutputError, TableError
from denseloc.formats import TABLE_FORMATS, Particular, check_table, iter_table, read_table, write_table

ROW = [("frame", "u4"), ("x", "f4"), ("y", "f4")]


def refused(path, match):
    for read in (read_table, lambda p: next(iter(iter_table(p)))):
        with pytest.raises(TableError, match=match) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(path.with_suffix("")) in str(caught.value)


# ---- Picasso


def write_locs(path, dtype=ROW, yaml_text="Pixelsize: 100\n", **options):
    path.with_suffix(".yaml").write_text(yaml_text)
    with h5py.File(path, "w") as file:
        file.create_dataset("locs", dtype=dtype, **options)
    return path


@pytest.mark.parametrize(
    ("dtype", "options", "match"),
    [
        (ROW, {"shape": (10**12,), "chunks": (4096,)}, "speaks of 1000000000000 rows of 12 bytes, the file holds 0 bytes"),
        (ROW, {"shape": (10**11,)}, "speaks of 100000000000 rows of 12 bytes, the file holds 0 bytes"),
        (ROW, {"shape": (10**8,), "chunks": (10**8,), "compression": "gzip"}, "speaks of 100000000 rows"),
        (ROW, {"data": np.zeros(10**6, ROW), "compression": "gzip"}, "speaks of 1000000 rows of 12 bytes"),
        (ROW, {"shape": (10,), "chunks": (3 * 10**7,), "maxshape": (None,), "fletcher32": True}, "chunks of 30000000 rows"),
        (ROW, {"shape": (10, 10)}, r"'locs' has shape \(10, 10\), expected rows"),
        (ROW, {"shape": ()}, r"'locs' has shape \(\), expected rows"),
        ([("frame", "u4", (10**5,)), ("x", "f4"), ("y", "f4")], {"shape": (3,)}, "'locs' has frame of type"),
        ([*ROW, ("more", "u1", (5000,))], {"shape": (3,)}, "rows of 5012 bytes, expected at most 4096"),
        ([("frame", "S4"), ("x", "f4"), ("y", "f4")], {"shape": (3,)}, "'locs' has frame of type |S4"),
        (ROW, {"shape": (3,), "external": [("other.bin", 0, h5py.h5f.UNLIMITED)]}, "lie in other files"),
    ],
)
def test_data_sets_that_cannot_be(tmp_path, dtype, options, match):
    refused(write_locs(tmp_path / "t.hdf5", dtype, **options), match)


def test_a_small_compressed_table_is_read(tmp_path):
    write_locs(tmp_path / "t.hdf5", data=np.zeros(10_000, ROW), compression="gzip")
    assert len(read_table(tmp_path / "t.hdf5")) == 10_000


def test_a_virtual_data_set(tmp_path):
    layout = h5py.VirtualLayout((3,), ROW)
    layout[:] = h5py.VirtualSource("/etc/passwd", "locs", (3,))
    (tmp_path / "t.yaml").write_text("Pixelsize: 100\n")
    with h5py.File(tmp_path / "t.hdf5", "w") as file:
        file.create_virtual_dataset("locs", layout)
    refused(tmp_path / "t.hdf5", "lie in other files|the file holds 0 bytes")


@pytest.mark.parametrize("frame", [np.nan, -3.0, np.inf, 1e30])
def test_frames_that_are_no_frames(tmp_path, frame):
    rows = np.array([(1, 1, 1), (frame, 1, 1)], [("frame", "f8"), ("x", "f4"), ("y", "f4")])
    refused(write_locs(tmp_path / "t.hdf5", rows.dtype, data=rows), "frame numbers that are negative or no numbers")


def test_damaged_rows(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.zeros(5000, ROW)
    rows["x"] = rng.uniform(0, 30, 5000)
    path = write_locs(tmp_path / "t.hdf5", data=rows, compression="gzip", chunks=(5000,))
    with h5py.File(path) as file:
        start = file["locs"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[start + 100 : start + 200] = bytes(100)
    path.write_bytes(content)
    refused(path, "damaged")


@pytest.mark.parametrize("text", ["Pixelsize: .inf\n", "Pixelsize: .nan\n", "Pixelsize: -3\n", "Pixelsize: [1]\n"])
def test_pixel_sizes_that_are_none(tmp_path, text):
    refused(write_locs(tmp_path / "t.hdf5", yaml_text=text, shape=(0,)), "no 'Pixelsize'")


def test_impossible_fields_are_unknown(tmp_path):
    path = write_locs(
        tmp_path / "t.hdf5", yaml_text="Pixelsize: 100\nWidth: -3\nHeight: 10000000000000\nFrames: true\n", shape=(0,)
    )
    provenance = read_table(path).provenance
    assert provenance.shape_px is None
    assert provenance.n_frames is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"pixel_size_nm": "wide"}, "'pixel_size_nm' is wide"),
        ({"pixel_size_nm": [0, 100]}, "'pixel_size_nm' is"),
        ({"pixel_size_nm": [1e999, 100]}, "'pixel_size_nm' is"),
        ({"shape_px": [10]}, "'shape_px' is"),
        ({"shape_px": [10.5, 3]}, "'shape_px' is"),
        ({"shape_px": [10**12, 3]}, "'shape_px' is"),
        ({"n_frames": "many"}, "'n_frames' is many"),
        ({"settings": [1]}, "'settings' is"),
        ({"experiment": "text"}, "'experiment' is text"),
        ({"movie": {"a": 1}}, "'movie' is"),
    ],
)
@pytest.mark.parametrize("suffix", [".hdf5", ".parquet"])
def test_metadata_of_another_type(tmp_path, table, suffix, change, match):
    path = tmp_path / f"t{suffix}"
    write_table(path, table)
    change_metadata(path, lambda text: json.dumps((d := json.loads(text)) | {"provenance": d["provenance"] | change}))
    refused(path, f"metadata are damaged.*{match}")


@pytest.mark.parametrize("text", ["[1]", "{", '{"format_version": Infinity, "provenance": {}}', "[" * 100_000, "null", '"x"'])
@pytest.mark.parametrize("suffix", [".hdf5", ".parquet"])
def test_metadata_that_are_none(tmp_path, table, suffix, text):
    path = tmp_path / f"t{suffix}"
    write_table(path, table)
    change_metadata(path, lambda _: text)
    refused(path, "metadata are damaged")


def change_metadata(path, change):
    if path.suffix == ".parquet":
        found = pyarrow.parquet.read_table(path)
        text = change(found.schema.metadata[b"denseloc"].decode())
        pyarrow.parquet.write_table(found.replace_schema_metadata({b"denseloc": text.encode()}), path)
        return
    beside = path.with_suffix(".yaml")
    documents = list(yaml.safe_load_all(beside.read_text()))
    documents[-1]["denseloc"] = change(documents[-1]["denseloc"])
    beside.write_text(yaml.safe_dump_all(documents))


def test_a_pixel_size_that_our_own_metadata_do_not_know(tmp_path, table):
    write_table(tmp_path / "t.hdf5", table)
    change_metadata(
        tmp_path / "t.hdf5",
        lambda text: json.dumps((d := json.loads(text)) | {"provenance": d["provenance"] | {"pixel_size_nm": None}}),
    )
    assert read_table(tmp_path / "t.hdf5").provenance.pixel_size_nm == (100.0, 100.0)


# ---- Parquet and CSV


def test_parquet_that_speaks_of_more_rows_than_it_has(tmp_path):
    path, n = tmp_path / "t.parquet", 1 << 20
    names = ("frame", "x_nm", "y_nm")
    pyarrow.parquet.write_table(pyarrow.table({name: np.zeros(n, "i8" if name == "frame" else "f8") for name in names}), path)
    assert len(read_table(path)) == n
    whole = path.read_bytes()
    assert b"\x80\x80\x80\x01" in whole  # the number of rows, as its footer writes numbers
    path.write_bytes(whole.replace(b"\x80\x80\x80\x01", b"\xfe\xff\xff\x7f"))
    with pytest.raises(TableError, match="speaks of 134217727 rows in") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_csv_with_frames_beyond_all_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("frame,x_nm,y_nm\n1e30,2,3\n")
    refused(tmp_path / "t.csv", "frame numbers")


# ---- targets


def test_formats_that_are_particular():
    assert {one.name for one in TABLE_FORMATS if isinstance(one, Particular)} == {"Picasso"}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".hdf5"])
def test_a_target_is_checked_without_being_touched(tmp_path, provenance, suffix):
    check_table(tmp_path / f"t{suffix}")
    check_table(tmp_path / f"t{suffix}", provenance)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="does not exist"):
        check_table(tmp_path / "none" / f"t{suffix}")
    (tmp_path / f"t{suffix}").mkdir()
    with pytest.raises(OutputError, match="this is a folder"):
        check_table(tmp_path / f"t{suffix}")


def test_an_unknown_suffix_is_found_at_the_start(tmp_path):
    with pytest.raises(TableError, match="unknown table format"):
        check_table(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"pixel_size_nm": (100.0, 110.0)}, "square ones only; write .parquet or .csv"),
        ({"shape_px": None}, "Picasso needs shape_px"),
        ({"n_frames": None}, "Picasso needs n_frames"),
    ],
)
def test_what_picasso_cannot_hold_is_found_at_the_start(tmp_path, provenance, change, match):
    known = Provenance(**{**vars(provenance), **change})
    with pytest.raises(TableError, match=match):
        check_table(tmp_path / "t.hdf5", known)
    check_table(tmp_path / "t.parquet", known)
    check_table(tmp_path / "t.csv", known)


def test_parts_are_not_asked_for_where_the_table_cannot_be_written(tmp_path, provenance):
    def parts():
        pytest.fail("the parts were asked for")
        yield Localizations.empty()

    with pytest.raises(TableError, match="square"):
        write_table(tmp_path / "t.hdf5", parts(), Provenance(**{**vars(provenance), "pixel_size_nm": (100.0, 110.0)}))


@pytest.mark.parametrize("content", ["colour: blue\n", "- a\n- b\n", "{ not yaml", "Frames: 3\nWidth: 4\n", ""])
def test_a_foreign_yaml_is_not_overwritten(tmp_path, table, content):
    (tmp_path / "t.yaml").write_text(content)
    for attempt in (lambda: check_table(tmp_path / "t.hdf5"), lambda: write_table(tmp_path / "t.hdf5", table)):
        with pytest.raises(TableError, match=r"t\.yaml belongs to something else and would be lost; write t_locs\.hdf5"):
            attempt()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"t.yaml": content}


def test_the_yaml_of_an_earlier_table_is_overwritten(tmp_path, table):
    write_table(tmp_path / "t.hdf5", table)
    (tmp_path / "t.hdf5").unlink()
    check_table(tmp_path / "t.hdf5", table.provenance)
    assert write_table(tmp_path / "t.hdf5", table) == len(table)
    assert write_table(tmp_path / "t.hdf5", table.select(slice(0, 10))) == 10
    (tmp_path / "u.yaml").write_text("Generated by: Picasso Localize\nPixelsize: 130\n")
    check_table(tmp_path / "u.hdf5", table.provenance)


def test_a_yaml_that_is_a_folder(tmp_path):
    (tmp_path / "t.yaml").mkdir()
    with pytest.raises(OutputError, match="this is a folder"):
        check_table(tmp_path / "t.hdf5")
