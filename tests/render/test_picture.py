"""Pictures as files: other programs read the right values, size and place."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import tifffile

from denseloc.data import Image
from denseloc.errors import OutputError
from denseloc.render import save_png, save_tiff
from denseloc.render.picture import _length_label, _round_length


def image(shape=(500, 640), colour=False, **more):
    pixels = np.random.default_rng(0).random(shape + ((3,) if colour else ()), np.float32) * 0.2
    return Image(pixels, (10.0, 10.0), z_range_nm=(-400.0, 400.0) if colour else None, **more)


def read(path):
    return np.asarray(PIL.Image.open(path))


def test_png_without_bar_is_the_picture(tmp_path):
    pixels = np.zeros((3, 5), np.float32)
    pixels[1, 2], pixels[2, 4] = 4.0, 1.0
    save_png(Image(pixels, (10.0, 10.0)), tmp_path / "a.png", scale_bar=False, percentile=100, gamma=0.5, colormap="gray")
    found = read(tmp_path / "a.png")
    assert found.shape == (3, 5, 3)
    assert (found[1, 2, 0], found[2, 4, 0], found[0, 0, 0]) == (255, 128, 0)


def test_png_knows_where_its_pixels_lie(tmp_path):
    save_png(image(origin_nm=(50.0, 70.0)), tmp_path / "a.png")
    notes = json.loads(PIL.Image.open(tmp_path / "a.png").text["denseloc"])
    assert notes["pixel_size_nm"] == [10.0, 10.0]
    assert notes["origin_nm"] == [50.0, 70.0]
    assert notes["length_unit"] == "nm"


def test_scale_bar_has_its_length(tmp_path):
    save_png(image(), tmp_path / "a.png", colormap="gray")
    found = read(tmp_path / "a.png")
    assert found.shape == (500, 640, 3)
    white = (found[-80:] == 255).all(axis=2)
    longest = max(len(run) for row in white for run in "".join("#" if w else " " for w in row).split())
    assert longest == 100  # a quarter of 6400 nm rounds down to 1 um, 100 pixels of 10 nm


def test_small_pictures_are_enlarged_for_their_label(tmp_path):
    save_png(image((40, 60)), tmp_path / "a.png")
    assert read(tmp_path / "a.png").shape == (320, 480, 3)


def test_legend_shows_the_colours_of_z(tmp_path):
    dark = Image(np.zeros((500, 640, 3), np.float32), (10.0, 10.0), z_range_nm=(-400.0, 400.0))
    save_png(dark, tmp_path / "a.png")
    corner = read(tmp_path / "a.png")[:200, -200:].reshape(-1, 3).astype(int)
    coloured = corner[np.ptp(corner, axis=1) > 100]
    assert set(coloured.argmax(axis=1)) == {0, 1, 2}


def test_hue_survives_the_stretch(tmp_path):
    pixels = np.zeros((2, 2, 3), np.float32)
    pixels[0, 0], pixels[1, 1] = (0.5, 1.0, 0.0), (0.125, 0.25, 0.0)
    save_png(Image(pixels, (10.0, 10.0)), tmp_path / "a.png", scale_bar=False, percentile=100, gamma=0.5)
    found = read(tmp_path / "a.png")
    assert found[0, 0].tolist() == [128, 255, 0]
    assert found[1, 1].tolist() == [64, 128, 0]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (2000, 2), (1, 480)])
@pytest.mark.parametrize("colour", [False, True])
def test_slivers_and_dark_pictures_are_written(tmp_path, shape, colour):
    save_png(image(shape, colour), tmp_path / "a.png")
    save_png(Image(np.zeros(shape, np.float32), (10.0, 10.0)), tmp_path / "b.png")
    assert max(read(tmp_path / "a.png").shape) >= 480


def test_tiff_keeps_values_and_pixel_size(tmp_path):
    picture = Image(image().pixels, (5.0, 10.0), origin_nm=(50.0, 70.0))
    save_tiff(picture, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.asarray(), picture.pixels)
        assert file.is_imagej
        assert file.imagej_metadata["unit"] == "nm"
        assert (file.imagej_metadata["xorigin"], file.imagej_metadata["yorigin"]) == (-7.0, -10.0)
        assert json.loads(file.imagej_metadata["Info"])["pixel_size_nm"] == [5.0, 10.0]
        tags = file.pages[0].tags
        assert tags["XResolution"].value == (1, 10)
        assert tags["YResolution"].value == (1, 5)


def test_tiff_of_colours_has_three_channels(tmp_path):
    picture = image((30, 40), colour=True)
    save_tiff(picture, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].axes == "CYX"
        np.testing.assert_array_equal(file.asarray(), np.moveaxis(picture.pixels, -1, 0))


@pytest.mark.parametrize("save", [save_png, save_tiff])
def test_a_missing_folder_is_said_and_nothing_stays(tmp_path, save):
    with pytest.raises(OutputError):
        save(image((5, 5)), tmp_path / "none" / "a.png")
    save(image((5, 5)), tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_wrong_choices_are_refused(tmp_path):
    with pytest.raises(OutputError, match="colour map 'hott'"):
        save_png(image((5, 5)), tmp_path / "a.png", colormap="hott")
    with pytest.raises(OutputError, match="percentile 0"):
        save_png(image((5, 5)), tmp_path / "a.png", percentile=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("longest", "length", "label"),
    [
        (1600.0, 1000.0, "1 \N{MICRO SIGN}m"),
        (999.0, 500.0, "500 nm"),
        (20.0, 20.0, "20 nm"),
        (7e6, 5e6, "5 mm"),
        (1000.0, 1000.0, "1 \N{MICRO SIGN}m"),
    ],
)
def test_lengths_are_round(longest, length, label):
    assert _round_length(longest) == pytest.approx(length)
    assert _length_label(_round_length(longest)) == label
