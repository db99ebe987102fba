"""A tiny microscope: its document, a model that was trained for seconds, a movie with its truth, and the command in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from denseloc.cli import main
from denseloc.verbs import simulate

DOCUMENT = """
name = "tiny"
pixel_size_nm = 100

[psf]
kind = "gaussian"
width_nm = 120
roi_px = 11

[camera]
kind = "scmos"
offset_counts = 100
electrons_per_count = 0.5
read_noise_electrons = 1.5

[specimen]
density_per_um2 = 0.4
z_nm = [0, 0]

[specimen.blinking]
kind = "exponential"
lifetime_frames = 3.0

[specimen.photons]
kind = "uniform"
low = 2000
high = 5000

[specimen.background]
kind = "uniform"
photons = 10

[localizer]
kind = "decode"
preset = "tiny"

[training]
steps = 80
batch_size = 8
frames = 3
patch_px = 16
warmup = 10
average = 0.9
seed = 1
"""


@dataclass(frozen=True)
class Place:
    """Files that the tests share; not to be written to."""

    document: Path
    model: Path
    movie: Path
    truth: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The document, a model trained by it, and a movie of 40 frames of 24 x 20 px."""
    from denseloc.training import train

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("cli")
    document = folder / "tiny.toml"
    document.write_text(DOCUMENT)
    train(document, folder / "tiny.safetensors")
    made = simulate(document, folder / "movie.tif", n_frames=40, shape_px=(24, 20), seed=3)
    return Place(document, folder / "tiny.safetensors", made.movie, made.truth)


def untrained(path: Path, **changes: object) -> Path:
    """Write a model that was not trained, for a changed document."""
    from denseloc.documents import tomllib
    from denseloc.experiment import Experiment
    from denseloc.model_file import Model, save_model

    document = Experiment.from_json({**tomllib.loads(DOCUMENT), **changes})
    save_model(path, Model(document.build_localizer(), document, {}, path.stem))
    return path


@pytest.fixture(scope="session")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes movies of any camera and pixel size, as the shipped one does."""
    localizer = {"kind": "decode", "preset": "tiny", "conditioned": True}
    return untrained(tmp_path_factory.mktemp("general") / "general.safetensors", camera={"kind": "various"}, localizer=localizer)


@dataclass(frozen=True)
class Answer:
    """What the command left on the terminal."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run the command in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    return run


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
