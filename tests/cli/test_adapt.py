"""``adapt``: from a movie with a wider PSF to a model that knows it, refusal where nothing is gained, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denseloc.data import movie_from_array
from denseloc.errors import Interrupted, ModelError, MovieError, OutputError, TrainingError
from denseloc.experiment import Experiment
from denseloc.localize import SingleSettings
from denseloc.model_file import Model, load_model
from denseloc.train.wake_sleep import WakeSleepSettings
from denseloc.verbs import adapt, adaptation, simulate

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
    monkeypatch.setattr(adaptation, "RECALIBRATION_BATCHES", 1)


@pytest.fixture(scope="module")
def wide(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie like those of the tiny model, with a PSF wider by a quarter."""
    folder = tmp_path_factory.mktemp("wide")
    text = place.document.read_text().replace("width_nm = 120", "width_nm = 150")
    (folder / "wide.toml").write_text(text)
    return simulate(folder / "wide.toml", folder / "wide.tif", n_frames=80, shape_px=(32, 32), seed=4).movie


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
    assert record["from"] == "tiny"
    assert [entry["step"] for entry in record["history"]] == [0, 6, 12]
    page = (tmp_path / "adapted.html").read_text()
    assert "explains held-out frames better" in page
    assert page.count("data:image/png") == 3


def test_nothing_gained_is_refused_with_a_code_of_its_own(
    command: Any, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = simulate(place.document, tmp_path / "same.tif", n_frames=80, shape_px=(32, 32), seed=4).movie
    still = {**QUICK, "steps": 2, "theta_rate": 1e-7, "learning_rate": 1e-9}
    monkeypatch.setattr(adaptation, "_steps", lambda trial, minutes: 2)
    monkeypatch.setattr(adaptation, "WakeSleepSettings", lambda **more: WakeSleepSettings(**{**still, **more}))
    out = tmp_path / "none.safetensors"
    answer = command("adapt", place.model, movie, "-o", out, "--minutes", "0.1")
    assert answer.code == 3
    assert "no model was written: the held-out frames are explained no better than before" in answer.err
    assert not out.exists()
    assert not out.with_suffix(".checkpoint").exists()
    assert "No model was written" in out.with_suffix(".html").read_text()
    assert "2 rounds fit into 0.1 minutes" in answer.out


def test_an_interrupted_adaptation_goes_on(place: Place, wide: Path, tmp_path: Path) -> None:
    settings = WakeSleepSettings(**{**QUICK, "steps": 6})
    whole = adapt(place.model, wide, tmp_path / "whole.safetensors", settings=settings, page=False)
    out = tmp_path / "a.safetensors"
    rounds: list[int] = []
    with pytest.raises(Interrupted, match="stopped after round 2 of 6") as error:
        adapt(
            place.model,
            wide,
            out,
            settings=settings,
            page=False,
            report=lambda progress: rounds.append(progress.step),
            stop=lambda: 15 if len(rounds) >= 2 else 0,
        )
    assert error.value.exit_code == 128 + 15
    assert out.with_suffix(".checkpoint").exists()
    with pytest.raises(TrainingError, match="--resume"):
        adapt(place.model, wide, out, settings=settings)
    made = adapt(place.model, wide, out, settings=settings, resume=True, page=False)
    assert not out.with_suffix(".checkpoint").exists()
    assert made.theta[1] == whole.theta[1]
    assert made.gain == whole.gain


def counts(place: Place, change: Any) -> Any:
    movie = tifffile.imread(place.movie)
    return movie_from_array(change(np.concatenate([movie, movie])), "changed", (100.0, 100.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[:20], "20 frames; expected 40 or more"),
        (lambda m: np.where(m > 160, np.uint16(65535), m), "are full"),
        (lambda m: np.random.default_rng(0).poisson(20, m.shape).astype(np.uint16) + np.uint16(100), "emitters are seen"),
        (lambda m: m[:, :12], "12 x 20 px; expected at least 16 x 16"),
    ],
)
def test_movies_that_teach_nothing(place: Place, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(MovieError, match=words) as error:
        adapt(place.model, counts(place, change), tmp_path / "a.safetensors")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_other_bad_input(command: Any, place: Place, wide: Path, tmp_path: Path) -> None:
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
    answer = command("adapt", place.model, wide, "-o", tmp_path / "a.safetensors", "--resume", "--samples", "8")
    assert answer.code == 2
    assert "--samples with --resume" in answer.err


def test_fewer_sets_are_said(place: Place, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "free_memory", lambda device: 12_000_000)
    said: list[str] = []
    settings = WakeSleepSettings(**{**QUICK, "steps": 1, "checks": 1})
    adapt(place.model, wide, tmp_path / "a.safetensors", settings=settings, say=said.append, page=False)
    assert any("sets of emitters are drawn for each frame in place of 6" in line for line in said)


def test_the_general_model_becomes_one_for_this_microscope(place: Place, wide: Path) -> None:
    """Its document gets the movie's pixels, camera and width; nothing is trained here."""
    from denseloc.formats import open_movie
    from denseloc.model_file import find_model
    from denseloc.preparation import prepare, serves_many
    from denseloc.verbs.adaptation_parts import document_for

    general = find_model("general-2d")
    ready = prepare(open_movie(wide), general, 120.0, None, count=False)
    made = document_for(ready, None, 5)
    assert not serves_many(made)
    assert made.pixel_size_nm == (120.0, 120.0)
    assert made.camera.kind == "scmos"
    assert made.psf.width_in_focus_nm() == pytest.approx(ready.measured.width_nm.value, rel=1e-4)
    low, high = made.specimen.density_per_um2
    assert low <= ready.measured.density_per_um2.value <= high
