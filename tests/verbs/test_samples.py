"""The frames that a report compares with its model: drawn where, under which noise, with which camera they were taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.camera import SCMOSSettings
from denseloc.data import Emitters, Localizations, Movie, Provenance, movie_from_array
from denseloc.experiment import Experiment
from denseloc.localize import InputConditions
from denseloc.model_file import Model
from denseloc.pipeline import localize
from denseloc.report import compare
from denseloc.verbs import report
from denseloc.verbs.samples import Exposure, sample_frames

SHAPE = (28, 28)
SIZE_NM = (100.0, 100.0)


def test_a_psf_that_varies_is_drawn_at_its_place_in_the_field(tiny_document: dict[str, Any]) -> None:
    maps = np.zeros((6, 2, 2))
    maps[5] = [[0, 120], [0, -120]]  # astigmatism in the right corners
    pupil = {"kind": "pupil", "wavelength_nm": 650.0, "numerical_aperture": 1.1, "immersion_index": 1.33, "model": "scalar"}
    psf = {"kind": "field", "pupil": pupil, "zernike_maps_nm": maps.tolist(), "field_nm": [6000.0, 5000.0], "roi_px": 11}
    experiment = Experiment.from_json({**tiny_document, "psf": psf})
    microscope = experiment.build_microscope((60, 50))
    x, y = np.array([3600.0, 4300.0]), np.array([4650.0, 5200.0])
    emitters = Emitters.of(torch.zeros(2).long(), *(torch.tensor(v).float() for v in (x, y, [900.0, 400.0])))
    with torch.no_grad():
        frame = microscope.expected(emitters, torch.full((1, 1, 60, 50), 7.0)).numpy()[:, 0]
    movie = movie_from_array(frame * 2 + 100, pixel_size_nm=SIZE_NM).crop(None, (36, 28, 20, 20))
    columns = {"frame": np.zeros(2), "x_nm": x, "y_nm": y, "photons": np.array([900.0, 400.0])}
    table = Localizations(columns, Provenance(pixel_size_nm=SIZE_NM))
    (sample,) = sample_frames(table, movie, Exposure(experiment, InputConditions(7.0, 1.0, 2.0, 1.3), 100.0, 2.0, False))
    assert sample.expected is not None
    assert sample.photons.max() > 30
    np.testing.assert_allclose(sample.expected, sample.photons, atol=0.05)


def test_an_uneven_background_is_measured_with_the_noise_of_the_camera(tiny_document: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    photons = rng.gamma(np.maximum(rng.poisson(2.0, (60, 40, 40)), 1e-9), 1.0) + rng.normal(0, 1.5, (60, 40, 40))
    movie = movie_from_array((photons * 20 + 100).astype(np.float32), pixel_size_nm=SIZE_NM)
    columns = {"frame": np.zeros(1), "x_nm": np.array([2000.0]), "y_nm": np.array([2000.0]), "photons": np.array([0.01])}
    table = Localizations(columns, Provenance(pixel_size_nm=SIZE_NM))
    exposure = Exposure(Experiment.from_json(tiny_document), InputConditions(2.0, 2.0, 1.5**2, 1.3), 100.0, 20.0, True)
    (sample,) = sample_frames(table, movie, exposure)
    assert sample.expected is not None
    assert sample.expected.mean() == pytest.approx(2.0, rel=0.06)


# ---- cameras whose pixels differ


@pytest.fixture
def uneven_camera() -> SCMOSSettings:
    rng = np.random.default_rng(1)
    maps = (100 + 8 * rng.standard_normal(SHAPE), 0.5 * rng.uniform(0.6, 1.4, SHAPE), rng.uniform(2, 60, SHAPE))
    return SCMOSSettings(pixel_maps=np.stack(maps).astype(np.float32))


@pytest.fixture
def own(tiny_document: dict[str, Any], uneven_camera: SCMOSSettings) -> Experiment:
    """A document that holds the maps."""
    return Experiment.from_json({**tiny_document, "camera": uneven_camera.model_dump(mode="json", exclude_none=True)})


def run_of(experiment: Experiment, camera: SCMOSSettings | None, truth: Experiment, folder: Path) -> tuple[Localizations, Movie]:
    """Give a table of the truth as if the model had found it, and its movie, of the region from (2, 4) on."""
    generator = torch.Generator().manual_seed(3)
    n = 24
    x, y = (600 + 1600 * torch.rand(n, generator=generator) for _ in range(2))
    emitters = Emitters.of(torch.arange(n) // 4, x, y, torch.full((n,), 1200.0))
    microscope = truth.build_microscope(SHAPE)
    counts = microscope.sample(emitters, torch.full((6, 1, *SHAPE), 10.0), generator)[:, 0].numpy()
    movie = movie_from_array(counts, pixel_size_nm=SIZE_NM).crop(None, (2, 4, 24, 20))
    model = Model(experiment.build_localizer(), experiment, {}, "untrained")
    run = localize(movie, folder / "t.parquet", model=model, camera=None if camera is None else camera.build())
    columns = {"frame": emitters.frame.numpy(), "x_nm": x.numpy(), "y_nm": y.numpy(), "photons": np.full(n, 1200.0)}
    settings = {**run.provenance.settings, "uneven_background": False}
    settings["conditions"] = {**settings["conditions"], "background": 10.0}
    return Localizations(columns, run.provenance).with_provenance(settings=settings), movie


def test_maps_of_the_document_are_used(own: Experiment, tmp_path: Path) -> None:
    table, movie = run_of(own, None, own, tmp_path)
    exposure = Exposure.of(table)
    assert exposure is not None
    found = [compare(sample) for sample in sample_frames(table, movie, exposure)]
    assert np.mean([agreement.chi2 for agreement in found if agreement is not None]) == pytest.approx(1, abs=0.2)


def test_maps_that_the_table_does_not_hold_are_not_judged(
    tiny_document: dict[str, Any], uneven_camera: SCMOSSettings, own: Experiment, tmp_path: Path
) -> None:
    table, movie = run_of(Experiment.from_json(tiny_document), uneven_camera, own, tmp_path)
    exposure = Exposure.of(table)
    assert exposure is not None
    samples = sample_frames(table, movie, exposure)
    assert len(samples) == 3
    assert all(sample.expected is None and sample.photons.shape == (24, 20) for sample in samples)
    found = report(table, tmp_path / "r.html", movie=movie)
    before = table.provenance.settings["warnings"]  # of the run, whose model was never trained
    assert not any("chi2" in warning for warning in found.warnings if warning not in before)
    assert any("the table does not hold its maps" in note for note in found.notes)
    assert "the table does not hold its maps" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_maps_that_are_too_small_are_unknown(own: Experiment) -> None:
    exposure = Exposure(own, InputConditions(10.0, 1.0, 2.0, 1.3), 100.0, 2.0, False, pixels=own.build_camera())
    wide = movie_from_array(np.zeros((2, 40, 40), np.uint16))
    assert exposure.of_region(wide).pixels_unknown
