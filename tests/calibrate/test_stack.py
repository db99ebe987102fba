"""A stack of beads is checked before anything is fitted to it; a camera that is not known is measured from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bead_stacks import CAMERA, Z, bead_counts, bead_stack
from denseloc.calibrate.stack import BeadStack, measure_camera
from denseloc.camera import SCMOSSettings
from denseloc.errors import CalibrationError


def of(counts: np.ndarray, z: np.ndarray = Z) -> BeadStack:
    return BeadStack.of(counts, z, CAMERA.build(), "beads.tif")


def refused(counts: np.ndarray, z: np.ndarray, words: str) -> None:
    with pytest.raises(CalibrationError, match=words) as error:
        of(counts, z)
    assert "\n" not in str(error.value)
    assert "beads.tif" in str(error.value)


def test_counts_become_photons() -> None:
    counts = bead_counts()
    stack = of(counts)
    assert stack.photons.shape == (13, 1, 48, 48)
    np.testing.assert_allclose(stack.photons[:, 0].numpy(), (counts - 100) * 0.5, rtol=1e-5, atol=1e-3)
    assert stack.noise_variance.shape == (48, 48)
    assert float(stack.noise_variance.mean()) == pytest.approx(1.5**2 + 0.5**2 / 12)  # of the camera, and of rounding
    assert stack.excess == 1.0
    assert stack.zeros == 0.0
    assert not stack.saturated.any()


def test_pixel_maps_of_a_camera_give_each_pixel_its_noise() -> None:
    variance = np.linspace(1, 9, 48 * 48).reshape(48, 48)
    maps = np.stack([np.full((48, 48), 100.0), np.full((48, 48), 0.5), variance])
    stack = BeadStack.of(bead_counts(), Z, SCMOSSettings(pixel_maps=maps).build())
    noise = stack.noise_variance.numpy()
    assert noise.shape == (48, 48)
    assert noise[-1, -1] - noise[0, 0] == pytest.approx(8 * 0.5**2)


def test_depths_that_fall_are_turned() -> None:
    counts = bead_counts()
    rising, falling = of(counts), of(counts[::-1], Z[::-1])
    torch.testing.assert_close(falling.photons, rising.photons)
    np.testing.assert_array_equal(falling.z_nm, Z)


def test_depths_and_planes_must_agree() -> None:
    counts = bead_counts()
    refused(counts, Z[:5], r"has the shape \(13, 1, 48, 48\) with 5 depths; expected \(depths, rows, columns\)")
    refused(counts[0], Z, r"shape \(48, 48\) with 13 depths")


def test_what_cannot_be_depths_is_refused() -> None:
    counts = bead_counts()
    for spoil in (lambda z: z * 0, lambda z: np.abs(z), lambda z: np.where(z == 0, np.nan, z)):
        refused(counts, spoil(Z), "do not rise or fall steadily")


def test_pixels_that_are_no_numbers_are_refused() -> None:
    counts = bead_counts().astype(np.float32)
    counts[3, 4, 5], counts[6, 7, 8] = np.nan, np.inf
    refused(counts, Z, "2 pixels are not numbers")


def test_every_other_plane_and_another_zero() -> None:
    stack = bead_stack()
    even, odd = stack.every_other(0), stack.every_other(1)
    assert sorted([*even.z_nm, *odd.z_nm]) == pytest.approx(Z)
    torch.testing.assert_close(odd.photons, stack.photons[1::2])
    assert even.name == stack.name
    np.testing.assert_allclose(stack.moved(-50.0).z_nm, Z - 50)
    assert stack.moved(-50.0).photons is stack.photons


# ---------------------------------------------------------------------------------------------------------------------- saturated


def test_the_full_scale_of_a_camera_is_saturation() -> None:
    counts = np.minimum(bead_counts(photons=(30_000, 30_000, 150_000)), 4095)
    stack = of(counts)
    rows, columns = np.nonzero(stack.saturated)
    assert len(rows) > 3
    assert np.abs(rows - 35).max() < 5  # those of the bright bead alone
    assert np.abs(columns - 24).max() < 5


def test_pixels_that_stay_at_a_largest_value_are_saturated() -> None:
    counts = bead_counts(photons=(30_000, 30_000, 150_000))
    assert not of(counts).saturated.any()
    assert of(np.minimum(counts, 3000)).saturated.any()


def test_equal_largest_values_of_dim_stacks_are_chance() -> None:
    counts = np.minimum(bead_counts(photons=300), 130)
    assert not of(counts).saturated.any()


# -------------------------------------------------------------------------------------------------------------- stacks and movies


@pytest.mark.parametrize("per_px", [0.002, 0.01, 0.05])
def test_a_movie_of_blinking_molecules_is_refused(simulate, per_px: float) -> None:
    movie = simulate(np.random.default_rng(1), 40, (48, 48), width_px=1.3, per_px=per_px, photons=1500, background=20, gain=2)
    refused(movie.astype(np.float32), 10.0 * np.arange(40), "not a movie of blinking molecules")


@pytest.mark.parametrize("photons", [1500.0, 30_000.0, 300_000.0])
def test_still_beads_are_no_movie_however_dim(photons: float) -> None:
    assert of(bead_counts(photons=photons)).photons.shape == (13, 1, 48, 48)


def test_a_stack_without_light_is_left_to_the_search_for_beads() -> None:
    """It is no movie either: there is nothing in it that could blink."""
    assert of(bead_counts(photons=0)).zeros == 0
    counts = np.full((13, 20, 20), 100.0)
    assert float(of(counts).photons.abs().max()) == 0


def test_pixels_cut_off_below_are_counted() -> None:
    counts = bead_counts().copy()
    counts[:, :, ::4] = 0
    assert of(counts).zeros == pytest.approx(0.25)


# ------------------------------------------------------------------------------------------------------------------------- camera


@pytest.mark.parametrize(("offset", "electrons_per_count"), [(100.0, 0.5), (400.0, 2.2)])
def test_offset_and_gain_are_measured(offset: float, electrons_per_count: float) -> None:
    camera = SCMOSSettings(offset_counts=offset, electrons_per_count=electrons_per_count, read_noise_electrons=1.0).build()
    counts = bead_counts(z_nm=np.linspace(-600, 600, 41), camera=camera, background=20.0)
    found, gain = measure_camera(counts)
    assert gain.value == pytest.approx(1 / electrons_per_count, rel=0.1)
    assert gain.low < gain.value < gain.high
    assert found == pytest.approx(offset, abs=4 / electrons_per_count)


def test_the_gain_of_pictures_of_several_focal_planes() -> None:
    counts = bead_counts(z_nm=np.linspace(-600, 600, 31))
    _, gain = measure_camera(np.stack((counts, counts[:, ::-1]), 1))
    assert gain.value == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (np.ones((7, 20, 20)), "7 planes are too few"),
        (np.full((13, 20, 20), 100.0), "too even"),
        (
            np.random.default_rng(0).normal(
                np.linspace(500, 1000, 400).reshape(20, 20), np.linspace(40, 4, 400).reshape(20, 20), (13, 20, 20)
            ),
            "does not grow",
        ),
    ],
    ids=["few", "even", "falling"],
)
def test_a_camera_that_cannot_be_measured_is_one_line(counts: np.ndarray, words: str) -> None:
    with pytest.raises(CalibrationError, match=f"{words}.*--camera") as error:
        measure_camera(counts)
    assert "\n" not in str(error.value)
