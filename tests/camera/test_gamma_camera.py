import pytest
import torch
from scipy import stats

from denseloc.camera import GammaSettings


def test_density_is_the_gamma_law() -> None:
    camera = GammaSettings(eta=1.7, counts_per_photon=3.0, offset_counts=50.0).build()
    counts = torch.tensor([60.0, 200.0, 500.0])
    expected = stats.gamma(80.0 / 1.7, scale=1.7 * 3, loc=50).logpdf(counts.numpy())
    torch.testing.assert_close(
        camera.log_prob(counts, torch.tensor(80.0)).detach().numpy(), expected.astype("float32"), rtol=1e-4, atol=1e-3
    )


def test_draws_carry_gradients_to_photons_and_eta(generator: torch.Generator) -> None:
    camera = GammaSettings(eta=2.0).build()
    photons = torch.full((40_000,), 50.0, requires_grad=True)
    camera.sample(photons, generator).square().mean().backward()  # E x^2 = p^2 + eta p
    assert photons.grad is not None
    assert camera.log_eta.grad is not None
    assert photons.grad.sum().item() == pytest.approx(2 * 50 + 2, rel=0.03)
    assert camera.log_eta.grad.item() == pytest.approx(2.0 * 50, rel=0.1)


def test_eta_is_learned_from_background(generator: torch.Generator) -> None:
    truth = GammaSettings(eta=2.5).build()
    photons = torch.full((20_000,), 40.0)
    counts = truth.sample(photons, generator).detach()
    camera = GammaSettings(eta=1.0).build()
    optimizer = torch.optim.Adam(camera.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        (-camera.log_prob(counts, photons).mean()).backward()
        optimizer.step()
    assert camera.eta.item() == pytest.approx(2.5, rel=0.05)


def test_counts_below_the_offset_stay_finite() -> None:
    camera = GammaSettings(offset_counts=100.0).build()
    photons = torch.tensor([0.0, 1.0, 500.0], requires_grad=True)
    value = camera.log_prob(torch.tensor([90.0, 100.0, 40.0]), photons)
    value.sum().backward()
    assert value.isfinite().all()
    assert photons.grad is not None
    assert photons.grad.isfinite().all()
