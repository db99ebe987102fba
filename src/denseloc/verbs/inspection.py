"""Inspect a movie: what its file says of the camera beside what its counts show, and a document that fits both ways of knowing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..calibrate.blinking import Lifetime, measure_lifetime
from ..calibrate.cameras import KNOWN_CAMERAS, KnownCamera, find_camera, read_known_cameras
from ..calibrate.conditions import Conditions, Estimate, estimate_conditions
from ..calibrate.excess import Skewness, noise_skewness
from ..calibrate.light import BackgroundInTime, DarkestGamma, PhotonFit, background_in_time, darkest_gamma, fit_photon_law
from ..calibrate.photon_transfer import Span
from ..calibrate.sampling import take_sample
from ..calibrate.series import CameraMaps, camera_maps, measure_level
from ..calibrate.spots import fit_spots
from ..camera import Camera
from ..data import Movie
from ..errors import CalibrationError, OutputError
from ..experiment import read_document
from ..files import check_writable
from ..formats import open_movie
from ..formats.camera_tags import Proposal, camera_tags, texts
from ..units import PixelSize, pixel_size_pair
from .inspection_contradictions import contradictions
from .inspection_document import draft, write_document

LEAST_SIDE_PX = 8
FIT_FRAMES = 120
EXCESS_NOTE = (
    "the noise does not show whether electrons are multiplied; for an EMCCD give --camera with its em_gain, else photons read half"
)
DARKEST_SOURCE = "gamma law of the darkest 10 % of the pixels"


@dataclass(frozen=True)
class Fact:
    """One value with the ends of its 95 % interval (equal where none is known), its unit and where it comes from."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str

    @staticmethod
    def of(name: str, span: Span | Estimate, unit: str, source: str) -> Fact:
        """Make a fact of a value with an interval."""
        return Fact(name, float(span.value), float(span.low), float(span.high), unit, source)

    def __str__(self) -> str:
        between = "" if self.low == self.high else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{f'{self.value:.4g} {self.unit}'.strip()}{between}; {self.source}"


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
            "facts": [asdict(fact) for fact in self.facts],
            "proposals": [asdict(proposal) for proposal in self.proposals],
            "known_camera": None if self.known_camera is None else self.known_camera.model_dump(mode="json", exclude_none=True),
            "contradictions": list(self.contradictions),
            "notes": list(self.notes),
            "document": self.document,
        }


def _missing(name: str, facts: Sequence[Fact]) -> Any:
    raise KeyError(f"no fact '{name}'; known: {', '.join(fact.name for fact in facts)}")


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
    cameras: Path | str | None = None,
    out: Path | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Inspection:
    """Say what a movie was taken under, each value with an interval and its source, and write a document for it.

    Args:
        movie: the movie or its file.
        pixel_size_nm: (y, x) or one number; None takes what the file says.
        camera: the camera where it is known; what it says is taken, and compared with the counts.
        dark: frames without light of the same region, or their file.
        bright: frames of even light of the same region, one level each, or their files; needs ``dark``.
        cameras: TOML file with cameras that are looked at before those of the table.
        out: experiment document to write, ending in .toml; maps of the camera stand beside it.
        progress: told what is going on.

    Raises:
        MovieError: a movie cannot be read.
        CalibrationError: frames too small, no pixel size, or series that are none.
        CameraError, DocumentError: the file of cameras has a mistake.
        OutputError: the document cannot be written.
    """
    if out is not None:
        _check_out(out)
    table = (*(read_known_cameras(read_document(cameras), str(cameras)) if cameras else ()), *KNOWN_CAMERAS)
    opened = _opened(movie)
    size = _pixel_size(opened, pixel_size_nm)
    maps = _maps(opened, dark, bright, progress)
    progress("measuring camera and conditions")
    alone = estimate_conditions(opened, pixel_size_nm=size)
    skewness = _skewness(opened, alone, maps, size)
    conditions = _conditions(opened, size, camera, maps, alone, skewness)
    progress("measuring molecules and background")
    light = _Light.of(opened, conditions, size)
    proposals, known = camera_tags(opened), find_camera(texts(opened), table)
    document, problem = draft(opened, size, conditions, camera, maps, light.lifetime, light.law)
    notes = (*conditions.notes, *light.notes(), *((problem,) if problem else ()))
    found = Inspection(
        opened.name,
        size,
        tuple(_facts(conditions, alone, skewness, maps, light)),
        proposals,
        known,
        tuple(contradictions(alone, skewness, proposals, known, camera, maps)),
        notes,
        conditions,
        maps,
        document,
    )
    if out is not None:
        if document is None:
            raise CalibrationError(f"{opened.name}: no document can be written: {problem}")
        write_document(Path(out), document, found.lines(), maps)
    return found


def _check_out(out: Path | str) -> None:
    if Path(out).suffix.lower() != ".toml":
        raise OutputError(f"document {Path(out).name}: expected a name that ends in .toml; rename it")
    check_writable(out)


def _opened(movie: Movie | Path | str) -> Movie:
    return movie if isinstance(movie, Movie) else open_movie(movie)


def _pixel_size(movie: Movie, given: float | tuple[float, float] | None) -> PixelSize:
    rows, columns = movie.shape_px
    if min(rows, columns) < LEAST_SIDE_PX:
        raise CalibrationError(
            f"frames of {rows} x {columns} px; expected at least {LEAST_SIDE_PX} x {LEAST_SIDE_PX}: give a larger region"
        )
    size = given if given is not None else movie.pixel_size_nm
    if size is None:
        raise CalibrationError(f"{movie.name} does not say its pixel size; give it: --pixel-size-nm 100")
    pair = pixel_size_pair(size)
    if not all(5 <= side <= 2000 for side in pair):
        raise CalibrationError(f"pixel size {pair[1]:g} nm; expected 5 to 2000 nm in the sample plane: give --pixel-size-nm in nm")
    return pair


def _maps(
    movie: Movie, dark: Movie | Path | str | None, bright: Sequence[Movie | Path | str], progress: Callable[[str], None]
) -> CameraMaps | None:
    if dark is None:
        if bright:
            raise CalibrationError("bright series were given without a dark one; give the frames without light too: --dark FILE")
        return None
    progress("measuring the dark and bright series")
    series = [_opened(dark), *(_opened(one) for one in bright)]
    for one in series:
        if one.shape_px != movie.shape_px:
            sizes = [f"{rows} x {columns} px" for rows, columns in (one.shape_px, movie.shape_px)]
            raise CalibrationError(
                f"series {one.name} has frames of {sizes[0]}, the movie {sizes[1]}; record both with the same region"
            )
    return camera_maps(measure_level(series[0], "dark"), [measure_level(one, "bright") for one in series[1:]])


def _skewness(movie: Movie, alone: Conditions, maps: CameraMaps | None, size: PixelSize) -> Skewness | None:
    """Look at the skewness of the noise where its slope against the light was measured."""
    slope = alone.counts_per_photon.value * alone.excess.value if alone.counts_per_photon.source == "measured" else None
    if maps is not None and maps.gain_span is not None:
        slope = maps.gain_span.value
    return None if slope is None else noise_skewness(take_sample(movie).counts, alone.width_nm.value / _side(size), slope)


def _conditions(
    movie: Movie, size: PixelSize, camera: Camera | None, maps: CameraMaps | None, alone: Conditions, skewness: Skewness | None
) -> Conditions:
    """Estimate again with what is known: a given camera, then series, then the skewness of the noise."""
    known: dict[str, float] = {}
    if camera is not None:
        part = camera.crop(*movie.roi_px)
        gain = float(torch.as_tensor(part.counts_per_photon, dtype=torch.float32).mean())
        known = {
            "offset_counts": -float(part.to_photons(torch.zeros(movie.shape_px)).mean()) * gain,
            "counts_per_photon": gain,
            "excess": float(torch.as_tensor(part.excess, dtype=torch.float32).mean()),
            "noise_variance": max(0.0, float(torch.as_tensor(part.noise_variance(movie.shape_px)).mean())),
        }
        return estimate_conditions(movie, pixel_size_nm=size, **known)  # type: ignore[arg-type]
    excess = skewness.excess if skewness is not None else None
    if excess is not None:
        known["excess"] = excess
    if maps is not None:
        known["offset_counts"] = maps.offset_span.value
        if maps.gain_span is not None:
            gain = maps.gain_span.value / (excess or 1.0)
            known |= {"counts_per_photon": gain, "noise_variance": maps.variance_span.value / gain**2, "excess": excess or 1.0}
    if not known:
        return alone
    found = estimate_conditions(movie, pixel_size_nm=size, **known)  # type: ignore[arg-type]
    if maps is not None:
        found = _with_series(found, maps, excess or 1.0)
    if excess is not None:
        way = "from the skewness of the noise"
        notes = tuple(note for note in found.notes if "excess noise" not in note)
        found = replace(found, excess=Estimate(excess, excess, excess, "", "measured", way), notes=notes)
    elif "excess" in known:
        found = replace(found, excess=replace(alone.excess), notes=(*found.notes, EXCESS_NOTE))
    return found


def _with_series(found: Conditions, maps: CameraMaps, excess: float) -> Conditions:
    """Say of offset, gain and read noise that the series measured them, with their intervals."""
    o, v, g = maps.offset_span, maps.variance_span, maps.gain_span
    offset = Estimate(o.value, o.low, o.high, "counts", "measured", "from the dark series")
    if g is None:
        return replace(found, offset_counts=offset)
    gain = Estimate(g.value / excess, g.low / excess, g.high / excess, "counts per photon", "measured", "from the bright series")
    ends = [span / (slope / excess) ** 2 for span, slope in ((v.value, g.value), (v.low, g.high), (v.high, g.low))]
    noise = Estimate(ends[0], ends[1], ends[2], "photons^2", "measured", "from the dark series")
    return replace(found, offset_counts=offset, counts_per_photon=gain, noise_variance=noise)


def _side(size: PixelSize) -> float:
    return float(np.sqrt(size[0] * size[1]))


@dataclass(frozen=True, eq=False)
class _Light:
    """What the light of the movie shows besides the conditions."""

    lifetime: Lifetime | None
    law: PhotonFit | None
    in_time: BackgroundInTime | None
    darkest: DarkestGamma | None

    @staticmethod
    def of(movie: Movie, conditions: Conditions, size: PixelSize) -> _Light:
        """Measure it with the camera of the conditions."""
        offset, gain, excess = (getattr(conditions, n).value for n in ("offset_counts", "counts_per_photon", "excess"))
        noise, width = conditions.noise_variance.value, conditions.width_nm.value / _side(size)
        counts = take_sample(movie).counts[:FIT_FRAMES]
        photons = (counts - np.float32(offset)) / np.float32(gain * excess)
        spots = fit_spots(photons, max(width, 0.8), noise / excess**2)
        return _Light(
            measure_lifetime(movie, width) if conditions.width_nm.source != "assumed" else None,
            fit_photon_law(excess * spots.photons) if spots.isolated_share >= 0.5 else None,
            background_in_time(movie, offset, gain, noise, excess),
            darkest_gamma(counts, offset, gain),
        )

    def notes(self) -> list[str]:
        """Say what the background does over the movie, and what could not be measured."""
        told = []
        if self.lifetime is None:
            told.append("the movie is too short or too dark to show how long molecules are on")
        if self.in_time is not None and (self.in_time.change.low > 0.1 or self.in_time.change.high < -0.1):
            told.append(f"the background changes by {100 * self.in_time.change.value:+.0f} % over the movie")
        return told


def _facts(found: Conditions, alone: Conditions, skewness: Skewness | None, maps: CameraMaps | None, light: _Light) -> list[Fact]:
    names = {
        "camera offset": "offset_counts",
        "camera gain": "counts_per_photon",
        "camera excess noise": "excess",
        "camera read noise": "noise_variance",
        "background": "background",
        "PSF width": "width_nm",
        "density": "density_per_um2",
        "photons of an emitter in a frame": "photons",
    }
    facts = [_fact(name, getattr(found, key), getattr(alone, key)) for name, key in names.items()]
    low, high = found.background_range
    facts.append(Fact("background over the field", (low + high) / 2, low, high, "photons per pixel", "5 % and 95 % of the field"))
    if skewness is not None:
        sigma, why = skewness.sigma, "third cumulant of the noise over that of shot noise: 1, or 1.5 where electrons are multiplied"
        facts.append(Fact("skewness of the noise", skewness.ratio, skewness.ratio - 2 * sigma, skewness.ratio + 2 * sigma, "", why))
    if maps is not None:
        facts += [
            Fact.of("offset of the dark series", maps.offset_span, "counts", "median of the pixels"),
            Fact.of("variance of the dark series", maps.variance_span, "counts^2", "median of the pixels"),
        ]
        if maps.gain_span is not None:
            facts.append(Fact.of("slope of the bright series", maps.gain_span, "counts", "photon transfer, mean of the pixels"))
    if light.lifetime is not None:
        facts.append(Fact.of("lifetime of the on-state", light.lifetime.frames, "frames", "measured from the covariance of frames"))
    if light.law is not None:
        source = f"{light.law.family} law fitted to {light.law.spots} isolated spots above {light.law.least:.0f} photons"
        facts += [Fact.of("mean of the photon law", light.law.mean, "photons", source)]
        facts += [Fact.of("standard deviation of the photon law", light.law.sd, "photons", source)]
    if light.in_time is not None:
        source = f"straight line through {len(light.in_time.frame)} windows over the movie"
        facts.append(Fact.of("change of the background over the movie", light.in_time.change, "of its beginning", source))
    if light.darkest is not None:
        facts.append(
            Fact.of(
                "background of the darkest places",
                light.darkest.mean,
                "photons per pixel",
                DARKEST_SOURCE,
            )
        )
    return facts


def _fact(name: str, entry: Estimate, alone: Estimate) -> Fact:
    """Make a fact of an estimate; beside what was given stands what the movie itself shows."""
    source = f"{entry.source} {entry.how}".strip()
    if source == "measured":
        source = "measured from the movie"
    if source == "given" and alone.source == "measured":
        source += f"; the movie itself shows {alone.value:.4g} ({alone.low:.4g} to {alone.high:.4g})"
    return Fact.of(name, entry, entry.unit, source)
