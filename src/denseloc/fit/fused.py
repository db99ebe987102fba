"""The whole fit of one spot after another, compiled: start, choice among starts, climb and agreement, without leaving the cache.

What it does is defined by `start`, `levenberg.climb` and `deviance`, which tests compare with it; here it is for aligned Gaussians and splines
on the CPU. Compiled code is kept beside this file and does not notice changes of the kernels that it takes in: `MADE_OF` changes with them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..kernels.damped_step.numba_cpu import solve
from ..kernels.spline_patch.numba_cpu import room
from ..kernels.spot_score.elementary import fast, merged, whole
from ..kernels.spot_score.numba_cpu import COUNT, DARK, THERE, line_room, load, run_length
from .fused_spot import DEPTH, LIGHT, Scratch, Shape, Task, draw, is_place, score
from .fused_verdict import add_likelihood, add_moments, invert
from .levenberg import FIRST_DAMPING, LARGEST_DAMPING, SLACK

MADE_OF = "00e10ae0471d"
"""Digest of the imported files: compiled code is kept until this file changes, and a test says when it must."""


class Bounds(NamedTuple):
    """(p,) each, as `levenberg.Limits`; ``least_photons`` and less count as no emitter."""

    low: np.ndarray
    high: np.ndarray
    stride: np.ndarray
    least_photons: float


class Starts(NamedTuple):
    """Where to begin: given coordinates (n, s, c), or with n = 0 `start.Masks` and depths (s,)."""

    places: np.ndarray
    masks: np.ndarray
    constants: np.ndarray
    reach_px: float
    depths: np.ndarray


class Ends(NamedTuple):
    """What is found.

    Args:
        at, objective, fisher, iterations, converged: the fields of `levenberg.Climb`.
        covariance: (n, p, p) as `fisher.invert` gives it.
        sums: (n, 4) log-likelihood, deviance, its expectation and its variance.
    """

    at: np.ndarray
    objective: np.ndarray
    fisher: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    covariance: np.ndarray
    sums: np.ndarray


# ------------------------------------------------------------------------------------------------------------------------- starts


@merged
def _by_moments(starts: Starts, k: int, scratch: Scratch, at: np.ndarray) -> None:
    """Write x and y as `start.by_moments` finds them with the k-th mask."""
    bright = total = along_x = along_y = 0.0
    for q in range(len(scratch.pixels)):
        light, there = scratch.pixels[q, LIGHT], scratch.pixels[q, THERE]
        n = whole = 0.0
        for i in range(np.uint64(len(light))):
            n, whole = n + there[i], whole + light[i]
        level = whole / max(n, 1.0)
        contrast, drawn, by_x, by_y = starts.masks[k, 0, q], starts.masks[k, 1, q], starts.masks[k, 2, q], starts.masks[k, 3, q]
        for i in range(np.uint64(len(light))):
            above = light[i] - level * there[i]
            bright, total = bright + above * contrast[i], total + above * drawn[i]
            along_x, along_y = along_x + above * by_x[i], along_y + above * by_y[i]
    scale, spare, spare_x, spare_y, middle_x, middle_y, column, row = starts.constants[k]
    bright *= scale
    total += bright * spare
    x, y = 2.0 * ((along_x + bright * spare_x) / total - middle_x), 2.0 * ((along_y + bright * spare_y) / total - middle_y)
    found = total > 0.0 and abs(x) < np.inf and abs(y) < np.inf
    at[0] = column + (min(max(x, -starts.reach_px), starts.reach_px) if found else 0.0)
    at[1] = row + (min(max(y, -starts.reach_px), starts.reach_px) if found else 0.0)


@merged
def _by_least_squares(shape: Shape, task: Task, scratch: Scratch, at: np.ndarray) -> None:
    """Write photons and backgrounds behind the coordinates, as `start.by_least_squares` finds them."""
    d, planes = len(at) - 1 - task.lights, len(scratch.pixels)
    sums = scratch.sums.reshape(scratch.sums.size)[: 3 * task.lights].reshape((task.lights, 3))  # pixels, light, fractions
    sums[:] = 0.0
    both = square = 0.0
    for q in range(planes):
        light, there = scratch.pixels[q, LIGHT], scratch.pixels[q, THERE]
        if is_place(at, d):
            draw(shape, at, task.third, q, 0, scratch)
        else:
            scratch.terms[0] = 0.0
        drawn = scratch.terms[0]
        n = whole = fraction = 0.0
        for i in range(np.uint64(len(light))):
            f = drawn[i] * there[i]
            n, whole, fraction = n + there[i], whole + light[i], fraction + f
            both, square = both + f * light[i], square + f * f
        own = sums[q if task.lights > 1 else 0]
        own[0], own[1], own[2] = own[0] + n, own[1] + whole, own[2] + fraction
    for k in range(task.lights):
        n = max(sums[k, 0], 1.0)
        both, square = both - sums[k, 1] * sums[k, 2] / n, square - sums[k, 2] * sums[k, 2] / n
    at[d] = max(both / max(square, 1e-12), 1.0)
    for k in range(task.lights):
        at[d + 1 + k] = max((sums[k, 1] - at[d] * sums[k, 2]) / max(sums[k, 0], 1.0), 0.0)


@merged
def _begin(
    shape: Shape,
    task: Task,
    starts: Starts,
    i: int,
    scratch: Scratch,
    begun: np.ndarray,
    gradient: np.ndarray,
    fisher: np.ndarray,
    order: np.ndarray,
    likely: np.ndarray,
) -> int:
    """Write all starts (s, p) of spot i, and in ``order`` (s,) which to follow; gives how many."""
    s, p = begun.shape
    d, given = p - 1 - task.lights, len(starts.places) > 0
    for k in range(s):
        if given:
            _copy(starts.places[i, k], begun[k, :d])
        else:
            _by_moments(starts, k, scratch, begun[k])
            begun[k, 2:d] = starts.depths[k] if task.third == DEPTH else 1.0
        _by_least_squares(shape, task, scratch, begun[k])
        order[k] = k
    if s <= task.tries:
        return s
    for k in range(s):
        likely[k] = score(shape, task, begun[k], scratch, gradient, fisher)
        likely[k] = likely[k] if likely[k] == likely[k] else np.inf
        m = k
        while m > 0 and likely[order[m - 1]] > likely[k]:
            order[m] = order[m - 1]
            m -= 1
        order[m] = k
    return task.tries


# -------------------------------------------------------------------------------------------------------------------------- climb


@merged
def _climb(
    shape: Shape,
    task: Task,
    bounds: Bounds,
    scratch: Scratch,
    start: np.ndarray,
    at: np.ndarray,
    fisher: np.ndarray,
    gradients: np.ndarray,
    curvature: np.ndarray,
    fixed: np.ndarray,
) -> tuple[float, int, bool]:
    """Do as `levenberg.climb` for one spot: write where it ends and the Fisher matrix; gives objective, iterations and convergence."""
    p = len(at)
    gradient, slope, trial, step = gradients[0], gradients[1], gradients[2], gradients[3]
    for k in range(p):
        trial[k] = min(max(start[k], bounds.low[k]), bounds.high[k])
    _copy(trial, at)
    gradient[:], fisher[:] = 0.0, 0.0
    objective, damping, iterations = np.inf, FIRST_DAMPING, 0
    while True:
        value = score(shape, task, trial, scratch, slope, curvature)
        if value <= objective + SLACK:
            _copy(trial, at)
            _copy(slope, gradient)
            _copy(curvature.reshape(p * p), fisher.reshape(p * p))
            objective, damping = value, 0.1 * damping
        else:
            damping = 10.0 * max(damping, FIRST_DAMPING)
        for k in range(p):
            fixed[k] = (at[k] <= bounds.low[k] and gradient[k] < 0.0) or (at[k] >= bounds.high[k] and gradient[k] > 0.0)
        gain = solve(fisher, gradient, damping, fixed, scratch.matrix, step)
        for k in range(p):
            there = at[k] + min(max(step[k], -bounds.stride[k]), bounds.stride[k])
            trial[k] = min(max(there, bounds.low[k]), bounds.high[k])
        iterations += 1
        if gain * (1.0 + damping) < task.tolerance:
            _copy(trial, at)
            return objective, iterations, True
        damping = damping if gain == gain else 100.0 * damping
        if iterations >= task.max_iterations or damping > LARGEST_DAMPING:
            return objective, iterations, False


@merged
def _is_inside(at: np.ndarray, d: int, bounds: Bounds) -> bool:
    """Whether coordinates and photons have kept off their bounds."""
    inside = at[d] > bounds.least_photons
    for k in range(d):
        inside = inside and bounds.low[k] < at[k] < bounds.high[k]
    return inside


# ---------------------------------------------------------------------------------------------------------------------- agreement


@merged
def _agreement(shape: Shape, task: Task, table: np.ndarray, at: np.ndarray, scratch: Scratch, out: np.ndarray) -> None:
    """Write the sums (4,) of the log-likelihood, the deviance and its `deviance.expected_moments` with its table, flat."""
    d = len(at) - 1 - task.lights
    out[:] = 0.0
    if not is_place(at, d):
        out[:] = math.nan
        return
    for q in range(len(scratch.pixels)):
        draw(shape, at, task.third, q, 0, scratch)
        bright, level = task.gain * at[d], task.gain * at[d + 1 + (q if task.lights > 1 else 0)]
        means, logs = scratch.work[0], scratch.work[1]
        out[0], out[1] = add_likelihood(scratch.pixels[q], scratch.terms[0], bright, level, means, logs, out[0], out[1])
        out[2], out[3] = add_moments(scratch.pixels[q], means, logs, table, task.is_amplified, out[2], out[3])


# --------------------------------------------------------------------------------------------------------------------------- whole


@whole
def fit(
    photons: np.ndarray,
    dark: np.ndarray,
    shape: Shape,
    task: Task,
    bounds: Bounds,
    starts: Starts,
    table: np.ndarray,
    begin: int,
    end: int,
    ends: Ends,
) -> None:
    """Fit windows ``begin`` to ``end`` of photons (n, planes, h, w), with dark counts (n or 1, planes, h, w); writes to ``ends``."""
    _, planes, h, w = photons.shape
    s, p = (starts.places.shape[1] if len(starts.places) else len(starts.depths)), ends.at.shape[1]
    run = run_length(h, w)
    scratch = Scratch(
        (h, w),
        np.zeros((planes, 4, run)),
        np.zeros((5, run)),
        np.empty((2, run)),
        np.empty((7, max(6, 3 * task.lights))),
        line_room(h, w),
        np.empty(4 * shape.size**2, shape.phases.values.dtype),
        room(shape.phases, max(shape.size, 1)),
        np.empty((p + 2, p)),
    )
    begun, gradients, curvature = np.empty((s, p)), np.empty((4, p)), np.empty((p, p))
    order, likely, fixed = np.empty(s, np.int64), np.empty(s), np.empty(p, np.bool_)
    at, fisher = np.empty(p), np.empty((p, p))
    for i in range(begin, end):
        _fit_one(
            photons,
            dark,
            shape,
            task,
            bounds,
            starts,
            table,
            i,
            scratch,
            begun,
            order,
            likely,
            gradients,
            curvature,
            fixed,
            at,
            fisher,
            ends,
        )


@fast
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    for k in range(np.uint64(len(target))):
        target[k] = source[k]


@fast
def _fit_one(
    photons: np.ndarray,
    dark: np.ndarray,
    shape: Shape,
    task: Task,
    bounds: Bounds,
    starts: Starts,
    table: np.ndarray,
    i: int,
    scratch: Scratch,
    begun: np.ndarray,
    order: np.ndarray,
    likely: np.ndarray,
    gradients: np.ndarray,
    curvature: np.ndarray,
    fixed: np.ndarray,
    at: np.ndarray,
    fisher: np.ndarray,
    ends: Ends,
) -> None:
    """Fit window i; what stands between ``scratch`` and ``ends`` is scratch too."""
    for q in range(photons.shape[1]):
        _load(photons[i, q], dark[i if len(dark) > 1 else 0, q], task.gain, scratch.pixels[q])
    followed = _begin(shape, task, starts, i, scratch, begun, gradients[0], curvature, order, likely)
    best, d = np.inf, len(at) - 1 - task.lights
    for k in range(followed):
        objective, iterations, converged = _climb(
            shape, task, bounds, scratch, begun[order[k]], at, fisher, gradients, curvature, fixed
        )
        rank = objective if converged and _is_inside(at, d, bounds) else objective + 1e12
        if k == 0 or rank < best:
            best = rank if rank == rank else np.inf
            _copy(at, ends.at[i])
            _copy(fisher.reshape(fisher.size), ends.fisher[i].reshape(fisher.size))
            ends.objective[i], ends.iterations[i], ends.converged[i] = objective, iterations, converged
    invert(ends.fisher[i], scratch.matrix, ends.covariance[i])
    _agreement(shape, task, table, ends.at[i], scratch, ends.sums[i])


@merged
def _load(photons: np.ndarray, dark: np.ndarray, gain: float, pixels: np.ndarray) -> None:
    """Write the pixels of a plane: counts, presence, dark counts and photons."""
    load(photons, dark, pixels)
    for i in range(np.uint64(pixels.shape[1])):
        light = pixels[COUNT, i]
        pixels[LIGHT, i] = light
        pixels[COUNT, i] = gain * light + pixels[DARK, i] * pixels[THERE, i]
