"""The law of whole sets of emitters: against brute force over all sets of a tiny grid, and draws that follow it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from denseloc.localize.draws import EDGE_PX, Draws, SetLaw, divergence, groups, single_pixels
from denseloc.localize.posterior import PixelPosterior

H, W = 2, 3


def posterior(n: int = 2, h: int = H, w: int = W, z_unit: float = 500.0, seed: int = 0) -> PixelPosterior:
    g = torch.Generator().manual_seed(seed)
    return PixelPosterior(
        logit=torch.randn(n, h, w, generator=g, dtype=torch.float64) - 0.5,
        mean=0.3 * torch.randn(n, 4, h, w, generator=g, dtype=torch.float64),
        sigma=0.15 + 0.2 * torch.rand(n, 4, h, w, generator=g, dtype=torch.float64),
        background=torch.ones(n, h, w, dtype=torch.float64),
        pixel_size_nm=(110.0, 100.0),
        z_unit_nm=z_unit,
        photon_unit=1000.0,
    )


def grouped(n: int = 2) -> Tensor:
    """Pixels 0, 1 and 3 of each frame speak of one emitter, the others of one each."""
    head = torch.arange(n * H * W).reshape(n, H * W)
    head[:, [1, 3]] = head[:, [0]]
    return head.flatten()


def normal(value: float, mean: float, sigma: float) -> float:
    return -0.5 * ((value - mean) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)


def by_hand(law: SetLaw, draws: Draws, copy: int, frame: int) -> float:
    """Log-probability of one set, group by group and pixel by pixel."""
    p = law.posterior
    size = H * W
    total = 0.0
    for head in range(frame * size, (frame + 1) * size):
        pixels = [i for i in range(frame * size, (frame + 1) * size) if law.head[i] == head]
        if not pixels:
            continue
        chance = min(sum(float(p.probability.flatten()[i]) for i in pixels), 0.9997)
        mine = [i for i in range(len(draws)) if draws.row[i] == copy * draws.n + frame and draws.head[i] == head]
        assert len(mine) <= 1
        if not mine:
            total += math.log(1 - chance)
            continue
        mixture, mass = 0.0, sum(float(p.probability.flatten()[i]) for i in pixels)
        for i in pixels:
            row, column = divmod(i - frame * size, W)
            value = draws.value[mine[0]] - torch.tensor([column, row, 0, 0])
            used = (0, 1, 2, 3) if p.z_unit_nm else (0, 1, 3)
            density = sum(
                normal(float(value[j]), float(p.mean[frame, j, row, column]), float(p.sigma[frame, j, row, column])) for j in used
            )
            mixture += float(p.probability.flatten()[i]) / mass * math.exp(density)
        total += math.log(chance) + math.log(mixture)
    return total


@pytest.mark.parametrize("z_unit", [500.0, 0.0])
@pytest.mark.parametrize("form", ["single", "grouped"])
def test_the_probability_of_what_was_drawn_is_that_of_the_loop(form: str, z_unit: float, generator: torch.Generator) -> None:
    p = posterior(z_unit=z_unit)
    law = SetLaw(p, single_pixels(p) if form == "single" else grouped())
    draws = law.draw(5, generator)
    found = law.log_prob(draws)
    assert found.shape == (5, 2, 1)
    for copy, frame in itertools.product(range(5), range(2)):
        assert float(found[copy, frame, 0]) == pytest.approx(by_hand(law, draws, copy, frame), abs=1e-9)


def test_single_pixels_are_the_paper_s_form(generator: torch.Generator) -> None:
    p = posterior()
    p = PixelPosterior(
        p.logit, p.mean.clamp(-0.05, 0.05), p.sigma * 0.05, p.background, p.pixel_size_nm, p.z_unit_nm, p.photon_unit
    )
    law = SetLaw(p, single_pixels(p))
    draws = law.draw(1, generator)  # none leaves its pixel, so that the emitters alone say what was drawn
    torch.testing.assert_close(law.log_prob(draws)[0, :, 0], p.log_prob_per_pixel(law.emitters(draws)))


@pytest.mark.parametrize("form", ["single", "grouped"])
def test_all_sets_together_are_certain(form: str) -> None:
    """Sums the detection part over all subsets of groups; the places integrate to one on their own."""
    p = posterior(n=1)
    law = SetLaw(p, single_pixels(p) if form == "single" else grouped(1))
    heads = torch.nonzero(law.size > 0)[:, 0].tolist()
    total = 0.0
    for k in range(len(heads) + 1):
        for subset in itertools.combinations(heads, k):
            chosen = torch.tensor(subset, dtype=torch.long)
            draws = Draws(1, 1, torch.zeros_like(chosen), chosen, torch.zeros(len(chosen), 4, dtype=torch.float64))
            hit, pixel = law._members(chosen)
            mean, sigma = law._normal(pixel)
            mass = torch.zeros(len(chosen), dtype=torch.float64).index_add(
                0, hit, p.probability.flatten()[pixel] * torch.exp(p._log_normal(draws.value[hit], mean, sigma))
            )
            place = (mass / law.sum[chosen]).log().sum()
            total += math.exp(float(law.log_prob(draws)[0, 0, 0]) - float(place))
    assert total == pytest.approx(1.0, abs=1e-9)


def test_draws_follow_their_law(generator: torch.Generator) -> None:
    p = posterior(n=1)
    law = SetLaw(p, grouped(1))
    k = 20000
    draws = law.draw(k, generator)
    often = torch.bincount(draws.head, minlength=H * W) / k
    expected = torch.where(law.free, law.total, 0.0)
    assert (often - expected).abs().max() < 4 * 0.5 / math.sqrt(k)
    mine = draws.value[draws.head == 0]
    pixels = [0, 1, 3]
    weight = p.probability.flatten()[pixels] / p.probability.flatten()[pixels].sum()
    at = p.mean[0].permute(1, 2, 0).reshape(-1, 4)[pixels] + torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    torch.testing.assert_close(mine.mean(0), (weight[:, None] * at).sum(0), atol=0.02, rtol=0)


def test_importance_weights_give_the_evidence(generator: torch.Generator) -> None:
    """The mean of prior over law, over draws of the law, is the prior's total: one."""
    p = posterior(n=1)
    p = PixelPosterior(p.logit + 1, p.mean, p.sigma * 2.5, p.background, p.pixel_size_nm, p.z_unit_nm, p.photon_unit)
    law = SetLaw(p, grouped(1))
    draws = law.draw(60000, generator)
    _, _, z, brightness = draws.value.unbind(-1)
    marks = -0.5 * (z**2 + brightness**2) / 0.25 - math.log(2 * math.pi * 0.25)
    prior = law.log_prior(draws, torch.tensor(0.2, dtype=torch.float64), marks)
    weight = (prior - law.log_prob(draws)).exp()[:, 0, 0]
    assert float(weight.mean()) == pytest.approx(1.0, abs=4 * float(weight.std()) / math.sqrt(len(weight)) + 0.01)


def test_the_prior_is_even_over_the_pixels() -> None:
    at = torch.linspace(-0.5, 0.5, 11)
    pixels = torch.arange(-6, 7)[:, None]
    edges = torch.sigmoid((at - pixels + 0.5) / EDGE_PX) - torch.sigmoid((at - pixels - 0.5) / EDGE_PX)
    torch.testing.assert_close(edges.sum(0), torch.ones(11), atol=1e-5, rtol=0)


def test_zones_part_the_sum_and_leave_the_rest_alone(generator: torch.Generator) -> None:
    p = posterior()
    zone = torch.tensor([[0, 0, 1], [0, 1, -1]])
    law, whole = SetLaw(p, grouped(), zone), SetLaw(p, grouped(), torch.where(zone < 0, zone, 0))
    draws = law.draw(4, generator)
    assert not bool((draws.head % (H * W) == 5).any())
    torch.testing.assert_close(law.log_prob(draws).sum(-1), whole.log_prob(draws)[..., 0])
    assert law.zones == 2
    assert set(law.fixed().head.tolist()) == set(torch.nonzero((law.size > 0) & (law.sum > 0.5))[:, 0].tolist())


def test_groups_are_pixels_that_agree() -> None:
    p = posterior(n=1, h=6, w=6)
    logit = torch.full((1, 6, 6), -9.0, dtype=torch.float64)
    mean = torch.zeros(1, 4, 6, 6, dtype=torch.float64)
    logit[0, 2, 2], logit[0, 2, 3], logit[0, 4, 1] = 1.0, 0.5, 2.0
    mean[0, 0, 2, 2], mean[0, 0, 2, 3] = 0.5, -0.5  # the same place from both sides
    p = PixelPosterior(logit, mean, p.sigma, p.background, p.pixel_size_nm, p.z_unit_nm, p.photon_unit)
    head = groups(p)
    assert head[2 * 6 + 3] == head[2 * 6 + 2] == 2 * 6 + 2
    alone = torch.ones(36, dtype=torch.bool)
    alone[2 * 6 + 3] = False
    assert torch.equal(head[alone], torch.arange(36)[alone])


def test_the_divergence_is_zero_to_itself_and_agrees_with_draws(generator: torch.Generator) -> None:
    p, q = posterior(n=1), posterior(n=1, seed=4)
    q = PixelPosterior(q.logit, q.mean, q.sigma + 0.2, q.background, q.pixel_size_nm, q.z_unit_nm, q.photon_unit)
    torch.testing.assert_close(divergence(p, p), torch.zeros(1, dtype=torch.float64))
    here, there = SetLaw(p, single_pixels(p)), SetLaw(q, single_pixels(q))
    draws = here.draw(20000, generator)
    ratio = (here.log_prob(draws) - there.log_prob(draws))[:, 0, 0]
    assert float(divergence(p, q)) == pytest.approx(float(ratio.mean()), abs=4 * float(ratio.std()) / math.sqrt(20000))
