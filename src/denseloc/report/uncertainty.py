"""How far the sigmas of a table can be believed, as its model was checked on simulations."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from scipy.special import erf

from ..evaluate.coverage import LEAST_SAID, LEVELS, NOMINAL, Pulls, in_words, read_pulls
from .plates import BAND, BLUE, FAINT, INK, ORANGE, Plate, canvas, plate_of_figure
from .plots import LEGEND
from .summary import number

COLOURS = {"x_nm": BLUE, "y_nm": ORANGE, "z_nm": "#4b8b3b", "photons": FAINT}
BELIEVABLE = 0.05
"""Largest difference of a share from the right one at which sigma counts as right."""


def coverage_plate(settings: Mapping[str, Any] | None, columns: Container[str] | None = None) -> Plate | None:
    """Draw the share of errors within k sigma against that of honest sigmas; None where the table's model does not know it.

    Args:
        settings: of the table's provenance; ``uncertainty`` there is what the model says of itself.
        columns: of the table; sigmas that it does not have are left out. None shows all that the model knows.
    """
    known = (settings or {}).get("uncertainty")
    read = read_pulls(known.get("pulls")) if isinstance(known, Mapping) else {}
    pulls = {name: one for name, one in read.items() if one.n >= LEAST_SAID and (columns is None or f"sigma_{name}" in columns)}
    if not isinstance(known, Mapping) or not pulls:
        return None
    figure, axes = canvas()
    k = np.linspace(0, LEVELS[-1], 121)
    honest = erf(k / np.sqrt(2))
    axes.fill_between(k, honest - BELIEVABLE, np.minimum(honest + BELIEVABLE, 1), color=BAND, linewidth=0)
    axes.plot(k, honest, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="if right")
    for name, one in pulls.items():
        label = f"{short(name)}: pull sd {one.robust_sd:.2f}"
        axes.plot((0, *LEVELS), (0, *one.inside), color=COLOURS[name], linewidth=1.4, marker="o", markersize=3, label=label)
    axes.set(xlabel="sigmas", ylabel="share of errors within", xlim=(0, LEVELS[-1]), ylim=(0, 1.03))
    axes.legend(**LEGEND, loc="lower right")
    return plate_of_figure(
        figure, "Errors against sigma", f"Share of errors within 0.5 to 3 sigma: {in_words(pulls)}.", sentence(known, pulls)
    )


def sentence(known: Mapping[str, Any], pulls: Mapping[str, Pulls]) -> str:
    """Say in words what the curve shows."""
    frames = known.get("simulated_frames")
    where = f"On {number(frames)} simulated frames" if isinstance(frames, (int, float)) else "On simulated frames"
    one, two = (NOMINAL[LEVELS.index(level)] for level in (1.0, 2.0))
    worst = max(max(abs(p.within(1.0) - one), abs(p.within(2.0) - two)) for p in pulls.values())
    verdict = "sigma can be believed" if worst <= BELIEVABLE else f"sigma is off: shares differ by up to {100 * worst:.0f} %"
    first = "x_nm" if "x_nm" in pulls else next(iter(pulls))
    counted = f"{100 * pulls[first].within(1.0):.0f} % of the errors in {short(first)} lie within one sigma"
    done = known.get("correction")
    corrected = f" By the model's correction: {done[:200]}." if isinstance(done, str) else ""
    return (
        f"{where} of the model's own experiment {counted} ({100 * one:.0f} % if right): {verdict}.{corrected} "
        "For this movie it holds as far as the document describes it."
    )


def short(name: str) -> str:
    """Give the quantity without its unit."""
    return name.removesuffix("_nm")
