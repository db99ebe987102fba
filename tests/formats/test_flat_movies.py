"""dax + inf, raw + yaml, npy and npz."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import yaml

from denseloc.errors import MovieError
from denseloc.formats import open_movie


def everything(movie):
    return movie.read(0, movie.n_frames)[:, 0]


def write_dax(path, counts, dtype=">u2", text="16 bit integers (binary, big endian)", n=None):
    path.write_bytes(counts.astype(dtype).tobytes())
    n_frames, rows, columns = counts.shape
    lines = [
        "binning = 1 x 1",
        f"data type = {text}",
        f"frame dimensions = {columns} x {rows}",
        f"number of frames = {n or n_frames}",
    ]
    path.with_suffix(".inf").write_text("\n".join(lines))
    return path


def write_raw(path, counts, order="<", **entries):
    path.write_bytes(counts.astype(counts.dtype.newbyteorder(order)).tobytes())
    n, rows, columns = counts.shape
    info = {"Byte Order": order, "Data Type": counts.dtype.name, "Frames": n, "Height": rows, "Width": columns, **entries}
    path.with_suffix(".yaml").write_text(yaml.safe_dump({k: v for k, v in info.items() if v is not None}))
    return path


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (">u2", "16 bit integers (binary, big endian)"),
        ("<u2", "16 bit integers (binary, little endian)"),
        ("u1", "8 bit integers (binary, big endian)"),
    ],
)
def test_dax(tmp_path, counts, dtype, text):
    counts = counts % 251
    movie = open_movie(write_dax(tmp_path / "m.dax", counts, dtype, text))
    assert (movie.n_frames, movie.shape_px) == (12, (6, 8))
    assert movie.tags["binning"] == "1 x 1"
    np.testing.assert_array_equal(everything(movie), counts)


def test_dax_without_inf(tmp_path, counts):
    write_dax(tmp_path / "m.dax", counts).with_suffix(".inf").unlink()
    with pytest.raises(MovieError, match=r"m\.inf is not beside it"):
        open_movie(tmp_path / "m.dax")


def test_dax_of_another_size(tmp_path, counts):
    with pytest.raises(MovieError, match="1152 bytes, expected 960 for 10 frames"):
        open_movie(write_dax(tmp_path / "long.dax", counts, n=10))
    path = write_dax(tmp_path / "short.dax", counts, n=14)
    with pytest.raises(MovieError, match="12 of 14 frames"):
        open_movie(path)
    np.testing.assert_array_equal(everything(open_movie(path, allow_truncated=True)), counts)


@pytest.mark.parametrize("line", ["frame dimensions", "number of frames"])
def test_dax_with_an_incomplete_inf(tmp_path, counts, line):
    path = write_dax(tmp_path / "m.dax", counts)
    inf = path.with_suffix(".inf")
    inf.write_text("\n".join(x for x in inf.read_text().splitlines() if not x.startswith(line)))
    with pytest.raises(MovieError, match=f"'{line}' is nothing"):
        open_movie(path)


def test_dax_with_an_unknown_number_type(tmp_path, counts):
    with pytest.raises(MovieError, match="'data type' is floats"):
        open_movie(write_dax(tmp_path / "m.dax", counts, text="floats"))


@pytest.mark.parametrize(("order", "dtype"), [("<", "uint16"), (">", "uint16"), ("<", "float32")])
def test_raw(tmp_path, counts, order, dtype):
    movie = open_movie(write_raw(tmp_path / "m.raw", counts.astype(dtype), order, Pixelsize=130, Camera="Zyla"))
    assert movie.pixel_size_nm == (130.0, 130.0)
    assert movie.tags["Camera"] == "Zyla"
    assert movie.read(0, 1).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(everything(movie), counts)


def test_raw_with_several_documents(tmp_path, counts):
    path = write_raw(tmp_path / "m.raw", counts)
    with open(path.with_suffix(".yaml"), "a") as file:
        file.write("---\nPixelsize: 120.5\n")
    assert open_movie(path).pixel_size_nm == (120.5, 120.5)


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"Frames": None}, "'Frames' is None"),
        ({"Width": "wide"}, "'Width' is wide"),
        ({"Data Type": "image"}, "'Data Type' is image"),
        ({"Data Type": "complex64"}, "pixels are complex64"),
        ({"Frames": 13}, "12 of 13 frames"),
        ({"Frames": 11}, "1152 bytes, expected 1056"),
        ({"Data Type": "uint64"}, "3 of 12 frames"),
    ],
)
def test_raw_that_does_not_fit(tmp_path, counts, entries, match):
    with pytest.raises(MovieError, match=match):
        open_movie(write_raw(tmp_path / "m.raw", counts, **entries))


def test_raw_without_yaml_or_with_another_text(tmp_path, counts):
    path = write_raw(tmp_path / "m.raw", counts)
    path.with_suffix(".yaml").write_text("a: [1\nb: }")
    with pytest.raises(MovieError, match="not YAML"):
        open_movie(path)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(MovieError, match=r"m\.yaml is not beside it"):
        open_movie(path)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", "i1"])
@pytest.mark.parametrize("fortran", [False, True])
def test_npy(tmp_path, counts, dtype, fortran):
    values = (counts % 127).astype(dtype)
    np.save(tmp_path / "m.npy", np.asfortranarray(values) if fortran else values)
    movie = open_movie(tmp_path / "m.npy")
    assert movie.read(0, 1).dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(movie.read(2, 5)[:, 0], values[2:5])
    np.testing.assert_array_equal(everything(movie), values)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, counts, save):
    save(tmp_path / "m.npz", movie=counts)
    movie = open_movie(tmp_path / "m.npz")
    np.testing.assert_array_equal(movie.read(2, 5)[:, 0], counts[2:5])
    np.testing.assert_array_equal(everything(movie), counts)


def test_large_npy_is_not_loaded(tmp_path):
    path = tmp_path / "m.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (4000, 512, 512)})
        start = file.tell()
        file.seek(start + 3999 * 512 * 512 * 2)
        file.write(np.full((512, 512), 7, "<u2").tobytes())
    assert path.stat().st_size > 2e9
    tracemalloc.start()
    movie = open_movie(path)
    block = movie.read(3998, 4000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert block[1].min() == 7
    assert not block[0].any()
    assert peak < 10e6


@pytest.mark.parametrize("shape", [(7,), (6, 8), (2, 3, 4, 5), (0, 6, 8)])
def test_npy_of_another_shape(tmp_path, shape):
    np.save(tmp_path / "m.npy", np.zeros(shape, np.uint16))
    with pytest.raises(MovieError, match=r"expected \(frame, y, x\)"):
        open_movie(tmp_path / "m.npy")


def test_pickled_npy_is_refused(tmp_path):
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MovieError, match="pickled"):
        open_movie(tmp_path / "m.npy")


@pytest.mark.parametrize("dtype", ["complex64", "bool", "U3"])
def test_npy_of_other_numbers(tmp_path, dtype):
    np.save(tmp_path / "m.npy", np.zeros((3, 4, 5), dtype))
    with pytest.raises(MovieError, match="expected integers or real floats"):
        open_movie(tmp_path / "m.npy")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': oops}   \n"])
def test_what_is_no_array_file(tmp_path, content):
    (tmp_path / "m.npy").write_bytes(content)
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(MovieError, match="not a NumPy array file"):
        open_movie(tmp_path / "m.npy")
    with pytest.raises(MovieError, match=r"not a whole \.npz archive"):
        open_movie(tmp_path / "m.npz")


def test_truncated_npy(tmp_path, counts):
    path = tmp_path / "m.npy"
    np.save(path, counts)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MovieError, match="10 of 12 frames"):
        open_movie(path)
    np.testing.assert_array_equal(everything(open_movie(path, allow_truncated=True)), counts[:10])


def test_npz_with_several_arrays(tmp_path, counts):
    np.savez(tmp_path / "m.npz", movie=counts, z=np.arange(3))
    with pytest.raises(MovieError, match=r"2 arrays \(movie, z\), expected one"):
        open_movie(tmp_path / "m.npz")


def test_damaged_npz(tmp_path, counts):
    rng = np.random.default_rng(1)
    np.savez_compressed(tmp_path / "m.npz", rng.integers(0, 9999, (40, 20, 20)).astype(np.uint16))
    data = bytearray((tmp_path / "m.npz").read_bytes())
    data[2000:2040] = bytes(40)
    (tmp_path / "m.npz").write_bytes(data)
    with pytest.raises(MovieError, match=r"not a whole \.npz archive"):
        open_movie(tmp_path / "m.npz")


def test_not_finite_frames_are_named(tmp_path, counts):
    values = counts.astype(np.float32)
    values[3, 0, 0] = np.nan
    for name, array in (("c.npy", values), ("f.npy", np.asfortranarray(values))):
        np.save(tmp_path / name, array)
        with pytest.raises(MovieError, match="frame 3 contains NaN"):
            open_movie(tmp_path / name).read(1, 6)


def test_unknown_missing_and_misspelt(tmp_path):
    (tmp_path / "movie.nd2").write_bytes(b"x")
    with pytest.raises(MovieError, match=r"unknown movie format '\.nd2', expected \.tif, .*\.npz"):
        open_movie(tmp_path / "movie.nd2")
    with pytest.raises(MovieError, match=r"no such file or folder \(did you mean 'movie.nd2'\?\)"):
        open_movie(tmp_path / "movies.nd2")


@pytest.mark.parametrize(
    ("name", "n", "shape", "low", "high"),
    [
        ("test.dax", 10, (256, 256), 120, 989),
        ("test_300x200_dh.dax", 5, (200, 300), 123, 1139),
        ("test_bg_sub.dax", 5, (256, 256), 99, 931),
    ],
)
def test_real_dax(shared, name, n, shape, low, high):
    movie = open_movie(shared / "data" / "storm-analysis" / name)
    assert (movie.n_frames, movie.shape_px) == (n, shape)
    counts = everything(movie)
    assert (counts.min(), counts.max()) == (low, high)


def test_real_raw(shared):
    movie = open_movie(shared / "data" / "picasso" / "testdata.raw")
    assert (movie.n_frames, movie.shape_px, movie.pixel_size_nm) == (100, (32, 32), (160.0, 160.0))
    counts = everything(movie)
    assert (counts.min(), counts.max()) == (184, 4023)
