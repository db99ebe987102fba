"""Which model or method localizes a movie, and whether it is made for such frames and pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .data import Movie
from .errors import ModelError, MovieError
from .experiment import Experiment
from .fit import DEPTHS_NM
from .localize import LOCALIZERS
from .model_file import Model, find_model
from .optics import PSFSettings
from .suitability import serves_many
from .train import TrainingSettings
from .units import PixelSize, is_plausible_pixel_size, pixel_size_pair

GENERAL = "general-2d"
LEAST_SIDE_PX = 8
OTHER_PIXELS = 0.03  # relative difference from which on pixels are other ones


def model_for(
    movie: Movie,
    model: Model | None,
    pixel_size_nm: float | tuple[float, float] | None,
    method: str | None,
    psf: PSFSettings | None,
) -> Model:
    """Choose the model or the method, and refuse one that does not suit the frames."""
    if min(movie.shape_px) < LEAST_SIDE_PX:
        rows, columns = movie.shape_px
        raise MovieError(
            f"frames of {rows} x {columns} px; expected at least {LEAST_SIDE_PX} x {LEAST_SIDE_PX}: choose a larger region"
        )
    if psf is not None and model is not None:
        raise ModelError(
            f"model {model.name} was trained for its own PSF; leave the PSF (--psf) out, or take method 'single' (--method single)"
        )
    return model or _by_method(method, psf, pixel_size_nm or movie.pixel_size_nm)


def pixel_size_for(movie: Movie, given: float | tuple[float, float] | None, chosen: Model) -> PixelSize:
    """Give the pixel size of the movie; refuse another one, or another number of planes, than those that the model is for."""
    experiment = chosen.experiment
    general = serves_many(experiment)
    size = _pixel_size(movie, given, None if general else experiment)
    if text := other_pixels(chosen, size):
        raise ModelError(text)
    planes = chosen.localizer.scales.planes
    if planes != movie.n_planes:
        what = "model" if experiment.localizer.needs_training else "method"
        raise ModelError(
            f"{what} {chosen.name} sees {planes} focal plane{'s' if planes > 1 else ''}, the movie has {movie.n_planes}; choose one for such a "
            "movie, or say --planes (planes in Python)"
        )
    return size


def other_pixels(model: Model, pixel_size_nm: float | tuple[float, float] | None) -> str:
    """Say that a movie has other pixels than those that a model was trained for; nothing where it has not, or where that is not known."""
    experiment = model.experiment
    if pixel_size_nm is None or experiment.serves_many:
        return ""
    size = pixel_size_pair(pixel_size_nm)
    if not any(abs(mine / theirs - 1) > OTHER_PIXELS for mine, theirs in zip(size, experiment.pixel_size_nm, strict=True)):
        return ""
    return (
        f"model {model.name} was trained for pixels of {experiment.pixel_size_nm[1]:g} nm, the movie has {size[1]:g} nm; "
        "train a model for this pixel size or give the right pixel_size_nm (--pixel-size-nm)"
    )


def _pixel_size(movie: Movie, given: float | tuple[float, float] | None, experiment: Experiment | None) -> PixelSize:
    size = given if given is not None else movie.pixel_size_nm
    if size is None and experiment is not None:
        size = experiment.pixel_size_nm
    if size is None:
        raise MovieError(f"{movie.name} does not say its pixel size; give it: --pixel-size-nm 100, in Python pixel_size_nm=100")
    pair = pixel_size_pair(size)
    if not is_plausible_pixel_size(pair):
        raise MovieError(
            f"pixel size {pair[1]:g} nm; expected 5 to 2000 nm in the sample plane: give --pixel-size-nm in nm, in Python pixel_size_nm"
        )
    return pair


def _by_method(method: str | None, psf: PSFSettings | None, size: float | tuple[float, float] | None) -> Model:
    """Give the shipped model for ordinary 2D movies, or a localizer of another method that needs no training.

    Raises:
        DocumentError: no such method.
        ModelError: the method must be trained first, or takes no PSF.
    """
    general = find_model(GENERAL)
    if psf is None and (method is None or method == general.experiment.localizer.kind):
        return general
    method = method or "single"
    section = LOCALIZERS.get(method)
    if section.needs_training:
        what = (
            "takes its PSF from the document it is trained with"
            if psf is not None
            else "needs a trained model and none comes with the package"
        )
        raise ModelError(f"method '{method}' {what}; train one, then give it: --model FILE, in Python model=FILE")
    if psf is None:
        experiment = general.experiment.model_copy(update={"localizer": section(), **_untrained(method)})
        return Model(section().build(general.localizer.scales), experiment, name=method)
    if not section.takes_psf:
        raise ModelError(f"method '{method}' takes no PSF; leave the PSF (--psf) out")
    if psf.channels > 1:
        raise ModelError(
            f"method '{method}' fits the PSF of one colour, found {psf.channels} channels; give the PSF of one of them: --psf, in Python psf="
        )
    pixel = general.experiment.pixel_size_nm if size is None else pixel_size_pair(size)
    built = psf.build(pixel)
    low, high = built.z_range_nm or DEPTHS_NM
    localizer = section.model_validate({"kind": method, "psf": psf})
    specimen = general.experiment.specimen.model_copy(update={"z_nm": (low, high)})
    experiment = general.experiment.model_copy(
        update={"pixel_size_nm": pixel, "psf": psf, "localizer": localizer, "specimen": specimen, **_untrained(method)}
    )
    depth = max(abs(low), abs(high)) if psf.tells_depth else 0.0
    scales = replace(general.localizer.scales, pixel_size_nm=pixel, z_unit_nm=depth, planes=built.planes)
    return Model(localizer.build(scales), experiment, name=f"{method} with a given PSF")


def _untrained(method: str) -> dict[str, Any]:
    """Give name and words of the document for a method that was not trained."""
    return {
        "name": method,
        "description": "a method without training; specimen and camera are placeholders",
        "training": TrainingSettings(),
    }
