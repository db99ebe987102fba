import numpy as np
import pytest
import torch
from scipy import stats

from denseloc.camera import draws

N = 400_000
LAWS = {
    "poisson": (draws.poisson, lambda m: (m, m, m)),
    "gamma": (draws.gamma, lambda m: (m, m, 2 * m)),
    "multiplied": (draws.multiplied, lambda m: (m, 2 * m, 6 * m)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("mean", [0.4, 8.0, 10.1, 19.9, 20.1, 60.0, 900.0])
def test_first_three_moments(law: str, mean: float, generator: torch.Generator) -> None:
    draw, cumulants = LAWS[law]
    x = draw(torch.full((N,), mean), generator).double().numpy()
    first, second, third = cumulants(mean)
    sd = second**0.5
    assert x.mean() == pytest.approx(first, abs=5 * sd / N**0.5)
    kurtosis = {"poisson": 1, "gamma": 6, "multiplied": 6}[law] / mean
    assert x.var() == pytest.approx(second, rel=5 * ((2 + kurtosis) / N) ** 0.5)
    assert stats.skew(x) == pytest.approx(third / sd**3, rel=0.03, abs=0.02)
    assert x.min() >= 0


@pytest.mark.parametrize("mean", [10.1, 20.1, 45.0, 300.0])
def test_large_means_meet_the_exact_distribution_functions(mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feed evenly spaced normal quantiles, so that the distance to the exact law has no scatter."""
    u = (torch.arange(200_001, dtype=torch.float64) + 0.5) / 200_001
    monkeypatch.setattr(draws, "normal_like", lambda x, generator: torch.special.ndtri(u))
    means = torch.full_like(u, mean)
    any_generator = torch.Generator()
    counts = draws.poisson(means, any_generator).sort().values.numpy()
    k = np.arange(int(3 * mean))
    assert np.abs(np.searchsorted(counts, k, side="right") / len(u) - stats.poisson(mean).cdf(k)).max() < 3e-4
    if mean < draws.LARGE:
        return
    shaped = draws.gamma(means, any_generator).numpy()
    assert np.abs(stats.gamma(mean).cdf(shaped) - u.numpy()).max() < 4e-4
    multiplied = draws.multiplied(means, any_generator).sort().values.numpy()
    assert np.abs(stats.ncx2(1e-9, 2 * mean).cdf(2 * multiplied) - u.numpy()).max() < 4e-4


def test_small_and_large_means_in_one_tensor(generator: torch.Generator) -> None:
    mean = torch.tensor([0.0, 0.5, 19.0, 25.0, 500.0]).repeat(20_000, 1)
    for draw in (draws.poisson, draws.multiplied, draws.gamma):
        x = draw(mean, generator)
        assert (x[:, 0] == 0).all()
        torch.testing.assert_close(x.mean(0), mean[0], rtol=0.03, atol=0.0)


def test_small_means_follow_the_exact_compound_law(generator: torch.Generator) -> None:
    x = draws.multiplied(torch.full((100_000,), 3.0), generator)
    assert (x == 0).double().mean().item() == pytest.approx(np.exp(-3), abs=0.003)
    positive = x[x > 0].double().numpy()
    exact = lambda v: (stats.ncx2(1e-9, 6.0).cdf(2 * v) - np.exp(-3)) / (1 - np.exp(-3))  # noqa: E731
    assert stats.kstest(positive, exact).statistic < 0.006


def test_gamma_is_differentiable_in_its_shape(generator: torch.Generator) -> None:
    shape = torch.full((50_000,), 40.0, requires_grad=True)
    draws.gamma(shape, generator).mean().backward()
    assert shape.grad is not None
    assert shape.grad.sum().item() == pytest.approx(1.0, abs=0.01)


def test_empty_input(generator: torch.Generator) -> None:
    assert draws.poisson(torch.empty(0, 3), generator).shape == (0, 3)
