"""DECODE's context: none, local, global, both; the mean over a movie does not depend on how the movie is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
import torch

from denseloc.data import Frames, Localizations
from denseloc.description import parse
from denseloc.errors import DocumentError, ModelError
from denseloc.experiment import Experiment
from denseloc.localize import Batch, DecodeSettings, InputConditions, Scales
from denseloc.localize.decode import BATCH_PX, Decode
from denseloc.localize.decode_networks import StackedUNets

SCALES = Scales((100.0, 100.0), 400.0, 1000.0, 1, InputConditions(10.0, 1.0, 2.0, 1.3))
CONTEXTS = ("none", "local", "global", "both")


def decode(context: str, **change: object) -> Decode:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        localizer = DecodeSettings(**{"preset": "tiny", "context": context, **change}).build(SCALES).eval()  # type: ignore[arg-type]
        for weight in localizer.parameters():
            weight.add_(0.06 * torch.randn(weight.shape))
        if hasattr(localizer.net, "leave"):
            localizer.net.leave.bias[:4] += 5.0  # detections are no longer rare
    return localizer


def movie(n: int, rows: int = 40, columns: int = 36, seed: int = 1, first: int = 0) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    bright = (torch.rand(n, 1, rows, columns, generator=generator) > 0.97).float()
    return Frames(torch.poisson(10 + 120 * bright, generator=generator), (100.0, 100.0), first_frame=first)


def part_of(frames: Frames, start: int, stop: int) -> Frames:
    first = frames.first_frame
    return dataclasses.replace(frames, photons=frames.photons[start - first : stop - first], first_frame=start)


def blocks(frames: Frames, n: int) -> Iterator[Frames]:
    first = frames.first_frame
    for start in range(first, first + len(frames), n):
        yield part_of(frames, start, min(start + n, first + len(frames)))


def assert_same(found: Localizations, expected: Localizations, tolerance: float = 0.0) -> None:
    np.testing.assert_array_equal(found.frame, expected.frame)
    for name in expected.columns:
        np.testing.assert_allclose(found.columns[name], expected.columns[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_what_each_context_looks_at() -> None:
    assert DecodeSettings().context == "local"
    for context, neighbours, everything in (("none", 0, False), ("local", 1, False), ("global", 0, True), ("both", 1, True)):
        settings = DecodeSettings(context=context, preset="tiny")  # type: ignore[arg-type]
        assert (settings.neighbours, settings.sees_all_frames) == (neighbours, everything)
        localizer = decode(context)
        assert (localizer.context, localizer.sees_all_frames) == (neighbours, everything)


@pytest.mark.parametrize("preset", ["tiny", "paper"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_what_changes_the_result(context: str, preset: str) -> None:
    localizer = decode(context, preset=preset, threshold=1e-6)
    frames = movie(7, 24, 24)
    maps = next(p for _, p in localizer.stream(frames.photons, (3, 4), None, mean_of(localizer, frames))).logit

    def change(at: int) -> float:
        photons = frames.photons.clone()
        photons[at] = movie(1, 24, 24, seed=9).photons
        other = dataclasses.replace(frames, photons=photons)
        found = next(p for _, p in localizer.stream(photons, (3, 4), None, mean_of(localizer, other))).logit
        return float((found - maps).abs().max())

    assert change(3) > 1e-3
    assert (change(2) > 1e-3) == (context != "none")
    assert (change(4) > 1e-3) == (context != "none")
    assert (change(0) > 1e-4) == (context in ("global", "both"))


def mean_of(localizer: Decode, frames: Frames) -> torch.Tensor | None:
    if not localizer.sees_all_frames:
        return None
    localizer.look_over([frames])
    assert localizer.overview is not None
    sides = tuple(slice(0, side) for side in frames.shape_px)
    return localizer.overview.mean(sides, frames.origin_px)  # type: ignore[arg-type]


def test_the_mean_is_that_of_the_features() -> None:
    localizer = decode("both")
    frames = movie(5, 37, 30)
    mean = mean_of(localizer, frames)
    with torch.no_grad():
        image, _ = localizer.prepare(localizer._filled(frames.photons), SCALES.reference.tensor(5))
        features = localizer.net.frame_features(image, None)
    assert mean is not None
    torch.testing.assert_close(mean[0], features.mean(0), rtol=0.05, atol=0.03)  # one of them may be computed in 16 bit


@pytest.mark.parametrize("context", ["global", "both"])
def test_training_windows_are_movies(context: str) -> None:
    localizer = decode(context)
    frames = movie(6, 32, 32)
    inner = slice(localizer.context, 6 - localizer.context)
    with torch.no_grad():
        window = localizer.posterior_of_windows(frames.photons[None], SCALES.reference.tensor(1))
        streamed = [p for _, p in localizer.stream(frames.photons, (inner.start, inner.stop), None, mean_of(localizer, frames))]
        lone = localizer.posterior_of_windows(frames.photons[None], SCALES.reference.tensor(1), torch.tensor([True]))
        one = part_of(frames, 2, 3)
        alone = next(p for _, p in localizer.stream(one.photons, (0, 1), None, mean_of(localizer, one)))
    for name in ("logit", "mean", "sigma", "background"):
        torch.testing.assert_close(torch.cat([getattr(p, name) for p in streamed]), getattr(window, name), rtol=0.1, atol=0.08)
        torch.testing.assert_close(getattr(alone, name)[0], getattr(lone, name)[2 - inner.start], rtol=0.1, atol=0.08)
    assert (window.logit - lone.logit).abs().max() > 0.2


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("n", [1, 4, 50])
def test_blocks_do_not_change_the_result(context: str, n: int) -> None:
    localizer = decode(context)
    frames = movie(13, first=20)
    whole = localizer(frames)
    assert len(whole) > 50
    localizer.look_over(blocks(frames, n))
    parts = []
    for start in range(20, 33, n):
        stop = min(start + n, 33)
        block = part_of(frames, max(20, start - localizer.context), min(33, stop + localizer.context))
        parts.append(localizer(block, keep=(start, stop)))
    assert_same(Localizations.concat(parts).sort(), whole)
    localizer.forget()
    if localizer.sees_all_frames:
        alone = localizer(part_of(frames, 20, 24), keep=(21, 22))
        assert len(alone) != (whole.frame == 21).sum() or not np.allclose(alone.x_nm, whole.x_nm[whole.frame == 21])


@pytest.mark.parametrize("context", ["none", "global", "both"])
@pytest.mark.parametrize("tile_px", [16, 64])
def test_tiles_do_not_change_the_result(context: str, tile_px: int) -> None:
    localizer = decode(context)
    frames = movie(1, 91, 98)
    whole = localizer(frames, tile_px=256)
    assert_same(localizer(frames, tile_px=tile_px), whole, 2e-3)
    localizer.look_over([frames], tile_px=tile_px)
    assert_same(localizer(frames, tile_px=256), whole, 2e-3)


@pytest.mark.parametrize("batch", [1, 3, 4])
@pytest.mark.parametrize("context", ["none", "both"])
def test_batches_do_not_change_the_result(context: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer, frames = decode(context), movie(9, 24, 24)
    mean = mean_of(localizer, frames)
    for keep in combinations((0, 2, 8, 9), 2):
        monkeypatch.undo()
        whole = torch.cat([p.logit for _, p in localizer.stream(frames.photons, keep, None, mean)])
        assert BATCH_PX // 24**2 > 9
        monkeypatch.setattr("denseloc.localize.decode.BATCH_PX", batch * 24 * 24)
        parts = list(localizer.stream(frames.photons, keep, None, mean))
        starts = [index for index, _ in parts]
        assert starts == [keep[0] + sum(len(p.logit) for _, p in parts[:i]) for i in range(len(parts))]
        torch.testing.assert_close(torch.cat([p.logit for _, p in parts]), whole, rtol=0.02, atol=0.02)


def test_a_region_of_what_was_looked_over() -> None:
    localizer = decode("both")
    frames = dataclasses.replace(movie(4, 160, 150), origin_px=(30, 50))
    localizer.look_over([frames])
    whole = localizer(frames)
    inner = dataclasses.replace(frames, photons=frames.photons[:, :, 8:156, 4:148], origin_px=(38, 54))
    found = localizer(inner)
    margin = localizer.halo_px + 12
    middle = (whole.x_nm / 100 - 50 - 75) ** 2 + (whole.y_nm / 100 - 30 - 80) ** 2 < (72 - margin) ** 2
    same = (found.x_nm / 100 - 50 - 75) ** 2 + (found.y_nm / 100 - 30 - 80) ** 2 < (72 - margin) ** 2
    assert middle.sum() > 5
    assert_same(found.select(same), whole.select(middle), 2e-3)


@pytest.mark.parametrize(("shape", "origin"), [((40, 36), (2, 0)), ((40, 36), (4, 0)), ((44, 36), (0, 0)), ((40, 36), (-4, 0))])
def test_frames_of_another_place_are_refused(shape: tuple[int, int], origin: tuple[int, int]) -> None:
    localizer = decode("global")
    localizer.look_over([movie(2)])
    other = dataclasses.replace(movie(2, *shape), origin_px=origin)
    with pytest.raises(ModelError, match="look over this one"):
        localizer(other)
    localizer.forget()
    assert len(localizer(other)) > 0


def test_a_movie_without_frames_is_refused() -> None:
    with pytest.raises(ModelError, match="no frame of the movie"):
        decode("both").look_over([])


def test_uneven_background_is_seen_in_both_passes() -> None:
    localizer = decode("both", conditioned=True)
    frames = movie(3, 37, 37)
    plain = localizer(frames)
    even = localizer(dataclasses.replace(frames, background=torch.full((37, 37), 10.0)))
    assert len(plain) == len(even) > 0
    np.testing.assert_allclose(even.x_nm, plain.x_nm, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_weight_learns(context: str) -> None:
    localizer = decode(context).train()
    t = 2 + 2 * localizer.context
    frames = torch.stack([movie(t, 24, 24, seed=i).photons for i in range(2)])
    given = Experiment.from_json(DOCUMENT).build_simulator(localizer).draw(2, torch.Generator().manual_seed(0))
    inner = given.emitters.select(given.emitters.frame < 4)
    batch = Batch(frames, SCALES.reference.tensor(2), inner, torch.full((4, 1, 24, 24), 10.0), torch.tensor([False, True]))
    localizer.batch_loss(batch).backward()
    for name, weight in localizer.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


DOCUMENT = {
    "pixel_size_nm": 100.0,
    "psf": {"kind": "gaussian", "width_nm": 130.0, "roi_px": 9},
    "camera": {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
    "specimen": {
        "density_per_um2": 0.5,
        "z_nm": [0.0, 0.0],
        "structure": {"kind": "filaments"},
        "blinking": {"kind": "survival", "survival": 0.6},
        "photons": {"kind": "log_uniform", "low": 1000.0, "high": 4000.0},
        "background": {"kind": "uniform", "photons": 10.0},
    },
    "localizer": {"kind": "decode", "preset": "tiny", "context": "both"},
    "training": {"steps": 12, "batch_size": 2, "frames": 8, "patch_px": 24, "warmup": 4, "seed": 3},
}


@pytest.mark.parametrize(("context", "frames", "words"), [
    ("global", 1, "global context is what the frames of a movie say together"),
    ("both", 1, "global context is what the frames of a movie say together"),
    ("both", 2, "windows of at least 3"),
    ("local", 2, "windows of at least 3"),
])  # fmt: skip
def test_a_document_whose_windows_are_too_short(context: str, frames: int, words: str) -> None:
    document = {**DOCUMENT, "localizer": {"kind": "decode", "context": context}, "training": {"frames": frames}}
    with pytest.raises(DocumentError, match=words) as caught:
        Experiment.from_json(document)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("context", ["none", "global"])
def test_a_document_whose_windows_are_long_enough(context: str) -> None:
    frames = 1 if context == "none" else 2
    Experiment.from_json({**DOCUMENT, "localizer": {"kind": "decode", "context": context}, "training": {"frames": frames}})


def test_an_unknown_context_names_the_known_ones() -> None:
    with pytest.raises(DocumentError, match=r"context.*'none', 'local', 'global' or 'both'"):
        parse(DecodeSettings, {"kind": "decode", "context": "all"}, "document")


@pytest.mark.parametrize(("upsampling", "more"), [("nearest", 0), ("bilinear", 0), ("icnr", 139_104)])
def test_the_size_of_the_paper(upsampling: str, more: int) -> None:
    """The authors' program counts one more: its constant floor of the standard deviations."""
    net = decode("local", preset="paper", upsampling=upsampling).net
    assert isinstance(net, StackedUNets)
    assert sum(weight.numel() for weight in net.parameters()) == 2_199_419 - 1 + more


def test_the_size_of_a_context() -> None:
    sizes = {context: sum(w.numel() for w in decode(context, preset="paper").parameters()) for context in CONTEXTS}
    step = 48 * 48 * 9  # the first convolution of the second network sees 48 features more
    assert sizes == {name: sizes["none"] + n * step for name, n in zip(CONTEXTS, (0, 2, 1, 3), strict=True)}
