"""Every movie format and every table format on the shelves meets its contract."""

from __future__ import annotations

import contextlib
import errno

import numpy as np
import pytest
import tifffile
import yaml

from denseloc.data import Localizations, Movie, Provenance
from denseloc.errors import MovieError, OutputError, TableError
from denseloc.formats import (
    MOVIE_FORMATS,
    TABLE_FORMATS,
    iter_table,
    movie_suffixes,
    open_movie,
    read_table,
    table_suffixes,
    write_table,
)

COUNTS = np.arange(9 * 5 * 7, dtype=np.uint16).reshape(9, 5, 7)
PROVENANCE = Provenance(pixel_size_nm=(100.0, 100.0), shape_px=(5, 7), n_frames=9)


def write_movie(path):
    """Write COUNTS in the format of the suffix; a new format needs its line here."""
    suffix = path.suffix
    if suffix in (".tif", ".tiff", ".btf", ".tf8"):
        tifffile.imwrite(path, COUNTS, photometric="minisblack", bigtiff=suffix in (".btf", ".tf8"))
    elif suffix == ".dax":
        path.write_bytes(COUNTS.astype(">u2").tobytes())
        path.with_suffix(".inf").write_text("frame dimensions = 7 x 5\nnumber of frames = 9\n")
    elif suffix == ".raw":
        path.write_bytes(COUNTS.tobytes())
        info = {"Byte Order": "<", "Data Type": "uint16", "Width": 7, "Height": 5, "Frames": 9}
        path.with_suffix(".yaml").write_text(yaml.safe_dump(info))
    elif suffix == ".npy":
        np.save(path, COUNTS)
    elif suffix == ".npz":
        np.savez_compressed(path, COUNTS)
    elif suffix == ".sif":
        header = b"Andor Technology Multi-Channel File\n65538 1\n65559 0 0 1 0 -75 \nCounts12\n"
        sizes = b"Pixel number65541 1 512 512 1 9 1 315 35\n65538 1 5 7 1 1 1 0\n"
        path.write_bytes(header + sizes + b"         0\n" * 9 + b"0\n" + COUNTS.astype("<f4").tobytes())
    else:
        pytest.fail(f"no writer for {suffix} in this contract test; add one")
    return path


def a_table(n=40):
    rng = np.random.default_rng(3)
    columns = {
        "frame": np.sort(rng.integers(0, 9, n)),
        "x_nm": rng.uniform(51, 700, n),
        "y_nm": rng.uniform(51, 500, n),
        "photons": rng.uniform(100, 900, n),
        "sigma_x_nm": np.full(n, 4.0),
        "sigma_y_nm": np.full(n, 4.0),
    }
    return Localizations(columns, PROVENANCE)


def test_suffixes_are_told_apart():
    for shelf, suffixes in ((MOVIE_FORMATS, movie_suffixes()), (TABLE_FORMATS, table_suffixes())):
        assert len(suffixes) == len(set(suffixes))
        assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
        assert len({one.name for one in shelf}) == len(shelf)


@pytest.mark.parametrize("suffix", movie_suffixes())
def test_movie_is_read_lazily_and_whole(tmp_path, suffix):
    movie = open_movie(write_movie(tmp_path / f"movie{suffix}"))
    assert isinstance(movie, Movie)
    assert (movie.frames, movie.field_px, movie.n_planes) == ((0, 9), (5, 7), 1)
    assert movie.path == tmp_path / f"movie{suffix}"
    blocks = [block.counts for block in movie.blocks(4)]
    assert [len(block) for block in blocks] == [4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(blocks)[:, 0], COUNTS)
    cropped = movie.crop(frames=(2, 5), roi_px=(1, 2, 3, 4))
    np.testing.assert_array_equal(cropped.read(2, 5)[:, 0], COUNTS[2:5, 1:4, 2:6])
    assert movie.read(8, 9).flags.writeable  # blocks belong to the reader


@pytest.mark.parametrize("suffix", movie_suffixes())
def test_suffix_in_capitals(tmp_path, suffix):
    path = write_movie(tmp_path / f"movie{suffix}")
    path.rename(tmp_path / f"movie{suffix.upper()}")
    assert open_movie(tmp_path / f"movie{suffix.upper()}").n_frames == 9


@pytest.mark.parametrize("suffix", movie_suffixes())
@pytest.mark.parametrize("content", [b"", b"some text\n", bytes(range(256)) * 4])
def test_what_is_not_a_movie_gives_one_line(tmp_path, suffix, content):
    path = write_movie(tmp_path / f"movie{suffix}")
    path.write_bytes(content)
    with pytest.raises(MovieError) as caught:
        open_movie(path).read(0, 1)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", movie_suffixes())
def test_truncated_movie_is_never_silently_shorter(tmp_path, suffix):
    path = write_movie(tmp_path / f"movie{suffix}")
    data = path.read_bytes()
    for keep in (len(data) // 3, len(data) // 2):
        path.write_bytes(data[:keep])
        with contextlib.suppress(MovieError):
            np.testing.assert_array_equal(open_movie(path).read(0, 9)[:, 0], COUNTS)  # all frames lie before the cut


@pytest.mark.parametrize("suffix", movie_suffixes())
def test_missing_movie(tmp_path, suffix):
    with pytest.raises(MovieError, match="no such file"):
        open_movie(tmp_path / f"movie{suffix}")


@pytest.mark.parametrize("suffix", table_suffixes())
def test_table_comes_back(tmp_path, suffix):
    table, path = a_table(), tmp_path / f"table{suffix}"
    assert write_table(path, table) == len(table)
    found = read_table(path)
    assert list(found.columns) == list(table.columns)
    for name in table.columns:
        np.testing.assert_allclose(found.columns[name], table.columns[name], rtol=1e-5)


@pytest.mark.parametrize("suffix", table_suffixes())
def test_parts_give_the_file_of_the_whole_table(tmp_path, suffix):
    table = a_table()
    empty = Localizations.empty(provenance=PROVENANCE)
    parts = [empty, *(table.select(slice(start, start + 7)) for start in range(0, 40, 7)), empty]
    write_table(tmp_path / f"a{suffix}", table)
    assert write_table(tmp_path / f"b{suffix}", iter(parts), PROVENANCE) == 40
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    pieces = list(iter_table(tmp_path / f"b{suffix}", rows=16))
    assert [len(piece) for piece in pieces] == [16, 16, 8]


@pytest.mark.parametrize("suffix", table_suffixes())
def test_table_without_rows(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    assert write_table(path, a_table(0)) == 0
    found = read_table(path)
    assert len(found) == 0
    assert "photons" in found
    assert [len(part) for part in iter_table(path)] == [0]
    assert write_table(path, [], PROVENANCE) == 0
    assert len(read_table(path)) == 0


@pytest.mark.parametrize("suffix", table_suffixes())
def test_failure_keeps_the_old_table(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    write_table(path, a_table())
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def parts(error):
        yield a_table()
        raise error

    with pytest.raises(OutputError, match="disk is full, nothing was written"):
        write_table(path, parts(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(MovieError):
        write_table(path, parts(MovieError("frame 7 is damaged")))
    with pytest.raises(TableError, match="the columns photons, sigma_x_nm, sigma_y_nm are known in some parts only"):
        write_table(path, [a_table(), Localizations({"frame": [1], "x_nm": [60.0], "y_nm": [60.0]})])
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", table_suffixes())
def test_output_folder_is_checked_before_the_parts_are_made(tmp_path, suffix):
    def parts():
        pytest.fail("the parts were asked for")
        yield a_table()

    with pytest.raises(OutputError, match="does not exist"):
        write_table(tmp_path / "none" / f"table{suffix}", parts(), PROVENANCE)


@pytest.mark.parametrize("suffix", table_suffixes())
def test_what_is_not_a_table_gives_one_line(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    with pytest.raises(TableError, match="no such file"):
        read_table(path)
    write_table(path, a_table())
    for content, match in ((b"", "empty"), (b"some text\n", "table"), (path.read_bytes()[:300], "table")):
        path.write_bytes(content)
        if suffix == ".csv" and len(content) == 300:
            continue  # a text table that is cut at a number cannot be told from a whole one
        for read in (read_table, lambda p: list(iter_table(p))):
            with pytest.raises(TableError, match=match) as caught:
                read(path)
            assert "\n" not in str(caught.value)


def test_unknown_suffix(tmp_path):
    with pytest.raises(
        TableError, match=r"unknown table format '\.parket' \(did you mean '\.parquet'\?\), expected one of \.parquet, "
    ):
        write_table(tmp_path / "t.parket", a_table())
    (tmp_path / "t.xlsx").write_bytes(b"x")
    with pytest.raises(TableError, match="unknown table format"):
        read_table(tmp_path / "t.xlsx")
