"""The experiment document that an inspection writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..calibrate.blinking import Lifetime
from ..calibrate.conditions import Conditions
from ..calibrate.depth import Depths
from ..calibrate.light import PhotonFit
from ..calibrate.series import CameraMaps
from ..camera import EMCCD, SCMOS, Camera
from ..data import Movie
from ..errors import DocumentError
from ..experiment import Experiment
from ..files import replacing
from ..optics import PSF
from ..units import PixelSize
from .inspection_facts import Light

EM_GAIN = 300.0
"""Written for cameras that multiply: only its ratio to the electrons per count shows in a movie."""
LEAST_FACTOR = 1.3
"""Ranges in the document reach at least so far to both sides of the value."""
MOST_FACTOR = 3.0
"""A range of densities reaches no farther."""
OUTSHINE = 1.5
"""How much brighter than the molecules of the histogram isolated spots may be before they are only the brightest of a crowd."""
LONGEST_LIFETIME = 1000.0


def draft(
    movie: Movie,
    size: PixelSize,
    found: Conditions,
    camera: Camera | None,
    maps: CameraMaps | None,
    light: Light,
    psf: Path | None,
    known_nm: tuple[float, float] | None = None,
) -> tuple[dict[str, Any] | None, str]:
    """Make the document as plain values, without maps, and say why where none can be made.

    ``known_nm`` are the depths at which the PSF is known, for movies that do not tell where their molecules lie.
    """
    lifetime, law = light.lifetime, light.law
    if found.width_nm.source == "assumed" or found.density_per_um2.value <= 0:
        return None, "no molecules were seen, so that nothing can be trained for; inspect a movie with molecules"
    if camera is None and found.offset_counts.value < 0:
        return (
            None,
            "the offset is below 0 counts, as if a background was taken away; inspect the raw movie, or give the camera (--camera)",
        )
    values: dict[str, Any] = {
        "name": Path(movie.name).stem or "movie",
        "description": f"from the inspection of {movie.name}",
        "pixel_size_nm": list(size) if size[0] != size[1] else size[0],
        "psf": {"kind": "gaussian", "width_nm": _round(found.width_nm.value)} if psf is None else {"file": str(psf)},
        "camera": camera_section(found, camera),
        "specimen": {
            "density_per_um2": _density(found),
            "z_nm": _depths(light.depths, known_nm),
            "blinking": _blinking(lifetime),
            "photons": _photons(found, lifetime, law),
            "background": _background(found),
        },
        "localizer": {"kind": "decode"},
    }
    if maps is not None and maps.gain is not None and camera is None and found.excess.value == 1.0:
        values["camera"] = {"kind": "scmos", "pixel_maps": ""}
    return values, ""


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def _range(value: float) -> list[float]:
    return [_round(value / LEAST_FACTOR), _round(value * LEAST_FACTOR)]


def _density(found: Conditions) -> list[float]:
    """Write the interval of the density, at least a factor of 1.3 and at most one of 3 to both sides."""
    value, low, high = found.density_per_um2.value, found.density_per_um2.low, found.density_per_um2.high
    least = value / min(max(LEAST_FACTOR, value / max(low, 1e-9)), MOST_FACTOR)
    return [_round(least), _round(value * min(max(LEAST_FACTOR, high / value), MOST_FACTOR))]


def camera_section(found: Conditions, camera: Camera | None) -> dict[str, Any]:
    """Write the camera that was given as it is, or one with the gain, offset and noise that were measured."""
    if isinstance(camera, EMCCD):
        return dict(camera.settings.model_dump(mode="json", exclude_none=True))
    gain, noise = found.counts_per_photon.value, max(found.noise_variance.value, 0.0)
    if isinstance(camera, SCMOS):
        gain /= camera.quantum_efficiency
        noise *= camera.quantum_efficiency**2
    offset = max(0.0, _round(found.offset_counts.value))
    if camera is None and found.excess.value == 2.0:
        electrons = {
            "electrons_per_count": _round(EM_GAIN / gain),
            "em_gain": EM_GAIN,
            "read_noise_electrons": _round(EM_GAIN * noise**0.5),
        }
        return {"kind": "emccd", "offset_counts": offset, **electrons}
    slope = gain * (found.excess.value if camera is None else 1.0)
    photons = noise**0.5 / (found.excess.value if camera is None else 1.0)
    values = {
        "kind": "scmos",
        "offset_counts": offset,
        "electrons_per_count": _round(1 / slope),
        "read_noise_electrons": _round(photons),
    }
    efficiency = getattr(camera, "quantum_efficiency", 1.0)
    return values | ({"quantum_efficiency": efficiency} if efficiency != 1.0 else {})


def _depths(depths: Depths | None, known_nm: tuple[float, float] | None) -> list[float]:
    """Write the range of the spots' depths, and a tenth of it more at each end; where they are not known, all that the PSF knows, or focus."""
    if depths is None:
        return [0.0, 0.0] if known_nm is None else [float(round(end)) for end in known_nm]
    more = 0.1 * (depths.high.value - depths.low.value)
    return [float(round(depths.low.value - more)), float(round(depths.high.value + more))]


def outshine(found: Conditions, law: PhotonFit | None) -> bool:
    """Whether isolated spots are so much brighter than the average of the histogram that they are not the law of all molecules."""
    return law is not None and law.mean.low > OUTSHINE * found.photons.value


def _blinking(lifetime: Lifetime | None) -> dict[str, Any]:
    if lifetime is None or lifetime.frames.value <= 0:
        return {"kind": "none"}
    return {"kind": "exponential", "lifetime_frames": _round(min(lifetime.frames.value, LONGEST_LIFETIME))}


def crowd_notes(found: Conditions, light: Light) -> list[str]:
    """Say where spots that stand alone are not like the rest."""
    if light.law is None or not outshine(found, light.law):
        return []
    return [
        f"spots that stand alone have {light.law.mean.value:.0f} photons, an average molecule {found.photons.value:.0f}: they are the brightest of a "
        "crowd, or several at one place; the document takes the average"
    ]


def _photons(found: Conditions, lifetime: Lifetime | None, law: PhotonFit | None) -> dict[str, Any]:
    """Write the law for molecules that are on for the whole frame: ``(1 + T) / T`` of what is seen on average, for lifetime T."""
    law = None if outshine(found, law) else law
    mean = law.mean.value if law is not None else found.photons.value
    spread = law.sd.value / law.mean.value if law is not None else 0.6
    time = lifetime.frames.value if lifetime is not None else 0.0
    whole = mean * ((1 + time) / time if time > 0.3 else 1.0)
    if law is not None and law.family == "log-normal":
        return {"kind": "uniform", "low": _round(whole), "high": _round(whole), "spread": _round(spread)}
    return {"kind": "gamma", "mean": _round(whole), "sd": _round(whole * spread)}


def _background(found: Conditions) -> dict[str, Any]:
    low, high = found.background_range
    level = _range(max(found.background.value, 0.1))
    uneven = float(np.log(max(high, 0.1) / max(low, 0.1))) / 3.3  # 5 % and 95 % of a normal law are 3.3 standard deviations apart
    if uneven < 0.05:
        return {"kind": "uniform", "photons": level}
    return {"kind": "slowly_varying", "photons": level, "amplitude": _round(min(uneven, 1.0))}


def write_document(out: Path, document: dict[str, Any], lines: Sequence[str], maps: CameraMaps | None, psf: PSF | None) -> None:
    """Write the document with what was found as comments above it, and maps of the camera as ``.npy`` beside it.

    Args:
        out: the document.
        document: of `draft`.
        lines: the comments.
        maps: of the camera.
        psf: what the file of the PSF holds, where the document names one.

    Raises:
        DocumentError: the values do not make an experiment.
        OutputError: a file cannot be written.
    """
    import tomli_w

    values = dict(document)
    beside = out.with_name(f"{out.stem}.pixel_maps.npy")
    pixel_maps = maps.pixel_maps() if values["camera"].get("pixel_maps") == "" and maps is not None else None
    whole = values if pixel_maps is None else {**values, "camera": {**values["camera"], "pixel_maps": pixel_maps}}
    if psf is not None:
        values["psf"] = {"file": _from_folder(Path(values["psf"]["file"]), out.parent)}
        whole = {**whole, "psf": psf.settings.model_dump()}
    try:
        Experiment.from_json(whole, out.name)
    except DocumentError as error:
        raise DocumentError(f"{error}; the movie is too unusual for a document: write one by hand") from None
    if pixel_maps is not None:
        with replacing(beside) as temporary:
            np.save(temporary, pixel_maps)
        values["camera"] = {**values["camera"], "pixel_maps": beside.name}
    head = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    with replacing(out) as temporary:
        temporary.write_text(f"{head}\n{tomli_w.dumps(values)}", encoding="utf-8")


def _from_folder(path: Path, folder: Path) -> str:
    """Name a file from the folder of the document where it lies in it, else wholly."""
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
