"""The analysis stair: a movie in, a table out; streamed in blocks, kept in a journal, resumed where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .blocks import Progress, forgetting, frames_at_once, look_over, work_through
from .camera import Camera
from .data import Frames, Localizations, Movie, Provenance
from .errors import CalibrationError, ModelError, MovieError, OutputError
from .examination import glance, with_findings
from .experiment import Experiment
from .formats import check_table, open_movie, table_suffixes, write_table
from .formats.psf_files import foreign_notes, known_pixel_size, read_psf_for
from .journal import Journal, finished
from .localize import Localizer
from .localize.rescaling import rescaled
from .machine import choose_device, free_bytes, keep_memory
from .model_file import Model, find_model
from .optics import PSFSettings
from .picture_sum import PictureSum, check_image
from .preparation import Preparation, prepare
from .selection import Selection
from .units import PixelSize

MOST_BLOCK = 16384  # frames that a user may ask for
LEAST_TILE_PX, MOST_TILE_PX = 16, 4096
LOOKED_AT = 20  # frames in which a movie without any light is suspected


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
        image: the picture that the method itself gave, where it was asked for.
    """

    table: Path
    localizations: int
    frames: int
    seconds: float
    assumed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    provenance: Provenance = field(default_factory=Provenance)
    image: Path | None = None


def localize(
    movie: Movie | Path | str,
    out: Path | str,
    *,
    image: Path | str | None = None,
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
    filter_rate: float | None = None,
    rescale_offsets: bool = False,
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
        image: TIFF to write besides, the sum of the method's own images; for methods that give one (deep_storm, deep_storm_3d).
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
        filter_rate: share, 0 to 0.85, of all rows of the movie to leave out: those of the largest expected error (root of the summed squares of
            the sigmas), exactly, found when all frames are done.
        rescale_offsets: spread sub-pixel positions that lean to the pixels' centres (see `localize.rescaling`); the table says so.
        tile_px: largest tile computed at once. Does not change the result.
        block_frames: frames read and kept at once. Does not change the result.
        device: "cpu", "cuda", ...; the best one there is if None.
        resume: go on with the blocks that an interrupted run has left; a table that a run of the same kind has finished is left as it is.
        allow_truncated: use the whole frames of a movie file that breaks off.
        prepared: told, before the first block, what was measured and assumed.
        report: told after each block how it goes.
        stop: asked after each block and while the blocks are joined; a signal number ends the run and keeps the finished blocks.

    Raises:
        DenselocError: one line that says what was found, what was expected and what to do.
        Interrupted: ``stop`` asked for it.
    """
    started, out, image = time.monotonic(), Path(out), None if image is None else Path(image)
    _check_asked(out, threshold, tile_px, block_frames)
    selection = Selection(min_probability, max_sigma_nm, min_photons, filter_rate)
    whole = opened(movie, planes, allow_truncated).crop(None, roi_px)
    part = whole.crop(frames)
    check_light(part)
    keep_memory()
    chosen = choose_device(device)
    given = _fitting(model, chosen, part.shape_px)
    psf, pixel_size_nm, told = psf_for(psf, pixel_size_nm, part.pixel_size_nm)
    ready = _prepare(whole, part, lambda some: prepare(some, given, pixel_size_nm, camera, method, chosen, psf), told)
    seen = glance(whole, ready)
    ready = ready if seen is None else with_findings(ready, seen)
    prepared(ready)
    localizer = _told(ready, chosen, threshold)
    if image is not None:
        check_image(image, part, localizer, ready.model.experiment.localizer.kind)
    more = ({} if seen is None else {"suitability": seen.to_json()}) | ({} if image is None else {"image": image.name})
    provenance = selection.noted(_provenance(part, whole.frames[1], ready, threshold, more))
    check_table(out, provenance)
    task = _Task(whole, part, ready, chosen, localizer, selection, tile_px, block_frames, report, stop)
    with Journal.of(out, provenance, part, resume) as journal, forgetting(localizer):
        rows = finished(out, provenance, rescale_offsets) if resume and (image is None or image.exists()) else None
        if rows is None:
            with _sum_for(image, journal, part, localizer) as pictures:
                task.work(journal, pictures)
                if pictures is not None and image is not None:
                    pictures.write(image, part, ready.pixel_size_nm)  # first: a finished table says that all is finished
                rows, provenance = _write(out, lambda: selection.whole(lambda: journal.parts(stop)), provenance, rescale_offsets)
    return Run(out, rows, part.n_frames, time.monotonic() - started, ready.lines, ready.warnings, provenance, image)


@dataclass(frozen=True, eq=False)
class _Task:
    """The work on all blocks: which frames, by which localizer, and what is kept of its rows; arguments as of `localize`."""

    whole: Movie
    part: Movie
    ready: Preparation
    device: torch.device
    localizer: Localizer
    selection: Selection
    tile_px: int
    block_frames: int | None
    report: Callable[[Progress], None]
    stop: Callable[[], int]

    def work(self, journal: Journal, pictures: PictureSum | None) -> None:
        """Localize what the journal does not hold yet, and add up the images where they are asked for."""

        def one(frames: Frames, span: tuple[int, int]) -> tuple[Localizations, None]:
            if pictures is None:
                return self.selection.keep(self.localizer(frames, span, self.tile_px)), None
            table, picture = self.localizer.with_picture(frames, span, self.tile_px)
            pictures.add(picture.cpu().numpy(), span)
            return self.selection.keep(table), None

        whole, part, ready, localizer, stop = self.whole, self.part, self.ready, self.localizer, self.stop
        n = frames_at_once(part, self.block_frames)
        look_over(localizer, whole, part, ready, self.device, n, self.tile_px, lambda: journal.heed(stop(), "in the first look"))
        work_through(
            whole,
            part,
            ready,
            self.device,
            journal,
            one,
            context=localizer.context,
            block_frames=self.block_frames,
            block_px=localizer.block_px,
            report=self.report,
            stop=stop,
        )


def _fitting(model: Model | Path | str | None, device: torch.device, shape_px: tuple[int, int]) -> Model | None:
    """Load the model that was named, and check that memory suffices for it."""
    given = find_model(model) if isinstance(model, (str, Path)) else model
    if given is not None:
        given.localizer.check_fits(free_bytes(device), 1, shape_px, training=False)
    return given


def _told(ready: Preparation, device: torch.device, threshold: float | None) -> Localizer:
    """Bring localizer and camera to the device, and tell the localizer the conditions of the movie."""
    ready.camera.to(device)  # prepare() has made a copy
    localizer = ready.model.localizer.to(device)
    localizer.conditions, localizer.threshold = ready.conditions, threshold
    return localizer


def _sum_for(image: Path | None, journal: Journal, part: Movie, localizer: Localizer) -> AbstractContextManager[PictureSum | None]:
    """Begin the sum of the method's images, or go on with it, where it is asked for."""
    return nullcontext() if image is None else PictureSum(journal, part, localizer.picture_px)


def opened(movie: Movie | Path | str, planes: int | None, allow_truncated: bool) -> Movie:
    """Open a movie, if it is a file, and say how many planes follow one another in it."""
    whole = movie if isinstance(movie, Movie) else open_movie(Path(movie), allow_truncated=allow_truncated)
    return whole if planes is None else whole.with_planes(planes)


def check_light(movie: Movie) -> None:
    """Refuse a movie in which no pixel of any frame differs from another: no camera records one.

    Raises:
        MovieError: it is one.
    """
    counts = movie.sample(LOOKED_AT)
    level = counts.flat[0]
    if (counts == level).all() and all((block.counts == level).all() for block in movie.blocks(LOOKED_AT)):
        raise MovieError(
            f"{movie.name}: all pixels of all frames hold {float(level):g} counts; expected light: look whether the right movie was exported"
        )


def psf_for(
    psf: PSFSettings | Path | str | None, asked: float | tuple[float, float] | None, known: PixelSize | None
) -> tuple[PSFSettings | None, float | tuple[float, float] | None, list[str]]:
    """Read the file of a PSF.

    Args:
        psf: it, or its file.
        asked: pixel size that a user has given.
        known: that of the movie.

    Returns:
        The PSF; the pixel size asked for, or, where none is known, that of the calibration; what is to be told of the file.
    """
    if not isinstance(psf, (str, Path)):
        return psf, asked, []
    size = known if asked is None else asked
    found, record = read_psf_for(psf, size, asked)
    told = [f"PSF: {psf}", *(f"note: {Path(psf).name}: {note}" for note in foreign_notes(record))]
    return found, known_pixel_size(record) if size is None else asked, told


def _write(
    out: Path, parts: Callable[[], Iterator[Localizations]], provenance: Provenance, rescale_offsets: bool
) -> tuple[int, Provenance]:
    """Write the rows, with their positions spread over the pixels if that is asked for; gives their number, and what the table says of itself."""
    if not rescale_offsets:
        return write_table(out, parts(), provenance), provenance
    spread, provenance = rescaled(parts, provenance)
    return write_table(out, spread, provenance), provenance


def _check_asked(out: Path, threshold: float | None, tile_px: int, block_frames: int | None) -> None:
    """Refuse what cannot be done before anything is read."""
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
    check_table(out)


def _prepare(whole: Movie, part: Movie, prepare: Callable[[Movie], Preparation], told: list[str]) -> Preparation:
    """Measure the conditions in all frames, so that parts fit together; where those cannot be read, in the part alone.

    What is to be told of a PSF's file stands behind the first line.
    """
    notes = []
    try:
        ready = prepare(whole)
    except (MovieError, CalibrationError) as error:
        if part.frames == whole.frames:
            raise
        ready = prepare(part)
        notes = [f"note: conditions were measured in the frames wanted alone ({str(error).splitlines()[0]})"]
    return replace(ready, lines=[*ready.lines[:1], *told, *ready.lines[1:], *notes])


def _provenance(movie: Movie, n_frames: int, ready: Preparation, threshold: float | None, more: dict[str, Any]) -> Provenance:
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
            "weights": ready.model.fingerprint,
            "threshold": threshold,
            "camera": ready.camera_json,
            "conditions": asdict(ready.conditions),
            "uneven_background": ready.background is not None,
            "assumed": ready.lines,
            "warnings": ready.warnings,
            **({} if (known := ready.model.uncertainty) is None else {"uncertainty": known}),
            **more,
        },
    )


def _document(experiment: Experiment) -> dict[str, Any]:
    """Give the document for the table; that of a method without training has no section on it."""
    document = experiment.to_json()
    if not experiment.localizer.needs_training:
        del document["training"]
    return document
