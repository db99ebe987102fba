"""Whether a model or a method suits a movie, in plain words."""

from __future__ import annotations

import math

from .calibrate.conditions import Conditions
from .experiment import Experiment
from .units import PixelSize


def serves_many(experiment: Experiment) -> bool:
    """Whether a model takes movies of any camera and pixel size: drawn with various cameras, and told the conditions or without training."""
    return bool(experiment.camera.kind == "various" and experiment.localizer.is_told)


def judge_conditions(measured: Conditions, experiment: Experiment, size: PixelSize, at_least: float = 0.0) -> list[str]:
    """Say in plain words where a movie lies outside of what a model was trained on.

    Args:
        measured: the conditions of the movie.
        experiment: the document of the model.
        size: (y, x) of the movie's pixels in nm.
        at_least: density that the movie has at least, by another way than the model's own count: that one falls behind where it is crowded.
    """
    density = max(measured.density_per_um2.value, at_least)
    warnings = []
    if abs(size[0] / size[1] - 1) > 0.05 and serves_many(experiment):
        warnings.append(
            f"the pixels are {size[0]:g} x {size[1]:g} nm, the model was trained on square ones: train a model for this microscope"
        )
    side = math.sqrt(size[0] * size[1])
    low, high = experiment.training.psf_scale
    width = experiment.width_px()
    checks = [
        ("background", measured.background.value, experiment.specimen.background, "photons per pixel", 1.0),
        ("emitter density", density, experiment.specimen, "per um^2", (side / _side(experiment)) ** 2),
    ]
    if high > low:
        mine = measured.width_nm.value / side
        if not 0.95 * low * width <= mine <= 1.05 * high * width:
            warnings.append(
                f"the PSF is {mine:.2f} px wide, the model was trained on {low * width:.2f} to {high * width:.2f} px: "
                "localizations will be imprecise or missing; train a model for this microscope"
            )
    for name, value, section, unit, factor in checks:
        limits = getattr(section, "density_per_um2" if name == "emitter density" else "photons", None)
        if limits is None:
            continue
        bottom, top = limits if isinstance(limits, tuple) else (limits, limits)
        if value * factor > 1.3 * top or (name == "background" and value * factor < 0.5 * bottom):
            warnings.append(
                f"the movie's {name} is about {value:.3g} {unit}, the model was trained on {bottom / factor:.3g} to {top / factor:.3g}: "
                "trust the result less; give the camera if it was estimated, or train a model for these conditions"
            )
    return warnings


def _side(experiment: Experiment) -> float:
    return math.sqrt(experiment.pixel_size_nm[0] * experiment.pixel_size_nm[1])


def judge_density(measured: Conditions, experiment: Experiment, at_least: float) -> list[str]:
    """Warn of a movie that is too dense for a method without training."""
    density, width = max(measured.density_per_um2.value, at_least), measured.width_nm.value
    most = experiment.localizer.densest_per_um2(width)
    if most is None or density <= most:
        return []
    share = 1 - 0.5 ** (density / most)
    return [
        f"the movie holds about {density:.2g} emitters per um^2, so that {share:.0%} of them have another near by; method "
        f"'{experiment.localizer.kind}' serves up to {most:.2g} per um^2 for spots {width:.0f} nm wide: expect missed and misplaced molecules, and "
        "take a model for dense movies, or sparser frames"
    ]
