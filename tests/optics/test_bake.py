"""Baking a PSF into a spline: close enough anywhere, at a speed of its own."""

from __future__ import annotations

import pytest
import torch

from denseloc.errors import DocumentError
from denseloc.optics import AstigmaticSettings, GaussianSettings, MultiplaneSettings, PSFSettings, PupilSettings
from denseloc.optics.bake import bake, bake_error

PIXEL_NM = (110.0, 100.0)
PUPIL = {"wavelength_nm": 670.0, "numerical_aperture": 1.2, "immersion_index": 1.33, "model": "scalar", "pupil_px": 48}
CASES = {
    "flat": GaussianSettings(width_nm=130.0, roi_px=11),
    "astigmatic": AstigmaticSettings(
        width_nm=130.0, focus_a_nm=250.0, focus_b_nm=-250.0, depth_nm=380.0, angle_deg=20.0, roi_px=11
    ),
    "biplane": MultiplaneSettings(width_nm=130.0, plane_focus_nm=(-250.0, 250.0), depth_nm=350.0, roi_px=11),
    "pupil": PupilSettings(**PUPIL, roi_px=13, mask={"kind": "astigmatism", "rms_nm": 70.0, "turn_deg": 30.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_spline_is_within_the_tolerance_anywhere(name: str) -> None:
    settings: PSFSettings = CASES[name]
    psf = settings.build(PIXEL_NM)
    baked = bake(psf, -500.0, 500.0)
    spline = baked.build(PIXEL_NM)
    assert (spline.planes, spline.roi_px) == (psf.planes, psf.roi_px)
    assert spline.z_range_nm == pytest.approx((-500.0, 500.0))
    error = bake_error(psf, spline, -500.0, 500.0, n=300)
    assert error.value < 1.2e-3  # at other places than those of the search
    assert error.slope < 1.2e-2
    at = torch.tensor([[0.5, -0.5], [-0.5, 0.5]]), torch.tensor([-500.0, 500.0])
    torch.testing.assert_close(spline(*at), psf(*at), rtol=0, atol=1e-3 * float(psf(*at).detach().max()))


def test_present_parameters_count_and_a_looser_tolerance_takes_fewer_nodes() -> None:
    psf = CASES["pupil"].build(PIXEL_NM)
    with torch.no_grad():
        psf.wavelength_nm *= 1.1
    strict, loose = bake(psf, -500.0, 500.0, tolerance=5e-4), bake(psf, -500.0, 500.0, tolerance=2e-2)
    assert strict.coefficients.size > 2 * loose.coefficients.size
    assert bake_error(psf, loose.build(PIXEL_NM), -500.0, 500.0).value > 5e-4
    assert bake_error(psf, strict.build(PIXEL_NM), -500.0, 500.0).value < 7e-4
    before = CASES["pupil"].build(PIXEL_NM)
    assert bake_error(before, strict.build(PIXEL_NM), -500.0, 500.0).value > 2e-2


def test_depths_and_tolerances_that_cannot_be_met_are_refused() -> None:
    psf = CASES["flat"].build(PIXEL_NM)
    with pytest.raises(DocumentError, match="z_min must be below z_max"):
        bake(psf, 100.0, 100.0)
    sharp = GaussianSettings(width_nm=8.0, roi_px=5).build(PIXEL_NM)
    with pytest.raises(DocumentError, match="no spline with up to 8 nodes per pixel"):
        bake(sharp, -100.0, 100.0)
