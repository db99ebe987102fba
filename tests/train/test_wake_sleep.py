"""Wake-sleep: rounds move network and theta, the best state is kept, and going on equals never having stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from denseloc.errors import TrainingError
from denseloc.experiment import Experiment
from denseloc.localize import TrainableLocalizer
from denseloc.train.theta import Beginning, Theta
from denseloc.train.wake import MovieWindows, Noise
from denseloc.train.wake_sleep import Gain, WakeSleep, WakeSleepSettings, samples_that_fit


def loop(document: dict[str, Any], checkpoint: Path | None = None, **settings: Any) -> WakeSleep:
    experiment = Experiment.from_json(document)
    localizer = experiment.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    simulator = experiment.build_simulator(localizer)
    batch = simulator.draw(12, torch.Generator().manual_seed(5))
    n = len(batch.photons)
    windows = MovieWindows(batch.photons, batch.background[:n], batch.conditions.contiguous(), torch.zeros(n, 2))
    theta = Theta(experiment.psf.build(experiment.pixel_size_nm), localizer.scales, Beginning(0.5, 2000.0, 0.5, (0.0, 0.0)))
    usual = {"steps": 6, "checks": 3, "windows": 3, "sleep_batch": 2, "samples": 4, "theta_first": 0.34, "seed": 2}
    schedule = WakeSleepSettings(**{**usual, **settings})
    noise = Noise(1.0, float(batch.conditions[0, 2]))
    held_out = windows.select(slice(8, 12))
    return WakeSleep(
        localizer, theta, simulator, windows.select(slice(0, 8)), held_out, noise, schedule, checkpoint=checkpoint, mark="m"
    )


def state(one: WakeSleep) -> list[Tensor]:
    return [value.clone() for module in (one.localizer, one.averaged, one.theta) for value in module.state_dict().values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_theta_moves_first_then_the_network(tiny_document: dict[str, Any]) -> None:
    one = loop(tiny_document)
    network = [w.clone() for w in one.localizer.parameters()]
    theta = [w.clone() for w in one.theta.parameters()]
    one.one_round()
    assert same(list(one.localizer.parameters()), network)
    assert not same(list(one.theta.parameters()), theta)
    one.step = 5
    one.one_round()
    assert not same(list(one.localizer.parameters()), network)


@pytest.mark.parametrize(("phases", "moves"), [("wake", True), ("sleep", False)])
def test_auto_encoder_and_simulator_learning_alone(tiny_document: dict[str, Any], phases: str, moves: bool) -> None:
    one = loop(tiny_document, phases=phases, theta_first=0.0)
    drawn: list[int] = []
    original = one.simulator.draw
    one.simulator.draw = lambda b, g: drawn.append(b) or original(b, g)  # type: ignore[method-assign,func-returns-value]
    theta = [w.clone() for w in one.theta.parameters()]
    one.one_round()
    assert same(list(one.theta.parameters()), theta) is not moves
    assert bool(drawn) is not moves


def test_no_sleep_steps_where_none_are_wanted(tiny_document: dict[str, Any]) -> None:
    one = loop(tiny_document, sleeps=0, theta_first=0.0)
    one._sleep = lambda: pytest.fail("it slept")  # type: ignore[method-assign,assignment]
    one.one_round()
    with pytest.raises(ValueError, match="does nothing"):
        WakeSleepSettings(phases="sleep", sleeps=0)


def test_a_run_checks_held_out_frames_and_ends_in_the_best_state(tiny_document: dict[str, Any]) -> None:
    one = loop(tiny_document)
    steps: list[int] = []
    one.run(lambda progress: steps.append(progress.step))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in one.history] == [0, 2, 4, 6]
    assert one.history[0]["gain"] == 0
    assert same(list(one.localizer.parameters()), list(one.best.parameters()))
    assert not one.localizer.training
    assert all(math.isfinite(entry["bound"]) for entry in one.history)
    assert one.simulator.microscope.psf is one.theta.psf


def test_going_on_equals_never_having_stopped(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    whole = loop(tiny_document)
    whole.run()
    killed = loop(tiny_document, tmp_path / "a.checkpoint")
    killed.run(stop=lambda: killed.step >= 3)
    again = loop(tiny_document, tmp_path / "a.checkpoint")
    assert again.resume()
    assert again.step == 3
    again.run()
    assert same(state(again), state(whole))
    assert [h["gain"] for h in again.history] == [h["gain"] for h in whole.history]


def test_a_checkpoint_of_other_work_is_refused(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    loop(tiny_document, tmp_path / "a.checkpoint").save()
    with pytest.raises(TrainingError, match="remove it"):
        loop(tiny_document, tmp_path / "a.checkpoint", steps=7).resume()


def test_it_ends_where_nothing_is_gained(tiny_document: dict[str, Any]) -> None:
    one = loop(tiny_document, steps=40, checks=40, patience=2, theta_first=0.0)
    one._check()
    one.history[0]["gain"] = 1e9  # nothing will beat this
    one.run()
    assert one.step == 2


def test_steps_that_are_no_numbers_are_left_out_and_end_it(tiny_document: dict[str, Any]) -> None:
    one = loop(tiny_document, steps=60, theta_first=0.0, checks=1)
    before = state(one)
    one._step(one.theta.log_noise * math.nan, one.optimizers)
    assert same(state(one), before)
    assert one.messages[0].startswith("step 0: the loss became nan")
    one.rollbacks = 20
    with pytest.raises(TrainingError, match="no finite number"):
        one._step(one.theta.log_noise * math.nan, one.optimizers)


def test_the_best_state_is_kept_and_after_sleep_alone_the_last(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for phases, kept_step in (("wake", 1), ("sleep", 2)):
        one = loop(tiny_document, phases=phases, theta_first=0.0)
        monkeypatch.setattr(one, "bound_before", lambda frames=None: torch.zeros(4))
        for step, bound in ((0, 0.0), (1, 2.0), (2, 1.0)):
            one.step = step
            monkeypatch.setattr(one, "bound", lambda localizer, theta, frames=None, now=bound: torch.full((4,), now))
            torch.nn.init.constant_(next(one.averaged.parameters()), 0.01 * step)
            one._check()
        assert one.kept_step == kept_step
        assert float(next(one.best.parameters()).flatten()[0].detach()) == pytest.approx(0.01 * kept_step)


def test_a_slope_of_the_psf_does_not_outlive_its_step(tiny_document: dict[str, Any]) -> None:
    """No optimizer moves a PSF that is fitted; a wake step that went wrong by it must not spoil those that follow."""
    one = loop(tiny_document, theta_first=0.0)
    width = one.theta.psf.get_parameter("width_nm")
    one._step(width * math.nan, one.optimizers)
    assert one.rollbacks == 1
    one._step(one.theta.log_noise.square(), one.optimizers)
    assert one.rollbacks == 1
    assert width.grad is None


def test_gain_is_certain_only_beyond_its_error() -> None:
    before = torch.zeros(40)
    scatter = torch.linspace(-1, 1, 40)
    assert Gain.of(before + 2 + scatter, before).is_certain
    assert not Gain.of(before + scatter, before).is_certain
    assert not Gain.of(before + 1e-3, before).is_certain
    outlier = before.clone()
    outlier[0] = -1e6
    assert Gain.of(outlier + 1, before).mean == pytest.approx(1.0)


def test_fewer_sets_where_memory_is_short() -> None:
    assert samples_that_fit(32, 18, 1024, 1 << 40) == 32
    assert samples_that_fit(32, 18, 1024, 40 * 4 * 18 * 1024 * 7) == 7
    assert samples_that_fit(32, 18, 1024, 0) == 2
    assert samples_that_fit(32, 18, 1024, math.inf) == 32
