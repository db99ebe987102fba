"""Training batches: windows, their inner frames' truth, and what the localizer is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from denseloc.experiment import Experiment
from denseloc.train import Simulator


def simulator(document: dict[str, Any], **training: Any) -> Simulator:
    values = {**document, "training": {**document["training"], "patch_px": 20, "frames": 5, **training}}
    experiment = Experiment.from_json(values)
    return experiment.build_simulator(experiment.build_localizer())


def test_shapes_and_places(tiny_document: dict[str, Any], generator: torch.Generator) -> None:
    batch = simulator(tiny_document).draw(6, generator)
    assert batch.photons.shape == (6, 5, 1, 20, 20)
    assert batch.background.shape == (18, 1, 20, 20)
    assert batch.conditions.shape == (6, 4)
    assert batch.absent.shape == (6,)
    e = batch.emitters
    assert len(e) > 10
    assert e.frame.min() >= 0
    assert e.frame.max() <= 17
    for at in (e.x_nm, e.y_nm):
        assert ((at >= 0) & (at < 2000)).all()


def test_the_truth_belongs_to_the_inner_frames(tiny_document: dict[str, Any], generator: torch.Generator) -> None:
    """The light at true emitters of inner frames stands out in just these frames."""
    batch = simulator(tiny_document).draw(40, generator)
    inner = batch.photons[:, 1:-1, 0].flatten(0, 1)
    e = batch.emitters
    row, column = (e.y_nm / 100).long(), (e.x_nm / 100).long()
    here = inner[e.frame, row, column]
    assert (here > 30).float().mean() > 0.99
    assert inner.median() < 20
    lit = torch.zeros_like(inner, dtype=torch.bool)
    reach = torch.arange(-5, 6)
    rows, columns = (row[:, None, None] + reach[:, None]).clamp(0, 19), (column[:, None, None] + reach).clamp(0, 19)
    lit[e.frame[:, None, None], rows, columns] = True
    middle = torch.zeros(20, 20, dtype=torch.bool)
    middle[7:13, 7:13] = True  # farther from the edge than light of emitters outside reaches
    assert inner[~lit & middle].max() < 40


def test_equal_generators_give_equal_batches(tiny_document: dict[str, Any]) -> None:
    s = simulator(tiny_document)
    one, two, other = (s.draw(3, torch.Generator().manual_seed(seed)).photons for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_localizer_that_is_not_told_gets_its_own_conditions(tiny_document: dict[str, Any], generator: torch.Generator) -> None:
    batch = simulator(tiny_document).draw(4, generator)
    experiment = Experiment.from_json(tiny_document)
    torch.testing.assert_close(batch.conditions, experiment.build_localizer().scales.reference.tensor(4))


def test_a_localizer_that_is_told_hears_of_each_movie(tiny_document: dict[str, Any], generator: torch.Generator) -> None:
    document = {
        **tiny_document,
        "camera": {"kind": "various"},
        "localizer": {"kind": "decode", "preset": "tiny", "conditioned": True},
        "specimen": {**tiny_document["specimen"], "background": {"kind": "uniform", "photons": [5.0, 100.0]}},
    }
    batch = simulator(document, psf_scale=(0.8, 1.6)).draw(200, generator)
    background, excess, noise, width = batch.conditions.unbind(1)
    true = batch.background.unflatten(0, (200, 3)).mean((1, 2, 3, 4))
    assert ((background / true).log().std() - 0.05).abs() < 0.01  # told with an error of 5 %
    assert set(excess.tolist()) == {1.0, 2.0}
    assert noise.min() > 0
    assert 0.6 * 1.3 < width.min() < 0.9 * 1.3
    assert 1.4 * 1.3 < width.max() < 2.0 * 1.3


def test_the_psf_scale_widens_the_images(tiny_document: dict[str, Any], generator: torch.Generator) -> None:
    document = {**tiny_document, "camera": {"kind": "ideal"}}
    peak = {}
    for scale in (1.0, 1.5):
        batch = simulator(document, psf_scale=(scale, scale * 1.0001)).draw(60, generator)
        peak[scale] = batch.photons.flatten(1).max(1).values.median()
    assert (peak[1.0] / peak[1.5]).item() == pytest.approx(1.5**2, rel=0.35)


def test_lone_windows(tiny_document: dict[str, Any], generator: torch.Generator) -> None:
    assert not simulator(tiny_document, lone_fraction=0.0).draw(20, generator).absent.any()
    assert simulator(tiny_document, lone_fraction=1.0).draw(20, generator).absent.all()


def test_later_planes_are_shifted_against_the_first(tiny_document: dict[str, Any]) -> None:
    """The light of one emitter lies elsewhere in each plane of a window, by no more than the limit; the truth is where the first plane shows it."""
    psf = {"kind": "multiplane", "width_nm": 130.0, "plane_focus_nm": [0.0, 0.0, 0.0], "depth_nm": 400.0, "roi_px": 9}
    specimen = {**tiny_document["specimen"], "density_per_um2": 0.1, "photons": {"kind": "constant", "photons": 3e6}}
    document = {**tiny_document, "psf": psf, "specimen": specimen, "localizer": {"kind": "voxel_wise", "preset": "tiny"}}

    def centres(limit: float) -> tuple[torch.Tensor, torch.Tensor]:
        batch = simulator(document, frames=2, plane_shift_nm=limit).draw(900, torch.Generator().manual_seed(4))
        e = batch.emitters
        lone = (
            (torch.bincount(e.frame, minlength=1800)[e.frame] == 1)
            & (e.x_nm > 700)
            & (e.x_nm < 1300)
            & (e.y_nm > 700)
            & (e.y_nm < 1300)
        )
        one = e.select(lone)
        row, column = ((at / 100).long() for at in (one.y_nm, one.x_nm))
        reach = torch.arange(-4, 5)
        frame = batch.photons.flatten(0, 1)[one.frame]
        light = torch.stack([f[:, r - 4 : r + 5, c - 4 : c + 5] for f, r, c in zip(frame, row, column, strict=True)])
        x, y = (light.sum(axis) @ reach.float() / light.sum((2, 3)) for axis in (2, 3))
        off = torch.stack((x - (one.x_nm / 100 - 0.5 - column)[:, None], y - (one.y_nm / 100 - 0.5 - row)[:, None]), 2)
        return 100 * off, one.frame // 2

    still, _ = centres(0.0)
    assert still.shape[0] > 20
    moved, window = centres(60.0)
    assert still[:, 1:].abs().median() < 4
    assert moved[:, 0].abs().median() < 4
    assert 25 < moved[:, 1:].std() < 45
    assert moved[:, 1:].abs().quantile(0.9) < 65
    same = (window[1:] == window[:-1]).nonzero()[:, 0]
    torch.testing.assert_close(moved[same], moved[same + 1], rtol=0, atol=12)


def test_one_plane_is_not_shifted(tiny_document: dict[str, Any]) -> None:
    one, other = (simulator(tiny_document, plane_shift_nm=d).draw(2, torch.Generator().manual_seed(1)).photons for d in (0.0, 80.0))
    assert torch.equal(one, other)
