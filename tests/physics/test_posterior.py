"""The distribution over sets of emitters: against brute force, against a loop, and the truth scores best."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from denseloc.data import Emitters
from denseloc.localize.posterior import PixelPosterior

PIXEL_NM = (110.0, 100.0)
Z_UNIT, PHOTON_UNIT = 500.0, 1000.0


def random_posterior(n: int = 3, h: int = 14, w: int = 11, z_unit: float = Z_UNIT, seed: int = 0) -> PixelPosterior:
    g = torch.Generator().manual_seed(seed)
    return PixelPosterior(
        logit=torch.randn(n, h, w, generator=g, dtype=torch.float64) - 2,
        mean=0.3 * torch.randn(n, 4, h, w, generator=g, dtype=torch.float64),
        sigma=0.15 + 0.2 * torch.rand(n, 4, h, w, generator=g, dtype=torch.float64),
        background=torch.ones(n, h, w, dtype=torch.float64),
        pixel_size_nm=PIXEL_NM,
        z_unit_nm=z_unit,
        photon_unit=PHOTON_UNIT,
    )


def random_emitters(k: int = 12, n: int = 3, h: int = 14, w: int = 11) -> Emitters:
    g = torch.Generator().manual_seed(9)
    u = torch.rand(4, k, generator=g, dtype=torch.float64)
    frame = torch.randint(0, n - 1, (k,), generator=g)  # the last frame stays empty
    return Emitters.of(frame, u[0] * w * 100, u[1] * h * 110, 300 + 2000 * u[3], (u[2] - 0.5) * 600)


def normal(value: float, mean: float, sigma: float) -> float:
    return -0.5 * ((value - mean) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)


def coordinates(e: Emitters, i: int) -> tuple[float, float, float, float]:
    x, y = e.x_nm[i].item() / 100 - 0.5, e.y_nm[i].item() / 110 - 0.5
    return x, y, e.z_nm[i].item() / Z_UNIT, math.log(e.photons[i].item() / PHOTON_UNIT)


def density(p: PixelPosterior, f: int, r: int, c: int, value: tuple[float, ...]) -> float:
    relative = (value[0] - c, value[1] - r, value[2], value[3])
    used = (0, 1, 2, 3) if p.z_unit_nm else (0, 1, 3)
    return sum(normal(relative[j], p.mean[f, j, r, c].item(), p.sigma[f, j, r, c].item()) for j in used)


@pytest.mark.parametrize("z_unit", [Z_UNIT, 0.0])
def test_the_mixture_is_the_sum_over_the_whole_frame(z_unit: float) -> None:
    p, e = random_posterior(z_unit=z_unit), random_emitters()
    n, h, w = p.logit.shape
    for f in range(n):
        chance = [[torch.sigmoid(p.logit[f, r, c]).item() for c in range(w)] for r in range(h)]
        total = sum(map(sum, chance))
        variance = sum(q * (1 - q) for row in chance for q in row) + 1e-3
        mine = [i for i in range(len(e)) if e.frame[i] == f]
        expected = normal(len(mine), total, math.sqrt(variance))
        for i in mine:
            value = coordinates(e, i)
            terms = (chance[r][c] / total * math.exp(density(p, f, r, c, value)) for r in range(h) for c in range(w))
            expected += math.log(sum(terms))
        assert p.log_prob(e)[f].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("z_unit", [Z_UNIT, 0.0])
def test_the_per_pixel_form_is_a_loop_over_the_pixels(z_unit: float) -> None:
    p, e = random_posterior(z_unit=z_unit), random_emitters()
    e = Emitters.concat([e, dataclasses.replace(e.shifted(1.0, 1.0), photons=e.photons * 1.5)])  # most pixels hold a pair
    n, h, w = p.logit.shape
    for f in range(n):
        expected, pairs = 0.0, 0
        for r in range(h):
            for c in range(w):
                q = torch.sigmoid(p.logit[f, r, c]).item()
                inside = [
                    i
                    for i in range(len(e))
                    if e.frame[i] == f and round(coordinates(e, i)[0]) == c and round(coordinates(e, i)[1]) == r
                ]
                pairs += len(inside) > 1
                if inside:
                    brightest = max(inside, key=lambda i: e.photons[i])
                    expected += math.log(q) + density(p, f, r, c, coordinates(e, brightest))
                else:
                    expected += math.log(1 - q)
        assert pairs > 2 or f == n - 1
        assert p.log_prob_per_pixel(e)[f].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("form", ["log_prob", "log_prob_per_pixel"])
def test_no_emitters_have_a_probability_too(form: str) -> None:
    p = random_posterior()
    none = random_emitters().select(torch.zeros(12, dtype=torch.bool))
    value = getattr(p, form)(none)
    assert value.shape == (3,)
    assert value.isfinite().all()


# --------------------------------------------------------------------------------------------------------- the truth scores best


def truth() -> Emitters:
    return Emitters.of(
        torch.tensor([0, 0, 1]),
        torch.tensor([330.0, 815.0, 540.0], dtype=torch.float64),
        torch.tensor([470.0, 880.0, 1200.0], dtype=torch.float64),
        torch.tensor([900.0, 2500.0, 1200.0], dtype=torch.float64),
        torch.tensor([100.0, -300.0, 20.0], dtype=torch.float64),
    )


def perfect(e: Emitters, n: int = 2, h: int = 14, w: int = 11) -> PixelPosterior:
    logit = torch.full((n, h, w), -9.0, dtype=torch.float64)
    mean = torch.zeros(n, 4, h, w, dtype=torch.float64)
    for i in range(len(e)):
        x, y, z, brightness = coordinates(e, i)
        r, c = round(y), round(x)
        logit[e.frame[i], r, c] = 6.0
        mean[e.frame[i], :, r, c] = torch.tensor([x - c, y - r, z, brightness], dtype=torch.float64)
    sigma = torch.full_like(mean, 0.1)
    return PixelPosterior(logit, mean, sigma, torch.ones(n, h, w), PIXEL_NM, Z_UNIT, PHOTON_UNIT)


@pytest.mark.parametrize("form", ["log_prob", "log_prob_per_pixel"])
def test_a_perfect_posterior_beats_all_others(form: str) -> None:
    e = truth()
    best = getattr(perfect(e), form)(e)
    for other in (
        perfect(e.shifted(dx_nm=15.0)),
        perfect(e.shifted(dy_nm=-15.0)),
        perfect(e.shifted(dz_nm=80.0)),
        perfect(dataclasses.replace(e, photons=e.photons * 1.2)),
        perfect(e.shifted(dx_nm=100.0)),
        perfect(e.select(torch.tensor([0, 2]))),
        perfect(Emitters.concat([e, e.shifted(dx_nm=-250.0, dy_nm=-300.0)])),
    ):
        assert (getattr(other, form)(e) <= best + 1e-9).all()
        assert getattr(other, form)(e).sum() < best.sum() - 0.5


@pytest.mark.parametrize("form", ["log_prob", "log_prob_per_pixel"])
def test_the_slope_leads_to_the_truth(form: str) -> None:
    e = truth()
    shifted = perfect(e.shifted(dx_nm=20.0))
    mean, logit = shifted.mean.clone().requires_grad_(), shifted.logit.clone().requires_grad_()
    p = dataclasses.replace(shifted, mean=mean, logit=logit)
    (-getattr(p, form)(e).sum()).backward()
    for i in range(len(e)):
        x, y, _, _ = coordinates(e, i)
        at = (e.frame[i], slice(None), round(y), round(x))
        assert mean.grad[at][0].item() == pytest.approx(0.2 / 0.1**2, rel=1e-3)  # the mean lies 0.2 px too far to the right
        assert mean.grad[at][1:].abs().max().item() < 1e-3
        assert logit.grad[e.frame[i], round(y), round(x)] < 0  # more certainty is better
    assert logit.grad[0, 0, 0] > 0  # less light where nothing is


def test_the_best_sigma_is_the_error() -> None:
    e = truth()
    shifted = perfect(e.shifted(dx_nm=20.0))
    x, y, _, _ = coordinates(e, 2)
    at = (1, 0, round(y), round(x))

    def score(width: float) -> float:
        sigma = shifted.sigma.clone()
        sigma[at] = width
        return dataclasses.replace(shifted, sigma=sigma).log_prob(e)[1].item()

    assert score(0.2) > max(score(0.15), score(0.26))


def test_draws_have_the_stated_moments(generator: torch.Generator) -> None:
    p = random_posterior(1, 6, 5)
    draws = p.sample(4000, generator)
    number = torch.tensor([float(len(d)) for d in draws])
    assert number.mean().item() == pytest.approx(p.probability.sum().item(), rel=0.03)
    assert number.var().item() == pytest.approx((p.probability * (1 - p.probability)).sum().item(), rel=0.1)
    only = dataclasses.replace(p, logit=torch.full_like(p.logit, -30.0))
    only.logit[0, 3, 2] = 30.0
    draws = only.sample(4000, generator)
    x, z, photons = (torch.cat([getattr(d, name) for d in draws]) for name in ("x_nm", "z_nm", "photons"))
    assert len(x) == 4000
    assert x.mean().item() == pytest.approx((2.5 + p.mean[0, 0, 3, 2].item()) * 100, abs=2.5)
    assert x.std().item() == pytest.approx(p.sigma[0, 0, 3, 2].item() * 100, rel=0.06)
    assert z.mean().item() == pytest.approx(p.mean[0, 2, 3, 2].item() * Z_UNIT, abs=10)
    assert photons.log().mean().item() == pytest.approx(math.log(PHOTON_UNIT) + p.mean[0, 3, 3, 2].item(), abs=0.03)
