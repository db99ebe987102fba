"""How many emitters a stable mark needs: Jaccard and RMSE as they run along with the number of emitters."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from claims import Claim, Setting, figure_file, localized, record, simulated

from denseloc.evaluate.matching import match
from denseloc.experiment import Experiment
from denseloc.localize import Localizer
from denseloc.model_file import find_model

MODEL = "astigmatic-demo"
EMITTERS, ENOUGH, ORDERS, SIDE_PX = 60_000, 25_000, 200, 64


def run(setting: Setting) -> None:
    """Localize frames with many emitters and look how the marks settle, in many orders of the frames."""
    model = find_model(MODEL)
    per_frame = tallies(model.localizer, model.experiment)
    rng = np.random.default_rng(1)
    curves = np.stack([running(per_frame[rng.permutation(len(per_frame))]) for _ in range(ORDERS)])
    at = np.cumsum(per_frame[:, 0]).astype(int)
    emitters = np.linspace(500, EMITTERS, 120)
    grid = np.stack([[np.interp(emitters, curve[0], line) for line in curve[1:]] for curve in curves])
    middle, spread = grid.mean(0), 1.96 * grid.std(0) / grid.mean(0) * 100
    index = int(np.searchsorted(emitters, ENOUGH))
    deviation = {name: float(row[index]) for name, row in zip(("lateral", "axial", "jaccard"), spread, strict=True)}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for name, line, low, high in zip(
        ("lateral", "axial"), middle[:2], *np.quantile(grid, (0.025, 0.975), axis=0)[:, :2], strict=True
    ):
        axes[0].plot(emitters, line, label=f"{name} RMSE")
        axes[0].fill_between(emitters, low, high, alpha=0.25)
    axes[1].plot(emitters, middle[2], color="C2", label="Jaccard")
    axes[1].fill_between(emitters, *np.quantile(grid, (0.025, 0.975), axis=0)[:, 2], alpha=0.25, color="C2")
    for axis, label in zip(axes, ("nm", "Jaccard"), strict=True):
        axis.axvline(ENOUGH, color="0.6", lw=0.8)
        axis.set(xlabel="emitters", ylabel=label)
        axis.legend(frameon=False)
    figure.savefig(figure_file("stable"))
    text = ", ".join(f"{name} ±{value:.1f} %" for name, value in deviation.items())
    claim = Claim(
        "LUENN",
        "25 000 emitters are enough for stable marks",
        f"shipped model {MODEL} on {at[-1]} emitters of its own document, {ORDERS} random orders of the frames",
        f"95 % of the orders lie within {text} at {ENOUGH} emitters",
        "yes" if max(deviation.values()) < 2 else "in part",
        "stable is taken as within 2 %",
    )
    record(
        "stable",
        "How many emitters a mark needs",
        [claim],
        {"deviation_percent": deviation, "emitters": int(at[-1])},
        {"stable": "Running marks; bands hold 95 % of random orders of the frames."},
    )


def tallies(localizer: Localizer, document: Experiment) -> np.ndarray:
    """Give for each frame: true emitters, localizations, pairs, summed squares of lateral and of axial errors."""
    rows, total, seed = [], 0, 1
    while total < EMITTERS:
        drawn = simulated(document, 200, (SIDE_PX, SIDE_PX), seed, density_per_um2=0.5)
        found, truth = localized(localizer, drawn), drawn.truth
        pairs = match(found, truth, dimensions=3)
        lateral = pairs.difference("x_nm", found, truth) ** 2 + pairs.difference("y_nm", found, truth) ** 2
        axial = pairs.difference("z_nm", found, truth) ** 2
        frame = truth.frame[pairs.truth]
        count = [
            np.bincount(f, w, minlength=200)
            for f, w in ((truth.frame, None), (found.frame, None), (frame, None), (frame, lateral), (frame, axial))
        ]
        rows.append(np.stack(count, 1))
        total, seed = total + len(truth), seed + 1
    return np.concatenate(rows)


def running(rows: np.ndarray) -> np.ndarray:
    """Give (4, frames): emitters so far, lateral and axial RMSE, Jaccard."""
    true, found, paired, lateral, axial = np.cumsum(rows, 0).T
    n = np.maximum(paired, 1)
    return np.stack((true, np.sqrt(lateral / n), np.sqrt(axial / n), paired / np.maximum(1, true + found - paired)))
