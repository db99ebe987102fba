"""How evenly positions lie in the camera pixels."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.data import Localizations, Provenance
from denseloc.errors import TableError
from denseloc.evaluate import Evenness, subpixel_evenness
from denseloc.evaluate.subpixel import subpixel_offsets


def table(x_px: np.ndarray, y_px: np.ndarray, **more: object) -> Localizations:
    columns = {"frame": np.zeros(len(x_px)), "x_nm": x_px * 100.0, "y_nm": y_px * 130.0}
    return Localizations(columns, Provenance(pixel_size_nm=(130.0, 100.0), **more))  # type: ignore[arg-type]


def test_offsets_count_from_the_centre_of_the_pixel() -> None:
    np.testing.assert_allclose(
        subpixel_offsets(np.array([0.0, 25.0, 50.0, 99.0, 150.0, -25.0]), 100.0), [-0.5, -0.25, 0, 0.49, 0, 0.25]
    )


def test_even_positions_have_a_chi2_of_their_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    found = [subpixel_evenness(table(*(30 * rng.random((2, 5000)))))["x"] for _ in range(200)]
    assert np.mean([one.chi2 for one in found]) == pytest.approx(19, abs=1.5)
    assert np.std([one.chi2 for one in found]) == pytest.approx(np.sqrt(38), rel=0.25)
    assert 0.02 < np.mean([one.p_value < 0.1 for one in found]) < 0.2
    assert np.median([one.modulation for one in found]) < 0.03
    assert found[0].reduced == found[0].chi2 / 19
    assert found[0].counts.sum() == 5000


@pytest.mark.parametrize("n", [4000, 40000])
def test_the_modulation_does_not_depend_on_the_number(n: int) -> None:
    rng = np.random.default_rng(1)
    u = rng.random(20 * n)
    kept = rng.random(20 * n) < (1 + 0.5 * np.cos(2 * np.pi * (u - 0.5))) / 2
    leaning = u[kept][:n]
    found = subpixel_evenness(table(leaning + rng.integers(0, 30, n), 30 * rng.random(n)))
    assert found["x"].modulation == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert found["x"].p_value < 1e-9
    assert found["y"].p_value > 1e-4
    assert found["x"].counts[10] > 2 * found["x"].counts[0]


def test_bins_by_hand() -> None:
    found = Evenness.of(np.array([-0.4, -0.3, 0.3, -0.5]), 2)
    assert found.counts.tolist() == [3, 1]
    assert found.chi2 == 1.0


def test_positions_that_are_no_numbers_do_not_count() -> None:
    found = subpixel_evenness(table(np.array([0.1, np.nan, 3.2]), np.array([0.1, 0.2, np.inf])))
    assert found["x"].counts.sum() == found["y"].counts.sum() == 2
    empty = subpixel_evenness(Localizations.empty(), (100.0, 100.0))
    assert empty["x"].modulation == 0


def test_a_table_without_pixel_size() -> None:
    rows = Localizations({"frame": np.zeros(3), "x_nm": np.zeros(3), "y_nm": np.zeros(3)})
    with pytest.raises(TableError, match="does not say the pixel size"):
        subpixel_evenness(rows)
    assert subpixel_evenness(rows, (100.0, 100.0))["y"].counts[0] == 3
