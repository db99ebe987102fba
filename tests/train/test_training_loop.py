"""The loop: it learns, stops and goes on bit by bit, and guards against divergence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from denseloc.errors import TrainingError
from denseloc.experiment import Experiment
from denseloc.localize import TrainableLocalizer
from denseloc.train import Progress, Trainer
from denseloc.train.muon import Muon, orthogonal


def trainer(document: dict[str, Any], checkpoint: Path | None = None, **training: Any) -> Trainer:
    values = {**document, "training": {**document["training"], **training}}
    experiment = Experiment.from_json(values)
    localizer = experiment.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    return Trainer(localizer, experiment.build_simulator(localizer), experiment.training, checkpoint=checkpoint)


def weights(t: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in t.localizer.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document, steps=30, learning_rate=3e-3)
    with torch.no_grad():
        before = t.localizer.batch_loss(t.validation[0]).item()
    reports: list[Progress] = []
    t.run(reports.append, every=10)
    with torch.no_grad():
        assert t.localizer.batch_loss(t.validation[0]).item() < before - 0.5
    assert [p.step for p in reports] == [10, 20, 30]
    assert all(0 < p.simulation_share < 1 for p in reports)
    assert reports[-1].score is not None
    assert 0 <= reports[-1].score.jaccard <= 100
    assert [entry["step"] for entry in t.history] == [10, 20, 30]
    assert equal(weights(t), t.averaged.state_dict())  # the averaged weights are what is kept


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_going_on_equals_never_having_stopped(tiny_document: dict[str, Any], tmp_path: Path, optimizer: str) -> None:
    whole = trainer(tiny_document, optimizer=optimizer)
    whole.run(every=4)

    killed = trainer(tiny_document, tmp_path / "a.checkpoint", optimizer=optimizer)
    killed.run(every=4, stop=lambda: killed.step >= 6)
    for _ in range(2):
        killed._train_step()  # work after the checkpoint is lost

    again = trainer(tiny_document, tmp_path / "a.checkpoint", optimizer=optimizer)
    assert again.resume()
    assert again.step == 6
    again.run(every=4)
    assert again.step == 12
    assert equal(weights(again), weights(whole))
    assert again.loss == whole.loss
    assert [h["step"] for h in again.history] == [h["step"] for h in whole.history] == [4, 8, 12]
    assert [h["jaccard"] for h in again.history] == [h["jaccard"] for h in whole.history]


def test_a_checkpoint_after_one_step(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    first = trainer(tiny_document, tmp_path / "a.checkpoint")
    first.run(stop=lambda: first.step >= 1)
    second = trainer(tiny_document, tmp_path / "a.checkpoint")
    assert second.resume()
    assert (second.step, second.loss) == (1, first.loss)


def test_nothing_to_resume(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    assert not trainer(tiny_document).resume()
    assert not trainer(tiny_document, tmp_path / "none.checkpoint").resume()


def test_a_checkpoint_of_other_settings_is_refused(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    t = trainer(tiny_document, tmp_path / "a.checkpoint")
    t.save()
    with pytest.raises(TrainingError, match="left by a training of another document"):
        trainer(tiny_document, tmp_path / "a.checkpoint", learning_rate=1e-4).resume()


def test_a_checkpoint_of_another_network_is_refused(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    trainer(tiny_document, tmp_path / "a.checkpoint").save()
    other = {**tiny_document, "localizer": {"kind": "decode", "preset": "small"}}
    with pytest.raises(TrainingError, match="does not fit this training") as error:
        trainer(other, tmp_path / "a.checkpoint").resume()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["empty", "half", "text", "foreign"])
def test_a_damaged_checkpoint_is_one_line(tiny_document: dict[str, Any], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.checkpoint"
    t = trainer(tiny_document, path)
    t.save()
    whole = path.read_bytes()
    if damage == "foreign":
        save_file({"a": torch.zeros(2)}, path)
    else:
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"hello world, this is text"}[damage])
    with pytest.raises(TrainingError, match="remove it") as error:
        t.resume()
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------------------- guard


def poison(t: Trainer, when: Any, value: float = math.nan) -> None:
    original, calls = t.localizer.batch_loss, [0]

    def poisoned(batch: Any) -> Tensor:
        calls[0] += 1
        return original(batch) * (value if when(calls[0]) else 1.0)

    t.localizer.batch_loss = poisoned  # type: ignore[method-assign]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_poisoned_step_does_not_count_and_is_told(tiny_document: dict[str, Any], value: float) -> None:
    t = trainer(tiny_document)
    poison(t, lambda call: call == 5, value)
    reports: list[Progress] = []
    t.run(reports.append, every=6)
    assert t.step == 12
    assert (t.rollbacks, t.rate) == (1, 0.5)
    messages = reports[0].messages
    assert len(messages) == 1
    assert messages[0].startswith("step 4: the loss became")
    assert "halved the learning rate to 0.5 of the plan" in messages[0]
    assert not reports[1].messages
    assert all(value.isfinite().all() for value in t.localizer.state_dict().values())
    assert math.isfinite(t.loss)


def test_a_roll_back_restores_the_good_weights(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document)
    for _ in range(3):
        assert t._train_step() is None
    t.good, kept = t._snapshot(), weights(t)
    momentum = [value.clone() for o in t.optimizers for state in o.state.values() for value in state.values()]
    for _ in range(2):
        assert t._train_step() is None
    assert not equal(weights(t), kept)
    poison(t, lambda call: True)
    assert t._train_step() == "the loss became nan"
    t._roll_back("the loss became nan")
    assert equal(weights(t), kept)
    after = [value for o in t.optimizers for state in o.state.values() for value in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(momentum, after, strict=True))
    del t.localizer.batch_loss
    assert t._train_step() is None
    assert equal(t.good["localizer"], kept)  # the snapshot itself stays good


def test_a_gradient_that_is_no_number_is_told_as_such(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document)
    t._train_step()
    before = weights(t)
    next(iter(t.localizer.parameters())).register_hook(lambda g: g * math.nan)
    assert t._train_step() == "the gradient became nan"
    assert equal(weights(t), before)


def test_a_jump_of_the_loss_counts_as_divergence(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document)
    t._train_step()
    t.step, t.loss = 300, 5.0
    poison(t, lambda call: True, 1e4)
    assert (t._train_step() or "").startswith("the loss jumped from 5.00 to ")


def test_a_training_that_always_diverges_ends_with_one_line(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document)
    poison(t, lambda call: True)
    with pytest.raises(TrainingError, match=r"training diverged 9 times .*lower training.learning_rate") as error:
        t.run()
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------- schedule


def test_the_rate_rises_and_falls(tiny_document: dict[str, Any]) -> None:
    t = trainer(tiny_document, steps=100, warmup=10)
    rates = []
    for step in range(100):
        t.step = step
        rates.append(t._schedule())
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02
    t.rate = 0.25
    assert t._schedule() == pytest.approx(0.25 * rates[-1])


def test_muon_makes_all_directions_alike(generator: torch.Generator) -> None:
    matrix = torch.randn(12, 30, generator=generator) @ torch.diag(torch.logspace(-1, 1, 30))
    for m in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonal(m))
        assert orthogonal(m).shape == m.shape
        assert 0.5 < values.min() <= values.max() < 1.3


def test_muon_descends(generator: torch.Generator) -> None:
    target = torch.randn(6, 4, 3, 3, generator=generator)
    weight = torch.zeros(6, 4, 3, 3, requires_grad=True)
    optimizer = Muon([weight], lr=0.05)
    first = (weight - target).square().sum().item()
    for _ in range(120):
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    assert (weight - target).square().sum().item() < 0.3 * first


def test_muon_takes_a_closure(generator: torch.Generator) -> None:
    target = torch.randn(6, 4, generator=generator)
    weight = torch.zeros(6, 4, requires_grad=True)
    optimizer = Muon([weight], lr=0.05)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight - target).square().sum()
        loss.backward()
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(20)]
    assert losses[0] == pytest.approx(target.square().sum().item())
    assert losses[-1] < losses[0]
    assert optimizer.step() is None
