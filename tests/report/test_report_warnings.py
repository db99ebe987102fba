"""Warnings: silent on a sound run, and each fault is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from denseloc.data import Localizations, Provenance
from denseloc.report import FrameSample, compare, judge
from denseloc.report.plots import _unevenness
from denseloc.report.summary import counts_per_frame, frame_range, local_density_per_um2, number, places, subpixel, thin


def found(run, table=None, samples=None, ranges=None) -> str:
    return "\n".join(
        judge(
            run.table if table is None else table,
            run.samples if samples is None else samples,
            ranges=run.ranges if ranges is None else ranges,
            movie=run.movie,
        )
    )


def test_a_sound_run_raises_no_warning(run):
    assert found(run) == ""


def test_chi2_is_one_for_the_true_model_and_the_square_of_a_scaled_noise(run):
    agreements = [compare(sample) for sample in run.samples]
    assert np.mean([a.chi2 for a in agreements]) == pytest.approx(1.0, abs=0.05)
    assert np.mean([a.correlation for a in agreements]) == pytest.approx(0.0, abs=0.03)
    assert "within its noise" in agreements[0].sentence
    quarter = compare(replace(run.samples[0], variance=run.samples[0].variance / 4))
    assert quarter.chi2 == pytest.approx(4 * agreements[0].chi2)


def test_chi2_leaves_out_pixels_without_variance():
    photons = np.full((6, 6), 10.0)
    photons[0, 0] = np.nan
    variance = np.full((6, 6), 4.0)
    variance[1, 1] = 0.0
    agreement = compare(FrameSample(0, photons, np.full((6, 6), 8.0), variance))
    assert agreement.n_pixels == 34
    assert agreement.chi2 == pytest.approx(1.0)
    assert agreement.excess == pytest.approx(0.25)


def test_no_model_picture_gives_no_agreement():
    assert compare(FrameSample(0, np.ones((4, 4)))) is None


def test_a_sample_of_mixed_shapes_is_refused():
    with pytest.raises(ValueError, match="expected"):
        FrameSample(0, np.ones((4, 4)), np.ones((4, 5)))


def test_a_wrong_psf_is_named(simulator):
    run = simulator(psf_of_data_nm=200.0)
    assert "does not describe this movie" in found(run) or "not the molecules" in found(run)
    dense = simulator(psf_of_data_nm=200.0, per_frame=50.0)
    assert "does not describe this movie" in found(dense)


def test_what_is_left_over_names_the_likely_cause(run):
    brighter = [replace(s, photons=1.5 * s.photons) for s in run.samples]
    assert "more light than the localizations explain: many molecules are missed" in found(run, samples=brighter)
    darker = [replace(s, photons=0.6 * s.photons) for s in run.samples]
    assert "more light than there is: some are false" in found(run, samples=darker)


def test_long_spots_are_named(run):
    n = len(run.table)
    flat = Localizations({k: v for k, v in run.table.columns.items() if k != "z_nm"}, run.table.provenance)
    long = Localizations({**flat.columns, "sigma_x_nm": np.full(n, 44.0), "sigma_y_nm": np.full(n, 25.0)}, flat.provenance)
    assert "1.8 times less certain along x: the spots are long" in " ".join(judge(long))
    assert "spots are long" not in found(run)


def test_too_little_noise_is_named(run):
    smooth = [replace(s, photons=s.expected + 0.5 * (s.photons - s.expected)) for s in run.samples]
    assert "less noise" in found(run, samples=smooth)


def test_missed_molecules_leave_structure(run):
    missed = [replace(s, expected=np.full_like(s.expected, 20.0), variance=np.full_like(s.expected, 22.0)) for s in run.samples]
    assert "does not describe this movie" in found(run, samples=missed)


def test_faint_structure_is_named(run):
    wave = 3.0 * np.sin(np.arange(48) / 4.0)
    text = found(run, samples=[replace(s, photons=s.photons + wave) for s in run.samples])
    assert "not pure noise" in text


def test_an_empty_table_is_named(run):
    text = found(run, table=run.table.select(np.zeros(len(run.table), bool)))
    assert "Nothing was localized" in text


@pytest.mark.parametrize("known", [True, False])
def test_a_heap_at_the_photon_limit_is_named(run, known):
    table = run.table.with_columns(photons=np.minimum(run.table.photons, 2500))
    text = found(run, table=table, ranges={"photons": (100.0, 2500.0)} if known else {})
    assert "upper photon limit" in text
    assert "2\u2009500 photons" in text


def test_heaps_at_the_z_limits_are_named(run):
    table = run.table.with_columns(z_nm=np.clip(run.table.z_nm * 2, -300, 300))
    assert "limits of z (−300 to 300 nm)" in found(run, table=table, ranges={"z_nm": (-300.0, 300.0)})


def test_equal_values_are_no_heap(run):
    table = run.table.with_columns(photons=np.full(len(run.table), 1000.0), z_nm=np.zeros(len(run.table)))
    assert found(run, table=table, ranges={}) == ""


def test_conditions_outside_of_the_training_range_are_named(run):
    text = found(run, ranges={"background": (50.0, 90.0), "density_per_um2": (0.0, 0.2)})
    assert "background outside" in text
    assert "denser than anything" in text


def test_a_pixel_grid_is_named(run):
    x = run.table.x_nm
    pulled = 100 * np.floor(x / 100) + 50 + 0.6 * (np.mod(x, 100) - 50)
    text = found(run, table=run.table.with_columns(x_nm=pulled))
    assert "not spread evenly" in text
    assert "in x (by" in text
    assert "y (by" not in text


@pytest.mark.parametrize(("molecules", "rows_each"), [(100, 40), (12, 5)])
def test_few_molecules_seen_often_are_no_grid(molecules, rows_each):
    """Their rows are many and uneven inside of the pixel, but not independent of each other."""
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = (np.repeat(rng.uniform(0, 6400, molecules), rows_each) + rng.normal(0, 8, molecules * rows_each) for _ in range(2))
        frame = np.tile(np.arange(rows_each), molecules)
        table = Localizations({"frame": frame, "x_nm": x, "y_nm": y}, Provenance((100.0, 100.0), (64, 64), rows_each))
        alarms += "not spread evenly" in "\n".join(judge(table))
    assert alarms == 0


def test_a_grid_is_named_from_few_rows_on():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 6400, (2, 400))
    pulled = 100 * np.floor(x / 100) + 50 + 0.6 * (np.mod(x, 100) - 50)
    table = Localizations({"frame": np.arange(400), "x_nm": pulled, "y_nm": y}, Provenance((100.0, 100.0), (64, 64), 400))
    assert "not spread evenly inside of the camera pixel, in x" in "\n".join(judge(table))


def test_chances_are_those_of_chance():
    """Of even positions, whose places differ as they like, a tenth has a chance below 0.1."""
    chances = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x, y = (np.repeat(rng.uniform(0, 6400, 150), 6) for _ in range(2))
        table = Localizations({"frame": np.zeros(len(x)), "x_nm": x, "y_nm": y})
        chances.append(subpixel(x, 100.0, "x", places(table, (100.0, 100.0))).p_value)
    assert 0.04 < np.mean(np.array(chances) < 0.1) < 0.17


def test_bleaching_and_holes_are_named(run):
    keep = run.table.frame < 150
    assert "changes from" in found(run, table=run.table.select(keep))
    hole = (run.table.frame < 100) | (run.table.frame >= 140)
    assert "Frames 100 to 139 hold no localization" in found(run, table=run.table.select(hole))


def test_values_that_are_no_numbers_are_named(run):
    photons = run.table.photons.copy()
    photons[:7] = np.nan
    assert "photons (7)" in found(run, table=run.table.with_columns(photons=photons))


def test_sigma_below_the_bound_is_named(run):
    table = run.table.with_columns(crlb_x_nm=2 * run.table.sigma_x_nm, crlb_y_nm=run.table.sigma_y_nm)
    text = found(run, table=table)
    assert "sigma_x_nm is smaller than theory allows" in text
    assert "sigma_y_nm" not in text


def test_local_density_is_that_of_an_even_spread():
    rng = np.random.default_rng(0)
    n, side = 40_000, 40_000.0  # 25 per um^2 over all frames, 2.5 per frame
    table = Localizations({"frame": rng.integers(0, 10, n), "x_nm": rng.uniform(0, side, n), "y_nm": rng.uniform(0, side, n)})
    assert local_density_per_um2(table) == pytest.approx(2.5, rel=0.05)


def test_counts_cover_all_frames(run):
    table = run.table.select((run.table.frame > 3) & (run.table.frame < 290))
    counts = counts_per_frame(table, frame_range(table, None))
    assert len(counts) == 300
    assert counts.sum() == len(table)
    assert counts[:4].sum() == 0


def test_what_counting_explains_is_even():
    flat = subpixel(61.8034 * np.arange(2000), 100.0, "y")
    assert _unevenness(flat) == "even"
    heap = subpixel(np.full(2000, 50.0), 100.0, "y")
    assert _unevenness(heap) == f"uneven by {100 * heap.contrast:.1f} %"


def test_subpixel_flatness():
    rng = np.random.default_rng(0)
    assert subpixel(rng.uniform(0, 1e4, 20_000), 100.0, "x").p_value > 1e-3
    wavy = rng.uniform(0, 1, 200_000)
    wavy = wavy[rng.random(200_000) < (1 + 0.5 * np.cos(2 * np.pi * wavy)) / 1.5]
    assert subpixel(wavy * 100, 100.0, "x").contrast == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_thin_keeps_rows_in_order_and_is_repeatable(run):
    few = thin(run.table, 500)
    assert 400 < len(few) <= 500
    assert (np.diff(few.frame) >= 0).all()
    assert np.array_equal(few.x_nm, thin(run.table, 500).x_nm)
    assert thin(run.table, len(run.table)) is run.table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12\u2009346"),
        (0.0, "0"),
        (-3.14159, "−3.14"),
        (250.04, "250.0"),
        (0.5, "0.500"),
        (2e-5, "2.0e-05"),
        (np.nan, "–"),
    ],
)
def test_numbers_for_people(value, text):
    assert number(value) == text
