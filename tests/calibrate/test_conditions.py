"""Conditions estimated from movies against what the movies were made with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from denseloc.calibrate.conditions import estimate_conditions
from denseloc.data import movie_from_array
from denseloc.errors import CalibrationError

PER_UM2 = 0.01  # emitters per px at 1 per um^2 and 100 nm pixels

#         width density photons background offset gain multiplied read frames side
CASES = {
    "sparse": (1.3, 0.08, 1500, 20, 100, 2.0, False, 1.0, 200, 64),
    "dense": (1.3, 3.0, 1000, 10, 100, 1.0, False, 0.0, 60, 64),
    "very dense": (1.1, 6.0, 1200, 10, 100, 4.0, True, 0.0, 60, 64),
    "sharp": (0.8, 1.0, 2000, 5, 398.6, 0.5, False, 1.0, 100, 64),
    "wide": (2.0, 1.0, 1500, 15, 500, 8.0, True, 0.0, 100, 64),
    "bright background": (1.3, 1.0, 5000, 300, 100, 1.0, False, 0.0, 100, 128),
    "dark": (1.5, 0.5, 800, 1, 217, 2.0, True, 0.0, 100, 64),
    "one frame": (1.3, 1.0, 2000, 10, 100, 1.0, False, 0.0, 1, 256),
}


@pytest.mark.parametrize("case", CASES)
def test_known_conditions_are_found(case, simulate):
    width, density, photons, background, offset, gain, multiplied, read, frames, side = CASES[case]
    rng = np.random.default_rng(7)
    counts = simulate(
        rng,
        frames,
        (side, side),
        width_px=width,
        per_px=density * PER_UM2,
        photons=photons,
        background=background,
        offset=offset,
        gain=gain,
        multiplied=multiplied,
        read_noise=read,
    )
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=100.0)
    assert found.width_nm.value == pytest.approx(100 * width, rel=0.05)
    assert found.counts_per_photon.value == pytest.approx(gain, rel=0.1)
    assert found.background.value == pytest.approx(background, abs=max(3, 0.2 * background))
    assert 1 / 1.5 < found.density_per_um2.value / density < 1.5
    assert 1 / 1.6 < found.photons.value / photons < 1.6
    truth = {
        "width_nm": 100 * width,
        "offset_counts": offset,
        "background": background,
        "density_per_um2": density,
        "photons": photons,
    }
    for name, value in truth.items():
        entry = getattr(found, name)
        assert entry.low <= value <= entry.high, f"{name} {entry}"
        assert entry.source == "measured"


PEERSIM = {"d0.1_n1000": 0.1, "d0.1_n5000": 0.1, "d1_n1000": 1.0, "d1_n5000": 1.0, "d3_n1000": 3.0, "d3_n5000": 3.0}


@pytest.mark.parametrize("name", [*PEERSIM, "grid_n1000", "grid_n5000"])
def test_density_series(name, shared):
    folder = shared / "data" / "peersim"
    counts = tifffile.imread(folder / f"{name}.tif")
    truth = np.load(folder / f"{name}.npz")
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=100.0)
    assert found.width_nm.value == pytest.approx(130, rel=0.03)
    assert found.counts_per_photon.value == pytest.approx(1, rel=0.05)
    assert found.offset_counts.value == pytest.approx(100, abs=1)
    assert found.background.value == pytest.approx(10, abs=1)
    assert found.density_per_um2.value == pytest.approx(len(truth["x"]) / counts.size / PER_UM2, rel=0.2)
    assert found.photons.value == pytest.approx(float(truth["photons"].mean()), rel=0.2)


@pytest.mark.parametrize(
    ("name", "per_frame"), [("ArtificialDataset_demo1.tif", 4956 / 20), ("testStack_SimulatedMicrotubules.tif", 81178 / 361)]
)
def test_densest_peer_movies(name, per_frame, shared):
    """Their variance rises by 4.03 counts^2 per count (the light of the truth taken away); dark pixels lie 42 counts above 100."""
    counts = tifffile.imread(shared / "data" / "Deep-STORM" / name)
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=100.0)
    assert 104 < found.width_nm.value < 116
    assert found.counts_per_photon.value == pytest.approx(4.03, rel=0.05)
    assert found.offset_counts.value == pytest.approx(100, abs=2)
    assert found.background.value == pytest.approx(42 / 4.03, abs=2)
    assert found.density_per_um2.low < per_frame / 4096 / PER_UM2 < found.density_per_um2.high


def test_peer_movie_of_sparse_spots(shared):
    raw = np.fromfile(shared / "data" / "storm-analysis" / "test.dax", dtype=">u2").reshape(-1, 256, 256)
    found = estimate_conditions(movie_from_array(raw), pixel_size_nm=160.0)
    assert found.width_nm.value == pytest.approx(160, rel=0.02)  # 1 px
    assert found.counts_per_photon.value == pytest.approx(1, rel=0.05)
    assert found.background.value == pytest.approx(50, abs=3)
    assert found.density_per_um2.value == pytest.approx(200 / 256**2 / 0.16**2, rel=0.1)
    assert found.photons.value == pytest.approx(500 * 2 * np.pi, rel=0.1)  # the 500 are heights


def test_real_sparse_movie(shared):
    """Spots of another program are 333 nm wide at half height: 141 nm as a standard deviation."""
    counts = tifffile.imread(shared / "data" / "Locan" / "images.tif")
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=16954.5 / 127.5)
    assert found.width_nm.low < 141 < found.width_nm.high
    assert found.width_nm.value == pytest.approx(141, rel=0.1)


@pytest.fixture(scope="module")
def ordinary(simulate):
    return simulate(
        np.random.default_rng(2), 60, (64, 64), width_px=1.3, per_px=0.01, photons=1500, background=20, offset=150, gain=3
    )


def test_given_values_are_kept(ordinary):
    found = estimate_conditions(movie_from_array(ordinary), pixel_size_nm=100, offset_counts=150, counts_per_photon=3, width_nm=128)
    assert (found.offset_counts.value, found.counts_per_photon.value, found.width_nm.value) == (150, 3, 128)
    assert {e.source for e in (found.offset_counts, found.counts_per_photon, found.width_nm)} == {"given"}
    assert found.excess.value == 1
    assert found.background.value == pytest.approx(20, rel=0.05)
    assert found.background.high - found.background.low < 6  # nothing is left to the camera


def test_read_noise_that_is_given_is_kept(ordinary):
    found = estimate_conditions(
        movie_from_array(ordinary), pixel_size_nm=100, offset_counts=150, counts_per_photon=3, noise_variance=2.5
    )
    assert (found.noise_variance.value, found.noise_variance.source) == (2.5, "given")
    assert "camera read noise: 2.5 photons^2 (given)" in found.lines()
    assert found.background.value == pytest.approx(20, rel=0.1)


def test_a_width_in_focus_is_not_that_of_all_depths(simulate):
    """Molecules of widths 1.0 to 2.2 px; with the width in focus alone the density came out as 7 (4 to 11) per um^2."""
    rng = np.random.default_rng(5)
    counts = rng.poisson(20, (60, 48, 48)) + 100
    for width in np.linspace(1.0, 2.2, 6):
        counts += simulate(rng, 60, (48, 48), width_px=width, per_px=0.02 / 6, photons=1200, background=0, offset=0)
    known = {"offset_counts": 100, "counts_per_photon": 1, "excess": 1}
    found = estimate_conditions(movie_from_array(counts.astype(np.uint16)), pixel_size_nm=100, width_nm=100, **known)
    assert (found.width_nm.value, found.width_nm.source) == (100, "given")
    assert found.density_per_um2.low < 2.0 < found.density_per_um2.high
    assert found.background.value == pytest.approx(20, rel=0.1)
    assert any("100 nm were given (in focus)" in note for note in found.notes)
    assert "from the histogram of the pixels" in str(found.density_per_um2)


def test_real_dense_movie_of_a_given_psf(shared):
    """Filaments on uneven haze; explained as 207 molecules of 120 photons per um^2 on a background of 34, which the darkest corner has."""
    counts = tifffile.imread(shared / "data" / "3denseSTORM" / "real_3d_astigmatism" / "tubulins.tif", key=range(100))
    known = {"offset_counts": 99, "counts_per_photon": 1 / 1.83, "excess": 1}
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=65, width_nm=123.1, **known)
    assert 90 < found.background.value < 140
    assert found.density_per_um2.value < 15
    assert found.photons.value > 400


def test_excess_halves_the_gain_and_doubles_the_photons(ordinary):
    plain = estimate_conditions(movie_from_array(ordinary), pixel_size_nm=100)
    doubled = estimate_conditions(movie_from_array(ordinary), pixel_size_nm=100, excess=2)
    assert doubled.excess.source == "given"
    assert plain.excess.source == "assumed"
    assert doubled.counts_per_photon.value == pytest.approx(plain.counts_per_photon.value / 2)
    assert doubled.background.value == pytest.approx(2 * plain.background.value)
    assert doubled.photons.value == pytest.approx(2 * plain.photons.value)


def test_excess_is_seen_where_the_gain_is_given(ordinary):
    found = estimate_conditions(movie_from_array(ordinary), pixel_size_nm=100, counts_per_photon=1.5)
    assert (found.excess.value, found.excess.source) == (2, "measured")


def test_field_without_molecules_says_so():
    counts = np.random.default_rng(0).poisson(50, (50, 64, 64)).astype(np.uint16) + 100
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=100)
    assert found.width_nm.source == "assumed"
    assert found.density_per_um2.value == 0
    assert any("no molecules" in line for line in found.lines())
    assert found.offset_counts.low <= 100 <= found.offset_counts.high
    assert found.background.low <= 50 <= found.background.high


@pytest.mark.parametrize(
    "counts", [np.zeros((5, 32, 32), np.uint16), np.full((50, 32, 32), 100.0), np.ones((1, 1, 1)), np.ones((3, 8, 40))]
)
def test_empty_movies_are_assumed_not_refused(counts):
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=100)
    assert found.counts_per_photon.source == "assumed"
    assert np.isfinite([e.value for e in (found.offset_counts, found.background, found.width_nm, found.photons)]).all()


def test_smallest_field(simulate):
    counts = simulate(np.random.default_rng(3), 200, (16, 16), width_px=1.3, per_px=0.03, photons=2000, background=10, gain=2)
    found = estimate_conditions(movie_from_array(counts), pixel_size_nm=100)
    assert found.width_nm.value == pytest.approx(130, rel=0.05)
    assert found.counts_per_photon.value == pytest.approx(2, rel=0.2)
    assert found.offset_counts.low <= 100 <= found.offset_counts.high


def test_lines_and_json_name_every_entry(ordinary):
    found = estimate_conditions(movie_from_array(ordinary), pixel_size_nm=(100.0, 100.0))
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["width_nm"]["unit"] == "nm"
    assert plain["background_range"] == list(found.background_range)
    text = "\n".join(found.lines())
    for word in ("offset", "gain", "background", "width", "density", "photons", "measured", "--camera offset="):
        assert word in text


def test_mistakes_are_named(ordinary):
    movie = movie_from_array(ordinary)
    with pytest.raises(CalibrationError, match="counts_per_photon = -1"):
        estimate_conditions(movie, pixel_size_nm=100, counts_per_photon=-1)
    broken = ordinary[:4].astype(np.float32)
    broken[0, 0, 0] = np.nan
    with pytest.raises(CalibrationError, match="not finite"):
        estimate_conditions(movie_from_array(broken), pixel_size_nm=100)
