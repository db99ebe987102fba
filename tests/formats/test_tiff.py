"""TIFF movies of all kinds, whole and damaged."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile

from denseloc.errors import MovieError
from denseloc.formats import open_movie
from denseloc.formats.sources import RawFrames
from denseloc.formats.tiff import PagedFrames


def everything(movie):
    return movie.read(0, movie.n_frames)[:, 0]


def one_by_one(path, counts, **options):
    """Write as most acquisition programs do: each page before its data."""
    with tifffile.TiffWriter(path, **options) as writer:
        for frame in counts:
            writer.write(frame, metadata=None, contiguous=False)


WRITERS = {
    "shaped": lambda path, counts: tifffile.imwrite(path, counts, photometric="minisblack"),
    "plain": one_by_one,
    "plain big-endian": lambda path, counts: one_by_one(path, counts, byteorder=">"),
    "bigtiff": lambda path, counts: one_by_one(path, counts, bigtiff=True),
    "imagej": lambda path, counts: tifffile.imwrite(path, counts, imagej=True),
    "imagej hyperstack": lambda path, counts: tifffile.imwrite(path, counts.reshape(2, 3, 2, 6, 8), imagej=True),
    "ome": lambda path, counts: tifffile.imwrite(path, counts, ome=True, photometric="minisblack"),
    "compressed": lambda path, counts: tifffile.imwrite(path, counts, compression="zlib", photometric="minisblack"),
    "lzw with predictor": lambda path, counts: tifffile.imwrite(
        path, counts, compression="lzw", predictor=True, photometric="minisblack", rowsperstrip=2
    ),
    "many strips": lambda path, counts: tifffile.imwrite(path, counts, rowsperstrip=2, photometric="minisblack", metadata=None),
    "tiles": lambda path, counts: tifffile.imwrite(path, counts, tile=(16, 16), photometric="minisblack"),
}


def single_writes(path, counts):
    """Write frames one by one with tifffile's defaults: each becomes a series of its own."""
    with tifffile.TiffWriter(path) as writer:
        for frame in counts:
            writer.write(frame, contiguous=False)


WRITERS["single writes"] = single_writes


@pytest.mark.parametrize("kind", WRITERS)
def test_all_kinds_give_the_same_frames(tmp_path, counts, kind):
    path = tmp_path / "movie.tif"
    WRITERS[kind](path, counts)
    movie = open_movie(path)
    assert (movie.n_frames, movie.shape_px, movie.name) == (12, (6, 8), "movie.tif")
    block = movie.read(3, 9)
    assert block.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(block[:, 0], counts[3:9])
    np.testing.assert_array_equal(everything(movie), counts)
    assert movie.read(4, 4).shape == (0, 1, 6, 8)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
def test_number_types_stay(tmp_path, counts, dtype):
    tifffile.imwrite(tmp_path / "m.tif", counts.astype(dtype), photometric="minisblack")
    movie = open_movie(tmp_path / "m.tif")
    assert movie.read(0, 1).dtype == dtype
    np.testing.assert_array_equal(everything(movie), counts.astype(dtype))


def test_uncompressed_is_raw_and_compressed_is_paged(tmp_path, counts):
    WRITERS["imagej"](tmp_path / "a.tif", counts)
    WRITERS["compressed"](tmp_path / "b.tif", counts)
    assert isinstance(open_movie(tmp_path / "a.tif").source, RawFrames)
    assert isinstance(open_movie(tmp_path / "b.tif").source, PagedFrames)


def test_one_frame(tmp_path, counts):
    tifffile.imwrite(tmp_path / "m.tif", counts[0])
    np.testing.assert_array_equal(everything(open_movie(tmp_path / "m.tif")), counts[:1])


@pytest.mark.filterwarnings("ignore:.*truncating ImageJ file")
def test_imagej_beyond_4_gb_is_read_without_being_loaded(tmp_path):
    path = tmp_path / "m.tif"
    shape = (2300, 1024, 1024)  # sparse on disk: only headers and one frame are written
    tifffile.imwrite(path, shape=shape, dtype="uint16", imagej=True)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
        offset = tif.pages[0].dataoffsets[0]
        order = tif.byteorder
    frame = np.arange(1024 * 1024, dtype=np.uint32).astype(np.uint16).reshape(1024, 1024)
    with open(path, "r+b") as file:
        file.seek(offset + 2250 * frame.nbytes)
        file.write(frame.astype(f"{order}u2").tobytes())
    tracemalloc.start()
    movie = open_movie(path)
    block = movie.read(2249, 2251)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert movie.n_frames == 2300
    np.testing.assert_array_equal(block[1, 0], frame)
    assert not block[0].any()
    assert peak < 20e6  # two frames are 4 MB, the movie is 4.8 GB


def test_reading_in_two_threads(tmp_path, counts):
    from concurrent.futures import ThreadPoolExecutor

    for kind in ("plain", "compressed"):
        WRITERS[kind](tmp_path / "m.tif", counts)
        movie = open_movie(tmp_path / "m.tif")
        with ThreadPoolExecutor(2) as pool:
            blocks = list(pool.map(lambda i, movie=movie: movie.read(i % 12, i % 12 + 1)[0, 0], range(200)))
        for i, block in enumerate(blocks):
            np.testing.assert_array_equal(block, counts[i % 12])


# ---- truncated and damaged files


def cut(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[:keep])


@pytest.mark.parametrize("kind", ["shaped", "plain", "bigtiff", "imagej", "compressed", "lzw with predictor"])
def test_truncated_movie_says_how_many_frames_are_whole(tmp_path, counts, kind):
    path = tmp_path / "m.tif"
    WRITERS[kind](path, counts)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[7]
        keep = page.dataoffsets[-1] + page.databytecounts[-1] - 1
    cut(path, keep)
    with pytest.raises(MovieError, match=r"truncated.* frames are whole.* 0:7") as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)
    movie = open_movie(path, allow_truncated=True)
    np.testing.assert_array_equal(everything(movie), counts[:7])


@pytest.mark.parametrize("kind", WRITERS)
def test_no_cut_gives_wrong_frames_or_a_traceback(tmp_path, counts, kind):
    whole = tmp_path / "whole.tif"
    WRITERS[kind](whole, counts)
    data = whole.read_bytes()
    part = tmp_path / "part.tif"
    for keep in np.linspace(0, len(data) - 1, 60).astype(int):
        part.write_bytes(data[:keep])
        with contextlib.suppress(MovieError):
            found = everything(open_movie(part))
            np.testing.assert_array_equal(found, counts)  # only bytes that are not needed were cut
        with contextlib.suppress(MovieError):
            movie = open_movie(part, allow_truncated=True)
            np.testing.assert_array_equal(everything(movie), counts[: movie.n_frames])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a TIFF"),
        (b"x,y,frame\n1,2,3\n", "not a TIFF"),
        (b"II*\0\0\0\0\0", "without pages"),
        (b"II*\0\xff\xff\0\0", r"without pages|damaged"),
    ],
)
def test_what_is_not_a_movie(tmp_path, content, match):
    (tmp_path / "m.tif").write_bytes(content)
    with pytest.raises(MovieError, match=match):
        open_movie(tmp_path / "m.tif")


def test_colour_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((4, 6, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(MovieError, match="colour"):
        open_movie(tmp_path / "m.tif")


@pytest.mark.parametrize("dtype", ["complex64", "bool"])
def test_numbers_that_are_no_counts_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((4, 6, 8), dtype), photometric="minisblack")
    with pytest.raises(MovieError, match=dtype):
        open_movie(tmp_path / "m.tif")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["shaped", "compressed"])
def test_not_finite_frames_are_named_when_read(tmp_path, counts, kind, bad):
    values = counts.astype(np.float32)
    values[7, 2, 3] = bad
    WRITERS[kind](tmp_path / "m.tif", values)
    movie = open_movie(tmp_path / "m.tif")
    movie.read(0, 7)
    with pytest.raises(MovieError, match="frame 7 contains NaN or infinity"):
        movie.read(5, 9)


def test_frames_of_different_sizes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for n in (6, 6, 7, 6, 6, 6, 6, 6, 6, 6, 6):
            writer.write(np.zeros((n, 8), np.uint16), metadata=None, contiguous=False)
    with pytest.raises(MovieError, match="frame 2 is 7 x 8 px"):
        open_movie(tmp_path / "m.tif")


def test_a_file_that_shrinks_while_it_is_read(tmp_path, counts):
    WRITERS["imagej"](tmp_path / "m.tif", counts)
    movie = open_movie(tmp_path / "m.tif")
    with open(tmp_path / "m.tif", "r+b") as file:
        file.truncate(700)
    with pytest.raises(MovieError, match=r"lies beyond the end of the file"):
        everything(movie)


def test_frames_outside_of_the_movie(tmp_path, counts):
    WRITERS["imagej"](tmp_path / "m.tif", counts)
    with pytest.raises(MovieError, match="frames 10:13 asked for"):
        open_movie(tmp_path / "m.tif").source.read(10, 13)


# ---- several files


def test_folder_in_natural_order(tmp_path, counts):
    for number, frame in enumerate(counts):
        tifffile.imwrite(tmp_path / f"img_{number + 1}.tif", frame)
    (tmp_path / "notes.txt").write_text("not a frame")
    movie = open_movie(tmp_path)
    assert movie.n_frames == 12
    np.testing.assert_array_equal(everything(movie), counts)


def test_folder_with_one_movie_file(tmp_path, counts):
    WRITERS["imagej"](tmp_path / "m.tif", counts)
    np.testing.assert_array_equal(everything(open_movie(tmp_path)), counts)


def test_folder_without_frames(tmp_path):
    with pytest.raises(MovieError, match="no TIFF file in this folder"):
        open_movie(tmp_path)


def test_folder_with_frames_of_different_sizes(tmp_path, counts):
    tifffile.imwrite(tmp_path / "1.tif", counts[0])
    tifffile.imwrite(tmp_path / "2.tif", counts[1])
    tifffile.imwrite(tmp_path / "10.tif", counts[1, :5])
    with pytest.raises(MovieError, match=r"10\.tif: the frame is 5 x 8 px, expected 6 x 8 px"):
        open_movie(tmp_path)


def test_folder_with_several_frames_in_a_file(tmp_path, counts):
    tifffile.imwrite(tmp_path / "1.tif", counts[0])
    tifffile.imwrite(tmp_path / "2.tif", counts[:3], photometric="minisblack")
    with pytest.raises(MovieError, match="3 frames, expected one"):
        open_movie(tmp_path)


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0"
DimensionOrder="XYZCT" Type="uint16" SizeX="8" SizeY="6" SizeZ="1" SizeC="1" SizeT="12" PhysicalSizeX="0.107" PhysicalSizeY="0.108">
<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>"""


def ome_set(folder, counts):
    files = [("aaaa", "movie_1.ome.tif", 0, 7), ("bbbb", "movie_2.ome.tif", 7, 12)]
    data = "".join(
        f'<TiffData IFD="{t - start}" PlaneCount="1" FirstT="{t}" FirstC="0" FirstZ="0">'
        f'<UUID FileName="{name}">urn:uuid:{own}</UUID></TiffData>'
        for own, name, start, stop in files
        for t in range(start, stop)
    )
    for own, name, start, stop in files:
        tifffile.imwrite(
            folder / name, counts[start:stop], description=OME.format(own=own, data=data), metadata=None, photometric="minisblack"
        )
    return folder / "movie_1.ome.tif", folder / "movie_2.ome.tif"


def test_ome_set_of_two_files(tmp_path, counts):
    first, _ = ome_set(tmp_path, counts)
    movie = open_movie(first)
    np.testing.assert_array_equal(everything(movie), counts)
    np.testing.assert_array_equal(movie.read(5, 9)[:, 0], counts[5:9])
    assert movie.pixel_size_nm == pytest.approx((108.0, 107.0))


def test_ome_set_with_a_missing_file(tmp_path, counts):
    first, second = ome_set(tmp_path, counts)
    second.unlink()
    with pytest.raises(MovieError, match=r"a file of the set is missing .*7 of 12 frames"):
        open_movie(first)
    np.testing.assert_array_equal(everything(open_movie(first, allow_truncated=True)), counts[:7])


def micro_manager_file(path, counts, first, n_frames, image_tags):
    """Write one file of a Micro-Manager stack: header, summary, pages with their data, list of frames."""
    summary = json.dumps(
        {"MicroManagerVersion": "1.4", "Frames": n_frames, "Slices": 1, "Channels": 1, "Positions": 1, "Prefix": "cell"}
    )
    body = bytearray(40 + len(summary))
    body[:4], body[40:] = b"II*\0", summary.encode()
    rows, columns = counts.shape[1:]
    offsets = []
    tags = json.dumps(image_tags).encode() + b"\0"
    for number, frame in enumerate(counts):
        body += b"\0" * (len(body) % 2)
        start = len(body)
        offsets.append(start)
        data = start + 162
        after = data + frame.nbytes
        entries = [(256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, data)]
        entries += [(277, 3, 1, 1), (278, 3, 1, rows), (279, 4, 1, frame.nbytes), (282, 5, 1, after), (283, 5, 1, after)]
        entries += [(296, 3, 1, 3), (51123, 2, len(tags), after + 8)]
        body += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        end = after + 8 + len(tags)
        body += struct.pack("<I", 0 if number == len(counts) - 1 else end + end % 2)
        assert len(body) == data
        body += frame.astype("<u2").tobytes() + struct.pack("<II", 1, 1) + tags
    index = b"".join(struct.pack("<5I", 0, 0, first + i, 0, offset) for i, offset in enumerate(offsets))
    struct.pack_into("<9I", body, 4, offsets[0], 54773648, len(body), 483765892, 0, 99384722, 0, 2355492, len(summary))
    body += struct.pack("<II", 3453623, len(offsets)) + index
    path.write_bytes(body)


MM_TAGS = {"PixelSizeUm": 0.1083, "Camera": "Andor", "Andor-Gain": {"PropVal": "200", "PropType": "String"}, "Exposure-ms": 30}


def test_micro_manager_set_of_two_files(tmp_path, counts):
    first, second = tmp_path / "cell_MMStack.ome.tif", tmp_path / "cell_MMStack_1.ome.tif"
    micro_manager_file(first, counts[:7], 0, 12, MM_TAGS)
    micro_manager_file(second, counts[7:], 7, 12, MM_TAGS)
    movie = open_movie(first)
    assert movie.n_frames == 12
    np.testing.assert_array_equal(everything(movie), counts)
    assert movie.pixel_size_nm == pytest.approx((108.3, 108.3))
    assert movie.tags["Camera"] == "Andor"
    assert movie.tags["Andor-Gain"] == "200"
    assert movie.tags["Exposure-ms"] == 30


def test_micro_manager_file_that_is_cut(tmp_path, counts):
    path = tmp_path / "cell_MMStack.ome.tif"
    micro_manager_file(path, counts, 0, 12, MM_TAGS)
    with tifffile.TiffFile(path) as tif:
        keep = tif.pages[9].dataoffsets[0] + 3
    cut(path, keep)
    with pytest.raises(MovieError, match="frames 0:9"):
        open_movie(path)
    np.testing.assert_array_equal(everything(open_movie(path, allow_truncated=True)), counts[:9])


# ---- pixel size


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((10.0, 8.0), "um", (125.0, 100.0)),
        ((10.0, 8.0), "micron", (125.0, 100.0)),
        ((10.0, 10.0), "\\u00B5m", (100.0, 100.0)),
        ((0.01, 0.01), "nm", (100.0, 100.0)),
        ((1e5, 1e5), "cm", (100.0, 100.0)),
        ((1.0, 1.0), "inch", None),
        ((1.0, 1.0), "pixel", None),
        ((1.0, 1.0), "um", (1000.0, 1000.0)),
        ((0.5, 0.5), "um", None),
        ((200.0, 200.0), "um", None),
    ],
)
def test_imagej_pixel_size(tmp_path, counts, resolution, unit, expected):
    tifffile.imwrite(tmp_path / "m.tif", counts, imagej=True, resolution=resolution, metadata={"unit": unit})
    found = open_movie(tmp_path / "m.tif").pixel_size_nm
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("size", "unit", "expected"), [(0.11, "µm", 110.0), (110.0, "nm", 110.0), (1.0, "pixel", None), (5.0, "nm", None)]
)
def test_ome_pixel_size(tmp_path, counts, size, unit, expected):
    metadata = {"axes": "TYX", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit, "PhysicalSizeY": size, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "m.ome.tif", counts, ome=True, metadata=metadata, photometric="minisblack")
    found = open_movie(tmp_path / "m.ome.tif").pixel_size_nm
    assert found == (None if expected is None else pytest.approx((expected, expected)))


@pytest.mark.parametrize(("resolution", "expected"), [((1e5, 1e5), (100.0, 100.0)), ((72, 72), None)])
def test_plain_resolution(tmp_path, counts, resolution, expected):
    unit = "CENTIMETER" if expected else "INCH"
    tifffile.imwrite(tmp_path / "m.tif", counts, resolution=resolution, resolutionunit=unit, photometric="minisblack")
    found = open_movie(tmp_path / "m.tif").pixel_size_nm
    assert found == (None if expected is None else pytest.approx(expected))


# ---- real files


@pytest.mark.parametrize(
    ("name", "n", "shape", "pixel"),
    [
        ("Deep-STORM/testStack_SimulatedMicrotubules.tif", 361, (64, 64), (100.0, 100.0)),
        ("3denseSTORM/knot_biplane/knot.tif", 100, (32, 64), None),
        ("3denseSTORM/real_3d_astigmatism/tubulins.tif", 400, (70, 70), None),
        ("Locan/images.tif", 5, (128, 128), None),
        ("PYME/psf_pri_measured.tif", 61, (61, 61), (72.0, 74.0)),
        ("peersim/d3_n1000.tif", 60, (64, 64), None),
        ("thunderstorm/tubulins1_00020.tif", 1, (256, 256), None),
    ],
)
def test_real_files(shared, name, n, shape, pixel):
    path = shared / "data" / name
    movie = open_movie(path)
    assert (movie.n_frames, movie.shape_px) == (n, shape)
    assert movie.pixel_size_nm == (None if pixel is None else pytest.approx(pixel, rel=1e-4))
    np.testing.assert_array_equal(everything(movie), tifffile.imread(path).reshape(n, *shape))


def test_real_folder(shared):
    movie = open_movie(shared / "data" / "deep_loco" / "MT0.N1.LD-AS_frames")
    assert (movie.n_frames, movie.shape_px) == (64, (64, 64))
    np.testing.assert_array_equal(movie.read(41, 42)[0, 0], tifffile.imread(movie.path / "00042.tif"))
