"""Colours in the DECODE family: a categorical factor of the posterior, a head of the network, two columns of the table."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from denseloc.data import Emitters, Frames
from denseloc.experiment import Experiment
from denseloc.localize import Batch, Decode, DecodeSettings, InputConditions, Scales
from denseloc.localize.candidates import Candidates, candidates, merge_by_position, suppress_non_maxima, to_localizations
from denseloc.localize.posterior import PixelPosterior
from denseloc.model_file import Model, load_model, save_model

ONE = Scales((100.0, 100.0), 400.0, 1000.0, 1, InputConditions(10.0, 1.0, 2.0, 1.3))
THREE = dataclasses.replace(ONE, channels=3)
SHARES = torch.tensor([0.2, 0.5, 0.3])


def posterior(channels: int = 3, n: int = 2, side: int = 9) -> PixelPosterior:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(n, 9, side, side, generator=generator)
    logit = SHARES[:channels].log()[None, :, None, None] + torch.randn(n, 1, side, side, generator=generator)  # up to a constant
    return PixelPosterior(
        logit=maps[:, 0] - 2,
        mean=0.3 * maps[:, 1:5],
        sigma=torch.exp(0.2 * maps[:, 5:9] - 1),
        background=torch.full((n, side, side), 5.0),
        pixel_size_nm=(100.0, 100.0),
        z_unit_nm=400.0,
        photon_unit=1000.0,
        channel_logit=logit if channels > 1 else None,
    )


def emitters(channel: list[int]) -> Emitters:
    x, y = torch.tensor([220.0, 610.0, 455.0]), torch.tensor([340.0, 300.0, 720.0])
    return Emitters.of(torch.tensor([0, 0, 1]), x, y, torch.full((3,), 900.0), torch.zeros(3), channel=torch.tensor(channel))


@pytest.mark.parametrize("form", ["log_prob", "log_prob_per_pixel"])
def test_the_channel_is_a_factor_of_each_emitter(form: str) -> None:
    told, untold = posterior(), dataclasses.replace(posterior(), channel_logit=None)
    for channel in ([0, 1, 2], [2, 2, 0]):
        more = getattr(told, form)(emitters(channel)) - getattr(untold, form)(emitters(channel))
        log = SHARES.log()[torch.tensor(channel)]
        torch.testing.assert_close(more, torch.stack((log[0] + log[1], log[2])), rtol=1e-4, atol=1e-4)


def test_the_nearest_pixel_speaks_of_the_channel() -> None:
    told = posterior()
    logit = torch.zeros(2, 3, 9, 9)
    logit[0, 1, 2:5, 1:4] = 8.0  # around the first emitter only
    sure = dataclasses.replace(told, channel_logit=logit, logit=torch.full((2, 9, 9), -3.0))
    right, wrong = (sure.log_prob(emitters([c, 0, 0]))[0] for c in (1, 0))
    assert right - wrong > 3
    assert (sure.log_prob(emitters([1, 1, 0]))[0] - right).abs() < 0.5


def test_draws_have_the_channels_of_their_pixels() -> None:
    drawn = posterior().sample(300, torch.Generator().manual_seed(1))
    channel = torch.cat([one.channel for one in drawn])
    assert len(channel) > 3000
    torch.testing.assert_close(torch.bincount(channel, minlength=3) / len(channel), SHARES, atol=0.03, rtol=0)


def test_draws_of_one_colour_are_what_they_were() -> None:
    plain = posterior(1).sample(2, torch.Generator().manual_seed(1))
    assert all((one.channel == 0).all() for one in plain)
    colourful = posterior().sample(1, torch.Generator().manual_seed(1))
    torch.testing.assert_close(colourful[0].x_nm, plain[0].x_nm)


# ------------------------------------------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize("decoding", [lambda p: merge_by_position(p, 0.4), lambda p: suppress_non_maxima(p, 0.4)])
def test_a_localization_has_the_mean_probabilities_of_its_pixels(decoding) -> None:
    logit = torch.full((1, 9, 9), -9.0)
    mean, colour = torch.zeros(1, 4, 9, 9), torch.zeros(1, 2, 9, 9)
    for column, p, dx, share in ((3, 0.6, 0.5, 0.9), (4, 0.3, -0.5, 0.3)):
        logit[0, 4, column] = math.log(p / (1 - p))
        mean[0, 0, 4, column] = dx
        colour[0, :, 4, column] = torch.tensor([1 - share, share]).log()
    maps = PixelPosterior(logit, mean, torch.full((1, 4, 9, 9), 0.1), logit.exp(), (100.0, 100.0), 0.0, 1000.0, colour)
    found = decoding(candidates(maps, 0, (0, 0)))
    table = to_localizations(found, (100.0, 100.0), 0.0, 1000.0)
    assert table.channel.tolist() == [1]
    assert table.channel_probability[0] == pytest.approx((0.6 * 0.9 + 0.3 * 0.3) / 0.9, abs=1e-4)


def test_candidates_of_one_colour_have_no_channel() -> None:
    one = candidates(posterior(1), 0, (0, 0))
    assert one.channel is None
    assert Candidates.concat([one, one]).channel is None
    assert "channel" not in to_localizations(merge_by_position(one, 0.1), (100.0, 100.0), 400.0, 1000.0)
    three = candidates(posterior(), 0, (0, 0))
    assert three.channel is not None
    np.testing.assert_allclose(three.channel, np.tile(SHARES.numpy(), (len(three), 1)), atol=1e-5)
    both = Candidates.concat([three, three]).channel
    assert both is not None
    assert both.shape == (2 * len(three), 3)


# ----------------------------------------------------------------------------------------------------------------------- network


def decode(scales: Scales, preset: str = "tiny") -> Decode:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return DecodeSettings(preset=preset, context="none").build(scales).eval()


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_one_colour_has_the_network_of_before(preset: str) -> None:
    before, colours = decode(ONE, preset).state_dict(), decode(THREE, preset).state_dict()
    last = {"tiny": "net.leave.weight", "paper": "net.heads.3.2.weight"}[preset]
    assert before[last].shape[0] == {"tiny": 40, "paper": 1}[preset]
    changed = {name for name in colours if name not in before or before[name].shape != colours[name].shape}
    assert changed == {name for name in colours if name.startswith(("net.leave", "net.heads.4"))}


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_a_network_of_colours_gives_the_two_columns(preset: str) -> None:
    localizer = decode(THREE, preset)
    localizer.threshold = 0.001
    photons = torch.poisson(torch.full((2, 1, 24, 20), 30.0), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for name, value in localizer.named_parameters():
            if name.endswith("bias") and name.startswith(("net.leave", "net.heads.0.2")):
                value[: 4 if preset == "tiny" else 1] = -2.0
    table = localizer(Frames(photons, (100.0, 100.0)))
    assert len(table) > 10
    assert set(table.channel.tolist()) <= {0, 1, 2}
    assert (table.channel_probability > 1 / 3 - 1e-6).all()
    assert (table.channel_probability <= 1).all()
    tiles = localizer(Frames(photons, (100.0, 100.0)), tile_px=16)
    np.testing.assert_allclose(tiles.channel_probability, table.channel_probability, atol=2e-2)


def test_the_loss_falls_where_the_colours_are_right() -> None:
    localizer = decode(THREE)
    truth = emitters([0, 1, 2])
    batch = Batch(
        torch.full((2, 1, 1, 12, 12), 10.0),
        ONE.reference.tensor(2),
        truth,
        torch.full((2, 1, 12, 12), 10.0),
        torch.zeros(2, dtype=torch.bool),
    )
    loss = localizer.batch_loss(batch)
    loss.backward()
    weight = localizer.net.get_parameter("leave.bias").grad
    assert weight is not None
    assert (weight[40:] != 0).all()
    before = float(loss.detach())
    with torch.no_grad():
        localizer.net.get_parameter("leave.bias")[40:44] += 2.0  # all are taken for channel 0
    wrong = dataclasses.replace(batch, emitters=emitters([1, 1, 1]))
    right = dataclasses.replace(batch, emitters=emitters([0, 0, 0]))
    with torch.no_grad():
        assert float(localizer.batch_loss(right)) < before < float(localizer.batch_loss(wrong))


# ----------------------------------------------------------------------------------------------------------------------- files


def experiment(**change: object) -> Experiment:
    values = {
        "pixel_size_nm": 100.0,
        "psf": {"kind": "colours", "channel": [{"kind": "gaussian", "width_nm": width} for width in (110.0, 180.0)]},
        "camera": {"kind": "ideal"},
        "specimen": {
            "density_per_um2": 0.5,
            "z_nm": [0, 0],
            "photons": {"kind": "constant", "photons": 1000.0},
            "background": {"kind": "uniform", "photons": 5.0},
        },
        "localizer": {"kind": "decode", "preset": "tiny"},
        **change,
    }
    return Experiment.from_json(values)


def test_a_model_of_colours_comes_back_from_its_file(tmp_path: Path) -> None:
    document = experiment()
    localizer = document.build_localizer()
    assert localizer.scales.channels == 2
    save_model(tmp_path / "m.safetensors", Model(localizer, document))
    again = load_model(tmp_path / "m.safetensors")
    assert again.localizer.scales == localizer.scales
    assert again.localizer.state_dict()["net.leave.weight"].shape[0] == 48


def test_a_model_of_one_colour_does_not_speak_of_colours(tmp_path: Path) -> None:
    document = experiment(psf={"kind": "gaussian", "width_nm": 120.0})
    save_model(tmp_path / "m.safetensors", Model(document.build_localizer(), document))
    assert b'"channels"' not in (tmp_path / "m.safetensors").read_bytes().replace(b"\\", b"")
    assert load_model(tmp_path / "m.safetensors").localizer.scales.channels == 1
