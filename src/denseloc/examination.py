"""A movie that was made ready, checked against its model: `suitability` with what `preparation` has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .data import Movie
from .errors import MovieError
from .preparation import Preparation
from .suitability import Checked, Setup, Suitability, camera_first, check


def examine(movie: Movie, ready: Preparation, *, quick: bool = False, progress: Callable[[str], None] = lambda _: None) -> Checked:
    """Compare a movie with scenes drawn from the document of its model.

    Args:
        movie: counts, as given to `prepare`.
        ready: what was found there.
        quick: look at few frames only.
        progress: told what is going on.

    Raises:
        MovieError: the movie cannot be judged: too short, dark, full.
    """
    experiment = ready.model.experiment
    scale = ready.conditions.width_px / experiment.width_px() if experiment.serves_many else 1.0
    setup = Setup(ready.model.localizer, experiment, ready.camera, ready.conditions, ready.pixel_size_nm, ready.background, scale)
    camera = str(ready.camera_json.get("source"))
    return check(movie, setup, ready.measured, outside=tuple(ready.outside), camera_from=camera, quick=quick, progress=progress)


def glance(movie: Movie, ready: Preparation) -> Suitability | None:
    """Look at few frames before a movie is localized; None where that says nothing: no trained model, or frames that cannot be judged."""
    if not ready.model.experiment.localizer.needs_training:
        return None
    try:
        return examine(movie, ready, quick=True).suitability
    except MovieError:  # the run itself says what is wrong with the movie
        return None


def with_findings(ready: Preparation, seen: Suitability) -> Preparation:
    """Put what a glance has found in place of what the pixels alone say of the same, which it has weighed."""
    weighed = {finding.text for finding in camera_first(ready.outside)}
    kept = [text for text in ready.warnings if text not in weighed]
    return replace(ready, warnings=[*kept, *(finding.text for finding in seen.findings)])
