"""Spots of free widths at any angle, and fits by least squares: errors against their theory, on the counts of whole microscopes."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from denseloc.camera import Ideal
from denseloc.data import Emitters, Grid
from denseloc.fit import SingleFits, fit_single
from denseloc.fit.rotated import drawn, to_axes
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, DoubleHelixSettings, GaussianSettings, PSFSettings

PIXEL_NM = (110.0, 100.0)
SHAPE = (14, 15)
GAUSSIAN = GaussianSettings(width_nm=130, roi_px=21)
LIGHT, BACKGROUND = 3000.0, 10.0


def turned(angle_deg: float) -> AstigmaticSettings:
    """A spot of 130 and 182 nm that does not change with depth."""
    return AstigmaticSettings(
        width_nm=130, width_ratio=1.4, focus_a_nm=0, focus_b_nm=0, depth_nm=1e6, angle_deg=angle_deg, roi_px=25
    )


def movie(
    settings: PSFSettings, n: int, pixel_nm: tuple[float, float] = PIXEL_NM, noisy: bool = True
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Draw one emitter in each small frame, anywhere in the middle pixel: the truth and the photons."""
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.rand(n, generator=generator) - 0.5 for _ in range(2))
    truth = Emitters.of(torch.arange(n), (7.5 + x) * pixel_nm[1], (7.5 + y) * pixel_nm[0], torch.full((n,), LIGHT))
    microscope = Microscope(settings.build(pixel_nm), Ideal(), Grid(SHAPE, pixel_nm))
    with torch.no_grad():
        light = microscope.expected(truth, torch.full((n, 1, *SHAPE), BACKGROUND))
    known = {"x_nm": truth.x_nm, "y_nm": truth.y_nm, "photons": truth.photons}
    return known, torch.poisson(light, generator=generator) if noisy else light


def pulls(fits: SingleFits, truth: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: (fits[name] - value)[fits.converged] / fits.sigma(name)[fits.converged] for name, value in truth.items()}


def test_images_at_any_angle_have_the_slopes_that_they_say() -> None:
    at = torch.tensor([[7.2, 6.1, 0.1, 0.3, -0.2], [6.8, 7.4, -0.1, 0.0, 0.0], [7.0, 7.0, 0.0, -0.4, 0.0]], dtype=torch.float64)
    values, slopes = drawn(at, 130.0, PIXEL_NM, SHAPE)
    assert values.shape == (3, 1, *SHAPE)
    torch.testing.assert_close(values.sum((1, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=0, atol=2e-3)
    for k, step in enumerate(1e-5 * torch.eye(5, dtype=torch.float64)):
        ahead, behind = (drawn(at + sign * step, 130.0, PIXEL_NM, SHAPE)[0] for sign in (1, -1))
        torch.testing.assert_close((ahead - behind) / 2e-5, slopes[:, k], rtol=0, atol=1e-9)
    _, by_shape = to_axes(at[:, 2:], 130.0)
    for k, step in enumerate(1e-6 * torch.eye(3, dtype=torch.float64)):
        ahead, behind = (to_axes(at[:1, 2:] + sign * step, 130.0)[0] for sign in (1, -1))
        torch.testing.assert_close((ahead - behind) / 2e-6, by_shape[:1, :, k], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("angle_deg", [-44.0, 0.0, 30.0])
def test_widths_and_angle_are_exact_without_noise(angle_deg: float) -> None:
    truth, light = movie(turned(angle_deg), 5, noisy=False)
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), light, free_width="rotated", tolerance=1e-10, dtype=torch.float64)
    assert fits.names == ("x_nm", "y_nm", "width_x_nm", "width_y_nm", "angle_deg", "photons", "background")
    assert fits.converged.all()
    assert fits["width_x_nm"].tolist() == pytest.approx([130] * 5, abs=0.05)
    assert fits["width_y_nm"].tolist() == pytest.approx([182] * 5, abs=0.05)
    assert fits["angle_deg"].tolist() == pytest.approx([angle_deg] * 5, abs=0.02)
    for name, value in truth.items():
        torch.testing.assert_close(fits[name], value.double(), rtol=3e-4, atol=0)


def test_the_first_axis_is_the_one_nearer_to_x() -> None:
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), movie(turned(60.0), 2, noisy=False)[1], free_width="rotated")
    assert fits["width_x_nm"].tolist() == pytest.approx([182] * 2, abs=0.2)
    assert fits["angle_deg"].tolist() == pytest.approx([-30] * 2, abs=0.1)


def test_widths_at_an_angle_reach_the_bound_and_say_so() -> None:
    truth, light = movie(turned(25.0), 800)
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), light, free_width="rotated")
    assert fits.converged.all()
    whole = truth | {name: torch.full((800,), v) for name, v in (("width_x_nm", 130.0), ("width_y_nm", 182.0), ("angle_deg", 25.0))}
    for name, pull in pulls(fits, whole).items():
        assert 0.92 < pull.std().item() < 1.08, f"{name}: {pull.std().item():.3f}"
        assert abs(pull.mean().item()) < 0.12, f"{name}: {pull.mean().item():.3f}"
    assert fits.crlb("angle_deg").mean().item() == pytest.approx(2.2, abs=0.4)
    assert stats.kstest(fits.p_value.numpy(), "uniform").pvalue > 1e-3


def test_round_spots_are_no_special_case() -> None:
    truth, light = movie(GAUSSIAN, 500)
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), light, free_width="rotated")
    assert fits.converged.all()
    assert fits.iterations.max() < 12
    for name, pull in pulls(fits, truth).items():
        assert 0.9 < pull.std().item() < 1.1, name
    straight = fit_single(GAUSSIAN.build(PIXEL_NM), light, free_width="xy")
    mean = (fits["width_x_nm"] * fits["width_y_nm"]).log().mean() - (straight["width_x_nm"] * straight["width_y_nm"]).log().mean()
    assert abs(mean.item()) < 1e-3
    assert fits.sigma("angle_deg").median() > 20  # nobody knows
    exact = fit_single(GAUSSIAN.build(PIXEL_NM), movie(GAUSSIAN, 3, noisy=False)[1], free_width="rotated")
    assert exact.converged.all()
    assert torch.isfinite(exact.covariance).all()


def test_other_psfs_have_no_widths_at_an_angle() -> None:
    helix = DoubleHelixSettings(width_nm=140, separation_nm=700, turn_deg_per_um=80, roi_px=25).build(PIXEL_NM)
    with pytest.raises(ValueError, match="an angle of DoubleHelixPSF; they can be found for Gaussians"):
        fit_single(helix, torch.ones(1, 1, 13, 13), free_width="rotated")


# ------------------------------------------------------------------------------------------------------------------ least squares


def mortensen_nm(width_nm: float, pixel_nm: float) -> float:
    """Error of unweighted least squares. Source: Mortensen et al., Nature Methods 7 (2010) 377, equation 3 without excess noise."""
    square = width_nm**2 + pixel_nm**2 / 12
    return math.sqrt(square / LIGHT * (16 / 9 + 8 * math.pi * square * BACKGROUND / (LIGHT * pixel_nm**2)))


def test_squares_err_as_their_theory_says_and_more_than_the_bound() -> None:
    truth, light = movie(GAUSSIAN, 4000, (100.0, 100.0))
    fits = fit_single(GAUSSIAN.build((100.0, 100.0)), light, estimator="least_squares")
    assert fits.converged.all()
    error = (fits["x_nm"] - truth["x_nm"]).square().mean().sqrt().item()
    assert error == pytest.approx(mortensen_nm(130.0, 100.0), rel=0.05)
    assert fits.sigma("x_nm").mean().item() == pytest.approx(mortensen_nm(130.0, 100.0), rel=0.02)
    assert error > 1.12 * fits.crlb("x_nm").mean().item()
    for name, pull in pulls(fits, truth).items():
        assert 0.95 < pull.std().item() < 1.05, f"{name}: {pull.std().item():.3f}"
        assert abs(pull.mean().item()) < 0.08, f"{name}: {pull.mean().item():.3f}"
    assert stats.kstest(fits.p_value.numpy(), "uniform").pvalue > 1e-3
    likeliest = fit_single(GAUSSIAN.build((100.0, 100.0)), light)
    torch.testing.assert_close(fits.crlb("x_nm").mean(), likeliest.crlb("x_nm").mean(), rtol=2e-3, atol=0)
    assert (likeliest.log_likelihood >= fits.log_likelihood - 1e-3).all()


def test_squares_are_those_of_the_photons() -> None:
    """A scale and a shift of the counts, which noise makes of them, leave unweighted squares where they are."""
    _, light = movie(GAUSSIAN, 20)
    psf = GAUSSIAN.build(PIXEL_NM)
    plain = fit_single(psf, light, estimator="least_squares", tolerance=1e-10)
    noisy = fit_single(psf, light, estimator="least_squares", tolerance=1e-10, excess=2.0, noise_variance=4.0)
    torch.testing.assert_close(noisy.values, plain.values, rtol=1e-4, atol=1e-3)
    assert (noisy.sigma("x_nm") > 1.4 * plain.sigma("x_nm")).all()
    far = fit_single(psf, light, estimator="least_squares", start_nm=plain.values[:, :2] + 40, tolerance=1e-10)
    torch.testing.assert_close(far.values, plain.values, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("free_width", [True, "xy", "rotated"])
def test_squares_find_widths_and_depths(free_width: bool | str) -> None:
    truth, light = movie(GAUSSIAN, 300)
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), light, estimator="least_squares", free_width=free_width)
    assert fits.converged.all()
    width = fits["width_nm"] if free_width is True else (fits["width_x_nm"] * fits["width_y_nm"]).sqrt()
    assert width.mean().item() == pytest.approx(130, abs=1)
    for name, pull in pulls(fits, truth).items():
        assert 0.85 < pull.std().item() < 1.15, name
