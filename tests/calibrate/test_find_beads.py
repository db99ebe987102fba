"""Beads are found in the mean of a stack; each that cannot be used says why not."""

from __future__ import annotations

import numpy as np
import pytest

from bead_stacks import CAMERA, Z, bead_stack
from denseloc.calibrate.beads import Bead, find_beads
from denseloc.calibrate.stack import BeadStack
from denseloc.errors import CalibrationError
from denseloc.optics import DoubleHelixSettings, GaussianSettings

ROI = 13
GAUSSIAN = GaussianSettings(width_nm=140, depth_nm=400, roi_px=21)


def field(*beads: tuple[float, float], light: float | list[float] = 30_000.0, side: int = 64, **how: object) -> BeadStack:
    """Draw beads whose middles are at these rows and columns."""
    places = [((column + 0.5) * 100.0, (row + 0.5) * 100.0) for row, column in beads]
    return bead_stack(GAUSSIAN, places=places, photons=light, side=side, **how)


def reasons(beads: list[Bead]) -> dict[tuple[int, int], str]:
    """Give the reasons by the places rounded to 10 px."""
    return {(round(bead.row, -1), round(bead.column, -1)): bead.reason or "" for bead in beads}


def test_lone_beads_are_used() -> None:
    beads = find_beads([field((20, 20), (40, 10), (50, 50))], ROI)
    assert [bead.reason for bead in beads] == [None] * 3
    assert sorted((bead.row, bead.column) for bead in beads) == [(20, 20), (40, 10), (50, 50)]
    assert {bead.stack for bead in beads} == {0}


def test_one_bead_is_enough() -> None:
    (bead,) = find_beads([field((30, 31))], ROI)
    assert (bead.row, bead.column, bead.reason) == (30, 31, None)


def test_beads_near_the_edge_or_another_are_left_out() -> None:
    found = reasons(find_beads([field((20, 20), (4, 40), (50, 30), (50, 39))], ROI))
    assert found[20, 20] == ""
    assert found[0, 40] == "too near to the edge"
    assert found[50, 30] == found[50, 40] == "too near to another: 9 px"


def test_the_patch_may_touch_the_edge() -> None:
    """The middle pixel needs half of a patch beside it, and no more."""
    fits, cut = field((6, 30)), field((5, 30), (40, 40))
    assert find_beads([fits], ROI)[0].reason is None
    assert reasons(find_beads([cut], ROI))[0, 30] == "too near to the edge"


def test_dim_and_bright_beads_are_left_out() -> None:
    places = [(10, 10), (10, 30), (10, 50), (30, 10), (30, 30)]
    beads = reasons(find_beads([field(*places, light=[30_000, 30_000, 30_000, 30_000 * 7, 30_000])], ROI))
    assert beads[30, 10].startswith("too bright for one bead: 6.") or beads[30, 10].startswith("too bright for one bead: 7.")
    assert sum(not reason for reason in beads.values()) == 4
    beads = reasons(find_beads([field(*places, light=[30_000, 30_000, 30_000, 4500, 30_000])], ROI))
    assert beads[30, 10].startswith("too dim: 1")
    assert beads[30, 10].endswith("% of the usual light")
    assert sum(not reason for reason in beads.values()) == 4


@pytest.mark.parametrize("apart", [5, 6])
def test_two_beads_side_by_side_are_left_out(apart: int) -> None:
    beads = reasons(find_beads([field((20, 20), (20, 48), (50, 28), (50, 28 + apart))], ROI))
    assert (beads[20, 20], beads[20, 50]) == ("", "")
    assert beads[50, 30] == f"two side by side: {apart} px apart"


@pytest.mark.parametrize("turn", [-90.0, 0.5])
def test_lobes_of_a_double_helix_are_not_taken_for_two_beads(turn: float) -> None:
    """Not where they turn with depth, and not where they stand still, because all beads look so."""
    helix = DoubleHelixSettings(width_nm=150, separation_nm=800, turn_deg_per_um=turn, angle_deg=20, depth_nm=900, roi_px=25)
    beads = find_beads([bead_stack(helix)], 21)
    assert [bead.reason for bead in beads] == [None] * 3


def test_a_saturated_bead_is_left_out() -> None:
    stack = field((20, 20), (20, 45), (48, 30), light=[15_000, 15_000, 50_000])
    counts = np.minimum(stack.photons[:, 0].numpy() / 0.5 + 100, 4095)
    beads = reasons(find_beads([BeadStack.of(counts, Z, CAMERA.build(), "beads.tif")], ROI))
    assert beads[50, 30].startswith("saturated: ")
    assert beads[50, 30].endswith(" pixels")
    assert (beads[20, 20], beads[20, 40]) == ("", "")


def test_a_stack_without_usable_beads_beside_a_good_one() -> None:
    beads = find_beads([field((3, 30), name="edge.tif"), field((30, 30), name="good.tif")], ROI)
    assert [(bead.stack, bead.reason is None) for bead in beads] == [(0, False), (1, True)]


@pytest.mark.parametrize(
    ("beads", "words"),
    [
        ((), r"beads.tif: no bead found; expected bright spots"),
        (
            ((3, 30),),
            r"no usable bead: 1 found, 1 too near to the edge; give a stack with lone beads 6 px from the edge, or a smaller roi_px .--roi-px.",
        ),
        (((30, 26), (30, 35)), r"no usable bead: 2 found, 2 too near to another; give"),
        (((30, 28), (30, 33)), r"no usable bead: 1 found, 1 two side by side; give"),
    ],
    ids=["none", "edge", "touching", "pair"],
)
def test_no_usable_bead_is_one_line(beads: tuple[tuple[float, float], ...], words: str) -> None:
    with pytest.raises(CalibrationError, match=words) as error:
        find_beads([field(*beads)], ROI)
    assert "\n" not in str(error.value)


def test_nothing_but_saturated_beads_asks_for_less_light() -> None:
    stack = field((30, 30))
    counts = np.minimum(stack.photons[:, 0].numpy() / 0.5 + 100, 1023)
    with pytest.raises(CalibrationError, match="1 saturated; lower the exposure"):
        find_beads([BeadStack.of(counts, Z, CAMERA.build())], ROI)
