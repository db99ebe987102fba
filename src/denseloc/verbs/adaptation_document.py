"""The document of an adapted model: that of the model it began with, and what the movie is known to have."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..camera import SCMOS, Camera
from ..errors import MovieError
from ..experiment import Experiment
from ..localize import Localizer
from ..preparation import Preparation, serves_many
from ..specimen.ranges import ends
from ..train.theta import Beginning
from .inspection_document import camera_section

WIDER = 1.3  # ranges of the document reach so far beyond the movie's value


def document_for(ready: Preparation, given: Camera | None, frames: int) -> Experiment:
    """Write down the experiment of the movie: the model's, with what the movie is known to have.

    A model that serves many microscopes gets the pixel size, the camera and the width of this one, any model a camera that was given. Ranges
    of density and background are widened where the movie lies outside of them.

    Args:
        ready: what was measured.
        given: the camera that the user gave, or None.
        frames: of a training window.
    """
    model, measured = ready.model.experiment, ready.measured
    values = model.to_json()
    specimen = values["specimen"]
    if serves_many(model):
        size = ready.pixel_size_nm
        values["pixel_size_nm"] = list(size)
        values["psf"] = {"kind": "gaussian", "width_nm": float(f"{measured.width_nm.value:.5g}"), "roi_px": model.psf.roi_px}
        values["camera"] = _camera(ready, given)
        values["training"]["psf_scale"] = [0.95, 1.05]
        values["name"] = f"{values['name']}, adapted"
        area = (size[0] * size[1]) / (model.pixel_size_nm[0] * model.pixel_size_nm[1])
        specimen["density_per_um2"] = _scaled(specimen["density_per_um2"], 1 / area)
        specimen["density_per_um2"] = _narrowed(specimen["density_per_um2"], measured.density_per_um2.value, 5.0)
        specimen["background"]["photons"] = _narrowed(specimen["background"]["photons"], ready.conditions.background, 2.5)
    elif given is not None:
        values["camera"] = _camera(ready, given)
    specimen["density_per_um2"] = _widened(specimen["density_per_um2"], measured.density_per_um2.value)
    if "photons" in specimen["background"]:
        specimen["background"]["photons"] = _widened(specimen["background"]["photons"], ready.conditions.background)
    values["training"]["frames"] = max(values["training"]["frames"], frames)
    return Experiment.from_json(values, "the adapted model's document")


def _camera(ready: Preparation, given: Camera | None) -> Mapping[str, Any]:
    """Give the section of the movie's camera."""
    if isinstance(given, SCMOS) and given.offset.ndim:
        maps = torch.stack((given.offset, given.electrons_per_count, given.variance)).numpy()
        return {"kind": "scmos", "pixel_maps": maps, "quantum_efficiency": given.quantum_efficiency}
    if given is None and ready.measured.offset_counts.value < 0:
        raise MovieError(
            "the offset is below 0 counts, as if a background was taken away; adapt to the raw movie, or give the camera (--camera)"
        )
    return camera_section(ready.measured, given)


def _scaled(level: Any, factor: float) -> Any:
    low, high = ends(level)
    return [low * factor, high * factor]


def _narrowed(level: Any, value: float, factor: float) -> Any:
    """Cut a range that was made for many movies down to a factor to both sides of a value."""
    low, high = ends(level)
    return [max(low, min(value / factor, high)), min(high, max(value * factor, low))]


def _widened(level: Any, value: float) -> Any:
    """Let a range hold a value, with some room beyond it; one that does stays as it is."""
    low, high = ends(level)
    if low <= value <= high or value <= 0:
        return level
    return [min(low, value / WIDER), max(high, value * WIDER)]


def beginning_of(ready: Preparation, document: Experiment) -> Beginning:
    """Say what theta begins with."""
    measured = ready.measured
    return Beginning(
        per_um2=max(measured.density_per_um2.value, 1e-4),
        photons=max(measured.photons.value, 10.0),
        photons_sd=0.6,
        z_nm=document.specimen.z_nm,
    )


def localizer_for(ready: Preparation) -> Localizer:
    """Copy the model's localizer, for the movie's pixels."""
    localizer = copy.deepcopy(ready.model.localizer)
    localizer.scales = replace(localizer.scales, pixel_size_nm=ready.pixel_size_nm)
    localizer.conditions, localizer.threshold = ready.conditions, None
    return localizer
