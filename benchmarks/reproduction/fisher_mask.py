"""A mask designed by Fisher information for 3 um, from a weak random start, against the published Tetrapod."""

from __future__ import annotations

from typing import Any

import masks
import matplotlib.pyplot as plt
import numpy as np
from claims import Claim, Setting, figure_file, record

from denseloc import design
from denseloc.optics_document import OpticsDocument

STEPS = {"zernike": 300, "free": 300}
RANGE_NM = 3000.0
PHOTONS, BACKGROUND = 3500.0, 50.0
ROI_PX, PUPIL_PX, EXACT_PUPIL_PX = 41, 128, 192
SHOWN = 7


def run(setting: Setting) -> None:
    """Find where the Tetrapod is best, design for the same depths, compare the bounds."""
    centre = best_centre(setting)
    z = np.linspace(-RANGE_NM / 2, RANGE_NM / 2, 31)
    psfs = {
        name: masks.microscope(centre, ROI_PX, EXACT_PUPIL_PX, masks.published(name, setting))
        for name in ("Tetrapod", "published learned")
    }
    for form, steps in STEPS.items():
        psfs[f"designed, {form}"] = designed(form, max(20, round(steps * setting.scale)), centre, setting)
    curves = {name: masks.bounds(psf, z, PHOTONS, BACKGROUND) for name, psf in psfs.items()}
    draw(psfs, curves, z)
    mean = {name: float(curve.mean()) for name, curve in curves.items()}
    worst = {name: float(curve.mean(1).max()) for name, curve in curves.items()}
    best = min((name for name in mean if name.startswith("designed")), key=lambda name: mean[name])
    each = ", ".join(
        f"{name} {mean[name]:.1f} (x {c[0]:.1f}, y {c[1]:.1f}, z {c[2]:.1f})"
        for name, c in zip(curves, (v.mean(0) for v in curves.values()), strict=True)
    )
    record(
        "fisher_mask",
        "A mask by Fisher information",
        [
            Claim(
                "Deep-STORM",
                "a mask of least Cramer-Rao bound over 3 um reaches the bound of the Tetrapod, which was found so",
                f"NA 1.45, 580 nm, {PHOTONS:.0f} photons, background {BACKGROUND:.0f}; {RANGE_NM / 1000:g} um where the published Tetrapod is best; "
                f"designs of {', '.join(f'{round(s * setting.scale)} steps ({f})' for f, s in STEPS.items())} from a weak random start",
                f"mean bound in nm: {each}",
                "yes" if mean[best] <= 1.001 * mean["Tetrapod"] else "no",
                f"{best} is {100 * (1 - mean[best] / mean['Tetrapod']):.0f} % below the Tetrapod, which was made for 4 um; "
                f"at the worst depth {worst[best]:.1f} against {worst['Tetrapod']:.1f} nm",
            )
        ],
        {"centre_nm": centre, "mean_nm": mean, "worst_nm": worst, "curves_nm": {n: c.round(3).tolist() for n, c in curves.items()}},
        {"fisher_mask": "Masks and images over depth.", "fisher_mask_bounds": "Least standard deviations over depth."},
    )


def best_centre(setting: Setting) -> float:
    """Give the middle (height above the glass) of the depths over which the published Tetrapod has its least mean bound."""
    low, high = masks.HEIGHTS_NM
    middle = (low + high) / 2
    heights = np.arange(low, high + 1, 250.0)
    psf = masks.microscope(middle, ROI_PX, EXACT_PUPIL_PX, masks.published("Tetrapod", setting))
    curve = masks.bounds(psf, heights - middle, PHOTONS, BACKGROUND).mean(1)
    wide = round(RANGE_NM / 250) + 1
    means = [curve[i : i + wide].mean() for i in range(len(heights) - wide + 1)]
    return float(heights[int(np.argmin(means))] + RANGE_NM / 2)


def document(form: str, steps: int, centre: float, pupil_px: int) -> OpticsDocument:
    """Write down the design."""
    values: dict[str, Any] = {
        "name": f"Fisher, {form}",
        "pixel_size_nm": masks.PIXEL_NM,
        "psf": masks.microscope(centre, ROI_PX, pupil_px),
        "camera": {"kind": "ideal"},
        "specimen": {
            "density_per_um2": 0.1,
            "z_nm": (-RANGE_NM / 2, RANGE_NM / 2),
            "photons": {"kind": "constant", "photons": PHOTONS},
            "background": {"kind": "uniform", "photons": BACKGROUND},
        },
        "design": {"mask": form, "degree": 8, "steps": steps, "learning_rate": 0.05, "photons": PHOTONS, "background": BACKGROUND},
    }
    return OpticsDocument.from_json(values)


def designed(form: str, steps: int, centre: float, setting: Setting) -> dict[str, Any]:
    """Design, unless it is done, and give the section drawn with a fine pupil."""
    folder = masks.folder(setting, f"fisher_{form}_{steps}")
    wanted = document(form, steps, centre, PUPIL_PX)
    if not (folder / "psf.h5").exists():
        made = design(wanted, folder, resume=True)
        print(
            f"  {folder.name} {made.record['seconds']:.0f} s, {made.before.mean_nm:.2f} to {made.after.mean_nm:.2f} nm",
            *made.notes,
            flush=True,
        )
    from denseloc.formats.psf_files import read_psf

    section = read_psf(folder / "psf.h5").section
    return {**section.model_dump(), "pupil_px": EXACT_PUPIL_PX}


def draw(psfs: dict[str, Any], curves: dict[str, np.ndarray], z: np.ndarray) -> None:
    """Draw masks with their images, and the bounds."""
    shown = np.linspace(z[0], z[-1], SHOWN)
    figure, axes = plt.subplots(len(psfs), SHOWN + 1, figsize=(11, 1.45 * len(psfs)), layout="constrained")
    for row, (name, psf) in zip(axes, psfs.items(), strict=True):
        masks.show(row, psf, shown, name)
    figure.savefig(figure_file("fisher_mask"))
    plt.close(figure)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for k, axis in enumerate(axes):
        for name, curve in curves.items():
            axis.plot(z / 1000, curve[:, k], label=f"{name} ({curve[:, k].mean():.1f})")
        axis.set(xlabel="z (um)", ylabel=f"least sigma of {'xyz'[k]} (nm)", ylim=(0, None))
        axis.legend(frameon=False, fontsize=7)
    figure.savefig(figure_file("fisher_mask_bounds"))
    plt.close(figure)
