"""The climb on problems whose maxima are known."""

from __future__ import annotations

import torch

from denseloc.fit.levenberg import Climb, Limits, climb


def limits(low: float = -1e9, high: float = 1e9, stride: float = 1e9, p: int = 2) -> Limits:
    return Limits(*(torch.full((p,), v, dtype=torch.float64) for v in (low, high, stride)))


def exponential(truth: torch.Tensor):
    """Poisson counts ``a exp(b t)`` without noise: the maximum is the truth."""
    t = torch.linspace(0, 2, 20, dtype=torch.float64)
    counts = truth[:, :1] * torch.exp(truth[:, 1:] * t)

    def score(which: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean = at[:, :1] * torch.exp(at[:, 1:] * t)
        slopes = torch.stack((mean / at[:, :1], mean * t), 1)
        c = counts[which]
        objective = (mean - c * mean.log()).sum(1)
        return objective, (slopes * (c / mean - 1)[:, None]).sum(2), torch.einsum("nat,nbt,nt->nab", slopes, slopes, 1 / mean)

    return score


TRUTH = torch.stack((torch.linspace(5, 50, 30), torch.linspace(-2, 2, 30)), 1).double()


def run(**change: object) -> Climb:
    start = torch.tensor([10.0, 0.0], dtype=torch.float64).repeat(30, 1)
    return climb(exponential(TRUTH), start, limits(low=-5.0, high=1e3), **change)


def test_the_maxima_are_found() -> None:
    found = run(tolerance=1e-10)
    assert found.converged.all()
    torch.testing.assert_close(found.at, TRUTH, rtol=1e-5, atol=1e-5)
    assert found.iterations.min() >= 2
    assert found.iterations.max() < 20


def test_the_batch_does_not_matter() -> None:
    whole = run()
    for batch in (1, 7):
        part = run(batch=batch)
        for name in ("at", "objective", "fisher", "iterations", "converged"):
            torch.testing.assert_close(getattr(part, name), getattr(whole, name), rtol=0, atol=0)


def test_what_has_not_converged_is_marked() -> None:
    found = run(max_iterations=2)
    assert not found.converged.all()
    assert (found.iterations[~found.converged] == 2).all()


def test_a_bound_holds_and_the_others_go_on() -> None:
    start = torch.tensor([10.0, 0.0], dtype=torch.float64).repeat(30, 1)
    narrow = Limits(torch.tensor([0.1, -1.0]).double(), torch.tensor([1e3, 1.0]).double(), torch.full((2,), 1e9).double())
    found = climb(exponential(TRUTH), start, narrow, tolerance=1e-10)
    assert found.converged.all()
    held = TRUTH[:, 1].abs() > 1
    torch.testing.assert_close(found.at[held, 1], TRUTH[held, 1].sign())
    torch.testing.assert_close(found.at[~held], TRUTH[~held], rtol=1e-5, atol=1e-5)
    assert (found.at[held, 0] - TRUTH[held, 0]).abs().min() > 1e-3  # the best beside the bound is another


def test_a_likelihood_that_is_no_number_ends_unconverged() -> None:
    def score(which: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        nan = torch.full((len(at),), float("nan"), dtype=torch.float64)
        return nan, torch.zeros_like(at), torch.eye(2).double().expand(len(at), 2, 2)

    found = climb(score, torch.zeros(3, 2, dtype=torch.float64), limits())
    assert not found.converged.any()


def test_no_problems_at_all() -> None:
    assert len(climb(exponential(TRUTH), torch.zeros(0, 2, dtype=torch.float64), limits()).at) == 0
