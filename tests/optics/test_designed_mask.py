"""Masks under design and the stack that their images are drawn from: right images, right gradients, right sections."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.fit import crlb
from denseloc.optics import PupilPSF, PupilSettings
from denseloc.optics.designed_mask import FreeMask, ZernikeMask, designed_mask, fitted, wrapped
from denseloc.optics.masks import ArrayMaskSettings, TetrapodSettings, ZernikeMaskSettings
from denseloc.optics.stack import StackPSF
from denseloc.train.fisher_design import Light, bounds_nm

PIXEL = (100.0, 110.0)
OPTICS: dict[str, Any] = {
    "wavelength_nm": 600.0,
    "numerical_aperture": 1.2,
    "immersion_index": 1.33,
    "model": "scalar",
    "roi_px": 21,
    "pupil_px": 32,
}
Z_NM = (-700.0, 800.0)


def optics(**change: Any) -> PupilPSF:
    return PupilSettings(**{**OPTICS, **change}).build(PIXEL)


def places(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    offset = torch.rand(n, 2, generator=generator) - 0.5
    return offset, Z_NM[0] + (Z_NM[1] - Z_NM[0]) * torch.rand(n, generator=generator)


@pytest.mark.parametrize("change", [{}, {"blur_nm": 60.0, "model": "vectorial", "zernike_nm": (0.0, 0, 0, 30, 0, 0)}])
def test_the_stack_draws_what_the_pupil_draws(change: dict[str, Any]) -> None:
    whole = optics(mask=TetrapodSettings(range_nm=1500.0), **change)
    stack = StackPSF(whole, FreeMask(whole.mask_phase), Z_NM, 75.0)
    offset, z = places()
    with torch.no_grad():
        found, expected = stack(offset, z), whole(offset, z)
        as_spline = stack.spline().build(PIXEL)(offset, z)
    assert float((found - expected).abs().max() / expected.max()) < 6e-3
    torch.testing.assert_close(as_spline, found, atol=1e-6, rtol=1e-4)


def test_gradients_reach_the_mask() -> None:
    whole = optics()
    mask = designed_mask(whole, "zernike", 4, torch.Generator().manual_seed(2))
    stack = StackPSF(whole, mask, Z_NM, 150.0)
    offset, z = places(4)
    light = Light(2000.0, 20.0)

    def cost() -> torch.Tensor:
        stack.renew()
        return bounds_nm(stack, offset, z, light).sum() + 1e3 * stack(offset, z).square().sum()

    (parameter,) = mask.parameters()
    (gradient,) = torch.autograd.grad(cost(), parameter)
    direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        step = 0.01
        parameter.add_(direction, alpha=step)
        above = float(cost())
        parameter.add_(direction, alpha=-2 * step)
        below = float(cost())
    assert float(gradient @ direction) == pytest.approx((above - below) / (2 * step), rel=0.02)


def test_many_depths_are_drawn_in_parts_with_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = optics()
    mask = designed_mask(whole, "free", 4, torch.Generator().manual_seed(2))
    stack = StackPSF(whole, mask, Z_NM, 150.0)
    gradients = []
    for most in (1 << 25, 2 * stack.numbers_per_depth):
        monkeypatch.setattr("denseloc.optics.stack.AT_ONCE", most)
        gradients.append(torch.autograd.grad(stack.renew().square().sum(), list(mask.parameters()))[0])
    torch.testing.assert_close(*gradients)


def test_bounds_are_those_of_the_fisher_matrix_of_the_fits() -> None:
    whole = optics(mask=TetrapodSettings(range_nm=1500.0))
    stack = StackPSF(whole, FreeMask(whole.mask_phase), Z_NM, 75.0)
    z = torch.tensor([-600.0, -150.0, 300.0, 700.0])
    light = Light(3000.0, 15.0, 2.0, 4.0)
    with torch.no_grad():
        found = bounds_nm(stack, torch.tensor([[0.2, -0.3]]).expand(4, 2), z, light)
    at = torch.stack((torch.full((4,), 10.7 * PIXEL[1]), torch.full((4,), 10.2 * PIXEL[0]), z), 1)[:, None]
    known = crlb(whole, at, 3000.0, 15.0, window_px=(21, 21), excess=2.0, noise_variance=4.0)
    assert known.z_nm is not None
    expected = torch.cat((known.x_nm, known.y_nm, known.z_nm), 1).float()
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.0)


@pytest.mark.parametrize("form", ["zernike", "free"])
def test_a_section_gives_the_phase_that_was_designed(form: str) -> None:
    whole = optics()
    mask = designed_mask(whole, form, 5, torch.Generator().manual_seed(4), start_rad=1.5)  # type: ignore[arg-type]
    again = optics(mask=mask.section())
    inside = whole.coverage > 0
    assert float(wrapped(again.mask_phase - mask.phase().detach())[inside].abs().max()) < 1e-3
    rms = (mask.phase().detach().square() * whole.coverage).sum() / whole.coverage.sum()
    assert float(rms.sqrt()) == pytest.approx(1.5, rel=0.08)


def test_wrapped_phases_are_fitted_by_polynomials() -> None:
    whole = optics(pupil_px=48)
    truth = torch.zeros(12)
    truth[[0, 2, 8, 10]] = torch.tensor([1.0, -0.8, 0.7, 1.2])
    phase = ZernikeMask(truth, whole, 600.0).phase().detach()
    assert float(phase[whole.coverage > 0.5].abs().max()) > math.pi
    torch.testing.assert_close(fitted(wrapped(phase), whole, 15), truth, atol=0.05, rtol=0.0)


def test_zernike_mask_is_a_path_and_an_aberration_on_purpose() -> None:
    amplitudes = (0.0, 0, 0, 20, 0, 60, 0, 0, 15, 0)
    offset, z = places()
    with torch.no_grad():
        as_mask = optics(mask=ZernikeMaskSettings(rms_nm=amplitudes))(offset, z)
        as_aberration = optics(zernike_nm=amplitudes)(offset, z)
    torch.testing.assert_close(as_mask, as_aberration, atol=1e-6, rtol=1e-4)
    with pytest.raises(DocumentError, match="in nm"):
        parse(ZernikeMaskSettings, {"rms_nm": [0, 2e5]}, "x")


def test_masks_from_tiff_and_masks_that_are_not_in_rad(tmp_path: Path) -> None:
    phase = np.random.default_rng(1).uniform(-3, 3, (24, 24)).astype(np.float32)
    tifffile.imwrite(tmp_path / "mask.tif", phase)
    np.testing.assert_array_equal(ArrayMaskSettings(values=str(tmp_path / "mask.tif")).values, phase)
    for wrong, words in (
        (np.rad2deg(phase), "divide degrees by 57.3"),
        (np.arange(256, dtype=np.uint8).reshape(16, 16), "grey levels"),
        (np.zeros((3, 24, 24), np.float32), r"shape \(3, 24, 24\)"),
    ):
        tifffile.imwrite(tmp_path / "wrong.tif", wrong, photometric="minisblack")
        with pytest.raises(DocumentError, match=words) as error:
            parse(ArrayMaskSettings, {"values": str(tmp_path / "wrong.tif")}, "x")
        assert "\n" not in str(error.value)
    (tmp_path / "broken.tif").write_bytes(b"II*\0broken")
    with pytest.raises(DocumentError, match="cannot read the mask"):
        parse(ArrayMaskSettings, {"values": str(tmp_path / "broken.tif")}, "x")


def test_a_start_mask_covers_the_aperture() -> None:
    small = ArrayMaskSettings(values=np.zeros((40, 40), np.float32), aperture_px=64.0)
    with pytest.raises(DocumentError, match=r"40 x 40 pixels, the aperture is 64"):
        designed_mask(optics(mask=small), "free", 4, torch.Generator().manual_seed(1))


def test_too_many_depths_are_refused() -> None:
    whole = optics()
    with pytest.raises(DocumentError, match="z_step_nm"):
        StackPSF(whole, FreeMask(whole.mask_phase), (-5000.0, 5000.0), 5.0)
