"""The check itself: a scene of the movie, scenes drawn from the document at its level, what the model makes of both, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..calibrate.conditions import Conditions
from ..data import Movie
from .findings import Compared, Finding, Suitability, sorted_out
from .judging import Evidence, Width, is_suspect, judge
from .numbers import numbers
from .psf_shape import shape_changes
from .ranges import trained
from .reference import Circumstances, drawn, first_level, matched
from .scenes import FULL_SIZE, QUICK_SIZE, Setup, movie_scene
from .two_sample import patches_elsewhere, patches_of_molecules, told_apart
from .views import View, look

SEED = 0
TRIAL = 1.15  # width over that of the document at which the answer of the fit to a wider PSF is measured
WIDEST = (0.4, 2.5)
LEAST_ANSWER = 0.15  # part of a change of the width that the fit shows at least
SHOWN = (
    ("density_per_um2", "emitters found", "per µm²"),
    ("photons", "photons of a localization", ""),
    ("background", "background as the model sees it", "photons per pixel"),
    ("z_nm", "depth", "nm"),
    ("sigma_x_nm", "sigma in x", "nm"),
    ("sigma_y_nm", "sigma in y", "nm"),
    ("sigma_z_nm", "sigma in z", "nm"),
    ("probability", "probability of a localization", ""),
    ("noise", "variance of the noise over that of the camera", ""),
    ("wider", "images wider than the PSF (fraction)", ""),
    ("stretched", "images longer along x than along y (fraction)", ""),
    ("sheared", "images longer along one diagonal (fraction)", ""),
    ("brighter", "brighter than the model says (fraction)", ""),
    ("chi2_spot", "chi2 of clear molecules", ""),
    ("chi2_lit", "chi2 where light is", ""),
    ("chi2_dark", "chi2 elsewhere", ""),
    ("correlation", "correlation of neighbouring residuals", ""),
    ("subpixel_x", "unevenness inside of the pixel, x", ""),
    ("subpixel_y", "unevenness inside of the pixel, y", ""),
)
"""Numbers that are shown: key, words, unit."""


@dataclass(frozen=True, eq=False)
class Checked:
    """A check with what a page draws of it.

    Args:
        suitability: findings and verdict.
        evidence: None where the check ended before there was any.
    """

    suitability: Suitability
    evidence: Evidence | None = None


def check(
    movie: Movie,
    setup: Setup,
    measured: Conditions,
    *,
    outside: tuple[Finding, ...] = (),
    camera_from: str = "given",
    quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Checked:
    """Compare a movie with scenes drawn from the document of a model.

    Args:
        movie: counts.
        setup: model, camera, what the model is told.
        measured: conditions of the movie, as its pixels show them.
        outside: what these say already, see `outside_of_training`.
        camera_from: where the camera comes from: "given", "measured" in this movie, or what says it.
        quick: look at few frames, without the classifier.
        progress: told what is going on.

    Raises:
        MovieError: the movie cannot be judged: too short, dark, full.
    """
    size, generator = QUICK_SIZE if quick else FULL_SIZE, torch.Generator().manual_seed(SEED)
    progress("looking at the movie")
    view = look(movie_scene(movie, setup, size, measured.saturation_counts), setup)
    progress("drawing scenes from the model's document")
    level = matched(view, setup, generator, max(3, size.windows // 3)) if len(view.counted) else first_level(view)
    scenes = (
        [look(drawn(view, view.scene, level, setup, generator), setup) for _ in range(size.references)] if len(view.counted) else []
    )
    mine, theirs = numbers(view, setup)[0], [numbers(one, setup)[0] for one in scenes]
    evidence = Evidence(
        view, scenes, level, trained(setup.experiment, setup.pixel_size_nm), mine, theirs, outside, camera_from=camera_from
    )
    if not quick and "photons" in view.table:
        progress("telling patches apart")
        evidence = replace(evidence, told_apart=_told_apart(view, scenes))
    if is_suspect(evidence):
        evidence = replace(evidence, width=_width(view, level, setup, evidence, generator, thorough=not quick))
    findings = sorted_out(judge(evidence))
    return Checked(Suitability(findings, _compared(evidence), evidence.told_apart, _notes(view), quick), evidence)


def _told_apart(view: View, scenes: list[View]) -> dict[str, tuple[float, float]]:
    """Score patches of the movie against drawn ones, and drawn ones against each other; kinds of which there are too few are left out."""
    if len(scenes) < 2:
        return {}
    chance = np.random.default_rng(SEED)
    found = {}
    for kind, patches in (("around molecules", patches_of_molecules), ("elsewhere", lambda one: patches_elsewhere(one, chance))):
        mine, *theirs = (patches(one) for one in (view, *scenes))  # type: ignore[operator]
        against = [told_apart(mine, one) for one in theirs]
        among = [told_apart(one, other) for i, one in enumerate(theirs) for other in theirs[i + 1 :]]
        if np.isfinite(against).any() and np.isfinite(among).any():
            found[kind] = float(np.nanmean(against)), float(np.nanmean(among))
    return found


def _width(
    view: View, level: Circumstances, setup: Setup, evidence: Evidence, generator: torch.Generator, *, thorough: bool
) -> Width | None:
    """Find by how much a wider or narrower PSF explains the images, from scenes drawn with one; None where too few molecules stand clear."""
    mine, usual = evidence.both("wider")
    trial = TRIAL if mine > usual else 1 / TRIAL

    def redrawn(factor: float) -> View:
        """Draw with another width, and look at it with the document's."""
        return look(drawn(view, view.scene, level, replace(setup, scale=setup.scale * factor), generator), setup)

    answer, answer_error = (float(v) for v in shape_changes(redrawn(trial), setup).middle()[0])
    found = width_of((mine, usual, answer), (*evidence.errors("wider"), answer_error), trial)
    if found is None or not thorough:
        return found
    return replace(found, chi2=numbers(redrawn(found.factor), setup)[0]["chi2_spot"])


def width_of(seen: tuple[float, float, float], errors: tuple[float, float, float], trial: float) -> Width | None:
    """Give the width that explains what the movie shows, along a straight line between two widths that were drawn; None without numbers.

    With m of the movie, u of the document's width and a of a trial wider by ``exp(t)``, the logarithm of the factor is
    ``f = t (m - u) / (a - u)``, and its variance ``(s_m^2 + (1 - f / t)^2 s_u^2 + (f / t)^2 s_a^2) t^2 / (a - u)^2``: it is not known better
    than the slope.

    Args:
        seen: m, u, a.
        errors: their standard errors.
        trial: factor on the width.
    """
    (mine, usual, answer), log_trial = seen, math.log(trial)
    slope = max((answer - usual) / log_trial, LEAST_ANSWER)
    if not all(math.isfinite(value) for value in seen):
        return None
    part = (mine - usual) / slope / log_trial
    factor = float(np.clip(trial**part, *WIDEST))
    error = math.hypot(errors[0], (1 - part) * errors[1], part * errors[2]) / slope
    return Width(factor, factor * error, math.nan)


def _compared(evidence: Evidence) -> tuple[Compared, ...]:
    """List the numbers that were measured, with what the model was trained on."""
    ranges = evidence.trained
    limits = {"density_per_um2": ranges.density_per_um2, "background": ranges.background, "z_nm": ranges.z_nm}
    rows = []
    for key, words, unit in SHOWN:
        values = [numbers[key] for numbers in evidence.drawn_numbers if np.isfinite(numbers[key])]
        mine = evidence.numbers[key]
        if np.isfinite(mine):
            mean, spread = (float(np.mean(values)), float(np.std(values))) if values else (float("nan"), 0.0)
            rows.append(Compared(words, unit, mine, mean, spread, limits.get(key)))
    level = evidence.level
    if evidence.drawn:
        rows.append(
            Compared("emitters, missed ones counted", "per µm²", level.density_per_um2, float("nan"), 0.0, ranges.density_per_um2)
        )
    if evidence.drawn and "photons" in evidence.movie.table:
        rows += [
            Compared("photons of a bright emitter in a frame", "", evidence.photons, float("nan"), 0.0, ranges.photons),
            Compared("background", "photons per pixel", float(np.median(level.background)), float("nan"), 0.0, ranges.background),
        ]
    return tuple(rows)


def _notes(view: View) -> tuple[str, ...]:
    """Say what could not be looked at."""
    notes = []
    if "photons" not in view.table:
        notes.append("the model tells no photons, so that its picture of the frames could not be compared with them")
    if len(view.scene.place) < FULL_SIZE.windows // 3:
        notes.append(f"the movie is short: {len(view.photons)} frames were looked at")
    return tuple(notes)
