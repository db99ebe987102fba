"""DeepSTORM3D: Tetrapod over 4 um at rising density, our small network beside its authors' trained one on the same frames; real frames."""

from __future__ import annotations

from typing import Any

import deep_storm_3d_authors as authors
import matplotlib.pyplot as plt
import numpy as np
import torch
from claims import Claim, Setting, figure_file, record, trained

from denseloc.formats import open_movie
from denseloc.localize import Localizer

MINUTES = 12.0
DENSITIES = (0.0126, 0.063, 0.126, 0.252, 0.441, 0.63, 0.9)
FRAMES, SEED = 8, 41
DIM = 6000.0  # photons below which an emitter is neither asked for nor held against anybody, as in the authors' labels
REAL = "DeepSTORM3D/Tetrapod_demo2"


def run(setting: Setting) -> None:
    """Train ours, mark both, draw the curves and a real frame."""
    data = setting.data / "data"
    experiment = authors.tetrapod(data)
    networks = {"ours": trained("deep_storm_3d", experiment, MINUTES, setting).localizer, "theirs": authors.authors_network(data)}
    curves: dict[str, list[dict[str, float]]] = {name: [] for name in networks}
    for density in DENSITIES:
        frames, truth = authors.clear_frames(experiment, density, FRAMES, SEED)
        for name, localizer in networks.items():
            curves[name].append({"density": density, **authors.mark(localizer, frames, truth, DIM)})
            print("  ", name, curves[name][-1], flush=True)
    show(curves, real_frames(networks["ours"], setting))


def show(curves: dict[str, list[dict[str, float]]], shown: dict[str, float]) -> None:
    """Draw and record."""
    draw(curves)
    record(
        "deep_storm_3d",
        "DeepSTORM3D with a Tetrapod",
        [density_claim(curves)],
        {"curves": curves, "real": shown, "minutes": MINUTES},
        {
            "deep_storm_3d": "Jaccard, lateral and axial error against density, on the same simulated frames.",
            "deep_storm_3d_real": "A real Tetrapod frame of the authors' data, and what our network finds in it, coloured by depth.",
        },
    )


def real_frames(localizer: Localizer, setting: Setting) -> dict[str, float]:
    """Localize some real frames and draw the first."""
    movie = open_movie(setting.data / "data" / REAL)
    counts = movie.read(movie.frames[0], movie.frames[0] + 3).astype(np.float32)
    counts = counts - np.quantile(counts, 0.02)  # their background is left
    frames = authors.Frames(torch.from_numpy(counts.reshape(-1, 1, *counts.shape[-2:])), localizer.scales.pixel_size_nm)
    found = localizer(frames)
    first = found.select(found.frame == 0)
    p = localizer.scales.pixel_size_nm[0]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharex=True, sharey=True)
    image = frames.photons[0, 0].numpy()
    axes[0].imshow(image, cmap="gray", vmax=np.quantile(image, 0.998))
    axes[1].imshow(image, cmap="gray", vmax=np.quantile(image, 0.998), alpha=0.4)
    dots = axes[1].scatter(first.x_nm / p - 0.5, first.y_nm / p - 0.5, c=first.z_nm / 1e3, s=8, cmap="turbo")
    figure.colorbar(dots, label="z (um)")
    figure.savefig(figure_file("deep_storm_3d_real"))
    plt.close(figure)
    return {"frames": len(frames), "localizations": len(found)}


def density_claim(curves: dict[str, Any]) -> Claim:
    """Compare the two at each density."""
    pairs = list(zip(curves["ours"], curves["theirs"], strict=True))
    found = sum(a["jaccard"] >= b["jaccard"] - 0.01 for a, b in pairs)
    keys = {"lateral": "rmse_lateral_nm", "axial": "rmse_axial_nm"}
    finer = {name: sum(a[key] <= b[key] for a, b in pairs) for name, key in keys.items()}
    ratio = {name: np.exp(np.mean([np.log(a[key] / b[key]) for a, b in pairs])) for name, key in keys.items()}
    parts = [
        f"{a['density']:g}: J {a['jaccard']:.2f} against {b['jaccard']:.2f}, lateral {a['rmse_lateral_nm']:.0f} against "
        f"{b['rmse_lateral_nm']:.0f}, axial {a['rmse_axial_nm']:.0f} against {b['rmse_axial_nm']:.0f} nm"
        for a, b in pairs
    ]
    return Claim(
        "DeepSTORM3D",
        "dense Tetrapods over 4 um can be localized by a network to a voxel grid (figures of its trained network)",
        f"tetrapod.toml, our small network of {MINUTES:g} core-minutes against the authors' weights, {FRAMES} frames of 121 x 121 px a density",
        "; ".join(parts),
        "yes" if min(found, *finer.values()) == len(pairs) else "in part" if found else "no",
        f"of {len(pairs)} densities ours finds as many at {found} and errs no more at {finer['lateral']} (lateral) and {finer['axial']} (axial): "
        f"{ratio['lateral']:.1f} and {ratio['axial']:.1f} times their errors in the mean, after a small part of their training",
    )


def draw(curves: dict[str, Any]) -> None:
    """Draw Jaccard and errors against density."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), layout="constrained")
    for axis, key, label in zip(
        axes, ("jaccard", "rmse_lateral_nm", "rmse_axial_nm"), ("Jaccard", "lateral RMSE (nm)", "axial RMSE (nm)"), strict=True
    ):
        for name, rows in curves.items():
            axis.semilogx([r["density"] for r in rows], [r[key] for r in rows], "o-", ms=3, label=name)
        axis.set(xlabel="emitters per um²", ylabel=label)
    axes[0].legend(frameon=False)
    figure.savefig(figure_file("deep_storm_3d"))
    plt.close(figure)
