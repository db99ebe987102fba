"""A mask learned together with the network against the Tetrapod and the published learned mask, with equal networks and training."""

from __future__ import annotations

from typing import Any

import masks
import matplotlib.pyplot as plt
import numpy as np
from claims import Claim, Drawn, Setting, figure_file, localized, marks, record, simulated, trained

from denseloc.data import Localizations
from denseloc.experiment import Experiment
from denseloc.optics import PupilSettings
from denseloc.optics.designed_mask import FreeMask
from denseloc.optics.stack import StackPSF

MINUTES, DESIGN_MINUTES = 4.0, 10.0
PRESET = "tiny"
CENTRE_NM, RANGE_NM = 4000.0, 4000.0
ROI_PX, PUPIL_PX = 41, 256  # as the depths need, at an aperture far beyond the index of water
DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
DENSE = 0.3
EMITTERS, SIDE_PX = 1500, 72
TRAINED_ON = (0.05, 1.2)
OURS = "our learned"


def run(setting: Setting) -> None:
    """Learn a mask, train a network for each mask, test all of them at all densities."""
    sections = {name: masks.microscope(CENTRE_NM, ROI_PX, PUPIL_PX, masks.published(name, setting)) for name in masks.PUBLISHED}
    sections[OURS] = learned(setting)
    results: dict[str, list[dict[str, float]]] = {}
    for name, section in sections.items():
        experiment = document(baked(section))
        model = trained(f"mask_{name.replace(' ', '_')}", experiment, MINUTES, setting)
        results[name] = [tested(model.localizer, experiment, density) for density in DENSITIES]
    draw(sections, results)
    record(
        "learned_mask",
        "A learned mask for dense emitters",
        [claim(results, OURS, setting), claim(results, "published learned", setting)],
        {
            "densities_per_um2": DENSITIES,
            "marks": results,
            "minutes": MINUTES * setting.scale,
            "design_minutes": DESIGN_MINUTES * setting.scale,
        },
        {
            "learned_mask": "Masks and images over depth.",
            "learned_mask_marks": "Jaccard, lateral and axial RMSE against density, with equal networks trained equally (as paper figure 4c).",
        },
    )


def document(psf: dict[str, Any]) -> Experiment:
    """Write down the experiment of a mask."""
    values = {
        "pixel_size_nm": masks.PIXEL_NM,
        "psf": psf,
        "camera": {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.5, "read_noise_electrons": 1.6},
        "specimen": {
            "density_per_um2": TRAINED_ON,
            "z_nm": (-RANGE_NM / 2, RANGE_NM / 2),
            "photons": {"kind": "log_uniform", "low": 10_000.0, "high": 60_000.0},
            "background": {"kind": "uniform", "photons": (50.0, 200.0)},
        },
        "localizer": {"kind": "decode", "preset": PRESET},
        "training": {"batch_size": 4, "frames": 3, "patch_px": 56, "warmup": 50},
    }
    return Experiment.from_json(values)


def baked(section: dict[str, Any]) -> dict[str, Any]:
    """Give the images of a mask as a spline, in the same way for all masks."""
    optics = PupilSettings(**section).build((masks.PIXEL_NM, masks.PIXEL_NM))
    stack = StackPSF(optics, FreeMask(optics.mask_phase), (-RANGE_NM / 2, RANGE_NM / 2), 50.0)
    return stack.spline().model_dump()


def learned(setting: Setting) -> dict[str, Any]:
    """Learn a mask together with a network from a weak random start; give the section."""
    how = {"mask": "zernike", "degree": 8, "learning_rate": 0.05}
    return masks.learned("learned_mask", document(masks.microscope(CENTRE_NM, ROI_PX, PUPIL_PX)), how, DESIGN_MINUTES, setting)


def tested(localizer: Any, experiment: Experiment, density: float) -> dict[str, float]:
    """Give the marks at a density, over frames with some 1500 emitters."""
    side_um = SIDE_PX * masks.PIXEL_NM / 1000
    frames = max(8, round(EMITTERS / (density * side_um**2)))
    parts = [min(64, frames - at) for at in range(0, frames, 64)]
    drawn = [simulated(experiment, n, (SIDE_PX, SIDE_PX), 100 + i, density) for i, n in enumerate(parts)]
    found, truth = joined(drawn, [localized(localizer, one) for one in drawn])
    return marks(found, truth, True, drawn[0].size_nm)


def joined(drawn: list[Drawn], found: list[Localizations]) -> tuple[Localizations, Localizations]:
    """Put movies behind one another."""
    firsts = np.cumsum([0, *(len(one.frames) for one in drawn)])
    moved = [
        [Localizations({**table.columns, "frame": table.frame + first}) for table, first in zip(tables, firsts, strict=False)]
        for tables in (found, [one.truth for one in drawn])
    ]
    return Localizations.concat(moved[0]), Localizations.concat(moved[1])


def claim(results: dict[str, list[dict[str, float]]], name: str, setting: Setting) -> Claim:
    """Compare a learned mask with the Tetrapod above the density at which it should win."""
    at = [i for i, density in enumerate(DENSITIES) if density >= DENSE]
    mine, other = results[name], results["Tetrapod"]
    better = [
        sum(mine[i][key] > other[i][key] if key == "jaccard" else mine[i][key] < other[i][key] for i in at)
        for key in ("jaccard", "rmse_lateral_nm", "rmse_z_nm")
    ]
    parts = [f"{DENSITIES[i]:g} per um2: {short(mine[i])} against {short(other[i])}" for i in (0, *at)]
    return Claim(
        "Deep-STORM",
        f"a mask learned with the network beats the Tetrapod at high density (figure 4c): {name}",
        f"4 um, NA 1.45, 10 000 to 60 000 photons, {PRESET} networks, {MINUTES * setting.scale:.2g} core-minutes each"
        + (f"; {DESIGN_MINUTES * setting.scale:.2g} core-minutes of co-design" if name == OURS else ""),
        "; ".join(parts),
        "yes" if min(better) == len(at) else "no" if max(better) == 0 else "in part",
        f"of {len(at)} densities from {DENSE:g} per um2 better in Jaccard {better[0]}, lateral {better[1]}, axial {better[2]}",
    )


def short(mark: dict[str, float]) -> str:
    """Say Jaccard and RMSE."""
    return f"{mark['jaccard']:.3f} / {mark['rmse_lateral_nm']:.0f} / {mark['rmse_z_nm']:.0f} nm"


def draw(sections: dict[str, Any], results: dict[str, Any]) -> None:
    """Draw masks with their images, and the marks."""
    shown = np.linspace(-RANGE_NM / 2, RANGE_NM / 2, 9)
    figure, axes = plt.subplots(len(sections), 10, figsize=(11, 1.3 * len(sections)), layout="constrained")
    for row, (name, section) in zip(axes, sections.items(), strict=True):
        masks.show(row, section, shown, name)
    figure.savefig(figure_file("learned_mask"))
    plt.close(figure)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    keys = {"jaccard": "Jaccard", "rmse_lateral_nm": "lateral RMSE (nm)", "rmse_z_nm": "axial RMSE (nm)"}
    for axis, (key, label) in zip(axes, keys.items(), strict=True):
        for name, row in results.items():
            axis.plot(DENSITIES, [mark[key] for mark in row], "o-", ms=3, label=name)
        axis.set(xlabel="emitters per um2", ylabel=label, ylim=(0, None))
        axis.legend(frameon=False, fontsize=7)
    figure.savefig(figure_file("learned_mask_marks"))
    plt.close(figure)
