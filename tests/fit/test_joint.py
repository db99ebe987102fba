"""Joint fits: scenes without noise are found, one emitter is a single fit, bounds are true, crowds agree, and what fails says so."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from denseloc.camera import Ideal
from denseloc.data import Emitters, Grid
from denseloc.fit import Noise, crlb, fit_single
from denseloc.fit.joint import Joint
from denseloc.fit.joint_fits import JointFits, Prior
from denseloc.fit.scene import LEAST_PHOTONS
from denseloc.microscope import Microscope
from denseloc.optics import PSF, AstigmaticSettings, GaussianSettings, MultiplaneSettings, PSFSettings
from denseloc.optics.bake import bake

PIXEL_NM = (110.0, 100.0)
SHAPE = (30, 40)
Z_RANGE_NM = (-600.0, 600.0)
GAUSSIAN = GaussianSettings(width_nm=130, roi_px=23)
ASTIGMATIC = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=23)
BIPLANE = MultiplaneSettings(width_nm=130, plane_focus_nm=(-250.0, 250.0), depth_nm=350, roi_px=23, shift_nm=((0, 0), (30, 20)))
PLACES = torch.tensor([[10.2, 9.7, 1500.0], [14.1, 11.4, 2500.0], [11.0, 14.6, 900.0], [28.3, 20.4, 2000.0]])
OFF = torch.tensor([[0.4, -0.3, 0.7], [-0.5, 0.2, 1.3], [0.3, 0.3, 1.5], [-0.2, -0.4, 0.8]])


@lru_cache
def settings_of(kind: str) -> PSFSettings:
    plain: dict[str, PSFSettings] = {"gaussian": GAUSSIAN, "astigmatic": ASTIGMATIC, "biplane": BIPLANE}
    return plain[kind] if kind in plain else bake(ASTIGMATIC.build(PIXEL_NM), *Z_RANGE_NM, 1e-3)


def psf_of(kind: str) -> PSF:
    return settings_of(kind).build(PIXEL_NM).requires_grad_(False)


def in_depth(places: Tensor, depths: Tensor) -> Tensor:
    return torch.cat((places[:, :2], depths[:, None], places[:, 2:]), 1)


def scene(psf: PSF, at: Tensor, frame: Tensor | None = None, shape: tuple[int, int] = SHAPE, level: float = 6.0) -> Tensor:
    """Draw expected photons of emitters (n, c) x, y in px, [depth,] photons."""
    frame = torch.zeros(len(at), dtype=torch.long) if frame is None else frame
    z = at[:, 2] if at.shape[1] == 4 else torch.zeros(len(at))
    x, y = (at[:, 0] + 0.5) * PIXEL_NM[1], (at[:, 1] + 0.5) * PIXEL_NM[0]
    emitters = Emitters.of(frame, x.float(), y.float(), at[:, -1].float(), z.float())
    n = int(frame.max()) + 1
    return Microscope(psf, Ideal(), Grid(shape, PIXEL_NM)).expected(emitters, torch.full((n, 1, *shape), level))


def noisy(light: Tensor, seed: int = 1) -> Tensor:
    return torch.poisson(light, generator=torch.Generator().manual_seed(seed))


def begin(at: Tensor, planes: int = 1, frame: Tensor | None = None, level: float = 3.0) -> JointFits:
    frame = torch.zeros(len(at), dtype=torch.long) if frame is None else frame
    return JointFits.beginning(frame, at, torch.full((len(at), planes), level))


def joint(photons: Tensor, kind: str = "gaussian", noise: Noise | None = None, **more: Any) -> Joint:
    told: dict[str, Any] = {"window_px": 13, "z_range_nm": Z_RANGE_NM, **more}
    return Joint(psf_of(kind), photons, noise or Noise(), **told)


def shifted(at: Tensor) -> Tensor:
    """Give starts that are off."""
    moved = at.clone()
    moved[:, :2] += OFF[: len(at), :2]
    moved[:, -1] *= OFF[: len(at), 2]
    return moved


# ------------------------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("kind", ["gaussian", "astigmatic", "spline", "biplane"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_noise_the_truth_is_found(kind: str, dtype: torch.dtype) -> None:
    psf = psf_of(kind)
    truth = PLACES if kind == "gaussian" else in_depth(PLACES, torch.tensor([100.0, -150.0, 50.0, -300.0]))
    start = shifted(truth)
    if kind != "gaussian":
        start[:, 2] += torch.tensor([60.0, -70.0, 80.0, 50.0])
    fits = joint(scene(psf, truth).to(dtype), kind).fit(begin(start, psf.planes), tolerance=1e-8)
    assert fits.converged.all()
    assert fits.group.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(fits.at[:, :2].float(), truth[:, :2], rtol=0, atol=1e-4)
    torch.testing.assert_close(fits.at[:, -1].float(), truth[:, -1], rtol=1e-4, atol=0)
    if kind != "gaussian":
        torch.testing.assert_close(fits.at[:, 2].float(), truth[:, 2], rtol=0, atol=0.05)
    torch.testing.assert_close(fits.background, torch.full_like(fits.background, 6.0), rtol=1e-3, atol=0)
    assert (fits.p_value > 0.99).all()


@pytest.mark.parametrize("kind", ["gaussian", "astigmatic", "biplane"])
def test_one_emitter_alone_is_a_single_fit(kind: str) -> None:
    psf = psf_of(kind)
    place = torch.tensor([[15.3, 12.8, 800.0]])
    truth = place if kind == "gaussian" else in_depth(place, torch.tensor([120.0]))
    photons = noisy(scene(psf, truth))
    noise = Noise(1.4, 3.0)
    fits = joint(photons, kind, noise).fit(begin(truth + 0.1, psf.planes), tolerance=1e-6)
    window = photons[..., 13 - 6 : 13 + 7, 15 - 6 : 15 + 7]
    alone = fit_single(psf, window, excess=1.4, noise_variance=3.0, z_range_nm=Z_RANGE_NM, tolerance=1e-6)
    assert fits.converged.all()
    c = fits.at.shape[1]
    units = torch.tensor([100.0, 110.0, 1.0, 1.0] if c == 4 else [100.0, 110.0, 1.0]).double()
    mine = torch.cat(((fits.at[:, :2] + 0.5 - torch.tensor([9.0, 7.0])) * units[:2], fits.at[:, 2:]), 1)
    assert ((mine - alone.values[:, :c]).abs() < 0.01 * alone.covariance[0].diagonal().sqrt()[:c]).all()
    torch.testing.assert_close(fits.covariance * units[:, None] * units, alone.covariance[:, :c, :c], rtol=0.01, atol=0.1)
    torch.testing.assert_close(fits.background, alone.values[:, c:], rtol=5e-3, atol=1e-3)
    torch.testing.assert_close(fits.log_likelihood, alone.log_likelihood, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(fits.p_value, alone.p_value, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["gaussian", "astigmatic"])
def test_the_covariance_of_two_is_the_inverse_of_their_information(kind: str) -> None:
    psf = psf_of(kind)
    place = torch.tensor([[14.2, 12.3, 1500.0], [16.6, 13.4, 900.0]])  # both windows together are not a rectangle
    truth = place if kind == "gaussian" else in_depth(place, torch.tensor([150.0, -100.0]))
    fits = joint(scene(psf, truth), kind, Noise(2.0, 4.0)).fit(begin(truth), tolerance=1e-10)
    at = torch.zeros(1, 2, 3)
    at[0, :, :2] = (truth[:, :2] + 0.5) * torch.tensor(PIXEL_NM[::-1])
    at[0, :, 2] = truth[:, 2] if kind == "astigmatic" else 0.0
    told = torch.full(SHAPE, 1e12)  # pixels in neither window tell nothing
    for x, y in ((14, 12), (17, 13)):
        told[y - 6 : y + 7, x - 6 : x + 7] = 4.0
    bound = crlb(psf, at, truth[:, -1], 6.0, window_px=SHAPE, excess=2.0, noise_variance=told)
    c = fits.at.shape[1]
    units = torch.tensor([100.0, 110.0, 1.0, 1.0] if c == 4 else [100.0, 110.0, 1.0]).double()
    for k in range(2):
        own = slice(k * c, (k + 1) * c)
        torch.testing.assert_close(fits.covariance[k] * units[:, None] * units, bound.covariance[0, own, own], rtol=2e-3, atol=0.02)
        alone = crlb(psf, at[:, k : k + 1], truth[k, -1], 6.0, window_px=SHAPE, excess=2.0, noise_variance=told)
        assert (fits.covariance[k, 0, 0].sqrt() * 100 > alone.x_nm[0, 0] * 1.02).item()  # a neighbour costs


def test_errors_of_pairs_are_as_large_as_is_said() -> None:
    psf, n = psf_of("gaussian"), 400
    generator = torch.Generator().manual_seed(5)
    first = 13 + torch.rand(n, 2, generator=generator)
    turn = 6.3 * torch.rand(n, generator=generator)
    second = first + 3.0 * torch.stack((turn.cos(), turn.sin()), 1)
    truth = torch.cat((torch.cat((first, second)), torch.full((2 * n, 1), 1500.0)), 1)
    frame = torch.arange(n).repeat(2)
    fits = joint(noisy(scene(psf, truth, frame, (28, 28)))).fit(begin(truth, frame=frame))
    assert fits.converged.all()
    pull = (fits.at - truth) / fits.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert (pull.std(0) - 1).abs().max() < 0.08
    assert pull.mean(0).abs().max() < 0.15
    assert abs(fits.p_value.mean().item() - 0.5) < 0.04


def test_a_sloped_background_is_found() -> None:
    truth = PLACES[:2]
    rows, columns = torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing="ij")
    light = scene(psf_of("gaussian"), truth, level=0.0) + 8 + 0.4 * (columns - 12) - 0.3 * (rows - 10)
    flat = joint(light.clamp(min=0)).fit(begin(truth), tolerance=1e-8)
    fits = joint(light.clamp(min=0), slope=True).fit(begin(shifted(truth)), tolerance=1e-8)
    torch.testing.assert_close(fits.at.float(), truth, rtol=1e-4, atol=1e-4)
    level = 8 + 0.4 * (truth[:, 0] - 12) - 0.3 * (truth[:, 1] - 10)
    torch.testing.assert_close(fits.background[:, 0].float(), level, rtol=1e-3, atol=1e-3)
    assert (flat.at - truth)[:, :2].abs().max() > 0.01


def test_a_prior_pulls_by_its_precision() -> None:
    truth = torch.tensor([[15.3, 12.8, 800.0]])
    search = joint(noisy(scene(psf_of("gaussian"), truth)))
    free = search.fit(begin(truth), tolerance=1e-12)
    mean = free.at[:, :2] + torch.tensor([[0.02, -0.02]])
    precision = torch.tensor([[300.0, 1000.0]]).double()
    pulled = search.fit(begin(truth), Prior(mean, precision), tolerance=1e-12)
    own = torch.linalg.inv(free.covariance[0, :2, :2])  # Gaussian: what the pixels say of x and y, all else free
    both = own + precision[0].diag()
    expected = torch.linalg.solve(both, own @ free.at[0, :2] + precision[0] * mean[0])
    assert (expected - free.at[0, :2]).abs().min() > 2e-3
    torch.testing.assert_close(pulled.at[0, :2] - free.at[0, :2], expected - free.at[0, :2], rtol=0.05, atol=1e-5)
    torch.testing.assert_close(pulled.covariance[0, :2, :2], torch.linalg.inv(both), rtol=0.02, atol=1e-6)
    torch.testing.assert_close(pulled.fisher, free.fisher, rtol=0.02, atol=1.0)  # without the prior
    held = search.fit(begin(truth), Prior(mean, precision * 1e8))
    torch.testing.assert_close(held.at[:, :2], mean, rtol=0, atol=1e-5)
    unknown = search.fit(begin(truth), Prior(mean, torch.zeros_like(precision)), tolerance=1e-12)
    torch.testing.assert_close(unknown.at, free.at)


# ------------------------------------------------------------------------------------------------------------------- crowds


def crowd(n: int = 14, seed: int = 2) -> Tensor:
    """Place emitters, at least 3 px from one another, in a row of windows that overlap."""
    generator = torch.Generator().manual_seed(seed)
    places: list[Tensor] = []
    while len(places) < n:
        place = torch.rand(2, generator=generator) * torch.tensor([30.0, 12.0]) + torch.tensor([5.0, 9.0])
        if all((place - other).norm() > 3 for other in places):
            places.append(place)
    return torch.cat((torch.stack(places), 800 + 1500 * torch.rand(n, 1, generator=generator)), 1)


def test_a_crowd_in_blocks_agrees_with_one_group() -> None:
    truth = crowd()
    photons = noisy(scene(psf_of("gaussian"), truth))
    whole = joint(photons, most=20).fit(begin(truth), tolerance=1e-8)
    blocks = joint(photons, most=5).fit(begin(truth), sweeps=20, tolerance=1e-8)
    usual = joint(photons, most=5).fit(begin(truth))
    assert whole.group.max() == 0
    assert blocks.group.max() > 1
    sigma = whole.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((blocks.at - whole.at).abs() < 0.2 * sigma).all()  # blocks have backgrounds of their own
    assert ((usual.at - whole.at).abs() < 0.4 * sigma).all()


def test_without_noise_a_crowd_in_blocks_is_exact() -> None:
    truth = crowd()
    start = truth * torch.tensor([1.0, 1.0, 1.2]) + torch.tensor([0.2, -0.2, 0.0])
    fits = joint(scene(psf_of("gaussian"), truth), most=4).fit(begin(start), sweeps=30, tolerance=1e-8)
    assert fits.converged.all()
    torch.testing.assert_close(fits.at[:, :2].float(), truth[:, :2], rtol=0, atol=0.03)


def test_blocks_of_one_settle_in_depth_too() -> None:
    """The first begins beside its depth; its neighbour, fitted in the false light, must be fitted again."""
    truth = torch.tensor([[12.0, 12.0, 350.0, 3000.0], [15.5, 12.0, 0.0, 1500.0]])
    start = truth.clone()
    start[0, 2] = 250.0
    search = joint(scene(psf_of("astigmatic"), truth), "astigmatic", most=1)
    fits = search.fit(begin(start, level=6.0), sweeps=40, tolerance=1e-8)
    sigma = fits.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((fits.at - truth).abs() < 0.6 * sigma).all()


def test_groups_do_not_depend_on_what_stands_beside_them() -> None:
    truth = crowd(9)
    frame = torch.arange(9) % 3
    photons = noisy(scene(psf_of("gaussian"), truth, frame))
    whole = joint(photons).fit(begin(truth, frame=frame))
    for k in range(3):
        mine = frame == k
        part = joint(photons[k : k + 1]).fit(begin(truth[mine]))
        for name in ("at", "covariance", "log_likelihood", "p_value", "converged"):
            torch.testing.assert_close(getattr(part, name), getattr(whole, name)[mine], rtol=0, atol=0)


def test_no_emitters_give_no_fits() -> None:
    fits = joint(torch.ones(2, 1, *SHAPE)).fit(begin(torch.zeros(0, 3)))
    assert len(fits) == 0


# ------------------------------------------------------------------------------------------------------ leaving out, adding


def test_what_is_lost_is_that_of_fits_to_the_same_pixels() -> None:
    """Also where the emitters have moved to other pixels while they were fitted."""
    photons = noisy(scene(psf_of("gaussian"), PLACES))
    search = joint(photons)
    fits = search.fit(begin(shifted(PLACES) + torch.tensor([0.5, 0.6, 0.0])), tolerance=1e-8, sweeps=1)
    assert (fits.pixel != fits.at[:, :2].round()).any()
    lost = search.lost_without(fits, torch.tensor([1, 3]))
    seen = torch.zeros(2, *SHAPE, dtype=torch.bool)
    for which, middles in enumerate((fits.pixel[:3], fits.pixel[3:])):
        for x, y in middles.tolist():
            seen[which, y - 6 : y + 7, x - 6 : x + 7] = True
    masked = torch.where(seen[0], photons, torch.nan)
    everywhere = joint(masked, window_px=41)  # sees all of these pixels, whatever is left out
    two, three = (everywhere.fit(begin(fits.at[rows].float(), level=6.0), tolerance=1e-8) for rows in ([0, 2], [0, 1, 2]))
    assert lost[0].item() == pytest.approx((three.log_likelihood[0] - two.log_likelihood[0]).item(), abs=0.05)
    dark = photons[0, 0][seen[1]].double()  # nothing but background
    mean = dark.mean().expand_as(dark)
    expected = (torch.xlogy(dark, mean) - mean - torch.lgamma(dark + 1)).sum()
    assert lost[1].item() == pytest.approx((fits.log_likelihood[3] - expected).item(), abs=0.05)
    assert (2 * lost > 100).all()


def test_what_is_lost_does_not_depend_on_how_others_have_shone_before() -> None:
    """Groups cut from a crowd speak of light that has moved since they were fitted; both likelihoods are those of the light as it is now."""
    truth = torch.tensor([[12.0, 14.0, 1500.0], [18.5, 14.0, 1500.0]])
    search = joint(noisy(scene(psf_of("gaussian"), truth)), most=1)
    settled = search.fit(begin(truth), tolerance=1e-8, sweeps=10)
    stale = search.fit(begin(truth * torch.tensor([1.0, 1.0, 1.7])), tolerance=1e-8, sweeps=1)
    stale.at[1] = settled.at[1]  # the other one has come to rest, this one speaks of how it began
    one = torch.tensor([0])
    former = stale.log_likelihood[0] - settled.log_likelihood[0]
    assert former.abs() > 0.5
    assert search.lost_without(stale, one).item() == pytest.approx(search.lost_without(settled, one).item(), abs=0.1)


def test_what_is_not_there_does_not_pay() -> None:
    truth = torch.cat((PLACES[:3], torch.tensor([[12.0, 12.0, 50.0]])))
    search = joint(noisy(scene(psf_of("gaussian"), PLACES)))
    fits = search.fit(begin(truth))
    statistic = 2 * search.lost_without(fits, torch.tensor([3]))[0]
    assert -0.1 < statistic.item() < 16


def test_fresh_fits_only_what_is_touched() -> None:
    truth = torch.cat((crowd(6), torch.tensor([[60.0, 12.0, 1000.0], [90.0, 10.0, 1500.0]])))
    frame = torch.tensor([0] * 8 + [1] * 2)
    truth = torch.cat((truth, PLACES[:2]))
    photons = noisy(scene(psf_of("gaussian"), truth, frame, (30, 100)))
    search = joint(photons)
    old, new = torch.tensor([0, 1, 2, 3, 4, 6, 7, 8, 9]), torch.tensor([5])
    first = search.fit(begin(truth[old], frame=frame[old]), tolerance=1e-8)
    rows = JointFits.concat((first, begin(truth[new], frame=frame[new])))
    fresh = torch.tensor([False] * 9 + [True])
    partly = search.fit(rows, fresh=fresh, tolerance=1e-8)
    order = torch.cat((old, new)).argsort()
    fully = search.fit(begin(truth, frame=frame), tolerance=1e-8)
    sigma = fully.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((partly.at[order] - fully.at).abs() < 0.05 * sigma).all()
    assert torch.equal(partly.at[5:9], first.at[5:9])  # far away, and the other frame
    assert not torch.equal(partly.at[:5], first.at[:5])


def test_nothing_fresh_changes_nothing() -> None:
    search = joint(noisy(scene(psf_of("gaussian"), PLACES)))
    fits = search.fit(begin(PLACES))
    again = search.fit(fits, fresh=torch.zeros(4, dtype=torch.bool))
    for name, values in vars(fits).items():
        assert torch.equal(getattr(again, name), values), name


# ---------------------------------------------------------------------------------------------------------- what goes wrong


def test_absent_pixels_tell_nothing() -> None:
    light = noisy(scene(psf_of("gaussian"), PLACES))
    cut = light.clone()
    cut[..., 12:] = torch.nan
    start = PLACES[:3]
    narrow = joint(light[..., :12]).fit(begin(start), tolerance=1e-10)
    masked = joint(cut).fit(begin(start), tolerance=1e-10)
    sigma = narrow.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((masked.at - narrow.at).abs() < 1e-3 * sigma).all()
    torch.testing.assert_close(masked.log_likelihood, narrow.log_likelihood, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(masked.p_value, narrow.p_value, rtol=0, atol=1e-4)


def test_emitters_at_the_border_are_found() -> None:
    truth = torch.tensor([[0.2, 0.4, 1500.0], [39.3, 15.0, 1500.0], [20.0, 29.45, 1500.0], [20.0, -0.8, 3000.0]])
    fits = joint(scene(psf_of("gaussian"), truth)).fit(begin(shifted(truth)), tolerance=1e-8)
    assert fits.converged.all()
    torch.testing.assert_close(fits.at[:, :2].float(), truth[:, :2], rtol=0, atol=1e-3)
    torch.testing.assert_close(fits.at[:, 2].float(), truth[:, 2], rtol=2e-3, atol=0)


def test_what_cannot_be_fitted_is_marked_and_is_no_nan() -> None:
    photons = scene(psf_of("gaussian"), PLACES)
    photons[..., 24:, :10] = torch.nan
    start = torch.cat((PLACES, torch.tensor([[-60.0, 10.0, 500.0], [200.0, 200.0, 500.0], [4.0, 28.9, 300.0]])))
    search = joint(photons, window_px=9)
    fits = search.fit(begin(start))
    assert torch.isfinite(fits.at).all()
    assert torch.isfinite(fits.background).all()
    assert fits.converged.tolist() == [True, True, True, True, False, False, False]
    brief = search.fit(begin(shifted(PLACES)), sweeps=1, max_iterations=1)
    assert not brief.converged.any()
    assert torch.isfinite(brief.at).all()


def test_two_that_cannot_be_told_apart_are_not_believed() -> None:
    truth = torch.tensor([[15.3, 12.8, 1500.0]])
    fits = joint(scene(psf_of("gaussian"), truth)).fit(begin(truth.repeat(2, 1)))
    assert torch.isfinite(fits.at).all()
    sigma = fits.covariance[:, 0, 0].sqrt()
    assert (~fits.converged | (sigma > 1.0)).all()
    assert fits.at[:, -1].sum().item() == pytest.approx(1500, rel=0.05)


def test_starts_far_from_light_end_dark_or_unconverged() -> None:
    photons = noisy(scene(psf_of("gaussian"), PLACES))
    lost = torch.tensor([[5.0, 24.0, 700.0], [33.0, 5.0, 5.0], [20.0, 25.0, 2000.0]])
    fits = joint(photons).fit(begin(lost))
    move = (fits.at - lost)[:, :2].abs()
    assert (move <= 2.0 + 1e-9).all()
    sigma = fits.covariance.diagonal(dim1=1, dim2=2)[:, -1].sqrt()
    dark = (fits.at[:, -1] <= LEAST_PHOTONS) | (fits.at[:, -1] < 5 * sigma)
    assert (dark | ~fits.converged).all()
    assert (fits.at[:, -1] < 150).all()
    assert ((fits.background - 6.0).abs() < 1.0).all()


def test_depths_stay_in_their_range() -> None:
    truth = in_depth(PLACES[:1], torch.tensor([520.0]))
    search = joint(scene(psf_of("astigmatic"), truth), "astigmatic", z_range_nm=(-300.0, 300.0))
    fits = search.fit(begin(in_depth(PLACES[:1], torch.tensor([200.0]))))
    assert not fits.converged.any()
    assert fits.at[0, 2].item() == pytest.approx(300.0)


def test_the_likelihood_has_no_step_where_patches_move() -> None:
    """Patches end within the window here, so that a whole row would appear at once."""
    psf = GaussianSettings(width_nm=300, roi_px=9).build(PIXEL_NM).requires_grad_(False)
    photons = torch.full((1, 1, *SHAPE), 7.0)
    search = Joint(psf, photons, Noise(), window_px=21)
    for axis in (0, 1):
        ends = []
        for side in (-1e-4, 1e-4):
            at = torch.tensor([[15.0, 12.0, 3000.0]])
            at[0, axis] += 0.5 + side
            whole, values, slopes = search.with_slopes(at.double())
            light = search.light(torch.zeros(1, dtype=torch.long), at.double())
            torch.testing.assert_close(search.fractions(at.double())[1], values)
            ends.append((whole, light, slopes))
        assert (ends[0][0] - ends[1][0]).abs().sum() == 1
        torch.testing.assert_close(
            ends[0][1], ends[1][1], rtol=0, atol=0.1
        )  # a row of the patch holds some 20 to 40 photons a pixel
        assert ends[0][1].max() > 40


def test_slopes_of_fading_patches_are_those_of_the_patches() -> None:
    psf = GaussianSettings(width_nm=300, roi_px=9).build(PIXEL_NM).requires_grad_(False)
    search = Joint(psf, torch.ones(1, 1, *SHAPE).double(), Noise(), window_px=21)
    at = torch.tensor([[15.3, 11.8, 1.0], [15.0, 12.1, 1.0]]).double()
    _, _, slopes = search.with_slopes(at)
    for axis in (0, 1):
        step = torch.zeros(3).double()
        step[axis] = 1e-4
        ahead, behind = search.fractions(at + step)[1], search.fractions(at - step)[1]
        torch.testing.assert_close(slopes[:, axis], (ahead - behind) / 2e-4, rtol=1e-4, atol=1e-7)
