"""A localizer whose uncertainties are wrong in a known way is put right on frames that it was not fitted on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from denseloc.data import Emitters, Frames, Localizations
from denseloc.evaluate.coverage import NOMINAL
from denseloc.experiment import Experiment
from denseloc.localize import Batch, InputConditions, Scales, TrainableLocalizer
from denseloc.train import recalibrate
from denseloc.train.recalibrate import best_factor, fit_shares, fit_sigma, groups, rising

SCALES = Scales((100.0, 100.0), 0.0, 1000.0, 1, InputConditions(10.0))


class Draws:
    """A simulator whose frames hold nothing but emitters far from each other."""

    def draw(self, b: int, generator: torch.Generator) -> Batch:
        n = 30 * b
        place = torch.arange(n) % 30
        emitters = Emitters.of(
            torch.arange(n) // 30,
            1000.0 * (place % 6) + 500,
            1000.0 * (place // 6) + 500,
            1000 + 1000 * torch.rand(n, generator=generator),
        )
        return Batch(
            torch.zeros(b, 3, 1, 4, 4), torch.zeros(b, 4), emitters, torch.zeros(b, 1, 4, 4), torch.zeros(b, dtype=torch.bool)
        )


class Liar(TrainableLocalizer):
    """Knows the truth and adds errors to it, of another size than it states; and its probabilities are wrong."""

    def __init__(self, factor: float, doubt: float = 1.0, found: float = 1.0) -> None:
        super().__init__(SCALES)
        self.factor, self.doubt, self.found = factor, doubt, found
        self.rng = np.random.default_rng(0)
        self.least_probability = 0.45

    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        raise NotImplementedError

    def batch_loss(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def hidden_weights(self) -> list[nn.Parameter]:
        return []

    def localize_batch(self, batch: Batch) -> Localizations:
        e, rng = batch.emitters, self.rng
        n = len(e)
        share = rng.uniform(0.1, 1, n)
        real = rng.random(n) < share
        stated, sure = np.exp(rng.uniform(1, 3.5, n)), share**2
        spread = stated * self.factor * np.where(sure < 0.7, self.doubt, 1)
        x, y = (v.numpy() + spread * rng.normal(size=n) for v in (e.x_nm, e.y_nm))
        y = np.where(real, y, y + 500)  # what is not real lies between the emitters
        kept = (sure > (self.threshold or self.least_probability)) & (rng.random(n) < self.found)
        columns = {"frame": e.frame.numpy(), "x_nm": x, "y_nm": y, "sigma_x_nm": stated, "sigma_y_nm": stated, "probability": sure}
        return Localizations(columns).select(kept)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_a_known_factor_is_put_right(factor: float) -> None:
    found = recalibrate(Liar(factor), Draws(), 1)  # type: ignore[arg-type]
    assert found.correction is not None
    for name in ("x_nm", "y_nm"):
        assert found.before.pulls[name].robust_sd == pytest.approx(factor, rel=0.06)
        assert found.after.pulls[name].robust_sd == pytest.approx(1, abs=0.06)
        np.testing.assert_allclose(found.after.pulls[name].inside, NOMINAL, atol=0.03)
    low, high = found.correction.range_of("sigma_x_nm")
    assert 0.85 * factor < low <= high < 1.2 * factor


def test_probabilities_become_the_share_that_is_real() -> None:
    found = recalibrate(Liar(1.0), Draws(), 1)  # type: ignore[arg-type]
    assert found.before.probability_error > 0.1
    assert found.after.probability_error < 0.03


def test_doubtful_localizations_get_a_larger_factor() -> None:
    found = recalibrate(Liar(1.0, doubt=1.6), Draws(), 1)  # type: ignore[arg-type]
    assert found.correction is not None
    curve = found.correction.sigmas["sigma_x_nm"].by_probability.value
    assert curve[0] - curve[-1] > 0.25
    assert found.after.pulls["x_nm"].within(1.0) == pytest.approx(NOMINAL[1], abs=0.025)


def test_equal_seeds_give_equal_corrections_and_the_localizer_is_left_as_it_was() -> None:
    first, second = Liar(1.3).train(), Liar(1.3)
    first.threshold = 0.3
    assert recalibrate(first, Draws(), 4).correction == recalibrate(second, Draws(), 4).correction  # type: ignore[arg-type]
    assert (first.threshold, first.correction, first.training) == (0.3, None, True)


def test_too_few_pairs_correct_nothing() -> None:
    found = recalibrate(Liar(1.5, found=0.01), Draws(), 1, batches=2)  # type: ignore[arg-type]
    assert found.correction is None
    assert found.before == found.after
    assert found.to_json()["correction"] is None


def test_an_untrained_network_is_left_alone(tiny_document: dict[str, Any]) -> None:
    experiment = Experiment.from_json(tiny_document)
    localizer = experiment.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    steps: list[tuple[int, int]] = []
    found = recalibrate(localizer, experiment.build_simulator(localizer), 1, batches=2, report=lambda *at: steps.append(at))
    assert found.correction is None
    assert found.frames == (32, 32)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_curves_keep_orders_however_wild_the_errors() -> None:
    rng = np.random.default_rng(3)
    log_sigma, own = rng.uniform(-3, 0, 4000), rng.uniform(-1, 9, 4000)
    pulls = rng.normal(size=4000) * np.where(log_sigma < -1.5, 2.5, 0.4) * np.where(own > 4, 2.0, 0.7)
    found = fit_sigma(pulls, log_sigma, own)  # its own check refuses curves that change an order
    grid = np.linspace(-4, 1, 200)
    assert (np.diff(np.exp(grid) * found.factor(np.exp(grid), None)) >= -1e-6).all()
    assert (np.diff(found.by_probability.value) <= 0).all()
    shares = fit_shares(own, rng.random(4000) < np.where(own > 4, 0.3, 0.9))
    assert (np.diff(shares.value) > 0).all()


def test_the_best_factor_of_normal_errors_is_their_spread() -> None:
    size = np.abs(np.random.default_rng(0).normal(size=20000))
    for spread in (0.5, 1.0, 2.0):
        assert best_factor(spread * size) == pytest.approx(spread, rel=0.03)


def test_rising_pools_neighbours() -> None:
    np.testing.assert_allclose(rising(np.array([1.0, 3, 2, 4, 0]), np.ones(5)), [1, 2.25, 2.25, 2.25, 2.25])
    np.testing.assert_allclose(rising(np.array([2.0, 1.0]), np.array([3.0, 1.0])), [1.75, 1.75])


def test_groups_hold_all_rows_of_equal_values_together() -> None:
    values = np.concatenate([np.linspace(0, 1, 500), np.ones(2000)])
    parts = groups(values, 4)
    assert sorted(np.concatenate(parts).tolist()) == list(range(2500))
    assert all((values[a].max() < values[b].min()) for a, b in pairwise(parts))
