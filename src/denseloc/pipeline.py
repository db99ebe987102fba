"""The analysis stair: a movie in, a table out; streamed in blocks, kept in a journal, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from . import __version__
from .blocks import ahead, blocks_of, frames_of
from .camera import Camera
from .data import Movie, Provenance
from .errors import CalibrationError, ModelError, MovieError, OutputError
from .examination import glance
from .experiment import Experiment
from .files import alone
from .formats import check_table, open_movie, table_suffixes, write_table
from .formats.psf_files import foreign_notes, known_pixel_size, read_psf_for
from .journal import Journal
from .machine import choose_device, keep_memory
from .model_file import Model, find_model
from .optics import PSFSettings
from .preparation import Preparation, prepare
from .selection import Selection

BLOCK_PX = 1 << 22  # pixels of a block of frames: some seconds of work, some tens of MB
MAX_BLOCK = 512
MOST_BLOCK = 16384  # frames that a user may ask for
LEAST_TILE_PX, MOST_TILE_PX = 16, 4096


@dataclass(frozen=True)
class Progress:
    """How a localization stands: frames done and in all, localizations so far, seconds of this session."""

    frames: int
    n_frames: int
    localizations: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """What a localization left behind.

    Args:
        table: the file.
        localizations: rows.
        frames: frames localized.
        seconds: time of this session.
        assumed: what was measured or assumed of the movie, in plain words.
        warnings: what the user should know before trusting the table.
        provenance: what the table says of itself, where its format has a place for it.
    """

    table: Path
    localizations: int
    frames: int
    seconds: float
    assumed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    provenance: Provenance = field(default_factory=Provenance)


def localize(
    movie: Movie | Path | str,
    out: Path | str,
    *,
    model: Model | Path | str | None = None,
    method: str | None = None,
    psf: PSFSettings | Path | str | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    camera: Camera | None = None,
    planes: int | None = None,
    frames: tuple[int | None, int | None] | None = None,
    roi_px: tuple[int, int, int, int] | None = None,
    threshold: float | None = None,
    min_probability: float | None = None,
    max_sigma_nm: float | None = None,
    min_photons: float | None = None,
    tile_px: int = 512,
    block_frames: int | None = None,
    device: str | None = None,
    resume: bool = False,
    allow_truncated: bool = False,
    prepared: Callable[[Preparation], None] = lambda _: None,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], int] = lambda: 0,
) -> Run:
    """Localize the molecules of a movie and write a table.

    Args:
        movie: a movie or its file or folder.
        out: table to write; the suffix chooses the format (.parquet, .csv, .hdf5).
        model: a model, its file or the name of a shipped one; None takes the shipped one that suits the movie.
        method: name of a localization method, where no model is given; None for the model that suits ordinary 2D movies.
        psf: a PSF or its file, for a method that needs no training; "single" if ``method`` is None.
        pixel_size_nm: camera pixel in the sample, one number or (y, x); None takes what the file says.
        camera: turns counts into photons; None takes the model's camera, or estimates offset and gain from the movie.
        planes: focal planes of a frame, where they follow one another as images of the file; None for what the file says.
        frames: (start, stop) of the frames wanted, numbered as in the file; None at either end for that end. The rows are those that
            the whole movie gives for these frames: conditions are measured in all of it, and the neighbouring frames serve as context.
        roi_px: (y0, x0, height, width) of the region wanted; positions stay those of the whole field.
        threshold: least probability of a localization; None for the model's own.
        min_probability: rows with less are left out.
        max_sigma_nm: rows with a larger sigma in x or y are left out.
        min_photons: rows with less are left out.
        tile_px: largest tile computed at once. Does not change the result.
        block_frames: frames read and kept at once. Does not change the result.
        device: "cpu", "cuda", ...; the best one there is if None.
        resume: go on with the blocks that an interrupted run has left.
        allow_truncated: use the whole frames of a movie file that breaks off.
        prepared: told, before the first block, what was measured and assumed.
        report: told after each block how it goes.
        stop: asked after each block and while the blocks are joined; a signal number ends the run and keeps the finished blocks.

    Raises:
        DenselocError: one line that says what was found, what was expected and what to do.
        Interrupted: ``stop`` asked for it.
    """
    started = time.monotonic()
    out = Path(out)
    if out.suffix.lower() not in table_suffixes():
        raise OutputError(
            f"table {out.name}: the suffix '{out.suffix}' names no table format; known: {', '.join(table_suffixes())}"
        )
    if threshold is not None and not 0 < threshold < 1:
        raise ModelError(f"threshold {threshold:g}; expected a probability between 0 and 1")
    for name, value, least, most in (
        ("tile_px (--tile-px)", tile_px, LEAST_TILE_PX, MOST_TILE_PX),
        ("block_frames (--block-frames)", block_frames, 1, MOST_BLOCK),
    ):
        if value is not None and not least <= value <= most:
            raise ModelError(f"{name} {value}; expected {least} to {most}")
    selection = Selection(min_probability, max_sigma_nm, min_photons)
    check_table(out)
    whole = movie if isinstance(movie, Movie) else open_movie(Path(movie), allow_truncated=allow_truncated)
    whole = (whole if planes is None else whole.with_planes(planes)).crop(None, roi_px)
    movie = whole.crop(frames)
    keep_memory()
    chosen = choose_device(device)
    if isinstance(model, (str, Path)):
        model = find_model(model)
    told: list[str] = []
    if isinstance(psf, (str, Path)):
        name = Path(psf).name
        size = movie.pixel_size_nm if pixel_size_nm is None else pixel_size_nm
        psf, record = read_psf_for(psf, size, pixel_size_nm)
        told = [f"note: {name}: {note}" for note in foreign_notes(record)]
        pixel_size_nm = known_pixel_size(record) if size is None else pixel_size_nm
    ready = _prepare(whole, movie, lambda part: prepare(part, model, pixel_size_nm, camera, method, chosen, psf))
    ready = replace(ready, lines=[*ready.lines, *told])
    seen = glance(whole, ready)
    if seen is not None:  # it takes what the conditions say into account
        ready = replace(ready, warnings=[finding.text for finding in seen.suitability.findings])
    prepared(ready)
    localizer = ready.model.localizer.to(chosen)
    localizer.conditions, localizer.threshold = ready.conditions, threshold
    ready.camera.to(chosen)  # prepare() has made a copy
    provenance = selection.noted(_provenance(movie, whole.frames[1], ready, threshold))
    if seen is not None:
        provenance = replace(provenance, settings={**provenance.settings, "suitability": seen.suitability.to_json()})
    check_table(out, provenance)
    with alone(out):
        journal = Journal(out, provenance, movie, resume)
        with journal.kept():
            n = block_frames or max(8, min(MAX_BLOCK, BLOCK_PX // max(1, movie.n_planes * movie.field_px[0] * movie.field_px[1])))
            found = journal.rows()
            for block in ahead(blocks_of(whole, movie, n, localizer.context, journal.next_frame)):
                table = selection.keep(localizer(frames_of(block, movie, ready, chosen), (block.start, block.stop), tile_px))
                journal.add(table, block.start, block.stop)
                found += len(table)
                report(Progress(block.stop - movie.frames[0], movie.n_frames, found, time.monotonic() - started))
                journal.heed(stop(), f"after frame {block.stop - 1} of {movie.frames[1] - 1}")
            rows = write_table(out, journal.parts(stop), provenance)
        journal.remove()
    return Run(out, rows, movie.n_frames, time.monotonic() - started, ready.lines, ready.warnings, provenance)


def _prepare(whole: Movie, part: Movie, prepare: Callable[[Movie], Preparation]) -> Preparation:
    """Measure the conditions in all frames, so that parts fit together; where those cannot be read, in the part alone."""
    try:
        return prepare(whole)
    except (MovieError, CalibrationError) as error:
        if part.frames == whole.frames:
            raise
        ready = prepare(part)
        note = f"note: conditions were measured in the frames wanted alone ({str(error).splitlines()[0]})"
        return replace(ready, lines=[*ready.lines, note])


def _provenance(movie: Movie, n_frames: int, ready: Preparation, threshold: float | None) -> Provenance:
    return Provenance(
        pixel_size_nm=ready.pixel_size_nm,
        shape_px=movie.field_px,
        n_frames=n_frames,
        movie=str(movie.path or movie.name),
        method=f"{ready.model.experiment.localizer.kind}: {ready.model.name}",
        experiment=_document(ready.model.experiment),
        settings={
            "denseloc": __version__,
            "frames": list(movie.frames),
            "roi_px": list(movie.roi_px),
            "planes": movie.n_planes,
            "weights": _fingerprint(ready.model),
            "threshold": threshold,
            "camera": ready.camera_json,
            "conditions": asdict(ready.conditions),
            "uneven_background": ready.background is not None,
            "assumed": ready.lines,
            "warnings": ready.warnings,
            **({} if (known := ready.model.uncertainty) is None else {"uncertainty": known}),
        },
    )


def _document(experiment: Experiment) -> dict[str, Any]:
    """Give the document for the table; that of a method without training has no section on it."""
    document = experiment.to_json()
    if not experiment.localizer.needs_training:
        del document["training"]
    return document


def _fingerprint(model: Model) -> str:
    """Identify the weights of a model and what corrects its uncertainties."""
    digest = hashlib.sha256()
    for name, value in sorted(model.localizer.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    if model.localizer.correction is not None:
        digest.update(json.dumps(model.localizer.correction.to_json(), sort_keys=True).encode())
    return digest.hexdigest()[:16]
