"""The steps of the estimate, each against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import ndtr

from denseloc.calibrate.background import background_map
from denseloc.calibrate.photon_transfer import NoisePoints, fit_transfer, high_pass, leakage, noise_points
from denseloc.calibrate.pixel_law import _Histogram, psf_levels
from denseloc.calibrate.sampling import take_sample
from denseloc.calibrate.spectrum import autocovariance, expected_power, fit_spectrum, mean_power
from denseloc.calibrate.spots import fit_spots
from denseloc.data import Movie, movie_from_array
from denseloc.errors import CalibrationError


def spot(side, y, x, width):
    edges = np.arange(side + 1)
    return np.outer(np.diff(ndtr((edges - y) / width)), np.diff(ndtr((edges - x) / width)))


def test_autocovariance_is_the_mean_over_positions():
    width, lags = 1.1, 4
    shifts = (np.arange(50) + 0.5) / 50
    lines = np.stack([np.diff(ndtr((np.arange(41) - 20 - s) / width)) for s in shifts])
    expected = [(lines[:, : 40 - lag] * lines[:, lag:]).sum(1).mean() for lag in range(lags + 1)]
    np.testing.assert_allclose(autocovariance(width, lags)[lags:], expected, atol=1e-6)


def test_spectrum_of_molecules_is_the_expected_one(simulate):
    rng = np.random.default_rng(0)
    counts = simulate(rng, 300, (32, 32), width_px=1.3, per_px=0.02, photons=3000, background=5, offset=0, shape_of_photons=50)
    power, _ = mean_power(counts - counts.mean(0, dtype=np.float32), 32)
    one = expected_power(32, 1.3)
    model = 5 + 0.02 * 3000 + 0.02 * 3000**2 * (1 + 1 / 50) * np.outer(one, one)
    ratio = (power / model)[2:8, 2:8]
    assert ratio.mean() == pytest.approx(1, abs=0.06)
    found = fit_spectrum(counts - counts.mean(0, dtype=np.float32))
    assert found.width_px == pytest.approx(1.3, rel=0.02)
    assert found.floor == pytest.approx(65, rel=0.05)
    assert abs(found.width_px - 1.3) < 4 * found.sigma_px


@pytest.mark.parametrize("order", [1, 2, 3])
def test_leakage_is_the_energy_that_passes(order):
    kernel = high_pass(order)
    assert (kernel**2).sum() == pytest.approx(1)
    energy = []
    for dy, dx in np.random.default_rng(0).uniform(0, 1, (300, 2)):
        passed = ndimage.correlate1d(ndimage.correlate1d(spot(31, 15 + dy, 15 + dx, 0.9), kernel, axis=0), kernel, axis=1)
        energy.append((passed**2).sum())
    assert np.mean(energy) == pytest.approx(leakage(order, 0.9), rel=0.05)


def test_noise_points_lie_on_the_line_of_the_camera(simulate):
    rng = np.random.default_rng(1)
    ramp = np.linspace(5, 200, 64) * np.ones((64, 1))
    counts = simulate(
        rng, 100, (64, 64), width_px=1.0, per_px=0.01, photons=2000, background=ramp, offset=100, gain=2, read_noise=2
    )
    points = noise_points(counts.astype(np.float32), 1.0, 3, quantization=1 / 12)
    assert len(points.mean) > 5
    expected = 2 * (points.mean - 100) + (2 * 2) ** 2
    assert np.abs((points.variance - expected) / points.sigma).max() < 4
    assert (points.variance / expected)[:5] == pytest.approx(1, abs=0.05)


def test_transfer_tells_offset_from_gain():
    mean = np.linspace(140, 900, 12)
    points = NoisePoints(mean, 2.5 * (mean - 130), 0.02 * mean)
    found = fit_transfer(points, 0.0)
    assert found.slope.value == pytest.approx(2.5, rel=0.02)
    assert found.offset.value == pytest.approx(130, abs=3)
    assert found.offset.low < 130 < found.offset.high
    given = fit_transfer(points, 0.0, offset=100.0)
    assert given.offset.value == pytest.approx(100)
    assert given.noise_variance.value == pytest.approx(0, abs=0.1)


def test_common_offset_is_taken_only_where_the_noise_allows_it():
    mean = np.array([200.0, 215.0, 230.0, 245.0])
    flat = NoisePoints(mean, 2.0 * (mean - 100), 0.1 * mean)
    assert fit_transfer(flat, 0.0).offset.value == 100
    far = NoisePoints(mean + 300, 2.0 * (mean - 150), 0.01 * mean)
    assert fit_transfer(far, 0.0).offset.value == pytest.approx(450, abs=15)


def test_levels_of_the_psf_keep_light_and_power():
    level, area = psf_levels(1.3)
    one = spot(41, 20.3, 20.6, 1.3)
    assert (level * area).sum() == pytest.approx(1, abs=0.005)
    assert (level**2 * area).sum() == pytest.approx((one**2).sum(), rel=0.03)


def test_pixel_law_is_the_histogram(simulate):
    rng = np.random.default_rng(4)
    counts = simulate(rng, 200, (64, 64), width_px=1.3, per_px=0.02, photons=800, background=12, offset=0).astype(float)
    histogram = _Histogram(counts, 1.3, 0.0, 1.0, 0.0)
    law = histogram.law(np.log([12, 0.02, 800, 3.0, 1e-3, 1e-2]))
    assert law.sum() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.cumsum(law) - np.cumsum(histogram.counts) / histogram.counts.sum()).max() < 0.015


def test_spots_give_width_and_photons(simulate):
    rng = np.random.default_rng(5)
    photons = simulate(rng, 60, (64, 64), width_px=1.2, per_px=0.001, photons=2000, background=8, offset=0, shape_of_photons=100)
    found = fit_spots(photons.astype(np.float32), 1.0)
    middle, sigma = found.median_width()
    assert middle == pytest.approx(1.2, rel=0.03)
    assert abs(middle - 1.2) < 4 * sigma + 0.01
    assert np.median(found.photons) == pytest.approx(2000, rel=0.05)
    assert found.per_frame == pytest.approx(4.1, rel=0.2)
    assert found.restlessness < 2


@pytest.mark.parametrize("frames", [1, 40])
def test_background_map_follows_an_uneven_background(frames, simulate):
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:128, :128]
    truth = 20 + 60 * np.exp(-((y - 40) ** 2 + (x - 80) ** 2) / (2 * 35**2))
    photons = simulate(rng, frames, (128, 128), width_px=1.3, per_px=0.001, photons=1500, background=truth, offset=0)
    found = background_map(photons.astype(np.float32))
    assert found.shape == truth.shape
    assert found.dtype == np.float32
    inner = (slice(10, -10), slice(10, -10))
    assert np.abs(found - truth)[inner].mean() < 4
    assert np.corrcoef(found[inner].ravel(), truth[inner].ravel())[0, 1] > 0.97


def test_background_map_knows_excess_noise():
    rng = np.random.default_rng(7)
    photons = rng.gamma(np.maximum(rng.poisson(3.0, (60, 64, 64)), 1e-9), 1.0) + rng.normal(0, 1.0, (60, 64, 64))
    assert background_map(photons, 1.0, excess=2.0).mean() == pytest.approx(3.0, rel=0.05)
    twice = background_map(2 * photons, 4 * 1.0, excess=2 * 1.0)
    np.testing.assert_allclose(twice, 2 * background_map(photons, 1.0), rtol=1e-4)


class CountingSource:
    """A wide field with molecules in one corner that counts what is read."""

    def __init__(self, corner: np.ndarray) -> None:
        self.corner, self.read_frames = corner, 0

    def read(self, start, stop):
        self.read_frames += stop - start
        frames = np.random.default_rng(start).poisson(10, (stop - start, 700, 1100)).astype(np.uint16)
        frames[:, 400:656, 800:1056] += self.corner[start % len(self.corner)]
        return frames


def test_large_and_long_movies_are_sampled_where_the_molecules_are(simulate):
    corner = simulate(np.random.default_rng(8), 4, (256, 256), width_px=1.3, per_px=0.01, photons=3000, background=0, offset=0)
    source = CountingSource(corner)
    sample = take_sample(Movie(source, "wide", (0, 100_000), (700, 1100), (0, 0, 700, 1100)))
    assert sample.counts.shape == (16, 512, 512)
    assert source.read_frames <= 200
    assert sample.counts.mean() - 10 > 0.7 * corner.mean() / 4
    short = take_sample(movie_from_array(corner[:, :30, :40]))
    assert short.counts.shape == (4, 30, 40)


def test_a_movie_that_is_full_says_nothing() -> None:
    counts = np.random.default_rng(0).poisson(100, (20, 16, 16)).astype(np.uint16)
    counts[:, :9] = 65535
    with pytest.raises(CalibrationError, match=r"56 % of the pixels are full \(65535 counts\)"):
        take_sample(movie_from_array(counts, "m.tif"))
    counts[:, :9] = 100
    counts[:, :7] = 65535
    assert take_sample(movie_from_array(counts, "m.tif")).saturation == 65535
