"""What is measured of a movie before it is localized, and what of that is known beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.calibrate.given_camera import differs_by_pixel, estimate_with_camera
from denseloc.camera import SCMOSSettings
from denseloc.data import Emitters, Grid, Movie, movie_from_array
from denseloc.errors import ModelError
from denseloc.experiment import Experiment
from denseloc.localize import LOCALIZERS
from denseloc.microscope import Microscope
from denseloc.model_file import Model
from denseloc.optics import GaussianSettings
from denseloc.preparation import parse_camera, prepare, uneven_background
from denseloc.suitability import judge_density

OBLONG_NM = (160.0, 100.0)
CAMERA = "offset=100,electrons_per_count=0.5"


def movie_of_spots(pixel_nm: tuple[float, float]) -> Movie:
    """Draw 30 frames of 32 x 40 px with four molecules each, 130 nm wide, over 10 photons."""
    generator = torch.Generator().manual_seed(2)
    n, (rows, columns) = 120, (32, 40)
    psf = GaussianSettings(width_nm=130, roi_px=11).build(pixel_nm)
    microscope = Microscope(psf, parse_camera(CAMERA), Grid((rows, columns), pixel_nm))
    y, x = (side * pixel * torch.rand(n, generator=generator) for side, pixel in zip((rows, columns), pixel_nm, strict=True))
    emitters = Emitters.of(torch.arange(n) // 4, x, y, torch.full((n,), 1500.0))
    counts = microscope.sample(emitters, torch.full((30, 1, rows, columns), 10.0), generator)[:, 0]
    return movie_from_array(counts.detach().numpy().astype(np.uint16), pixel_size_nm=pixel_nm)


def test_the_width_of_a_given_psf_is_its_own_where_pixels_are_not_square() -> None:
    psf = GaussianSettings(width_nm=130, roi_px=11)
    ready = prepare(movie_of_spots(OBLONG_NM), None, None, parse_camera(CAMERA), psf=psf)
    assert ready.measured.width_nm.source == "given"
    assert ready.measured.width_nm.value == pytest.approx(130)
    assert ready.conditions.width_px == pytest.approx(130 / np.sqrt(160 * 100))


@pytest.mark.parametrize(("words", "source"), [(CAMERA, "assumed"), (f"{CAMERA},read_noise=1.5", "given")])
def test_a_read_noise_that_nobody_gave_is_assumed(words: str, source: str) -> None:
    camera = parse_camera(words)
    assert camera.read_noise_assumed == (source == "assumed")
    psf = GaussianSettings(width_nm=130, roi_px=11)
    ready = prepare(movie_of_spots((100.0, 100.0)), None, None, camera, psf=psf)
    assert ready.measured.noise_variance.source == source
    assert ready.measured.offset_counts.source == "given"
    assert ready.camera_json["pixel_maps"] is False


def test_a_camera_whose_pixels_differ_is_told_apart() -> None:
    maps = np.stack([np.full((4, 5), value, np.float32) for value in (100.0, 0.5, 9.0)])
    even = SCMOSSettings(pixel_maps=maps).build()
    assert not differs_by_pixel(even, (4, 5))
    for which in range(3):
        odd = maps.copy()
        odd[which, 2, 3] *= 1.1
        assert differs_by_pixel(SCMOSSettings(pixel_maps=odd).build(), (4, 5))


def test_of_pixels_that_differ_the_means_are_told() -> None:
    rng = np.random.default_rng(3)
    maps = np.stack([np.full((32, 40), 100.0), rng.uniform(0.3, 0.7, (32, 40)), np.full((32, 40), 9.0)]).astype(np.float32)
    movie = movie_of_spots((100.0, 100.0))
    found = estimate_with_camera(movie, (100.0, 100.0), SCMOSSettings(pixel_maps=maps).build())
    assert found.offset_counts.value == pytest.approx(100, rel=1e-4)
    assert found.counts_per_photon.value == pytest.approx((1 / maps[1]).mean(), rel=1e-4)


def test_an_uneven_background_keeps_its_level_under_excess_noise() -> None:
    rng = np.random.default_rng(0)
    level = np.linspace(2, 8, 48)[:, None] * np.ones(48)
    counts = rng.gamma(np.maximum(rng.poisson(level, (100, 48, 48)), 1e-9), 1.0)
    found = uneven_background(movie_from_array(counts.astype(np.float32)), lambda c: c, 2.0, 0.0)
    assert (found / level).mean() == pytest.approx(1, abs=0.05)
    assert np.abs(found / level - 1).max() < 0.25


@pytest.mark.parametrize("kind", [name for name in LOCALIZERS.names() if LOCALIZERS.get(name).needs_training])
def test_a_movie_with_another_number_of_planes_is_refused_in_one_line(kind: str, tiny_document: dict[str, Any]) -> None:
    quad = {
        "kind": "multiplane",
        "width_nm": 130.0,
        "plane_focus_nm": [-600.0, -200.0, 200.0, 600.0],
        "depth_nm": 400.0,
        "roi_px": 9,
    }
    specimen = {**tiny_document["specimen"], "z_nm": [-800.0, 800.0]}
    localizer = {"kind": kind, "preset": "tiny"}
    experiment = Experiment.from_json({**tiny_document, "psf": quad, "specimen": specimen, "localizer": localizer})
    model = Model(experiment.build_localizer(), experiment, name="quad")
    words = "model quad sees 4 focal planes, the movie has 1; choose one for such a movie, or say --planes"
    with pytest.raises(ModelError, match=words) as caught:
        prepare(movie_of_spots((100.0, 100.0)), model, None, None)
    assert "\n" not in str(caught.value)


def test_what_the_model_says_is_not_called_given(tiny_document: dict[str, Any]) -> None:
    experiment = Experiment.from_json(tiny_document)
    model = Model(experiment.build_localizer(), experiment, name="tiny")
    movie = replace(movie_of_spots((100.0, 100.0)), pixel_size_nm=None)
    own, camera = (prepare(movie, model, None, given, count=False).lines for given in (None, parse_camera(CAMERA)))
    assert "pixel size: 100 x 100 nm (the model's; the movie does not say it)" in own
    assert "camera offset: 100 counts (the model's)" in own
    assert "camera offset: 100 counts (given)" in camera
    assert any(line.startswith("PSF width") and line.endswith("(the model's)") for line in camera)
    said = prepare(movie, model, 100.0, None, count=False).lines
    assert "pixel size: 100 x 100 nm" in said


def test_depth_is_spoken_of_where_there_is_one(tiny_document: dict[str, Any]) -> None:
    psf = {"kind": "astigmatic", "width_nm": 125, "focus_a_nm": -220, "focus_b_nm": 220, "depth_nm": 330, "roi_px": 9}
    deep = tiny_document | {"psf": psf, "specimen": tiny_document["specimen"] | {"z_nm": [-300.0, 300.0]}}
    for experiment in map(Experiment.from_json, (tiny_document, deep)):
        model = Model(experiment.build_localizer(), experiment, name="tiny")
        text = next(
            line
            for line in prepare(movie_of_spots((100.0, 100.0)), model, None, None, count=False).lines
            if "one microscope" in line
        )
        assert ("z above all" in text) == experiment.has_depth


def test_a_least_density_is_told_as_one() -> None:
    movie = movie_of_spots((100.0, 100.0))
    ready = prepare(movie, None, None, parse_camera(CAMERA), "single", count=False)
    low, high = (judge_density(ready.measured, ready.model.experiment, least) for least in (0.0, 5.0))
    assert low == []
    assert "holds at least 5 emitters" in high[0]
