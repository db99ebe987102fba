"""DECODE: frames are looked at once, halos are wide enough, uneven backgrounds and the two objectives."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from denseloc.data import Emitters, Frames
from denseloc.localize import DecodeSettings, InputConditions, Scales
from denseloc.localize.decode import BATCH_PX, Decode
from denseloc.localize.decode_networks import HalfResolutionNet, StackedUNets
from denseloc.localize.tiles import tiles

SCALES = Scales((100.0, 100.0), 400.0, 1000.0, 1, InputConditions(10.0, 1.0, 2.0, 1.3))


def decode(**change: object) -> Decode:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        localizer = DecodeSettings(preset="tiny", **change).build(SCALES).eval()  # type: ignore[arg-type]
        for weight in localizer.parameters():
            weight.add_(0.06 * torch.randn(weight.shape))
        localizer.net.leave.bias[:4] += 5.0  # detections are no longer rare
    return localizer


def photons(n: int, side: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.poisson(10 + 100 * (torch.rand(n, 1, side, side, generator=generator) > 0.98).float(), generator=generator)


class Count:
    """Counts the frames that pass a network."""

    def __init__(self, localizer: Decode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[Tensor] = []
        original = localizer.net.frame_features

        def counted(image: Tensor, conditions: Tensor | None) -> Tensor:
            self.images.extend(image.detach().clone())
            return original(image, conditions)

        monkeypatch.setattr(localizer.net, "frame_features", counted)

    def distinct(self) -> int:
        return len({image.numpy().tobytes() for image in self.images})


@pytest.mark.parametrize("n", [1, 8, 9, 40])
def test_features_of_a_frame_are_computed_once(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = decode()
    count = Count(localizer, monkeypatch)
    localizer(Frames(photons(n), (100.0, 100.0)))
    batch = BATCH_PX // 64**2
    assert count.distinct() == n
    assert len(count.images) == -(-n // batch) * batch  # the last batch is filled up, no frame comes back


def test_a_block_looks_at_its_context_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = decode()
    count = Count(localizer, monkeypatch)
    localizer(Frames(photons(40), (100.0, 100.0)), keep=(10, 20))
    assert count.distinct() == 12


@pytest.mark.parametrize("batch", [1, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 4, 5, 9])
def test_batches_of_frames_do_not_change_the_result(batch: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer, movie = decode(), photons(n, 24)
    for keep in {(0, n), (n // 2, n), (n // 3, 1 + n // 2)}:
        monkeypatch.undo()
        whole = list(localizer.stream(movie, keep))
        assert [index for index, _ in whole] == [keep[0]]
        monkeypatch.setattr("denseloc.localize.decode.BATCH_PX", batch * 24 * 24)
        parts = list(localizer.stream(movie, keep))
        at = keep[0]
        for index, part in parts:
            assert index == at
            at += len(part.logit)
        assert at == keep[1]
        for name in ("logit", "mean", "sigma", "background"):
            joined = torch.cat([getattr(part, name) for _, part in parts])
            torch.testing.assert_close(joined, getattr(whole[0][1], name), rtol=0.02, atol=0.02)


def test_streaming_equals_the_windows_of_training() -> None:
    localizer = decode(conditioned=True)
    localizer.conditions = dataclasses.replace(SCALES.reference, width_px=1.6)
    movie = photons(5, 32)
    with torch.no_grad():
        windows = localizer.posterior_of_windows(movie[None], localizer.conditions.tensor(1))
        streamed = [p for _, p in localizer.stream(movie, (1, 4))]
    for name in ("logit", "mean", "sigma", "background"):
        found = torch.cat([getattr(p, name) for p in streamed])
        torch.testing.assert_close(found, getattr(windows, name), rtol=0.1, atol=0.05)


def test_absent_neighbours_are_those_of_the_ends() -> None:
    localizer = decode()
    movie = photons(3, 32)
    with torch.no_grad():
        alone = localizer.posterior_of_windows(movie[None], localizer.conditions.tensor(1), torch.tensor([True]))
        given = localizer.posterior_of_windows(movie[None], localizer.conditions.tensor(1))
        streamed = next(p for _, p in localizer.stream(movie[1:2], (0, 1)))
    torch.testing.assert_close(streamed.logit, alone.logit, rtol=0.1, atol=0.05)
    assert (alone.logit - given.logit).abs().max() > 0.3


def reach_of(net: nn.Module, side: int) -> int:
    """Measure how far the maps of the four middle pixels depend on the frames, with weights that let everything through."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.abs_().add_(1e-3)
    image = torch.ones(1, 1, side, side)
    image.requires_grad_()
    features = net.frame_features(image, None)
    maps = net.fuse((features, features, features), None)
    middle = side // 2
    (slope,) = torch.autograd.grad(maps[..., middle : middle + 4, middle : middle + 4].sum(), image)
    rows = torch.nonzero(slope[0, 0].abs().sum(1))[:, 0]
    return max(middle - int(rows.min()), int(rows.max()) - middle - 3)


@pytest.mark.parametrize("upsampling", ["bilinear", "icnr", "nearest"])
def test_halos_are_as_wide_as_the_networks_see(upsampling: str) -> None:
    small = HalfResolutionNet(1, (3, 4, 5), upsampling, 0)
    assert 0.5 * small.halo < reach_of(small, 160) <= small.halo
    paper = StackedUNets(1, 2, upsampling, 0)
    assert 0.5 * paper.halo < reach_of(paper, 256) <= paper.halo


@pytest.mark.parametrize("shape", [(37, 41), (5, 7), (256, 256), (300, 80)])
@pytest.mark.parametrize(("tile_px", "halo", "align"), [(64, 40, 4), (30, 10, 4), (256, 40, 4), (2, 3, 4)])
def test_tiles_cover_each_pixel_once(shape: tuple[int, int], tile_px: int, halo: int, align: int) -> None:
    cover = torch.zeros(shape)
    for tile in tiles(shape, tile_px, halo, align):
        cover[tile.core] += 1
        for core, outer, length in zip(tile.core, tile.outer, shape, strict=True):
            assert core.start % align == outer.start % align == 0
            assert outer.start == max(0, core.start - -(-halo // align) * align)
            assert core.stop - core.start <= max(tile_px, align)
            assert outer.stop == length or outer.stop >= core.stop + halo
        view = torch.zeros(shape)[tile.outer]
        assert view[tile.core_inside].shape == cover[tile.core].shape
    assert (cover == 1).all()


def test_an_even_field_is_no_field() -> None:
    localizer = decode()
    movie = Frames(photons(3, 37), (100.0, 100.0))
    plain = localizer(movie)
    even = localizer(dataclasses.replace(movie, background=torch.full((37, 37), 10.0)))
    assert len(plain) == len(even) > 0
    torch.testing.assert_close(torch.from_numpy(even.x_nm), torch.from_numpy(plain.x_nm))
    torch.testing.assert_close(torch.from_numpy(even.photons), torch.from_numpy(plain.photons), rtol=1e-3, atol=1e-2)


def test_the_pixel_size_of_the_frames_counts() -> None:
    localizer = decode()
    movie = Frames(photons(2, 32), (100.0, 100.0))
    near, far = localizer(movie), localizer(dataclasses.replace(movie, pixel_size_nm=(50.0, 200.0)))
    torch.testing.assert_close(torch.from_numpy(far.x_nm), torch.from_numpy(near.x_nm) * 2)
    torch.testing.assert_close(torch.from_numpy(far.y_nm).sort().values, torch.from_numpy(near.y_nm).sort().values / 2)


@pytest.mark.parametrize("objective", ["mixture", "per_pixel"])
@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_the_loss_falls_along_its_slope(objective: str, preset: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        localizer = DecodeSettings(preset=preset, objective=objective, conditioned=True).build(SCALES)  # type: ignore[arg-type]
    movie, told = photons(6, 16)[None].reshape(2, 3, 1, 16, 16), SCALES.reference.tensor(2)
    e = Emitters.of(
        torch.tensor([0, 1, 1]), torch.tensor([350.0, 820, 1210]), torch.tensor([400.0, 910, 300]), torch.full((3,), 900.0)
    )
    background = torch.full((2, 1, 16, 16), 10.0)

    def loss() -> Tensor:
        return localizer.loss(localizer.posterior_of_windows(movie, told), e, background)

    before = loss()
    before.backward()
    steepness = sum(float(w.grad.square().sum()) for w in localizer.parameters() if w.grad is not None)
    with torch.no_grad():
        for weight in localizer.parameters():
            if weight.grad is not None:
                weight.sub_(weight.grad, alpha=0.01 / steepness**0.5)
    assert before.isfinite()
    assert loss() < before - 0.003 * steepness**0.5


def test_bright_and_dark_frames_look_alike_to_the_network() -> None:
    localizer = decode(conditioned=True)
    told = torch.tensor([[10.0, 1.0, 0.0, 1.3], [1000.0, 1.0, 0.0, 1.3]])
    generator = torch.Generator().manual_seed(0)
    frames = torch.poisson(told[:, 0, None, None, None].expand(2, 1, 64, 64), generator=generator)
    image, conditions = localizer.prepare(frames, told)
    assert image.mean((1, 2, 3)).abs().max() < 0.05
    spread = image.std((1, 2, 3))
    assert (spread[0] / spread[1]).item() == pytest.approx(1.0, abs=0.05)
    assert conditions is not None
    assert conditions.abs().max() < 5
