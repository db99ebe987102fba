"""LUENN: what the grids hold, how they are read, the paper's size and its first weights, and the network of errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from denseloc.data import Emitters
from denseloc.description import parse
from denseloc.errors import DocumentError, ModelError
from denseloc.experiment import Experiment
from denseloc.localize import Batch, InputConditions, Luenn, LuennSettings, Scales
from denseloc.localize.luenn import between
from denseloc.localize.luenn_errors import ErrorNet, error_loss, windows
from denseloc.localize.luenn_networks import Dropout, Vgg19Net, take_vgg19
from denseloc.train import Trainer

PIXEL_NM = (110.0, 100.0)
DEPTH_NM = 600.0
GRID = (96, 112)


def luenn(z_unit_nm: float = DEPTH_NM, **settings: Any) -> Luenn:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        section = LuennSettings(**{"preset": "tiny", **settings})
        return section.build(Scales(PIXEL_NM, z_unit_nm, 1000.0, 1, InputConditions(10.0, 1.0, 2.0, 1.3))).eval()


def apart(seed: int = 0) -> Emitters:
    """Draw emitters four camera pixels apart, at all places within a pixel and all depths, the ends included."""
    generator = torch.Generator().manual_seed(seed)
    row, column = (t.flatten() for t in torch.meshgrid(torch.arange(2, 22, 4), torch.arange(2, 26, 4), indexing="ij"))
    n = len(row)
    x, y = ((v + torch.rand(n, generator=generator)).double() * p for v, p in ((column, PIXEL_NM[1]), (row, PIXEL_NM[0])))
    z = torch.linspace(-DEPTH_NM, DEPTH_NM, n)[torch.randperm(n, generator=generator)]
    return Emitters.of(torch.zeros(n), x, y, torch.full((n,), 900.0), z)


def emitter_at(z_nm: list[float], x_nm: list[float] | None = None) -> Emitters:
    n = len(z_nm)
    x = torch.tensor(x_nm or [1212.5] * n, dtype=torch.float64)
    return Emitters.of(torch.zeros(n), x, torch.full((n,), 1201.75).double(), torch.full((n,), 900.0), torch.tensor(z_nm))


# ------------------------------------------------------------------------------------------------------------------------- grids


@pytest.mark.parametrize("seed", range(3))
def test_what_is_drawn_is_read_again_over_the_full_depth(seed: int) -> None:
    localizer, true = luenn(), apart(seed)
    found = localizer.table(localizer.peaks(localizer.target(true, 1, GRID)), PIXEL_NM).sort()
    assert len(found) == len(true)
    expected = true.select(torch.as_tensor(np.lexsort((true.x_nm.numpy(), true.y_nm.numpy()))))
    np.testing.assert_allclose(found.x_nm, expected.x_nm, atol=0.2)
    np.testing.assert_allclose(found.y_nm, expected.y_nm, atol=0.2)
    np.testing.assert_allclose(found.z_nm, expected.z_nm, atol=0.5)


def test_a_little_noise_wraps_no_depth() -> None:
    localizer = luenn()
    for z in (-DEPTH_NM, DEPTH_NM):
        grids = localizer.target(emitter_at([z]), 1, (56, 60))
        noisy = grids + 0.07 * torch.randn(200, *grids.shape[1:], generator=torch.Generator().manual_seed(1))
        localizer.threshold = 0.96  # half of the height
        depth = localizer.peaks(noisy).depth * DEPTH_NM
        assert len(depth) == 200
        assert (depth - z).abs().max() < 100


def test_emitters_at_one_place_and_opposite_depths_add_up() -> None:
    localizer = luenn()
    one, two = (localizer.target(emitter_at(z), 1, GRID) for z in ([0.0], [-DEPTH_NM, DEPTH_NM]))
    torch.testing.assert_close(two, 2 * one, atol=1e-4, rtol=1e-4)  # twice the norm, the mean depth


def test_between_two_emitters_the_phase_goes_from_one_to_the_other() -> None:
    grids = luenn().target(emitter_at([-300.0, 300.0], [1100.0, 1400.0]), 1, GRID)
    row = 43
    phase = torch.atan2(grids[0, 1, row], grids[0, 0, row])
    norm = torch.linalg.vector_norm(grids[0, :, row], dim=0)
    inside = phase[norm > 1e-3]
    assert (inside.diff() > -1e-4).all()
    assert inside[0] < -1
    assert inside[-1] > 1


def test_without_depth_there_is_one_grid_and_no_z() -> None:
    localizer = luenn(0.0)
    grids = localizer.target(apart(), 1, GRID)
    assert grids.shape == (1, 1, *GRID)
    assert grids.max() > 0.7
    table = localizer.read(grids, grids, grids, PIXEL_NM).table
    assert not table.is_3d
    assert "sigma_z_nm" not in table
    assert "photons" not in table


def test_emitters_at_the_edge_and_none_at_all() -> None:
    localizer = luenn()
    corner = Emitters.of(torch.zeros(1), torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([900.0]))
    grids = localizer.target(corner, 2, GRID)
    assert grids[0, 0].argmax() == 0
    assert not grids[1].any()
    assert not localizer.target(corner.select(torch.tensor([], dtype=torch.long)), 1, GRID).any()
    found = localizer.table(localizer.peaks(grids), PIXEL_NM)
    assert (len(found), found.x_nm[0] < 14, found.y_nm[0] < 14) == (1, True, True)


def test_three_points_of_a_gaussian_give_its_peak() -> None:
    true = torch.linspace(-0.49, 0.49, 30)
    before, here, after = (-((k - true) ** 2) / 3 for k in (-1, 0, 1))
    torch.testing.assert_close(between(before, here, after), true, atol=1e-5, rtol=0)
    flat = torch.zeros(3)
    assert between(flat, flat, flat).abs().max() <= 0.5


def test_a_network_that_draws_nothing_has_the_loss_one() -> None:
    localizer = luenn()
    with torch.no_grad():
        for weight in localizer.net.leave.parameters():
            weight.zero_()
    true = apart()
    empty = torch.full((1, 1, 1, 24, 28), 10.0)
    batch = Batch(empty, torch.tensor([[10.0, 1.0, 2.0, 1.3]]), true, empty[0], torch.zeros(1, dtype=torch.bool))
    assert localizer.batch_loss(batch).item() == pytest.approx(1.0, abs=0.02)


# -------------------------------------------------------------------------------------------------------------- the paper's size


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_the_papers_size() -> None:
    net = Vgg19Net(1, 2)
    convolutions = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(net.convolutions()) == 16
    assert len(convolutions) == 16 + 14
    encoder = sum(count(layer) for layer in net.convolutions())
    assert encoder == pytest.approx(20.0e6, rel=0.01)
    assert count(net) - encoder == pytest.approx(5.7e6, rel=0.01)
    signal = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for block in net.encoder:
        signal = block(signal)
    assert 0.2 < signal.std() < 5  # sixteen layers let it neither fade nor grow


def test_the_papers_size_learns(tiny_document: dict[str, Any]) -> None:
    training = {"steps": 3, "batch_size": 2, "frames": 1, "patch_px": 16, "warmup": 0, "optimizer": "adamw", "schedule": "steps"}
    document = tiny_document | {"localizer": {"kind": "luenn", "preset": "paper"}, "training": training}
    experiment = Experiment.from_json(document)
    localizer = experiment.build_localizer()
    trainer = Trainer(localizer, experiment.build_simulator(localizer), experiment.training)  # type: ignore[arg-type]
    before = localizer.net.leave.weight.detach().clone()
    trainer.run()
    assert (trainer.step, trainer.rollbacks) == (3, 0)
    assert not torch.equal(localizer.net.leave.weight, before)


def test_dropout_goes_on_as_if_it_had_never_stopped() -> None:
    x = torch.ones(2, 3, 16, 16)
    one, other = Dropout(0.3), Dropout(0.3)
    first, second = one(x), one(x)
    assert not torch.equal(first, second)
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.05)
    other(x)
    again = Dropout(0.3)
    again.load_state_dict(other.state_dict())
    assert torch.equal(again(x), second)
    assert torch.equal(one.eval()(x), x)


def vgg19() -> dict[str, torch.Tensor]:
    weights = {}
    places = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    widths = [64, 64, 128, 128] + [256] * 4 + [512] * 8
    inputs = [3, *widths[:-1]]
    for place, n, m in zip(places, widths, inputs, strict=True):
        weights[f"features.{place}.weight"] = torch.full((n, m, 3, 3), 1 / (9 * m), dtype=torch.float16)
        weights[f"features.{place}.bias"] = torch.full((n,), 0.01 * place, dtype=torch.float16)
    return weights


def test_the_encoder_begins_with_given_weights(tmp_path: Path) -> None:
    save_file(vgg19() | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg19.safetensors")
    localizer = luenn(preset="paper", encoder_weights=str(tmp_path / "vgg19.safetensors"))
    localizer.take_first_weights()
    first, *_, last = localizer.net.convolutions()
    grey = torch.ones(1, 1, 5, 5)
    assert first(grey)[0, 0, 2, 2].item() == pytest.approx(1.0, rel=1e-2)  # as three equal colours would give
    assert last.bias[0].item() == pytest.approx(0.34, rel=1e-2)
    assert last.weight[0, 0, 0, 0].item() == pytest.approx(1 / (9 * 512), rel=1e-2)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("missing", "features.34.bias is missing, expected \\(512,\\)"),
        ("shape", "features.5.weight is \\(128, 32, 3, 3\\), expected \\(128, 64, 3, 3\\)"),
        ("nan", "features.0.bias is not finite"),
        ("text", "is no safetensors file"),
        ("none", "no file"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(tmp_path: Path, harm: str, words: str) -> None:
    path = tmp_path / "w.safetensors"
    if harm == "text":
        path.write_text("these are no weights")
    elif harm != "none":
        weights = vgg19()
        if harm == "missing":
            del weights["features.34.bias"]
        elif harm == "shape":
            weights["features.5.weight"] = torch.zeros(128, 32, 3, 3)
        else:
            weights["features.0.bias"][3] = math.nan
        save_file(weights, path)
    net = Vgg19Net(1, 2)
    before = net.convolutions()[3].weight.clone()
    with pytest.raises(ModelError, match=words) as error:
        take_vgg19(net, path)
    assert "\n" not in str(error.value)
    assert "encoder_weights" in str(error.value)
    assert torch.equal(net.convolutions()[3].weight, before)


def test_only_the_papers_size_takes_weights() -> None:
    with pytest.raises(DocumentError, match="VGG19, which preset 'small' does not hold; take preset 'paper'"):
        parse(LuennSettings, {"preset": "small", "encoder_weights": "vgg19.safetensors"}, "document")


def test_the_file_of_the_weights_counts_from_the_documents_folder(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    section = {"kind": "luenn", "preset": "paper", "encoder_weights": "weights/vgg19.safetensors"}
    (tmp_path / "document.json").write_text(json.dumps(tiny_document | {"localizer": section}))
    experiment = Experiment.from_file(tmp_path / "document.json")
    assert experiment.localizer.encoder_weights == str(tmp_path / "weights" / "vgg19.safetensors")


def test_a_model_is_loaded_without_the_file_of_its_first_weights() -> None:
    assert isinstance(luenn(preset="paper", encoder_weights="/nowhere/vgg19.safetensors"), Luenn)


# ------------------------------------------------------------------------------------------------------------------------ errors


def test_the_second_network_finds_the_mean_error_of_what_looks_alike() -> None:
    """Dim surroundings err ten times as much as bright ones, with a heavy tail."""
    generator = torch.Generator().manual_seed(5)
    bright = torch.rand(2000, generator=generator) < 0.5
    around = 0.02 * torch.randn(2000, 1, 15, 15, generator=generator)
    around[:, 0, 7, 7] += torch.where(bright, 1.0, 0.3)
    size = torch.where(bright, 0.05, 0.5)[:, None] * torch.tensor([1.0, 2.0])
    error = size * torch.empty(2000, 2).exponential_(generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ErrorNet(1, 2)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(120):
        rows = slice(step % 10 * 200, step % 10 * 200 + 200)
        optimizer.zero_grad()
        error_loss(net(around[rows]), error[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        told = net(around).exp()
    for group in (bright, ~bright):
        ratio = told[group].mean(0) / error[group].mean(0)
        assert ((ratio > 0.8) & (ratio < 1.25)).all(), ratio


def test_windows_hold_what_lies_around() -> None:
    grids = torch.arange(2 * 20 * 24.0).view(2, 1, 20, 24) + 1
    frame, row, column = torch.tensor([0, 1]), torch.tensor([10, 0]), torch.tensor([12, 23])
    cut = windows(grids, frame, row, column)
    assert cut.shape == (2, 1, 15, 15)
    assert torch.equal(cut[:, 0, 7, 7], grids[frame, 0, row, column])
    assert torch.equal(cut[0, 0], grids[0, 0, 3:18, 5:20])
    assert not cut[1, 0, :7].any()
    assert not cut[1, 0, :, 8:].any()
