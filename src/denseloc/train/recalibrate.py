"""Count on simulations how far a localizer's uncertainties are right, and find the curves that put them right.

Frames are drawn from the localizer's own document, some to fit the correction, others to check it. Each sigma gets the factors at which the
shares of errors within one and two sigmas come nearest to those of a normal law, by sigma and by probability in turn; probabilities get the
share that is real.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data import Frames, Localizations
from ..evaluate.colours import ColourConfusion, colour_confusion
from ..evaluate.coverage import SIGMAS, Coverage, coverage, pulls_of
from ..evaluate.matching import Pairs, match
from ..localize import Batch, InputConditions, Localizer, TrainableLocalizer
from ..localize.correction import LEVEL, STRONGEST, Correction, Curve, SigmaCorrection, logit, unit_of
from .simulate import Simulator
from .validate import as_table

ENOUGH_PAIRS = 12000
"""Pairs after which no more frames are drawn: a share of 0.68 is known to 0.005 then, in each of five groups to 0.01."""
LEAST_PAIRS = 400
"""Fewer pairs say too little to correct anything by."""
MOST_BATCHES, WINDOWS = 60, 16
HELD_OUT = 1000
"""Added to the seed of the training for frames that it never saw."""
SIGMA_KNOTS, PROBABILITY_KNOTS, SHARE_KNOTS = 5, 4, 8
FACTORS = np.geomspace(1 / STRONGEST, STRONGEST, 241)
NOMINAL_1, NOMINAL_2 = math.erf(1 / math.sqrt(2)), math.erf(2 / math.sqrt(2))
LOWEST = 0.1  # own probability from which on localizations take part in the calibration of probabilities
FAINTEST = 0.02  # own probability below which nothing is ever reported


@dataclass(frozen=True, eq=False)
class Trial:
    """Localizations of simulated frames with their truth; frames of all batches count on.

    Args:
        table: as the network gives it, uncorrected, from `LOWEST` on.
        truth: the emitters.
        least: the network's own probability from which on it reports a localization.
        frames: number of frames.
        three: whether pairs are sought in 3D.
    """

    table: Localizations
    truth: Localizations
    least: float
    frames: int
    three: bool

    def reported(self) -> tuple[Localizations, Pairs]:
        """Give the localizations that are reported, and their pairs."""
        table = self.table.select(self.table.probability > self.least) if "probability" in self.table else self.table
        return table, match(table, self.truth, dimensions=3 if self.three else 2)


@dataclass(frozen=True)
class Recalibration:
    """What was counted and what puts it right.

    Args:
        correction: None where there were too few pairs to find one.
        before, after: coverage without and with the correction, on the frames that had no part in it.
        frames: simulated, for the fit and for the check.
        colours: who is taken for whom in the check, None for one colour.
    """

    correction: Correction | None
    before: Coverage
    after: Coverage
    frames: tuple[int, int]
    colours: ColourConfusion | None = None

    def to_json(self) -> dict[str, Any]:
        """Give what a training record keeps."""
        words = None if self.correction is None else self.correction.describe()
        values = {
            "frames_fitted": self.frames[0],
            "frames_checked": self.frames[1],
            "correction": words,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }
        return values if self.colours is None else {**values, "colours": self.colours.to_json()}


def recalibrate(
    localizer: Localizer,
    simulator: Simulator,
    seed: int,
    *,
    batches: int = MOST_BATCHES,
    report: Callable[[int, int], None] = lambda done, n: None,
) -> Recalibration:
    """Find what puts the uncertainties of a localizer right, and check it on other frames.

    Args:
        localizer: a network where it stands, or a method without training; it is left as it was, the correction is not put on.
        simulator: draws the frames, on the localizer's device.
        seed: equal seeds give equal frames; another one than that of the training.
        batches: most batches of `WINDOWS` windows for the fit, and again for the check.
        report: told batches done and planned.
    """
    kept = localizer.correction, localizer.threshold, localizer.training
    told = localizer.conditions
    device = next((weight.device for weight in localizer.parameters()), torch.device("cpu"))
    localizer.correction, localizer.threshold = None, None
    localizer.eval()
    try:
        fitted, checked = (
            draw_trial(
                localizer,
                simulator,
                torch.Generator(device).manual_seed(seed + part),
                batches,
                lambda n, part=part: report(part * batches + n, 2 * batches),  # type: ignore[misc]
            )
            for part in (0, 1)
        )
    finally:
        localizer.correction, localizer.threshold = kept[:2]
        localizer.conditions = told
        localizer.train(kept[2])
    size = localizer.scales.pixel_size_nm
    correction = fit_correction(fitted, size)
    table, pairs = checked.reported()
    before = coverage(table, checked.truth, pairs)
    after = before if correction is None else coverage(correction.apply(table, size), checked.truth, pairs)
    colours = colour_confusion(table, checked.truth, pairs)
    return Recalibration(correction, before, after, (fitted.frames, checked.frames), colours)


@torch.no_grad()
def draw_trial(
    localizer: Localizer,
    simulator: Simulator,
    generator: torch.Generator,
    batches: int,
    report: Callable[[int], None] = lambda n: None,
) -> Trial:
    """Simulate and localize until there are `ENOUGH_PAIRS` emitters, or so many batches."""
    least = float(getattr(localizer, "least_probability", 0.0))
    tables, truths, frames, emitters = [], [], 0, 0
    localizer.threshold = min(LOWEST, least) if least else None
    for n in range(batches):
        batch = simulator.draw(WINDOWS, generator)
        truth = as_table(batch.emitters)
        if isinstance(localizer, TrainableLocalizer):
            table = localizer.localize_batch(batch)
        else:
            table = localize_windows(localizer, batch)
        tables.append(table.with_columns(frame=table.frame + frames))
        truths.append(truth.with_columns(frame=truth.frame + frames))
        frames, emitters = frames + len(batch.background), emitters + len(truth)
        report(n + 1)
        if emitters >= ENOUGH_PAIRS:
            break
    localizer.threshold = None
    telling = [table for table in tables if len(table)] or tables
    table = Localizations.concat(telling)
    three = localizer.scales.z_unit_nm > 0 and table.is_3d
    return Trial(table, Localizations.concat(truths), least, frames, three)


def localize_windows(localizer: Localizer, batch: Batch) -> Localizations:
    """Localize the frames of a batch by a method that looks at each alone, window by window as a movie; frames count on."""
    tables, size = [], localizer.scales.pixel_size_nm
    for i, (photons, row) in enumerate(zip(batch.photons, batch.conditions.tolist(), strict=True)):
        localizer.conditions = InputConditions(*row)
        tables.append(localizer(Frames(photons, size, first_frame=i * len(photons))))
    return Localizations.concat([table for table in tables if len(table)] or tables[:1])


def fit_correction(trial: Trial, pixel_size_nm: tuple[float, float]) -> Correction | None:
    """Find the correction that a trial asks for; None where it has fewer than `LEAST_PAIRS` pairs."""
    table, pairs = trial.reported()
    if len(pairs) < LEAST_PAIRS:
        return None
    own = logit(table.probability[pairs.table].astype(np.float64)) if "probability" in table else None
    sigmas = {}
    for name, column in SIGMAS.items():
        if name not in table or column not in table:
            continue
        pulls = pulls_of(table, trial.truth, pairs, name)
        good = np.isfinite(pulls)
        if good.sum() < LEAST_PAIRS:
            continue
        sigma = table.columns[column][pairs.table].astype(np.float64) / unit_of(column, pixel_size_nm)
        sigmas[column] = fit_sigma(pulls[good], np.log(sigma[good]), None if own is None else own[good])
    shares = _fit_probability(trial, table, pairs) if own is not None else None
    return Correction(sigmas, shares)


def fit_sigma(pulls: np.ndarray, log_sigma: np.ndarray, own: np.ndarray | None = None) -> SigmaCorrection:
    """Find the factors on one sigma, by sigma and by probability in turn.

    Args:
        pulls: (n,) errors over the sigma as it is.
        log_sigma: (n,) its logarithm, in the units of `unit_of`.
        own: (n,) logit of the network's own probability, or None.
    """
    size = np.abs(pulls)
    by_probability = LEVEL
    by_sigma = _by_sigma(size, log_sigma)
    for _ in range(3 if own is not None else 0):
        assert own is not None
        by_probability = _falling(_factors(size / np.exp(by_sigma(log_sigma)), own, PROBABILITY_KNOTS))
        by_sigma = _by_sigma(size / np.exp(by_probability(own)), log_sigma)
    return SigmaCorrection(by_sigma, by_probability)


def _by_sigma(size: np.ndarray, log_sigma: np.ndarray) -> Curve:
    """Find factors by sigma under which sigmas keep their order."""
    at, bend, n = _factors(size, log_sigma, SIGMA_KNOTS)
    return _curve(at, rising(at + bend, n) - at)


def _falling(factors: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Curve:
    """Find factors that do not grow with probability."""
    at, bend, n = factors
    return _curve(at, -rising(-bend, n))


def _factors(size: np.ndarray, by: np.ndarray, knots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give places, log factors and numbers of pairs of groups of about equal size."""
    at, bend, n = [], [], []
    for here in groups(by, knots):
        at.append(float(np.mean(by[here])))
        bend.append(math.log(best_factor(size[here])))
        n.append(len(here))
    return np.array(at), np.array(bend), np.array(n, float)


def best_factor(size: np.ndarray) -> float:
    """Find the factor on sigma that brings the shares of pulls (n,), without sign, within 1 and 2 nearest to those of a normal law."""
    ordered = np.sort(size)
    one, two = (np.searchsorted(ordered, k * FACTORS) / len(ordered) for k in (1, 2))
    return float(FACTORS[np.argmin((one - NOMINAL_1) ** 2 + (two - NOMINAL_2) ** 2)])


def _fit_probability(trial: Trial, table: Localizations, pairs: Pairs) -> Curve | None:
    """Find the share that is real by the network's own probability.

    Fainter localizations, which only a low threshold shows, are paired with the emitters that are left over.
    """
    taken = np.zeros(len(table), bool)
    taken[pairs.table] = True
    rest = np.ones(len(trial.truth), bool)
    rest[pairs.truth] = False
    faint = trial.table.select(trial.table.probability <= trial.least)
    more = np.zeros(len(faint), bool)
    more[match(faint, trial.truth.select(rest), dimensions=3 if trial.three else 2).table] = True
    p = np.concatenate([faint.probability, table.probability]).astype(np.float64)
    return fit_shares(logit(p), np.concatenate([more, taken]))


def fit_shares(own: np.ndarray, real: np.ndarray) -> Curve:
    """Find a rising curve from logits (n,) to the logit of the share of real ones (n,) bool."""
    at, value, n = [], [], []
    for here in groups(own, SHARE_KNOTS):
        at.append(float(np.mean(own[here])))
        value.append((float(real[here].sum()) + 0.5) / (len(here) + 1))
        n.append(len(here))
    shares = logit(rising(np.array(value), np.array(n, float)))
    faint = float(logit(np.array(FAINTEST)))
    if at[0] > faint + 0.1:
        at, shares = [faint, *at], np.append(shares[0] - (at[0] - faint), shares)
    return _curve(np.array(at), shares + 2e-3 * np.arange(len(shares)))


def groups(values: np.ndarray, n: int) -> list[np.ndarray]:
    """Part values into up to n groups of rows, rising and of about equal size; equal values stay together."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, n + 1)[1:-1]))
    which = np.searchsorted(edges, values, side="right")
    parts = [np.flatnonzero(which == i) for i in range(len(edges) + 1)]
    parts = [part for part in parts if len(part) >= LEAST_PAIRS // (2 * n)]
    centres = [float(np.mean(values[part])) for part in parts]
    return [part for i, part in enumerate(parts) if i == 0 or centres[i] > centres[i - 1] + 1e-2] or [np.arange(len(values))]


def rising(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Give the nearest values that do not fall, in the sense of weighted least squares, by pooling neighbours.

    Source: Barlow et al., "Statistical inference under order restrictions" (1972), section 1.2.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, length = value, weight, 1
        while pools and pools[-1][0] > mean:
            before = pools.pop()
            mean = (before[0] * before[1] + mean * mass) / (before[1] + mass)
            mass, length = mass + before[1], length + before[2]
        pools.append((mean, mass, length))
    return np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])


def _curve(at: np.ndarray | Sequence[float], value: np.ndarray) -> Curve:
    """Make a curve with the digits that a file keeps."""
    return Curve(tuple(round(float(v), 4) for v in at), tuple(round(float(v), 4) for v in value))
