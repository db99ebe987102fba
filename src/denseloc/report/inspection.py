"""The page of an inspection: what a movie was taken under, what its file says, and where the two speak against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import __version__
from ..data import CONVENTIONS
from . import inspection_plates as plates
from .inspection_plates import Evidence
from .page import WORDS, document
from .rendering import rendered

__all__ = ["Evidence", "inspection_page"]

MAIN = (
    ("camera gain", "counts per photon"),
    ("camera offset", "camera offset"),
    ("camera excess noise", "excess noise (2: electrons multiplied)"),
    ("background", "background photons per pixel"),
    ("PSF width", "width of the PSF"),
    ("density", "emitters per µm² and frame"),
    ("photons of an emitter in a frame", "photons of an emitter"),
    ("lifetime of the on-state", "lifetime of the on-state"),
)
"""Facts that stand on top, and what they are called there."""
SHORT_UNITS = {
    "counts": "counts",
    "nm": "nm",
    "frames": "frames",
    "photons per pixel": "",
    "photons": "",
    "counts per photon": "",
}

Row = tuple[str, float, float, float, str, str]


def inspection_page(
    title: str,
    facts: Sequence[Row],
    said: Sequence[tuple[str, str, str]],
    contradictions: Sequence[str],
    notes: Sequence[str],
    evidence: Evidence,
    *,
    run: Mapping[str, str],
    section: Mapping[str, Any] | None,
) -> str:
    """Draw the report of an inspection as one HTML page without scripts that needs no network.

    Args:
        title: heading.
        facts: name, value, ends of the 95 % interval, unit, source.
        said: what metadata propose: quantity, value, place.
        contradictions: between metadata and counts, one line each.
        notes: what a reader should know besides.
        evidence: what is drawn.
        run: what was looked at, in the order to show.
        section: the experiment document, or None.
    """
    context: dict[str, Any] = {
        "title": title,
        "version": __version__,
        "tone": "warn" if contradictions else "good" if _checkable(said) else "unsure",
        "verdict": _verdict(len(contradictions), bool(said), _checkable(said)),
        "contradictions": list(contradictions),
        "notes": list(notes),
        "main": _main(facts),
        "facts": [
            (name, _word(value), _between(low, high), _raised(unit), source) for name, value, low, high, unit, source in facts
        ],
        "said": list(said),
        "camera": plates.of_camera(evidence),
        "background": plates.of_background(evidence),
        "molecules": plates.of_molecules(evidence),
        "run": run,
        "conventions": {WORDS.get(key, key): str(value) for key, value in CONVENTIONS.items()},
        "section": "" if section is None else document(section),
    }
    return rendered("inspection.html", context)


def _checkable(said: Sequence[tuple[str, str, str]]) -> bool:
    """Whether the file says something that counts can speak against."""
    return any(quantity in ("em gain", "electrons per count", "offset", "table of cameras") for quantity, _, _ in said)


def _verdict(n: int, said: bool, checkable: bool) -> str:
    if n:
        things = "One contradiction" if n == 1 else f"{n} contradictions"
        return f"{things} to resolve before you use these values"
    if not said:
        return "The file says nothing of its camera: all values are from the counts"
    return (
        "No contradiction between file and counts was found"
        if checkable
        else "The file says nothing of its camera that counts could check"
    )


def _word(value: float) -> str:
    """Write a value with four digits; large ones in full, with a real minus."""
    if not np.isfinite(value):
        return "∞"
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "\u2212")


def _raised(unit: str) -> str:
    return unit.replace("um^2", "µm²").replace("^2", "²")


def _short(value: float) -> str:
    return _word(float(f"{value:.3g}"))


def _between(low: float, high: float) -> str:
    return "" if low == high else f"{_word(low)} to {_word(high)}"


def _main(facts: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """Give the main numbers as (value, unit, what it is, interval)."""
    known = {row[0]: row for row in facts}
    chosen = [(known[name], words) for name, words in MAIN if name in known]
    return [
        (_short(value), SHORT_UNITS.get(unit, ""), words, "" if low == high else f"{_short(low)} to {_short(high)}")
        for (_, value, low, high, unit, _), words in chosen
    ]
