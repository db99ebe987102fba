"""Emitters whose images overlap: pairs are told apart, lone ones stay alone, and each decision is on record."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from denseloc.camera import Ideal
from denseloc.data import Emitters, Frames, Grid, Localizations
from denseloc.description import parse
from denseloc.errors import DocumentError, ModelError
from denseloc.localize import InputConditions, Multi, MultiSettings, Scales
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, GaussianSettings, PSFSettings

PIXEL_NM = (110.0, 100.0)
WIDTH_NM = 135.0
GAUSSIAN = GaussianSettings(width_nm=WIDTH_NM, roi_px=21)
SIDE = 24
BACKGROUND = 10.0


def multi(psf: PSFSettings = GAUSSIAN, **settings: object) -> Multi:
    conditions = InputConditions(BACKGROUND, 1.0, 0.0, WIDTH_NM / (PIXEL_NM[0] * PIXEL_NM[1]) ** 0.5)
    values = parse(MultiSettings, {"kind": "multi", "psf": psf, **settings}, "example")
    return values.build(Scales(PIXEL_NM, 0.0, 1000.0, 1, conditions))


def movie(
    frame: torch.Tensor, x_nm: torch.Tensor, y_nm: torch.Tensor, n: int, photons: float, side: int = SIDE, seed: int = 3
) -> Frames:
    """Draw n frames with emitters of as many photons each."""
    emitters = Emitters.of(frame, x_nm, y_nm, torch.full((len(frame),), photons))
    microscope = Microscope(GAUSSIAN.build(PIXEL_NM), Ideal(), Grid((side, side), PIXEL_NM))
    with torch.no_grad():
        light = microscope.expected(emitters, torch.full((n, 1, side, side), BACKGROUND))
    return Frames(torch.poisson(light, generator=torch.Generator().manual_seed(seed)), PIXEL_NM)


def pairs(n: int, apart_nm: float, photons: float, seed: int = 1) -> tuple[Frames, np.ndarray]:
    """Draw a pair in each frame, in any direction: frames, and the truth (n, 2, 2) x, y."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.tensor((PIXEL_NM[1], PIXEL_NM[0])) * (0.5 * SIDE + torch.rand(n, 2, generator=generator) - 0.5)
    turn = math.pi * torch.rand(n, generator=generator)
    half = 0.5 * apart_nm * torch.stack((turn.cos(), turn.sin()), 1)
    truth = torch.stack((middle - half, middle + half), 1)
    frame = torch.arange(n).repeat_interleave(2)
    return movie(frame, truth[..., 0].flatten(), truth[..., 1].flatten(), n, photons), truth.numpy()


def lone(n: int, photons: float, seed: int = 2) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    at = torch.tensor((PIXEL_NM[1], PIXEL_NM[0])) * (0.5 * SIDE + torch.rand(n, 2, generator=generator) - 0.5)
    return movie(torch.arange(n), at[:, 0], at[:, 1], n, photons)


def found_each(table: Localizations, n: int) -> np.ndarray:
    return np.bincount(table.frame, minlength=n)


def test_pairs_two_widths_apart_are_two() -> None:
    n = 150
    frames, truth = pairs(n, 2 * WIDTH_NM, 3000.0)
    table = multi()(frames)
    counts = found_each(table, n)
    assert (counts == 2).mean() > 0.985  # those that once were three had their likelihoods on different pixels
    pulls = []
    for k in np.flatnonzero(counts == 2):
        rows = np.flatnonzero(table.frame == k)
        found = np.stack((table.x_nm[rows], table.y_nm[rows]), 1)
        straight = ((found - truth[k]) ** 2).sum() < ((found - truth[k, ::-1]) ** 2).sum()
        error = found - truth[k] if straight else found - truth[k, ::-1]
        pulls.append(error / np.stack((table.sigma_x_nm[rows], table.sigma_y_nm[rows]), 1))
    assert np.std(np.array(pulls)) == pytest.approx(1.0, abs=0.1)
    assert abs(np.mean(pulls)) < 0.1


def test_pairs_that_are_one_to_the_light_are_one() -> None:
    frames, _ = pairs(60, 0.1 * WIDTH_NM, 1000.0)
    assert (found_each(multi()(frames), 60) == 1).mean() > 0.95


@pytest.mark.parametrize(("rate", "significance"), [(1e-3, 5.0), (0.05, 3.0)])
def test_one_is_not_called_two_more_often_than_is_stated(rate: float, significance: float) -> None:
    """The rate is that of one place; further off each frame has many where noise may look like an emitter."""
    n = 400
    table = multi(false_positive_rate=rate, significance=significance)(lone(n, 2000.0))
    near = np.hypot(table.x_nm - 50 * SIDE, table.y_nm - 55 * SIDE) < 3 * WIDTH_NM
    counts = np.bincount(table.frame[near], minlength=n)
    assert (counts >= 1).all()
    assert (counts > 1).mean() < rate + 3 * math.sqrt(rate / n)


def test_noise_holds_no_emitters() -> None:
    nothing = torch.zeros(0)
    frames = movie(nothing.long(), nothing, nothing, 40, 1.0, side=48)
    assert len(multi()(frames)) == 0


def test_decisions_are_recorded() -> None:
    frames, truth = pairs(1, 3 * WIDTH_NM, 3000.0)
    frames = Frames(frames.photons, PIXEL_NM, first_frame=17)
    crowd = multi().crowd(frames)
    fits = crowd.grow(crowd.none(), (0, 1))
    added = [d for d in crowd.decisions if d.what == "added"]
    assert len(added) == len(fits) == 2
    assert all(d.frame == 17 and d.statistic > d.threshold > 0 for d in added)
    middle = truth[0].mean(0)
    assert all(np.hypot(d.x_nm - middle[0], d.y_nm - middle[1]) < 3 * WIDTH_NM for d in added)
    assert added[0].threshold >= added[1].threshold
    extra = crowd.joint.fit(
        type(fits).concat((fits, crowd.none().beginning(fits.frame[:1], fits.at[:1] + 0.9, fits.background[:1]))), max_iterations=60
    )
    kept, row = crowd.prune(extra)
    removed = [d for d in crowd.decisions if d.what in ("removed", "merged")]
    assert len(kept) == 2
    assert len(row) == 2
    assert [d.what for d in removed] == ["merged"]
    assert removed[0].statistic < removed[0].threshold == pytest.approx(chi2.isf(1e-3, 3))
    assert len(crowd.settled(kept)) == 2


def test_those_that_do_not_converge_are_left_out_and_noted() -> None:
    frames, _ = pairs(1, 3 * WIDTH_NM, 3000.0)
    crowd = multi().crowd(frames)
    fits = crowd.none().beginning(
        torch.zeros(2, dtype=torch.long), torch.tensor([[11.0, 11.0, 2000.0], [-40.0, 5.0, 100.0]]), torch.full((2, 1), 10.0)
    )
    left = crowd.settled(fits)
    assert len(left) == 1
    assert [d.what for d in crowd.decisions] == ["not converged"]
    assert math.isnan(crowd.decisions[0].statistic)


def crowded(n: int = 6) -> Frames:
    generator = torch.Generator().manual_seed(9)
    frame = torch.arange(n).repeat_interleave(10)
    x, y = (torch.rand(10 * n, generator=generator) * p * 32 for p in (PIXEL_NM[1], PIXEL_NM[0]))
    return movie(frame, x, y, n, 2000.0, side=32)


def test_blocks_of_frames_do_not_matter() -> None:
    frames = crowded()
    whole = multi()(frames)
    assert len(whole) > 40
    parts = [multi()(frames, keep=(i, i + 2)) for i in (0, 2, 4)]
    cut = [multi()(Frames(frames.photons[i : i + 3], PIXEL_NM, first_frame=i)) for i in (0, 3)]
    for other in (Localizations.concat(parts), Localizations.concat(cut)):
        assert len(other) == len(whole)
        for name, values in whole.columns.items():
            np.testing.assert_array_equal(other.columns[name], values, err_msg=name)


def test_places_are_those_of_the_field() -> None:
    frames = crowded(2)
    here = multi()(frames)
    there = multi()(Frames(frames.photons, PIXEL_NM, origin_px=(100, 300), first_frame=5))
    np.testing.assert_allclose(there.x_nm, here.x_nm + 300 * PIXEL_NM[1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(there.y_nm, here.y_nm + 100 * PIXEL_NM[0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(there.frame, here.frame + 5)
    assert (here.x_nm >= 0).all()
    assert (here.x_nm <= 32 * PIXEL_NM[1]).all()


def test_crowds_are_found_and_said_truly() -> None:
    generator = torch.Generator().manual_seed(11)
    n = 30
    frame = torch.arange(n).repeat_interleave(6)
    x, y = (p * (4 + 24 * torch.rand(6 * n, generator=generator)) for p in (PIXEL_NM[1], PIXEL_NM[0]))
    table = multi()(movie(frame, x, y, n, 3000.0, side=32))
    assert len(table) / (6 * n) > 0.85
    hits = 0
    for k in range(n):
        rows = table.frame == k
        distance = np.hypot(table.x_nm[rows][:, None] - x[frame == k].numpy(), table.y_nm[rows][:, None] - y[frame == k].numpy())
        hits += int((distance.min(1) < 60).sum())
    assert hits / len(table) > 0.97
    assert 0.3 < np.mean(table.p_value) < 0.7


def test_depth_is_found_in_pairs() -> None:
    psf = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=25)
    place = torch.tensor([[1000.0, 1300.0, -150.0], [1550.0, 1400.0, 200.0]])
    emitters = Emitters.of(torch.zeros(2, dtype=torch.long), place[:, 0], place[:, 1], torch.full((2,), 5000.0), place[:, 2])
    microscope = Microscope(psf.build(PIXEL_NM), Ideal(), Grid((26, 26), PIXEL_NM))
    with torch.no_grad():
        frames = Frames(microscope.expected(emitters, torch.full((1, 1, 26, 26), BACKGROUND)), PIXEL_NM)
    table = multi(psf, z_range_nm=(-600.0, 600.0))(frames)
    assert len(table) == 2
    order = np.argsort(table.x_nm)
    np.testing.assert_allclose(table.x_nm[order], place[:, 0].numpy(), atol=1.0)
    np.testing.assert_allclose(table.z_nm[order], place[:, 2].numpy(), atol=5.0)


def test_what_does_not_suit_is_refused() -> None:
    localizer = multi()
    localizer.threshold = 0.5
    with pytest.raises(ModelError, match="no probabilities"):
        localizer(crowded(1))
    with pytest.raises(ModelError, match="the PSF has 1 planes, the frames have 2"):
        multi()(Frames(torch.zeros(1, 2, 24, 24), PIXEL_NM))
    with pytest.raises(DocumentError, match="window_px must be odd"):
        multi(window_px=10)
