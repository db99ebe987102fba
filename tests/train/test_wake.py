"""A look at frames: the bound against brute force, zones, the law of the noise, consistency, and theta that finds the PSF."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from denseloc.camera.density import shifted_gamma
from denseloc.data import Emitters, Grid
from denseloc.localize import InputConditions, Scales
from denseloc.localize.draws import Draws, SetLaw, single_pixels
from denseloc.localize.posterior import PixelPosterior
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, GaussianSettings, ResidualMaps, TwoGaussianSettings
from denseloc.train.theta import Beginning, Theta
from denseloc.train.wake import MovieWindows, Noise, Waking, _zones

PIXEL = (100.0, 100.0)
SIDE = 20
LEVEL = 10.0
NOISE = Noise(1.0, 2.0)
SCALES = Scales(PIXEL, 0.0, 1000.0, 1, InputConditions(LEVEL))


class Oracle:
    """Stands for a localizer: it knows the truth, with a little doubt."""

    context = 0
    settings = SimpleNamespace(objective="mixture")

    def __init__(self, posterior: PixelPosterior) -> None:
        self.posterior = posterior

    def posterior_of_windows(self, photons: Tensor, conditions: Tensor, absent: Tensor | None = None) -> PixelPosterior:
        return self.posterior


def theta_of(width_nm: float = 130.0, **more: Any) -> Theta:
    psf = GaussianSettings(width_nm=width_nm, roi_px=11, **more).build(PIXEL)
    return Theta(psf, SCALES, Beginning(0.5, 1000.0, 0.5, (0.0, 0.0)))


def waking(oracle: Oracle, theta: Theta, **more: Any) -> Waking:
    microscope = Microscope(theta.psf, SimpleNamespace(), Grid((SIDE, SIDE), PIXEL))  # type: ignore[arg-type]
    return Waking(oracle, theta, microscope, NOISE, 1.3, **more)  # type: ignore[arg-type]


def believing(emitters: Emitters, n: int, sigma: tuple[float, float] = (0.06, 0.04), logit: float = 3.0) -> PixelPosterior:
    """A posterior that lies around emitters, one a pixel."""
    maps = torch.zeros(n, 4, SIDE, SIDE)
    detection = torch.full((n, SIDE, SIDE), -12.0)
    x, y = emitters.x_nm / 100 - 0.5, emitters.y_nm / 100 - 0.5
    row, column = y.round().long(), x.round().long()
    detection[emitters.frame, row, column] = logit
    value = torch.stack((x - column, y - row, torch.zeros_like(x), (emitters.photons / 1000).log()), 1)
    maps[emitters.frame, :, row, column] = value
    spread = torch.tensor([sigma[0], sigma[0], 1.0, sigma[1]])[None, :, None, None].expand_as(maps)
    return PixelPosterior(detection, maps, spread, torch.full((n, SIDE, SIDE), LEVEL), PIXEL, 0.0, 1000.0)


def windows_of(frames: Tensor) -> MovieWindows:
    n = len(frames)
    return MovieWindows(frames[:, None], torch.full((n, 1, SIDE, SIDE), LEVEL), torch.zeros(n, 4), torch.zeros(n, 2))


def exposed(emitters: Emitters, n: int, generator: torch.Generator, width_nm: float = 130.0) -> Tensor:
    psf = GaussianSettings(width_nm=width_nm, roi_px=11).build(PIXEL)
    with torch.no_grad():
        expected = Microscope(psf, SimpleNamespace(), Grid((SIDE, SIDE), PIXEL)).expected(  # type: ignore[arg-type]
            emitters, torch.full((n, 1, SIDE, SIDE), LEVEL)
        )
    return torch.poisson(expected, generator) + math.sqrt(NOISE.variance) * torch.randn(expected.shape, generator=generator)


def one_emitter() -> Emitters:
    return Emitters.of(torch.tensor([0]), torch.tensor([1030.0]), torch.tensor([980.0]), torch.tensor([500.0]))


@pytest.mark.parametrize("zoned", [False, True])
def test_the_bound_is_the_evidence_that_an_integral_gives(zoned: bool, generator: torch.Generator) -> None:
    """One pixel may hold an emitter: sum over none and one, and over places and photons of it, on a grid."""
    truth = one_emitter()
    frames = exposed(truth, 1, generator)
    oracle = Oracle(believing(truth, 1, sigma=(0.12, 0.1), logit=1.0))
    theta = theta_of()
    w = waking(oracle, theta, zoned=zoned)
    look = w.look(windows_of(frames), 6000, generator, trials=1)
    law = look.law
    head = int(torch.nonzero(oracle.posterior.logit.flatten() > 0)[0, 0])
    at = torch.linspace(-0.6, 0.6, 25)
    log_photons = torch.linspace(-0.5, 0.5, 25) + math.log(0.5)
    x, y, b = torch.meshgrid(at, at, log_photons, indexing="ij")
    mean = oracle.posterior.mean.permute(0, 2, 3, 1).reshape(-1, 4)[head]
    value = torch.stack(
        (x.flatten() + mean[0] + head % SIDE, y.flatten() + mean[1] + head // SIDE % SIDE, 0 * x.flatten(), b.flatten()), 1
    )
    k = len(value)
    sets = Draws(k, 1, torch.arange(k), torch.full((k,), head), value)
    none = Draws(1, 1, torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))

    def joint(draws: Draws) -> Tensor:
        with torch.no_grad():
            expected = w._rendered(look, w._level(look).expand(draws.k, -1, -1, -1), draws)
            return w._log_likelihood(look, expected).flatten(1).sum(1) + theta.log_prior(law, draws).sum(-1)[:, 0]

    cell = float((at[1] - at[0]) ** 2 * (log_photons[1] - log_photons[0]))
    exact = torch.logaddexp(torch.logsumexp(joint(sets), 0) + math.log(cell), joint(none)[0])
    assert float(look.bound.detach()) == pytest.approx(float(exact), abs=0.12)


def test_zones_cover_the_middle_and_colours_stand_apart() -> None:
    zone, colours, regions = _zones(32, 7, 3, 4, True)
    assert bool((zone[7:25, 7:25] >= 0).all())
    assert int((zone >= 0).sum()) == 18 * 18
    assert sorted(torch.cat(colours).tolist()) == list(range(int(zone.max()) + 1))
    assert all(region.shape == (26, 26) for region in regions)
    _, colours, regions = _zones(64, 7, 3, 4, True)
    assert len(colours) == 4
    zone = _zones(64, 7, 3, 4, True)[0]
    for zones, region in zip(colours, regions, strict=True):
        assert int(region.max()) + 1 == len(zones)
        places = [torch.nonzero(zone == one) for one in zones.tolist()]
        for i, here in enumerate(places):
            for there in places[:i]:
                assert int((here[:, None] - there).abs().amax(-1).min()) > 2 * 4  # light reaches 4 px
    assert len(_zones(32, 7, 3, 4, False)[1]) == 1


def crowd(n: int, generator: torch.Generator, each: int = 3) -> Emitters:
    u = torch.rand(3, n * each, generator=generator)
    return Emitters.of(
        torch.arange(n).repeat_interleave(each), 300 + 1400 * u[0], 300 + 1400 * u[1], 1000 * torch.exp(0.5 * (u[2] - 0.5))
    )


def test_zones_do_not_make_the_bound_worse_in_a_crowd(generator: torch.Generator) -> None:
    truth = crowd(12, generator, 4)
    frames = exposed(truth, 12, generator)
    oracle = Oracle(believing(truth, 12, sigma=(0.2, 0.15), logit=2.0))
    with torch.no_grad():
        zoned, whole = (
            waking(oracle, theta_of(), zoned=zoned).look(windows_of(frames), 32, generator).bound.mean() for zoned in (True, False)
        )
    assert float(zoned) > float(whole) - 1.0


def test_theta_finds_the_width_and_the_background(generator: torch.Generator) -> None:
    """Frames with a PSF wider by 15 % and more background than was measured."""
    truth = crowd(24, generator)
    frames = exposed(truth, 24, generator, width_nm=150.0) + 2.0
    w = waking(Oracle(believing(truth, 24, sigma=(0.15, 0.12), logit=4.0)), theta_of(130.0))
    optimizer = torch.optim.Adam(w.theta.groups(0.02), betas=(0.9, 0.98))
    for step in range(50):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - step / 50)
        look = w.look(windows_of(frames), 12, generator)
        loss = w.theta_loss(look, w.again(look, generator))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        w.theta.keep()
    found = w.theta.values()
    assert found["width_nm"] == pytest.approx(150.0, rel=0.03)
    assert found["background, factor"] == pytest.approx(1.2, rel=0.05)


def test_the_network_learns_what_explains_the_frames(generator: torch.Generator) -> None:
    """The gradient moves a posterior that is off towards the truth, in both objectives."""
    truth = one_emitter()
    frames = exposed(truth, 1, generator)
    off = believing(truth.shifted(dx_nm=12.0), 1, sigma=(0.15, 0.2), logit=2.0)
    for objective in ("mixture", "per_pixel"):
        mean = off.mean.clone().requires_grad_(True)
        oracle = Oracle(PixelPosterior(off.logit, mean, off.sigma, off.background, PIXEL, 0.0, 1000.0))
        oracle.settings = SimpleNamespace(objective=objective)
        w = waking(oracle, theta_of())
        slope = torch.zeros(())
        for _ in range(4):
            look = w.look(windows_of(frames), 64, generator)
            (grad,) = torch.autograd.grad(w.network_loss(look, w.again(look, generator)), mean)
            slope = slope + grad[0, 0, 9, 10]
        assert float(slope) > 0  # descent lowers x, towards the truth


def test_consistency_counts_neighbours_in_the_same_pixel() -> None:
    truth = one_emitter()
    frames = Emitters.of(torch.tensor([0, 1]), truth.x_nm.repeat(2), truth.y_nm.repeat(2), truth.photons.repeat(2))
    posterior = believing(frames, 2, logit=2.0)
    law = SetLaw(posterior, single_pixels(posterior))
    head = torch.nonzero(posterior.logit.flatten() > 0)[:1, 0]
    value = law._normal(head)[0] + torch.tensor([[0.3, -0.1, 0.0, 0.0]])
    draws = Draws(1, 2, torch.tensor([0]), head, value)
    w = waking(Oracle(posterior), theta_of(), consistency=2.0)
    expected = 2.0 * float(torch.sigmoid(torch.tensor(2.0))) * (0.3**2 + 0.1**2)
    assert w._disagreement(law, draws, 2).flatten().tolist() == pytest.approx([expected, 0.0], abs=1e-6)
    assert w._disagreement(law, draws, 1).flatten().tolist() == [0.0, 0.0]  # windows of one frame have no neighbours


@pytest.mark.parametrize(("mean", "excess", "variance"), [(10.0, 1.0, 2.0), (40.0, 2.0, 0.1), (3.0, 1.0, 4.0)])
def test_the_gamma_law_has_the_camera_s_moments(mean: float, excess: float, variance: float) -> None:
    x = torch.linspace(-variance / excess + 1e-4, mean + 40 * math.sqrt(excess * mean + variance), 200001, dtype=torch.float64)
    density = shifted_gamma(x, torch.tensor(mean, dtype=torch.float64), torch.tensor(excess), torch.tensor(variance)).exp()
    total = torch.trapezoid(density, x)
    first = torch.trapezoid(density * x, x)
    second = torch.trapezoid(density * (x - mean) ** 2, x)
    assert float(total) == pytest.approx(1, abs=0.01)
    assert float(first) == pytest.approx(mean, rel=0.01)
    assert float(second) == pytest.approx(excess * mean + variance, rel=0.02)


# ---------------------------------------------------------------------------------------------------------------------------- theta


def test_a_parameter_at_its_bound_is_said() -> None:
    theta = theta_of()
    assert theta.at_bounds() == []
    with torch.no_grad():
        theta.psf.get_parameter("width_nm").fill_(1000.0)
    theta.keep()
    assert theta.values()["width_nm"] == pytest.approx(130 * 1.6)
    (line,) = theta.at_bounds()
    assert line.startswith("'width_nm' of the PSF ran to its bound, 208; more was wanted")


@pytest.mark.parametrize(("share", "is_learned"), [(0.0, False), (0.1, True), (0.7, True), (0.97, False), (1.0, False)])
def test_a_share_does_not_begin_at_its_bound(share: float, is_learned: bool) -> None:
    psf = TwoGaussianSettings(width_1_nm=120, width_2_nm=250, weight_1=share, z_unit_nm=400, roi_px=11).build(PIXEL)
    theta = Theta(psf, SCALES, Beginning(0.5, 1000.0, 0.5, (0.0, 0.0)))
    assert ("weight_1" in theta.learned) is is_learned
    assert theta.at_bounds() == []


def test_depth_keeps_its_scale_and_zero() -> None:
    settings = AstigmaticSettings(width_nm=120, focus_a_nm=-200, focus_b_nm=240, depth_nm=300, roi_px=11)
    scales = Scales(PIXEL, 600.0, 1000.0, 1, InputConditions(LEVEL))
    theta = Theta(settings.build(PIXEL), scales, Beginning(0.5, 1000.0, 0.5, (-600.0, 600.0)))
    assert theta.learned == ["width_nm", "width_ratio", "focus_a_nm", "focus_b_nm"]
    assert not theta.psf.get_parameter("depth_nm").requires_grad
    with torch.no_grad():
        theta.psf.get_parameter("focus_a_nm").add_(50.0)
    assert theta.keep() == pytest.approx(25.0)
    a, b = (float(theta.psf.get_parameter(f"focus_{axis}_nm").detach()) for axis in "ab")
    assert (a, b) == (pytest.approx(-175.0), pytest.approx(215.0))


def test_maps_keep_their_light_and_its_centre(generator: torch.Generator) -> None:
    import numpy as np

    maps = ResidualMaps(values=np.zeros((1, 12, 12), np.float32), z_min_nm=0.0)
    theta = theta_of(residual_maps=maps)
    assert "maps" in theta.learned
    values = theta.psf.get_parameter("maps")
    with torch.no_grad():
        values.add_(1e-3 * (1 + torch.rand(values.shape, generator=generator)))
    theta.keep()
    at = torch.linspace(-1, 1, 12)
    for moment in (torch.ones(12, 12), at.expand(12, 12), at[:, None].expand(12, 12)):
        assert float((values.detach() * moment).sum()) == pytest.approx(0, abs=1e-5)
    assert float(values.detach().abs().max()) > 1e-5
    assert theta.psf.described().residual_maps is not None


def test_the_prior_counts_the_free_pixels(generator: torch.Generator) -> None:
    theta = theta_of()
    posterior = believing(one_emitter(), 1)
    law = SetLaw(posterior, single_pixels(posterior))
    none = Draws(1, 1, torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    rate = math.exp(float(theta.log_per_px.detach()))
    with torch.no_grad():
        assert float(theta.log_prior(law, none)) == pytest.approx(SIDE**2 * math.log1p(-rate), rel=1e-5)
    assert theta.per_um2 == pytest.approx(0.5)
