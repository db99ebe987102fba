"""PSFs fitted to the molecules of a movie: what was off is found, what a kind cannot show is said, and bounds hold."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.camera import SCMOS
from denseloc.data import Emitters, Grid
from denseloc.localize.base import InputConditions, Scales
from denseloc.microscope import Microscope
from denseloc.optics import PSF, AstigmaticSettings, GaussianSettings
from denseloc.train.in_situ import Seen, _Fit, fit_in_situ
from denseloc.train.theta import Beginning, Theta
from denseloc.train.wake import Noise

SIDE, N, EACH, PIXEL_NM, LEVEL = 32, 40, 4, (100.0, 100.0), 20.0
GRID, NOISE = Grid((SIDE, SIDE), PIXEL_NM), Noise(1.0, 1.0)
ROUND: dict[str, Any] = {"width_nm": 130.0, "roi_px": 13}
DEEP: dict[str, Any] = {"width_nm": 125.0, "focus_a_nm": -200.0, "focus_b_nm": 200.0, "depth_nm": 330.0, "roi_px": 17}


def camera() -> SCMOS:
    return SCMOS(
        offset=torch.tensor(100.0), electrons_per_count=torch.tensor(1.0), variance=torch.tensor(1.0), quantum_efficiency=1.0
    )


def molecules(depth_nm: float, seed: int = 1) -> Emitters:
    rng = torch.Generator().manual_seed(seed)
    x, y, z = (torch.rand(N * EACH, generator=rng) for _ in range(3))
    frame = torch.arange(N).repeat_interleave(EACH)
    light = torch.exp(torch.log(torch.tensor(2000.0)) + 0.4 * torch.randn(N * EACH, generator=rng))
    return Emitters.of(frame, 600 + 2000 * x, 600 + 2000 * y, light, z_nm=depth_nm * (2 * z - 1))


def frames_of(psf: PSF, emitters: Emitters, seed: int = 2) -> torch.Tensor:
    microscope = Microscope(psf, camera(), GRID)
    with torch.no_grad():
        expected = microscope.expected(emitters, torch.full((N, 1, SIDE, SIDE), LEVEL))
    noise = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
    return expected + (expected + 1.0).sqrt() * noise


def seen(frames: torch.Tensor, emitters: Emitters, seed: int = 3) -> Seen:
    """Molecules as a network may see them: off by 15 nm, 30 nm in depth, 10 % in light."""
    off = torch.randn(len(emitters), 4, generator=torch.Generator().manual_seed(seed))
    sigma = torch.tensor([15.0, 15.0, 30.0, 0.1]).expand(len(emitters), 4)
    begun = replace(
        emitters,
        x_nm=emitters.x_nm + 15 * off[:, 0],
        y_nm=emitters.y_nm + 15 * off[:, 1],
        z_nm=emitters.z_nm + 30 * off[:, 2] * emitters.z_nm.abs().sign(),
        photons=emitters.photons * torch.exp(0.1 * off[:, 3]),
    )
    level = torch.full((N, 1, SIDE, SIDE), LEVEL)
    return Seen(frames, level, torch.zeros(N, 2), begun, sigma, torch.ones(len(emitters)))


def begun(psf: PSF, depth_nm: float) -> tuple[Theta, Microscope]:
    scales = Scales(PIXEL_NM, depth_nm, 1000.0, 1, InputConditions(LEVEL))
    theta = Theta(psf, scales, Beginning(1.0, 1000.0, 0.6, (-depth_nm, depth_nm)))
    return theta, Microscope(psf, camera(), GRID)


def test_a_width_that_is_off_is_found_and_rates_are_counted() -> None:
    true = GaussianSettings(**ROUND)
    emitters = molecules(0.0)
    theta, microscope = begun(GaussianSettings(**{**ROUND, "width_nm": 150.0}).build(PIXEL_NM), 0.0)
    fitted = fit_in_situ(theta, seen(frames_of(true.build(PIXEL_NM), emitters), emitters), microscope, NOISE)
    assert fitted is not None
    assert (fitted.frames, fitted.emitters) == (N, N * EACH)
    values = theta.values()
    assert values["width_nm"] == pytest.approx(130.0, rel=0.01)
    assert values["photons, median"] == pytest.approx(2000.0, rel=0.08)
    assert values["photons, spread of the logarithm"] == pytest.approx(0.4, abs=0.06)
    assert values["density per um2"] == pytest.approx(EACH / (SIDE * 0.1) ** 2, rel=0.01)
    assert values["background, factor"] == pytest.approx(1.0, abs=0.02)
    assert float(theta.misfit) < 0.04


def test_widths_and_foci_are_found_together_with_all_depths() -> None:
    true = AstigmaticSettings(**DEEP)
    emitters = molecules(400.0)
    off = AstigmaticSettings(**{**DEEP, "width_nm": 137.0, "focus_a_nm": -160.0, "focus_b_nm": 160.0})
    theta, microscope = begun(off.build(PIXEL_NM), 400.0)
    begins = seen(frames_of(true.build(PIXEL_NM), emitters), emitters)
    begins = replace(begins, emitters=replace(begins.emitters, z_nm=begins.emitters.z_nm + 50.0))  # as if z = 0 lay elsewhere
    assert fit_in_situ(theta, begins, microscope, NOISE) is not None
    values = theta.values()
    assert values["width_nm"] == pytest.approx(125.0, rel=0.015)
    assert values["focus_b_nm"] - values["focus_a_nm"] == pytest.approx(400.0, rel=0.05)
    assert values["focus_a_nm"] + values["focus_b_nm"] == pytest.approx(0.0, abs=1e-3)
    assert values["z, mean in nm"] == pytest.approx(float(emitters.z_nm.mean()), abs=15.0)
    assert values["z, spread in nm"] == pytest.approx(800 / math.sqrt(12), rel=0.12)


def test_what_the_formula_lacks_goes_into_the_maps() -> None:
    ellipse = AstigmaticSettings(width_nm=110.0, width_ratio=1.4, focus_a_nm=0, focus_b_nm=0, depth_nm=1e6, roi_px=13)
    emitters = molecules(0.0)
    maps = {"values": np.zeros((1, 14, 14), np.float32), "z_min_nm": 0.0}
    frames = frames_of(ellipse.build(PIXEL_NM), emitters)

    def left(**more: Any) -> float:
        theta, microscope = begun(GaussianSettings(**ROUND, **more).build(PIXEL_NM), 0.0)
        fit_in_situ(theta, seen(frames, emitters), microscope, NOISE)
        return float(theta.misfit)

    assert left(residual_maps=maps) < 0.6 * left()


def test_a_kind_that_cannot_show_the_molecules_leaves_much_light() -> None:
    emitters = molecules(900.0)
    deep = AstigmaticSettings(**{**DEEP, "focus_a_nm": 0.0, "focus_b_nm": 0.0})
    flat = replace(emitters, z_nm=torch.zeros_like(emitters.z_nm))
    theta, microscope = begun(GaussianSettings(**ROUND).build(PIXEL_NM), 0.0)
    fit_in_situ(theta, seen(frames_of(deep.build(PIXEL_NM), emitters), flat), microscope, NOISE)
    assert float(theta.misfit) > 0.15


def test_too_few_molecules_change_nothing() -> None:
    emitters = molecules(0.0)
    theta, microscope = begun(GaussianSettings(**ROUND).build(PIXEL_NM), 0.0)
    before = theta.values()
    looks = seen(frames_of(GaussianSettings(**ROUND).build(PIXEL_NM), emitters), emitters)
    assert fit_in_situ(theta, replace(looks, probability=torch.full((N * EACH,), 0.1)), microscope, NOISE) is None
    assert theta.values() == before


def test_theta_keeps_to_its_bounds_and_says_so() -> None:
    emitters = molecules(0.0)
    theta, microscope = begun(GaussianSettings(**{**ROUND, "width_nm": 70.0}).build(PIXEL_NM), 0.0)
    fit_in_situ(theta, seen(frames_of(GaussianSettings(**ROUND).build(PIXEL_NM), emitters), emitters), microscope, NOISE)
    assert theta.values()["width_nm"] == pytest.approx(70 * 1.6, rel=1e-3)
    assert any("width_nm" in line for line in theta.at_bounds())


def test_the_slope_is_that_of_the_value() -> None:
    maps = {"values": np.zeros((1, 14, 14), np.float32), "z_min_nm": 0.0}
    emitters = molecules(0.0)
    theta, microscope = begun(GaussianSettings(**ROUND, residual_maps=maps).build(PIXEL_NM), 0.0)
    fit = _Fit(theta, seen(frames_of(GaussianSettings(**ROUND).build(PIXEL_NM), emitters), emitters), microscope, NOISE)
    rng = np.random.default_rng(4)
    at, along = 0.3 * rng.standard_normal(fit.size), rng.standard_normal(fit.size)
    _, slope = fit.value_and_slope(at)
    step = 3e-3
    difference = (fit.value_and_slope(at + step * along)[0] - fit.value_and_slope(at - step * along)[0]) / (2 * step)
    assert float(slope @ along) == pytest.approx(difference, rel=0.02)
