"""Deep-STORM and DeepSTORM3D: the papers' sizes, losses that mean what they say, pictures, memory, depths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from denseloc.data import Emitters, Frames
from denseloc.errors import DocumentError, ModelError, TrainingError
from denseloc.experiment import Experiment
from denseloc.localize import (
    DecodeSettings,
    DeepStorm,
    DeepStorm3D,
    DeepStorm3DSettings,
    DeepStormSettings,
    InputConditions,
    Scales,
)
from denseloc.localize.on_voxels import OnVoxels
from denseloc.train import Trainer

PIXEL_NM = (110.0, 100.0)
FLAT = Scales(PIXEL_NM, 0.0, 1000.0, 1, InputConditions(10.0, 1.0, 2.0, 1.3))
DEEP = dataclasses.replace(FLAT, z_unit_nm=400.0)


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def frames(n: int, rows: int, columns: int) -> Frames:
    bright = torch.rand(n, 1, rows, columns, generator=torch.Generator().manual_seed(3)) > 0.97
    return Frames(10 + 120 * bright.float(), PIXEL_NM)


def stirred(localizer: OnVoxels) -> OnVoxels:
    """Give the network something to say."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in localizer.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return localizer.eval()


def test_the_papers_sizes():
    net = DeepStorm3DSettings(preset="paper").build(DEEP)
    assert net.grid.depths == 121
    assert count(net) == 612_703
    assert count(DeepStormSettings(preset="paper").build(FLAT)) == 1_366_208  # weights of its convolutions and batch norms


@pytest.mark.parametrize("kind", ["deep_storm", "deep_storm_3d"])
def test_the_papers_size_is_trained(tiny_document, kind):
    section = {"kind": kind, "preset": "paper"} | ({"enlarged": 4} if kind == "deep_storm" else {"depths": 9})
    deep = {"kind": "astigmatic", "width_nm": 130.0, "focus_a_nm": 200.0, "focus_b_nm": -200.0, "depth_nm": 400.0, "roi_px": 9}
    changes = {} if kind == "deep_storm" else {"psf": deep, "specimen": {**tiny_document["specimen"], "z_nm": [-300.0, 300.0]}}
    training = {**tiny_document["training"], "steps": 3, "batch_size": 1, "frames": 2}
    experiment = Experiment.from_json({**tiny_document, **changes, "localizer": section, "training": training})
    localizer = experiment.build_localizer()
    before = count(localizer), next(iter(localizer.parameters())).clone()
    trainer = Trainer(localizer, experiment.build_simulator(localizer), experiment.training)
    trainer.validation = trainer.validation[:0]
    for _ in range(3):
        assert trainer._train_step() is None
    assert trainer.step == 3
    assert not torch.equal(next(iter(localizer.parameters())), before[1])


@pytest.mark.parametrize("enlarged", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_the_image_is_as_fine_as_asked_for(enlarged, preset):
    localizer = DeepStormSettings(preset=preset, enlarged=enlarged).build(FLAT).eval()
    side = 2 * localizer.align_px * 2
    with torch.no_grad():
        image = localizer.output(torch.rand(1, 1, side, side), torch.zeros(1, 4))
    assert image.shape == (1, 1, side * enlarged, side * enlarged)
    assert localizer.picture_px == enlarged


def test_the_quick_nets_reach_no_farther_than_they_say():
    localizer = stirred(DeepStormSettings(preset="tiny").build(FLAT))
    side = 2 * localizer.halo_px + 10
    side += -side % localizer.align_px
    dark = torch.full((1, 1, side, side), 10.0)
    lit = dark.clone()
    lit[0, 0, 0, 0] = 1e4
    with torch.no_grad():
        change = (localizer.output(lit, dark) - localizer.output(dark, dark)).abs()[0, 0]
    far = (localizer.halo_px + 1) * localizer.grid.finer
    assert change[far:].max() == 0
    assert change[:, far:].max() == 0
    assert change[: far // 2, : far // 2].max() > 0


def test_a_perfect_grid_costs_nothing_and_each_fault_something():
    localizer = DeepStorm3DSettings(preset="tiny", depths=8).build(DEEP)
    generator = torch.Generator().manual_seed(1)
    cells = torch.stack([torch.randint(2, side - 2, (5,), generator=generator) for side in (8, 40, 40)], 1)
    truth = torch.zeros(2, 8, 40, 40)
    frame = torch.tensor([0, 0, 0, 1, 1])
    truth[frame, cells[:, 0], cells[:, 1], cells[:, 2]] = 1
    x, y = (cells[:, 2] + 0.5) * 25.0, (cells[:, 1] + 0.5) * 27.5
    emitters = Emitters.of(frame, x, y, torch.ones(5), -400 + (cells[:, 0] + 0.5) * 100.0)

    def loss(found: torch.Tensor, true: Emitters = emitters) -> float:
        return localizer.loss(found, true).item()

    def overlap(found: torch.Tensor) -> float:
        error, energy = localizer.error_and_energy(found, emitters)
        return (error / energy).item()

    missed, false = truth.clone(), truth.clone()
    missed[0] = 0
    false[1, 4, 20, 20:23] += 1
    assert loss(truth) == pytest.approx(0, abs=1e-4)
    assert loss(missed) > 0.5
    assert loss(false) > 0.5
    assert overlap(false) > 0.2  # what the public code's term lets pass
    assert overlap(truth) == pytest.approx(0, abs=1e-4)
    rim = truth.clone()
    rim[0, 0, 0, 0] = 1
    assert loss(rim) > 0.1  # the rim counts
    nothing = emitters.select(torch.tensor([], dtype=torch.long))
    assert loss(torch.zeros_like(truth), nothing) == 0
    assert loss(false, nothing) > loss(truth, nothing) > 1


def test_deep_storm_keeps_its_image_small():
    localizer = DeepStormSettings(preset="tiny").build(FLAT)
    nobody = Emitters.of(*(torch.zeros(0) for _ in range(4)))
    spread = torch.zeros(1, 1, 40, 40)
    ringing = torch.zeros(1, 1, 40, 40)
    ringing[..., ::2, ::2], ringing[..., 1::2, ::2] = 0.01, -0.01  # smoothing hides most of it
    assert localizer.loss(spread, nobody).item() == 0
    assert localizer.loss(ringing, nobody).item() == pytest.approx(0.02 * 0.01 * 800, rel=0.5)


@pytest.mark.parametrize("tile_px", [16, 64])
@pytest.mark.parametrize("settings", [DeepStormSettings(preset="tiny"), DeepStorm3DSettings(preset="tiny")])
def test_the_picture_is_the_sum_of_the_images(settings, tile_px):
    localizer = stirred(settings.build(DEEP))
    movie = frames(5, 41, 52)
    table, picture = localizer.with_picture(movie, (1, 4), tile_px)
    assert picture.shape == (41 * localizer.picture_px, 52 * localizer.picture_px)
    every = localizer(movie, (1, 4), 256)
    assert len(table) == len(every)
    photons = torch.nn.functional.pad(movie.photons[1:4], (0, 0, 0, -41 % localizer.align_px), mode="replicate")
    with torch.no_grad():
        images = localizer.output(photons, torch.zeros(3, 4))
    expected = images.clamp(min=0).sum((0, 1))[: picture.shape[0], : picture.shape[1]]
    torch.testing.assert_close(picture, expected, atol=2e-3, rtol=2e-3)


def test_other_methods_give_no_picture():
    with pytest.raises(ModelError, match="a table and no image of its own; leave the image"):
        DecodeSettings(preset="tiny").build(FLAT).with_picture(frames(1, 16, 16))


def test_memory_is_said_before_training():
    localizer = DeepStorm3DSettings(preset="paper").build(DEEP)
    localizer.check_fits(64e9, 4, (121, 121), training=True)
    with pytest.raises(TrainingError) as caught:
        localizer.check_fits(6e9, 4, (121, 121), training=True)
    text = str(caught.value)
    assert "\n" not in text
    assert "121 planes" in text
    planes = int(text.split("with ")[1].split()[0])
    fewer = int(text.split("or with ")[1].split()[0])
    assert 3 <= planes < 121
    assert 1 <= fewer < 4
    DeepStorm3DSettings(preset="paper", depths=planes).build(DEEP).check_fits(6e9, 4, (121, 121), training=True)
    localizer.check_fits(6e9, fewer, (121, 121), training=True)
    with pytest.raises(TrainingError, match="take a machine with more memory"):
        localizer.check_fits(1e6, 4, (121, 121), training=True)


def test_memory_for_use_is_that_of_a_tile():
    localizer = DeepStorm3DSettings(preset="paper").build(DEEP)
    localizer.check_fits(8e9, 1, (2048, 2048), training=False)
    with pytest.raises(ModelError, match=r"localizing needs about .* GB for 121 planes .*; it fits with \d+ planes"):
        localizer.check_fits(1e9, 1, (2048, 2048), training=False)
    assert 32 <= localizer.largest_tile_px < 512 < DeepStormSettings().build(FLAT).largest_tile_px


def test_depths_are_covered(tiny_document):
    deep = {"kind": "astigmatic", "width_nm": 130.0, "focus_a_nm": 200.0, "focus_b_nm": -200.0, "depth_nm": 400.0, "roi_px": 9}
    document = {**tiny_document, "psf": deep, "specimen": {**tiny_document["specimen"], "z_nm": [0.0, 900.0]}}
    narrow = {"kind": "deep_storm_3d", "preset": "tiny", "z_range_nm": [0.0, 800.0]}
    with pytest.raises(DocumentError, match=r"specimen\.z_nm runs from 0 to 900 nm, the localizer gives 0 to 800 nm only; widen"):
        Experiment.from_json({**document, "localizer": narrow})
    wide = Experiment.from_json({**document, "localizer": {**narrow, "z_range_nm": [0.0, 1000.0]}}).build_localizer()
    assert isinstance(wide, DeepStorm3D)
    assert (wide.grid.z_nm, wide.grid.step_nm) == ((0.0, 1000.0), 250.0)
    with pytest.raises(DocumentError, match="must run from low to high"):
        Experiment.from_json({**document, "localizer": {**narrow, "z_range_nm": [800.0, 0.0]}})


def test_the_psf_is_known_where_the_specimen_lies(tiny_document):
    tetrapod = {"kind": "pupil", "wavelength_nm": 670.0, "numerical_aperture": 1.2, "pupil_px": 64, "mask": {"kind": "tetrapod"}}
    document = {**tiny_document, "psf": tetrapod, "specimen": {**tiny_document["specimen"], "z_nm": [0.0, 20000.0]}}
    message = r"specimen\.z_nm runs from 0 to 20000 nm, the PSF is known from -?\d+ to \d+ nm only; narrow specimen\.z_nm or raise psf\.pupil_px"
    with pytest.raises(DocumentError, match=message):
        Experiment.from_json(document).build_localizer()
    with pytest.raises(DocumentError, match=message):
        Experiment.from_json(document).build_microscope((16, 16))


def test_without_depth_it_is_flat():
    localizer = DeepStorm3DSettings(preset="tiny").build(FLAT)
    assert isinstance(localizer, DeepStorm3D)
    assert localizer.grid.depths == 1
    assert not stirred(localizer)(frames(1, 24, 24)).is_3d


def test_probability_grows_with_what_the_network_says():
    localizer = DeepStormSettings(preset="tiny").build(FLAT)
    assert isinstance(localizer, DeepStorm)
    image = torch.zeros(1, 1, 160, 160)
    heights = torch.tensor([0.3, 0.6, 1.0, 2.0])
    image[0, 0, 20:160:40, 80] = heights
    localizer.threshold = 0.01
    table = localizer.read(image, image, image, PIXEL_NM).table
    assert (np.diff(table.probability) > 0).all()
    np.testing.assert_allclose(table.probability, heights * (1 + heights**4) ** -0.25, rtol=0.01)
    np.testing.assert_allclose(table.y_nm, (np.arange(20, 160, 40) + 0.5) * 110 / 8, atol=0.1)
