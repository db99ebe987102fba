"""A PSF from beads: a simulated stack gives back the PSF that made it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denseloc.calibrate.beads import BeadFit, _Fit, _with_maps, find_beads, fit_beads
from denseloc.camera import Camera, SCMOSSettings
from denseloc.data import Emitters, Grid
from denseloc.errors import CalibrationError
from denseloc.microscope import Microscope
from denseloc.optics import PSFS, AstigmaticSettings, DoubleHelixSettings, GaussianSettings, PSFSettings

PIXEL_NM = (100.0, 100.0)
Z = np.linspace(-600, 600, 13)
X, Y = np.array([1240.0, 3680.0, 2510.0]), np.array([1330.0, 1490.0, 3790.0])
CAMERA = SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=1.5)


def stack_of(psf: PSFSettings, camera: Camera, photons: float = 30_000.0) -> np.ndarray:
    microscope = Microscope(psf.build(PIXEL_NM), camera, Grid((50, 50), PIXEL_NM))
    n, beads = len(Z), len(X)
    x, y = (torch.from_numpy(v).float().repeat(n) for v in (X, Y))
    z = torch.from_numpy(Z).float().repeat_interleave(beads)
    e = Emitters.of(torch.arange(n).repeat_interleave(beads), x, y, torch.full((n * beads,), photons), z)
    with torch.no_grad():
        counts = microscope.sample(e, torch.full((n, 1, 50, 50), 8.0), torch.Generator().manual_seed(0))
    return counts[:, 0].numpy()


def assert_beads_found(fit: BeadFit, photons: float = 30_000.0) -> None:
    order, expected = np.lexsort((fit.x_nm, fit.y_nm)), np.lexsort((X, Y))
    np.testing.assert_allclose(fit.x_nm[order], X[expected], atol=3.0)
    np.testing.assert_allclose(fit.y_nm[order], Y[expected], atol=3.0)
    np.testing.assert_allclose(fit.photons, photons, rtol=0.05)


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_an_astigmatic_psf_comes_back(angle: float) -> None:
    truth = AstigmaticSettings(width_nm=140, focus_a_nm=-220, focus_b_nm=240, depth_nm=370, angle_deg=angle, roi_px=21)
    fit = fit_beads(stack_of(truth, CAMERA.build()), Z, CAMERA.build(), PIXEL_NM, "astigmatic", roi_px=17, map_step_nm=0, steps=250)
    assert_beads_found(fit)
    assert fit.chi2 == fit.chi2_formula == pytest.approx(1.0, abs=0.15)
    found = fit.psf.build(PIXEL_NM)
    depths, offset = torch.linspace(-500, 500, 5), torch.zeros(5, 2)
    expected = truth.model_copy(update={"roi_px": 17}).build(PIXEL_NM)(offset, depths).detach()
    torch.testing.assert_close(found(offset, depths).detach(), expected, rtol=0, atol=0.03 * float(expected.max()))
    if angle:
        turn = found.angle_deg.item() - angle
        assert min(abs(turn), abs(abs(turn) - 90)) < 3  # the two axes may have changed their names
    else:
        assert found.focus_a_nm.item() == pytest.approx(-220, abs=20)
        assert found.focus_b_nm.item() == pytest.approx(240, abs=20)


def test_a_double_helix_comes_back() -> None:
    truth = DoubleHelixSettings(width_nm=150, separation_nm=800, turn_deg_per_um=-60, angle_deg=20, depth_nm=900, roi_px=25)
    fit = fit_beads(
        stack_of(truth, CAMERA.build()), Z, CAMERA.build(), PIXEL_NM, "double_helix", roi_px=21, map_step_nm=0, steps=250
    )
    found = fit.psf
    assert found.turn_deg_per_um == pytest.approx(-60, rel=0.03)
    assert found.separation_nm == pytest.approx(800, rel=0.03)
    assert fit.chi2 == pytest.approx(1.0, abs=0.15)


def test_maps_take_up_what_the_formula_misses() -> None:
    """Beads of a turned astigmatic PSF, fitted by a round Gaussian: only the maps can tell the axes apart."""
    truth = AstigmaticSettings(width_nm=140, focus_a_nm=-220, focus_b_nm=240, depth_nm=370, angle_deg=0, roi_px=21)
    lines: list[str] = []
    fit = fit_beads(
        stack_of(truth, CAMERA.build()),
        Z,
        CAMERA.build(),
        PIXEL_NM,
        "gaussian",
        roi_px=13,
        map_step_nm=200,
        steps=60,
        progress=lines.append,
    )
    assert fit.chi2 < 0.5 * fit.chi2_formula
    assert fit.residual.shape == (13, 13, 13)
    assert fit.psf.residual_maps is not None
    assert fit.psf.residual_maps.values.shape == (7, 27, 27)
    assert lines[0] == "3 beads, 13 planes"
    assert len(lines) == 3
    again = PSFS.get("gaussian").model_validate_json(fit.psf.model_dump_json()).build(PIXEL_NM)
    image = again(torch.zeros(1, 2), torch.tensor([-220.0])).detach()[0, 0]
    at = torch.arange(13.0) - 6
    assert (image.clamp(min=0) * at**2).sum() < 0.9 * (image.clamp(min=0) * at[:, None] ** 2).sum()


def test_a_camera_with_maps_of_its_pixels() -> None:
    maps = np.stack([np.full((50, 50), 100.0), np.full((50, 50), 0.5), np.full((50, 50), 9.0)])
    camera = SCMOSSettings(pixel_maps=maps).build()
    truth = GaussianSettings(width_nm=140, depth_nm=400, roi_px=21)
    fit = fit_beads(stack_of(truth, camera), Z, camera, PIXEL_NM, "gaussian", roi_px=17, map_step_nm=0, steps=150)
    assert_beads_found(fit)
    assert fit.psf.width_nm == pytest.approx(140, rel=0.03)
    assert fit.psf.depth_nm == pytest.approx(400, rel=0.05)


# ------------------------------------------------------------------------------------------------------------------------- beads


def field(*beads: tuple[float, float], side: int = 60) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), 10.0)
    for row, column in beads:
        image += 800 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 1.5**2))
    return np.random.default_rng(0).poisson(image).astype(np.float32)


def test_beads_near_the_edge_or_another_are_left_out() -> None:
    rows, columns = find_beads(field((20, 20), (4, 40), (45, 30), (45, 38)), 13)
    assert (rows.tolist(), columns.tolist()) == ([20], [20])


@pytest.mark.parametrize("beads", [(), ((3.0, 30.0),), ((30.0, 30.0), (30.0, 38.0))])
def test_no_usable_bead_is_one_line(beads: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(CalibrationError, match=r"no usable bead: .*give a stack with isolated beads") as error:
        find_beads(field(*beads), 13)
    assert "\n" not in str(error.value)


def test_depths_and_planes_must_agree() -> None:
    with pytest.raises(CalibrationError, match=r"a bead stack of shape \(13, 50, 50\) with 5 depths"):
        fit_beads(np.zeros((13, 50, 50)), np.arange(5), CAMERA.build(), PIXEL_NM, "gaussian")
    with pytest.raises(CalibrationError, match="expected \\(depths, rows, columns\\)"):
        fit_beads(np.zeros((50, 50)), np.arange(50), CAMERA.build(), PIXEL_NM, "gaussian")


def test_an_unknown_kind_is_one_line() -> None:
    truth = GaussianSettings(width_nm=140, depth_nm=400, roi_px=21)
    with pytest.raises(CalibrationError, match="no fit for a PSF of kind 'airy'; known: gaussian, astigmatic, double_helix"):
        fit_beads(stack_of(truth, CAMERA.build()), Z, CAMERA.build(), PIXEL_NM, "airy", roi_px=17)


@pytest.mark.parametrize("maps", [False, True])
def test_a_bead_off_its_pixel_is_drawn_about_the_next_one(maps: bool) -> None:
    """Maps are known up to half a pixel from the emitter; beyond, they must not be prolonged."""
    psf = AstigmaticSettings(width_nm=130, focus_a_nm=200, focus_b_nm=-200, depth_nm=350, roi_px=11).build(PIXEL_NM)
    z = torch.tensor([-100.0, 200.0])
    if maps:
        psf = _with_maps(psf, z, 100.0, 2)
        with torch.no_grad():
            psf.maps.normal_(0, 1e-3, generator=torch.Generator().manual_seed(0))
    fit = _Fit(torch.ones(2, 3, 11, 11), z, 1.0, 1.0)
    places = torch.tensor([[0.2, -0.1], [0.7, -0.1], [-1.3, 0.6]])
    with torch.no_grad():
        fit.offset.copy_(places)
        fit.background.zero_()
        fit.log_photons.zero_()
    found = fit.model(psf).detach()
    near = (
        psf(torch.tensor([[0.2, -0.1], [-0.3, -0.1], [-0.3, -0.4]]).repeat(2, 1), z.repeat_interleave(3))
        .detach()[:, 0]
        .reshape(2, 3, 11, 11)
    )
    torch.testing.assert_close(found[:, 0], near[:, 0])
    torch.testing.assert_close(found[:, 1, :, 1:], near[:, 1, :, :-1])
    torch.testing.assert_close(found[:, 2, 1:, :-1], near[:, 2, :-1, 1:])
