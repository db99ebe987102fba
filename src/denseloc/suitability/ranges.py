"""What a model was trained on, and where the conditions of a movie lie outside of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from ..calibrate.conditions import Conditions
from ..data import Grid
from ..description import Range
from ..experiment import Experiment
from ..specimen import SpecimenSettings
from ..specimen.ranges import ends
from ..units import PixelSize
from .findings import Finding, Grade
from .reference import bright_end

MOVIES, FRAMES, SIDE_PX = 64, 4, 48
ENOUGH = 60.0  # emitters of a frame that make quantiles sure
BEYOND = 1.3  # a level outside of its range by less is no reason to worry: within a movie it varies anyway
FAR = 2.0  # from which on a model cannot be trusted at all
DARKER = 0.5
TRUST_LESS = "trust the result less; give the camera if it was estimated, or train a model for these conditions"


@dataclass(frozen=True)
class Trained:
    """What a model was trained on, as its document says, in the pixels of a movie.

    Args:
        density_per_um2: emitters per um^2 and frame.
        photons: the bright end of a movie's emitters, dimmest to brightest movie.
        dimmest: median photons of the dimmest movie.
        background: photons per pixel and frame.
        width_nm: of the PSF in focus.
        z_nm: depths, None for a model without.
    """

    density_per_um2: Range
    photons: Range
    dimmest: float
    background: Range | None
    width_nm: Range
    z_nm: Range | None


def trained(experiment: Experiment, size: PixelSize) -> Trained:
    """Read the ranges; that of the photons is drawn, as a document may say it in many ways.

    Args:
        experiment: the document.
        size: (y, x) of the movie's pixels in nm; a model that serves many sees densities and widths per pixel.
    """
    finer = _side(size) / _side(experiment.pixel_size_nm) if experiment.serves_many else 1.0
    specimen = experiment.specimen
    low, high = ends(specimen.density_per_um2)
    levels, medians = _brightness(specimen.model_dump_json(), experiment.pixel_size_nm)
    levels_of_background = getattr(specimen.background, "photons", None)
    width, (narrow, wide) = float(experiment.psf.width_in_focus_nm()), experiment.training.psf_scale
    return Trained(
        (low / finer**2, high / finer**2),
        (min(levels), max(levels)),
        min(medians),
        None if levels_of_background is None else ends(levels_of_background),
        (narrow * width * finer, wide * width * finer),
        specimen.z_nm if experiment.has_depth else None,
    )


@lru_cache(maxsize=8)
def _brightness(section: str, size: PixelSize) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Draw movies of a specimen (as JSON) and give the bright end and the median of the photons of each."""
    grid = Grid((SIDE_PX, SIDE_PX), size)
    specimen = replace(SpecimenSettings.model_validate_json(section).build(grid), density_per_um2=ENOUGH / grid.area_um2)
    emitters = specimen.draw(FRAMES, torch.Generator().manual_seed(0), n_movies=MOVIES)
    movie = emitters.frame // FRAMES
    each = [emitters.photons[movie == m] for m in range(MOVIES)]
    each = [photons for photons in each if len(photons) >= 5] or [emitters.photons] if len(emitters) else [torch.ones(1)]
    return tuple(bright_end(photons.numpy()) for photons in each), tuple(float(photons.median()) for photons in each)


def outside_of_training(measured: Conditions, experiment: Experiment, size: PixelSize, at_least: float = 0.0) -> list[Finding]:
    """Say where a movie lies outside of what a model was trained on, by what the pixels show.

    Args:
        measured: the conditions of the movie.
        experiment: the document of the model.
        size: (y, x) of the movie's pixels in nm.
        at_least: density that the movie has at least, by another way than the model's own count: that one falls behind where it is crowded.
    """
    found = []
    if abs(size[0] / size[1] - 1) > 0.05 and experiment.serves_many:
        text = (
            f"the pixels are {size[0]:g} x {size[1]:g} nm, the model was trained on square ones: train a model for this microscope"
        )
        found.append(Finding("pixels", "warn", text))
    side = _side(size)
    low, high = (scale * experiment.width_px() for scale in experiment.training.psf_scale)
    if high > low and not 0.95 * low <= measured.width_nm.value / side <= 1.05 * high:
        found.append(
            Finding(
                "psf",
                "warn",
                f"the PSF is {measured.width_nm.value / side:.2f} px wide, the model was trained on {low:.2f} to {high:.2f} px: "
                "localizations will be imprecise or missing; train a model for this microscope",
            )
        )
    levels = getattr(experiment.specimen.background, "photons", None)
    if levels is not None:
        found += beyond("background", "background", measured.background.value, ends(levels), "photons per pixel", darker=DARKER)
    density = max(measured.density_per_um2.value, at_least)
    finer = side / _side(experiment.pixel_size_nm)
    low, high = ends(experiment.specimen.density_per_um2)
    return found + beyond("density", "emitter density", density, (low / finer**2, high / finer**2), "per um^2")


def judge_conditions(measured: Conditions, experiment: Experiment, size: PixelSize, at_least: float = 0.0) -> list[str]:
    """Say the same as `outside_of_training` in plain words."""
    return [finding.text for finding in outside_of_training(measured, experiment, size, at_least)]


def judge_density(measured: Conditions, experiment: Experiment, at_least: float) -> list[str]:
    """Warn of a movie that is too dense for a method without training."""
    density, width = max(measured.density_per_um2.value, at_least), measured.width_nm.value
    most = experiment.localizer.densest_per_um2(width)
    if most is None or density <= most:
        return []
    share = 1 - 0.5 ** (density / most)
    how = "at least" if at_least > measured.density_per_um2.value else "about"
    return [
        f"the movie holds {how} {density:.2g} emitters per um^2, so that {100 * share:.0f} % of them have another near by; method "
        f"'{experiment.localizer.kind}' serves up to {most:.2g} per um^2 for spots {width:.0f} nm wide: expect missed and misplaced molecules, and "
        "take a model for dense movies, or sparser frames"
    ]


def serves_many(experiment: Experiment) -> bool:
    """Whether a model takes movies of any camera and pixel size."""
    return experiment.serves_many


def beyond(topic: str, name: str, value: float, limits: Range, unit: str, darker: float = 0.0) -> list[Finding]:
    """Say that a level of the movie lies above its range, or below by more than a factor."""
    low, high = limits
    if not (value > BEYOND * high or value < darker * low):
        return []
    level: Grade = "fail" if value > FAR * high or value < darker**2 * low else "warn"
    text = f"the movie's {name} is about {value:.3g} {unit}, the model was trained on {low:.3g} to {high:.3g}: {TRUST_LESS}"
    return [Finding(topic, level, text)]


def _side(size: PixelSize) -> float:
    return math.sqrt(size[0] * size[1])
