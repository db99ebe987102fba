"""Where a scene lies in the whole field: cameras by the pixel, and PSFs that vary over it; and how well a width is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.camera import SCMOS
from denseloc.data import Emitters, Grid, Localizations
from denseloc.data.movie import movie_from_array
from denseloc.localize import InputConditions
from denseloc.microscope import Microscope
from denseloc.optics import FieldSettings, PupilSettings
from denseloc.suitability.check import width_of
from denseloc.suitability.psf_shape import shape_changes
from denseloc.suitability.scenes import Scene, Setup, Size, movie_scene
from denseloc.suitability.views import View, form

PIXEL_NM = (120.0, 100.0)
ORIGIN = (30, 60)  # in the whole field of 66 x 120 px
SIDE = 36


def over_field() -> FieldSettings:
    """Astigmatism that grows to the right."""
    maps = np.zeros((6, 2, 2), np.float32)
    maps[5, :, 1] = 90.0
    optics = PupilSettings(wavelength_nm=650, numerical_aperture=1.1, immersion_index=1.33, model="scalar", pupil_px=32)
    return FieldSettings(pupil=optics, zernike_maps_nm=maps, field_nm=(8000.0, 12000.0), roi_px=11)


def setup_of(camera: SCMOS, psf: FieldSettings | None = None) -> Setup:
    localizer: Any = SimpleNamespace(context=1, scales=SimpleNamespace(z_unit_nm=0.0))
    experiment: Any = SimpleNamespace(psf=psf, pixel_size_nm=PIXEL_NM)
    return Setup(localizer, experiment, camera, InputConditions(10.0, 1.0, 1.0, 1.2), PIXEL_NM)


def test_each_pixel_has_its_own_camera_in_a_part_of_a_part() -> None:
    rng = np.random.default_rng(0)
    offset, gain = rng.uniform(50, 500, (66, 120)), rng.uniform(0.3, 3.0, (66, 120))
    light = rng.poisson(20, (12, 66, 120))
    light[:, 44:, 96:] *= 3  # where most happens
    movie = movie_from_array((offset + light / gain).astype(np.float32)).crop(roi_px=(*ORIGIN, SIDE, SIDE + 24))
    maps = SCMOS(*(torch.from_numpy(part).float() for part in (offset, gain, np.ones_like(offset))), quantum_efficiency=1.0)
    scene = movie_scene(movie, setup_of(maps.crop(*movie.roi_px)), Size(windows=2, inner=2, side_px=20, regions=1))
    top, left = scene.corner_px(0)
    assert (top, left) != ORIGIN
    np.testing.assert_allclose(scene.photons[0, :, 0], light[:4, top : top + 20, left : left + 20], atol=1e-3)


def scene_and_emitters(n: int) -> tuple[Scene, Emitters]:
    """Two windows of one frame, not at the corner of the region in use."""
    scene = Scene(np.zeros((2, 3, 1, SIDE, SIDE), np.float32), np.array([0, 0]), ((0, 12),), 1, origin_px=ORIGIN)
    generator = torch.Generator().manual_seed(1)
    x, y = (600 + torch.rand(n, generator=generator) * (SIDE * side - 1200) for side in (PIXEL_NM[1], PIXEL_NM[0]))
    frame = torch.arange(n) % 2
    return scene, Emitters.of(frame, x, y, torch.full((n,), 5000.0), torch.full((n,), 200.0))


def test_a_psf_is_that_of_the_place_in_the_whole_field() -> None:
    psf = over_field()
    scene, emitters = scene_and_emitters(12)
    camera = SCMOS(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0), 1.0)
    found = form(emitters, torch.zeros(2, 1, SIDE, SIDE), scene, setup_of(camera, psf))
    whole = Microscope(psf.build(PIXEL_NM), camera, Grid((66, 120), PIXEL_NM))
    top, left = scene.corner_px(0)
    moved = Emitters.of(
        emitters.frame, emitters.x_nm + left * PIXEL_NM[1], emitters.y_nm + top * PIXEL_NM[0], emitters.photons, emitters.z_nm
    )
    with torch.no_grad():
        expected = whole.expected(moved, torch.zeros(2, 1, 66, 120))[:, :, top : top + SIDE, left : left + SIDE]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_the_shape_of_images_is_judged_by_the_psf_of_their_place() -> None:
    psf = over_field()
    scene, emitters = scene_and_emitters(60)
    setup = setup_of(SCMOS(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0), 1.0), psf)
    background = np.full((2, 1, SIDE, SIDE), 10.0, np.float32)
    light = form(emitters, torch.zeros(2, 1, SIDE, SIDE), scene, setup).numpy()
    built = psf.build(PIXEL_NM)
    corner = torch.tensor([(ORIGIN[1] + 12) * PIXEL_NM[1], ORIGIN[0] * PIXEL_NM[0]]).expand(60, 2)
    wider = Microscope(built, setup.camera, Grid((SIDE, SIDE), PIXEL_NM)).expected(
        emitters, torch.from_numpy(background), torch.full((60,), 1.05), corner
    )
    photons = np.zeros((2, 3, 1, SIDE, SIDE), np.float32)
    photons[:, 1] = wider.detach().numpy()
    seen = Scene(photons, scene.place, scene.regions, 1, origin_px=ORIGIN)
    columns = {name: getattr(emitters, name).numpy() for name in ("frame", "x_nm", "y_nm", "z_nm", "photons")}
    table = Localizations(columns).with_provenance(pixel_size_nm=PIXEL_NM)
    change = shape_changes(View(seen, table, light, background, light + background), setup).middle()[:, 0]
    assert change[0] == pytest.approx(0.05, abs=0.006)
    assert abs(change[1:3]).max() < 0.006


def test_the_error_of_a_width_holds_that_of_its_slope() -> None:
    """Against drawn answers; where the slope is not known well, neither is the width."""
    seen, errors, trial = (0.09, 0.01, 0.06), (0.004, 0.002, 0.006), 1.15
    found = width_of(seen, errors, trial)
    assert found is not None
    rng = np.random.default_rng(1)
    m, u, a = (rng.normal(value, error, 200_000) for value, error in zip(seen, errors, strict=True))
    factors = np.exp(math.log(trial) * (m - u) / (a - u))
    low, high = np.quantile(factors, (0.159, 0.841))
    assert found.factor == pytest.approx(np.median(factors), rel=0.01)
    assert found.error == pytest.approx((high - low) / 2, rel=0.1)
    assert found.error > 2 * found.factor * errors[0] * math.log(trial) / (seen[2] - seen[1])
    assert width_of((math.nan, 0.0, 0.1), errors, trial) is None
