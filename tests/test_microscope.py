"""The microscope: frames from emitters, on the plain path and on the fast one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from denseloc.camera import Ideal, SCMOSSettings
from denseloc.data import Emitters, Grid
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, GaussianSettings, MultiplaneSettings, PSFSettings

PIXEL_NM = (110.0, 100.0)
PSF_KINDS = {
    "gaussian": GaussianSettings(width_nm=130, roi_px=11),
    "astigmatic": AstigmaticSettings(width_nm=130, focus_a_nm=200, focus_b_nm=-200, depth_nm=350, angle_deg=30, roi_px=11),
    "biplane": MultiplaneSettings(width_nm=130, plane_focus_nm=(-200, 200), depth_nm=350, roi_px=11),
}


def microscope(psf: PSFSettings = PSF_KINDS["gaussian"], shape_px: tuple[int, int] = (17, 13)) -> Microscope:
    return Microscope(psf.build(PIXEL_NM), Ideal(), Grid(shape_px, PIXEL_NM))


def crowd(n: int = 40, frames: int = 3, margin_nm: float = 600.0) -> Emitters:
    generator = torch.Generator().manual_seed(4)
    u = torch.rand(4, n, generator=generator)
    return Emitters.of(
        frame=torch.randint(0, frames, (n,), generator=generator),
        x_nm=u[0] * (1300 + 2 * margin_nm) - margin_nm,
        y_nm=u[1] * (1870 + 2 * margin_nm) - margin_nm,
        z_nm=(u[2] - 0.5) * 800,
        photons=500 + 2000 * u[3],
    )


@pytest.mark.parametrize("kind", PSF_KINDS)
def test_the_fast_path_forms_the_same_frames(kind: str) -> None:
    m = microscope(PSF_KINDS[kind])
    background = torch.linspace(1, 9, 3)[:, None, None, None].expand(3, 1, 17, 13)
    scale = torch.linspace(0.8, 1.4, 40)
    expected = m.expected(crowd(), background, scale).detach()
    with torch.no_grad():
        found = m.expected(crowd(), background, scale)
    assert found.shape == (3, m.psf.planes, 17, 13)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)
    assert found.max() > 50


def test_a_frame_is_the_sum_of_its_emitters_and_background() -> None:
    m, e = microscope(), crowd(6)
    dark = torch.zeros(3, 1, 17, 13)
    parts = sum(m.expected(e.select(torch.tensor([i])), dark) for i in range(6))
    torch.testing.assert_close(m.expected(e, dark + 2.0), parts + 2.0)  # type: ignore[operator]


def test_no_emitters_leave_the_background_alone() -> None:
    m, e = microscope(), crowd(5).select(torch.zeros(5, dtype=torch.bool))
    background = torch.rand(2, 1, 17, 13)
    for frames in (m.expected(e, background), torch.no_grad()(m.expected)(e, background)):
        torch.testing.assert_close(frames, background)
        frames += 1.0
    assert background.max() <= 1.0  # the result is no view of what was given


def test_the_background_given_is_not_changed() -> None:
    background = torch.ones(3, 1, 17, 13)
    with torch.no_grad():
        microscope().expected(crowd(), background)
    assert (background == 1).all()


@pytest.mark.parametrize("grad", [True, False])
def test_moving_by_a_pixel_rolls_the_frame(grad: bool) -> None:
    m = microscope(shape_px=(31, 31))
    e = Emitters.of(torch.tensor([0]), torch.tensor([1460.0]), torch.tensor([1700.0]), torch.tensor([1000.0]))
    dark = torch.zeros(1, 1, 31, 31)
    with torch.set_grad_enabled(grad):
        at, right, below = (m.expected(s, dark) for s in (e, e.shifted(dx_nm=100.0), e.shifted(dy_nm=110.0)))
    torch.testing.assert_close(right, at.roll(1, -1), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(below, at.roll(1, -2), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("frame", [3, -1])
def test_an_emitter_in_a_frame_that_is_not_there_is_refused(grad: bool, frame: int) -> None:
    e = dataclasses.replace(crowd(2), frame=torch.tensor([0, frame]))
    with torch.set_grad_enabled(grad), pytest.raises(ValueError, match=r"frames 0 \.\. 2"):
        microscope().expected(e, torch.zeros(3, 1, 17, 13))


def test_frames_are_differentiable_in_positions_photons_and_psf() -> None:
    m, e = microscope(), crowd()
    leaves = {name: getattr(e, name).clone().requires_grad_() for name in ("x_nm", "y_nm", "photons")}
    frames = m.expected(dataclasses.replace(e, **leaves), torch.ones(3, 1, 17, 13))
    weight = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    (frames * weight).sum().backward()
    for leaf in (*leaves.values(), m.psf.width_nm):
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).any()


def test_samples_scatter_about_the_expectation(generator: torch.Generator) -> None:
    m = microscope()
    e = Emitters.of(torch.tensor([0]), torch.tensor([640.0]), torch.tensor([900.0]), torch.tensor([3000.0]))
    e = Emitters.concat([dataclasses.replace(e, frame=torch.tensor([i])) for i in range(200)])
    background = torch.full((200, 1, 17, 13), 5.0)
    counts = m.sample(e, background, generator)
    expected = m.expected(e, background).detach()
    deviation = (counts - expected).mean(0) / (expected[0] / 200).sqrt()
    assert deviation.abs().max() < 5
    assert deviation.square().mean().item() == pytest.approx(1.0, abs=0.25)


def test_log_prob_is_that_of_the_camera(generator: torch.Generator) -> None:
    camera = SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=1.5).build()
    m = Microscope(PSF_KINDS["gaussian"].build(PIXEL_NM), camera, Grid((17, 13), PIXEL_NM))
    background = torch.full((3, 1, 17, 13), 5.0)
    counts = m.sample(crowd(), background, generator)
    value = m.log_prob(counts, crowd(), background)
    assert value.shape == (3,)
    torch.testing.assert_close(value[1], camera.log_prob(counts[1], m.expected(crowd(), background)[1]).sum())
