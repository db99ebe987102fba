"""Inspect a movie: what its file says of the camera beside what its counts show, and a document that fits both ways of knowing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..calibrate.cameras import KNOWN_CAMERAS, KnownCamera, find_camera, read_known_cameras
from ..calibrate.conditions import Conditions, Estimate, estimate_conditions
from ..calibrate.depth import check_depth_psf
from ..calibrate.excess import Skewness, noise_skewness
from ..calibrate.given_camera import estimate_with_camera
from ..calibrate.sampling import take_sample
from ..calibrate.series import CameraMaps, camera_maps, measure_level
from ..camera import Camera
from ..data import Movie
from ..errors import CalibrationError, OutputError
from ..experiment import read_document
from ..files import check_writable
from ..fit import DEPTHS_NM
from ..formats import open_movie
from ..formats.camera_tags import Proposal, camera_tags, texts
from ..formats.psf_files import foreign_notes, known_pixel_size, read_psf
from ..optics import PSF
from ..units import PixelSize, is_plausible_pixel_size, pixel_size_pair
from .inspection_contradictions import contradictions
from .inspection_count import count_molecules
from .inspection_document import crowd_notes, draft, write_document
from .inspection_facts import MULTIPLIED_SLOPE, Fact, Light, facts, unsure_of_excess
from .inspection_page import write_inspection_page

LEAST_SIDE_PX = 8
LEAST_FRAMES = 2
EXCESS_NOTE = (
    "the noise does not show whether electrons are multiplied; for an EMCCD give the camera (--camera) with its em_gain, else photons read "
    "half"
)
STEEP_NOTE = (
    "the camera is taken to multiply electrons, as no other has so few electrons in a count; if yours does not, give the camera (--camera), "
    "else photons read double"
)


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a movie was taken under, as its counts show it, and what its file says.

    Args:
        movie: its name.
        pixel_size_nm: (y, x).
        facts: values with interval and source.
        proposals: what metadata say; none of it is used.
        known_camera: the entry of the table of cameras that fits the metadata; not used either.
        contradictions: where metadata or a given camera and the counts speak against each other, one line each.
        notes: what a reader should know besides.
        conditions: the estimates, with the camera as far as it was given.
        maps: from dark and bright series, if there were any.
        document: the experiment, ready to train for; None where the movie shows too little, which a note says then.
        page: the report that was written, or None.
    """

    movie: str
    pixel_size_nm: PixelSize
    facts: tuple[Fact, ...]
    proposals: tuple[Proposal, ...]
    known_camera: KnownCamera | None
    contradictions: tuple[str, ...]
    notes: tuple[str, ...]
    conditions: Conditions
    maps: CameraMaps | None
    document: dict[str, Any] | None
    page: Path | None = None

    def fact(self, name: str) -> Fact:
        """Find a fact by its name.

        Raises:
            KeyError: there is none.
        """
        return next((fact for fact in self.facts if fact.name == name), None) or _missing(name, self.facts)

    def lines(self) -> list[str]:
        """Say everything in plain words, one line each."""
        told = [f"{fact.name}: {fact}" for fact in self.facts]
        told += [f"proposed by the file, not used: {proposal}" for proposal in self.proposals]
        if self.known_camera is not None:
            told.append(f"proposed by the table of cameras, not used: {said_by_table(self.known_camera)}")
        told += [f"contradiction: {line}" for line in self.contradictions]
        return told + [f"note: {note}" for note in self.notes]

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "movie": self.movie,
            "pixel_size_nm": list(self.pixel_size_nm),
            "facts": [fact.to_json() for fact in self.facts],
            "proposals": [asdict(proposal) for proposal in self.proposals],
            "known_camera": None if self.known_camera is None else self.known_camera.model_dump(mode="json", exclude_none=True),
            "contradictions": list(self.contradictions),
            "notes": list(self.notes),
            "document": self.document,
        }


def _missing(name: str, known: Sequence[Fact]) -> Any:
    raise KeyError(f"no fact '{name}'; known: {', '.join(fact.name for fact in known)}")


def said_by_table(camera: KnownCamera) -> str:
    """Say what the table of cameras holds of one, in one line."""
    values = {
        "offset": (camera.offset_counts, "counts"),
        "conversion": (camera.electrons_per_count, "e-/count"),
        "read noise": (camera.read_noise_electrons, "e-"),
        "quantum efficiency": (camera.quantum_efficiency, ""),
    }
    told = [f"{name} {value:g} {unit}".strip() for name, (value, unit) in values.items() if value is not None]
    return f"{camera.name}, {', '.join([camera.kind, *told])} ({camera.source})"


def inspect(
    movie: Movie | Path | str,
    *,
    pixel_size_nm: float | tuple[float, float] | None = None,
    camera: Camera | None = None,
    dark: Movie | Path | str | None = None,
    bright: Sequence[Movie | Path | str] = (),
    psf: Path | str | None = None,
    cameras: Path | str | None = None,
    out: Path | str | None = None,
    report: Path | str | bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Inspection:
    """Say what a movie was taken under, each value with an interval and its source; write a document for it and a page to look at.

    Args:
        movie: the movie or its file.
        pixel_size_nm: (y, x) or one number; None takes what the movie's file says, else that of the PSF.
        camera: the camera where it is known; what it says is taken, and compared with the counts.
        dark: frames without light of the same region, or their file.
        bright: frames of even light of the same region, one level each, or their files; needs ``dark``.
        psf: file of a calibrated PSF of one plane; the depths of isolated spots are found with it, and the document names it.
        cameras: TOML file with cameras that are looked at before those of the table.
        out: experiment document to write, ending in .toml; maps of the camera stand beside it.
        report: page to write; True writes ``OUT.report.html`` beside a document ``OUT.toml``, False none.
        progress: told what is going on.

    Raises:
        MovieError: a movie cannot be read.
        CalibrationError: frames too small or too few, no pixel size, series that are none, or a PSF that tells no depth.
        CameraError, DocumentError: the file of cameras has a mistake.
        OutputError: the document or the page cannot be written.
    """
    page = _page(out, report)
    table = (*(read_known_cameras(read_document(cameras), str(cameras)) if cameras else ()), *KNOWN_CAMERAS)
    opened = _opened(movie)
    size = _pixel_size(opened, pixel_size_nm, psf)
    optics, known_nm, told = (None, None, []) if psf is None else _optics(psf, size)
    maps = _maps(opened, dark, bright, progress)
    progress("measuring camera and conditions")
    alone = estimate_conditions(opened, pixel_size_nm=size)
    skewness = _skewness(opened, alone, maps, size)
    by_pixels = unsure_of_excess(_conditions(opened, size, camera, maps, alone, skewness))
    progress("counting molecules")
    counted = count_molecules(opened, size, by_pixels, camera, psf is not None)
    conditions = counted.conditions
    progress("measuring molecules and background")
    light = Light.of(opened, conditions, size, optics)
    proposals, known = camera_tags(opened), find_camera(texts(opened), table)
    document, problem = draft(opened, size, conditions, camera, maps, light, None if psf is None else Path(psf), known_nm)
    found = Inspection(
        opened.name,
        size,
        tuple(facts(conditions, alone, skewness, maps, light, counted.pixels)),
        proposals,
        known,
        tuple(contradictions(alone, skewness, proposals, known, camera, maps, conditions.excess)),
        (
            *told,
            *conditions.notes,
            *counted.notes,
            *light.notes(),
            *crowd_notes(conditions, light),
            *((problem,) if problem else ()),
        ),
        conditions,
        maps,
        document,
        page,
    )
    if out is not None:
        if document is None:
            raise CalibrationError(
                f"{opened.name}: no document can be written: {problem}; a report alone (--report PAGE, in Python report=PAGE) shows what was seen"
            )
        write_document(Path(out), document, found.lines(), maps, optics)
    if page is not None:
        progress("writing the report")
        _write_page(page, found, opened, light)
    return found


def _write_page(page: Path, found: Inspection, movie: Movie, light: Light) -> None:
    said = [
        (_quantity(p), f"{p.value:g} {p.unit}".strip() if isinstance(p.value, float) else p.value, p.where) for p in found.proposals
    ]
    if found.known_camera is not None:
        said.append(("table of cameras", said_by_table(found.known_camera), "the name of the camera in the metadata"))
    write_inspection_page(
        page,
        movie,
        found.pixel_size_nm,
        found.conditions,
        light,
        found.maps,
        found.facts,
        said,
        found.contradictions,
        found.notes,
        found.document,
    )


def _quantity(proposal: Proposal) -> str:
    return proposal.quantity.removesuffix(f"_{proposal.unit}").replace("_", " ") if proposal.unit != "counts" else "offset"


def _page(out: Path | str | None, report: Path | str | bool) -> Path | None:
    """Check what is to be written and give the path of the page."""
    if out is not None and Path(out).suffix.lower() != ".toml":
        raise OutputError(f"document {Path(out).name}: expected a name that ends in .toml; rename it")
    page = (
        Path(report)
        if isinstance(report, (str, Path))
        else Path(out).with_suffix(".report.html")
        if report and out is not None
        else None
    )
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"page {page.name}: expected a name that ends in .html; rename it")
    for path in (out, page):
        if path is not None:
            check_writable(path)
    return page


def _optics(psf: Path | str, size: PixelSize) -> tuple[PSF, tuple[float, float], list[str]]:
    """Read the PSF for the pixels of the movie, the depths at which it is to be used, and what is to be noted of it.

    Raises:
        CalibrationError: no PSF, or one from which depth cannot be had.
    """
    section, record = read_psf(psf, pixel_size_nm=size)
    built = section.build(size)
    check_depth_psf(built)
    low, high = record.get("z_range_nm") or built.z_range_nm or DEPTHS_NM
    return built, (float(low), float(high)), [f"{Path(psf).name}: {note}" for note in foreign_notes(record)]


def _opened(movie: Movie | Path | str) -> Movie:
    return movie if isinstance(movie, Movie) else open_movie(movie)


def _pixel_size(movie: Movie, given: float | tuple[float, float] | None, psf: Path | str | None) -> PixelSize:
    rows, columns = movie.shape_px
    if min(rows, columns) < LEAST_SIDE_PX:
        raise CalibrationError(
            f"frames of {rows} x {columns} px; expected at least {LEAST_SIDE_PX} x {LEAST_SIDE_PX}: give a larger region"
        )
    if movie.n_frames < LEAST_FRAMES:
        raise CalibrationError(
            f"{movie.name} has {movie.n_frames} frame, expected {LEAST_FRAMES} or more: what changes from frame to frame shows the camera; "
            "give the whole movie"
        )
    size = given if given is not None else movie.pixel_size_nm
    if size is None and psf is not None:
        size = known_pixel_size(read_psf(psf).record)
    if size is None:
        raise CalibrationError(
            f"{movie.name} does not say its pixel size; give it: --pixel-size-nm 100, in Python pixel_size_nm=100"
        )
    pair = pixel_size_pair(size)
    if not is_plausible_pixel_size(pair):
        raise CalibrationError(
            f"pixel size {pair[1]:g} nm; expected 5 to 2000 nm in the sample plane: give --pixel-size-nm in nm, in Python pixel_size_nm"
        )
    return pair


def _maps(
    movie: Movie, dark: Movie | Path | str | None, bright: Sequence[Movie | Path | str], progress: Callable[[str], None]
) -> CameraMaps | None:
    if dark is None:
        if bright:
            raise CalibrationError(
                "bright series were given without a dark one; give the frames without light too: --dark FILE, in Python dark=FILE"
            )
        return None
    progress("measuring the dark and bright series")
    series = [_opened(dark), *(_opened(one) for one in bright)]
    _check_apart(movie, series)
    for one in series:
        if one.shape_px != movie.shape_px:
            sizes = [f"{rows} x {columns} px" for rows, columns in (one.shape_px, movie.shape_px)]
            raise CalibrationError(
                f"series {one.name} has frames of {sizes[0]}, the movie {sizes[1]}; record both with the same region"
            )
    return camera_maps(measure_level(series[0], "dark"), [measure_level(one, "bright") for one in series[1:]])


def _check_apart(movie: Movie, series: Sequence[Movie]) -> None:
    """Refuse a file that stands for two things."""
    paths = [one.path.resolve() for one in (movie, *series) if one.path is not None]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise CalibrationError(
            f"{twice.name} is given twice among movie, dark and bright series; expected a file of its own for each"
        )


def _skewness(movie: Movie, alone: Conditions, maps: CameraMaps | None, size: PixelSize) -> Skewness | None:
    """Look at the skewness of the noise where its slope against the light was measured."""
    slope = _slope(alone, maps)
    return (
        noise_skewness(take_sample(movie).counts, alone.width_nm.value / float(np.sqrt(size[0] * size[1])), slope)
        if slope
        else None
    )


def _conditions(
    movie: Movie, size: PixelSize, camera: Camera | None, maps: CameraMaps | None, alone: Conditions, skewness: Skewness | None
) -> Conditions:
    """Estimate again with what is known: a given camera, then series, then the skewness of the noise."""
    if camera is not None:
        return estimate_with_camera(movie, size, camera.crop(*movie.roi_px))
    known: dict[str, float] = {}
    excess = skewness.excess if skewness is not None else None
    steep = excess is None and _slope(alone, maps) >= MULTIPLIED_SLOPE
    factor = 2.0 if steep else excess or 1.0
    if steep or excess is not None:
        known["excess"] = factor
    if maps is not None:
        known["offset_counts"] = maps.offset_span.value
        if maps.gain_span is not None:
            gain = maps.gain_span.value / factor
            known |= {"counts_per_photon": gain, "noise_variance": maps.variance_span.value / gain**2, "excess": factor}
    if not known:
        return alone
    found = estimate_conditions(movie, pixel_size_nm=size, **known)  # type: ignore[arg-type]
    if maps is not None:
        found = _with_series(found, maps, factor)
    return _with_excess(found, excess, factor) if "excess" in known else found


def _slope(alone: Conditions, maps: CameraMaps | None) -> float:
    """Give the variance per count of light, of the bright series or else of the movie; 0 where neither shows it."""
    if maps is not None and maps.gain_span is not None:
        return maps.gain_span.value
    return alone.counts_per_photon.value * alone.excess.value if alone.counts_per_photon.source == "measured" else 0.0


def _with_excess(found: Conditions, seen: float | None, taken: float) -> Conditions:
    """Say of the excess noise whether it was seen or only taken to be so."""
    notes = tuple(note for note in found.notes if "excess noise" not in note and "electron multiplying" not in note)
    if seen is not None:
        entry = Estimate(seen, seen, seen, "", "measured", "from the skewness of the noise")
        return replace(found, excess=entry, notes=notes)
    way = "from the many counts of a photon" if taken == 2.0 else ""
    return replace(
        found, excess=Estimate(taken, 1.0, 2.0, "", "assumed", way), notes=(*notes, STEEP_NOTE if taken == 2.0 else EXCESS_NOTE)
    )


def _with_series(found: Conditions, maps: CameraMaps, excess: float) -> Conditions:
    """Say of offset, gain and read noise that the series measured them, with their intervals."""
    o, v, g = maps.offset_span, maps.variance_span, maps.gain_span
    offset = Estimate(o.value, o.low, o.high, "counts", "measured", "from the dark series")
    if g is None:
        entry = found.counts_per_photon
        ends = [span / gain**2 for span, gain in ((v.value, entry.value), (v.low, entry.high), (v.high, entry.low))]
        noise = Estimate(ends[0], ends[1], ends[2], "photons^2", "measured", "from the dark series and the movie's gain")
        return replace(found, offset_counts=offset, noise_variance=noise)
    gain = Estimate(g.value / excess, g.low / excess, g.high / excess, "counts per photon", "measured", "from the bright series")
    ends = [span / (slope / excess) ** 2 for span, slope in ((v.value, g.value), (v.low, g.high), (v.high, g.low))]
    noise = Estimate(ends[0], ends[1], ends[2], "photons^2", "measured", "from the dark series")
    return replace(found, offset_counts=offset, counts_per_photon=gain, noise_variance=noise)
