"""The analysis stair: a movie in, a table out; streamed in blocks, kept in a journal, resumed where it was interrupted.

The journal is a folder beside the table (``TABLE.parts``) with one small table per finished block. It is joined into the table at the
end and removed. Memory does not grow with the movie; the table is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from . import __version__
from .camera import Camera
from .data import Block, Frames, Localizations, Movie, Provenance
from .errors import CalibrationError, DenselocError, Interrupted, ModelError, MovieError, OutputError
from .files import alone, replacing
from .formats import check_table, open_movie, read_table, table_suffixes, write_table
from .formats.psf_files import read_psf
from .machine import choose_device, keep_memory
from .model_file import Model, find_model
from .optics import PSFSettings
from .preparation import Preparation, prepare
from .selection import Selection
from .units import pixel_size_pair

BLOCK_PX = 1 << 22  # pixels of a block of frames: some seconds of work, some tens of MB
MAX_BLOCK = 512
MOST_BLOCK = 16384  # frames that a user may ask for
LEAST_TILE_PX, MOST_TILE_PX = 16, 4096
BLOCK_NAME = re.compile(r"\d{10}-\d{10}-\d+")  # start, stop, rows


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
        ("tile-px", tile_px, LEAST_TILE_PX, MOST_TILE_PX),
        ("block-frames", block_frames, 1, MOST_BLOCK),
    ):
        if value is not None and not least <= value <= most:
            raise ModelError(f"--{name} {value}; expected {least} to {most}")
    selection = Selection(min_probability, max_sigma_nm, min_photons)
    check_table(out)
    whole = movie if isinstance(movie, Movie) else open_movie(Path(movie), allow_truncated=allow_truncated)
    whole = (whole if planes is None else whole.with_planes(planes)).crop(None, roi_px)
    movie = whole.crop(frames)
    keep_memory()
    chosen = choose_device(device)
    if isinstance(model, (str, Path)):
        model = find_model(model)
    if isinstance(psf, (str, Path)):
        psf, record = read_psf(psf, pixel_size_nm=pixel_size_nm or movie.pixel_size_nm)
        calibrated = record.get("pixel_size_nm")
        if pixel_size_nm is None and movie.pixel_size_nm is None and calibrated is not None:
            pixel_size_nm = pixel_size_pair(tuple(calibrated) if isinstance(calibrated, (list, tuple)) else calibrated)
    ready = _prepare(whole, movie, lambda part: prepare(part, model, pixel_size_nm, camera, method, chosen, psf))
    prepared(ready)
    localizer = ready.model.localizer.to(chosen)
    localizer.conditions, localizer.threshold = ready.conditions, threshold
    ready.camera.to(chosen)  # prepare() has made a copy
    provenance = selection.noted(_provenance(movie, whole.frames[1], ready, threshold))
    check_table(out, provenance)
    with alone(out):
        journal = _Journal(out, provenance, movie, resume)
        with journal.kept():
            n = block_frames or max(8, min(MAX_BLOCK, BLOCK_PX // max(1, movie.n_planes * movie.field_px[0] * movie.field_px[1])))
            found = journal.rows()
            for block in _ahead(_blocks(whole, movie, n, localizer.context, journal.next_frame)):
                table = selection.keep(localizer(_frames(block, movie, ready, chosen), (block.start, block.stop), tile_px))
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
        experiment=ready.model.experiment.to_json(),
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


def _fingerprint(model: Model) -> str:
    """Identify the weights of a model and what corrects its uncertainties."""
    digest = hashlib.sha256()
    for name, value in sorted(model.localizer.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    if model.localizer.correction is not None:
        digest.update(json.dumps(model.localizer.correction.to_json(), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _frames(block: Block, movie: Movie, ready: Preparation, device: torch.device) -> Frames:
    """Turn a block of counts into photons on the device."""
    counts = block.counts
    if not np.issubdtype(counts.dtype, np.floating) or counts.dtype.itemsize != 4:
        counts = counts.astype(np.float32)
    photons = ready.camera.to_photons(torch.from_numpy(np.ascontiguousarray(counts)).to(device))
    background = None if ready.background is None else torch.from_numpy(ready.background).to(device)
    variance = ready.camera.noise_variance(movie.shape_px)
    return Frames(
        photons,
        ready.pixel_size_nm,
        variance=None if bool((variance == variance.flatten()[0]).all()) else variance,  # one number is among the conditions
        background=background,
        first_frame=block.first,
        origin_px=movie.origin_px,
    )


def _blocks(whole: Movie, part: Movie, n: int, context: int, start: int) -> Iterator[Block]:
    """Walk over the frames of a part from ``start`` on, n at a time, with context frames on both sides, outside of the part as well.

    A frame outside of the part that cannot be read counts as missing.
    """
    for begin in range(start, part.frames[1], n):
        end = min(begin + n, part.frames[1])
        first, last = max(whole.frames[0], begin - context), min(whole.frames[1], end + context)
        try:
            counts = whole.read(first, last)
        except MovieError:
            if part.frames[0] <= first and last <= part.frames[1]:
                raise
            first, last = max(part.frames[0], first), min(part.frames[1], last)
            counts = whole.read(first, last)
        yield Block(counts, first, begin, end)


def _ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Read the next block while the present one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block


def _run_of(note: Path) -> str | None:
    """Read which run a journal belongs to; None if the note is damaged."""
    try:
        return str(json.loads(note.read_text())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_readable(path: Path) -> bool:
    try:
        read_table(path)
    except DenselocError:
        return False
    return True


class _Journal:
    """Finished blocks on disk."""

    def __init__(self, out: Path, provenance: Provenance, movie: Movie, resume: bool) -> None:
        self.folder = out.with_name(out.name + ".parts")
        told = ("assumed", "warnings")  # words about numbers that stand in the other settings
        settings = {key: value for key, value in provenance.settings.items() if key not in told}
        run = asdict(replace(provenance, settings=settings))
        mark = hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()
        note = self.folder / "run.json"
        if self.folder.exists() and not note.exists():
            raise OutputError(
                f"{self.folder} is in the way and was not made by this program; move it or choose another name for the table"
            )
        if resume and note.exists():
            if _run_of(note) != mark:
                raise OutputError(
                    f"{self.folder} was left by a run with another movie, model or setting; leave out --resume to begin anew"
                )
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            try:
                self.folder.mkdir()
            except OSError as error:
                raise OutputError(f"{self.folder}: cannot be made ({error.strerror}); choose another place") from None
            try:
                with replacing(note) as temporary:
                    temporary.write_text(json.dumps({"run": mark}))
            except OutputError:
                self.remove()
                raise
        self.next_frame = self._keep_whole(*movie.frames)

    def _keep_whole(self, first: int, last: int) -> int:
        """Keep the blocks that follow one another from the first frame on and can be read; gives the next frame to localize."""
        files = self._files()
        for i, path in enumerate(files):
            start, stop = self._span(path)
            if start != first or stop > last or not _is_readable(path):
                for lost in files[i:]:
                    lost.unlink()
                break
            first = stop
        return first

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever ends the run: leave no empty journal behind, and say of one with finished blocks that it can be used."""
        try:
            yield
        except BaseException as error:
            if not self._files():
                self.remove()
            elif isinstance(error, DenselocError) and not isinstance(error, Interrupted):
                hint = f"finished blocks are kept in {self.folder.name}; the same command with --resume goes on from there"
                raise type(error)(f"{error}\n{hint}") from error
            raise

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if BLOCK_NAME.fullmatch(path.stem))

    @staticmethod
    def _span(path: Path) -> tuple[int, int]:
        start, stop, *_ = path.stem.split("-")
        return int(start), int(stop)

    def rows(self) -> int:
        return sum(int(path.stem.split("-")[2]) for path in self._files())

    def add(self, table: Localizations, start: int, stop: int) -> None:
        write_table(self.folder / f"{start:010d}-{stop:010d}-{len(table)}.parquet", table)

    def parts(self, stop: Callable[[], int]) -> Iterator[Localizations]:
        for path in self._files():
            self.heed(stop(), "before the table was written")
            yield read_table(path)
        self.heed(stop(), "before the table was written")

    def heed(self, signal: int, where: str) -> None:
        """End the run if a signal has come."""
        if signal:
            hint = f"finished blocks are in {self.folder.name}, the same command with --resume goes on"
            raise Interrupted(f"stopped {where}; {hint}", 128 + signal)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
