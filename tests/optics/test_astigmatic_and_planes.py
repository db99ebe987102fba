"""Closed forms of the astigmatic PSF, the double helix and the multi-plane PSF."""

from __future__ import annotations

import math

import pytest
import torch

from denseloc.optics import AstigmaticSettings, DoubleHelixSettings, GaussianSettings, MultiplaneSettings, TwoGaussianSettings

FINE = 25  # points per pixel and axis of the numerical integral


def integral(
    dx_nm: float, dy_nm: float, a_nm: float, b_nm: float, angle_deg: float, pixel_nm: tuple[float, float], size: int
) -> torch.Tensor:
    """Integrate a turned Gaussian over pixels by the midpoint rule, in nm."""
    steps = (torch.arange(FINE, dtype=torch.float64) + 0.5) / FINE - 0.5
    places = ((torch.arange(size) - size // 2)[:, None] + steps).flatten()
    x, y = places[None, :] * pixel_nm[1] - dx_nm, places[:, None] * pixel_nm[0] - dy_nm
    turn = math.radians(angle_deg)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    density = torch.exp(-0.5 * ((along / a_nm) ** 2 + (across / b_nm) ** 2)) / (2 * math.pi * a_nm * b_nm)
    area = pixel_nm[0] * pixel_nm[1] / FINE**2
    return density.reshape(size, FINE, size, FINE).sum((1, 3)) * area


@pytest.mark.parametrize("pixel_nm", [(100.0, 100.0), (130.0, 100.0)])
@pytest.mark.parametrize("angle", [45.0, -20.0, 90.0, 0.0])
@pytest.mark.parametrize("z", [-300.0, 0.0, 250.0])
def test_a_turned_astigmatic_psf_is_a_numerical_integral(pixel_nm: tuple[float, float], angle: float, z: float) -> None:
    settings = AstigmaticSettings(width_nm=125, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, angle_deg=angle, width_ratio=1.1)
    psf = settings.build(pixel_nm).double()
    depth = torch.tensor([z], dtype=torch.float64)
    a, b = (w.item() for w in psf.widths_nm(depth))
    assert a == pytest.approx(125 * math.sqrt(1 + ((z - 250) / 350) ** 2))
    assert b == pytest.approx(1.1 * 125 * math.sqrt(1 + ((z + 250) / 350) ** 2))
    found = psf(torch.tensor([[0.3, -0.2]], dtype=torch.float64), depth).detach()[0, 0]
    expected = integral(0.3 * pixel_nm[1], -0.2 * pixel_nm[0], a, b, angle, pixel_nm, 15)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.max()))


def test_an_angle_of_nearly_zero_is_the_aligned_formula() -> None:
    values = {"width_nm": 130.0, "focus_a_nm": 200.0, "focus_b_nm": -200.0, "depth_nm": 400.0}
    offset, z = torch.tensor([[0.1, -0.4]]), torch.tensor([300.0])
    aligned, turned = (AstigmaticSettings(**values, angle_deg=a).build((100.0, 100.0))(offset, z) for a in (0.0, 1e-6))
    torch.testing.assert_close(turned, aligned, rtol=0, atol=2e-5)


def test_a_turned_psf_has_its_derivatives_without_gradients_too() -> None:
    settings = AstigmaticSettings(width_nm=125, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, angle_deg=40)
    psf, offset, z = settings.build((130.0, 100.0)), torch.tensor([[0.3, -0.2], [-0.4, 0.1]]), torch.tensor([100.0, -200.0])
    expected, expected_slopes = psf.with_derivatives(offset, z)
    with torch.no_grad():
        found, slopes = psf.with_derivatives(offset, z)
        drawn = psf(offset, z)
    torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slopes, expected_slopes)
    assert slopes.abs().amax((0, 2, 3, 4)).min() > 1e-5


def test_the_first_axis_lies_along_the_angle() -> None:
    psf = AstigmaticSettings(width_nm=120, focus_a_nm=-300, focus_b_nm=300, depth_nm=300, angle_deg=45).build((100.0, 100.0))
    image = psf(torch.zeros(1, 2), torch.tensor([300.0])).detach()[0, 0]  # far from the first axis' focus: long along +x +y
    at = torch.arange(15.0) - 7
    assert float((image * at * at[:, None]).sum()) > 1.0


def test_each_plane_is_a_gaussian_of_its_own_defocus() -> None:
    settings = MultiplaneSettings(
        width_nm=133,
        plane_focus_nm=(-600, -200, 200, 600),
        transmission=(0.1, 0.2, 0.3, 0.4),
        depth_nm=302,
        cubic=7.37e-4,
        quartic=6.27e-3,
        shift_nm=((0, 0), (50, 0), (0, 50), (-20, 10)),
        roi_px=41,
    )
    offset, z = torch.tensor([[0.2, 0.1]]), torch.tensor([150.0])
    planes = settings.build((100.0, 100.0))(offset, z).detach()[0]
    for plane, (focus, share, shift) in enumerate(
        zip(settings.plane_focus_nm, settings.transmission, settings.shift_nm, strict=True)
    ):
        u = (150 - focus) / 302
        width = 133 * math.sqrt(1 + u**2 + 7.37e-4 * u**3 + 6.27e-3 * u**4)
        alone = GaussianSettings(width_nm=width, roi_px=41).build((100.0, 100.0))
        expected = share * alone(offset + torch.tensor([[shift[0] / 100, shift[1] / 100]]), z).detach()[0, 0]
        torch.testing.assert_close(planes[plane], expected, rtol=1e-4, atol=1e-7)


def test_equal_shares_are_the_default_of_a_biplane() -> None:
    planes = MultiplaneSettings(width_nm=130, plane_focus_nm=(-200, 200), depth_nm=350, roi_px=41).build((100.0, 100.0))
    images = planes(torch.zeros(2, 2), torch.tensor([100.0, -100.0])).detach()
    torch.testing.assert_close(images.sum((2, 3)), torch.full((2, 2), 0.5), rtol=0, atol=1e-4)
    torch.testing.assert_close(images[0], images[1].flip(0))
    assert images[0, 1].max() > images[0, 0].max()  # z = 100 is nearer to the focus of the second plane


def test_the_double_helix_turns_with_depth() -> None:
    psf = DoubleHelixSettings(width_nm=120, separation_nm=900, turn_deg_per_um=90, angle_deg=0, roi_px=25).build((100.0, 100.0))
    at = torch.arange(25.0) - 12
    for z, angle in ((0.0, 0.0), (500.0, 45.0), (-500.0, -45.0), (1000.0, 90.0)):
        image = psf(torch.zeros(1, 2), torch.tensor([z])).detach()[0, 0]
        xx, yy = (image * at**2).sum(), (image * at[:, None] ** 2).sum()
        xy = (image * at * at[:, None]).sum()
        found = 0.5 * math.degrees(math.atan2(2 * float(xy), float(xx - yy)))
        assert abs((found - angle + 90) % 180 - 90) < 0.5
        strength = math.hypot(float(xx - yy), 2 * float(xy))
        assert strength == pytest.approx(4.5**2, rel=0.02)


def test_the_two_gaussians_widen_by_softplus() -> None:
    psf = TwoGaussianSettings(width_1_nm=80, width_2_nm=160, weight_1=0.25, z_unit_nm=200, roi_px=51).build((100.0, 100.0))
    at = torch.arange(51.0) - 25
    for z in (-400.0, 0.0, 300.0):
        image = psf(torch.zeros(1, 2), torch.tensor([z])).detach()[0, 0]
        growth = 1 + math.log1p(math.exp(z / 200))
        expected = growth**2 * (0.25 * 0.8**2 + 0.75 * 1.6**2) + 1 / 12
        assert float((image * at**2).sum()) == pytest.approx(expected, rel=2e-3)
