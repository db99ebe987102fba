"""Can patches of the movie be told from patches of drawn scenes? A classifier tries; its score on patches it has not seen is the answer.

Logistic regression with a ridge on a few numbers of each patch and their squares. 0.5: no better than guessing; 1: always told apart.

Source: D. Lopez-Paz, M. Oquab, Revisiting classifier two-sample tests, ICLR 2017 (the idea).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from .views import UNSEEN, View

HALF = 3
MOST = 1500
RIDGE = 3.0  # in units of patches
STEPS = 12
FOLDS = 4
LEAST = 40  # patches a side
LIMIT = 5.0  # numbers farther out than this many standard deviations are drawn in


def auc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Give the chance that a positive scores higher than a negative."""
    n, ranks = int(is_positive.sum()), rankdata(scores)
    return float((ranks[is_positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def fit_logistic(features: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """Fit weights (features + 1,) by Newton steps; both classes count alike."""
    design = np.concatenate([features, np.ones((len(features), 1))], 1)
    share = is_positive.mean()
    weight = np.where(is_positive, 0.5 / share, 0.5 / (1 - share))
    penalty = np.r_[np.full(features.shape[1], RIDGE), 1e-6]
    beta = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = expit(design @ beta)
        gradient = design.T @ (weight * (p - is_positive)) + penalty * beta
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        beta = beta - np.linalg.solve(curvature, gradient)
    return beta


def told_apart(mine: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> float:
    """Give how well two samples are told apart: the mean of `auc` over parts that had no share in the fit.

    Args:
        mine, theirs: features (n, k), and the window (n,) of each; the windows of one part are all held out together.

    Returns:
        0.5 for equal samples; NaN where one is too small.
    """
    if min(len(mine[0]), len(theirs[0])) < LEAST:
        return float("nan")
    features = np.concatenate([mine[0], theirs[0]])
    is_mine = np.arange(len(features)) < len(mine[0])
    part = np.concatenate([mine[1], theirs[1]]) % FOLDS
    middle, spread = np.median(features, 0), features.std(0) + 1e-9
    scaled = np.clip((features - middle) / spread, -LIMIT, LIMIT)
    scaled = np.concatenate([scaled, scaled**2 - (scaled**2).mean(0)], 1)
    scaled /= scaled.std(0) + 1e-9
    scores = []
    for held in range(FOLDS):
        out = part == held
        if min(is_mine[out].sum(), (~is_mine[out]).sum(), is_mine[~out].sum(), (~is_mine[~out]).sum()) < LEAST // FOLDS:
            continue
        beta = fit_logistic(scaled[~out], is_mine[~out])
        scores.append(auc(scaled[out] @ beta[:-1], is_mine[out]))
    return float(np.mean(scores)) if scores else float("nan")


def patches_of_molecules(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Give numbers of the patches around localizations, (n, k), and their windows (n,).

    They speak of the shape of the light and of what the model leaves over, not of how bright molecules are.
    """
    table = view.clear
    table = table.select(np.arange(0, len(table), max(1, -(-len(table) // MOST))))
    frame = table.frame
    row, column = ((v / p).astype(int) for v, p in zip((table.y_nm, table.x_nm), view.pixel_size_nm, strict=True))
    rows, columns = (np.clip(v, HALF, side - 1 - HALF) for v, side in zip((row, column), view.scene.shape_px, strict=True))
    level = view.expected - view.light
    light = _patches((view.photons - level)[:, 0], frame, rows, columns)
    model = _patches(view.light[:, 0], frame, rows, columns)
    left = _patches(view.residual[:, 0], frame, rows, columns)
    step = np.arange(-HALF, HALF + 1)
    radius = np.hypot(step, step[:, None])
    rings = [(radius >= low) & (radius < high) for low, high in ((0, 1.2), (1.2, 2.2), (2.2, 3.2), (3.2, 5))]
    total = np.maximum(model.sum((1, 2)), 1.0)
    shape = [(light[:, ring].sum(1) - model[:, ring].sum(1)) / total for ring in rings]
    spread = [
        ((light - model) * v).sum((1, 2)) / total
        for v in (step**2 * np.ones((7, 1)), step[:, None] ** 2 * np.ones(7), step * step[:, None])
    ]
    chi2 = [np.log1p((left[:, ring] ** 2).mean(1)) for ring in rings]
    mean = [left[:, ring].mean(1) for ring in rings]
    rough = np.log1p((np.diff(left, axis=1) ** 2).mean((1, 2)) + (np.diff(left, axis=2) ** 2).mean((1, 2)))
    return np.stack([*shape, *spread, *chi2, *mean, rough], 1).astype(float), frame // view.scene.inner.shape[1]


def patches_elsewhere(view: View, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Give numbers of patches where the model sees no molecule, (n, k), and their windows (n,)."""
    dark = view.inside((view.light < UNSEEN * np.sqrt(view.variance))[:, 0])
    frame, row, column = np.nonzero(dark)
    chosen = np.sort(generator.choice(len(frame), min(MOST, len(frame)), replace=False)) if len(frame) else np.empty(0, int)
    frame, row, column = (v[chosen] for v in (frame, row, column))
    rows, columns = (
        np.clip(v + view.rim_px, HALF, side - 1 - HALF) for v, side in zip((row, column), view.scene.shape_px, strict=True)
    )
    left = _patches(view.residual[:, 0], frame, rows, columns)
    level = left.mean((1, 2))
    ordered = np.sort(left.reshape(len(left), (2 * HALF + 1) ** 2), 1)
    across, down = (left[:, :, 1:] * left[:, :, :-1]).mean((1, 2)), (left[:, 1:] * left[:, :-1]).mean((1, 2))
    numbers = [
        level,
        np.log1p(left.var((1, 2))),
        across,
        down,
        np.log1p(ordered[:, -1].clip(min=0)),
        ordered[:, 0],
        np.log1p(ordered[:, -5].clip(min=0)),
    ]
    return np.stack(numbers, 1).astype(float), frame // view.scene.inner.shape[1]


def _patches(frames: np.ndarray, frame: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Cut (n, 7, 7) patches out of (frames, y, x)."""
    step = np.arange(-HALF, HALF + 1)
    return frames[frame[:, None, None], rows[:, None, None] + step[:, None], columns[:, None, None] + step]
