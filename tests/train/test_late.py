"""Late weights: learned when all others stand, and not before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from denseloc.experiment import Experiment
from denseloc.localize import TrainableLocalizer
from denseloc.train import Progress, Trainer, learn_late
from denseloc.training import train


@pytest.fixture
def document(tiny_document: dict[str, Any]) -> dict[str, Any]:
    """Give a document whose localizer has late weights."""
    training = {**tiny_document["training"], "steps": 10, "patch_px": 24}
    return tiny_document | {"localizer": {"kind": "luenn", "preset": "tiny", "threshold": 0.001}, "training": training}


def trainer(document: dict[str, Any], **training: Any) -> Trainer:
    experiment = Experiment.from_json(document | {"training": {**document["training"], **training}})
    localizer = experiment.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    return Trainer(localizer, experiment.build_simulator(localizer), experiment.training)


def state(localizer: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in localizer.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_first_the_one_then_the_other(document: dict[str, Any]) -> None:
    t = trainer(document)
    before = state(t.localizer)
    t.run()
    between = state(t.localizer)
    assert changed(before, between) == {"net"}
    with torch.no_grad():  # something to find, after ten steps
        t.localizer.net.leave.bias += 0.5
    between = state(t.localizer)
    reports: list[Progress] = []
    assert learn_late(t, reports.append, every=1)
    assert changed(between, state(t.localizer)) == {"errors"}
    assert [p.step for p in reports] == [1, 2]
    again = trainer(document)
    again.localizer.load_state_dict(between)
    assert learn_late(again)
    assert not changed(state(t.localizer), state(again.localizer))


def test_a_stop_leaves_the_late_weights_as_they_were(document: dict[str, Any]) -> None:
    t = trainer(document, steps=20)
    with torch.no_grad():
        t.localizer.net.leave.bias += 0.5
    before, asked = state(t.localizer), iter([False, False, True])
    assert not learn_late(t, stop=lambda: next(asked))
    assert not changed(before, state(t.localizer))


def test_most_methods_have_none(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document)
    t.simulator = None  # type: ignore[assignment]
    assert learn_late(t)
    with pytest.raises(NotImplementedError, match="Decode has no late weights"):
        t.localizer.late_loss(t.validation[0])


def test_a_training_stopped_in_its_late_part_goes_on_to_an_equal_model(document: dict[str, Any], tmp_path: Path) -> None:
    whole = train(Experiment.from_json(document), tmp_path / "whole.safetensors", device="cpu")
    assert "uncertainty" in whole.record
    calls = iter(range(1000))
    part = train(
        Experiment.from_json(document), tmp_path / "part.safetensors", device="cpu", stop=lambda: next(calls) >= 11
    )  # ten steps and the first late one
    assert part.record["steps"] == 10
    assert "uncertainty" not in part.record
    assert not (tmp_path / "part.safetensors").exists()
    assert (tmp_path / "part.checkpoint").exists()
    again = train(Experiment.from_json(document), tmp_path / "part.safetensors", device="cpu", resume=True)
    assert not changed(state(whole.localizer), state(again.localizer))
    assert not (tmp_path / "part.checkpoint").exists()


def test_first_weights_are_asked_for_before_the_training(document: dict[str, Any], tmp_path: Path) -> None:
    from denseloc.errors import ModelError

    paper = document | {"localizer": {"kind": "luenn", "preset": "paper", "encoder_weights": str(tmp_path / "none.safetensors")}}
    with pytest.raises(ModelError, match="encoder_weights: no file"):
        train(Experiment.from_json(paper), tmp_path / "m.safetensors", device="cpu")


def test_the_rate_falls_by_steps(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document, steps=100, warmup=0, schedule="steps")
    rates = []
    for step in range(100):
        t.step = step
        rates.append(t._schedule())
    assert rates == [1.0] * 40 + [0.5] * 20 + [0.25] * 20 + [0.125] * 20
