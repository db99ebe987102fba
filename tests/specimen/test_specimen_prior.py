import dataclasses
import math
import time
from collections.abc import Iterator

import pytest
import torch

from denseloc.data import Emitters
from denseloc.data.grid import Grid
from denseloc.description import parse
from denseloc.errors import DocumentError
from denseloc.specimen import Specimen, SpecimenSettings

GRID = Grid((40, 40), (100.0, 100.0), margin_px=3)
VALUES = {
    "density_per_um2": 1.0,
    "z_nm": (-500.0, 500.0),
    "photons": {"kind": "log_uniform", "low": 300.0, "high": 5000.0},
    "background": {"kind": "uniform", "photons": 50.0},
}


def specimen(**change: object) -> Specimen:
    return parse(SpecimenSettings, {**VALUES, **change}, "example").build(GRID)


def test_density_ranges_differ_between_movies(generator: torch.Generator) -> None:
    emitters = specimen(density_per_um2=(0.1, 4.0)).draw(3, generator, n_movies=500)
    per_movie = torch.bincount(emitters.frame // 3, minlength=500) / 3 / (46 * 46 * 0.01)
    assert per_movie.mean().item() == pytest.approx(3.9 / math.log(40), rel=0.1)
    assert per_movie.min() < 0.2
    assert per_movie.max() > 3


def test_a_molecule_keeps_its_place_and_brightness(generator: torch.Generator) -> None:
    values = specimen(blinking={"kind": "survival", "survival": 0.8}, structure={"kind": "filaments"}).draw(
        20, generator, n_movies=3
    )
    for column in (values.x_nm, values.y_nm, values.z_nm, values.photons, values.frame // 20):
        column = column.double()
        most = torch.full((int(values.molecule.max()) + 1,), -1e9, dtype=torch.float64).scatter_reduce(
            0, values.molecule, column, "amax"
        )
        assert (column == most[values.molecule]).all()
    assert len(torch.unique(values.molecule)) < 0.5 * len(values)


def test_background_is_constant_over_a_movie(generator: torch.Generator) -> None:
    drawn = specimen(background={"kind": "slowly_varying", "photons": (5, 50)}).draw_background(4, generator, n_movies=6)
    assert drawn.shape == (24, 1, 40, 40)
    movies = drawn.view(6, 4, 40, 40)
    assert (movies == movies[:, :1]).all()
    assert (movies[0] != movies[1]).all()


def test_log_prob_is_the_poisson_process_in_closed_form(generator: torch.Generator) -> None:
    s = specimen(photons={"kind": "uniform", "low": 100.0, "high": 1100.0})
    emitters = s.draw(50, generator)
    number = torch.bincount(emitters.frame, minlength=50)
    area = 4.6 * 4.6
    expected = number * (math.log(1.0) - math.log(1000.0) - math.log(1000.0)) - area
    torch.testing.assert_close(s.log_prob(emitters, 50), expected, rtol=1e-4, atol=1e-3)


def test_log_prob_prefers_its_own_draws(generator: torch.Generator) -> None:
    sparse, dense = specimen(density_per_um2=0.3), specimen(density_per_um2=1.5)
    for own, other in ((sparse, dense), (dense, sparse)):
        emitters = own.draw(200, generator)
        assert own.log_prob(emitters, 200).mean() > other.log_prob(emitters, 200).mean()
    either = specimen(density_per_um2=(0.3, 1.5))
    assert either.log_prob(dense.draw(100, generator), 100).isfinite().all()


@pytest.mark.parametrize("blinking", ["exponential", "four_state"])
@pytest.mark.parametrize("kind", ["constant", "log_uniform"])
def test_photons_of_partial_frames_have_their_density(blinking: str, kind: str, generator: torch.Generator) -> None:
    law = {"kind": "constant", "photons": 1000.0} if kind == "constant" else VALUES["photons"]
    s = specimen(blinking={"kind": blinking}, photons=law)
    at = torch.arange(0.5, 6000.0, 1.0)
    n = len(at)
    zeros = torch.zeros(n)
    rows = Emitters.of(torch.arange(n), zeros + 2000.0, zeros + 2000.0, at)
    density = (s.log_prob(rows, n) - (math.log(1.0) - 4.6 * 4.6) + math.log(1000.0)).exp()
    assert density.sum().item() == pytest.approx(1.0, abs=0.03)
    drawn = s.draw(100, generator).photons
    for limit in (200.0, 500.0, 900.0, 2500.0):
        assert density[at < limit].sum().item() == pytest.approx((drawn < limit).float().mean().item(), abs=0.03)


def test_log_prob_is_differentiable_and_refuses_the_outside(generator: torch.Generator) -> None:
    s = specimen(blinking={"kind": "exponential"}, photons={"kind": "gamma", "mean": 1000.0, "sd": 500.0})
    emitters = s.draw(5, generator)
    photons = emitters.photons.clone().requires_grad_()
    s.log_prob(dataclasses.replace(emitters, photons=photons), 5).sum().backward()
    assert photons.grad is not None
    assert photons.grad.isfinite().all()
    assert (photons.grad != 0).any()
    value = s.log_prob(emitters.shifted(dz_nm=900.0), 5)
    assert (value == -math.inf).all()


def test_flat_specimens_leave_z_out(generator: torch.Generator) -> None:
    s = specimen(z_nm=(0.0, 0.0), structure={"kind": "filaments"})
    emitters = s.draw(5, generator)
    assert (emitters.z_nm == 0).all()
    assert s.log_prob(emitters, 5).isfinite().all()


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_speed_of_a_batch(generator: torch.Generator, one_thread: None) -> None:
    s = specimen(structure={"kind": "filaments"}, blinking={"kind": "four_state"})
    seconds = []
    for _ in range(10):
        start = time.process_time()
        s.draw(4, generator, n_movies=32)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.012  # processor time; 3 ms measured


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"density_per_um2": -1}, "'density_per_um2': must be above 0"),
        ({"density_per_um2": [3, 1]}, "'density_per_um2': a range must run from low to high"),
        ({"density_per_um2": "many"}, "'density_per_um2': expected a number or a pair of numbers"),
        ({"z_nm": [5, -5]}, "'z_nm': a range must run from low to high"),
        ({"photons": {"kind": "gama", "mean": 3, "sd": 1}}, "unknown photon law 'gama' (did you mean 'gamma'?)"),
        ({"blinking": {"kind": "survival", "survival": 1.0}}, "must be at least 0 and below 1"),
        ({"structure": {"kind": "rings", "radius": 3}}, "radius' (did you mean 'radius_nm'?)"),
        ({"structure": {"kind": "filaments", "count": [0, 3]}}, "must run from at least 1"),
        ({"background": {"photons": 3}}, "'kind' is missing; one of: uniform, sloped, slowly_varying"),
        ({"denisty": 3}, "unknown key 'denisty' (did you mean 'density_per_um2'?)"),
    ],
)
def test_mistakes_are_named_in_one_line(change: dict[str, object], words: str) -> None:
    with pytest.raises(DocumentError) as error:
        parse(SpecimenSettings, {**VALUES, **change}, "experiment.toml")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
