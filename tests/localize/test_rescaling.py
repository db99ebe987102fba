"""Offset rescaling: the pixel grid goes, structure stays, little precision is lost, and the table says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from denseloc.cli import main
from denseloc.data import Localizations, Provenance
from denseloc.errors import TableError
from denseloc.evaluate import subpixel_evenness
from denseloc.formats import read_table, write_table
from denseloc.localize import rescaling
from denseloc.localize.rescaling import LEAST_ROWS, OffsetRescaling, rescale_offsets, rescaled
from denseloc.verbs import convert

SIZE = (130.0, 100.0)


def unsure(true_px: np.ndarray, sigma_px: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Answer with the mean of what is possible: a normal law around a measurement, inside the pixel of the truth."""
    pixel = np.floor(true_px)
    measured = true_px - pixel + sigma_px * rng.standard_normal(len(true_px))
    a, b = -measured / sigma_px, (1 - measured) / sigma_px
    normal = np.exp(-(a**2) / 2) - np.exp(-(b**2) / 2)
    return pixel + measured + sigma_px * normal / np.sqrt(2 * np.pi) / np.maximum(ndtr(b) - ndtr(a), 1e-12)


def sample(n: int, seed: int = 0, sigma_px: float = 0.4, depth: bool = True) -> tuple[Localizations, np.ndarray, np.ndarray]:
    """Draw a table whose positions lean to the pixels' centres the more, the farther from z = 0; and the true x and y in nm."""
    rng = np.random.default_rng(seed)
    x, y = 32 * rng.random((2, n))
    z = 800 * rng.random(n) - 400
    sigma = sigma_px * (0.1 + np.abs(z) / 400)
    columns = {
        "frame": np.arange(n) // 50,
        "x_nm": unsure(x, sigma, rng) * SIZE[1],
        "y_nm": unsure(y, sigma, rng) * SIZE[0],
        "sigma_x_nm": np.minimum(sigma, 0.29) * SIZE[1],
        "sigma_y_nm": np.minimum(sigma, 0.29) * SIZE[0],
    }
    if depth:
        columns["z_nm"] = z
    return Localizations(columns, Provenance(pixel_size_nm=SIZE, settings={"assumed": ["x"]})), x * SIZE[1], y * SIZE[0]


def rmse(table: Localizations, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(((table.x_nm - x) ** 2 + (table.y_nm - y) ** 2).mean()))


@pytest.mark.parametrize("depth", [True, False])
def test_the_grid_goes_at_little_cost(depth: bool) -> None:
    table, x, y = sample(40_000, depth=depth)
    made = rescale_offsets(table)
    before, after = subpixel_evenness(table), subpixel_evenness(made)
    for axis in "xy":
        assert before[axis].reduced > 100
        assert after[axis].reduced < 4
        assert after[axis].modulation < 0.05 < 0.2 < before[axis].modulation
    assert rmse(made, x, y) < 1.12 * rmse(table, x, y)
    for far in (np.abs(table.sigma_x_nm) < 8, np.abs(table.sigma_x_nm) > 20):
        assert subpixel_evenness(made.select(far))["x"].modulation < 0.1  # in each bin, not only in the sum
    assert np.array_equal(np.floor(made.x_nm / 100), np.floor(table.x_nm / 100))  # nobody leaves a pixel
    for name in set(table.columns) - {"x_nm", "y_nm"}:
        np.testing.assert_array_equal(made.columns[name], table.columns[name])


def test_the_table_says_so_and_is_not_rescaled_twice() -> None:
    made = rescale_offsets(sample(10_000)[0])
    done = made.provenance.settings["offset_rescaling"]
    assert done["rescaled"] is True
    assert done["by"] == "z_nm"
    assert done["x"]["bins"] == 5
    assert 0 < done["x"]["rescaled_bins"] <= 5
    assert made.provenance.settings["assumed"][0] == "x"
    assert made.provenance.settings["assumed"][1].startswith("sub-pixel positions: rescaled: x in ")
    with pytest.raises(TableError, match="were rescaled before"):
        rescale_offsets(made)


def test_even_positions_stay() -> None:
    rng = np.random.default_rng(3)
    table, x, y = sample(30_000, seed=3)
    table = table.with_columns(x_nm=x + 3 * rng.standard_normal(len(x)), y_nm=y + 3 * rng.standard_normal(len(y)))
    made = rescale_offsets(table)
    assert rmse(made, x, y) < 1.01 * rmse(table, x, y)
    assert np.abs(made.x_nm - table.x_nm).max() < 5


def test_a_line_along_the_pixels_is_not_spread() -> None:
    """A structure within a tenth of a pixel is no artefact: positions are surer than that."""
    rng = np.random.default_rng(4)
    n = 20_000
    columns = {
        "frame": np.arange(n) // 50,
        "x_nm": 3200 * rng.random(n),
        "y_nm": 130 * (10.3 + 5 * rng.integers(0, 3, n)) + 10 * rng.standard_normal(n),
        "sigma_x_nm": np.full(n, 10.0),
        "sigma_y_nm": np.full(n, 10.0),
    }
    table = Localizations(columns, Provenance(pixel_size_nm=SIZE))
    made = rescale_offsets(table)
    np.testing.assert_array_equal(made.y_nm, table.y_nm)
    assert made.provenance.settings["offset_rescaling"]["y"]["rescaled_bins"] == 0


def test_few_molecules_seen_often_stay() -> None:
    """Beads lie where they lie; what one half of them says does not help the other half."""
    rng = np.random.default_rng(5)
    beads = 32 * rng.random((2, 8))
    which = rng.integers(0, 8, 20_000)
    x, y = (beads[i, which] * size + 25 * rng.standard_normal(20_000) for i, size in ((0, 100.0), (1, 130.0)))
    columns = {"frame": np.arange(20_000), "x_nm": x, "y_nm": y}
    made = rescale_offsets(Localizations(columns), SIZE)
    np.testing.assert_array_equal(made.x_nm, x)
    assert "as unevenly as the sample itself" in made.provenance.settings["assumed"][-1]


def test_too_few_rows_stay_and_the_table_says_why() -> None:
    table = sample(LEAST_ROWS - 1)[0]
    made = rescale_offsets(table)
    np.testing.assert_array_equal(made.x_nm, table.x_nm)
    assert made.provenance.settings["offset_rescaling"]["rescaled"] is False
    assert f"{LEAST_ROWS - 1} rows, fewer than the {LEAST_ROWS}" in made.provenance.settings["assumed"][-1]
    assert len(rescale_offsets(Localizations.empty(), SIZE)) == 0
    assert rescale_offsets(made).provenance.settings["offset_rescaling"]["rescaled"] is False


def test_rows_that_are_no_numbers_stay() -> None:
    table = sample(9000)[0]
    x, z = table.x_nm.copy(), table.z_nm.copy()
    x[7], z[9] = np.nan, np.nan
    made = rescale_offsets(table.with_columns(x_nm=x, z_nm=z))
    assert np.isnan(made.x_nm[7])
    assert made.x_nm[9] == x[9]
    assert made.x_nm[10] != x[10]


def test_parts_do_not_matter() -> None:
    table = sample(12_000)[0]
    whole = rescale_offsets(table)
    for n in (1700, 12_000, 5):
        parts = (table.select(slice(i, i + n)) for i in range(0, 300 if n == 5 else 12_000, n))  # type: ignore[arg-type]
        if n == 5:
            moved = [OffsetRescaling.of(iter([table]), SIZE).apply(part) for part in list(parts)[:1]]
        else:
            cut = list(parts)
            moved = list(rescaled(lambda cut=cut: iter(cut), table.provenance)[0])  # type: ignore[misc]
        joined = Localizations.concat(moved)
        np.testing.assert_array_equal(joined.x_nm, whole.x_nm[: len(joined)])


def test_long_tables_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    table, x, y = sample(60_000)
    monkeypatch.setattr(rescaling, "MOST_ROWS", 20_000)
    parts = [table.select(slice(i, i + 7001)) for i in range(0, 60_000, 7001)]  # type: ignore[arg-type]
    thinned, rows = rescaling._sample(iter(parts))
    assert rows == 60_000
    np.testing.assert_array_equal(thinned.x_nm, table.x_nm[::4])
    made = rescale_offsets(table)
    assert subpixel_evenness(made)["x"].modulation < 0.05
    assert rmse(made, x, y) < 1.12 * rmse(table, x, y)


def test_a_table_without_pixel_size_is_refused() -> None:
    with pytest.raises(TableError, match="does not say the pixel size"):
        rescale_offsets(Localizations.empty())


def test_convert_rescales_what_it_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = sample(20_000)[0]
    source, target = tmp_path / "t.parquet", tmp_path / "even.parquet"
    write_table(source, table)
    made = convert(source, target, max_sigma_nm=25, rescale_offsets=True)
    kept = table.select((table.sigma_x_nm <= 25) & (table.sigma_y_nm <= 25))
    assert made.rows == len(kept)
    assert made.read == 20_000
    np.testing.assert_allclose(read_table(target).x_nm, rescale_offsets(kept).x_nm)
    assert read_table(target).provenance.settings["offset_rescaling"]["rescaled"] is True
    assert main(["convert", str(source), "-o", str(tmp_path / "e.csv"), "--rescale-offsets"]) == 0
    assert "sub-pixel positions: rescaled: x in" in capsys.readouterr().out
    assert main(["convert", str(target), "-o", str(tmp_path / "f.parquet"), "--rescale-offsets"]) == 2
    assert "rescaled before" in capsys.readouterr().err
    assert not (tmp_path / "f.parquet").exists()


def test_convert_can_be_told_the_pixel_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "t.parquet", tmp_path / "even.parquet"
    write_table(source, sample(5000)[0].with_provenance(pixel_size_nm=None))
    assert main(["convert", str(source), "-o", str(target), "--rescale-offsets"]) == 2
    assert "pixel size" in capsys.readouterr().err
    assert main(["convert", str(source), "-o", str(target), "--rescale-offsets", "--pixel-size-nm", "130,100"]) == 0
    assert read_table(target).provenance.pixel_size_nm == SIZE
    assert main(["convert", str(source), "-o", str(target), "--pixel-size-nm", "0.1"]) == 2
    assert "expected 5 to 2000 nm" in capsys.readouterr().err
