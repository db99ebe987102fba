"""A movie of the model's own document passes; with one thing wrong it does not, and the sentence says what."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.data import Movie
from denseloc.data.movie import movie_from_array
from denseloc.errors import CalibrationError, MovieError
from denseloc.examination import glance
from denseloc.experiment import Experiment
from denseloc.model_file import Model, find_model
from denseloc.preparation import parse_camera, prepare
from denseloc.verbs import Check, check

FRAMES, SIDE_PX = 80, 56
MODELS = Path(__file__).parents[2] / "benchmarks" / "reproduction" / "models"
Change = Callable[[dict[str, Any]], None]


def movie_of(values: dict[str, Any], seed: int = 3) -> Movie:
    document = Experiment.from_json(values)
    generator = torch.Generator().manual_seed(seed)
    specimen, microscope = document.build_specimen((SIDE_PX, SIDE_PX)), document.build_microscope((SIDE_PX, SIDE_PX))
    with torch.no_grad():
        emitters, background = specimen.draw(FRAMES, generator), specimen.draw_background(1, generator)
        counts = microscope.sample(emitters, background.expand(FRAMES, -1, -1, -1), generator)
    return movie_from_array(counts.round().clamp(0, 65535).numpy().astype(np.uint16), "movie")


@pytest.fixture(scope="module")
def model() -> Model:
    torch.set_num_threads(1)
    return find_model("astigmatic-demo")


@pytest.fixture
def document(model: Model) -> dict[str, Any]:
    """Conditions in the middle of what the shipped model was trained on."""
    values = model.experiment.to_json()
    values["specimen"] |= {"density_per_um2": 0.35, "structure": {"kind": "uniform"}}
    values["specimen"]["photons"]["photons"] = 5000.0
    values["specimen"]["background"]["photons"] = 25.0
    return values


def checked(model: Model, movie: Movie, page: Path | None = None) -> Check:
    return check(model, movie, page, device="cpu")


def test_a_movie_of_the_document_passes(model, document, tmp_path):
    started = time.process_time()
    found = checked(model, movie_of(document), tmp_path / "page.html")
    assert time.process_time() - started < 15.0
    assert found.verdict == "pass", [finding.text for finding in found.suitability.findings]
    assert found.suitability.told_apart["around molecules"][0] < 0.62
    level = {one.name: one for one in found.suitability.compared}
    assert level["background"].movie == pytest.approx(25.0, rel=0.1)
    assert level["emitters, missed ones counted"].movie == pytest.approx(0.35, rel=0.35)
    assert level["variance of the noise over that of the camera"].movie == pytest.approx(1.0, abs=0.1)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<img") == html.count("alt=") == 3 + 2 + 5 + 2  # frames, residuals, histograms, places inside of the pixel
    for words in ("The model suits this movie", "Residual around molecules", "Autocorrelation", "Depth", "drawn from drawn"):
        assert words in html
    assert not any(words in html for words in ("<script", "http://", "https://"))


def wider(values: dict[str, Any]) -> None:
    values["psf"]["width_nm"] *= 1.2


def narrower(values: dict[str, Any]) -> None:
    values["pixel_size_nm"] = [130.0, 130.0]  # the file does not say it


def gain(values: dict[str, Any]) -> None:
    values["camera"]["electrons_per_count"] /= 2


def photons(values: dict[str, Any]) -> None:
    values["specimen"]["photons"]["photons"] *= 3


def background(values: dict[str, Any]) -> None:
    values["specimen"]["background"]["photons"] = 5 * 60.0


def density(values: dict[str, Any]) -> None:
    values["specimen"]["density_per_um2"] *= 15


@pytest.mark.parametrize(
    ("change", "topic", "words"),
    [
        (wider, "psf", "wider than the model's PSF"),
        (narrower, "psf", "narrower than the model's PSF"),
        (gain, "camera", "times the variance that the camera of the model's document"),
        (photons, "photons", "the model was trained on"),
        (background, "background", "background is about"),
        (density, "density", "emitter density is about"),
    ],
)
def test_one_thing_wrong_is_named(model, document, change, topic, words):
    change(document)
    found = checked(model, movie_of(document))
    assert found.verdict in ("warn", "fail")
    first = found.suitability.findings[0]
    assert (first.topic, words in first.text) == (topic, True), first.text


def test_a_wrong_width_is_measured(model, document):
    narrower(document)
    text = checked(model, movie_of(document)).suitability.findings[0].text
    percent = re.search(r"about (\d+) % narrower", text)
    assert percent is not None, text
    assert float(percent[1]) == pytest.approx(100 * (1 - 1 / 1.3), abs=5.0)


def test_a_wrong_camera_is_noticed_by_a_model_that_measures_it_otherwise(document):
    general = find_model("general-2d")
    values = general.experiment.to_json()
    values["camera"] = {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.45, "read_noise_electrons": 1.6}
    values["psf"]["width_nm"] = 130.0
    values["specimen"] |= {"density_per_um2": 0.5, "photons": {"kind": "constant", "photons": 2000.0}}
    values["specimen"]["background"]["photons"] = 20.0
    movie = movie_of(values)
    right, wrong = (f"offset=100,electrons_per_count={number},read_noise=1.6" for number in (0.45, 0.9))
    given = check(general, movie, pixel_size_nm=100, camera=parse_camera(right), device="cpu")
    assert given.verdict == "pass", given.suitability.findings
    assert "camera" in check(general, movie, pixel_size_nm=100, camera=parse_camera(wrong), device="cpu").suitability.topics


def test_a_movie_in_depth_is_named_to_a_model_without(document):
    general = find_model("general-2d")
    values = general.experiment.to_json()
    values["camera"] = {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.45, "read_noise_electrons": 1.6}
    values["psf"] = {"kind": "astigmatic", "width_nm": 120.0, "focus_a_nm": -250.0, "focus_b_nm": 250.0, "depth_nm": 350.0}
    values["specimen"] |= {"density_per_um2": 0.3, "z_nm": [100, 500], "photons": {"kind": "constant", "photons": 2000.0}}
    values["specimen"]["background"]["photons"] = 20.0
    camera = parse_camera("offset=100,electrons_per_count=0.45,read_noise=1.6")
    found = check(general, movie_of(values), pixel_size_nm=100, camera=camera, device="cpu").suitability.findings
    assert found[0].topic == "psf"
    assert "a movie in 3D, or with molecules out of focus, needs a model whose PSF has depth" in found[0].text


def test_equal_movies_give_equal_answers(model, document):
    movie = movie_of(document)
    ready = prepare(movie, model, None, None)
    first, second = glance(movie, ready), glance(movie, ready)
    assert first is not None
    assert second is not None
    assert first.quick
    assert first.to_json() == second.to_json()


def test_a_glance_is_quick_and_sees_a_wrong_gain(model, document):
    gain(document)
    movie = movie_of(document)
    ready = prepare(movie, model, None, None)
    started = time.process_time()
    seen = glance(movie, ready)
    assert time.process_time() - started < 2.0
    assert seen is not None
    assert "camera" in seen.topics


def test_nothing_there(model):
    empty = movie_from_array(np.random.default_rng(0).normal(100, 5, (40, 40, 40)).astype(np.float32), "empty")
    found = checked(model, empty)
    assert found.verdict == "fail"
    assert any(finding.topic in ("nothing", "camera") for finding in found.suitability.findings)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (np.full((40, 40, 40), 100, np.uint16), "all pixels hold 100 counts"),
        (np.full((3, 40, 40), 100, np.uint16) + np.arange(40, dtype=np.uint16), "has 3 frames; expected at least 6"),
        (np.where(np.random.default_rng(0).random((40, 40, 40)) < 0.8, 65535, 60000).astype(np.uint16), "% of the pixels are full"),
    ],
)
def test_movies_that_cannot_be_judged(model, counts, words):
    with pytest.raises((CalibrationError, MovieError), match=words) as caught:
        checked(model, movie_from_array(counts, "movie"))
    assert "\n" not in str(caught.value)


def test_a_model_that_tells_no_photons_judges_no_background():
    """Its picture of the frames is empty, so that the molecules' light counts as background."""
    model = find_model(str(MODELS / "deep_storm.safetensors"))
    values = model.experiment.to_json()
    values["specimen"] |= {"density_per_um2": 5.0, "structure": {"kind": "uniform"}}
    values["specimen"]["photons"] = {"kind": "constant", "photons": 2500.0}
    values["specimen"]["background"] = {"kind": "uniform", "photons": 10.0}
    movie = movie_of(values)
    seen = glance(movie, prepare(movie, model, None, None))
    assert seen is not None
    assert "background" not in seen.topics
    names = {one.name for one in seen.compared}
    assert "emitters, missed ones counted" in names
    assert not names & {"background", "photons of a bright emitter in a frame"}


def test_a_pixel_size_that_only_the_model_says_is_told(model, document, tmp_path):
    movie = movie_of(document)
    found = checked(model, movie, tmp_path / "page.html")
    assert any("does not say its pixel size, 100 nm was taken" in note for note in found.suitability.notes)
    assert "100 x 100 nm (the model&#39;s; the movie does not say it)" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not check(model, movie, pixel_size_nm=100, device="cpu").suitability.notes
