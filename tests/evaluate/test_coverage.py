"""Coverage: honest errors give what a normal law says, dishonest ones what their factor says; probabilities against what is real."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from denseloc.data import Localizations
from denseloc.evaluate import coverage, in_words, match, read_pulls
from denseloc.evaluate.coverage import LEVELS, NOMINAL, nearest_neighbour_nm, reliability

N = 20000


def experiment(factor: float = 1.0, lean_nm: float = 0.0, n: int = N, seed: int = 0) -> tuple[Localizations, Localizations]:
    """Place emitters far from each other, ten a frame, and localize them with a sigma that is wrong by 1 / factor."""
    rng = np.random.default_rng(seed)
    frame, x = np.arange(n) // 10, 1000.0 * (np.arange(n) % 10) + 500
    sigma = rng.uniform(5, 30, n)
    truth = {"frame": frame, "x_nm": x, "y_nm": np.full(n, 500.0), "z_nm": np.zeros(n), "photons": rng.uniform(500, 5000, n)}
    found = {
        name: truth[name] + factor * spread * rng.normal(size=n)
        for name, spread in (("x_nm", sigma), ("y_nm", sigma), ("z_nm", 2 * sigma), ("photons", 3 * sigma))
    }
    found["x_nm"] += lean_nm
    stated = {"sigma_x_nm": sigma, "sigma_y_nm": sigma, "sigma_z_nm": 2 * sigma, "sigma_photons": 3 * sigma}
    return Localizations({"frame": frame, **found, **stated}), Localizations(truth)


def test_honest_errors_are_covered_as_the_normal_law_says():
    table, truth = experiment()
    found = coverage(table, truth, match(table, truth, dimensions=3))
    assert found.n_pairs == N
    for one in found.pulls.values():
        assert one.n == N
        assert one.robust_sd == pytest.approx(1, abs=0.03)
        assert one.median == pytest.approx(0, abs=0.03)
        np.testing.assert_allclose(one.inside, NOMINAL, atol=0.015)
    assert found.reliability == ()
    assert math.isnan(found.probability_error)


def test_sigmas_that_are_too_small_by_a_factor_are_seen():
    table, truth = experiment(factor=1.5)
    found = coverage(table, truth, match(table, truth, dimensions=3))
    for one in found.pulls.values():
        assert one.robust_sd == pytest.approx(1.5, abs=0.05)
        assert one.within(1.0) == pytest.approx(math.erf(1 / 1.5 / math.sqrt(2)), abs=0.015)


def test_errors_that_lean_are_seen_in_the_median():
    table, truth = experiment(lean_nm=15)
    found = coverage(table, truth, match(table, truth, dimensions=3))
    assert found.pulls["x_nm"].median > 0.7
    assert abs(found.pulls["y_nm"].median) < 0.05


def test_groups_part_all_pairs():
    table, truth = experiment(n=2000)
    table = table.with_columns(sigma_x_nm=np.where(truth.photons < 1600, 2 * table.sigma_x_nm, table.sigma_x_nm))
    found = coverage(table, truth, match(table, truth, dimensions=2))
    assert sum(group.pulls["x_nm"].n for group in found.by_photons) == 2000
    assert found.by_photons[0].pulls["x_nm"].robust_sd < 0.65 < found.by_photons[-1].pulls["x_nm"].robust_sd
    (alone,) = found.by_neighbour
    assert (alone.low, alone.high) == (600.0, 1200.0)


def test_rows_without_a_usable_sigma_do_not_count():
    table, truth = experiment(n=100)
    sigma = table.sigma_x_nm.copy()
    sigma[:4] = (0, np.nan, np.inf, -1)
    found = coverage(table.with_columns(sigma_x_nm=sigma), truth, match(table, truth, dimensions=3))
    assert found.pulls["x_nm"].n == 97  # an infinite sigma covers everything
    assert found.pulls["y_nm"].n == 100


def test_neighbours_are_those_of_the_frame():
    truth = Localizations({"frame": [0, 0, 1, 2, 2], "x_nm": [0.0, 30, 0, 100, 100], "y_nm": [0.0, 40, 0, 0, 0]})
    np.testing.assert_allclose(nearest_neighbour_nm(truth), [50, 50, math.inf, 1, 1])
    assert len(nearest_neighbour_nm(truth.select(np.zeros(5, bool)))) == 0


def test_reliability_counts_what_is_real():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.2, 1, 50000)
    honest = reliability(p, rng.random(50000) < p)
    assert sum(step.n for step in honest) == 50000
    assert max(abs(step.stated - step.actual) for step in honest) < 0.03
    too_sure = reliability(p, rng.random(50000) < 0.8 * p)
    assert min(step.stated - step.actual for step in too_sure) > 0.02


def test_an_empty_table_gives_numbers_that_are_not_there():
    table, truth = experiment(n=10)
    nothing = table.select(np.zeros(10, bool))
    found = coverage(nothing, truth, match(nothing, truth, dimensions=3))
    assert found.n_pairs == 0
    told = found.to_json()
    assert told["pulls"]["x_nm"]["robust_sd"] is None
    json.dumps(told, allow_nan=False)
    assert read_pulls(told["pulls"]) == {}
    assert in_words(found.pulls) == "not measured"


def test_json_comes_back():
    table, truth = experiment(n=1000)
    found = coverage(table, truth, match(table, truth, dimensions=3))
    again = read_pulls(json.loads(json.dumps(found.to_json(), allow_nan=False))["pulls"])
    assert list(again) == list(found.pulls)
    assert again["z_nm"].within(2.0) == pytest.approx(found.pulls["z_nm"].within(2.0), abs=1e-3)
    assert "68 and 95 % if right" in in_words(again)


@pytest.mark.parametrize(
    "junk",
    [
        None,
        7,
        "x_nm",
        {"x_nm": 3},
        {"x_nm": {"inside": [0.5] * len(LEVELS)}},
        {"x_nm": {"n": 5, "median": "0", "robust_sd": 1, "inside": [0.5] * len(LEVELS)}},
        {"x_nm": {"n": 5, "median": 0, "robust_sd": 1, "inside": [0.5]}},
        {"x_nm": {"n": 5, "median": 0, "robust_sd": 1, "inside": [7.0] * len(LEVELS)}},
    ],
)
def test_what_is_no_coverage_gives_nothing(junk):
    assert read_pulls(junk) == {}
