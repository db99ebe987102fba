"""``adapt``: from a movie with a wider PSF to a model that knows it, refusal where nothing is gained, and bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from denseloc.data import movie_from_array
from denseloc.errors import Interrupted, ModelError, MovieError, OutputError, TrainingError
from denseloc.experiment import Experiment
from denseloc.files import alone
from denseloc.localize import SingleSettings
from denseloc.model_file import Model, load_model
from denseloc.train.gain import Gain
from denseloc.train.wake_sleep import WakeSleepSettings
from denseloc.verbs import adapt, adaptation, adaptation_work, simulate
from denseloc.verbs.adaptation_quality import Quality
from denseloc.verbs.adaptation_windows import corners_of, gather, share_out

from .conftest import Place

QUICK: dict[str, Any] = {
    "steps": 12,
    "checks": 2,
    "windows": 4,
    "sleep_batch": 2,
    "samples": 6,
    "theta_first": 0.75,
    "theta_rate": 0.05,
    "learning_rate": 1e-4,
}


@pytest.fixture(autouse=True)
def few_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation_work, "RECALIBRATION_BATCHES", 1)


@pytest.fixture(scope="module")
def wide(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie like those of the tiny model, with a PSF wider by a quarter."""
    folder = tmp_path_factory.mktemp("wide")
    text = place.document.read_text().replace("width_nm = 120", "width_nm = 150")
    (folder / "wide.toml").write_text(text)
    return simulate(folder / "wide.toml", folder / "wide.tif", n_frames=84, shape_px=(64, 64), seed=4).movie


def test_a_model_gets_the_movie_s_psf(place: Place, wide: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted.safetensors"
    said: list[str] = []
    made = adapt(place.model, wide, out, settings=WakeSleepSettings(**QUICK), say=said.append)
    assert made.refused is None
    assert {path.name for path in tmp_path.iterdir()} == {"adapted.safetensors", "adapted.html"}
    assert made.gain.is_certain
    adapted = load_model(out)
    before, after = (made.theta[i]["width_nm"] for i in (0, 1))
    assert before == 120
    assert abs(after - 150) < abs(before - 150)
    assert adapted.experiment.psf.width_in_focus_nm() == pytest.approx(after, rel=1e-4)
    record = adapted.record["adapted"]
    assert made.gain.mean != pytest.approx(max(entry["gain"] for entry in record["history"]), rel=1e-3)  # other frames judge
    assert record["from"] == "tiny"
    assert [entry["step"] for entry in record["history"]] == [0, 6, 12]
    page = (tmp_path / "adapted.html").read_text()
    assert "explains held-out frames better" in page
    assert page.count("data:image/png") == 3
    for words in ("psf.width_nm", "8 windows that choose the best state, 12 others that judge it", "loads nothing from elsewhere"):
        assert words in page


def test_nothing_gained_is_refused_with_a_code_of_its_own(
    command: Any, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = simulate(place.document, tmp_path / "same.tif", n_frames=84, shape_px=(64, 64), seed=4).movie
    still = {**QUICK, "steps": 2, "theta_rate": 1e-7, "learning_rate": 1e-9}
    monkeypatch.setattr(adaptation_work, "steps_that_fit", lambda trial, minutes, clock: 2)
    monkeypatch.setattr(adaptation_work, "WakeSleepSettings", lambda **more: WakeSleepSettings(**{**still, **more}))
    out = tmp_path / "none.safetensors"
    answer = command("adapt", place.model, movie, "-o", out, "--minutes", "0.1")
    assert answer.code == 3
    assert "no model was written: " in answer.err
    assert "the held-out frames are explained no better than before" in answer.err or "no state on the way" in answer.err
    assert "nats per frame that was held out to judge by" in answer.out
    assert "psf.width_nm" in answer.out
    assert not out.exists()
    assert not out.with_suffix(".checkpoint").exists()
    assert "No model was written" in out.with_suffix(".html").read_text()
    assert "2 rounds fit into 0.1 minutes" in answer.out


def test_an_interrupted_adaptation_goes_on(place: Place, wide: Path, tmp_path: Path) -> None:
    settings = WakeSleepSettings(**{**QUICK, "steps": 4, "theta_first": 0.5})
    whole = adapt(place.model, wide, tmp_path / "whole.safetensors", settings=settings, page=False)
    out = tmp_path / "a.safetensors"
    rounds: list[int] = []
    spent: list[float] = []
    with pytest.raises(Interrupted, match="stopped after round 2 of 4") as error:
        adapt(
            place.model,
            wide,
            out,
            settings=settings,
            page=False,
            report=lambda progress: (rounds.append(progress.step), spent.append(progress.seconds)),
            stop=lambda: 15 if len(rounds) >= 2 else 0,
        )
    assert error.value.exit_code == 128 + 15
    assert out.with_suffix(".checkpoint").exists()
    with pytest.raises(TrainingError, match="--resume"):
        adapt(place.model, wide, out, settings=settings)
    made = adapt(
        place.model, wide, out, settings=settings, resume=True, page=False, report=lambda progress: spent.append(progress.seconds)
    )
    assert not out.with_suffix(".checkpoint").exists()
    assert made.theta[1] == whole.theta[1]
    assert made.gain == whole.gain
    assert len(spent) == 4
    assert made.seconds == spent[-1] > spent[1]  # of both sessions


def test_what_is_left_over_is_said() -> None:
    """A chi2 far above 1 is a warning even where it fell."""
    quality = Quality(per_frame=3.0, probability=0.9, sigma_nm=10.0, photons=1000.0, chi2=1.0)
    assert adaptation._doubts(quality, quality) == []
    said = adaptation._doubts(replace(quality, chi2=5.7), replace(quality, chi2=5.1))
    assert len(said) == 1
    assert "chi2 per pixel of the held-out frames is 5.1" in said[0]
    assert "(--camera)" in said[0]


def counts(place: Place, change: Any) -> Any:
    movie = tifffile.imread(place.movie)
    return movie_from_array(change(np.concatenate([movie] * 6)), "changed", (100.0, 100.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda m: m[:20],
            "20 frames of 24 x 20 px leave 0 separate windows to judge .* expected 8 or more .* take 240 frames or more",
        ),
        (lambda m: m[:239], "leave 7 separate windows"),
        (lambda m: np.where(m > 160, np.uint16(65535), m), "are full"),
        (lambda m: np.random.default_rng(0).poisson(20, m.shape).astype(np.uint16) + np.uint16(100), "emitters are seen"),
        (lambda m: np.full_like(m, 137), "all pixels hold 137 counts"),
        (lambda m: m[:, :12], "12 x 20 px; expected at least 16 x 16"),
    ],
)
def test_movies_that_teach_nothing(place: Place, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(MovieError, match=words) as error:
        adapt(place.model, counts(place, change), tmp_path / "a.safetensors")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_other_bad_input(place: Place, wide: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="ends in"):
        adapt(place.model, wide, tmp_path / "a.bin")
    with pytest.raises(TrainingError, match="above 0"):
        adapt(place.model, wide, tmp_path / "a.safetensors", minutes=0)
    with pytest.raises(ModelError, match="pixels of 100 nm, the movie has 160 nm"):
        adapt(place.model, wide, tmp_path / "a.safetensors", pixel_size_nm=160)
    document = Experiment.from_file(place.document)
    single = Model(
        SingleSettings().build(document.build_localizer().scales), document.model_copy(update={"localizer": SingleSettings()})
    )
    with pytest.raises(ModelError, match="method 'single', which gives no distribution"):
        adapt(single, wide, tmp_path / "a.safetensors")


class Stop:
    """Ends a run after some rounds."""

    def __init__(self, after: int) -> None:
        self.after, self.rounds = after, 0

    def __call__(self) -> int:
        self.rounds += 1
        return 15 if self.rounds > self.after else 0


def test_fewer_sets_are_said_and_kept_on_going_on(
    place: Place, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation_work, "free_bytes", lambda device: 20e6)
    said: list[str] = []
    settings, out = WakeSleepSettings(**{**QUICK, "steps": 2, "checks": 1}), tmp_path / "a.safetensors"
    with pytest.raises(Interrupted):
        adapt(place.model, wide, out, settings=settings, say=said.append, page=False, stop=Stop(1))
    assert said == ["4 sets of emitters are drawn for each frame (K) in place of 6: 0.02 GB of memory are free"]
    monkeypatch.setattr(adaptation_work, "free_bytes", lambda device: math.inf)
    with pytest.raises(TrainingError, match="begun with 4 sets for each frame, 3 are asked for"):
        adapt(place.model, wide, out, settings=settings.model_copy(update={"samples": 3}), resume=True)
    made = adapt(place.model, wide, out, settings=settings, say=said.append, resume=True, page=False)
    assert made.model.record["adapted"]["settings"]["samples"] == 4
    assert "going on after round 1 of 2, with 4 sets of emitters for each frame (K)" in said


def test_minutes_and_other_wishes_on_going_on(
    command: Any, place: Place, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.safetensors"
    settings = WakeSleepSettings(**{**QUICK, "steps": 2, "checks": 1})
    with pytest.raises(Interrupted):
        adapt(place.model, wide, out, settings=settings, page=False, stop=Stop(1))
    answer = command("adapt", place.model, wide, "-o", out, "--resume", "--keep-psf")
    assert answer.code == 2
    assert "a.checkpoint learns the PSF, which is to be kept now" in answer.err
    answer = command("adapt", place.model, wide, "-o", out, "--resume", "--minutes", "50")
    assert "going on after round 1 of 2" in answer.out
    assert "--minutes counts only for a new adaptation" in answer.out
    assert (f"next     denseloc localize {wide} --model {out} -o TABLE" in answer.out) == (answer.code == 0)
    monkeypatch.setattr(adaptation_work, "steps_that_fit", lambda trial, minutes, clock: 1)
    monkeypatch.setattr(adaptation_work, "WakeSleepSettings", lambda **more: WakeSleepSettings(**{**QUICK, **more}))
    answer = command("adapt", place.model, wide, "-o", out, "--resume", "--minutes", "1", "--keep-psf", "--samples", "2")
    assert "there is no a.checkpoint to go on from; it begins from the beginning" in answer.out


def test_other_frames_choose_than_judge(place: Place, wide: Path) -> None:
    """By blocks in time, in turn; windows of a block lie beside each other; and all of it again on going on."""
    from denseloc.formats import open_movie
    from denseloc.preparation import prepare

    movie, model = open_movie(wide), load_model(place.model)
    shares = share_out(movie, model.localizer)
    assert (shares.learn[:4], shares.choose, shares.judge) == ((0, 5, 15, 20), (25, 55), (10, 40, 70))
    ready = prepare(movie, model, None, None)
    first, again = (gather(movie, ready, model.localizer, shares, 1) for _ in range(2))
    assert (len(first.choose), len(first.judge)) == (8, 12)
    for part in ("learn", "choose", "judge"):
        assert torch.equal(getattr(first, part).photons, getattr(again, part).photons)
    for corners in (corners_of((70, 64), 32, 4, np.random.default_rng(seed), apart=True) for seed in range(5)):
        assert len(set(corners)) == 4
        assert all(max(abs(a - c), abs(b - d)) >= 32 for i, (a, b) in enumerate(corners) for c, d in corners[:i])
    for shape, least in (((60, 64, 64), 60), ((240, 32, 32), 240)):
        enough = movie_from_array(np.zeros(shape, np.uint16))
        assert len(share_out(enough, model.localizer).judge) * (shape[1] // 32) ** 2 == 8
        with pytest.raises(MovieError, match=f"take {least} frames or more"):
            share_out(enough.crop(frames=(0, least - 1)), model.localizer)
    long = movie_from_array(np.zeros((900, 64, 64), np.uint16))
    assert len(share_out(long, model.localizer).judge) == len(range(5, 180, 12))  # every sixth where there are enough


def test_the_general_model_becomes_one_for_this_microscope(place: Place, wide: Path) -> None:
    """Its document gets the movie's pixels, camera and width; nothing is trained here."""
    from denseloc.formats import open_movie
    from denseloc.model_file import find_model
    from denseloc.preparation import prepare, serves_many
    from denseloc.verbs.adaptation_document import document_for

    general = find_model("general-2d")
    ready = prepare(open_movie(wide), general, 120.0, None, count=False)
    made = document_for(ready, None, 5)
    assert not serves_many(made)
    assert made.pixel_size_nm == (120.0, 120.0)
    assert made.camera.kind == "scmos"
    assert made.psf.width_in_focus_nm() == pytest.approx(ready.measured.width_nm.value, rel=1e-4)
    low, high = made.specimen.density_per_um2
    assert low <= ready.measured.density_per_um2.value <= high


def test_a_camera_that_was_given_stands_in_the_adapted_document(place: Place, wide: Path) -> None:
    from denseloc.formats import open_movie
    from denseloc.preparation import parse_camera, prepare
    from denseloc.verbs.adaptation_document import document_for

    camera = parse_camera("offset=100,electrons_per_count=0.8,read_noise=1.5")
    model = load_model(place.model)
    ready = prepare(open_movie(wide), model, None, camera, count=False)
    assert document_for(ready, camera, 5).to_json()["camera"]["electrons_per_count"] == 0.8
    assert document_for(ready, None, 5).to_json()["camera"] == model.experiment.to_json()["camera"]


def test_a_document_is_no_model(command: Any, place: Place, tmp_path: Path) -> None:
    answer = command("adapt", place.document, place.movie, "-o", tmp_path / "a.safetensors")
    assert answer.code == 2
    assert f"{place.document} is a document, expected a model file; train it first" in answer.err


def test_the_page_is_looked_at_before_the_work(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a.html").mkdir()
    with pytest.raises(OutputError, match=r"a\.html: this is a folder"):
        adapt(place.model, tmp_path / "none.tif", tmp_path / "a.safetensors")
    with pytest.raises(MovieError):
        adapt(place.model, tmp_path / "none.tif", tmp_path / "a.safetensors", page=False)


def test_the_checkpoint_of_a_run_that_goes_on_is_not_to_be_removed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a.checkpoint").write_text("of the other run")
    with alone(tmp_path / "a.safetensors"), pytest.raises(OutputError, match="is being written by another run"):
        adapt(place.model, place.movie, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"gain": Gain(1.0, 0.6)}, "explained no better than before (+1.00 ± 0.60 nats per frame)"),
        ({"network_gain": Gain(-3.0, 1.0)}, "the network explains the held-out frames worse than before"),
        ({"misfit": 0.31}, "misses 31 % of their light"),
        ({"misfit": 0.31, "psf_moved": False}, "the model's PSF, which is kept, misses 31 %"),
        ({"at_bounds": ("'width_nm' of the PSF ran to its bound, 166.7",)}, "ran to its bound, 166.7: the movie has another PSF"),
        ({"chi2": (2.8, 4.3)}, "explains the held-out frames worse (chi2 4.300 per pixel, 2.800 before)"),
    ],
)
def test_what_is_refused_at_the_end(change: dict[str, Any], words: str | None) -> None:
    good = {"gain": Gain(5.0, 1.0), "network_gain": Gain(1.0, 1.0), "misfit": 0.02, "at_bounds": (), "chi2": (1.2, 1.1)}
    refused = adaptation_work.Judged(**{**good, **change}).refused
    assert refused is None if words is None else words in (refused or "")
