"""The page of a calibration: what was done, how well the PSF describes its beads, and how far it is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import __version__
from ..calibrate.judge import Judgement
from ..calibrate.psf_fit import PSFFit
from ..data import CONVENTIONS
from . import bead_plates
from .page import WORDS, document
from .plates import Plate
from .rendering import rendered
from .summary import number

MOST_BEADS = 24
"""Beads with a panel of their own; of more, those with the largest chi2."""


def calibration_page(
    found: PSFFit,
    judgement: Judgement,
    *,
    run: Mapping[str, str],
    held_out: str | None = None,
    title: str | None = None,
) -> str:
    """Draw the report of a calibration as one HTML page without scripts that needs no network.

    Args:
        found: the fit.
        judgement: what it is worth.
        run: what was done, in the order to show.
        held_out: what was held out to judge on, in words.
        title: heading; None names the stacks.
    """
    names = ", ".join(stack.name for stack in found.stacks)
    rejected = [(i + 1, found.stacks[b.stack].name, b.row, b.column, b.reason) for i, b in enumerate(found.beads) if b.reason]
    residuals = bead_plates.Residuals.of(found)
    context: dict[str, Any] = {
        "title": title or f"PSF of {names}",
        "version": __version__,
        "tone": "warn" if judgement.warnings else "good",
        "verdict": _verdict(judgement),
        "warnings": list(judgement.warnings),
        "notes": _notes(found, held_out),
        "facts": _facts(found, judgement),
        "montages": [bead_plates.montage(found, residuals, plane) for plane in range(found.build().planes)],
        "curves": [
            bead_plates.errors(judgement, "held-out beads" if held_out else "beads"),
            bead_plates.bounds(found, judgement),
            bead_plates.wobble(judgement),
        ],
        "panels": _panels(found, residuals),
        "fields": [bead_plates.field(found, stack) for stack in range(len(found.stacks))],
        "several": len(found.stacks) > 1,
        "rejected": rejected,
        "run": run,
        "conventions": {WORDS.get(key, key): str(value) for key, value in CONVENTIONS.items()},
        "section": document(found.psf.model_dump(mode="json", exclude_none=True)),
    }
    return rendered("calibration.html", context)


def _verdict(judgement: Judgement) -> str:
    n = len(judgement.warnings)
    if not n:
        return "Nothing suspicious was found"
    return "One thing to look at before you use this PSF" if n == 1 else f"{n} things to look at before you use this PSF"


def _notes(found: PSFFit, held_out: str | None) -> list[str]:
    """Say what the numbers rest on."""
    notes = []
    if held_out:
        notes.append(f"Errors, usable range and chi2 are those of a PSF {held_out}; the PSF in the file was fitted to all of them.")
    else:
        notes.append(
            "Errors are those of the beads to which the PSF was fitted, and look somewhat smaller than they are; held_out (--held-out) judges on "
            "beads or planes that the fit has not seen."
        )
    if len(found.used) > MOST_BEADS:
        notes.append(f"Panels are drawn for the {MOST_BEADS} of {len(found.used)} beads with the largest chi2.")
    return notes


def _facts(found: PSFFit, judgement: Judgement) -> list[tuple[str, str, str]]:
    """Give the main numbers as (value, unit, what it is)."""
    low, high = (f"{value:.0f}".replace("-", "\u2212") for value in judgement.usable_nm)
    facts = [
        (f"{len(found.used)} of {len(found.beads)}", "", "beads used"),
        (number(float(np.median(found.photons))), "", "photons of a bead (median)"),
        (f"{judgement.chi2:.2f}", "", "chi2 per pixel (1 is ideal)"),
        (f"{low} to {high}", "nm", "usable range of z"),
    ]
    known = judgement.z_rmse_and_bound_nm
    if known is not None:
        facts += [(f"{known[0]:.1f}", "nm", "error of the beads' z (RMSE)"), (f"{known[1]:.1f}", "nm", "its bound (CRLB)")]
    facts.append((f"{np.abs(judgement.wobble_nm[judgement.usable]).max(initial=0.0):.0f}", "nm", "lateral wobble, at most"))
    return facts


def _panels(found: PSFFit, residuals: bead_plates.Residuals) -> list[Plate]:
    """Draw each used bead, under its number on the map."""
    numbers = [i + 1 for i, bead in enumerate(found.beads) if bead.reason is None]
    shown = np.sort(np.argsort(-found.chi2_of_beads)[:MOST_BEADS])
    return [bead_plates.bead_panel(found, residuals, int(i), f"Bead {numbers[i]}") for i in shown]
