"""Pictures hold the right weight at the right place, whatever the parts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from denseloc.data import Localizations, Provenance
from denseloc.errors import OutputError, TableError
from denseloc.render import RenderWarning, depth_colours, render


def table(n=200, seed=0, sigma=True, z=True, **provenance):
    rng = np.random.default_rng(seed)
    columns = {"frame": np.zeros(n, int), "x_nm": rng.uniform(100, 900, n), "y_nm": rng.uniform(100, 500, n)}
    if z:
        columns["z_nm"] = rng.uniform(-400, 400, n)
    if sigma:
        columns |= {"sigma_x_nm": rng.uniform(5, 20, n), "sigma_y_nm": rng.uniform(5, 20, n)}
    return Localizations(columns, Provenance(**provenance))


FIELD = (600.0, 1000.0)


@pytest.mark.parametrize("mode", ["gaussian", "histogram"])
def test_each_localization_weighs_one(mode):
    image = render(table(), mode=mode, field_nm=FIELD)
    assert image.pixels.shape == (60, 100)
    assert image.pixels.dtype == np.float32
    assert image.pixels.sum() == pytest.approx(200, rel=1e-5)
    assert image.pixel_size_nm == (10.0, 10.0)


def test_x_is_the_column_and_positions_count_from_the_outer_corner():
    one = Localizations({"frame": [0], "x_nm": [310.0], "y_nm": [129.9]})
    image = render(one, mode="histogram", field_nm=FIELD)
    assert np.argwhere(image.pixels).tolist() == [[12, 31]]
    moved = render(one, mode="histogram", field_nm=(100.0, 50.0), origin_nm=(100.0, 300.0))
    assert np.argwhere(moved.pixels).tolist() == [[2, 1]]
    assert moved.origin_nm == (100.0, 300.0)
    soft = render(one, sigma_nm=25.0, field_nm=FIELD).pixels
    rows, columns = (np.arange(n) * 10.0 + 5 for n in soft.shape)
    assert soft.sum(1) @ rows == pytest.approx(129.9, abs=0.05)
    assert soft.sum(0) @ columns == pytest.approx(310.0, abs=0.05)


@pytest.mark.parametrize("colour", ["none", "z"])
@pytest.mark.parametrize("mode", ["gaussian", "histogram"])
def test_parts_give_the_picture_of_the_whole(mode, colour):
    whole = table()
    parts = (whole.select(slice(i, i + 37)) for i in range(0, 200, 37))
    choice = {"mode": mode, "colour": colour, "field_nm": FIELD, "z_range_nm": (-300.0, 300.0) if colour == "z" else None}
    np.testing.assert_allclose(render(parts, **choice).pixels, render(whole, **choice).pixels, rtol=1e-4, atol=1e-7)


def test_own_sigma_is_used_and_never_below_half_a_pixel():
    one = Localizations({"frame": [0], "x_nm": [500.0], "y_nm": [300.0], "sigma_x_nm": [40.0], "sigma_y_nm": [0.01]})
    soft = render(one, field_nm=FIELD).pixels
    along_x, along_y = soft.sum(0), soft.sum(1)
    centres = np.arange(100) * 10.0 + 5
    assert np.sqrt(along_x @ (centres - 500) ** 2) == pytest.approx(np.hypot(40, 10 / np.sqrt(12)), rel=5e-3)
    assert along_y[29:31].sum() == pytest.approx(0.9545, abs=1e-3)  # two sigma to both sides are two pixels


def test_a_missing_sigma_is_assumed_and_said():
    bare = table(sigma=False)
    with pytest.warns(RenderWarning, match="10 nm"):
        assumed = render(bare, field_nm=FIELD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(assumed.pixels, render(bare, sigma_nm=10.0, field_nm=FIELD).pixels)
        render(bare, mode="histogram", field_nm=FIELD)


def test_field_comes_from_the_camera_or_from_the_data():
    known = render(table(shape_px=(6, 10), pixel_size_nm=(100.0, 100.0)))
    assert known.pixels.shape == (60, 100)
    bare = table()
    around = render(bare, mode="histogram")
    assert around.pixels.sum() == 200
    assert around.origin_nm == (0.0, 0.0), (
        "a table that does not know its field begins at the field's corner, so that pictures lie on one another"
    )
    in_parts = render([bare.select(slice(0, 5)), bare.select(slice(5, None))], mode="histogram")
    np.testing.assert_array_equal(in_parts.pixels, around.pixels)
    with pytest.raises(TableError, match="field_nm"):
        render(iter([bare]))
    with pytest.raises(TableError, match="field_nm"):
        render(Localizations.empty())
    assert not render(Localizations.empty(), mode="histogram", field_nm=FIELD).pixels.any()
    assert not render([], mode="histogram", field_nm=FIELD).pixels.any()


def test_colour_shows_z_and_brightness_shows_weight():
    columns = {"frame": [0] * 4, "x_nm": [105.0, 305, 305, 505], "y_nm": [105.0] * 4, "z_nm": [-900.0, 10, 10, 900]}
    image = render(Localizations(columns), mode="histogram", colour="z", z_range_nm=(-500, 500), field_nm=FIELD)
    colours = depth_colours()
    assert image.pixels.shape == (60, 100, 3)
    assert image.pixels.max() == 1.0
    assert image.z_range_nm == (-500, 500)
    middle = image.pixels[10, 30]
    scale = middle.max() / (2 * colours[130].max())
    np.testing.assert_allclose(middle, 2 * colours[130] * scale, rtol=1e-5)
    np.testing.assert_allclose(image.pixels[10, 10], colours[0] * scale, rtol=1e-5)
    np.testing.assert_allclose(image.pixels[10, 50], colours[-1] * scale, rtol=1e-5)


def test_range_of_z_is_found_and_z_that_is_no_number_is_not_drawn():
    some = table()
    low, high = render(some, colour="z", field_nm=FIELD).z_range_nm
    assert (low, high) == tuple(np.quantile(some.z_nm, (0.01, 0.99)))
    none = some.with_columns(z_nm=np.full(200, np.nan))
    assert not render(none, colour="z", field_nm=FIELD).pixels.any()
    flat = render(some.with_columns(z_nm=np.zeros(200)), colour="z", field_nm=FIELD)
    assert flat.z_range_nm == (-1.0, 1.0)


def test_colours_are_even_in_lightness_and_distinct():
    colours = depth_colours(64).astype(np.float64)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    assert (colours[0].argmax(), colours[32].argmax(), colours[-1].argmax()) == (2, 1, 0)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert luminance.max() / luminance.min() < 1.6
    assert np.abs(np.diff(colours, axis=0)).sum(1).min() > 0.005


def test_impossible_pictures_are_refused():
    with pytest.raises(OutputError, match=r"60000 x 100000 pixels.*max_pixels"):
        render(table(), pixel_size_nm=0.01, field_nm=FIELD)
    with pytest.raises(OutputError, match="more than 0"):
        render(table(), pixel_size_nm=0.0, field_nm=FIELD)
    with pytest.raises(OutputError, match="sigma"):
        render(table(), sigma_nm=-1.0, field_nm=FIELD)
    with pytest.raises(OutputError, match="more than 0"):
        render(table(shape_px=(6, 10), pixel_size_nm=(100.0, 100.0)), origin_nm=(700.0, 0.0))
    with pytest.raises(OutputError, match="z range"):
        render(table(), colour="z", z_range_nm=(5.0, 5.0), field_nm=FIELD)
    with pytest.raises(TableError, match="z_nm"):
        render(table(z=False), colour="z", field_nm=FIELD)
