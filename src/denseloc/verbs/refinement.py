"""Refine a table: every localization of any method begins a maximum-likelihood fit with the measured PSF.

Where the table knows the precision of its positions, they are a prior: a network that has seen the neighbouring frames too can know more than the
frame alone tells, and what it knows is kept. Where molecules are seen in several frames, these share what they tell (`fit.temporal`).

Source: Mueller et al. 2019 (a network finds and starts, maximum likelihood with several emitters refines); the prior and the sharing are ours.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..blocks import ahead, blocks_of, frames_of
from ..camera import CAMERAS, Camera
from ..data import Frames, Localizations, Movie, Provenance
from ..description import parse
from ..errors import DenselocError, OutputError, TableError
from ..experiment import Experiment
from ..files import alone, replacing
from ..fit.fisher import invert
from ..fit.joint_fits import JointFits, Prior
from ..fit.temporal import CHAIN, GAP, DensityMap, Evidence, link, link_radius, share, unlinked, variances
from ..formats import check_table, open_movie, read_table, table_suffixes, write_table
from ..formats.psf_files import foreign_notes, known_pixel_size, read_psf_for
from ..journal import Journal
from ..localize import Multi
from ..localize.crowd import Crowd, Decision
from ..localize.multi import reach_for, to_localizations
from ..machine import choose_device, keep_memory
from ..optics import PSFSettings
from ..pipeline import BLOCK_PX, MAX_BLOCK, Progress, Run
from ..preparation import GIVEN, OF_DOCUMENT, Preparation, prepare, serves_many
from .refinement_checks import (
    believed,
    check_depths,
    check_origin,
    check_pixel_size,
    context_of,
    factor_on_sigma,
    notes_before,
    usable,
    usual,
    warnings_after,
)

ADDED_FROM = 7.0
"""Significance of the residual from which on an emitter is added to those of a table."""

MOST_PHOTONS = 1e7  # of a table that are believed
OF_FIRST = ("camera", "conditions", "uneven_background", "assumed", "warnings")  # settings that a refinement has its own of
EVIDENCE = [one.name for one in fields(Evidence)]
USUAL_SIGMA_PX = 0.3  # where a table does not tell its precision
HALO = CHAIN * GAP + GAP  # frames on each side that can tell of a position


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
    rows, notes = usable(_read(table, out))
    check_table(out)
    whole = movie if isinstance(movie, Movie) else open_movie(Path(movie), allow_truncated=allow_truncated)
    whole = whole if planes is None else whole.with_planes(planes)
    told = rows.provenance
    whole = _part(whole, told)
    check_pixel_size(pixel_size_nm, told)
    size = next((one for one in (pixel_size_nm, told.pixel_size_nm, whole.pixel_size_nm) if one is not None), None)
    document = _document(told)
    measured: PSFSettings | None = None
    if isinstance(psf, (str, Path)):
        measured, record = read_psf_for(psf, size, pixel_size_nm)
        notes += [f"PSF: {psf}", *(f"note: {Path(psf).name}: {line}" for line in foreign_notes(record))]
        size = size if size is not None else known_pixel_size(record)
    elif psf is not None:
        measured = psf
    elif document is not None and (not serves_many(document) or getattr(document.localizer, "psf", None) is not None):
        measured = document.psf
    keep_memory()
    chosen = choose_device(device)
    recorded = None if camera is not None else _recorded(told)
    if recorded is not None:
        notes.append("note: the camera is the one that was given when the table was made; --camera takes another")
    elif camera is None and _was_given(told):
        notes.append(
            "note: the table was made with a camera that was given, which it does not hold in full; give it again: --camera"
        )
    own = None if camera is not None or recorded is not None else _camera(document)
    source = GIVEN if own is None else OF_DOCUMENT
    ready = prepare(whole, None, size, camera or recorded or own, "multi", chosen, measured, count=False, source=source)
    localizer = ready.model.localizer
    assert isinstance(localizer, Multi)
    check_origin(rows, whole, ready.pixel_size_nm)
    check_depths(rows, localizer.finds_depth, add)
    notes += notes_before(rows, whole, ready, localizer.finds_depth)
    ready = replace(ready, lines=[*ready.lines[:1], *notes, *ready.lines[1:]])
    prepared(ready)
    localizer.conditions = ready.conditions
    localizer.settings = localizer.settings.model_copy(update={"significance": ADDED_FROM, "sloped_background": sloped_background})
    ready.camera.to(chosen)
    wanted = {
        "prior": prior,
        "share_positions": share_positions,
        "add": add,
        "remove": remove,
        "sloped_background": sloped_background,
    }
    provenance = _provenance(told, whole, ready, wanted)
    work = _Work(localizer, rows, ready, factor_on_sigma(document, told), **wanted, seen=context_of(document))
    with alone(out):
        journal = Journal(out, provenance, whole, resume)
        with journal.kept():
            n = block_frames or max(8, min(MAX_BLOCK, BLOCK_PX // max(1, whole.n_planes * whole.field_px[0] * whole.field_px[1])))
            found = journal.rows()
            for block in ahead(blocks_of(whole, whole, n, 0, journal.next_frame)):
                part, beside = work.fit(frames_of(block, whole, ready, chosen), (block.start, block.stop))
                journal.add(part, block.start, block.stop, beside)
                found += len(part)
                report(Progress(block.stop - whole.frames[0], whole.n_frames, found, time.monotonic() - started))
                journal.heed(stop(), f"after frame {block.stop - 1} of {whole.frames[1] - 1}")
            counts = {"refined": 0, "linked": 0}
            decisions = [one for _, arrays in journal.parts_beside(stop) for one in _decisions(arrays)]
            written = write_table(out, work.joined(journal, stop, counts), provenance)
            if add or remove:
                write_decisions(decisions, out.with_suffix(".decisions.csv"))
        journal.remove()
    late = warnings_after(counts["refined"], written)
    return Refinement(
        out,
        written,
        counts["refined"],
        counts["linked"],
        decisions,
        time.monotonic() - started,
        whole.n_frames,
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


def _document(told: Provenance) -> Experiment | None:
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


def _provenance(told: Provenance, movie: Movie, ready: Preparation, wanted: dict[str, bool]) -> Provenance:
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
            **wanted,
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


class _Work:
    """The fits of one run."""

    def __init__(
        self,
        localizer: Multi,
        rows: Localizations,
        ready: Preparation,
        factor: float,
        *,
        prior: bool,
        share_positions: bool,
        add: bool,
        remove: bool,
        sloped_background: bool,
        seen: int,
    ) -> None:
        self.localizer, self.rows, self.ready, self.factor = localizer, rows, ready, factor
        self.prior, self.share, self.add, self.remove = prior and "sigma_x_nm" in rows, share_positions, add, remove
        self.has_depth = rows.is_3d and localizer.finds_depth
        kept = ("probability", "molecule", "channel", *(() if self.has_depth else ("z_nm", "sigma_z_nm", "crlb_z_nm")))
        self.kept = [name for name in rows.columns if name in kept]
        width = localizer.psf_settings(ready.pixel_size_nm).width_in_focus_nm()
        self.reach = reach_for(width / math.sqrt(ready.pixel_size_nm[0] * ready.pixel_size_nm[1]))
        self.seen = 2 * seen + 1

    def fit(self, frames: Frames, part: tuple[int, int]) -> tuple[Localizations, dict[str, np.ndarray]]:
        """Fit the rows of a block; gives them, and what each frame alone tells of them and what was added and removed, as arrays."""
        low, high = np.searchsorted(self.rows.frame, part)
        rows = self.rows.select(np.arange(low, high))
        crowd = self.localizer.crowd(frames)
        begin, prior = self._begin(rows, crowd)
        number = torch.arange(len(rows))
        fits = crowd.joint.fit(begin, prior)
        if self.add:
            grown = crowd.grow(fits, (0, len(frames.photons)), prior)
            number = torch.cat((number, torch.full((len(grown) - len(fits),), -1)))
            prior = None if prior is None else prior.lengthened(grown.select(number < 0))
            fits = crowd.joint.fit(grown, prior)
        if self.remove:
            fits, left = crowd.prune(fits, prior)
            number, prior = number[left.cpu()], None if prior is None else prior.select(left)
            fits = crowd.joint.fit(fits, prior) if len(fits) else fits
        fits = self._held(fits, begin, number)
        stay = fits.converged | (number >= 0).to(fits.converged.device)
        fits, number, prior = crowd.left(fits, stay), number[stay.cpu()], None if prior is None else prior.select(stay)
        order = torch.from_numpy(np.lexsort((fits.at[:, 0].cpu().numpy(), fits.at[:, 1].cpu().numpy(), fits.frame.cpu().numpy())))
        fits, number, prior = fits.select(order), number[order], None if prior is None else prior.select(order)
        evidence = Evidence.of(fits, self._own_word(fits, prior), frames.origin_px)
        return self._table(fits, crowd, rows, number, evidence), {**vars(evidence), **_columns(crowd.decisions)}

    def _own_word(self, fits: JointFits, prior: Prior | None) -> Prior | None:
        """Give the prior with the table's own sigmas where no fit has used the same pixels again."""
        if prior is None:
            return None
        return replace(prior, precision=torch.where(fits.converged[:, None], 1.0, self.factor**2) * prior.precision)

    def _held(self, fits: JointFits, begin: JointFits, number: torch.Tensor) -> JointFits:
        """Take fits that have left their window, in several steps, or that do not know where they are, as not converged."""
        known = number.to(fits.at.device)
        moved = (fits.at[:, :2] - begin.at[known.clamp(min=0), :2]).abs() > self.reach
        vague = fits.covariance.diagonal(dim1=1, dim2=2)[:, :2] > self.reach**2
        sound = ~(moved & (known >= 0)[:, None]).any(1) & ~vague.any(1)
        return replace(fits, converged=fits.converged & sound)

    def _begin(self, rows: Localizations, crowd: Crowd) -> tuple[JointFits, Prior | None]:
        """Turn rows into places where fits begin, and what is known of them."""
        joint = crowd.joint
        y0, x0 = crowd.frames.origin_px
        pixel = self.ready.pixel_size_nm
        columns = [rows.x_nm / pixel[1] - 0.5 - x0, rows.y_nm / pixel[0] - 0.5 - y0]
        known = [believed(rows.columns.get(f"sigma_{axis}_nm"), len(rows), self.factor) for axis in "xy"]
        sigma = [one / p for one, p in zip(known, pixel[::-1], strict=True)]
        if joint.n_coordinates == 3:
            z = rows.z_nm if rows.is_3d else np.zeros(len(rows))
            unknown = None if rows.is_3d else np.full(len(rows), 0.5 * np.ptp(crowd.settings.z_range_nm))
            columns.append(np.clip(np.nan_to_num(z), *crowd.settings.z_range_nm))
            sigma.append(believed(rows.columns.get("sigma_z_nm", unknown), len(rows), self.factor if rows.is_3d else 1.0))
        columns.append(usual(rows.columns.get("photons"), len(rows), self.localizer.scales.photon_unit, 20.0, MOST_PHOTONS))
        at = torch.from_numpy(np.stack(columns, 1).astype(np.float64))
        level = usual(rows.columns.get("background"), len(rows), self.ready.conditions.background, 0.01, MOST_PHOTONS)
        background = torch.from_numpy(level.astype(np.float64))[:, None].expand(-1, joint.psf.planes)
        frame = torch.from_numpy(rows.frame - crowd.frames.first_frame)
        device = crowd.frames.photons.device
        begin = JointFits.beginning(frame.to(device), at.to(device), background.to(device))
        spread = torch.from_numpy(np.stack(sigma, 1).astype(np.float64)).to(device)
        return begin, Prior(begin.at[:, :-1].clone(), spread**-2) if self.prior else None

    def _table(self, fits: JointFits, crowd: Crowd, rows: Localizations, number: torch.Tensor, evidence: Evidence) -> Localizations:
        """Give fits as a table beside the first values; those that have not converged keep theirs."""
        made = to_localizations(fits, crowd)
        index = number.numpy()
        known = index >= 0
        converged = fits.converged.cpu().numpy()
        columns: dict[str, np.ndarray] = dict(made.columns)
        columns |= self._bounds(evidence)
        source = rows.columns
        if not self.rows.is_3d:  # depth was free, but a PSF that was not made to tell it tells it badly
            columns = {name: values for name, values in columns.items() if "z_nm" not in name}
        for name in ("x_nm", "y_nm", "z_nm", "photons"):
            if name in columns and name in source:
                columns[f"first_{name}"] = _taken(source[name], index, known)
        for name in self.kept:
            columns[name] = _taken(source[name], index, known)
        for name in ("x_nm", "y_nm", "z_nm", "photons", "background", *(c for c in columns if c.startswith("sigma_"))):
            if name in columns and name in source:
                columns[name] = np.where(converged | ~known, columns[name], _taken(source[name], index, known))
        columns["is_refined"] = converged.astype(np.int64)
        return Localizations(columns)

    def _bounds(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """Give the bounds of positions as standard deviations: what the frame alone tells."""
        scale = (self.ready.pixel_size_nm[1], self.ready.pixel_size_nm[0], 1.0)
        variance = np.diagonal(invert(torch.from_numpy(evidence.own)).numpy(), axis1=1, axis2=2)
        axes = "xyz"[: 3 if self.has_depth else 2]
        return {f"crlb_{axis}_nm": np.sqrt(variance[:, k]) * scale[k] for k, axis in enumerate(axes)}

    def joined(self, journal: Journal, stop: Callable[[], int], counts: dict[str, int]) -> Iterator[Localizations]:
        """Give the finished blocks, with shared positions; counts what was moved."""
        if not self.share and not self.prior:
            for table in journal.parts(stop):
                counts["refined"] += int(table.is_refined.sum())
                yield table
            return
        k = 3 if self.has_depth else 2
        density, radius = self._surroundings(k)
        for before, (table, arrays), after in _with_halo(journal, stop):
            near = (*before, (table, arrays), *after)
            evidence = Evidence.concat([{name: beside[name] for name in EVIDENCE} for _, beside in near])
            start = sum(len(one) for one, _ in before)
            rows = slice(start, start + len(table))
            links = unlinked(len(evidence.own))
            if self.share:
                frame = np.concatenate([one.frame for one, _ in near])
                position, covariance = evidence.position()[:, :k], np.linalg.inv(evidence.own + evidence.prior)[:, :k, :k]
                links = link(frame, position, covariance, density.at(position), radius)
            linked = (links.after[rows] >= 0) | (links.before[rows] >= 0)
            counts["refined"] += int(table.is_refined.sum())
            counts["linked"] += int(linked.sum())
            place, variance = share(evidence, links), variances(evidence, links, self.seen)
            yield self._moved(table, place[rows, :k], variance[rows], linked | (table.is_refined == 1))

    def _surroundings(self, k: int) -> tuple[DensityMap, float]:
        """Give the map of densities of all rows, and the distance within which the same molecules are sought."""
        pixel = self.ready.pixel_size_nm
        places = [self.rows.x_nm / pixel[1] - 0.5, self.rows.y_nm / pixel[0] - 0.5]
        places += [np.nan_to_num(self.rows.z_nm)] if k == 3 else []
        sigma = self.rows.columns.get("sigma_x_nm")
        usual = np.full(1, USUAL_SIGMA_PX) if sigma is None else np.clip(np.nan_to_num(sigma, nan=50.0) / pixel[1], 0.05, 2.0)
        return DensityMap(np.stack(places, 1), int(np.ptp(self.rows.frame)) + 1), link_radius(usual)

    def _moved(self, table: Localizations, place: np.ndarray, variance: np.ndarray, moved: np.ndarray) -> Localizations:
        """Put shared positions (n, k), in px and nm, and their variances into a table."""
        pixel, names = self.ready.pixel_size_nm, ("x_nm", "y_nm", "z_nm")
        scale, shift = (pixel[1], pixel[0], 1.0), (0.5, 0.5, 0.0)
        columns: dict[str, np.ndarray] = {}
        first = np.stack([table.columns[f"first_{name}"] / scale[k] - shift[k] for k, name in enumerate(names[:2])], 1)
        moved = moved & ~(np.abs(place[:, :2] - first) > self.reach).any(1)
        for k in range(place.shape[1]):
            value = (place[:, k] + shift[k]) * scale[k]
            columns[names[k]] = np.where(moved, value, table.columns[names[k]])
            sigma = np.sqrt(variance[:, k]) * scale[k]
            columns[f"sigma_{names[k]}"] = np.where(moved, sigma, table.columns[f"sigma_{names[k]}"])
        return table.with_columns(**columns).sort()


def _with_halo(journal: Journal, stop: Callable[[], int]) -> Iterator[tuple[list[_Part], _Part, list[_Part]]]:
    """Give each finished block with those before and after it that reach over the frames which can tell of its positions."""
    held: list[_Part] = []  # blocks from number ``first`` on
    spans = journal.spans()
    first = done = 0
    for part in journal.parts_beside(stop):
        held.append(part)
        while done < len(spans) and (first + len(held) == len(spans) or spans[first + len(held) - 1][1] >= spans[done][1] + HALO):
            while spans[first][1] <= spans[done][0] - HALO:
                first += 1
                del held[0]
            last = done + 1
            while last < first + len(held) and spans[last][0] < spans[done][1] + HALO:
                last += 1
            yield held[: done - first], held[done - first], held[done - first + 1 : last - first]
            done += 1


def _columns(decisions: list[Decision]) -> dict[str, np.ndarray]:
    """Turn decisions into arrays."""
    return {f"why_{f.name}": np.array([getattr(one, f.name) for one in decisions]) for f in fields(Decision)}


def _decisions(arrays: dict[str, np.ndarray]) -> Iterator[Decision]:
    columns = [arrays[f"why_{f.name}"].tolist() for f in fields(Decision)]
    return (Decision(*row) for row in zip(*columns, strict=True))


def write_decisions(decisions: Sequence[Decision], path: Path) -> None:
    """Write decisions as CSV."""
    names = [f.name for f in fields(Decision)]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        rows.writerows([getattr(one, name) for name in names] for one in decisions)


_Part = tuple[Localizations, dict[str, np.ndarray]]


def _taken(values: np.ndarray, index: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Take rows of a column; where there is none, NaN, or -1 among whole numbers."""
    if len(values) == 0:
        return np.full(len(index), np.nan)
    nothing = -1 if values.dtype.kind == "i" else np.nan
    return np.where(known, values[np.where(known, index, 0)], nothing)
