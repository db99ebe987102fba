"""Levenberg-Marquardt on likelihoods, many small problems at once.

Each problem has its own damping; those that have converged leave the batch and waiting ones take their places. The Hessian is the Fisher
matrix (scoring), which is positive definite and whose inverse is the covariance in the end.

Source: Laurence and Chromy, Nature Methods 7 (2010) 338 (the Poisson deviance in place of the squares; they keep ``c / m^2`` in the Hessian
where its expectation ``1 / m`` stands here).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.damped_step import damped_step

Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(which (m,), parameters (m, p)) -> objective (m,), gradient of the log-likelihood (m, p), Fisher matrix (m, p, p)."""

FIRST_DAMPING, LARGEST_DAMPING = 1e-2, 1e8
SLACK = 1e-4  # rises of the objective that rounding may make


@dataclass(frozen=True)
class Limits:
    """Where the parameters may go; (p,) each.

    Args:
        low, high: bounds.
        stride: largest change in one step.
    """

    low: Tensor
    high: Tensor
    stride: Tensor


@dataclass(frozen=True)
class Climb:
    """Where the problems have ended.

    Args:
        at: (n, p) parameters.
        objective: (n,) half of the deviance, less a constant.
        fisher: (n, p, p).
        iterations: (n,) int64.
        converged: (n,) bool.
    """

    at: Tensor
    objective: Tensor
    fisher: Tensor
    iterations: Tensor
    converged: Tensor


def climb(
    score: Score,
    start: Tensor,
    limits: Limits,
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 50,
    batch: int = 512,
    kink: float = 0.0,
) -> Climb:
    """Find the maxima of likelihoods.

    Args:
        score: the problems.
        start: (n, p) float64.
        limits: where the parameters may go; one that is pressed against its bound stays there.
        tolerance: a problem has converged when the deviance cannot fall by more than this: its square root is the distance from the
            maximum in standard errors.
        max_iterations: evaluations of one problem.
        batch: problems worked on at once.
        kink: a problem has also converged if its last step has changed the objective by less than the tolerance and the next one promises
            less than this many times the tolerance, as at kinks of a PSF, where steps lead to and fro.
    """
    n, p = start.shape
    trial = torch.minimum(torch.maximum(start, limits.low), limits.high)
    at, gradient, fisher = trial.clone(), torch.zeros_like(trial), trial.new_zeros(n, p, p)
    objective, damping = trial.new_full((n,), float("inf")), trial.new_full((n,), FIRST_DAMPING)
    iterations = torch.zeros(n, dtype=torch.long, device=start.device)
    converged = torch.zeros(n, dtype=torch.bool, device=start.device)
    active, waiting = iterations[:0], 0
    while True:
        more = min(n - waiting, batch - len(active))
        active = torch.cat((active, torch.arange(waiting, waiting + more, device=start.device)))
        waiting += more
        if len(active) == 0:
            return Climb(at, objective, fisher, iterations, converged)
        value, slope, curvature = score(active, trial[active])
        better = value <= objective[active] + SLACK
        flat = (value - objective[active]).abs() < tolerance
        kept = active[better]
        at[kept], objective[kept], gradient[kept], fisher[kept] = trial[kept], value[better], slope[better], curvature[better]
        here, slope = at[active], gradient[active]
        damped = torch.where(better, 0.1 * damping[active], 10 * damping[active].clamp(min=FIRST_DAMPING))
        pressed = ((here <= limits.low) & (slope < 0)) | ((here >= limits.high) & (slope > 0))
        step, gain = damped_step(fisher[active], slope, damped, pressed)
        there = here + torch.minimum(torch.maximum(step, -limits.stride), limits.stride)
        there = torch.minimum(torch.maximum(there, limits.low), limits.high)
        stuck = torch.isnan(gain)
        damping[active] = torch.where(stuck, 100 * damped, damped)
        trial[active] = there
        iterations[active] += 1
        promised = gain * (1 + damped) < tolerance
        done = promised | (flat & (gain < kink * tolerance))
        ended = active[done]
        at[ended], converged[ended] = torch.where(promised[:, None], there, here)[done], True
        active = active[~(done | (iterations[active] >= max_iterations) | (damping[active] > LARGEST_DAMPING))]
