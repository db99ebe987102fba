"""A PSF from beads: a simulated stack gives back the PSF that made it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bead_stacks import ASTIGMATIC, CAMERA, PIXEL_NM, PLACES, Z, bead_counts, bead_stack
from denseloc.calibrate.bead_fit import BeadFit, BeadPatches
from denseloc.calibrate.beads import Bead
from denseloc.calibrate.psf_fit import PSFFit, _with_maps, fit_half, fit_psf
from denseloc.calibrate.stack import BeadStack
from denseloc.camera import SCMOSSettings
from denseloc.errors import CalibrationError
from denseloc.optics import (
    PSF,
    PSFS,
    AstigmaticSettings,
    DoubleHelixSettings,
    GaussianSettings,
    MultiplaneSettings,
    PSFSettings,
    PupilSettings,
)

PLAIN = GaussianSettings(width_nm=140, depth_nm=400, roi_px=21)


def assert_beads_found(found: PSFFit, photons: float = 30_000.0, atol: float = 3.0) -> None:
    places = np.array(PLACES)
    order, expected = np.lexsort((found.x_nm, found.y_nm)), np.lexsort(places.T)
    np.testing.assert_allclose(found.x_nm[order], places[expected, 0], atol=atol)
    np.testing.assert_allclose(found.y_nm[order], places[expected, 1], atol=atol)
    np.testing.assert_allclose(found.photons, photons, rtol=0.05)


def assert_alike(found: PSF, truth: PSFSettings, share: float) -> None:
    """Compare images at five depths; differences are shares of the peak of all."""
    depths, offset = torch.linspace(-500, 500, 5), torch.zeros(5, 2)
    expected = truth.model_copy(update={"roi_px": found.roi_px}).build(PIXEL_NM)(offset, depths).detach()
    torch.testing.assert_close(found(offset, depths).detach(), expected, rtol=0, atol=share * float(expected.max()))


# ----------------------------------------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_an_astigmatic_psf_comes_back(angle: float) -> None:
    truth = ASTIGMATIC.model_copy(update={"angle_deg": angle})
    fit = fit_psf([bead_stack(truth)], PIXEL_NM, "astigmatic", roi_px=15, map_step_nm=0, steps=80)
    assert_beads_found(fit)
    assert fit.chi2 == fit.chi2_formula == pytest.approx(1.0, abs=0.15)
    assert fit.chi2_of_beads.shape == (3,)
    assert fit.residual.shape == (13, 1, 15, 15)
    found = fit.build()
    assert_alike(found, truth, 0.02)
    if angle:
        turn = found.angle_deg.item() - angle
        assert min(abs(turn), abs(abs(turn) - 90)) < 3  # the two axes may have changed their names
    else:
        assert found.focus_a_nm.item() == pytest.approx(-220, abs=20)
        assert found.focus_b_nm.item() == pytest.approx(240, abs=20)


def test_a_double_helix_comes_back() -> None:
    truth = DoubleHelixSettings(width_nm=150, separation_nm=800, turn_deg_per_um=-60, angle_deg=20, depth_nm=900, roi_px=25)
    fit = fit_psf([bead_stack(truth)], PIXEL_NM, "double_helix", roi_px=19, map_step_nm=0, steps=80)
    found = fit.psf
    assert found.turn_deg_per_um == pytest.approx(-60, rel=0.03)
    assert found.separation_nm == pytest.approx(800, rel=0.03)
    assert fit.chi2 == pytest.approx(1.0, abs=0.15)


def test_the_best_formula_is_chosen() -> None:
    fit = fit_psf([bead_stack()], PIXEL_NM, "parametric", roi_px=15, map_step_nm=0, steps=30)
    assert isinstance(fit.psf, AstigmaticSettings)
    assert fit.options.kind == "parametric"
    fit = fit_psf([bead_stack(PLAIN)], PIXEL_NM, "parametric", roi_px=13, map_step_nm=0, steps=50)
    assert fit.chi2 == pytest.approx(1.0, abs=0.15)
    assert_alike(fit.build(), PLAIN, 0.05)


def test_maps_take_up_what_the_formula_misses() -> None:
    """Beads of an astigmatic PSF, fitted by a round Gaussian: only the maps can tell the axes apart."""
    lines: list[str] = []
    fit = fit_psf([bead_stack()], PIXEL_NM, "gaussian", roi_px=13, map_step_nm=200, steps=30, progress=lines.append)
    assert fit.chi2 < 0.5 * fit.chi2_formula
    assert fit.residual.shape == (13, 1, 13, 13)
    assert fit.psf.residual_maps is not None
    assert fit.psf.residual_maps.values.shape == (7, 27, 27)
    assert lines[0] == "3 of 3 beads can be used, 13 planes"
    assert len(lines) == 3
    again = PSFS.get("gaussian").model_validate_json(fit.psf.model_dump_json()).build(PIXEL_NM)
    image = again(torch.zeros(1, 2), torch.tensor([-220.0])).detach()[0, 0]
    at = torch.arange(13.0) - 6
    assert (image.clamp(min=0) * at**2).sum() < 0.9 * (image.clamp(min=0) * at[:, None] ** 2).sum()


def test_a_camera_with_maps_of_its_pixels() -> None:
    maps = np.stack([np.full((48, 48), 100.0), np.full((48, 48), 0.5), np.full((48, 48), 9.0)])
    camera = SCMOSSettings(pixel_maps=maps).build()
    stack = BeadStack.of(bead_counts(PLAIN, camera=camera), Z, camera)
    fit = fit_psf([stack], PIXEL_NM, "gaussian", roi_px=15, map_step_nm=0, steps=80)
    assert_beads_found(fit)
    assert fit.psf.width_nm == pytest.approx(140, rel=0.03)
    assert fit.psf.depth_nm == pytest.approx(400, rel=0.05)


def test_a_psf_of_two_focal_planes() -> None:
    truth = MultiplaneSettings(width_nm=140, plane_focus_nm=(-250, 250), depth_nm=400, transmission=(0.6, 0.4), roi_px=21)
    fit = fit_psf([bead_stack(truth)], PIXEL_NM, "parametric", roi_px=13, map_step_nm=0, steps=80)
    assert fit.psf.plane_focus_nm == pytest.approx((-250, 250), abs=15)
    assert fit.psf.transmission == pytest.approx((0.6, 0.4), abs=0.02)
    assert fit.residual.shape == (13, 2, 13, 13)
    with pytest.raises(CalibrationError, match="differ in their number of focal planes"):
        fit_psf([bead_stack(truth), bead_stack()], PIXEL_NM, "multiplane")


# --------------------------------------------------------------------------------------------------------------- spline and pupil


@pytest.fixture(scope="module")
def spline() -> PSFFit:
    return fit_psf([bead_stack()], PIXEL_NM, "spline", roi_px=13, steps=30)


def test_a_spline_gives_the_image_back(spline: PSFFit) -> None:
    assert spline.psf.roi_px == 13
    assert spline.psf.tells_depth
    assert_beads_found(spline, atol=5.0)
    assert_alike(spline.build(), ASTIGMATIC, 0.05)
    assert 0.5 < spline.chi2 < spline.chi2_formula < 1.5


def test_heights_of_beads_are_found() -> None:
    """Each bead lies a little higher or lower than the others; without their heights the spline would be blurred in depth."""
    heights = (-120.0, 30.0, 90.0)
    each = [
        bead_counts(z_nm=Z + height, places=[place], background=0.0) - 100 for place, height in zip(PLACES, heights, strict=True)
    ]
    counts = sum(each) + bead_counts(photons=0.0)
    fit = fit_psf([BeadStack.of(counts, Z, CAMERA.build())], PIXEL_NM, "astigmatic", roi_px=13, map_step_nm=0, steps=150)
    order = [int(np.hypot(fit.x_nm - x, fit.y_nm - y).argmin()) for x, y in PLACES]
    np.testing.assert_allclose(fit.fit.heights.numpy()[order], heights, atol=10)


def test_a_pupil_takes_up_an_aberration() -> None:
    optics = PupilSettings(wavelength_nm=670, numerical_aperture=1.3, model="scalar", pupil_px=32, roi_px=13, medium_index=1.518)
    truth = optics.model_copy(update={"zernike_nm": (0.0,) * 5 + (60.0,) + (0.0,) * 4, "roi_px": 21})
    fit = fit_psf(
        [bead_stack(truth, places=[(1240.0, 1330.0)], z_nm=np.linspace(-600, 600, 9))],
        PIXEL_NM,
        "pupil",
        roi_px=13,
        steps=40,
        pupil=optics,
    )
    assert fit.psf.zernike_nm[5] == pytest.approx(60, abs=10)
    assert np.abs(np.delete(fit.psf.zernike_nm, [0, 1, 2, 4, 5])).max() < 20
    assert fit.chi2 < 1.5
    assert (fit.psf.wavelength_nm, fit.psf.numerical_aperture) == (670, 1.3)


# -------------------------------------------------------------------------------------------------------------------- many stacks


def test_several_stacks_are_fitted_together() -> None:
    """Their depths and beads may differ."""
    other = bead_stack(z_nm=np.linspace(-550, 500, 11), places=[(2400.0, 2310.0)], photons=50_000.0, name="b.tif")
    fit = fit_psf([bead_stack(name="a.tif"), other], PIXEL_NM, "astigmatic", roi_px=13, map_step_nm=0, steps=60)
    assert [bead.stack for bead in fit.used] == [0, 0, 0, 1]
    assert fit.x_nm[3] == pytest.approx(2400, abs=3)
    assert fit.photons[3] == pytest.approx(50_000, rel=0.05)
    assert len(fit.fit.depths()) == len(fit.residual) == len(np.union1d(Z, other.z_nm))
    assert_alike(fit.build(), ASTIGMATIC, 0.03)


def test_a_bead_unlike_the_others_is_left_out() -> None:
    """Two beads so near to each other that no valley is between them."""
    lines: list[str] = []
    lone = [(x, y) for x in (1240.0, 3180.0, 5120.0) for y in (1330.0, 4890.0)]
    pair = bead_counts(places=[(3480.0, 1330.0)], background=0.0, side=64) - 100
    stack = BeadStack.of(bead_counts(places=lone, side=64) + pair, Z, CAMERA.build())
    fit = fit_psf([stack], PIXEL_NM, "astigmatic", roi_px=13, map_step_nm=0, steps=50, progress=lines.append)
    (odd,) = [bead for bead in fit.beads if bead.reason]
    assert (odd.row, odd.column, odd.reason.split(":")[0]) == (13, 33, "unlike the others")
    assert "1 bead unlike the others left out; fitting again" in lines
    assert len(fit.used) == len(fit.chi2_of_beads) == len(fit.x_nm) == 5
    assert fit.chi2 == pytest.approx(1.0, abs=0.15)


# --------------------------------------------------------------------------------------------------------------------------- half


def test_one_half_of_the_beads_judges_the_other() -> None:
    stack = bead_stack(places=[(x, y) for x in (1240.0, 4890.0) for y in (1330.0, 5010.0)], side=64)
    found = fit_psf([stack], PIXEL_NM, "astigmatic", roi_px=13, map_step_nm=0, steps=70)
    lines: list[str] = []
    object.__setattr__(found.options, "progress", lines.append)
    rest, words = fit_half(found)
    assert words == "fitted to 2 beads and judged on the other 2"
    assert lines[0] == f"held out: {words}"
    assert rest.used == found.used[1::2]
    assert rest.fit.patches.n_beads == 2
    assert rest.chi2 == pytest.approx(1.0, abs=0.15)
    np.testing.assert_allclose(rest.fit.heights.numpy(), 0, atol=10)
    np.testing.assert_allclose(rest.x_nm, found.x_nm[1::2], atol=3)


def test_few_beads_are_divided_by_planes(spline: PSFFit) -> None:
    rest, words = fit_half(spline)
    assert words == "fitted to the first, third, fifth ... plane and judged on the others"
    np.testing.assert_allclose(rest.fit.depths(), Z[1::2])
    assert len(rest.used) == 3
    assert rest.chi2 > spline.chi2  # it has not seen these planes


def test_few_beads_in_few_planes_cannot_be_divided() -> None:
    found = fit_psf([bead_stack(z_nm=np.linspace(-400, 400, 9))], PIXEL_NM, "astigmatic", roi_px=11, map_step_nm=0, steps=5)
    with pytest.raises(CalibrationError, match=r"3 beads in few planes cannot be divided.*expected 4 beads or 10 planes"):
        fit_half(found)


# ---------------------------------------------------------------------------------------------------------------------------- misuse


def test_an_unknown_kind_is_one_line() -> None:
    with pytest.raises(CalibrationError, match="no fit for a PSF of kind 'airy'; known: parametric, spline, pupil, gaussian"):
        fit_psf([bead_stack(PLAIN)], PIXEL_NM, "airy")


def test_a_pupil_without_optics_is_one_line() -> None:
    with pytest.raises(CalibrationError, match="--wavelength-nm, --na"):
        fit_psf([bead_stack()], PIXEL_NM, "pupil")


@pytest.mark.parametrize("maps", [False, True])
def test_a_bead_off_its_pixel_is_drawn_about_the_next_one(maps: bool) -> None:
    """Maps are known up to half a pixel from the emitter; beyond, they must not be prolonged."""
    psf = AstigmaticSettings(width_nm=130, focus_a_nm=200, focus_b_nm=-200, depth_nm=350, roi_px=11).build(PIXEL_NM)
    depths = np.array([-100.0, 200.0])
    if maps:
        psf = _with_maps(psf, depths, 100.0, 2)
        with torch.no_grad():
            psf.maps.normal_(0, 1e-3, generator=torch.Generator().manual_seed(0))
    stack = BeadStack(torch.ones(2, 1, 11, 11), depths, 1.0, torch.ones(11, 11), np.zeros((11, 11), bool))
    fit = BeadFit(BeadPatches([stack], [Bead(0, 5, 5)] * 3, 11))
    fit.offset_px = torch.tensor([[0.2, -0.1], [0.7, -0.1], [-1.3, 0.6]])
    fit.background, fit.log_photons = torch.zeros(3, 1), torch.zeros(3)
    found = fit.model(psf).detach().reshape(3, 2, 11, 11)
    nearest = torch.tensor([[0.2, -0.1], [-0.3, -0.1], [-0.3, -0.4]])
    z = torch.tensor([-100.0, 200.0]).repeat(3)
    near = psf(nearest.repeat_interleave(2, 0), z).detach()[:, 0].reshape(3, 2, 11, 11)
    torch.testing.assert_close(found[0], near[0])
    torch.testing.assert_close(found[1, :, :, 1:], near[1, :, :, :-1])
    torch.testing.assert_close(found[2, :, 1:, :-1], near[2, :, :-1, 1:])


def test_a_kind_of_one_plane_is_refused_for_stacks_of_several() -> None:
    biplane = MultiplaneSettings(width_nm=130, plane_focus_nm=(-250, 250), depth_nm=350, roi_px=21)
    with pytest.raises(
        CalibrationError, match="a PSF of kind 'gaussian' has one focal plane, the stacks have 2; say spline or multiplane"
    ):
        fit_psf([bead_stack(biplane)], PIXEL_NM, "gaussian", roi_px=15, steps=5)
