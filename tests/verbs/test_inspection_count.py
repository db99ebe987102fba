"""The density of an inspection, counted by the shipped model, and when the statistics of the pixels stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from denseloc.calibrate.conditions import Conditions, Estimate
from denseloc.data import Movie, movie_from_array
from denseloc.experiment import Experiment
from denseloc.preparation import parse_camera
from denseloc.verbs.inspection_count import LEAST_PROBABILITY, count_molecules

SIZE = (100.0, 100.0)
ROUND = {"kind": "gaussian", "width_nm": 130, "roi_px": 15}
DEEP = {"kind": "astigmatic", "width_nm": 130, "focus_a_nm": -250, "focus_b_nm": 250, "depth_nm": 400, "roi_px": 19}


def simulate(psf: dict[str, Any], density: float, z_nm: float = 0.0, frames: int = 60) -> tuple[Movie, float]:
    """Draw a movie of 48 x 48 px with a camera of 2 counts per photon, and say how many emitters per um^2 its frames hold."""
    specimen = {
        "density_per_um2": density,
        "z_nm": [-z_nm, z_nm],
        "photons": {"kind": "gamma", "mean": 2000, "sd": 1000},
        "background": {"kind": "uniform", "photons": 20},
        "blinking": {"kind": "exponential", "lifetime_frames": 2},
    }
    camera = {"kind": "scmos", "offset_counts": 100, "electrons_per_count": 0.5, "read_noise_electrons": 1.5}
    document = Experiment.from_json({"pixel_size_nm": 100, "psf": psf, "camera": camera, "specimen": specimen})
    generator = torch.Generator().manual_seed(3)
    microscope, drawn = document.build_microscope((48, 48)), document.build_specimen((48, 48))
    emitters, background = drawn.draw(frames, generator), drawn.draw_background(1, generator)
    with torch.no_grad():
        counts = microscope.sample(emitters, background.expand(frames, -1, -1, -1), generator)[:, 0]
    inside = (emitters.x_nm >= 0) & (emitters.x_nm < 4800) & (emitters.y_nm >= 0) & (emitters.y_nm < 4800)
    return movie_from_array(counts.numpy().round().astype(np.uint16)), int(inside.sum()) / frames / 4.8**2


def conditions(density: float, low: float, high: float, **more: Estimate) -> Conditions:
    """Say what such a movie was taken under, as pixel statistics would, with the density that they are to state."""
    entries = {
        "offset_counts": known(100.0),
        "counts_per_photon": known(2.0),
        "excess": known(1.0),
        "noise_variance": known(2.25),
        "background": known(20.0),
        "width_nm": known(130.0),
        "density_per_um2": Estimate(
            density, low, high, "emitters per um^2 and frame", "measured", "from the histogram of the pixels"
        ),
        "photons": known(1500.0),
    }
    return Conditions(background_range=(19.0, 21.0), **{**entries, **more})


def known(value: float) -> Estimate:
    return Estimate(value, 0.97 * value, 1.03 * value, "", "measured")


@pytest.fixture(scope="module")
def movie() -> tuple[Movie, float]:
    return simulate(ROUND, 0.5)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.5])
def test_the_model_counts_and_its_interval_holds_the_truth(density: float) -> None:
    counts, truth = simulate(ROUND, density)
    found = conditions(0.85 * truth, 0.3 * truth, 1.6 * truth)
    counted = count_molecules(counts, SIZE, found, None, False)
    entry = counted.conditions.density_per_um2
    assert entry.value == pytest.approx(truth, rel=0.1)
    assert entry.low < truth < entry.high < 1.45 * truth
    assert entry.how == "as counted by localizing 58 frames with the model general-2d"
    assert counted.conditions.photons.how == entry.how
    assert counted.pixels == found.density_per_um2
    assert counted.notes == ()


def test_it_counts_the_same_again(movie: tuple[Movie, float]) -> None:
    found = conditions(0.5, 0.3, 0.9)
    once, again = (count_molecules(movie[0], SIZE, found, None, False).conditions for _ in range(2))
    assert once.density_per_um2 == again.density_per_um2
    assert once.photons == again.photons


def test_a_given_camera_turns_counts_into_photons(movie: tuple[Movie, float]) -> None:
    camera = parse_camera("offset=100,electrons_per_count=0.5,read_noise=1.5")
    found = conditions(0.5, 0.3, 0.9, offset_counts=known(0.0), counts_per_photon=known(20.0))  # what was measured is not looked at
    counted = count_molecules(movie[0], SIZE, found, camera, False)
    assert counted.conditions.density_per_um2.value == pytest.approx(movie[1], rel=0.1)


def test_photons_are_unsure_where_the_excess_is_assumed(movie: tuple[Movie, float]) -> None:
    sure, unsure = (
        count_molecules(movie[0], SIZE, conditions(0.5, 0.3, 0.9, excess=excess), None, False).conditions.photons
        for excess in (Estimate(1.0, 1.0, 1.0, "", "measured"), Estimate(1.0, 1.0, 2.0, "", "assumed"))
    )
    assert unsure.value == sure.value
    assert unsure.high == pytest.approx(2 * sure.high)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (conditions(0.5, 0.3, 0.9, width_nm=known(320.0)), "the PSF is 3.20 px wide"),
        (conditions(0.5, 0.3, 0.9, photons=known(60.0)), "emitters have about 60 photons"),
        (conditions(9.0, 8.5, 10.0), "emitter density is about 8.5"),
        (conditions(4.8, 4.4, 5.3, width_nm=known(180.0)), "more than its count was measured for (1.8)"),
        (conditions(0.1, 0.08, 0.12), "which is too far from them"),
        (conditions(1.9, 1.7, 2.2), "which is too far from them"),
    ],
)
def test_the_pixels_stay_outside_of_the_range_and_where_both_disagree(
    movie: tuple[Movie, float], found: Conditions, words: str
) -> None:
    counted = count_molecules(movie[0], SIZE, found, None, False)
    assert counted.conditions is found
    assert counted.pixels is None
    (note,) = counted.notes
    assert words in note
    assert note.startswith("the density is from statistics of the pixels, not counted by the model general-2d: ")


def test_the_pixels_stay_where_depth_is_told_by_a_psf_or_planes(movie: tuple[Movie, float]) -> None:
    found = conditions(0.5, 0.3, 0.9)
    (note,) = count_molecules(movie[0], SIZE, found, None, True).notes
    assert "no spots that change with depth" in note
    counted = count_molecules(movie[0].with_planes(2), SIZE, found, None, False)
    assert counted.conditions is found
    assert "it sees one plane" in counted.notes[0]


def test_frames_without_neighbours_are_not_counted(movie: tuple[Movie, float]) -> None:
    (note,) = count_molecules(movie[0].crop((10, 12)), SIZE, conditions(0.5, 0.3, 0.9), None, False).notes
    assert note.endswith("it needs frames with neighbours")


def test_spots_of_another_shape_are_not_counted() -> None:
    counts, truth = simulate(DEEP, 0.3, z_nm=500.0)
    found = conditions(truth, 0.3 * truth, 5 * truth, width_nm=known(165.0))
    counted = count_molecules(counts, SIZE, found, None, False)
    assert counted.conditions is found
    assert "spots of another shape" in counted.notes[0]


def test_a_higher_count_of_round_spots_is_believed(movie: tuple[Movie, float]) -> None:
    found = conditions(0.5 * movie[1], 0.2 * movie[1], 1.5 * movie[1])
    assert count_molecules(movie[0], SIZE, found, None, False).notes == ()


def test_nothing_is_counted_where_no_molecules_were_seen(movie: tuple[Movie, float]) -> None:
    found = conditions(0.0, 0.0, 0.1, width_nm=replace(known(130.0), source="assumed"))
    counted = count_molecules(movie[0], SIZE, found, None, False)
    assert counted.conditions is found
    assert counted.notes == ()


def test_what_is_hardly_probable_does_not_count(movie: tuple[Movie, float], monkeypatch: pytest.MonkeyPatch) -> None:
    found = conditions(0.5, 0.3, 0.9)
    least = count_molecules(movie[0], SIZE, found, None, False).conditions.density_per_um2.value
    monkeypatch.setattr("denseloc.verbs.inspection_count.LEAST_PROBABILITY", 0.95)
    most = count_molecules(movie[0], SIZE, found, None, False).conditions.density_per_um2.value
    assert LEAST_PROBABILITY < 0.95
    assert most < 0.97 * least
