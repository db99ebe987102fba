"""The verbs as functions: what the package offers by name, and what the report knows of a run."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest
import tifffile
import torch

import denseloc as dl
from denseloc.data import Emitters, Grid, Localizations, Provenance, movie_from_array
from denseloc.documents import tomllib
from denseloc.experiment import Experiment
from denseloc.localize import InputConditions
from denseloc.microscope import Microscope
from denseloc.optics import GaussianSettings
from denseloc.report import compare
from denseloc.verbs import picture, simulation
from denseloc.verbs.reporting import trained_ranges
from denseloc.verbs.samples import Exposure, reopen, sample_frames

from .conftest import DOCUMENT


def test_every_name_is_there_and_rooms_stay_importable():
    for name in dl._VERBS:
        assert callable(getattr(dl, name)), name
    from denseloc.pipeline import localize
    from denseloc.report import judge  # noqa: F401

    assert dl.localize is sys.modules["denseloc.localize"]
    assert inspect.signature(dl.localize) == inspect.signature(localize)
    with pytest.raises(AttributeError, match="no attribute 'lokalize'"):
        _ = dl.lokalize


def test_verbs_by_name(place, tmp_path):
    run = dl.localize(place.movie, tmp_path / "t.parquet", model=place.model)
    assert run.localizations == len(dl.read_table(run.table))
    assert dl.evaluate(run.table, place.truth)["2d_all"].precision > 0.5
    assert dl.render(run.table).pixels.sum() == pytest.approx(run.localizations, rel=0.2)
    found = dl.report(run.table, tmp_path / "r.html")
    assert found.page.exists()
    assert found.notes == []


@pytest.fixture
def localized(place, tmp_path):
    """A table without error: the truth with the provenance of a run."""
    run = dl.localize(place.movie, tmp_path / "t.parquet", model=place.model)
    truth = dl.read_table(place.truth)
    table = Localizations({name: truth.columns[name] for name in ("frame", "x_nm", "y_nm", "photons")}, run.provenance)
    return table


def test_the_model_picture_of_a_true_table_describes_the_frames(localized):
    movie, note = reopen(localized, None, None)
    assert note == ""
    movie = movie.crop(None, (6, 5, 12, 10))  # molecules outside of the frame, which the truth leaves out, do not shine so far
    samples = sample_frames(localized, movie, Exposure.of(localized))
    assert len(samples) == 3
    chi2 = [compare(sample).chi2 for sample in samples]
    assert 0.8 < np.mean(chi2) < 1.25
    wrong = localized.with_columns(x_nm=localized.x_nm + 150)
    assert np.mean([compare(s).chi2 for s in sample_frames(wrong, movie, Exposure.of(wrong))]) > 3


def test_the_model_picture_of_a_general_model_follows_width_pixel_and_region(place):
    """A model for all microscopes draws with the width that was measured, in pixels of the movie."""
    pixel, width_px, rows = (160.0, 160.0), 1.6, 24
    document = tomllib.loads(DOCUMENT)
    document |= {"camera": {"kind": "various"}, "localizer": {"kind": "decode", "conditioned": True}}
    experiment = Experiment.from_json(document)
    x, y = np.array([1500.0, 2100.0]), np.array([1900.0, 2600.0])
    psf = GaussianSettings(width_nm=width_px * 160, roi_px=11).build(pixel)
    microscope = Microscope(psf, experiment.build_camera(), Grid((rows, rows), pixel))
    emitters = Emitters.of(torch.zeros(2).long(), *(torch.tensor(v).float() for v in (x, y, [900.0, 400.0])))
    frame = microscope.expected(emitters, torch.full((1, 1, rows, rows), 7.0)).detach().numpy()[:, 0]
    movie = movie_from_array(np.repeat(frame, 3, 0) * 2 + 100, pixel_size_nm=pixel).crop(None, (4, 2, 20, 18))
    table = Localizations(
        {"frame": np.zeros(2), "x_nm": x, "y_nm": y, "photons": [900.0, 400.0]},
        Provenance(pixel_size_nm=pixel, shape_px=(rows, rows)),
    )
    exposure = Exposure(experiment, InputConditions(7.0, 1.0, 2.0, width_px), 100.0, 2.0, False)
    (sample,) = sample_frames(table, movie, exposure)
    np.testing.assert_allclose(sample.expected, sample.photons, atol=2e-2)
    assert sample.photons.max() > 20
    np.testing.assert_allclose(sample.variance[3:-3, 3:-3], sample.expected[3:-3, 3:-3] + 2)
    assert np.isnan(sample.variance[0]).all()


def test_a_movie_that_is_another_is_not_shown(localized, tmp_path):
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.zeros((40, 9, 9), np.uint16), photometric="minisblack")
    assert "9 x 9 px, the table was made from 24 x 20 px" in reopen(localized, None, other)[1]
    tifffile.imwrite(other, np.zeros((12, 24, 20), np.uint16), photometric="minisblack")
    assert "ends before frame 39" in reopen(localized, None, other)[1]
    other.write_text("no movie")
    assert "could not be read" in reopen(localized, None, other)[1]
    assert "is not there" in reopen(localized, None, tmp_path / "none.tif")[1]
    moved = localized.with_provenance(movie="elsewhere/other.tif")
    tifffile.imwrite(other, np.zeros((40, 24, 20), np.uint16), photometric="minisblack")
    assert reopen(moved, tmp_path, None)[0].name == "other.tif"  # beside its table it is found


def test_trained_ranges():
    document = tomllib.loads(DOCUMENT)
    ranges = trained_ranges(Experiment.from_json(document), (100.0, 100.0))
    assert ranges["photons"] == (0.0, 5000.0)
    assert ranges["density_per_um2"] == (0.0, 0.4)
    assert ranges["background"][0] < 10 < ranges["background"][1]
    assert "z_nm" not in ranges
    document |= {"camera": {"kind": "various"}, "localizer": {"kind": "decode", "conditioned": True}}
    assert trained_ranges(Experiment.from_json(document), (200.0, 200.0))["density_per_um2"][1] == pytest.approx(0.1)


def test_blinking_goes_on_over_blocks(place, tmp_path, monkeypatch):
    """Blocks of frames are only a way of writing: block size leaves the truth as it is, and molecules live on across the seams."""
    made = dl.simulate(place.document, tmp_path / "a.tif", n_frames=30, shape_px=(16, 16), seed=2)
    monkeypatch.setattr(simulation, "BLOCK_PX", 7 * 16 * 16)
    again = dl.simulate(place.document, tmp_path / "b.tif", n_frames=30, shape_px=(16, 16), seed=2)
    a, b = dl.read_table(made.truth), dl.read_table(again.truth)
    np.testing.assert_array_equal(a.molecule, b.molecule)
    spans = [np.ptp(a.frame[a.molecule == m]) for m in np.unique(a.molecule)]
    assert max(spans) >= 3
    seams = [set(a.molecule[a.frame == s - 1]) & set(a.molecule[a.frame == s]) for s in (7, 14, 21, 28)]
    assert any(seams)


def test_movie_of_several_planes(tmp_path):
    document = tomllib.loads(DOCUMENT)
    document["psf"] = {"kind": "multiplane", "width_nm": 130, "plane_focus_nm": [-250, 250], "depth_nm": 400, "roi_px": 11}
    made = dl.simulate(Experiment.from_json(document), tmp_path / "m.tif", n_frames=5, shape_px=(16, 12))
    with tifffile.TiffFile(made.movie) as tif:
        assert tif.series[0].shape == (5, 2, 16, 12)
        assert tif.is_imagej


def test_large_fields_get_larger_picture_pixels():
    assert picture.comfortable_pixel_nm((10_000.0, 10_000.0)) == 10
    assert picture.comfortable_pixel_nm((200_000.0, 200_000.0)) == 50
    assert picture.comfortable_pixel_nm(None) == 10
