import math
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from denseloc.camera import EMCCDSettings
from denseloc.description import parse
from denseloc.errors import DocumentError

CHALLENGE = {
    "offset_counts": 100.0,
    "electrons_per_count": 45.0,
    "em_gain": 300.0,
    "quantum_efficiency": 0.9,
    "read_noise_electrons": 74.4,
}


def reference(photons: float, n: int, seed: int = 5, **change: float) -> np.ndarray:
    """Draw counts by the plain chain of exact numpy draws."""
    s = {**CHALLENGE, **change}
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(s["quantum_efficiency"] * photons + 0.002, n)
    multiplied = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1e-6), s["em_gain"]), 0.0)
    volts = (multiplied + rng.normal(0, s["read_noise_electrons"], n)) / s["electrons_per_count"]
    return np.clip(np.floor(volts + s["offset_counts"]), 0, 65535)


@pytest.mark.parametrize("photons", [0.0, 1.5, 12.0, 100.0, 5000.0])
def test_sample_follows_the_plain_chain(photons: float, generator: torch.Generator) -> None:
    n = 200_000
    found = EMCCDSettings(**CHALLENGE).build().sample(torch.full((n,), photons), generator).numpy()
    expected = reference(photons, n)
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, 60)))
    distance = np.abs(np.searchsorted(np.sort(found), edges) - np.searchsorted(np.sort(expected), edges)).max() / n
    assert distance < 0.005
    assert found.dtype == np.float32
    assert (found == np.round(found)).all()


def test_counts_stay_in_16_bits(generator: torch.Generator) -> None:
    camera = EMCCDSettings(**{**CHALLENGE, "offset_counts": 0.0}).build()
    counts = camera.sample(torch.tensor([0.0, 1e6]).repeat(500), generator)
    assert counts.min() == 0
    assert counts.max() == 65535


@pytest.mark.parametrize("photons", [0.0, 0.3, 3.0, 30.0, 800.0])
@pytest.mark.parametrize("change", [{}, {"read_noise_electrons": 0.0}, {"em_gain": 30.0, "electrons_per_count": 12.0}])
def test_log_prob_sums_to_one(photons: float, change: dict[str, float]) -> None:
    camera = EMCCDSettings(**{**CHALLENGE, "offset_counts": 200.0, **change}).build()
    counts = torch.arange(0.0, 20_000.0, dtype=torch.float64)
    total = camera.log_prob(counts, torch.tensor(photons, dtype=torch.float64)).exp().sum().item()
    assert total == pytest.approx(1.0, abs=3e-3)


@pytest.mark.parametrize("photons", [0.0, 0.3, 2.0, 15.0, 100.0])
def test_log_prob_meets_the_histogram_of_samples(photons: float) -> None:
    n = 1_000_000
    counts = reference(photons, n)
    most = int(counts.max())
    frequency = np.bincount(counts.astype(int), minlength=most + 1) / n
    k = torch.arange(most + 1.0)
    probability = EMCCDSettings(**CHALLENGE).build().log_prob(k, torch.tensor(photons)).exp().numpy()
    often = probability * n > 200
    off = (frequency - probability)[often] / np.sqrt(probability[often] / n)
    assert (off**2).mean() < 1 + 4 * (2 / often.sum()) ** 0.5


def test_log_prob_has_the_gradient_of_its_values() -> None:
    camera = EMCCDSettings(**CHALLENGE).build()
    photons = torch.tensor([0.05, 0.5, 4.0, 90.0, 2000.0], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([101.0, 100.0, 108.0, 700.0, 12_300.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: camera.log_prob(counts, p), (photons,), eps=1e-5, atol=1e-5)


def test_log_prob_is_finite_for_any_count() -> None:
    camera = EMCCDSettings(**CHALLENGE).build()
    photons = torch.tensor([0.0, 1e-3, 1.0, 100.0, 1e5], requires_grad=True)
    for count in (0.0, 90.0, 100.0, 101.0, 5000.0, 65535.0):
        value = camera.log_prob(torch.full((5,), count), photons)
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), photons)
        assert gradient.isfinite().all()


def test_without_multiplication_there_is_no_excess_noise(generator: torch.Generator) -> None:
    camera = EMCCDSettings(**{**CHALLENGE, "em_gain": 1.0, "electrons_per_count": 0.5, "read_noise_electrons": 2.0}).build()
    assert camera.excess == pytest.approx(1 / 0.9)
    variance = camera.to_photons(camera.sample(torch.full((100_000,), 80.0), generator)).var().item()
    assert variance == pytest.approx(80 / 0.9 + camera.noise_variance(()).item(), rel=0.03)
    k = torch.arange(0.0, 1000.0)
    assert camera.log_prob(k, torch.tensor(80.0)).exp().sum().item() == pytest.approx(1.0, abs=2e-3)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_speed_of_a_batch(generator: torch.Generator, one_thread: None) -> None:
    camera = EMCCDSettings(**CHALLENGE).build()
    photons = torch.full((200_000,), 100.0)
    seconds = []
    for _ in range(8):
        start = time.process_time()
        camera.sample(photons, generator)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.016  # processor time; 3 ms measured


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"electrons_per_count": -2.0}, "'electrons_per_count': must be above 0; it is electrons per count"),
        ({"em_gain": 0.0}, "'em_gain': must be at least 1"),
        ({"quantum_efficiency": 1.2}, "'quantum_efficiency': must be above 0 and at most 1"),
        ({"read_noise_electrons": -1.0}, "'read_noise_electrons': must not be negative"),
        ({"em_gian": 3.0}, "unknown key 'em_gian' (did you mean 'em_gain'?)"),
        ({"offset_counts": math.nan}, "'offset_counts'"),
    ],
)
def test_impossible_settings_are_named_in_one_line(change: dict[str, float], words: str) -> None:
    with pytest.raises(DocumentError) as error:
        parse(EMCCDSettings, {**CHALLENGE, **change}, "camera.toml")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_differs_between_laboratories_has_no_default() -> None:
    with pytest.raises(DocumentError, match="'offset_counts' is missing"):
        parse(EMCCDSettings, {"electrons_per_count": 1.0, "em_gain": 1.0}, "camera.toml")
