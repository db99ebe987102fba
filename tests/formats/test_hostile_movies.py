"""Movies that claim more than their files hold: refused in one line, before memory or disk is taken for the claim."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import tifffile

from denseloc.errors import MovieError
from denseloc.formats import open_movie, sources

MODEST = 20e6
HUGE = (10**6, 10**5, 10**5)


def refused(path, match):
    """Open and read a frame; check that this is refused in one line and in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(MovieError, match=match) as caught:
            open_movie(path, allow_truncated=True).read(0, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))
    assert peak < MODEST


# ---- NumPy


def header(shape, descr="<u2", fortran=False):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize(
    ("shape", "match"),
    [
        (HUGE, "frames of 100000 x 100000 px, expected 1 to"),
        ((10**6, 1000, 1000), "truncated"),
        ((2**40, 2**40, 2**40), "frames of 1099511627776 x 1099511627776 px"),
        ((-1, 10, 10), r"array of shape \(-1, 10, 10\)"),
        ((3, -10, 10), r"array of shape \(3, -10, 10\)"),
    ],
)
def test_npy_with_a_huge_shape(tmp_path, shape, match, fortran):
    (tmp_path / "m.npy").write_bytes(header(shape, fortran=fortran) + bytes(1000))
    refused(tmp_path / "m.npy", match)


def test_npy_with_a_huge_header(tmp_path):
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{" * 1000)
    refused(tmp_path / "m.npy", "a header of 4294967295 bytes")
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 3000) + b"(" * 3000)
    refused(tmp_path / "m.npy", "not a NumPy array file")
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x09\x00" + struct.pack("<I", 100) + b"{" * 100)  # what tokenize refuses
    refused(tmp_path / "m.npy", "not a NumPy array file")


def test_more_frames_than_places_can_be_kept(tmp_path, monkeypatch):
    np.save(tmp_path / "m.npy", np.zeros((30, 2, 2), np.uint8))
    np.savez(tmp_path / "m.npz", np.zeros((30, 2, 2), np.uint8))
    monkeypatch.setattr(sources, "MOST_FRAMES", 20)
    refused(tmp_path / "m.npy", "30 frames in the file, expected at most 20")
    refused(tmp_path / "m.npz", "30 frames in the file, expected at most 20")


def write_npz(path, shape, n_bytes, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive, archive.open("arr_0.npy", "w", force_zip64=True) as member:
        member.write(header(shape))
        for start in range(0, n_bytes, 1 << 20):
            member.write(bytes(min(1 << 20, n_bytes - start)))
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("shape", [HUGE, (10**12, 1, 1), (10, 10, 10)])
def test_npz_that_claims_more_than_it_holds(tmp_path, shape, compression):
    refused(write_npz(tmp_path / "m.npz", shape, 100, compression), r"holds 100 bytes, expected|frames of 100000 x 100000 px")


def test_npz_that_holds_more_than_it_claims_is_not_unpacked(tmp_path, monkeypatch):
    write_npz(tmp_path / "m.npz", (3, 10, 10), 20 << 20)
    monkeypatch.setattr("denseloc.formats.npy.tempfile.TemporaryFile", lambda **_: pytest.fail("it was unpacked"))
    refused(tmp_path / "m.npz", "holds 20971520 bytes, expected 600 bytes")


def test_npz_that_unpacks_to_a_thousand_times_its_size(tmp_path, monkeypatch):
    write_npz(tmp_path / "m.npz", (20, 1024, 512), 20 << 20)
    assert open_movie(tmp_path / "m.npz").n_frames == 20  # small enough to be harmless
    monkeypatch.setattr("denseloc.formats.npy.LARGE_BYTES", 10 << 20)
    monkeypatch.setattr("denseloc.formats.npy.tempfile.TemporaryFile", lambda **_: pytest.fail("it was unpacked"))
    refused(tmp_path / "m.npz", "would unpack to 20971520, expected at most 250 times as many")


def test_npz_that_does_not_fit_on_the_disk(tmp_path, monkeypatch, counts):
    np.savez_compressed(tmp_path / "m.npz", counts)
    usage = type("Usage", (), {"free": 500})
    monkeypatch.setattr("denseloc.formats.npy.shutil.disk_usage", lambda _: usage)
    refused(tmp_path / "m.npz", "unpacks to 1152 bytes, 500 are free in .*TMPDIR")


def test_npz_whose_list_of_contents_lies(tmp_path, counts):
    np.savez(tmp_path / "m.npz", counts)
    data = (tmp_path / "m.npz").read_bytes()
    start = data.index(b"PK\x01\x02")
    (tmp_path / "m.npz").write_bytes(data[:900] + data[start:])  # half of the data are missing
    refused(tmp_path / "m.npz", r"not a whole \.npz archive|cannot be read")
    flagged = bytearray(data)
    flagged[start + 8] |= 1  # says that it is encrypted
    flagged[6] |= 1
    (tmp_path / "m.npz").write_bytes(flagged)
    refused(tmp_path / "m.npz", r"not a whole \.npz archive \(.*password")


# ---- TIFF


def write_tiff(path, columns, rows, n_pages=1, back_to=0, compression=1, data=bytes(4096), packed=None, overlap=None):
    """Write pages that all have their pixels behind the last directory; the last one points back to page ``back_to`` - 1."""
    entry = struct.Struct("<HHII")
    n_tags = 9 if overlap is None else overlap
    place = 8 + n_pages * (2 + 12 * 9 + 4)
    size = len(data) if packed is None else packed
    values = [(256, 4, columns), (257, 4, rows), (258, 3, 16), (259, 3, compression), (262, 3, 1), (273, 4, place)]
    values += [(277, 3, 1), (278, 4, rows), (279, 4, size)]
    content = bytearray(b"II*\0" + struct.pack("<I", 8))
    starts = [8 + number * (2 + 12 * 9 + 4) for number in range(n_pages)]
    for number in range(n_pages):
        last = starts[back_to - 1] if back_to else 0
        after = starts[number + 1] if number + 1 < n_pages else last
        content += struct.pack("<H", n_tags) + b"".join(entry.pack(tag, kind, 1, value) for tag, kind, value in values)
        content += struct.pack("<I", after)
    path.write_bytes(content + data)
    return path


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("side", [100_000, 2**32 - 1])
def test_tiff_with_huge_pages(tmp_path, side, compression):
    refused(write_tiff(tmp_path / "m.tif", side, side, compression=compression), f"frames of {side} x {side} px, expected 1 to")


def test_tiff_with_empty_pages(tmp_path):
    refused(write_tiff(tmp_path / "m.tif", 0, 0), "frames of 0 x 0 px")


def test_tiff_whose_large_pages_lie_in_a_few_bytes(tmp_path):
    refused(write_tiff(tmp_path / "m.tif", 8000, 8000, compression=8, packed=100), "8000 x 8000 px in 100 bytes")


def test_tiff_with_huge_tiles(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((16, 16), np.uint16), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "m.tif", mode="r+b") as tif:
        for name in ("TileWidth", "TileLength"):
            tif.pages[0].tags[name].overwrite(100_000, dtype="I")
    refused(tmp_path / "m.tif", "tiles of 100000 x 100000 px")


def test_tiff_page_that_unpacks_to_more_than_it_is(tmp_path):
    refused(write_tiff(tmp_path / "m.tif", 16, 16, compression=8, data=zlib.compress(bytes(30 << 20))), "frame 0: damaged")


@pytest.mark.parametrize(("n_pages", "back_to"), [(1, 1), (3, 1), (150, 120)])
def test_tiff_whose_pages_run_in_a_circle(tmp_path, n_pages, back_to):
    refused(write_tiff(tmp_path / "m.tif", 8, 8, n_pages, back_to), f"runs in a circle after {n_pages} pages")


def test_tiff_whose_pages_overlap(tmp_path):
    write_tiff(tmp_path / "m.tif", 8, 8, 400, overlap=3000)  # each directory claims what stands in the following ones
    data = bytearray((tmp_path / "m.tif").read_bytes())
    for number in range(399):
        end = 8 + number * 114 + 2 + 12 * 3000
        if end + 4 < len(data):
            struct.pack_into("<I", data, end, 8 + (number + 1) * 114)
    (tmp_path / "m.tif").write_bytes(data)
    refused(tmp_path / "m.tif", "its pages overlap")


@pytest.mark.parametrize(
    ("description", "match"),
    [
        ("ImageJ=1.11a\nimages=999999999999\nframes=999999999999\n", "1 of 999999999999 frames"),
        ('{"shape": [1000000000000, 16, 16]}', "of 1000000000000 frames"),
        ('{"shape": [9223372036854775807, 9223372036854775807, 16, 16]}', "of a number of 126 bits frames"),
    ],
)
def test_tiff_whose_description_promises_too_many_frames(tmp_path, description, match):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((16, 16), np.uint16), description=description, metadata=None)
    with pytest.raises(MovieError, match=match):
        open_movie(tmp_path / "m.tif")
    assert open_movie(tmp_path / "m.tif", allow_truncated=True).n_frames == 1


OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0"
DimensionOrder="XYZCT" Type="uint16" SizeX="{x}" SizeY="16" SizeZ="1" SizeC="1" SizeT="{t}"><Channel ID="C:0:0"/><TiffData{data}/>
</Pixels></Image></OME>"""


@pytest.mark.parametrize(
    "values",
    [
        {"x": 16, "t": 10**8, "data": ""},
        {"x": 16, "t": 10**30, "data": ""},
        {"x": 16 * 10**8, "t": 1, "data": ""},
        {"x": 16, "t": 1, "data": ' IFD="0" PlaneCount="1000000000"'},
        {"x": 16, "t": 1, "data": " IFD='0' PlaneCount = '1000000000'"},
    ],
)
def test_ome_tiff_that_speaks_of_too_many_images(tmp_path, values):
    tifffile.imwrite(tmp_path / "m.ome.tif", np.zeros((16, 16), np.uint16), description=OME.format(**values), metadata=None)
    refused(tmp_path / "m.ome.tif", "its OME-XML speaks of 10+ images, expected at most 10000000")


# ---- flat frames with a text beside them


def write_raw(path, n_bytes, **entries):
    path.write_bytes(bytes(n_bytes))
    info = {"Byte Order": "'<'", "Data Type": "uint16", "Frames": 10, "Height": 8, "Width": 8, **entries}
    path.with_suffix(".yaml").write_text("".join(f"{key}: {value}\n" for key, value in info.items()))
    return path


@pytest.mark.parametrize(
    ("n_bytes", "entries", "match"),
    [
        (100, {"Frames": 10**15}, "none of 1000000000000000 frames is whole"),
        (1280, {"Height": 10**9, "Width": 10**9}, "frames of 1000000000 x 1000000000 px, expected 1 to"),
        (1280, {"Height": 10**30}, "'Height' is a number of 100 bits"),
        (1280, {"Height": "0x" + "f" * 5000}, "'Height' is a number of 20000 bits"),
        (1281, {}, "1281 bytes, expected 1280 for 10 frames"),
        (1279, {"Frames": 1, "Width": 900}, "none of 1 frames is whole"),
        (1280, {"Data Type": "V0"}, "pixels are void"),
        (1280, {"Data Type": "u2," * 10_000}, "'Data Type' is u2,u2"),
        (1280, {"Data Type": "(9999,9999)u2"}, "pixels are void"),
        (1280, {"Frames": "[" + ",".join("1" * 500) + "]"}, "'Frames' is"),
    ],
)
def test_raw_whose_yaml_does_not_fit(tmp_path, n_bytes, entries, match):
    refused(write_raw(tmp_path / "m.raw", n_bytes, **entries), match)


@pytest.mark.parametrize(
    "line", ["frame dimensions = 99999999 x 99999999\nnumber of frames = 3", "number of frames = " + "9" * 5000]
)
def test_dax_whose_inf_does_not_fit(tmp_path, line):
    (tmp_path / "m.dax").write_bytes(bytes(96))
    (tmp_path / "m.inf").write_text(f"frame dimensions = 4 x 4\n{line}\n")
    refused(tmp_path / "m.dax", r"frames of 99999999 x 99999999 px|'number of frames' is 99999.*\.\.\., expected")


def test_dax_with_an_endless_inf(tmp_path):
    (tmp_path / "m.dax").write_bytes(bytes(96))
    with open(tmp_path / "m.inf", "wb") as file:
        file.truncate(1 << 30)
    refused(tmp_path / "m.dax", "more than 1048576 characters")


def bomb(kind):
    if kind == "lists":
        return "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)
        )
    if kind == "merges":
        return (
            "m0: &m0 {"
            + ", ".join(f"k{i}: 1" for i in range(300))
            + "}\n"
            + "".join(f"m{i + 1}: &m{i + 1}\n  <<: [{', '.join([f'*m{i}'] * 10)}]\n" for i in range(9))
        )
    return {
        "deep": "a: " + "[" * 3000 + "]" * 3000 + "\n",
        "deep keys": "? " * 3000 + "a\n",
        "itself": "b: &b [1, *b]\n",
        "many": "c: [" + "1," * 5000 + "]\n",
        "date": "d: 2001-99-99\n",
        "number": "e: " + "9" * 6000 + "\n",
        "empty number": 'f: !!int ""\n',
        "no truth": "g: !!bool perhaps\n",
        "no time": "h: !!timestamp soon\n",
        "code": "i: !!python/object/apply:os.system [true]\n",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("lists", "more than 200000 entries once its aliases are written out"),
        ("merges", "more than 200000 entries once its aliases are written out"),
        ("many", "more than 4000 entries"),
        ("deep", "nested more than 100 deep"),
        ("deep keys", "nested more than 100 deep|not YAML"),
        ("itself", "the entry 'b' holds itself"),
        ("date", "not YAML"),
        ("number", "not YAML"),
        ("empty number", "not YAML"),
        ("no truth", "not YAML"),
        ("no time", "not YAML"),
        ("code", "not YAML"),
    ],
)
def test_yaml_bombs(tmp_path, kind, match, monkeypatch):
    if kind == "many":
        monkeypatch.setattr("denseloc.formats.beside.MOST_NODES", 4000)
    path = write_raw(tmp_path / "m.raw", 1280)
    with open(path.with_suffix(".yaml"), "a") as file:
        file.write(bomb(kind))
    refused(path, match)


def test_a_few_aliases_are_read(tmp_path):
    path = write_raw(tmp_path / "m.raw", 1280)
    with open(path.with_suffix(".yaml"), "a") as file:
        file.write("a: &a {Pixelsize: 130}\nb: *a\n<<: *a\n")
    assert open_movie(path).pixel_size_nm == (130.0, 130.0)


def test_yaml_that_is_too_long_or_no_file(tmp_path):
    path = write_raw(tmp_path / "m.raw", 1280)
    with open(path.with_suffix(".yaml"), "ab") as file:
        file.truncate(1 << 30)
    refused(path, "more than 256 MiB")
    path.with_suffix(".yaml").unlink()
    path.with_suffix(".yaml").mkdir()
    refused(path, "not an ordinary file")
