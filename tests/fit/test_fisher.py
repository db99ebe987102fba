"""Cramer-Rao bounds against closed forms, automatic second derivatives and common sense."""

from __future__ import annotations

import math

import pytest
import torch

from denseloc.fit import crlb
from denseloc.optics import PSF, AstigmaticSettings, DoubleHelixSettings, GaussianSettings, MultiplaneSettings

PIXEL_NM = (110.0, 100.0)
ASTIGMATIC = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=25)
BIPLANE = MultiplaneSettings(width_nm=130, plane_focus_nm=(-250.0, 250.0), depth_nm=350, roi_px=25)
HELIX = DoubleHelixSettings(width_nm=140, separation_nm=700, turn_deg_per_um=80, roi_px=25)
TURNED = ASTIGMATIC.model_copy(update={"angle_deg": 30.0})


def gaussian(pixel: float = 100.0, width: float = 130.0, roi_px: int = 25) -> PSF:
    return GaussianSettings(width_nm=width, roi_px=roi_px).build((pixel, pixel))


def test_small_pixels_without_background_give_width_over_root_photons() -> None:
    found = crlb(gaussian(20.0, roi_px=101), torch.tensor([[1010.0, 1010.0, 0.0]]), 500.0, 1e-9, window_px=(101, 101))
    assert found.x_nm.item() == pytest.approx(130 / math.sqrt(500), rel=2e-3)
    assert found.y_nm.item() == pytest.approx(130 / math.sqrt(500), rel=2e-3)
    assert found.photons.item() == pytest.approx(math.sqrt(500), rel=2e-3)
    assert found.z_nm is None


@pytest.mark.parametrize(("photons", "background"), [(500.0, 1.0), (1000.0, 10.0), (5000.0, 50.0)])
def test_the_formula_of_mortensen(photons: float, background: float) -> None:
    """``s^2 / N / (1 + int_0^1 ln t / (1 + t / tau) dt)``, ``tau = 2 pi s^2 b / N a^2`` with the width s widened by a^2 / 12 (2010)."""
    pixel, width2 = 60.0, 130.0**2 + 60.0**2 / 12
    tau = 2 * math.pi * width2 * background / (photons * pixel**2)
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    expected = math.sqrt(width2 / photons / (1 + (torch.log(t) / (1 + t / tau)).mean().item()))
    found = crlb(gaussian(pixel, roi_px=51), torch.tensor([[1530.0, 1530.0, 0.0]]), photons, background, window_px=(51, 51))
    assert found.x_nm.item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("settings", [ASTIGMATIC, BIPLANE, HELIX, TURNED], ids=["astigmatic", "biplane", "helix", "turned"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_matrix_is_the_second_derivative_of_the_likelihood(settings, shared: bool) -> None:
    """Where the counts are the expected ones, minus the second derivative is the Fisher matrix."""
    psf = settings.build(PIXEL_NM)
    positions = torch.tensor([[560.0, 610.0, 130.0], [820.0, 700.0, -210.0]], dtype=torch.float64)
    photons = torch.tensor([900.0, 1400.0], dtype=torch.float64)
    level = torch.tensor([7.0] * (1 if shared else psf.planes), dtype=torch.float64)
    variance = torch.rand(13, 12, generator=torch.Generator().manual_seed(2)).double() * 4
    found = crlb(psf, positions, photons, 7.0, window_px=(13, 12), excess=2.0, noise_variance=variance, shared_background=shared)
    drawn = settings.build(PIXEL_NM).double().requires_grad_(False)

    def mean(at: torch.Tensor) -> torch.Tensor:
        x, y, z, bright = at[:8].reshape(2, 4).unbind(1)
        offset = torch.stack((x / 100 - 0.5, y / 110 - 0.5), 1)
        whole = offset.detach().round()
        total = at[8:].expand(psf.planes)[:, None, None].expand(-1, 13, 12)
        for k in range(2):
            patch = bright[k] * drawn(offset[k : k + 1] - whole[k], z[k : k + 1])[0]
            column, row = int(whole[k, 0]), int(whole[k, 1])
            total = total + torch.nn.functional.pad(patch, (column, 11 - column, row, 12 - row))[:, 12:25, 12:24]
        return total / 2 + variance / 4

    at = torch.cat((torch.cat((positions, photons[:, None]), 1).flatten(), level))
    counts = mean(at).detach()
    curvature = torch.autograd.functional.hessian(lambda a: (mean(a) - counts * mean(a).log()).sum(), at)
    torch.testing.assert_close(torch.linalg.inv(found.covariance[0]), curvature, rtol=2e-5, atol=1e-9)
    assert found.names[:4] == ("x_nm_0", "y_nm_0", "z_nm_0", "photons_0")
    assert len(found.names) == 8 + len(level)


def test_excess_noise_costs_a_factor_of_root_two() -> None:
    at = torch.tensor([[650.0, 660.0, 100.0]])
    one = crlb(ASTIGMATIC.build(PIXEL_NM), at, 800.0, 8.0, window_px=(13, 13))
    two = crlb(ASTIGMATIC.build(PIXEL_NM), at, 800.0, 8.0, window_px=(13, 13), excess=2.0)
    torch.testing.assert_close(two.covariance, 2 * one.covariance)


def test_noise_of_pixels_counts_like_background() -> None:
    at = torch.tensor([[650.0, 660.0, 0.0]])
    dark = crlb(gaussian(), at, 800.0, 3.0, window_px=(13, 13), noise_variance=torch.full((13, 13), 5.0))
    bright = crlb(gaussian(), at, 800.0, 8.0, window_px=(13, 13))
    torch.testing.assert_close(dark.covariance, bright.covariance)


def test_two_emitters_are_harder_than_one_and_like_one_when_apart() -> None:
    psf = gaussian()
    alone = crlb(psf, torch.tensor([[1250.0, 1250.0, 0.0]]), 1000.0, 5.0, window_px=(25, 75))
    distances = torch.tensor([60.0, 130.0, 260.0, 520.0, 3000.0])
    pairs = torch.stack((torch.tensor([1250.0, 1250.0, 0.0]).expand(5, 3), torch.tensor([1250.0, 1250.0, 0.0]).repeat(5, 1)), 1)
    pairs[:, 1, 0] += distances
    found = crlb(psf, pairs, 1000.0, 5.0, window_px=(25, 75))
    assert (found.x_nm[:, 0].diff() < 0).all()
    assert (found.x_nm[:4] > 1.02 * alone.x_nm).all()
    assert found.x_nm[0, 0] > 5 * alone.x_nm[0, 0]
    torch.testing.assert_close(found.x_nm[-1], alone.x_nm.expand(1, 2)[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(found.photons[-1], alone.photons.expand(1, 2)[0], rtol=1e-3, atol=0)


def test_emitters_at_one_place_cannot_be_told_apart() -> None:
    found = crlb(gaussian(), torch.tensor([[650.0, 650.0, 0.0], [650.0, 650.0, 0.0]]), 1000.0, 5.0, window_px=(13, 13))
    assert torch.isinf(found.x_nm).all()


def test_cases_of_a_batch_are_those_alone() -> None:
    psf = BIPLANE.build(PIXEL_NM)
    positions = torch.rand(7, 3, 3, generator=torch.Generator().manual_seed(4)) * 900 + 200
    positions[..., 2] -= 600
    photons = torch.linspace(300, 3000, 21).reshape(7, 3)
    background = torch.linspace(2, 20, 14).reshape(7, 2)
    found = crlb(psf, positions, photons, background, window_px=(14, 13))
    for i in range(7):
        one = crlb(psf, positions[i], photons[i], background[i], window_px=(14, 13))
        torch.testing.assert_close(found.covariance[i], one.covariance[0])
    shared = crlb(psf, positions, photons, background, window_px=(14, 13), shared_background=True)
    assert found.background.shape == (7, 2)
    assert shared.background.shape == (7, 1)
    assert (shared.z_nm <= found.z_nm * (1 + 1e-9)).all()
