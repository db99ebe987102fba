"""Bounds over depth and in a crowd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denseloc.errors import DocumentError
from denseloc.fit import Light, bounds_in_crowd, bounds_over_depth, expectation
from denseloc.optics import AstigmaticSettings, GaussianSettings

PIXEL = (100.0, 100.0)


def test_a_bright_lone_emitter_reaches_the_closed_form() -> None:
    """Without background the bound is the second moment of the PSF and the pixel over the photons."""
    psf = GaussianSettings(width_nm=200, roi_px=21).build(PIXEL)
    found = bounds_over_depth(psf, np.array([0.0]), Light(photons=1e4, background=1e-6))
    assert found.z_nm is None
    assert found.x_nm[0] == pytest.approx(np.sqrt((200**2 + 100**2 / 12) / 1e4), rel=0.01)
    twice = bounds_over_depth(psf, np.array([0.0]), Light(photons=1e4, background=1e-6, excess=2.0))
    assert twice.x_nm[0] == pytest.approx(np.sqrt(2) * found.x_nm[0], rel=1e-3)


def test_astigmatism_swaps_x_and_y_through_focus() -> None:
    psf = AstigmaticSettings(width_nm=140, focus_a_nm=-200, focus_b_nm=200, depth_nm=350, roi_px=21).build(PIXEL)
    found = bounds_over_depth(psf, np.array([-300.0, 300.0]), Light(2000, 20))
    assert found.z_nm is not None
    np.testing.assert_allclose(found.x_nm, found.y_nm[::-1], rtol=1e-3)
    assert found.x_nm[0] < found.y_nm[0]


def test_neighbours_cost_precision_and_dim_ones_are_not_told_apart() -> None:
    psf = GaussianSettings(width_nm=140, roi_px=15).build(PIXEL)
    light = Light(1000, 20)
    alone = bounds_over_depth(psf, np.array([0.0]), light)
    sparse, dense = (bounds_in_crowd(psf, d, (0.0, 0.0), light, torch.Generator().manual_seed(0), scenes=80) for d in (1e-4, 4.0))
    assert sparse.found == 1.0
    assert sparse.lateral_nm == pytest.approx(float(np.hypot(alone.x_nm[0], alone.y_nm[0]) / np.sqrt(2)), rel=0.05)
    assert dense.lateral_nm > 1.5 * sparse.lateral_nm
    dim = bounds_in_crowd(psf, 4.0, (0.0, 0.0), Light(100, 20), torch.Generator().manual_seed(0), scenes=80)
    assert dim.found < dense.found < 1.0


@pytest.mark.parametrize("around_px", [1, 4])
def test_neither_patch_nor_scene_decides_what_is_told_apart(monkeypatch: pytest.MonkeyPatch, around_px: int) -> None:
    light = Light(1000.0, 10.0)
    psfs = [GaussianSettings(width_nm=130, roi_px=roi).build(PIXEL) for roi in (13, 27)]
    usual, wide = (bounds_in_crowd(psf, 5.0, (0.0, 0.0), light, torch.Generator().manual_seed(0), 200).found for psf in psfs)
    assert usual == wide
    monkeypatch.setattr(expectation, "AROUND_PX", around_px)
    other = bounds_in_crowd(psfs[0], 5.0, (0.0, 0.0), light, torch.Generator().manual_seed(0), 200).found
    assert other == pytest.approx(usual, abs=0.08)


def test_more_neighbours_than_can_be_reckoned_are_refused() -> None:
    wide = GaussianSettings(width_nm=500, roi_px=41).build(PIXEL)
    with pytest.raises(
        DocumentError, match=r"100 emitters per um\^2 put \d+ neighbours into \d+ px around an emitter; expected 150 at most"
    ):
        bounds_in_crowd(wide, 100.0, (0.0, 0.0), Light(1000.0, 10.0), torch.Generator())
