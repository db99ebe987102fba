"""Single-emitter fits reach the Cramer-Rao bound, say so, and say when their model is wrong; on the counts of whole microscopes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from denseloc.camera import CAMERAS, Camera, Ideal
from denseloc.data import Emitters, Grid
from denseloc.description import parse
from denseloc.fit import SingleFits, crlb, fit_single
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, GaussianSettings, PSFSettings

PIXEL_NM = (100.0, 100.0)
SIDE = 13
GAUSSIAN = GaussianSettings(width_nm=130, roi_px=19)
ASTIGMATIC = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=19)
Z_RANGE_NM = (-600.0, 600.0)


def camera_of(kind: str, **values: Any) -> Camera:
    return parse(CAMERAS.get(kind), {"kind": kind, **values}, "example").build()


def uneven_camera() -> Camera:
    """An sCMOS camera with noisy pixels: variance gamma distributed, 10 photons^2 in the mean and up to 100."""
    rng = np.random.default_rng(2)
    variance = rng.gamma(0.5, 20.0, (SIDE, SIDE))
    maps = np.stack((rng.normal(100, 3, (SIDE, SIDE)), rng.uniform(0.45, 0.5, (SIDE, SIDE)), variance / 0.475**2))
    return camera_of("scmos", pixel_maps=maps.astype(np.float32))


def movie(
    settings: PSFSettings,
    photons: float,
    background: float,
    n: int = 8000,
    z_nm: float = 0.0,
    camera: Camera | None = None,
    seed: int = 7,
) -> tuple[Emitters, torch.Tensor]:
    """Draw one emitter in each small frame, anywhere in the middle pixel: the truth, and photons as the camera gives them."""
    generator = torch.Generator().manual_seed(seed)
    x, y, z = (torch.rand(n, generator=generator) - 0.5 for _ in range(3))
    centre = 100.0 * SIDE / 2
    truth = Emitters.of(torch.arange(n), centre + 100 * x, centre + 100 * y, torch.full((n,), photons), 2 * z_nm * z)
    microscope = Microscope(settings.build(PIXEL_NM), camera or Ideal(), Grid((SIDE, SIDE), PIXEL_NM))
    with torch.no_grad():
        counts = microscope.sample(truth, torch.full((n, 1, SIDE, SIDE), background), generator)
        return truth, microscope.camera.to_photons(counts)


def errors(fits: SingleFits, truth: Emitters) -> dict[str, torch.Tensor]:
    return {name: fits[name] - getattr(truth, name) for name in ("x_nm", "y_nm", "z_nm", "photons") if name in fits}


def assert_at_the_bound(fits: SingleFits, truth: Emitters) -> None:
    """Errors have the size of the bound, no bias beyond a twentieth of it, and the fit's own bounds are true."""
    assert fits.converged.float().mean() > 0.998
    for name, error in errors(fits, truth).items():
        kept, sigma = error[fits.converged], fits.crlb(name)[fits.converged]
        rmse, bound = kept.square().mean().sqrt().item(), sigma.square().mean().sqrt().item()
        assert rmse / bound < 1.05, f"{name}: RMSE {rmse:.3f}, bound {bound:.3f}"
        pull = kept / sigma
        assert 0.97 < pull.std().item() < 1.03, f"{name}: pulls spread by {pull.std().item():.3f}"
        assert abs(pull.mean().item()) < 0.1, f"{name}: pulls lie at {pull.mean().item():.3f}"


def uniform(p: torch.Tensor) -> float:
    """Give the probability that p-values are uniform (Kolmogorov and Smirnov)."""
    return float(stats.kstest(p.numpy(), "uniform").pvalue)


@pytest.mark.parametrize(("photons", "background"), [(1000.0, 10.0), (5000.0, 2.0)])
def test_a_gaussian(photons: float, background: float) -> None:
    truth, light = movie(GAUSSIAN, photons, background)
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), light)
    assert_at_the_bound(fits, truth)
    assert uniform(fits.p_value) > 1e-3
    assert fits.deviance_ratio.mean().item() == pytest.approx(1, abs=0.01)


def test_the_bound_at_the_truth_is_that_of_the_fits() -> None:
    truth, light = movie(GAUSSIAN, 1000.0, 10.0)
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), light)
    at = torch.stack((truth.x_nm, truth.y_nm, truth.z_nm), 1)[:, None]
    bound = crlb(GAUSSIAN.build(PIXEL_NM), at, 1000.0, 10.0, window_px=(SIDE, SIDE))
    for name in ("x_nm", "y_nm", "photons"):
        expected = getattr(bound, name)[:, 0].square().mean().sqrt().item()
        assert errors(fits, truth)[name].square().mean().sqrt().item() / expected < 1.05
        assert fits.crlb(name).mean().item() == pytest.approx(expected, rel=0.02)
    assert bound.x_nm.mean().item() == pytest.approx(5.63, abs=0.02)  # as others compute it for this case


@pytest.mark.parametrize("angle_deg", [0.0, 27.0])
def test_an_astigmatic_psf(angle_deg: float) -> None:
    settings = ASTIGMATIC.model_copy(update={"angle_deg": angle_deg})
    n = 8000 if angle_deg == 0 else 1500  # by differences it takes ten times as long
    truth, light = movie(settings, 2000.0, 10.0, n=n, z_nm=400.0)
    fits = fit_single(settings.build(PIXEL_NM), light, z_range_nm=Z_RANGE_NM)
    if angle_deg == 0:
        assert_at_the_bound(fits, truth)
    else:
        for name, error in errors(fits, truth).items():
            assert (error / fits.crlb(name)).square().mean().sqrt().item() < 1.05, name
    assert uniform(fits.p_value) > 1e-3


@pytest.mark.parametrize("settings", [GAUSSIAN, ASTIGMATIC], ids=["gaussian", "astigmatic"])
def test_behind_an_em_register(settings: PSFSettings) -> None:
    camera = camera_of("emccd", offset_counts=100, electrons_per_count=10, em_gain=300, read_noise_electrons=60)
    truth, light = movie(settings, 2000.0, 10.0, n=5000, z_nm=350.0 if settings.tells_depth else 0.0, camera=camera)
    noise = float(torch.as_tensor(camera.noise_variance(())))
    fits = fit_single(settings.build(PIXEL_NM), light, excess=float(camera.excess), noise_variance=noise, z_range_nm=Z_RANGE_NM)
    assert_at_the_bound(fits, truth)
    assert uniform(fits.p_value) > 1e-3
    plain = fit_single(settings.build(PIXEL_NM), light, z_range_nm=Z_RANGE_NM)
    assert (plain.crlb("x_nm") / fits.crlb("x_nm")).mean().item() == pytest.approx(2**-0.5, abs=0.02)
    assert plain.p_value.median() < 1e-6  # twice the noise does not pass unseen


@pytest.mark.parametrize("background", [10.0, 1.0])
def test_noisy_pixels(background: float) -> None:
    camera = uneven_camera()
    truth, light = movie(GAUSSIAN, 1000.0, background, camera=camera)
    noise = camera.noise_variance((SIDE, SIDE))
    fits = fit_single(GAUSSIAN.build(PIXEL_NM), light, noise_variance=noise)
    assert_at_the_bound(fits, truth)
    assert uniform(fits.p_value) > 1e-3
    deaf = fit_single(GAUSSIAN.build(PIXEL_NM), light)
    worse = errors(deaf, truth)["x_nm"].square().mean() / errors(fits, truth)["x_nm"].square().mean()
    assert worse.item() > 1.02
    assert deaf.p_value.median() < 0.05


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_wrong_width_is_seen(factor: float) -> None:
    _, light = movie(GAUSSIAN, 2000.0, 10.0, n=1000)
    wrong = GAUSSIAN.model_copy(update={"width_nm": 130 * factor}).build(PIXEL_NM)
    fits = fit_single(wrong, light)
    assert fits.p_value.median() < 0.02
    free = fit_single(wrong, light, free_width=True)
    assert uniform(free.p_value) > 1e-3
    assert free["width_nm"].mean().item() == pytest.approx(130, abs=1.0)


def test_a_second_emitter_is_seen() -> None:
    _, light = movie(GAUSSIAN, 1500.0, 5.0, n=500)
    both = light + movie(GAUSSIAN, 1500.0, 5.0, n=500, seed=8)[1].roll(3, dims=-1)
    assert fit_single(GAUSSIAN.build(PIXEL_NM), both).p_value.median() < 1e-6
