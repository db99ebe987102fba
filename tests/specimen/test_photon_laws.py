import math

import numpy as np
import pytest
import torch

from denseloc.data.grid import Grid
from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.specimen import PHOTONS, SpecimenSettings, Volume
from denseloc.specimen.photons import FluxSettings, Molecules, NormalSettings, UniformSettings

EXAMPLES = [
    {"kind": "constant", "photons": 900.0},
    {"kind": "normal", "mean": 500.0, "sd": 400.0},
    {"kind": "gamma", "mean": 800.0, "sd": 500.0},
    {"kind": "uniform", "low": 100.0, "high": 2000.0},
    {"kind": "log_uniform", "low": 100.0, "high": 2000.0},
    {"kind": "uniform", "low": 100.0, "high": 2000.0, "spread": 0.3},
    {"kind": "log_uniform", "low": 100.0, "high": 2000.0, "spread": 0.3},
]
VOLUME = Volume(Grid((64, 64), (100.0, 100.0)), (-700.0, 700.0))


def molecules(n: int, n_movies: int, generator: torch.Generator) -> Molecules:
    x, y, _ = VOLUME.uniform(n, generator)
    return Molecules(torch.arange(n) % n_movies, n_movies, x, y, VOLUME)


@pytest.mark.parametrize("values", EXAMPLES, ids=str)
def test_density_is_that_of_the_draws(values: dict[str, float | str], generator: torch.Generator) -> None:
    law = PHOTONS.get(str(values["kind"])).model_validate(values).build()
    drawn = law.draw(molecules(60_000, 60_000, generator), generator).double()
    assert drawn.min() >= 0
    edges = torch.linspace(0.0, 5000.0, 2001, dtype=torch.float64)
    probability = law.log_prob(edges + 1.25).exp() * 2.5
    assert probability.sum().item() == pytest.approx(1.0, abs=0.02)
    below = probability.cumsum(0)[::100].numpy()
    found = np.searchsorted(drawn.sort().values.numpy(), (edges + 2.5)[::100].numpy()) / len(drawn)
    tolerance = 0.02 if values["kind"] != "constant" else 1.0
    assert np.abs(below - found).max() < tolerance


def test_molecules_of_one_movie_scatter_around_its_typical_brightness(generator: torch.Generator) -> None:
    law = UniformSettings(low=500, high=5000, spread=0.2).build()
    drawn = law.draw(molecules(100_000, 50, generator), generator).view(-1, 50)
    torch.testing.assert_close(drawn.std(0) / drawn.mean(0), torch.full((50,), 0.2), rtol=0.1, atol=0.0)
    assert drawn.mean(0).std() > 800


def test_normal_above_zero_has_its_moments(generator: torch.Generator) -> None:
    drawn = NormalSettings(mean=1000, sd=200).build().draw(molecules(50_000, 1, generator), generator)
    assert drawn.mean().item() == pytest.approx(1000, rel=0.01)
    assert drawn.std().item() == pytest.approx(200, rel=0.02)


def test_the_challenge_intensities_come_out(generator: torch.Generator) -> None:
    """Flux, uneven light and the four states together give the published quantiles of the high-density training set."""
    settings = SpecimenSettings(
        density_per_um2=0.31,
        z_nm=(-700, 700),
        photons={"kind": "flux", "photons": 7852.5, "is_uneven": True},
        blinking={"kind": "four_state"},
        background={"kind": "uniform", "photons": 100},
    )
    photons = settings.build(Grid((64, 64), (100.0, 100.0))).draw(400, generator, n_movies=10).photons
    found = torch.quantile(photons, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])) / photons.mean()
    np.testing.assert_allclose(found.numpy(), np.array([381, 1787, 3977, 7119, 10184]) / 4534, rtol=0.12)
    assert photons.mean().item() == pytest.approx(7852.5 * 1.5 / 2.98, rel=0.06)  # 1.5 frames on, in 2.98 rows; even over the field


def test_relative_flux_and_movie_ranges(generator: torch.Generator) -> None:
    law = FluxSettings(photons=(100, 10_000), relative=(0.5, 1.5)).build()
    drawn = law.draw(molecules(20_000, 100, generator), generator).view(-1, 100)
    assert (drawn.amax(0) / drawn.amin(0)).max() < 3.01
    assert drawn.mean(0).log().std().item() == pytest.approx(math.log(100) / math.sqrt(12), rel=0.25)


def test_ranges_in_the_wrong_order_are_named() -> None:
    with pytest.raises(DocumentError, match=r"photons must run from low to high \(found 20 .. 10\)"):
        parse(UniformSettings, {"low": 20, "high": 10}, "x.toml")
