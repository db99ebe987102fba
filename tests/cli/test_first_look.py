"""The first look at a movie: the model counts molecules in a few frames, and says so."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from denseloc.calibrate.conditions import Conditions, Estimate
from denseloc.data import Frames, Localizations, Movie, movie_from_array
from denseloc.documents import tomllib
from denseloc.errors import MovieError
from denseloc.experiment import Experiment
from denseloc.formats import open_movie
from denseloc.localize import InputConditions, Localizer, Scales
from denseloc.model_file import find_model, load_model
from denseloc.pipeline import localize
from denseloc.preparation import parse_camera, prepare
from denseloc.suitability import judge_conditions
from denseloc.survey import survey

from .conftest import DOCUMENT, untrained

CAMERA = "offset=0,electrons_per_count=1,read_noise=0"
CONDITIONS = InputConditions(10.0)


class Counter(Localizer):
    """Finds the pixels brighter than 50 photons; notes what it is given."""

    context = 1

    def __init__(self) -> None:
        super().__init__(Scales((100.0, 100.0), 0.0, 1000.0, 1, CONDITIONS))
        self.given: list[Frames] = []

    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 256) -> Localizations:
        self.given.append(frames)
        frame, _, row, column = (index.numpy() for index in torch.nonzero(frames.photons > 50, as_tuple=True))
        bright = frames.photons[frame, 0, row, column].numpy()
        return Localizations({"frame": frame, "x_nm": (column + 0.5) * 100, "y_nm": (row + 0.5) * 100, "photons": bright})


def spotted(frames: int, side: int, per_frame: int) -> np.ndarray:
    """Draw frames with so many bright pixels of 1000 photons; the first and the last frame have none."""
    rng = np.random.default_rng(1)
    movie = np.full((frames, side, side), 10, np.uint16)
    for frame in movie[1:-1]:
        frame.ravel()[rng.choice(side * side, per_frame, replace=False)] = 1000
    return movie


@pytest.fixture
def simulate_depths():
    """Draw 2 molecules per um^2 whose widths go from 1.0 to 2.2 px, on uneven haze."""

    def draw() -> np.ndarray:
        rng = np.random.default_rng(5)
        y, x = np.mgrid[:48, :48]
        light = np.full((40, 48, 48), 20.0) + 60 * np.exp(-((y - 20) ** 2 + (x - 25) ** 2) / 300)
        for frame in light:
            for width in np.linspace(1.0, 2.2, 6):
                for row, column in rng.uniform(-4, 52, (rng.poisson(0.02 / 6 * 56**2), 2)):
                    spot = np.exp(-0.5 * ((y + 0.5 - row) ** 2 + (x + 0.5 - column) ** 2) / width**2)
                    frame += rng.gamma(3.0, 400.0) * spot / (2 * np.pi * width**2)
        return (rng.poisson(light) * 2 + 100).astype(np.uint16)

    return draw


def look(movie: Movie, background: np.ndarray | None = None):
    localizer = Counter()
    localizer.threshold = 0.9
    found = survey(movie, localizer, parse_camera(CAMERA), CONDITIONS, background, (100.0, 100.0))
    assert localizer.threshold == 0.9
    return found, localizer.given


def test_twenty_frames_with_their_neighbours_are_counted():
    found, given = look(movie_from_array(spotted(200, 40, 32)))
    assert found.density_per_um2.value == pytest.approx(2.0)
    assert found.density_per_um2.low < 2.0 < found.density_per_um2.high
    assert found.photons.value == pytest.approx(1000)
    assert str(found.density_per_um2).startswith("2 emitters per um^2 and frame (measured by localizing 20 frames, ")
    assert [len(frames) for frames in given] == [60]


def test_frames_in_a_row_are_read_once():
    localizer = Counter()
    movie = movie_from_array(spotted(60, 40, 32))
    found = survey(movie, localizer, parse_camera(CAMERA), CONDITIONS, None, (100.0, 100.0), frames=200)
    assert found.density_per_um2.value == pytest.approx(2.0)
    assert "by localizing 58 frames" in str(found.density_per_um2)
    assert [len(frames) for frames in localizer.given] == [60]


def test_probabilities_are_summed_where_that_is_asked_for():
    class Doubter(Counter):
        """Is sure of the bright pixels of even columns, takes 200 photons for the others and half believes in them."""

        def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 256) -> Localizations:
            assert self.threshold == 0.1
            table = super().forward(frames, keep, tile_px)
            odd = (table.x_nm // 100).astype(int) % 2 == 1
            return table.with_columns(probability=np.where(odd, 0.4, 1.0), photons=np.where(odd, 200.0, table.photons))

    counts = np.full((60, 40, 40), 10, np.uint16)
    counts[:, 4:36:8, 4::8] = 1000
    counts[:, 4:36:8, 7::8] = 1000  # 4 x 5 of both kinds
    movie, localizer = movie_from_array(counts), Doubter()
    found = survey(movie, localizer, parse_camera(CAMERA), CONDITIONS, None, (100.0, 100.0), least=0.1)
    assert found.density_per_um2.value == pytest.approx(1.4 * 20 / 16)
    assert found.photons.value == pytest.approx(1000)
    assert localizer.threshold is None


def test_frames_near_each_other_tell_little_of_the_spread():
    counts = np.full((400, 40, 40), 10, np.uint16)
    counts[:200, ::5, ::5] = 1000  # one half of the movie holds 64 spots, the other none
    movie = movie_from_array(counts)
    few, many = (
        survey(movie, Counter(), parse_camera(CAMERA), CONDITIONS, None, (100.0, 100.0), frames=n).density_per_um2
        for n in (20, 200)
    )
    assert many.value == pytest.approx(few.value, rel=0.05)
    assert many.high - many.value == pytest.approx(few.high - few.value, rel=0.1)


def test_a_large_field_is_looked_at_in_windows_all_over_it():
    movie = spotted(50, 400, 1600)
    movie[:, :, 200:] = 10  # only the left half holds molecules
    found, given = look(movie_from_array(movie), np.zeros((400, 400), np.float32))
    assert found.density_per_um2.value == pytest.approx(0.5, rel=0.35)
    assert len(given) == 20
    assert all(frames.photons.shape == (3, 1, 100, 100) and frames.background.shape == (100, 100) for frames in given)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_movies(frames):
    movie = np.full((frames, 20, 20), 10, np.uint16)
    movie[:, 3, 4] = 500
    found, _ = look(movie_from_array(movie))
    assert found.density_per_um2.value == pytest.approx(0.25)


def test_an_empty_movie_is_empty():
    found, _ = look(movie_from_array(np.full((50, 20, 20), 10, np.uint16)))
    assert found.photons is None
    assert found.density_per_um2.value == 0
    assert 0 < found.density_per_um2.high < 0.1


def test_frames_that_cannot_be_read_are_left_out(monkeypatch):
    movie = movie_from_array(spotted(200, 40, 32))
    read = Movie.read

    def damaged(self, start, stop):
        if stop > 100:
            raise MovieError("frame 100 is damaged")
        return read(self, start, stop)

    monkeypatch.setattr(Movie, "read", damaged)
    found, _ = look(movie)
    assert found.density_per_um2.value == pytest.approx(2.0)
    assert "by localizing 10 frames" in str(found.density_per_um2)


def test_the_density_told_is_that_of_the_run(place, tmp_path):
    told = []
    run = localize(place.movie, tmp_path / "t.parquet", model=place.model, prepared=lambda ready: told.append(ready))
    density = told[0].measured.density_per_um2
    assert density.how == "by localizing 20 frames"
    assert density.value == pytest.approx(run.localizations / 40 / (2.4 * 2.0), rel=0.3)
    assert density.low < run.localizations / 40 / (2.4 * 2.0) < density.high
    assert any(line.startswith("density: ") and "by localizing" in line for line in run.assumed)


def estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, value if low is None else low, value if high is None else high, "", "measured")


@pytest.mark.parametrize(("counted", "at_least", "warned"), [(0.4, 0.0, False), (0.4, 0.9, True), (0.9, 0.0, True)])
def test_crowding_is_warned_of_by_the_count_and_by_what_is_there_at_least(counted, at_least, warned):
    entries = {name: estimate(1.0) for name in ("offset_counts", "counts_per_photon", "excess", "noise_variance", "photons")}
    measured = Conditions(
        **entries,
        background=estimate(10.0),
        background_range=(9.0, 11.0),
        width_nm=estimate(120.0),
        density_per_um2=estimate(counted),
    )
    warnings = judge_conditions(measured, Experiment.from_json(tomllib.loads(DOCUMENT)), (100.0, 100.0), at_least)
    assert bool(warnings) == warned


def test_read_noise_of_a_camera_is_given_and_where_nobody_said_it_assumed(place):
    model, movie = load_model(place.model), open_movie(place.movie)
    for camera, source in (
        ("offset=100,electrons_per_count=0.5,read_noise=1.5", "given"),
        ("offset=100,electrons_per_count=0.5", "assumed"),
    ):
        (line,) = [text for text in prepare(movie, model, None, parse_camera(camera)).lines if "read noise" in text]
        assert line == f"camera read noise: 2.271 photons^2 ({source})"


def test_many_widths_are_no_crowd(place, simulate_depths, tmp_path):
    """Molecules at many depths look like more and dimmer ones to the histogram of the pixels; a model that knows depth is not judged by it."""
    counts = simulate_depths()
    psf = {"kind": "astigmatic", "width_nm": 100, "focus_a_nm": -250, "focus_b_nm": 250, "depth_nm": 300, "roi_px": 11}
    specimen = {**tomllib.loads(DOCUMENT)["specimen"], "z_nm": [-600, 600], "density_per_um2": [0.1, 3.0]}
    model = load_model(untrained(tmp_path / "deep.safetensors", psf=psf, specimen=specimen))
    ready = prepare(movie_from_array(counts, pixel_size_nm=(100.0, 100.0)), model, None, None)
    assert not [warning for warning in ready.warnings if "density" in warning]
    assert "by localizing" in str(ready.measured.density_per_um2)


def test_it_is_quick():
    """Processor time on a movie of 128 x 128 px with the shipped 2D model: 2 s are granted where nothing else runs."""
    movie = movie_from_array(np.random.default_rng(0).poisson(20, (100, 128, 128)).astype(np.uint16))
    model = find_model("general-2d")
    started = time.process_time()
    survey(movie, model.localizer, parse_camera(CAMERA), InputConditions(20.0), None, (100.0, 100.0))
    assert time.process_time() - started < 3.0
