"""One emitter: moments of its image, and a likelihood that is highest at the truth."""

from __future__ import annotations

import math

import pytest
import torch

from denseloc.camera import CAMERAS, Camera, Ideal
from denseloc.data import Emitters, Grid
from denseloc.description import parse
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, GaussianSettings, PSFSettings

PIXEL_NM = (130.0, 100.0)


def microscope(psf: PSFSettings, camera: Camera | None = None, side: int = 41) -> Microscope:
    return Microscope(psf.build(PIXEL_NM), camera or Ideal(), Grid((side, side), PIXEL_NM))


def lone(x: float, y: float, photons: float, z: float = 0.0, frames: int = 1) -> Emitters:
    one = torch.ones(frames)
    return Emitters.of(torch.arange(frames), x * one, y * one, photons * one, z * one)


@pytest.mark.parametrize(("x", "y"), [(2051.0, 2600.0), (2000.0, 2665.0), (1913.7, 2710.1)])
def test_moments_of_the_expected_image(x: float, y: float) -> None:
    m = microscope(GaussianSettings(width_nm=140, roi_px=31))
    image = m.expected(lone(x, y, 1000.0), torch.zeros(1, 1, 41, 41)).detach()[0, 0].double()
    at_x, at_y = (torch.arange(41) + 0.5) * 100.0, ((torch.arange(41) + 0.5) * 130.0)[:, None]
    assert image.sum().item() == pytest.approx(1000, rel=1e-5)
    assert (image * at_x).sum().item() / 1000 == pytest.approx(x, abs=0.01)
    assert (image * at_y).sum().item() / 1000 == pytest.approx(y, abs=0.01)
    assert (image * (at_x - x) ** 2).sum().item() / 1000 == pytest.approx(140**2 + 100**2 / 12, rel=1e-3)
    assert (image * (at_y - y) ** 2).sum().item() / 1000 == pytest.approx(140**2 + 130**2 / 12, rel=1e-3)


@pytest.mark.parametrize("z", [-300.0, 100.0])
def test_axes_of_an_astigmatic_image(z: float) -> None:
    psf = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, angle_deg=0, roi_px=41)
    image = microscope(psf, side=51).expected(lone(2550.0, 3315.0, 1.0, z), torch.zeros(1, 1, 51, 51)).detach()[0, 0].double()
    at_x, at_y = (torch.arange(51) - 25) * 100.0, ((torch.arange(51) - 25) * 130.0)[:, None]
    for at, focus, pixel in ((at_x, 250, 100), (at_y, -250, 130)):
        width = 130 * math.sqrt(1 + ((z - focus) / 350) ** 2)
        assert (image * at**2).sum().item() == pytest.approx(width**2 + pixel**2 / 12, rel=5e-3)


def test_half_of_an_emitter_at_the_edge_is_lost() -> None:
    m = microscope(GaussianSettings(width_nm=120, roi_px=21))
    image = m.expected(lone(0.0, 2600.0, 1000.0), torch.zeros(1, 1, 41, 41)).detach()
    assert image.sum().item() == pytest.approx(500, rel=1e-4)


CAMERA_EXAMPLES = {
    "ideal": {},
    "scmos": {"offset_counts": 100, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
    "emccd": {"offset_counts": 100, "electrons_per_count": 10, "em_gain": 100, "read_noise_electrons": 30},
}


@pytest.mark.parametrize("kind", CAMERA_EXAMPLES)
def test_the_likelihood_is_highest_at_the_truth(kind: str, generator: torch.Generator) -> None:
    n, side = 150, 15
    psf = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350)
    camera = parse(CAMERAS.get(kind), {"kind": kind, **CAMERA_EXAMPLES[kind]}, "example").build()
    m = microscope(psf, camera, side)
    truth = {"x": 770.0, "y": 930.0, "photons": 1500.0, "z": 60.0}
    light = torch.full((n, 1, side, side), 10.0)
    with torch.no_grad():
        counts = m.sample(lone(**truth, frames=n), light, generator)

        def total(factor: float = 1.0, **change: float) -> float:
            at = {name: value + change.get(name, 0.0) for name, value in truth.items()}
            return m.log_prob(counts, lone(**at, frames=n), factor * light).double().sum().item()

        best = total()
        for name, step in (("x", 5.0), ("y", 5.0), ("z", 15.0), ("photons", 50.0)):
            for sign in (-1, 1):
                assert total(**{name: sign * step}) < best, f"{name} {sign * step:+g}"
        assert total(0.9) < best
        assert total(1.1) < best


def test_the_slope_of_the_likelihood_has_the_spread_of_the_cramer_rao_bound(generator: torch.Generator) -> None:
    """The variance of the score is the Fisher information: for x, the photons times the squared slope over the expectation."""
    n, side = 400, 15
    m = microscope(GaussianSettings(width_nm=130), side=side)
    light = torch.full((n, 1, side, side), 5.0)
    x = torch.full((n,), 760.0, requires_grad=True)
    e = lone(760.0, 960.0, 800.0, frames=n)
    counts = m.sample(e, light, generator).detach()
    moved = Emitters(e.frame, e.molecule, x, e.y_nm, e.z_nm, e.photons, e.channel)
    (score,) = torch.autograd.grad(m.log_prob(counts, moved, light).sum(), x)
    with torch.no_grad():
        here, there, back = (m.expected(e.shifted(dx_nm=d), light)[0].double() for d in (0.0, 1.0, -1.0))
    information = (((there - back) / 2) ** 2 / here).sum().item()
    assert score.var().item() == pytest.approx(information, rel=0.25)
    assert abs(score.mean().item()) < 4 * math.sqrt(information / n)
