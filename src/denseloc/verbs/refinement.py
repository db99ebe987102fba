"""Refine a table: every localization of any method begins a maximum-likelihood fit with the measured PSF.

Where the table knows the precision of its positions, they are a prior: a network that has seen the neighbouring frames too can know more than the
frame alone tells, and what it knows is kept. Where molecules are seen in several frames, these share what they tell (`fit.temporal`).

Source: Mueller et al. 2019 (a network finds and starts, maximum likelihood with several emitters refines); the prior and the sharing are ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..blocks import Progress, work_through
from ..camera import Camera
from ..data import Localizations, Movie, Provenance
from ..errors import OutputError, TableError
from ..formats import check_table, read_table, table_suffixes, write_table
from ..journal import Journal
from ..localize.crowd import Decision
from ..machine import choose_device, keep_memory
from ..optics import PSFSettings
from ..pipeline import Run, opened
from ..preparation import Preparation
from .refinement_checks import check_pixel_size, context_of, factor_on_sigma, usable, warnings_after
from .refinement_preparation import document_of, prepare_refinement, refined_provenance
from .refinement_work import Wanted, Work, decisions_of, write_decisions

BLOCK_PX = 1 << 18  # pixels of a block of frames: fits take seconds for so many
ADDED_FROM = 7.0
"""Significance of the residual from which on an emitter is added to those of a table."""


@dataclass(frozen=True)
class Refinement:
    """What a refinement left behind.

    Args:
        table: the file.
        rows: localizations.
        refined: how many of them the fit has moved; the others keep their first values.
        linked: how many share their position with another frame.
        decisions: emitters added and removed, and why.
        seconds: time of this session.
        frames: of the movie.
        lines: what was assumed.
        warnings: what the user should know.
        late: those of the warnings that only the result has shown.
        provenance: what the table says of itself.
    """

    table: Path
    rows: int
    refined: int
    linked: int
    decisions: list[Decision]
    seconds: float
    frames: int = 0
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    provenance: Provenance = field(default_factory=Provenance)

    def as_run(self) -> Run:
        """Give it as what a localization leaves behind."""
        return Run(self.table, self.rows, self.frames, self.seconds, self.lines, self.warnings, self.provenance)


def refine(
    table: Localizations | Path | str,
    movie: Movie | Path | str,
    out: Path | str,
    *,
    psf: PSFSettings | Path | str | None = None,
    pixel_size_nm: float | tuple[float, float] | None = None,
    camera: Camera | None = None,
    planes: int | None = None,
    prior: bool = True,
    share_positions: bool = True,
    add: bool = False,
    remove: bool = False,
    sloped_background: bool = False,
    block_frames: int | None = None,
    device: str | None = None,
    resume: bool = False,
    allow_truncated: bool = False,
    prepared: Callable[[Preparation], None] = lambda _: None,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], int] = lambda: 0,
) -> Refinement:
    """Refine the localizations of a table with the movie they came from, and write a new table.

    Args:
        table: localizations of any method, or their file; it is read whole.
        movie: the movie, or its file or folder.
        out: table to write (.parquet, .csv, .hdf5); not the table itself.
        psf: a PSF or its file; None takes that of the table's model, or a Gaussian of the measured width where the model serves many microscopes.
        pixel_size_nm: camera pixel in the sample, one number or (y, x); None takes what table or movie say.
        camera: turns counts into photons; None takes the one that was given when the table was made or that of its model, or estimates it.
        planes: focal planes of a frame, where they follow one another as images of the file.
        prior: take the positions of the table and their sigmas as known beforehand; without it each frame alone decides.
        share_positions: let the frames in which a molecule is seen share its position.
        add: look for emitters that the table has missed.
        remove: take away emitters that the likelihood does not pay for.
        sloped_background: let the background around a group of emitters slope.
        block_frames: frames read and kept at once. Does not change the result.
        device: "cpu", "cuda", ...; the best one there is if None.
        resume: go on with the blocks that an interrupted run has left.
        allow_truncated: use the whole frames of a movie file that breaks off.
        prepared: told, before the first block, what was measured and assumed.
        report: told after each block how it goes.
        stop: asked after each block; a signal number ends the run and keeps the finished blocks.

    Raises:
        TableError: the table is empty or is not of this movie.
        DenselocError: one line that says what was found, what was expected and what to do.
        Interrupted: ``stop`` asked for it.
    """
    started = time.monotonic()
    out = Path(out)
    wanted = Wanted(prior, share_positions, add, remove, sloped_background)
    rows, notes = usable(_read(table, out))
    check_table(out)
    told = rows.provenance
    part = _part(opened(movie, planes, allow_truncated), told)
    check_pixel_size(pixel_size_nm, told)
    keep_memory()
    chosen = choose_device(device)
    ready, localizer = prepare_refinement(rows, part, psf, pixel_size_nm, camera, chosen, add)
    ready = replace(ready, lines=[*ready.lines, *notes])
    prepared(ready)
    localizer.settings = localizer.settings.model_copy(update={"significance": ADDED_FROM, "sloped_background": sloped_background})
    provenance = refined_provenance(told, part, ready, wanted)
    work = Work(localizer, rows, ready, factor_on_sigma(document_of(told), told), context_of(document_of(told)), wanted)
    counts = {"refined": 0, "linked": 0}
    with Journal.of(out, provenance, part, resume) as journal:
        work_through(
            part,
            part,
            ready,
            chosen,
            journal,
            work.fit,
            context=0,
            block_frames=block_frames,
            block_px=BLOCK_PX,
            report=report,
            stop=stop,
        )
        decisions = [one for _, arrays in journal.parts_beside(stop) for one in decisions_of(arrays)]
        written = write_table(out, work.joined(journal, stop, counts), provenance)
        if add or remove:
            write_decisions(decisions, out.with_suffix(".decisions.csv"))
    late = warnings_after(counts["refined"], written)
    return Refinement(
        out,
        written,
        counts["refined"],
        counts["linked"],
        decisions,
        time.monotonic() - started,
        part.n_frames,
        ready.lines,
        [*ready.warnings, *late],
        late,
        provenance,
    )


def _read(table: Localizations | Path | str, out: Path) -> Localizations:
    """Read the table, which must not be the one that is written."""
    if out.suffix.lower() not in table_suffixes():
        raise OutputError(
            f"table {out.name}: the suffix '{out.suffix}' names no table format; known: {', '.join(table_suffixes())}"
        )
    if isinstance(table, Localizations):
        return table
    if Path(table).resolve() == out.resolve():
        raise TableError(f"{out} is the table itself; give another name")
    return read_table(table)


def _part(movie: Movie, told: Provenance) -> Movie:
    """Take the frames and the region that a table was made from."""
    frames, roi = told.settings.get("frames"), told.settings.get("roi_px")
    first, last = movie.frames
    within = isinstance(frames, list) and len(frames) == 2 and first <= frames[0] < frames[1] <= last
    inside = (
        isinstance(roi, list) and len(roi) == 4 and roi[0] + roi[2] <= movie.field_px[0] and roi[1] + roi[3] <= movie.field_px[1]
    )
    return movie.crop(tuple(frames) if within and frames else None, tuple(roi) if inside and roi else None)
