"""The single-emitter fit on windows without noise, at the border of what it takes, and one beside another."""

from __future__ import annotations

import pytest
import torch

from denseloc.fit import SingleFits, fit_single
from denseloc.fit.start import depth_starts
from denseloc.kernels.spot_score.naive import placed
from denseloc.optics import PSF, AstigmaticSettings, DoubleHelixSettings, GaussianSettings, MultiplaneSettings, PSFSettings

PIXEL_NM = (110.0, 100.0)
KINDS: dict[str, PSFSettings] = {
    "gaussian": GaussianSettings(width_nm=130, roi_px=21),
    "astigmatic": AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=21),
    "turned": AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=21, angle_deg=25),
    "biplane": MultiplaneSettings(
        width_nm=130, plane_focus_nm=(-250.0, 250.0), depth_nm=350, roi_px=21, shift_nm=((0, 0), (30, 20))
    ),
    "helix": DoubleHelixSettings(width_nm=140, separation_nm=700, turn_deg_per_um=80, roi_px=25),
}
Z_RANGE_NM = (-500.0, 500.0)


def expected(psf: PSF, x_nm, y_nm, z_nm, photons: float = 2000.0, background: float = 6.0, shape=(13, 15)) -> torch.Tensor:
    """Draw windows without noise; positions from the outer corner of pixel (0, 0)."""
    x, y, z = (torch.as_tensor(v, dtype=torch.float32).reshape(-1) for v in (x_nm, y_nm, z_nm))
    at = torch.stack((x / PIXEL_NM[1] - 0.5, y / PIXEL_NM[0] - 0.5), 1)
    whole = at.round()
    with torch.no_grad():
        patches = psf(at - whole, z)
    return photons * placed(patches, whole[:, 1].long(), whole[:, 0].long(), shape) + background


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_noise_the_truth_is_found_also_off_the_middle(kind: str, dtype: torch.dtype) -> None:
    psf = KINDS[kind].build(PIXEL_NM)
    z = torch.linspace(-350, 350, 9) if KINDS[kind].tells_depth else torch.zeros(9)
    x, y = 750 + torch.linspace(-220, 230, 9), 715 + torch.linspace(240, -210, 9)
    fits = fit_single(psf, expected(psf, x, y, z), z_range_nm=Z_RANGE_NM, dtype=dtype, tolerance=1e-8)
    assert fits.converged.all()
    error = 0.1 if dtype == torch.float32 else 0.01
    torch.testing.assert_close(fits["x_nm"].float(), x, rtol=0, atol=error)
    torch.testing.assert_close(fits["y_nm"].float(), y, rtol=0, atol=error)
    torch.testing.assert_close(fits["photons"], torch.full((9,), 2000.0).double(), rtol=1e-3, atol=0)
    assert ("z_nm" in fits) == KINDS[kind].tells_depth
    if "z_nm" in fits:
        torch.testing.assert_close(fits["z_nm"].float(), z, rtol=0, atol=5 * error)
    for name in fits.names:
        if name.startswith("background"):
            torch.testing.assert_close(fits[name], torch.full((9,), 6.0).double(), rtol=2e-3, atol=0)
    assert (fits.p_value > 0.99).all()


def noisy(n: int = 60, kind: str = "astigmatic", seed: int = 1) -> tuple[PSF, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    psf = KINDS[kind].build(PIXEL_NM)
    x, y, z = (torch.rand(n, generator=generator) * 120 + c for c in (690.0, 650.0, -60.0))
    return psf, torch.poisson(expected(psf, x, y, z), generator=generator)


def same(one: SingleFits, other: SingleFits) -> None:
    for name in ("values", "covariance", "log_likelihood", "p_value", "iterations", "converged"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "turned", "helix"])
def test_a_spot_does_not_depend_on_its_neighbours_in_the_batch(kind: str) -> None:
    psf, photons = noisy(kind=kind)
    whole = fit_single(psf, photons, z_range_nm=Z_RANGE_NM)
    for some in (slice(0, 1), slice(7, 30), slice(33, 60)):
        part = fit_single(psf, photons[some], z_range_nm=Z_RANGE_NM)
        for name in ("values", "covariance", "log_likelihood", "p_value", "iterations", "converged"):
            torch.testing.assert_close(getattr(part, name), getattr(whole, name)[some], rtol=0, atol=0)


def test_absent_pixels_tell_nothing() -> None:
    psf, photons = noisy()
    cut = photons.clone()
    cut[..., 12:] = float("nan")
    narrow = fit_single(psf, photons[..., :12], z_range_nm=Z_RANGE_NM, tolerance=1e-10)
    masked = fit_single(psf, cut, z_range_nm=Z_RANGE_NM, tolerance=1e-10)
    assert masked.converged.all()
    for name in masked.names:
        assert ((masked[name] - narrow[name]).abs() < 1e-3 * masked.crlb(name)).all()
    torch.testing.assert_close(masked.covariance, narrow.covariance, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(masked.p_value, narrow.p_value, rtol=1e-3, atol=1e-3)


def test_the_bound_is_the_inverse_of_what_the_module_of_bounds_says() -> None:
    from denseloc.fit import crlb

    psf, photons = noisy(5)
    fits = fit_single(psf, photons, z_range_nm=Z_RANGE_NM, excess=1.3, noise_variance=2.0)
    for i in range(5):
        at = torch.stack([fits[name][i] for name in ("x_nm", "y_nm", "z_nm")])[None]
        bound = crlb(psf, at, fits["photons"][i], fits["background"][i], window_px=(13, 15), excess=1.3, noise_variance=2.0)
        torch.testing.assert_close(fits.covariance[i], bound.covariance[0], rtol=0.02, atol=0.02)
        assert fits.crlb("z_nm")[i].item() == pytest.approx(bound.z_nm.item(), rel=0.01)


def test_given_positions_serve_as_starts() -> None:
    psf, photons = noisy()
    free = fit_single(psf, photons, z_range_nm=Z_RANGE_NM, tolerance=1e-8)
    for start in (free.values[:, :3] + 20, free.values[:, :2] - 15):
        led = fit_single(psf, photons, z_range_nm=Z_RANGE_NM, start_nm=start, tolerance=1e-8)
        assert led.converged.all()
        assert ((led.values - free.values).abs() < 0.01 * torch.stack([free.crlb(n) for n in free.names], 1)).all()


def test_a_free_width_finds_the_width() -> None:
    wide = GaussianSettings(width_nm=160, roi_px=21).build(PIXEL_NM)
    photons = expected(wide, [700.0, 760.0], [700.0, 650.0], [0.0, 0.0])
    fits = fit_single(KINDS["gaussian"].build(PIXEL_NM), photons, free_width=True, tolerance=1e-8)
    assert fits.names == ("x_nm", "y_nm", "width_nm", "photons", "background")
    torch.testing.assert_close(fits["width_nm"], torch.full((2,), 160.0).double(), rtol=1e-4, atol=0)
    turned = fit_single(KINDS["turned"].build(PIXEL_NM), photons, free_width=True)  # by differences, where there is no closed form
    assert (turned["width_nm"] < 150).all()


def test_a_free_width_is_that_in_focus_wherever_the_focus_lies() -> None:
    section = GaussianSettings(width_nm=120, depth_nm=400, focus_nm=300, roi_px=21)
    wide = GaussianSettings(width_nm=150, roi_px=21).build(PIXEL_NM)
    fits = fit_single(section.build(PIXEL_NM), expected(wide, [700.0], [700.0], [0.0]), free_width=True, tolerance=1e-8)
    assert fits["width_nm"].item() == pytest.approx(150, rel=2e-3)


def test_a_shared_background_is_one_parameter() -> None:
    psf = KINDS["biplane"].build(PIXEL_NM)
    photons = expected(psf, 700.0, 700.0, 100.0)
    fits = fit_single(psf, photons, z_range_nm=Z_RANGE_NM, shared_background=True, tolerance=1e-8)
    assert fits.names[-1] == "background"
    assert fits["background"].item() == pytest.approx(6.0, rel=2e-3)
    assert fits["z_nm"].item() == pytest.approx(100.0, abs=0.5)


def test_what_cannot_be_fitted_is_marked() -> None:
    psf = KINDS["astigmatic"].build(PIXEL_NM)
    good = expected(psf, 700.0, 700.0, 0.0)
    outside = expected(psf, 1750.0, 700.0, 0.0)
    deep = expected(psf, 700.0, 700.0, 480.0)
    empty = torch.full_like(good, float("nan"))
    fits = fit_single(psf, torch.cat((good, outside, deep, empty)), z_range_nm=(-300.0, 300.0))
    assert fits.converged.tolist() == [True, False, False, False]
    assert fits["z_nm"][2].item() == pytest.approx(300.0, abs=1.0)


def test_dark_windows_keep_a_background_of_nought() -> None:
    psf = KINDS["gaussian"].build(PIXEL_NM)
    fits = fit_single(psf, expected(psf, 700.0, 690.0, 0.0, background=0.0))
    assert fits.converged.all()
    assert fits["background"].item() < 0.01
    assert fits["x_nm"].item() == pytest.approx(700, abs=0.5)


def test_no_windows_give_no_fits() -> None:
    fits = fit_single(KINDS["astigmatic"].build(PIXEL_NM), torch.zeros(0, 1, 9, 9), z_range_nm=Z_RANGE_NM)
    assert len(fits) == 0
    assert fits.crlb("z_nm").shape == (0,)


def test_windows_that_do_not_suit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2, 9, 9\); expected \(n, 1, h, w\)"):
        fit_single(KINDS["gaussian"].build(PIXEL_NM), torch.zeros(3, 2, 9, 9))
    with pytest.raises(ValueError, match="excess 0"):
        fit_single(KINDS["gaussian"].build(PIXEL_NM), torch.zeros(3, 1, 9, 9), excess=0.0)


def test_starts_cover_the_depths_of_a_psf() -> None:
    few = depth_starts(KINDS["astigmatic"].build(PIXEL_NM), Z_RANGE_NM)
    many = depth_starts(KINDS["helix"].build(PIXEL_NM), (-1000.0, 1000.0))
    flat = depth_starts(KINDS["gaussian"].build(PIXEL_NM), Z_RANGE_NM)
    assert len(flat) == 1
    assert 2 <= len(few) <= 4
    assert len(many) > 5
    assert (many.diff() > 0).all()


def test_the_right_depth_is_found_from_the_wrong_side() -> None:
    psf = KINDS["helix"].build(PIXEL_NM)
    z = torch.linspace(-900, 900, 19)
    fits = fit_single(
        psf, expected(psf, torch.full((19,), 720.0), torch.full((19,), 700.0), z, shape=(17, 17)), z_range_nm=(-1000.0, 1000.0)
    )
    assert fits.converged.all()
    torch.testing.assert_close(fits["z_nm"].float(), z, rtol=0, atol=2.0)
