"""Before localizing: which camera, which conditions; and a plain word on whether they suit the movie."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .calibrate.background import background_map
from .calibrate.conditions import Conditions, estimate_conditions
from .calibrate.given_camera import differs_by_pixel, estimate_with_camera
from .camera import CAMERAS, SCMOS, Camera
from .data import Movie
from .description import nearest, parse
from .errors import CameraError
from .experiment import Experiment, read_document
from .localize import InputConditions
from .model_choice import model_for, pixel_size_for
from .model_file import Model
from .optics import PSFSettings
from .suitability import Finding, camera_first, judge_density, outside_of_training, serves_many
from .survey import Survey, survey
from .units import PixelSize

GIVEN, OF_DOCUMENT = "given", "the model's document"  # where a camera comes from
UNEVEN = 1.4  # ratio of bright to dark background from which on it is followed pixel by pixel
MOST_LOOKED_OVER = 1000  # frames that a model with global context averages; the mean of more says nothing new
FEW_FRAMES = 16  # below, the mean over a movie says little of its structure
CROWDED = 0.3  # emitters within two widths from which on a low quantile is no background any more


@dataclass(frozen=True, eq=False)
class Preparation:
    """Everything that the localizer needs besides the frames.

    Args:
        model: the model that is used.
        camera: turns counts into photons.
        camera_json: where the camera came from and its values.
        pixel_size_nm: (y, x).
        conditions: what the localizer is told.
        background: (y, x) uneven background of the region in photons, or None.
        measured: the full estimates.
        lines: what was measured or assumed, in plain words.
        warnings: where the movie leaves the range that the model was trained on.
        outside: the same by topic, for a model that was trained, with all that follows from a doubted camera.
    """

    model: Model
    camera: Camera
    camera_json: Mapping[str, Any]
    pixel_size_nm: PixelSize
    conditions: InputConditions
    background: np.ndarray | None
    measured: Conditions
    lines: list[str]
    warnings: list[str]
    outside: list[Finding] = field(default_factory=list)


def prepare(
    movie: Movie,
    model: Model | None,
    pixel_size_nm: float | tuple[float, float] | None,
    camera: Camera | None,
    method: str | None = None,
    device: torch.device | str = "cpu",
    psf: PSFSettings | None = None,
    *,
    count: bool = True,
    source: str = GIVEN,
) -> Preparation:
    """Choose and measure what was not given; the model itself says, from a few frames, how many molecules there are (unless ``count`` is off).

    ``source`` says where a ``camera`` comes from.

    Raises:
        MovieError: frames too small, no pixel size.
        ModelError: the model is for another pixel size or number of planes, or takes no PSF.
    """
    chosen = model_for(movie, model, pixel_size_nm, method, psf)
    experiment = chosen.experiment
    general = serves_many(experiment)
    size = pixel_size_for(movie, pixel_size_nm, chosen)
    source = source if camera is not None else "measured" if general else OF_DOCUMENT
    if camera is None and not general:
        camera = experiment.build_camera()
    if camera is not None:
        camera = copy.deepcopy(camera.crop(*movie.roi_px))
    measured = _measure(movie, size, camera, None if general and psf is None else experiment)
    if camera is None:
        camera = _measured_camera(measured)
    conditions = _told(camera, measured, size, movie.shape_px)
    background = background_to_follow(movie, camera, conditions, measured)
    least = 0.0 if experiment.has_depth else measured.density_per_um2.low  # by one width; many widths look like many molecules
    seen = survey(movie, chosen.localizer.to(device), camera, conditions, background, size) if count else None
    if seen is not None:
        measured = _with_survey(measured, seen, least)
    doubts = [Finding("camera", "warn", measured.doubt)] if measured.doubt and source == GIVEN else []
    if is_trained := experiment.localizer.needs_training:
        outside = [*doubts, *outside_of_training(measured, experiment, size, least)]
    else:
        outside = [*doubts, *(Finding("density", "warn", text) for text in judge_density(measured, experiment, least))]
    return Preparation(
        model=chosen,
        camera=camera,
        camera_json={
            "source": source,
            "offset_counts": measured.offset_counts.value,
            "counts_per_photon": measured.counts_per_photon.value,
            "pixel_maps": differs_by_pixel(camera, movie.shape_px),
        },
        pixel_size_nm=size,
        conditions=conditions,
        background=background,
        measured=measured,
        lines=[
            *_lines(
                chosen,
                model is None,
                method is not None,
                _pixels(size, movie, pixel_size_nm),
                source,
                measured,
                background is not None,
            ),
            *_looked_over(movie, chosen),
        ],
        warnings=[finding.text for finding in camera_first(outside)] + _judge_length(movie, chosen),
        outside=outside if is_trained else [],
    )


def _told(camera: Camera, measured: Conditions, size: PixelSize, shape_px: tuple[int, int]) -> InputConditions:
    """Give what the localizer is told of camera and movie."""
    noise = float(torch.as_tensor(camera.noise_variance(shape_px)).mean())
    return InputConditions(
        background=max(0.05, measured.background.value),
        excess=float(torch.as_tensor(camera.excess, dtype=torch.float32).mean()),
        noise_variance=max(noise, 0.0),
        width_px=measured.width_nm.value / math.sqrt(size[0] * size[1]),
    )


def _lines(
    chosen: Model, no_model: bool, by_name: bool, pixels: str, source: str, measured: Conditions, is_uneven: bool
) -> list[str]:
    """Say in plain words what was chosen, measured and assumed."""
    experiment = chosen.experiment
    trained = experiment.localizer.needs_training
    lines = [_chosen(chosen, no_model and (trained or not by_name))]
    one_microscope = trained and not serves_many(experiment)
    own = (("camera ",) if source == OF_DOCUMENT else ()) + (("PSF width",) if one_microscope else ())
    values = [line.replace("(given)", "(the model's)") if line.startswith(own) else line for line in measured.lines()]
    lines += [f"pixel size: {pixels}", f"camera: {source}", *values]
    if one_microscope:
        depth = ", z above all," if experiment.has_depth else ""
        lines.append(
            f"the model is made for one microscope ({_psf_in_words(experiment)}); with another PSF its positions{depth} are wrong"
        )
    if is_uneven:
        lines.append("the background is uneven and is followed pixel by pixel")
    return lines


def _pixels(size: PixelSize, movie: Movie, asked: float | tuple[float, float] | None) -> str:
    """Say the pixel size, and where it comes from if neither movie nor user has said it."""
    said = asked is not None or movie.pixel_size_nm is not None
    return f"{size[0]:g} x {size[1]:g} nm" + ("" if said else " (the model's; the movie does not say it)")


def _chosen(chosen: Model, by_itself: bool) -> str:
    """Say in one line what localizes, and how another is taken."""
    if not chosen.experiment.localizer.needs_training:
        return f"method: {chosen.name}" + (" (chosen; --method multi takes crowds apart)" if by_itself else "")
    return f"model: {chosen.name}" + (" (chosen; --model takes another)" if by_itself else "")


def _looked_over(movie: Movie, chosen: Model) -> list[str]:
    """Say how many frames a model with global context looks at first."""
    seen = min(MOST_LOOKED_OVER, movie.n_frames)
    return [f"global context: mean over {seen} of {movie.n_frames} frames"] if chosen.localizer.sees_all_frames else []


def _judge_length(movie: Movie, chosen: Model) -> list[str]:
    """Warn of a movie of too few frames for global context."""
    if not chosen.localizer.sees_all_frames or movie.n_frames >= FEW_FRAMES:
        return []
    return [
        f"the movie has {movie.n_frames} frame{'' if movie.n_frames == 1 else 's'}; model {chosen.name} looks at the mean over all frames of a "
        f"movie, which says little of its structure below {FEW_FRAMES}: expect no more than without global context"
    ]


def _with_survey(measured: Conditions, seen: Survey, least: float) -> Conditions:
    """Put what the model found in place of what the pixels say, and say where there should be more."""
    other, notes = measured.density_per_um2, measured.notes
    if least > seen.density_per_um2.high:
        notes += (f"the pixels speak of {other}: the model may miss molecules",)
    return replace(measured, density_per_um2=seen.density_per_um2, photons=seen.photons or measured.photons, notes=notes)


def _psf_in_words(experiment: Experiment) -> str:
    """Say the numbers of a PSF's formula."""
    psf = experiment.psf.model_dump(exclude={"kind", "roi_px", "residual_maps"}, exclude_none=True)
    numbers = ", ".join(f"{key} {value:.4g}" for key, value in psf.items() if isinstance(value, float))
    return f"{experiment.psf.kind} PSF" + (f", {numbers}" if numbers else "")


READ_NOISE_ELECTRONS = 1.5  # of an sCMOS camera for which none was given


def read_camera(text: str) -> Camera:
    """Read a camera from a document (TOML or JSON: its settings, alone or as the section ``[camera]``), or from the form of `parse_camera`.

    Raises:
        CameraError, DocumentError: unknown or impossible entries.
    """
    if Path(text).suffix not in (".toml", ".json"):
        return parse_camera(text)
    values = read_document(text)
    values = values["camera"] if isinstance(values.get("camera"), dict) else values
    if "kind" not in values:
        raise CameraError(f"{text}: 'kind' of the camera is missing; one of: {', '.join(CAMERAS.names())}")
    built: Camera = parse(CAMERAS.get(str(values["kind"])), values, text).build()
    return built


def parse_camera(text: str) -> Camera:
    """Read ``offset=100,electrons_per_count=2.2,em_gain=1``; an em_gain other than 1 makes it an EMCCD.

    The read noise of an sCMOS camera is taken as 1.5 electrons where ``read_noise`` does not say it.

    Raises:
        CameraError, DocumentError: unknown or impossible entries.
    """
    names = {
        "offset": "offset_counts",
        "offset_counts": "offset_counts",
        "electrons_per_count": "electrons_per_count",
        "em_gain": "em_gain",
        "qe": "quantum_efficiency",
        "quantum_efficiency": "quantum_efficiency",
        "read_noise": "read_noise_electrons",
        "read_noise_electrons": "read_noise_electrons",
        "kind": "kind",
    }
    values: dict[str, Any] = {}
    for entry in text.split(","):
        key, equals, value = (part.strip() for part in entry.partition("="))
        if key == "gain":
            raise CameraError(
                "--camera: 'gain' can mean two things; give electrons_per_count=NUMBER, and for an EMCCD em_gain=NUMBER"
            )
        if not equals or key not in names:
            raise CameraError(
                f"--camera: '{entry.strip()}'{nearest(key, names)}; expected key=value with keys {', '.join(sorted(names))}"
            )
        if names[key] in values:
            raise CameraError(f"--camera: {key} stands twice; give it once")
        try:
            values[names[key]] = value if key == "kind" else float(value)
        except ValueError:
            raise CameraError(f"--camera: {key} = '{value}'; expected a number") from None
    em_gain = values.get("em_gain", 1.0)
    kind = values.pop("kind", "emccd" if em_gain != 1.0 else "scmos")
    if kind == "various":
        raise CameraError("--camera: 'various' is for training; give the camera of this movie, as kind=emccd or kind=scmos")
    if kind == "scmos" and values.pop("em_gain", 1.0) != 1.0:
        raise CameraError("--camera: an sCMOS has no em_gain; leave it out, or say kind=emccd")
    not_said = kind == "scmos" and "read_noise_electrons" not in values
    if not_said:
        values["read_noise_electrons"] = READ_NOISE_ELECTRONS
    built: Camera = parse(CAMERAS.get(kind), {"kind": kind, **values}, "--camera").build()
    built.read_noise_assumed = not_said
    return built


def _measure(movie: Movie, size: PixelSize, camera: Camera | None, experiment: Experiment | None) -> Conditions:
    """Estimate the conditions, with camera and width fixed where they are known."""
    if camera is None:
        return estimate_conditions(movie, pixel_size_nm=size)
    return estimate_with_camera(movie, size, camera, None if experiment is None else float(experiment.psf.width_in_focus_nm()))


def _converter(camera: Camera) -> Callable[[np.ndarray], np.ndarray]:
    return lambda counts: camera.to_photons(torch.from_numpy(counts)).numpy()


def _measured_camera(measured: Conditions) -> Camera:
    """Make a camera of the measured offset and gain; its photons have Poisson noise.

    Not by way of the settings: the offset of a movie from which a background was taken away is below zero.
    """
    gain = measured.counts_per_photon.value * measured.excess.value
    variance = max(measured.noise_variance.value, 0.0) * gain**2
    offset, electrons_per_count, variance_counts = torch.tensor([measured.offset_counts.value, 1 / gain, variance])
    return SCMOS(offset, electrons_per_count, variance_counts, quantum_efficiency=1.0)


def background_to_follow(movie: Movie, camera: Camera, told: InputConditions, measured: Conditions) -> np.ndarray | None:
    """Measure the background pixel by pixel, (rows, columns) in photons, where it is uneven and can be told from molecules; else None.

    Args:
        movie: counts.
        camera: of the movie's region.
        told: what the localizer is told.
        measured: conditions of the movie.
    """
    low, high = measured.background_range
    crowd = measured.density_per_um2.value * math.pi * (2e-3 * measured.width_nm.value) ** 2
    if high <= UNEVEN * max(low, 0.5) or crowd >= CROWDED:
        return None
    return uneven_background(movie, _converter(camera), told.excess, told.noise_variance)


def uneven_background(
    movie: Movie, to_photons: Callable[[np.ndarray], np.ndarray], excess: float, noise_variance: float
) -> np.ndarray:
    """Measure the smooth background of the region in photons, (rows, columns) of the first plane.

    Args:
        movie: counts.
        to_photons: turns counts of the region into photons.
        excess, noise_variance: noise of the photons, ``excess mu + noise_variance``.
    """
    rows, columns = movie.shape_px
    counts = movie.sample(max(8, min(200, (1 << 23) // (rows * columns))))[:, 0]
    return np.maximum(background_map(to_photons(counts.astype(np.float32)), noise_variance, excess), 0.05).astype(np.float32)
