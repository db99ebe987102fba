"""Checkpoints whose metadata or tensors are not those of a training: one line that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from denseloc.errors import TrainingError
from denseloc.experiment import Experiment
from denseloc.train import Trainer


@pytest.fixture
def trainer(tiny_document: dict[str, Any], tmp_path: Path) -> Trainer:
    """A training after one step, with its checkpoint written."""
    experiment = Experiment.from_json(tiny_document)
    localizer = experiment.build_localizer()
    made = Trainer(
        localizer,  # type: ignore[arg-type]
        experiment.build_simulator(localizer),
        experiment.training,
        checkpoint=tmp_path / "a.checkpoint",
    )
    made.run(stop=lambda: made.step >= 1)
    return made


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["denseloc"])  # noqa: SIM118


def refused(trainer: Trainer, words: str) -> None:
    with pytest.raises(TrainingError, match=words) as error:
        trainer.resume()
    assert "\n" not in str(error.value)
    assert str(trainer.checkpoint) in str(error.value)
    assert "remove it" in str(error.value)


def written(trainer: Trainer, tensors: dict[str, torch.Tensor], text: str) -> Trainer:
    assert trainer.checkpoint is not None
    save_file(tensors, trainer.checkpoint, {"denseloc": text})
    return trainer


def test_the_checkpoint_itself_is_taken_up(trainer: Trainer) -> None:
    assert trainer.checkpoint is not None
    tensors, notes = contents(trainer.checkpoint)
    assert written(trainer, tensors, json.dumps(notes)).resume()
    assert trainer.step == 1


@pytest.mark.parametrize("text", ["[1]", "[]", "null", "5", '"x"', "{", "", "[" * 100_000])
def test_metadata_that_are_no_object(trainer: Trainer, text: str) -> None:
    assert trainer.checkpoint is not None
    refused(written(trainer, contents(trainer.checkpoint)[0], text), "does not fit this training")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", None),
        ("step", "many"),
        ("step", 1.5),
        ("step", -1),
        ("step", True),
        ("loss", [1]),
        ("rate", "fast"),
        ("rollbacks", {}),
        ("history", {}),
        ("history", [1]),
    ],
)
def test_numbers_that_are_none(trainer: Trainer, name: str, value: Any) -> None:
    assert trainer.checkpoint is not None
    tensors, notes = contents(trainer.checkpoint)
    refused(written(trainer, tensors, json.dumps({**notes, name: value})), f"does not fit this training .*'{name}'")
    assert trainer.step == 1


@pytest.mark.parametrize("name", ["step", "history", "norm"])
def test_numbers_that_are_missing(trainer: Trainer, name: str) -> None:
    assert trainer.checkpoint is not None
    tensors, notes = contents(trainer.checkpoint)
    del notes[name]
    refused(written(trainer, tensors, json.dumps(notes)), f"'{name}'")


def test_metadata_of_something_else(trainer: Trainer) -> None:
    assert trainer.checkpoint is not None
    refused(written(trainer, contents(trainer.checkpoint)[0], '{"name": "x"}'), "left by a training of another document")


@pytest.mark.parametrize("harm", ["shape", "place", "no number", "generator", "short generator"])
def test_tensors_that_are_not_of_this_training(trainer: Trainer, harm: str) -> None:
    assert trainer.checkpoint is not None
    tensors, notes = contents(trainer.checkpoint)
    name = next(name for name, value in tensors.items() if name.startswith("optimizer.0.") and value.ndim)
    if harm == "shape":
        tensors[name] = torch.zeros(7, 5)
    elif harm == "place":
        tensors["optimizer.0.10000.exp_avg"] = torch.zeros(3)
    elif harm == "no number":
        tensors["optimizer.0.first.exp_avg"] = torch.zeros(3)
    else:
        tensors["generator"] = torch.zeros(3, dtype=torch.float32 if harm == "generator" else torch.uint8)
    refused(written(trainer, tensors, json.dumps(notes)), "does not fit this training")


def test_a_folder_in_its_place(trainer: Trainer) -> None:
    assert trainer.checkpoint is not None
    trainer.checkpoint.unlink()
    trainer.checkpoint.mkdir()
    refused(trainer, "does not fit this training")
