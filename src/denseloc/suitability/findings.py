"""What a check finds: one sentence each, how grave it is, and a verdict of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..description import Range

Grade = Literal["warn", "fail"]
Verdict = Literal["pass", "warn", "fail"]

ORDER = (
    "pixels",
    "full",
    "camera",
    "nothing",
    "density",
    "psf",
    "photons",
    "background",
    "depth",
    "residual",
    "sigma",
    "subpixel",
    "patches",
)
"""Topics from causes to symptoms; findings are told in this order."""
SYMPTOMS = ("residual", "sigma", "subpixel", "patches")
"""Topics that only say that something is wrong; they are left out where a cause is found."""
FOLLOWS = {
    "camera": ("photons", "background", "density", "psf"),
    "density": ("psf", "photons", "depth"),
    "psf": ("depth",),
    "nothing": ("density", "psf", "photons"),
}
"""Topics that a wrong camera or a crowd brings along; they are left out behind that."""
IN_WORDS = {"photons": "photons", "background": "background", "density": "density", "psf": "width of the images"}


@dataclass(frozen=True)
class Finding:
    """One thing that does not suit.

    Args:
        topic: one of `ORDER`.
        level: how grave.
        text: what was found, what was expected and what to do, in one sentence.
    """

    topic: str
    level: Grade
    text: str


@dataclass(frozen=True)
class Compared:
    """A number of the movie beside that of the drawn scenes.

    Args:
        name: in plain words.
        unit: of both.
        movie: what the movie shows.
        drawn: mean over the drawn scenes.
        spread: standard deviation over them, 0 for a single one.
        trained: (low, high) that the model was trained on, or None.
    """

    name: str
    unit: str
    movie: float
    drawn: float
    spread: float = 0.0
    trained: Range | None = None


@dataclass(frozen=True)
class Suitability:
    """Whether a model suits a movie.

    Args:
        findings: from causes to symptoms.
        compared: the numbers they rest on.
        told_apart: how well patches of the movie are told from drawn ones, and drawn ones from each other, by kind of patch.
        notes: what could not be looked at.
        quick: only a few frames were looked at.
    """

    findings: tuple[Finding, ...]
    compared: tuple[Compared, ...] = ()
    told_apart: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quick: bool = False

    @property
    def verdict(self) -> Verdict:
        """The gravest level; pass where nothing was found."""
        levels = {finding.level for finding in self.findings}
        return "fail" if "fail" in levels else "warn" if levels else "pass"

    @property
    def topics(self) -> frozenset[str]:
        """What was found something about."""
        return frozenset(finding.topic for finding in self.findings)

    @staticmethod
    def from_json(values: Any) -> Suitability | None:
        """Read it as it travels in tables; None where something else stands there."""
        try:
            return Suitability(
                tuple(Finding(**one) for one in values["findings"]),
                tuple(_compared(one) for one in values["compared"]),
                {kind: (float(mine), float(usual)) for kind, (mine, usual) in values["told_apart"].items()},
                tuple(str(note) for note in values["notes"]),
                bool(values["quick"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values; what was not measured is None."""
        values = {"verdict": self.verdict, **asdict(self)}
        return _plain(values)  # type: ignore[no-any-return]


def _compared(values: Mapping[str, Any]) -> Compared:
    numbers = {name: math.nan if values[name] is None else float(values[name]) for name in ("movie", "drawn", "spread")}
    limits = values["trained"]
    return Compared(
        str(values["name"]),
        str(values["unit"]),
        **numbers,
        trained=None if limits is None else (float(limits[0]), float(limits[1])),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def camera_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Put a doubt of the camera first, in place of all that follows from it, and say so; without one all stay as they are."""
    doubt = next((finding for finding in findings if finding.topic == "camera"), None)
    if doubt is None:
        return tuple(findings)
    brought = [topic for topic in FOLLOWS["camera"] if any(finding.topic == topic for finding in findings)]
    rest = [finding for finding in findings if finding is not doubt and finding.topic not in brought]
    return (replace(doubt, text=doubt.text + _what_follows(brought)), *rest)


def _what_follows(topics: Sequence[str]) -> str:
    """Say which levels look wrong because the camera is; nothing where none does."""
    if not topics:
        return ""
    *others, last = (IN_WORDS[topic] for topic in topics)
    named = f"{', '.join(others)} and {last}" if others else last
    return f"; put the camera right first, for what seems wrong with {named} follows from it"


def sorted_out(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Order findings from causes to symptoms, one of a topic, and leave out what only follows from another."""
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda one: (ORDER.index(one.topic), one.level != "fail")):
        first.setdefault(finding.topic, finding)
    hidden = {topic for cause, topics in FOLLOWS.items() if cause in first for topic in topics}
    causes = [topic for topic in first if topic not in SYMPTOMS]
    if causes:
        hidden |= set(SYMPTOMS)
    if "camera" in first:
        first["camera"] = camera_first(list(first.values()))[0]
    return tuple(finding for topic, finding in first.items() if topic not in hidden)
