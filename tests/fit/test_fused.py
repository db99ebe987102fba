"""The fused fit does what the definition does: starts, `climb` with the naive score in double precision, choice and agreement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from denseloc.fit import SingleFits, drawing, fit_single, fused_verdict, levenberg, on_cpu
from denseloc.fit.fisher import invert
from denseloc.kernels.damped_step import naive as damped_step
from denseloc.kernels.spot_score import naive as spot_score
from denseloc.kernels.spot_score.naive import placed
from denseloc.optics import PSF, AstigmaticSettings, GaussianSettings, PSFSettings, SplineSettings

PIXEL_NM = (110.0, 100.0)
N = 40


def spline(planes: int, depths: int, nodes_per_px: int = 1) -> SplineSettings:
    """Make a spline through an astigmatic Gaussian, whose planes see it at different depths; the same at all depths if there is one."""
    at = np.arange(-7 * nodes_per_px, 7 * nodes_per_px + 1) / nodes_per_px
    z = np.linspace(-500, 500, depths) if depths > 1 else np.zeros(1)
    samples = []
    for focus in np.linspace(-200, 200, planes) if planes > 1 else [0.0]:
        a, b = (1.2 * np.sqrt(1 + ((z - focus - d) / 350) ** 2)[:, None, None] for d in (-200, 200))
        samples.append(np.exp(-0.5 * (at[:, None] ** 2 / b**2 + at**2 / a**2)) / (2 * np.pi * a * b * planes))
    return SplineSettings.from_samples(
        np.array(samples), -500.0, 1000 / max(depths - 1, 1), nodes_per_px, 13, pixel_size_nm=PIXEL_NM
    )


ASTIGMATIC = {"width_nm": 130, "focus_a_nm": 250, "focus_b_nm": -250, "depth_nm": 350, "roi_px": 25}
CASES: dict[str, tuple[PSFSettings, dict[str, Any]]] = {
    "fixed": (GaussianSettings(width_nm=130, roi_px=25), {}),
    "free": (GaussianSettings(width_nm=130, roi_px=25), {"free_width": True}),
    "xy": (GaussianSettings(width_nm=130, roi_px=25), {"free_width": "xy"}),
    "free_in_focus": (GaussianSettings(width_nm=120, depth_nm=400, focus_nm=200, roi_px=25), {"free_width": True}),
    "depth": (
        GaussianSettings(width_nm=130, depth_nm=400, focus_nm=-600, roi_px=25),
        {"depth": True, "z_range_nm": (-550.0, 500.0)},
    ),
    "astigmatic": (AstigmaticSettings(**ASTIGMATIC), {"z_range_nm": (-500.0, 500.0)}),
    "skew": (AstigmaticSettings(**ASTIGMATIC, cubic=0.2, quartic=0.1, width_ratio=1.1), {"z_range_nm": (-500.0, 500.0)}),
    "astigmatic_xy": (AstigmaticSettings(**ASTIGMATIC), {"free_width": "xy"}),
    "em_register": (AstigmaticSettings(**ASTIGMATIC), {"z_range_nm": (-500.0, 500.0), "excess": 2.0, "noise_variance": 3.0}),
    "spline": (spline(1, 21), {}),
    "spline_fine": (spline(1, 21, 2), {}),
    "spline_flat": (spline(1, 1), {}),
    "spline_of_one_depth": (spline(1, 21), {"depth": False}),
    "planes": (spline(2, 21), {"excess": 1.5, "noise_variance": 2.0}),
    "shared": (spline(2, 21), {"shared_background": True}),
}


def windows(psf: PSF, shape: tuple[int, int] = (11, 13), z_nm: float = 300.0) -> torch.Tensor:
    """Draw noisy windows: an emitter near the middle, absent pixels here and there, one window empty and one that is all noise."""
    generator = torch.Generator().manual_seed(5)
    whole = torch.randint(-1, 2, (2, N), generator=generator)
    part, z = torch.rand(N, 2, generator=generator) - 0.5, (torch.rand(N, generator=generator) - 0.5) * 2 * z_nm
    with torch.no_grad():
        drawn = placed(psf(part, z), whole[0] + shape[0] // 2, whole[1] + shape[1] // 2, shape)
    photons = torch.poisson(3000 * drawn + torch.rand(N, 1, 1, 1, generator=generator) * 10, generator=generator)
    photons[1, :, 3:5, 2], photons[2, :, :, 8:], photons[3] = float("nan"), float("nan"), float("nan")
    photons[4] = torch.poisson(torch.full_like(photons[4], 3.0), generator=generator)
    photons[5] -= 8  # some below nought, as behind a noisy camera
    return photons


def defined(monkeypatch: pytest.MonkeyPatch, psf: PSF, photons: torch.Tensor, **how: Any) -> SingleFits:
    with monkeypatch.context() as changed:
        changed.setattr(drawing, "score", spot_score.score)
        changed.setattr(drawing, "score_aligned", spot_score.score_aligned)
        changed.setattr(levenberg, "damped_step", damped_step.damped_step)
        return fit_single(psf, photons, dtype=torch.float64, **how)


def assert_the_same(found: SingleFits, expected: SingleFits, part_of_sigma: float, same_start: bool = True) -> None:
    assert found.names == expected.names
    torch.testing.assert_close(found.converged, expected.converged)
    good = expected.converged
    assert good.float().mean() > 0.6
    assert not good[3]
    sigma = expected.covariance[good].diagonal(dim1=1, dim2=2).sqrt()
    assert ((found.values - expected.values)[good] / sigma).abs().max() < part_of_sigma
    scale = sigma[:, :, None] * sigma[:, None]
    assert ((found.covariance - expected.covariance)[good] / scale).abs().max() < 10 * part_of_sigma
    for name in ("log_likelihood", "deviance_ratio", "p_value"):
        torch.testing.assert_close(
            getattr(found, name)[good], getattr(expected, name)[good], rtol=part_of_sigma, atol=part_of_sigma
        )
    if same_start:  # where two of them find the same end, rounding tells which one is kept
        torch.testing.assert_close(found.iterations, expected.iterations)


@pytest.mark.parametrize("case", CASES)
def test_the_fused_fit_is_the_definition(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, how = CASES[case]
    psf = settings.build(PIXEL_NM)
    photons = windows(psf)
    if isinstance(settings, SplineSettings):  # drawn in single precision
        for more, same_start in (({"tries": 1}, True), ({"tolerance": 1e-8}, False)):
            found, expected = fit_single(psf, photons, **how | more), defined(monkeypatch, psf, photons, **how | more)
            assert_the_same(found, expected, 1e-3, same_start)
    else:
        assert_the_same(fit_single(psf, photons, **how), defined(monkeypatch, psf, photons, **how), 1e-6)


@pytest.mark.parametrize("shape", [(7, 7), (5, 16), (20, 9)])
def test_windows_of_any_shape(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for case in ("fixed", "spline"):
        psf = CASES[case][0].build(PIXEL_NM)
        photons = windows(psf, shape, 100.0)
        how = {"tries": 1}
        assert_the_same(
            fit_single(psf, photons, **how), defined(monkeypatch, psf, photons, **how), 1e-3 if case == "spline" else 1e-6
        )


def test_noise_of_each_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    psf = CASES["fixed"][0].build(PIXEL_NM)
    photons = windows(psf)
    variance = torch.rand(photons.shape, generator=torch.Generator().manual_seed(1)) * 20
    for noise in (variance, variance[:1], variance[0]):
        how = {"noise_variance": noise}
        assert_the_same(fit_single(psf, photons, **how), defined(monkeypatch, psf, photons, **how), 1e-6)


def test_given_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for case in ("astigmatic", "spline"):
        psf = CASES[case][0].build(PIXEL_NM)
        photons = windows(psf)
        start = torch.tensor([680.0, 600.0, 20.0]).repeat(N, 1)
        start[6, 0], start[7] = 1e12, float("nan")
        for columns in (2, 3):
            how = {"start_nm": start[:, :columns], "tries": 1}
            found, expected = fit_single(psf, photons[:6], start_nm=start[:6, :columns], tries=1), fit_single(psf, photons, **how)
            assert_the_same(found, defined(monkeypatch, psf, photons[:6], start_nm=start[:6, :columns], tries=1), 1e-4)
            assert not expected.converged[7]
            torch.testing.assert_close(expected.values[:6], found.values, rtol=0, atol=0, equal_nan=True)


def test_threads_and_parts_do_not_matter() -> None:
    psf = CASES["fixed"][0].build(PIXEL_NM)
    photons = windows(psf).repeat(-(-2 * on_cpu.AT_ONCE // N), 1, 1, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = fit_single(psf, photons)
        torch.set_num_threads(3)
        three = fit_single(psf, photons)
    finally:
        torch.set_num_threads(before)
    for name in ("values", "covariance", "log_likelihood", "iterations", "converged"):
        torch.testing.assert_close(getattr(three, name), getattr(one, name), rtol=0, atol=0, equal_nan=True)


def test_other_fits_keep_the_definition() -> None:
    photons = torch.zeros(1, 1, 9, 9)
    turned = AstigmaticSettings(**ASTIGMATIC, angle_deg=20).build(PIXEL_NM)
    assert not on_cpu.takes(drawing.Drawing(turned, "depth", photons), photons)
    assert not on_cpu.takes(drawing.Drawing(spline(1, 21).build(PIXEL_NM), "width", photons), photons)
    straight = GaussianSettings(width_nm=130, roi_px=25).build(PIXEL_NM)
    assert on_cpu.takes(drawing.Drawing(straight, None, photons), photons)
    assert not on_cpu.takes(drawing.Drawing(straight, None, photons.double()), photons.double())
    with pytest.raises(ValueError, match="widths along x and y of AstigmaticPSF"):
        fit_single(turned, photons, free_width="xy")


def test_two_widths_are_found() -> None:
    psf = AstigmaticSettings(**ASTIGMATIC).build(PIXEL_NM)
    with torch.no_grad():
        drawn = psf(torch.zeros(3, 2), torch.tensor([-200.0, 0.0, 200.0]))[..., 6:19, 6:19]
    fits = fit_single(GaussianSettings(width_nm=150, roi_px=25).build(PIXEL_NM), 5000 * drawn + 5, free_width="xy", tolerance=1e-10)
    along_x, along_y = psf.widths_nm(torch.tensor([-200.0, 0.0, 200.0]))
    assert fits.names == ("x_nm", "y_nm", "width_x_nm", "width_y_nm", "photons", "background")
    torch.testing.assert_close(fits["width_x_nm"].float(), along_x.detach(), rtol=1e-4, atol=0)
    torch.testing.assert_close(fits["width_y_nm"].float(), along_y.detach(), rtol=1e-4, atol=0)


def test_covariances_are_inverse_matrices_and_infinite_where_there_is_none() -> None:
    generator = torch.Generator().manual_seed(3)
    for p in (2, 5, 7):
        roots = torch.randn(9, p, p + 1, generator=generator, dtype=torch.float64) * 10.0 ** torch.arange(-3, p - 3)[:, None]
        matrices = roots @ roots.mT
        matrices[3, 1], matrices[3, :, 1] = 0, 0
        matrices[4] = 0
        matrices[5] = float("nan")
        matrices[6, 0, 0] *= -1
        found, work = np.empty((9, p, p)), np.empty((p + 2, p))
        for i in range(9):
            fused_verdict.invert(matrices[i].numpy(), work, found[i])
        torch.testing.assert_close(torch.from_numpy(found), invert(matrices), rtol=1e-6, atol=0)
        assert np.isinf(found[3:7]).all()
