"""Conditions of a movie whose camera is known, and what that camera is over its region."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..camera import Camera
from ..data import Movie
from ..units import PixelSize
from .conditions import Conditions, estimate_conditions


@torch.no_grad()
def estimate_with_camera(movie: Movie, pixel_size_nm: PixelSize, camera: Camera, width_nm: float | None = None) -> Conditions:
    """Estimate the conditions with a camera that is given; where its pixels differ, with the mean of each value.

    Args:
        movie: counts.
        pixel_size_nm: (y, x).
        camera: of the movie's region. Its read noise is called assumed where nobody gave it.
        width_nm: standard deviation of the PSF where it is known.

    Raises:
        CameraError: the camera's maps are not those of the region.
        CalibrationError: a given value or the movie is impossible.
    """
    slope = torch.as_tensor(camera.counts_per_photon, dtype=torch.float32)
    found = estimate_conditions(
        movie,
        pixel_size_nm=pixel_size_nm,
        offset_counts=-_mean(camera.to_photons(torch.zeros(movie.shape_px)) * slope),
        counts_per_photon=_mean(slope),
        excess=_mean(camera.excess),
        noise_variance=max(0.0, _mean(camera.noise_variance(movie.shape_px))),
        width_nm=width_nm,
    )
    if not camera.read_noise_assumed:
        return found
    return replace(found, noise_variance=replace(found.noise_variance, source="assumed"))


@torch.no_grad()
def differs_by_pixel(camera: Camera, shape_px: tuple[int, int]) -> bool:
    """Say whether offset, gain or noise of a camera of (rows, columns) are not the same in all of its pixels."""
    none, one = torch.zeros(shape_px), torch.ones(shape_px)
    maps = (camera.to_photons(none), camera.to_photons(one), camera.noise_variance(shape_px))
    return any(bool((values != values.flatten()[0]).any()) for values in maps)


def _mean(value: float | torch.Tensor) -> float:
    return float(torch.as_tensor(value, dtype=torch.float32).mean())
