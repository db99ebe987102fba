"""The parts of an inspection: lifetime, photon law, background in time, series of a camera, excess noise, the table of cameras."""

from __future__ import annotations

import numpy as np
import pytest

from denseloc.calibrate.blinking import fit_lifetime, measure_lifetime
from denseloc.calibrate.cameras import KNOWN_CAMERAS, find_camera, read_known_cameras
from denseloc.calibrate.conditions import estimate_conditions
from denseloc.calibrate.depth import check_depth_psf, measure_depths
from denseloc.calibrate.excess import noise_skewness
from denseloc.calibrate.light import _Sums, background_in_time, darkest_gamma, fit_photon_law
from denseloc.calibrate.series import camera_maps, measure_level
from denseloc.data import movie_from_array
from denseloc.errors import CalibrationError, CameraError, DocumentError
from denseloc.experiment import Experiment
from denseloc.verbs.inspection_facts import Fact, unsure_of_excess


def blinking(lifetime, frames=300, side=48, density=0.4, seed=1, kind="exponential"):
    import torch

    law = {"kind": kind, "lifetime_frames": lifetime} if kind == "exponential" else {"kind": kind}
    document = Experiment.from_json(
        {
            "pixel_size_nm": 100,
            "psf": {"kind": "gaussian", "width_nm": 130, "roi_px": 11},
            "camera": {"kind": "scmos", "offset_counts": 100, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
            "specimen": {
                "density_per_um2": density,
                "z_nm": [0, 0],
                "photons": {"kind": "gamma", "mean": 1500, "sd": 700},
                "background": {"kind": "uniform", "photons": 20},
                "blinking": law,
            },
        }
    )
    generator = torch.Generator().manual_seed(seed)
    microscope, specimen = document.build_microscope((side, side)), document.build_specimen((side, side))
    emitters, background = specimen.draw(frames, generator), specimen.draw_background(1, generator)
    with torch.no_grad():
        return microscope.sample(emitters, background.expand(frames, -1, -1, -1), generator)[:, 0].numpy()


@pytest.mark.parametrize("lifetime", [0.7, 2.0, 6.0])
def test_lifetime(lifetime):
    found = measure_lifetime(movie_from_array(blinking(lifetime)), 1.3)
    assert found is not None
    assert found.frames.value == pytest.approx(lifetime, rel=0.25)
    assert 0.75 * found.frames.low <= lifetime <= 1.33 * found.frames.high
    assert found.frames.high < 3 * lifetime


def test_molecules_of_one_frame_have_no_lifetime():
    found = measure_lifetime(movie_from_array(blinking(0, kind="none")), 1.3)
    assert found is not None
    assert found.frames.value == 0
    assert found.frames.high <= 0.5


def test_lifetime_beyond_the_movie_has_no_upper_end():
    tiles = np.ones((16, 10)) * np.linspace(1, 0.995, 10) + 1e-3 * np.random.default_rng(0).normal(size=(16, 10))
    tiles += np.linspace(0, 0.3, 16)[:, None]
    assert fit_lifetime(tiles).frames.high == np.inf or fit_lifetime(tiles).frames.value == 0


def test_short_movie_has_no_lifetime():
    assert measure_lifetime(movie_from_array(blinking(2.0, frames=8)), 1.3) is None


@pytest.mark.parametrize("family", ["gamma", "log-normal"])
def test_photon_law_sees_below_its_cut(family):
    rng = np.random.default_rng(3)
    photons = rng.gamma(4, 250, 900) if family == "gamma" else 1000 * np.exp(0.6 * rng.normal(size=900) - 0.18)
    sd = 500 if family == "gamma" else 1000 * np.sqrt(np.expm1(0.36))
    found = fit_photon_law(photons[photons > 500], repeats=6)
    assert found is not None
    assert found.family == family
    assert found.mean.value == pytest.approx(1000, rel=0.1)
    assert found.sd.value == pytest.approx(sd, rel=0.2)
    assert found.mean.low < found.mean.value < found.mean.high
    assert fit_photon_law(photons[:20]) is None


@pytest.mark.parametrize(("mean", "relative_sd"), [(1000.0, 0.5), (300.0, 1.7), (5000.0, 0.02)])
def test_sums_tell_the_likelihood_of_the_cut_laws(mean, relative_sd):
    from scipy import stats

    photons, least, shape = np.random.default_rng(2).gamma(4, 250, 200), 200.0, 1 / relative_sd**2
    log_sd = np.sqrt(np.log1p(relative_sd**2))
    laws = (stats.gamma(shape, scale=mean / shape), stats.lognorm(log_sd, scale=mean * np.exp(-(log_sd**2) / 2)))
    sums = _Sums.of(photons)
    for law, found in zip(laws, (sums.gamma, sums.log_normal), strict=True):
        assert found(mean, relative_sd, least) == pytest.approx((law.logpdf(photons).sum(), law.logsf(least)), rel=1e-9)


def test_background_in_time_and_in_the_darkest_places():
    rng = np.random.default_rng(0)
    level = np.linspace(30, 21, 240)[:, None, None]
    counts = 100 + 2 * rng.poisson(np.broadcast_to(level, (240, 32, 32)))
    found = background_in_time(movie_from_array(counts), 100, 2)
    assert found is not None
    assert found.change.low < -0.287 < found.change.high, "from the middle of the first window to that of the last"
    assert found.photons[0] == pytest.approx(30, rel=0.05)
    assert background_in_time(movie_from_array(counts[:40]), 100, 2) is None
    still = 100 + 2 * rng.poisson(20, (200, 32, 32))
    dark = darkest_gamma(still, 100, 2)
    assert dark is not None
    assert dark.mean.value == pytest.approx(20, rel=0.05)
    assert dark.scale.value == pytest.approx(2, rel=0.05)
    assert darkest_gamma(still, 1000, 2) is None


# ------------------------------------------------------------------------------------------------------------------------- series


def series(light, gain, frames=100, seed=0, offset=100.0, read=3.0):
    rng = np.random.default_rng(seed)
    counts = offset + rng.normal(0, read, (frames, *gain.shape)) + gain * rng.poisson(light, (frames, *gain.shape))
    return movie_from_array(np.round(counts).clip(0).astype(np.uint16), f"light {light}")


def test_maps_of_a_camera():
    true = np.random.default_rng(5).normal(2, 0.2, (40, 30)).clip(1, 3)
    dark = measure_level(series(0, true), "dark")
    maps = camera_maps(dark, [measure_level(series(light, true, seed=light), "bright") for light in (60, 250)])
    assert maps.offset_span.value == pytest.approx(100, abs=0.1)
    assert maps.variance_span.value == pytest.approx(9, rel=0.05)
    assert maps.gain_span is not None
    assert maps.gain is not None
    assert maps.gain_span.value == pytest.approx(2, rel=0.02)
    assert maps.raw_scatter == pytest.approx(0.1, abs=0.04)
    assert np.corrcoef(maps.gain.ravel(), true.ravel())[0, 1] > 0.4
    assert np.abs(maps.gain - true).mean() < np.abs(true - 2).mean()
    assert maps.pixel_maps().shape == (3, 40, 30)


def test_intervals_of_series_know_of_rounding_and_of_lamps():
    true = np.full((40, 30), 2.0)
    dark = measure_level(series(0, true, offset=100.2, read=0.3), "dark")
    span = camera_maps(dark, [measure_level(series(200, true, seed=3), "bright")])
    assert span.offset_span.low < 100.2 < span.offset_span.high, "whole counts move the mean of quiet pixels"
    assert span.gain_span is not None
    assert span.gain_span.high / span.gain_span.value > 1.005


def test_even_pixels_are_not_told_apart_by_chance():
    true = np.full((40, 30), 2.0)
    maps = camera_maps(measure_level(series(0, true), "dark"), [measure_level(series(200, true, seed=2), "bright")])
    assert maps.gain is not None
    assert np.std(maps.gain) < 0.08, "single gains scatter by 0.3"


def test_bad_series():
    true = np.full((20, 20), 2.0)
    dark = measure_level(series(0, true), "dark")
    with pytest.raises(CalibrationError, match="4 frames, expected 20 or more"):
        measure_level(series(0, true, frames=4), "dark")
    with pytest.raises(CalibrationError, match="all frames are alike"):
        measure_level(movie_from_array(np.ones((30, 8, 8), np.uint16)), "dark")
    with pytest.raises(CalibrationError, match="give more light"):
        camera_maps(dark, [measure_level(series(0, true, seed=3), "bright")])
    with pytest.raises(CalibrationError, match="same region"):
        camera_maps(dark, [measure_level(series(50, true[:10]), "bright")])
    full = np.full((30, 20, 20), 65535, np.uint16)
    full[0] = 60000
    with pytest.raises(CalibrationError, match="with less light"):
        camera_maps(dark, [measure_level(movie_from_array(full), "bright")])
    with pytest.raises(CalibrationError, match="--bright"):
        camera_maps(dark).pixel_maps()


# ----------------------------------------------------------------------------------------------------------------- excess, cameras


@pytest.mark.parametrize(("multiplied", "excess"), [(False, 1.0), (True, 2.0)])
def test_excess_is_told_by_the_skewness(simulate, multiplied, excess):
    counts = simulate(
        np.random.default_rng(2),
        200,
        (64, 64),
        width_px=1.3,
        per_px=0.003,
        photons=800,
        background=8,
        gain=4,
        multiplied=multiplied,
    )
    found = noise_skewness(counts, 1.3, 4)
    assert found is not None
    assert found.excess == excess
    assert found.ratio == pytest.approx(1.5 if multiplied else 1.0, abs=3 * found.sigma)


def test_excess_is_not_claimed_where_molecules_fill_the_field(simulate):
    counts = simulate(np.random.default_rng(2), 60, (48, 48), width_px=1.3, per_px=0.08, photons=2000, background=8, gain=4)
    found = noise_skewness(counts, 1.3, 4)
    assert found is None or found.excess != 2.0
    assert noise_skewness(counts[:10], 1.3, 4) is None


def test_table_of_cameras():
    found = find_camera(["x", "| ixon ultra | DU897_BV | 8123 |"])
    assert found is not None
    assert (found.name, found.kind) == ("Andor iXon Ultra 897", "emccd")
    assert find_camera(["C11440-22CU"]) is not None
    assert find_camera(["a webcam"]) is None
    assert all(camera.source for camera in KNOWN_CAMERAS)


def test_cameras_of_the_user():
    mine = {"name": "mine", "patterns": ["S/N 7207"], "kind": "scmos", "electrons_per_count": 0.47, "source": "May"}
    cameras = read_known_cameras({"camera": [mine]}, "c.toml")
    found = find_camera(["ORCA-Flash4.0 s/n 7207"], (*cameras, *KNOWN_CAMERAS))
    assert found is not None
    assert found.name == "mine"
    with pytest.raises(CameraError, match=r"c.toml: found cameras, expected one \[\[camera\]\]"):
        read_known_cameras({"cameras": [mine]}, "c.toml")
    with pytest.raises(DocumentError, match=r"camera 1: unknown key 'gain'"):
        read_known_cameras({"camera": [{**mine, "gain": 2}]}, "c.toml")
    with pytest.raises(DocumentError, match="electrons_per_count"):
        read_known_cameras({"camera": [{**mine, "electrons_per_count": -1}]}, "c.toml")


# -------------------------------------------------------------------------------------------------------------------------- depth

ASTIGMATIC = {"kind": "astigmatic", "width_nm": 130, "focus_a_nm": -200, "focus_b_nm": 200, "depth_nm": 400, "roi_px": 15}


def depth_document(psf):
    return {
        "pixel_size_nm": 100,
        "psf": psf,
        "camera": {"kind": "scmos", "offset_counts": 0, "electrons_per_count": 1, "read_noise_electrons": 0.1},
        "specimen": {
            "density_per_um2": 0.1,
            "z_nm": [-300, 300],
            "photons": {"kind": "uniform", "low": 4000, "high": 6000},
            "background": {"kind": "uniform", "photons": 10},
            "blinking": {"kind": "none"},
        },
    }


@pytest.fixture(scope="module")
def simulate_depths():
    import torch

    document = Experiment.from_json(depth_document(ASTIGMATIC))
    generator = torch.Generator().manual_seed(2)
    microscope, specimen = document.build_microscope((48, 48)), document.build_specimen((48, 48))
    emitters, background = specimen.draw(100, generator), specimen.draw_background(1, generator)
    with torch.no_grad():
        photons = microscope.sample(emitters, background.expand(100, -1, -1, -1), generator)[:, 0].numpy()
    return document.psf.build((100, 100)), photons.astype(np.float32)


def test_depths_of_isolated_spots(simulate_depths):
    psf, photons = simulate_depths
    found = measure_depths(psf, photons, 1.6)
    assert found is not None
    assert len(found.z_nm) > 60
    assert found.low.value == pytest.approx(-270, abs=45), "5 % of an even spread over -300 .. 300 nm"
    assert found.middle.value == pytest.approx(0, abs=70)
    assert found.high.value == pytest.approx(270, abs=45)
    assert all(span.low <= span.value <= span.high for span in (found.low, found.middle, found.high))
    assert found.crlb_nm < 40


def test_no_depth_without_spots_or_from_a_flat_psf(simulate_depths):
    psf, photons = simulate_depths
    assert measure_depths(psf, np.random.default_rng(0).poisson(20, photons.shape).astype(np.float32), 1.6) is None
    flat = Experiment.from_json(depth_document({"kind": "gaussian", "width_nm": 130, "roi_px": 11})).psf.build((100, 100))
    with pytest.raises(CalibrationError, match="tells no depth"):
        check_depth_psf(flat)


# -------------------------------------------------------------------------------------------------------------------------- facts


def test_intervals_grow_where_the_excess_is_assumed():
    found = estimate_conditions(movie_from_array(blinking(2.0, frames=40)), pixel_size_nm=100)
    wide = unsure_of_excess(found)
    assert found.excess.source == "assumed"
    assert wide.counts_per_photon.low == pytest.approx(found.counts_per_photon.low / 2)
    assert wide.counts_per_photon.high == found.counts_per_photon.high
    assert (wide.photons.low, wide.photons.high) == (found.photons.low, 2 * found.photons.high)


def test_an_interval_without_end_is_plain_json():
    assert Fact("lifetime", 30.0, 20.0, float("inf"), "frames", "s").to_json()["high"] is None
