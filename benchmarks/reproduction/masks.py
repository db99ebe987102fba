"""The microscope of the published masks: what the experiments with phase masks share."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims import Setting

from denseloc import design
from denseloc.experiment import Experiment
from denseloc.fit import crlb
from denseloc.formats.psf_files import read_psf
from denseloc.localize import TrainableLocalizer
from denseloc.optics import PupilSettings
from denseloc.optics_document import OpticsDocument
from denseloc.train.co_design import CoDesign
from denseloc.verbs.optics_design import with_first_mask

PIXEL_NM = 110.0
RELAY = {"pixel_um": 24.0, "focal_length_mm": 150.0, "magnification": 100.0}
FOCUS_NM = 4500.0
PUBLISHED = {"Tetrapod": "mask_tetrapod.mat", "published learned": "mask_learned.mat"}
HEIGHTS_NM = (2000.0, 6000.0)
"""Depths above the cover glass for which the published masks were made."""


def microscope(centre_nm: float, roi_px: int, pupil_px: int, mask: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give the section ``[psf]``: NA 1.45, oil, water, 580 nm, focus at 4.5 um; z = 0 lies at the centre of the depths."""
    return {
        "kind": "pupil",
        "wavelength_nm": 580.0,
        "numerical_aperture": 1.45,
        "immersion_index": 1.518,
        "medium_index": 1.33,
        "depth_nm": centre_nm,
        "focal_plane_nm": FOCUS_NM,
        "model": "scalar",
        "roi_px": roi_px,
        "pupil_px": pupil_px,
        **({} if mask is None else {"mask": mask}),
    }


def published(name: str, setting: Setting) -> dict[str, Any]:
    """Give the section of a published mask."""
    folder = setting.data / "data" / "DeepSTORM3D" / "masks"
    return {"kind": "array", "values": str(folder / PUBLISHED[name]), **RELAY}


@torch.no_grad()
def bounds(psf: dict[str, Any], z_nm: np.ndarray, photons: float, background: float) -> np.ndarray:
    """Give the bounds (n, 3) of x, y and z at depths, from the pupil itself, averaged over two places in the pixel."""
    made = PupilSettings(**psf).build((PIXEL_NM, PIXEL_NM))
    side = made.roi_px
    places = []
    for dx, dy in ((0.12, -0.19), (-0.33, 0.4)):
        at = [[(side / 2 + dx) * PIXEL_NM, (side / 2 + dy) * PIXEL_NM, z] for z in z_nm]
        found = crlb(made, torch.tensor(at)[:, None], photons, background, window_px=(side, side))
        assert found.z_nm is not None
        places.append(np.stack([found.x_nm[:, 0], found.y_nm[:, 0], found.z_nm[:, 0]], 1))
    return np.mean(places, 0)


@torch.no_grad()
def images(psf: dict[str, Any], z_nm: np.ndarray) -> np.ndarray:
    """Give the images (n, k, k)."""
    made = PupilSettings(**psf).build((PIXEL_NM, PIXEL_NM))
    return made(torch.zeros(len(z_nm), 2), torch.tensor(z_nm, dtype=torch.float32))[:, 0].numpy()


def phase(psf: dict[str, Any]) -> np.ndarray:
    """Give the mask's phase within -pi .. pi on the pupil, NaN outside of the aperture."""
    made = PupilSettings(**psf).build((PIXEL_NM, PIXEL_NM))
    turned = np.angle(np.exp(1j * made.mask_phase.numpy()))
    return np.where(made.coverage.numpy() > 0, turned, np.nan)


def show(axes: Any, psf: dict[str, Any], z_nm: np.ndarray, name: str) -> None:
    """Draw a mask and its images into a row of axes, the first for the mask."""
    axes[0].imshow(phase(psf), cmap="twilight", vmin=-np.pi, vmax=np.pi, interpolation="nearest")
    axes[0].set_ylabel(name)
    for axis, image, z in zip(axes[1:], images(psf, z_nm), z_nm, strict=True):
        axis.imshow(image, cmap="gray", vmin=0)
        axis.set_title(f"{z:+.0f} nm", fontsize=7)
    for axis in axes:
        axis.set_xticks(())
        axis.set_yticks(())


def folder(setting: Setting, name: str) -> Path:
    """Give the folder that keeps a design."""
    return setting.models / name


def learned(name: str, experiment: Experiment, how: dict[str, Any], minutes: float, setting: Setting) -> dict[str, Any]:
    """Learn a mask together with a network for so many minutes of one core, unless it is done; give the section of the PSF."""
    out = folder(setting, name)
    kept = out.with_suffix(".json")
    base = {**experiment.to_json(), "design": {"objective": "network", **how}}
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        seconds = seconds_per_step(OpticsDocument.from_json(base))
        kept.write_text(json.dumps({"steps": max(20, round(60 * minutes * setting.scale / seconds))}))
    base["training"]["steps"] = json.loads(kept.read_text())["steps"]
    if not (out / "psf.h5").exists():
        made = design(
            OpticsDocument.from_json(base),
            out,
            resume=True,
            report=lambda p: print(f"  {name} {p.step}/{p.steps} {p.seconds:.0f} s, loss {p.loss:.4g}", flush=True),
        )
        print(f"  {name} {made.record['seconds']:.0f} s", *made.notes, flush=True)
    return dict(read_psf(out / "psf.h5").section.model_dump())


def seconds_per_step(wanted: OpticsDocument) -> float:
    """Time a step of the co-design, on the process's own clock."""
    psf = with_first_mask(wanted, wanted.psf.build(wanted.pixel_size_nm))
    localizer = wanted.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    simulator = wanted.build_simulator(localizer)
    simulator.microscope.psf = psf
    settings = wanted.training.model_copy(update={"steps": 12})
    trainer = CoDesign(localizer, simulator, settings, wanted.design, psf)
    trainer.step = 3  # where the mask moves
    trainer._train_step()
    began = time.process_time()
    for _ in range(3):
        trainer._train_step()
    return (time.process_time() - began) / 3
