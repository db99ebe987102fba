"""What a refinement begins with: the table's own document, PSF and camera, the conditions of the movie, and what the new table says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..camera import CAMERAS, Camera
from ..data import Localizations, Movie, Provenance
from ..description import parse
from ..errors import DenselocError
from ..experiment import Experiment
from ..localize import Multi
from ..optics import PSFSettings
from ..pipeline import psf_for
from ..preparation import GIVEN, OF_DOCUMENT, Preparation, prepare
from ..suitability import serves_many
from .refinement_checks import check_depths, check_origin, notes_before
from .refinement_work import Wanted

OF_FIRST = ("camera", "conditions", "uneven_background", "assumed", "warnings")  # settings that a refinement has its own of


def prepare_refinement(
    rows: Localizations,
    movie: Movie,
    psf: PSFSettings | Path | str | None,
    pixel_size_nm: float | tuple[float, float] | None,
    camera: Camera | None,
    device: torch.device,
    add: bool,
) -> tuple[Preparation, Multi]:
    """Choose and measure what a refinement needs besides the frames; the arguments are those of `refine`.

    Returns:
        It, and the localizer that fits.

    Raises:
        TableError: the table is not of this movie.
        CalibrationError: the PSF does not suit it.
    """
    told = rows.provenance
    document = document_of(told)
    measured, asked, notes = psf_for(psf, pixel_size_nm, told.pixel_size_nm or movie.pixel_size_nm)
    if psf is None and document is not None and (not serves_many(document) or getattr(document.localizer, "psf", None) is not None):
        measured = document.psf
    size = next((one for one in (asked, told.pixel_size_nm, movie.pixel_size_nm) if one is not None), None)
    given, source = camera, GIVEN
    if camera is None:
        given, source, note = _own_camera(told, document)
        notes += note
    ready = prepare(movie, None, size, given, "multi", device, measured, count=False, source=source)
    localizer = ready.model.localizer
    assert isinstance(localizer, Multi)
    check_origin(rows, movie, ready.pixel_size_nm)
    check_depths(rows, localizer.finds_depth, add)
    notes += notes_before(rows, movie, ready, localizer.finds_depth)
    localizer.conditions = ready.conditions
    ready.camera.to(device)
    return replace(ready, lines=[*ready.lines[:1], *notes, *ready.lines[1:]]), localizer


def _own_camera(told: Provenance, document: Experiment | None) -> tuple[Camera | None, str, list[str]]:
    """Give the camera that a table speaks of, where that comes from, and what is to be said of it."""
    recorded = _recorded(told)
    if recorded is not None:
        return recorded, GIVEN, ["note: the camera is the one that was given when the table was made; --camera takes another"]
    notes = []
    if _was_given(told):
        notes = ["note: the table was made with a camera that was given, which it does not hold in full; give it again: --camera"]
    return _camera(document), OF_DOCUMENT, notes


def document_of(told: Provenance) -> Experiment | None:
    """Give the document of the model that made a table."""
    if told.experiment is None:
        return None
    try:
        return Experiment.from_json(dict(told.experiment))
    except DenselocError:
        return None


def _camera(document: Experiment | None) -> Camera | None:
    """Give the camera of the document that made a table, if that is of one microscope."""
    if document is None or serves_many(document) or document.camera.kind == "various":
        return None
    return document.build_camera()


def _was_given(told: Provenance) -> bool:
    camera = told.settings.get("camera")
    return isinstance(camera, Mapping) and camera.get("source") == GIVEN


def _recorded(told: Provenance) -> Camera | None:
    """Give the camera that a user gave when the table was made, where its numbers say it all: no maps, no multiplication."""
    camera, conditions = told.settings.get("camera"), told.settings.get("conditions")
    if not _was_given(told) or not isinstance(camera, Mapping) or not isinstance(conditions, Mapping):
        return None
    if camera.get("pixel_maps") is not False or conditions.get("excess") != 1.0:
        return None
    try:
        electrons = 1 / float(camera["counts_per_photon"])
        noise = max(0.0, float(conditions["noise_variance"]) - electrons**2 / 12)  # that of rounding is the camera's own to add
        numbers = {"offset_counts": camera["offset_counts"], "electrons_per_count": electrons, "read_noise_electrons": noise**0.5}
        built: Camera = parse(CAMERAS.get("scmos"), {"kind": "scmos", **numbers}, "the camera of the table").build()
    except (DenselocError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return built


def refined_provenance(told: Provenance, movie: Movie, ready: Preparation, wanted: Wanted) -> Provenance:
    """Say how the new table was made; what the table said of its first values stands below."""
    psf = ready.model.experiment.psf if ready.model.experiment.localizer.psf is not None else None
    lines = ["refined with: a Gaussian as wide as the movie's spots" if psf is None else f"refined with: PSF of kind {psf.kind}"]
    lines += [line for line in ready.lines if not line.startswith("method: ")]
    lines += [line for line in told.settings.get("assumed", ()) if str(line).startswith("kept: ")]
    first = {name: told.settings[name] for name in (*OF_FIRST, "uncertainty") if name in told.settings}
    settings: dict[str, Any] = {
        **{name: value for name, value in told.settings.items() if name != "uncertainty"},  # which speaks of the first values
        "camera": ready.camera_json,
        "conditions": asdict(ready.conditions),
        "uneven_background": ready.background is not None,
        "assumed": lines,
        "warnings": ready.warnings,
        "refined": {
            "denseloc": __version__,
            **asdict(wanted),
            "psf": None if psf is None else psf.model_dump(mode="json", exclude={"residual_maps", "coefficients"}),
            "first": first,
        },
    }
    return replace(
        told,
        pixel_size_nm=ready.pixel_size_nm,
        shape_px=movie.field_px,
        n_frames=movie.frames[1],
        movie=str(movie.path or movie.name),
        method=f"{told.method or 'table'}, refined",
        settings=settings,
    )
