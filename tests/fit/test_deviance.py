"""What the deviance should be: against draws of the cameras' laws."""

from __future__ import annotations

import pytest
import torch

from denseloc.fit.deviance import deviance, expected_moments, p_value


def draw(light: float, noise: float, is_amplified: bool, n: int = 200_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    photons = torch.poisson(torch.full((n,), (2 if is_amplified else 1) * light, dtype=torch.float64), generator=generator)
    if is_amplified:
        photons = torch.where(photons > 0, torch._standard_gamma(photons.clamp(min=1), generator=generator), 0.0) / 2
    return photons + noise + noise**0.5 * torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("is_amplified", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.45, 0.93, 0.985, 1.0])
@pytest.mark.parametrize("mean", [0.05, 0.7, 3.0, 30.0, 150.0])
def test_moments_are_those_of_draws(mean: float, share: float, is_amplified: bool) -> None:
    counts = draw(share * mean, (1 - share) * mean, is_amplified)
    at = torch.full((1,), mean, dtype=torch.float64)
    first, second = expected_moments(at, (1 - share) * at, is_amplified)
    found = deviance(counts, at)
    assert found.mean().item() == pytest.approx(first.item(), abs=0.006 + 5 * (second.item() / len(counts)) ** 0.5)
    assert found.var().item() == pytest.approx(second.item(), rel=0.05 if mean > 0.1 else 0.08)  # tails are heavy in the dark


def test_high_poisson_counts_are_nearly_chi_squared() -> None:
    mean = torch.tensor([20.0, 90.0, 110.0, 1e4], dtype=torch.float64)
    first, second = expected_moments(mean, torch.zeros_like(mean), False)
    torch.testing.assert_close(first, 1 + 1 / (6 * mean), rtol=1e-3, atol=0)
    torch.testing.assert_close(second, 2 + 2 / (3 * mean), rtol=1e-2, atol=0)


def test_p_value_is_the_tail_of_chi_squared_for_its_moments() -> None:
    found = torch.tensor([5.0, 10.0, 30.0], dtype=torch.float64)
    p = p_value(found, torch.tensor(10.0), torch.tensor(20.0))
    torch.testing.assert_close(p, torch.tensor([0.8912, 0.4405, 0.000857], dtype=torch.float64), rtol=1e-3, atol=1e-5)
