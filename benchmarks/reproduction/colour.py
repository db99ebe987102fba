"""Colours from grey images: how often two colours are told right, against photons, without a mask, with the Tetrapod, with a learned mask."""

from __future__ import annotations

from typing import Any

import masks
import matplotlib.pyplot as plt
import numpy as np
import torch
from claims import BORDER_NM, Claim, Setting, figure_file, localized, record, simulated, trained

from denseloc.data import Localizations
from denseloc.evaluate import colour_confusion, match
from denseloc.experiment import Experiment
from denseloc.optics import ColoursSettings
from denseloc.optics.colour_stack import ColourStackPSF
from denseloc.optics.designed_mask import FreeMask

MINUTES, DESIGN_MINUTES = 4.0, 12.0
PRESET = "tiny"
EMISSION_NM = (590.0, 680.0)
"""Emission of dyes excited at 561 and at 647 nm."""
MASK_NM = 580.0
DEPTH_NM, RANGE_NM = 400.0, (-150.0, 150.0)
ROI_PX, PUPIL_PX = 31, 64
PHOTONS = (300.0, 500.0, 1000.0, 2000.0, 3000.0, 5000.0, 10_000.0)
ENOUGH = 1000.0
"""Photons from which on claims are judged."""
DENSITY_PER_UM2, EMITTERS, SIDE_PX = 0.05, 1500, 64
PLAIN, TETRAPOD, OURS = "no mask", "Tetrapod", "learned mask"


def run(setting: Setting) -> None:
    """Learn a mask, train a network for each PSF, count right colours at all numbers of photons."""
    sections = {
        PLAIN: microscope(),
        TETRAPOD: microscope(masks.published(TETRAPOD, setting)),
        OURS: learned(setting),
    }
    results: dict[str, list[dict[str, float]]] = {}
    for name, section in sections.items():
        experiment = document(baked(section))
        model = trained(f"colour_{name.replace(' ', '_')}", experiment, MINUTES, setting)
        results[name] = [tested(model.localizer, experiment, photons) for photons in PHOTONS]
        print(
            f"  {name}: " + ", ".join(f"{p:g}: {m['right']:.3f}" for p, m in zip(PHOTONS, results[name], strict=True)), flush=True
        )
    draw(sections, results)
    record(
        "colour",
        "Colours from grey images",
        [claim(results, setting)],
        {
            "photons": PHOTONS,
            "marks": {name: [{k: v if np.isfinite(v) else None for k, v in m.items()} for m in ms] for name, ms in results.items()},
            "emission_nm": EMISSION_NM,
            "minutes": MINUTES * setting.scale,
            "design_minutes": DESIGN_MINUTES * setting.scale,
        },
        {
            "colour": f"Masks, and images at {EMISSION_NM[0]:g} nm (above) and {EMISSION_NM[1]:g} nm.",
            "colour_marks": "Share of found emitters whose colour is right, Jaccard and lateral RMSE against photons; two colours.",
        },
    )


def microscope(mask: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give the section ``[psf]``: that of the published masks in two colours, molecules near the cover glass and in focus."""
    optics = masks.microscope(DEPTH_NM, ROI_PX, PUPIL_PX, mask) | {"wavelength_nm": MASK_NM, "focal_plane_nm": None}
    return {"kind": "colours", "roi_px": ROI_PX, "optics": optics, "wavelengths_nm": EMISSION_NM, "mask_wraps": True}


def document(psf: dict[str, Any]) -> Experiment:
    """Write down the experiment of a PSF."""
    values = {
        "pixel_size_nm": masks.PIXEL_NM,
        "psf": psf,
        "camera": {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.5, "read_noise_electrons": 1.6},
        "specimen": {
            "density_per_um2": (0.03, 0.3),
            "z_nm": RANGE_NM,
            "photons": {"kind": "log_uniform", "low": PHOTONS[0], "high": PHOTONS[-1]},
            "background": {"kind": "uniform", "photons": (5.0, 15.0)},
        },
        "localizer": {"kind": "decode", "preset": PRESET, "context": "none"},
        "training": {"batch_size": 8, "frames": 1, "patch_px": 40, "warmup": 50},
    }
    return Experiment.from_json(values)


def built(section: dict[str, Any]) -> Any:
    """Build the PSF of a section."""
    return ColoursSettings(**section).build((masks.PIXEL_NM, masks.PIXEL_NM))


def baked(section: dict[str, Any]) -> dict[str, Any]:
    """Give the images of a mask as splines, in the same way for all masks."""
    colours = built(section)
    return ColourStackPSF(colours, FreeMask(colours.in_channel(0).mask_phase), RANGE_NM, 50.0).spline().model_dump()


def learned(setting: Setting) -> dict[str, Any]:
    """Learn a mask together with a network from a weak random start; give the section."""
    how = {"mask": "zernike", "degree": 8, "learning_rate": 0.03, "z_step_nm": 50.0}
    return masks.learned("colour_mask", document(microscope()), how, DESIGN_MINUTES, setting)


def tested(localizer: Any, experiment: Experiment, photons: float) -> dict[str, float]:
    """Give the marks at a number of photons, over frames with some 1500 emitters that stand apart."""
    law = {"kind": "constant", "photons": photons}
    values = experiment.to_json()
    bright = Experiment.from_json({**values, "specimen": {**values["specimen"], "photons": law}})
    side_um = SIDE_PX * masks.PIXEL_NM / 1000
    frames = round(EMITTERS / (DENSITY_PER_UM2 * side_um**2))
    drawn = simulated(bright, frames, (SIDE_PX, SIDE_PX), 100 + int(photons), DENSITY_PER_UM2)
    found, truth = (inside(table, drawn.size_nm) for table in (localized(localizer, drawn), drawn.truth))
    pairs = match(found, truth, dimensions=2)
    told = colour_confusion(found, truth, pairs)
    dx, dy = (pairs.difference(name, found, truth) for name in ("x_nm", "y_nm"))
    return {
        "right": np.nan if told is None else told.right,
        "confidence_error": np.nan if told is None else told.confidence_error,
        "jaccard": len(pairs) / max(1, len(truth) + len(found) - len(pairs)),
        "rmse_lateral_nm": float(np.sqrt(np.mean(dx**2 + dy**2))) if len(pairs) else np.nan,
        "pairs": len(pairs),
    }


def inside(table: Localizations, field_nm: tuple[float, float]) -> Localizations:
    """Keep what lies inside of the border."""
    near = [(v > BORDER_NM) & (v < side - BORDER_NM) for v, side in zip((table.y_nm, table.x_nm), field_nm, strict=True)]
    return table.select(near[0] & near[1])


def claim(results: dict[str, list[dict[str, float]]], setting: Setting) -> Claim:
    """Compare the learned mask with the others from `ENOUGH` photons on."""
    at = [i for i, photons in enumerate(PHOTONS) if photons >= ENOUGH]
    better = {name: sum(results[OURS][i]["right"] > results[name][i]["right"] for i in at) for name in (PLAIN, TETRAPOD)}
    near_perfect = all(results[OURS][i]["right"] > 0.95 for i in at)
    beats = all(n == len(at) for n in better.values())
    parts = [
        f"{photons:g} photons: " + ", ".join(f"{name} {100 * results[name][i]['right']:.1f} %" for name in results)
        for i, photons in enumerate(PHOTONS)
    ]
    return Claim(
        "Deep-STORM",
        "a mask learned with the network tells the colours of single emitters from grey images nearly perfectly",
        f"two colours ({EMISSION_NM[0]:g} and {EMISSION_NM[1]:g} nm), NA 1.45, z ±{RANGE_NM[1]:g} nm, {DENSITY_PER_UM2:g} emitters per um2, 5 to 15 "
        f"photons of background, {PRESET} networks, {MINUTES * setting.scale:.2g} core-minutes each; "
        f"{DESIGN_MINUTES * setting.scale:.2g} core-minutes of co-design",
        "right colour at " + "; ".join(parts),
        "yes" if beats and near_perfect else "no" if not any(better.values()) else "in part",
        f"of {len(at)} numbers of photons from {ENOUGH:g} on, the learned mask is better than no mask at {better[PLAIN]}, than the Tetrapod at "
        f"{better[TETRAPOD]}" + ("; always above 95 %" if near_perfect else ""),
    )


def draw(sections: dict[str, Any], results: dict[str, Any]) -> None:
    """Draw masks with their images, and the marks."""
    shown = torch.linspace(*RANGE_NM, 5)
    figure, axes = plt.subplots(len(sections), 6, figsize=(9, 2.6 * len(sections)), layout="constrained")
    for row, (name, section) in zip(axes, sections.items(), strict=True):
        colours = built(section)
        first = colours.in_channel(0)
        phase = np.where(first.coverage.numpy() > 0, np.angle(np.exp(1j * first.mask_phase.numpy())), np.nan)
        row[0].imshow(phase, cmap="twilight", vmin=-np.pi, vmax=np.pi, interpolation="nearest")
        row[0].set_ylabel(name)
        with torch.no_grad():
            images = [colours.in_channel(c)(torch.zeros(len(shown), 2), shown)[:, 0].numpy() for c in range(colours.channels)]
        for i, axis in enumerate(row[1:]):
            axis.imshow(np.concatenate([channel[i] / channel[i].max() for channel in images]), cmap="gray", vmin=0)
            axis.set_title(f"{float(shown[i]):+.0f} nm", fontsize=7)
        for axis in row:
            axis.set_xticks(())
            axis.set_yticks(())
    figure.savefig(figure_file("colour"))
    plt.close(figure)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    keys = {"right": "right colour", "jaccard": "Jaccard", "rmse_lateral_nm": "lateral RMSE (nm)"}
    for axis, (key, label) in zip(axes, keys.items(), strict=True):
        for name, row in results.items():
            axis.plot(PHOTONS, [mark[key] for mark in row], "o-", ms=3, label=name)
        axis.set(xlabel="photons", ylabel=label, xscale="log", ylim=(0.45, 1.01) if key == "right" else (0, None))
        axis.legend(frameon=False, fontsize=7)
    figure.savefig(figure_file("colour_marks"))
    plt.close(figure)
