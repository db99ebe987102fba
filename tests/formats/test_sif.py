"""Andor .sif: movies written here by the layout, a real file, hostile headers; and camera facts from tags."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from denseloc.errors import MovieError
from denseloc.formats import open_movie
from denseloc.formats.camera_tags import camera_tags, info_tags

OPENING = (
    b"Andor Technology Multi-Channel File\n65538 1\n%d 0 0 1 1255089414 -75 \x00 \x00 \x00 \x06 \x00 0 0.03 0.0312 0.0312 1 \x00 "
    b"0.0312 1e-07 512 1 250 0 2e-08 1e-08 0 0 \x04 \x00 256\nDU897_BV \n 512 512 8\nC:\\a.sif \n65538 16\n"
)


def write_sif(path, counts, version=65564, flag=b"0\n", times=None, area=None, sizes=None, areas=1):
    """Write a movie; ``area`` and ``sizes`` replace those that fit."""
    n, rows, columns = counts.shape
    area = area or (1, rows, columns, 1, 1, 1)
    sizes = sizes or (n, areas, n * rows * columns, rows * columns)
    text = OPENING % version + b"\0" * 16 + b"\n65538 \x01 \x00 0 0\n0 10\n65539 \x01 \x00\n0 1 0 0\n12\nPixel number6\nCounts12\n"
    text += b"Pixel number65541 1 512 512 1 %d %d %d %d\n" % sizes + b"65538 %d %d %d %d %d %d 0\n" % area
    lines = b"".join(b"%10d\n" % (31200 * i) for i in range(n)) if times is None else times
    path.write_bytes(text + lines + flag + counts.astype("<f4").tobytes() + b"0\n0\n0\n0\n")
    return path


@pytest.mark.parametrize(("version", "flag"), [(65559, b""), (65564, b"0\n"), (65567, b"1\n" + b"  123456\n" * 12)])
def test_frames_and_tags(tmp_path, counts, version, flag):
    movie = open_movie(write_sif(tmp_path / "m.sif", counts, version, flag))
    assert (movie.n_frames, movie.shape_px, movie.pixel_size_nm) == (12, (6, 8), None)
    np.testing.assert_array_equal(movie.read(0, 12)[:, 0], counts)
    np.testing.assert_array_equal(movie.read(5, 6)[0, 0], counts[5])
    assert movie.tags["gain_dac"] == 250
    assert movie.tags["DetectorType"] == "DU897_BV"
    assert movie.tags["exposure_s"] == pytest.approx(0.03)


def test_part_of_a_binned_chip(tmp_path, counts):
    movie = open_movie(write_sif(tmp_path / "m.sif", counts, area=(33, 44, 48, 33, 2, 2)))
    assert movie.shape_px == (6, 8)
    assert (movie.tags["roi_left_px"], movie.tags["roi_bottom_px"], movie.tags["Binning"]) == (32, 32, "2x2")


def test_real_file(shared):
    path = shared / "data" / "simple-STORM" / "testsif.sif"
    movie = open_movie(path)
    assert (movie.n_frames, movie.shape_px) == (1, (128, 128))
    frame = movie.read(0, 1)[0, 0]
    np.testing.assert_array_equal(frame, np.frombuffer(path.read_bytes()[-65536 - 8 : -8], "<f4").reshape(128, 128))
    said = {(p.quantity, p.value) for p in camera_tags(movie)}
    assert {("camera", "DU897_BV"), ("em_gain", 200.0), ("exposure_ms", 100.0), ("temperature_C", -75.0)} <= said


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sizes": (12, 1, 12 * 48, 47)}, "do not agree"),
        ({"sizes": (10**17, 1, 10**17 * 48, 48)}, "do not agree"),
        ({"area": (1, 900000000, 900000000, 1, 1, 1)}, "expected 1 to"),
        ({"area": (9, 6, 2, 1, 1, 1)}, "impossible area"),
        ({"area": (1, 6, 8, 1, 0, 0)}, "impossible area"),
        ({"areas": 3}, "3 areas in each frame, expected 1"),
        ({"times": b"x\n"}, "truncated among the times"),
        ({"sizes": (13, 1, 13 * 48, 48)}, "truncated"),
    ],
)
def test_hostile_headers_give_one_line(tmp_path, counts, changes, match):
    path = write_sif(tmp_path / "m.sif", counts, **changes)
    with pytest.raises(MovieError, match=match) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_truncated(tmp_path, counts):
    path = write_sif(tmp_path / "m.sif", counts)
    path.write_bytes(path.read_bytes()[: -48 * 4 * 3])
    with pytest.raises(MovieError, match="truncated, 9 of 12 frames are whole"):
        open_movie(path)
    assert open_movie(path, allow_truncated=True).n_frames == 9


def test_not_a_sif(tmp_path):
    for content in (b"", b"text\n", OPENING % 65564 + b"65541 1 2 3 4 1 1 1 1 \n"):
        (tmp_path / "m.sif").write_bytes(content)
        with pytest.raises(MovieError, match="export the movie"):
            open_movie(tmp_path / "m.sif")


# ------------------------------------------------------------------------------------------------------------------- camera facts


def said(movie):
    return {p.quantity: (p.value, p.where) for p in reversed(camera_tags(movie))}


def test_metadata_beside_a_movie(tmp_path, counts):
    tifffile.imwrite(tmp_path / "a.ome.tif", counts)
    state = {"Evolve-MultiplierGain": {"PropVal": "150"}, "Evolve-Port": {"PropVal": "Multiplication Gain"}}
    text = {
        "Summary": {"PixelSize_um": 0.1},
        "FrameKey-0-0-0": {"Camera": "Evolve", "Exposure-ms": 30.5, "scopeDataKeys": [], **state},
    }
    (tmp_path / "a_metadata.txt").write_text(json.dumps(text))
    found = said(open_movie(tmp_path / "a.ome.tif"))
    assert found["em_gain"] == (150.0, "a_metadata.txt, Evolve-MultiplierGain")
    assert found["exposure_ms"][0] == 30.5
    assert found["amplifier"][0] == "Multiplication Gain"


def test_metadata_file_that_was_cut_or_is_none(tmp_path, counts):
    tifffile.imwrite(tmp_path / "a.tif", counts)
    (tmp_path / "a_metadata.txt").write_text('{"FrameKey-0-0-0": {\n  "Andor-Gain": "300",\n  "Andor-Exposure": 20,\n "cut')
    assert said(open_movie(tmp_path / "a.tif"))["em_gain"] == (300.0, "a_metadata.txt, Andor-Gain")
    (tmp_path / "a_metadata.txt").write_bytes(b"\xff\xfe\0\0" * 100)
    assert "em_gain" not in said(open_movie(tmp_path / "a.tif"))


def test_imagej_info(tmp_path, counts):
    info = "Andor-Camera = | iXon Ultra | DU897_BV | 1 |\nAndor-Gain = 300\nother text\nExposure-ms: 20.5\n" + "x" * 300
    tifffile.imwrite(
        tmp_path / "a.tif", counts, imagej=True, resolution=(10, 10), metadata={"unit": "um", "axes": "TYX", "Info": info}
    )
    found = said(open_movie(tmp_path / "a.tif"))
    assert found["em_gain"] == (300.0, "tag Andor-Gain")
    assert found["exposure_ms"][0] == 20.5
    assert found["pixel_size_nm"][0] == pytest.approx(100)


def test_what_is_not_a_number_is_not_proposed():
    assert info_tags(5) == {}
    assert info_tags("{broken") == {}
    assert info_tags('{"a": {"b": 1}}') == {"b": "1"}
