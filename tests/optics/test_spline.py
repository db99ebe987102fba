"""The spline PSF: what it interpolates, what it refuses, its size, its other forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.interpolate import CubicSpline

from denseloc.errors import CalibrationError, DocumentError
from denseloc.optics import (
    PSF,
    AstigmaticSettings,
    DoubleHelixSettings,
    GaussianSettings,
    MultiplaneSettings,
    PSFSettings,
    SplineSettings,
)

PIXEL_NM = (100.0, 100.0)
ASTIGMATIC = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-220, depth_nm=380, angle_deg=0, quartic=0.1, roi_px=13)


def sampled(section: PSFSettings, nodes_per_px: int, z_nm: np.ndarray, margin_px: int = 3) -> np.ndarray:
    """Read a PSF on a raster of nodes about the emitter: (planes, nz, n, n), n odd."""
    s = nodes_per_px
    psf = section.model_copy(update={"roi_px": section.roi_px + 2 * margin_px}).build(PIXEL_NM).double()
    z, k = torch.from_numpy(z_nm), psf.roi_px
    nodes = torch.zeros(psf.planes, len(z), s * k, s * k, dtype=torch.float64)
    for row in range(s):
        for column in range(s):
            offset = torch.tensor([-column / s, -row / s], dtype=torch.float64).expand(len(z), 2)
            nodes[:, :, row::s, column::s] = psf(offset, z).detach().transpose(0, 1)
    return nodes[:, :, : s * (k - 1) + 1, : s * (k - 1) + 1].numpy()


def spline_of(section: PSFSettings, nodes_per_px: int = 1, step_nm: float = 50.0, **how: float) -> SplineSettings:
    z = np.arange(-600, 600 + step_nm / 2, step_nm)
    samples = sampled(section, nodes_per_px, z)
    return SplineSettings.from_samples(samples, -600.0, step_nm, nodes_per_px, section.roi_px, **{"pixel_size_nm": PIXEL_NM, **how})


def places(n: int, reach_nm: float = 600.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    offset = torch.rand(n, 2, generator=generator, dtype=torch.float64) - 0.5
    return offset, (2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1) * reach_nm


def compare(found: PSF, expected: PSF, n: int = 300) -> tuple[float, float]:
    """Greatest errors of values and of derivatives, as fractions of the greatest value and of the greatest derivative of each axis."""
    a, by_a = found.with_derivatives(*places(n))
    b, by_b = expected.with_derivatives(*places(n))
    slopes = (by_a - by_b).abs().amax((0, 2, 3, 4)) / by_b.abs().amax((0, 2, 3, 4))
    return float((a - b).abs().max() / b.max()), float(slopes.max())


@pytest.mark.parametrize(("nodes_per_px", "value", "slope"), [(1, 5e-3, 4e-2), (2, 1e-3, 1e-2)])
def test_a_sampled_astigmatic_psf_is_reproduced_between_the_nodes(nodes_per_px: int, value: float, slope: float) -> None:
    spline = spline_of(ASTIGMATIC, nodes_per_px).build(PIXEL_NM).double()
    errors = compare(spline, ASTIGMATIC.build(PIXEL_NM).double())
    assert errors[0] < value
    assert errors[1] < slope


def test_all_planes_of_a_microscope_are_reproduced() -> None:
    biplane = MultiplaneSettings(width_nm=130, plane_focus_nm=(-250, 250), depth_nm=350, shift_nm=((0, 0), (30, -20)), roi_px=9)
    settings = spline_of(biplane, 2)
    assert settings.build(PIXEL_NM).planes == 2
    assert compare(settings.build(PIXEL_NM).double(), biplane.build(PIXEL_NM).double())[0] < 1e-3


@pytest.mark.parametrize("nz", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("nodes_per_px", [1, 3])
def test_samples_come_back_at_their_nodes(nz: int, nodes_per_px: int) -> None:
    s = nodes_per_px
    samples = np.random.default_rng(0).normal(size=(2, nz, 8 * s + 1, 8 * s + 1))
    settings = SplineSettings.from_samples(samples, -100.0, 50.0, s, 5)
    np.testing.assert_allclose(settings.samples(), samples, atol=1e-5)
    psf = settings.build(PIXEL_NM).double()
    z = -100.0 + 50.0 * torch.arange(nz, dtype=torch.float64)
    for row, column in ((0, 0), (1, 0), (s - 1, s - 1)):
        drawn = psf(torch.tensor([[-column / s, -row / s]], dtype=torch.float64).expand(nz, 2), z).detach()
        first = 4 * s - 2 * s
        expected = samples[:, :, first + row :: s, first + column :: s][..., :5, :5]
        np.testing.assert_allclose(drawn, expected.swapaxes(0, 1), atol=1e-5)


def test_along_z_it_is_the_not_a_knot_spline() -> None:
    z = np.arange(-200.0, 201.0, 50.0)
    height = np.random.default_rng(1).normal(size=len(z))
    samples = np.zeros((1, len(z), 9, 9))
    samples[0, :, 4, 4] = height
    psf = SplineSettings.from_samples(samples, -200.0, 50.0, 1, 5).build(PIXEL_NM).double()
    at = torch.linspace(-200, 200, 57, dtype=torch.float64)
    values, derivatives = psf.with_derivatives(torch.zeros(57, 2, dtype=torch.float64), at)
    exact = CubicSpline(z, height)
    np.testing.assert_allclose(values[:, 0, 2, 2], exact(at), atol=1e-6)
    np.testing.assert_allclose(derivatives[:, 2, 0, 2, 2], exact(at, 1), atol=1e-7)


def test_beyond_its_depths_the_psf_stays_as_it_is() -> None:
    psf = spline_of(ASTIGMATIC, step_nm=100.0).build(PIXEL_NM)
    assert psf.z_range_nm == (-600.0, 600.0)
    offset = torch.tensor([[0.2, -0.1], [0.2, -0.1]])
    ends, _ = psf.with_derivatives(offset, torch.tensor([-600.0, 600.0]))
    beyond, slopes = psf.with_derivatives(offset, torch.tensor([-900.0, 5000.0]))
    torch.testing.assert_close(beyond, ends)
    assert (slopes[:, 2] == 0).all()


def test_smoothing_takes_noise_and_leaves_the_psf() -> None:
    exact = sampled(ASTIGMATIC, 1, np.arange(-600, 601, 25.0))
    noisy = exact + np.random.default_rng(0).normal(0, 2e-3, exact.shape)

    def error(**how: float) -> float:
        settings = SplineSettings.from_samples(noisy, -600.0, 25.0, 1, 13, pixel_size_nm=PIXEL_NM, **how)
        return float(np.sqrt(((settings.samples() - exact) ** 2).mean()))

    assert error() == pytest.approx(2e-3, rel=0.02)
    assert error(smoothing_z=20.0) < 1.1e-3
    assert error(smoothing_z=20.0, smoothing_xy=0.05) < error(smoothing_z=20.0)
    blurred = SplineSettings.from_samples(exact, -600.0, 25.0, 1, 13, 20.0).samples()
    assert abs(blurred - exact).max() < 0.02 * exact.max()
    tiny = SplineSettings.from_samples(noisy, -600.0, 25.0, 1, 13, 1e-9, smoothing_xy=1e-9).samples()
    np.testing.assert_allclose(tiny, noisy, atol=1e-6)


def test_smoothing_halves_waves_of_the_length_that_is_told() -> None:
    smoothing, n = 30.0, 400
    length = 2 * np.pi * smoothing**0.25
    wave = np.sin(2 * np.pi * np.arange(n) / length)
    settings = SplineSettings.from_samples(np.broadcast_to(wave[None, :, None, None], (1, n, 4, 4)), 0.0, 10.0, 1, 5, smoothing)
    kept = settings.samples()[0, 100:300, 1, 1]
    assert kept.std() / wave[100:300].std() == pytest.approx(0.5, abs=0.06)


# -------------------------------------------------------------------------------------------------------------------- polynomials


def test_polynomials_are_the_spline_and_lead_back_to_it() -> None:
    settings = spline_of(ASTIGMATIC, 2, 100.0)
    found = settings.polynomials()
    nz, ny, nx = (n - 3 for n in settings.coefficients.shape[1:])
    assert found.shape == (1, nz, ny, nx, 4, 4, 4)
    psf = settings.build(PIXEL_NM).double()
    z, dx, dy = 130.0, -0.2, 0.3
    at = {"z": (z + 600) / 100, "y": 2 * -dy + ny / 2, "x": 2 * -dx + nx / 2}  # among the inner nodes, of the middle pixel
    k, j, i = (int(v) for v in at.values())
    powers = [(v % 1) ** np.arange(4) for v in at.values()]
    by_hand = np.einsum("cba,c,b,a->", found[0, k, j, i], *powers)
    drawn = psf(torch.tensor([[dx, dy]], dtype=torch.float64), torch.tensor([z], dtype=torch.float64))
    assert drawn[0, 0, 6, 6].item() == pytest.approx(by_hand, abs=1e-8)
    again = SplineSettings.from_polynomials(found, -600.0, 100.0, 2, 13, pixel_size_nm=PIXEL_NM)
    np.testing.assert_allclose(again.coefficients, settings.coefficients, atol=1e-7)
    assert again.z_range_nm == settings.z_range_nm


def test_polynomials_of_a_single_depth_lead_back_to_it() -> None:
    settings = SplineSettings.from_samples(np.random.default_rng(0).random((2, 1, 9, 9)), 0.0, 1.0, 1, 7)
    again = SplineSettings.from_polynomials(settings.polynomials(), 0.0, 1.0, 1, 7)
    assert not again.tells_depth
    np.testing.assert_allclose(again.coefficients, settings.coefficients, atol=1e-6)


def test_polynomials_that_do_not_join_are_refused() -> None:
    found = spline_of(ASTIGMATIC, 1, 100.0).polynomials()
    found[0, 3, 9, 9] *= 1.05
    with pytest.raises(CalibrationError, match="do not join smoothly: one spline misses them by") as error:
        SplineSettings.from_polynomials(found, -600.0, 100.0, 1, 13)
    assert "\n" not in str(error.value)


# ----------------------------------------------------------------------------------------------------------------- size, refusals


@pytest.mark.parametrize(
    ("section", "width"), [(ASTIGMATIC, 130.0), (GaussianSettings(width_nm=150, depth_nm=400, roi_px=13), 150.0)]
)
@pytest.mark.parametrize("nodes_per_px", [1, 2])
def test_the_width_is_that_of_the_gaussian(section: PSFSettings, width: float, nodes_per_px: int) -> None:
    assert spline_of(section, nodes_per_px, 50.0).width_in_focus_nm() == pytest.approx(width, rel=0.01)


def test_the_width_of_two_lobes_is_that_of_one() -> None:
    helix = DoubleHelixSettings(width_nm=140, separation_nm=700, turn_deg_per_um=55, roi_px=21)
    assert spline_of(helix, 1, 100.0).width_in_focus_nm() == pytest.approx(140, rel=0.05)


def test_tails_and_noise_do_not_change_the_width_much() -> None:
    samples = sampled(GaussianSettings(width_nm=130, depth_nm=400, roi_px=13), 1, np.arange(-600, 601, 50.0))
    wide = sampled(GaussianSettings(width_nm=450, roi_px=13), 1, np.arange(-600, 601, 50.0))
    noise = np.random.default_rng(0).normal(0, 3e-4, samples.shape)
    settings = SplineSettings.from_samples(0.8 * samples + 0.2 * wide + noise, -600, 50, 1, 13, pixel_size_nm=100)
    assert settings.width_in_focus_nm() == pytest.approx(130, rel=0.1)


def test_an_unknown_pixel_size_is_asked_for_and_found_at_building() -> None:
    settings = spline_of(ASTIGMATIC, 1, 200.0, pixel_size_nm=None)
    with pytest.raises(DocumentError, match="add pixel_size_nm"):
        settings.width_in_focus_nm()
    assert settings.build(PIXEL_NM).described().width_in_focus_nm() == pytest.approx(130, rel=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coefficients": np.zeros((2, 9, 9))}, r"shape \(1, 2, 9, 9\): expected .* 1 or at least 4 depths"),
        ({"coefficients": np.zeros((9, 9))}, r"shape \(9, 9\): expected"),
        ({"coefficients": np.zeros((1, 4, 9, 3))}, "4 or more nodes"),
        ({"coefficients": np.full((1, 4, 9, 9), np.nan)}, "not numbers"),
        ({"nodes_per_px": 9}, "less than or equal to 8"),
        ({"z_step_nm": 0}, "greater than 0"),
        ({"pixel_size_nm": 0}, "above 0"),
        ({"residual_maps": {"values": np.zeros((2, 8, 8)), "z_min_nm": 0}}, "a spline carries no residual_maps"),
    ],
)
def test_impossible_sections_are_refused(change: dict[str, object], words: str) -> None:
    values = {"coefficients": np.zeros((4, 9, 9)), "z_min_nm": 0.0, "z_step_nm": 50.0, "pixel_size_nm": 100.0, "roi_px": 7}
    assert SplineSettings(**values).tells_depth
    with pytest.raises(ValidationError, match=words):
        SplineSettings(**{**values, **change})


def test_pixels_of_another_size_are_refused() -> None:
    settings = spline_of(ASTIGMATIC, 1, 200.0)
    settings.build((100.3, 99.8))
    with pytest.raises(DocumentError, match="made for pixels of 100 x 100 nm, found 127 x 127 nm") as error:
        settings.build((127.0, 127.0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("samples", [np.zeros((4, 4)), np.zeros((1, 3, 1, 5)), np.full((1, 3, 5, 5), np.inf)])
def test_impossible_samples_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(CalibrationError, match="expected finite values on"):
        SplineSettings.from_samples(samples, 0.0, 50.0, 1, 5)


# -------------------------------------------------------------------------------------------------------------- use as a PSF


def test_it_travels_through_its_document() -> None:
    settings = spline_of(ASTIGMATIC, 2, 200.0)
    again = SplineSettings.model_validate_json(settings.model_dump_json())
    np.testing.assert_array_equal(again.coefficients, settings.coefficients)
    offset, z = places(5)
    torch.testing.assert_close(again.build(PIXEL_NM)(offset, z), settings.build(PIXEL_NM)(offset, z), rtol=0, atol=0)


def test_changed_coefficients_are_drawn_whichever_way_they_changed() -> None:
    psf = spline_of(ASTIGMATIC, 1, 200.0).build(PIXEL_NM)
    offset, z = (t.float() for t in places(5))
    before = psf(offset, z).detach()
    with torch.no_grad():
        psf.coefficients.mul_(2)
    torch.testing.assert_close(psf(offset, z).detach(), 2 * before)
    psf.coefficients.data = psf.coefficients.data / 2
    torch.testing.assert_close(psf(offset, z).detach(), before)
    other = copy.deepcopy(psf)
    with torch.no_grad():
        other.coefficients.mul_(3)
        torch.testing.assert_close(other(offset, z), 3 * before)
        torch.testing.assert_close(psf(offset, z), before)
    torch.testing.assert_close(psf.double()(offset.double(), z.double()).detach().float(), before)


def test_coefficients_are_found_again_by_gradients() -> None:
    """A few steps of gradient descent on the residual lead a disturbed spline back."""
    right = spline_of(ASTIGMATIC, 1, 200.0)
    psf = right.model_copy(update={"coefficients": 0.9 * right.coefficients}).build(PIXEL_NM)
    offset, z = (t.float() for t in places(400))
    target = right.build(PIXEL_NM)(offset, z).detach()
    optimizer = torch.optim.Adam(psf.parameters(), lr=2e-4)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (psf(offset, z) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.02 * losses[0]


def test_with_derivatives_is_what_the_base_class_finds_forwards() -> None:
    psf = spline_of(ASTIGMATIC, 2, 100.0).build(PIXEL_NM).double()
    offset, z = places(8)
    values, derivatives = psf.with_derivatives(offset, z)
    expected, slopes = PSF.with_derivatives(psf, offset, z)
    assert not derivatives.requires_grad
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(derivatives, slopes, rtol=0, atol=1e-13)


def test_a_scale_is_what_it_is_for_a_formula() -> None:
    formula = GaussianSettings(width_nm=130, depth_nm=400, roi_px=13)
    spline, gaussian = spline_of(formula, 2).build(PIXEL_NM), formula.build(PIXEL_NM)
    offset, z = (t.float() for t in places(30, 200.0))
    scale = torch.linspace(0.8, 1.5, 30)
    with torch.no_grad():
        found, expected = spline(offset, z, scale), gaussian(offset, z, scale)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.max()))
    torch.testing.assert_close(spline(offset, z, scale.requires_grad_()).detach(), found, rtol=0, atol=1e-6)
