"""Frames per second of the shipped 2D model against DECODE at the paper's size, run as its authors run it; A B A B in one process.

    python benchmarks/speed/inference.py

Ours: network, decoding and table, as in `denseloc localize` (bfloat16 where the machine has it, each frame's features once).
Theirs: network alone, single precision, plain memory layout, a window of three frames for each frame, so features three times; fastest batch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from denseloc.camera import IdealSettings
from denseloc.data import Emitters, Frames, Grid
from denseloc.localize import DecodeSettings, InputConditions
from denseloc.localize.decode_networks import StackedUNets
from denseloc.machine import keep_memory
from denseloc.microscope import Microscope
from denseloc.model_file import find_model
from denseloc.optics import GaussianSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import RESULTS, keep

BACKGROUND = 20.0


def crowded(frames: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Draw frames with one emitter of 2000 photons per square micrometre, pixels of 100 nm."""
    n = round(frames * (side / 10) ** 2)
    x, y = (torch.rand(2, n, generator=generator) * side * 100).unbind(0)
    frame = torch.randint(frames, (n,), generator=generator).sort().values
    psf = GaussianSettings(width_nm=130).build((100.0, 100.0))
    microscope = Microscope(psf, IdealSettings().build(), Grid((side, side), (100.0, 100.0)))
    emitters = Emitters.of(frame, x, y, torch.full((n,), 2000.0))
    with torch.no_grad():
        return torch.poisson(microscope.expected(emitters, torch.full((frames, 1, side, side), BACKGROUND)), generator)


def as_authors(photons: torch.Tensor, net: StackedUNets, batch: int) -> None:
    """Run the paper's network on windows of three frames: single precision, eager, features recomputed in every window."""
    padded = torch.cat((photons[:1], photons, photons[-1:]))
    windows = torch.stack((padded[:-2], padded[1:-1], padded[2:]), 1)
    with torch.inference_mode():
        for part in windows.split(batch):
            net.fuse([net.frame_features(part[:, i], None) for i in range(3)], None)


def seconds(task: Callable[[], None]) -> float:
    """Time one call."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def as_authors_seconds(photons: torch.Tensor, net: StackedUNets, batch: int) -> float:
    """Time the paper's network on all frames."""
    return seconds(partial(as_authors, photons, net, batch))


def main() -> None:
    """Time both in turn and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="general-2d")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "inference_speed.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_memory()
    ours = find_model(args.model).localizer
    ours.conditions = InputConditions(BACKGROUND, width_px=1.3)  # as `denseloc localize` measures them
    paper = DecodeSettings(preset="paper", upsampling="nearest").build(ours.scales)
    net = paper.net.to(memory_format=torch.contiguous_format).eval()
    results = {}
    for side, frames, batches in ((64, 96, (1, 4, 16)), (256, 6, (1, 4))):
        generator = torch.Generator().manual_seed(0)
        photons = crowded(frames, side, generator)
        best = min(batches, key=partial(as_authors_seconds, photons[: max(4, frames // 4)], net))
        frames_in = Frames(photons, (100.0, 100.0))
        ours(frames_in)
        a, b = [], []
        for _ in range(args.rounds):
            a.append(frames / seconds(partial(ours, frames_in)))
            b.append(frames / as_authors_seconds(photons, net, best))
        ratio = median(x / y for x, y in zip(a, b, strict=True))
        results[f"{side}x{side}"] = {"ours_fps": median(a), "paper_fps": median(b), "paper_batch": best, "ratio": ratio}
        print(f"{side} x {side}: {median(a):.1f} frames/s, paper's size {median(b):.2f} frames/s (batch {best}), ratio {ratio:.1f}")
    summary = [
        (
            f"frames/s at {size}, shipped 2D model",
            f"{r['ours_fps']:.0f}; DECODE at the paper's size {r['paper_fps']:.1f}; ratio {r['ratio']:.1f}",
        )
        for size, r in results.items()
    ]
    keep("inference_speed", seed=0, results=results, summary=summary, file=args.out)


if __name__ == "__main__":
    main()
