"""Voxel-wise regression: its table of errors, what borders between voxels cost, and its speed against networks of other kinds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from claims import Claim, Drawn, Setting, figure_file, frames_per_second, localized, marks, record, simulated, trained

from denseloc.data import Frames
from denseloc.evaluate.voxels import VoxelConfusion, voxel_confusion
from denseloc.experiment import Experiment
from denseloc.localize import LOCALIZERS, InputConditions, Localizer, Scales

DOCUMENT = Path(__file__).with_name("quad_plane.toml")
MINUTES = 12.0
FRAMES, SIDE_PX, SEED = 500, 64, 21
SIDES_PX = (64, 128, 256)
PAPER = {"TP": 22878, "FP": 1844, "FN": 2089, "paired": 1399}


def run(setting: Setting) -> None:
    """Train the paper's network and ours, count voxels with and without joining across borders, time three networks."""
    document = Experiment.from_file(DOCUMENT)
    drawn = simulated(document.model_copy(update={"training": document.training}), FRAMES, (SIDE_PX, SIDE_PX), SEED)
    tables: dict[str, Any] = {}
    for preset in ("paper", "small"):
        chosen = document.model_copy(update={"localizer": document.localizer.model_copy(update={"preset": preset})})
        localizer = trained(f"voxel_wise_{preset}", chosen, MINUTES, setting).localizer
        for suppression in ("none", "borders"):
            localizer.settings = chosen.localizer.model_copy(update={"suppression": suppression})
            tables[f"{preset}, {suppression}"] = counted(localizer, drawn)
            print("  ", preset, suppression, tables[f"{preset}, {suppression}"], flush=True)
    speed = {name: speeds(name) for name in ("voxel_wise", "deep_loco", "deep_storm_3d")}
    draw(tables, speed)
    record(
        "voxel_wise",
        "Voxel-wise regression",
        [table_claim(tables), border_claim(tables), speed_claim(speed)],
        {"tables": tables, "frames_per_second": speed, "minutes": MINUTES},
        {"voxel_wise": "Voxels found rightly, on the wrong side of a border, and missed (left); frames per second (right)."},
    )


def counted(localizer: Localizer, drawn: Drawn) -> dict[str, float]:
    """Give the numbers of voxels as in the paper's table 4, and the usual marks."""
    found = localized(localizer, drawn)
    y_nm, x_nm = drawn.frames.pixel_size_nm
    planes = localizer.scales.planes
    depth = 2 * localizer.scales.z_unit_nm
    confusion: VoxelConfusion = voxel_confusion(
        found,
        drawn.truth,
        voxel_nm=(depth / planes, y_nm, x_nm),
        shape=(planes, SIDE_PX, SIDE_PX),
        n_frames=FRAMES,
        z_nm=-depth / 2,
    )
    counts = {**asdict(confusion), "voxel_jaccard": confusion.jaccard, "across_borders": confusion.jaccard_across_borders}
    return {**counts, **marks(found, drawn.truth, True, drawn.size_nm)}


def speeds(kind: str) -> dict[str, float]:
    """Time the paper's size of a method on one thread, untrained, on frames of several sides."""
    planes = 4 if kind == "voxel_wise" else 1
    section = LOCALIZERS.get(kind).model_validate({"kind": kind, "preset": "paper"})
    localizer = section.build(Scales((192.0, 192.0), 800.0, 3000.0, planes, InputConditions(10.0))).eval()
    found = {}
    for side in SIDES_PX:
        frames = Frames(torch.full((2, planes, side, side), 10.0), (192.0, 192.0))
        found[str(side)] = frames_per_second(localizer, frames)
        print("  ", kind, side, f"{found[str(side)]:.3g} frames/s", flush=True)
    return found


def table_claim(tables: dict[str, Any]) -> Claim:
    """Set the paper's table 4 beside ours."""
    own = tables["paper, none"]
    text = f"TP {own['TP']}, FP {own['FP']}, FN {own['FN']}, J {own['voxel_jaccard']:.3f}; of the FP {own['paired']} sit beside a missed voxel"
    theirs = PAPER["TP"] / (PAPER["TP"] + PAPER["FP"] + PAPER["FN"])
    return Claim(
        "voxel-wise",
        f"table 4: TP {PAPER['TP']}, FP {PAPER['FP']}, FN {PAPER['FN']}, J {theirs:.3f}; most errors are flips across a border",
        f"quad_plane.toml, {FRAMES} frames, the paper's network, {MINUTES:g} core-minutes",
        text,
        "yes" if own["voxel_jaccard"] >= theirs else "in part",
        "with shot noise of the molecules, which the public code leaves out, and a small part of the paper's training",
    )


def border_claim(tables: dict[str, Any]) -> Claim:
    """Say what joining across borders brings, in both networks."""
    parts = [
        f"{name}: voxels J {t['voxel_jaccard']:.3f}, {t['across_borders']:.3f} with flips counted as found; by distance J {t['jaccard']:.3f}, "
        f"lateral {t['rmse_lateral_nm']:.0f} nm, axial {t['rmse_z_nm']:.0f} nm"
        for name, t in tables.items()
    ]
    gain = tables["paper, borders"]["jaccard"] - tables["paper, none"]["jaccard"]
    return Claim(
        "ours",
        "joining predictions across borders removes the double ones",
        "the same; 'borders' joins touching voxels whose molecules are near each other",
        "; ".join(parts),
        "yes" if gain > 0.002 else "in part" if gain > 0 else "no",
        f"Jaccard by distance {gain:+.3f} for the paper's network",
    )


def speed_claim(speed: dict[str, Any]) -> Claim:
    """Say how fast the networks are."""
    parts = [f"{name} " + ", ".join(f"{fps:.3g} ({side} px)" for side, fps in found.items()) for name, found in speed.items()]
    ours, loco, voxels = (speed[name] for name in ("voxel_wise", "deep_loco", "deep_storm_3d"))
    fast = all(ours[side] >= 0.9 * loco[side] for side in ours)
    return Claim(
        "voxel-wise",
        "as fast as DeepLoco and faster than a network on voxels",
        "the papers' sizes, untrained, one thread, frames per second",
        "; ".join(parts),
        "yes" if fast and all(ours[side] > voxels[side] for side in ours) else "in part",
        "deep_storm_3d is the network on voxels",
    )


def draw(tables: dict[str, Any], speed: dict[str, Any]) -> None:
    """Draw voxels by kind, and speeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
    names = list(tables)
    bottom = [0.0] * len(names)
    for key, label in (("TP", "right"), ("paired", "across a border"), ("missed", "missed"), ("false", "false")):
        values = [{**t, "missed": t["FN"] - t["paired"], "false": t["FP"] - t["paired"]}[key] for t in tables.values()]
        left.bar(names, values, bottom=bottom, label=label)
        bottom = [b + v for b, v in zip(bottom, values, strict=True)]
    left.set(ylabel="voxels")
    left.tick_params(axis="x", labelsize=7)
    left.legend(frameon=False, fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    for name, found in speed.items():
        right.loglog([int(side) for side in found], list(found.values()), "o-", label=name)
    right.set(xlabel="side of the frame (px)", ylabel="frames per second")
    right.set_xticks(SIDES_PX, [str(side) for side in SIDES_PX])
    right.set_xticks((), minor=True)
    right.legend(frameon=False, fontsize=7)
    figure.savefig(figure_file("voxel_wise"))
    plt.close(figure)
