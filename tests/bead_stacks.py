"""Small stacks of beads whose PSF, places and light are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from denseloc.calibrate.stack import BeadStack
from denseloc.camera import Camera, SCMOSSettings
from denseloc.data import Emitters, Grid
from denseloc.microscope import Microscope
from denseloc.optics import AstigmaticSettings, PSFSettings

PIXEL_NM = (100.0, 100.0)
CAMERA = SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=1.5)
CAMERA_WORDS = "offset=100,electrons_per_count=0.5,read_noise=1.5"
ASTIGMATIC = AstigmaticSettings(width_nm=140, focus_a_nm=-220, focus_b_nm=240, depth_nm=370, angle_deg=0, roi_px=21)
Z = np.linspace(-600, 600, 13)
PLACES = ((1240.0, 1330.0), (3680.0, 1490.0), (2510.0, 3590.0))
"""x and y in nm of lone beads in a field of 48 x 48 px."""


def bead_counts(
    psf: PSFSettings = ASTIGMATIC,
    *,
    z_nm: np.ndarray = Z,
    places: Sequence[tuple[float, float]] = PLACES,
    photons: float | Sequence[float] = 30_000.0,
    camera: Camera | None = None,
    side: int = 48,
    background: float = 8.0,
    seed: int = 0,
) -> np.ndarray:
    """Draw counts (depths, rows, columns), with an axis of focal planes after the first where the PSF has several."""
    built = psf.build(PIXEL_NM)
    microscope = Microscope(built, camera or CAMERA.build(), Grid((side, side), PIXEL_NM))
    n, beads = len(z_nm), len(places)
    x, y = (torch.tensor([place[axis] for place in places]).repeat(n) for axis in (0, 1))
    light = torch.tensor(np.broadcast_to(np.asarray(photons, np.float32), beads).copy()).repeat(n)
    z = torch.from_numpy(np.asarray(z_nm, np.float32)).repeat_interleave(beads)
    emitters = Emitters.of(torch.arange(n).repeat_interleave(beads), x, y, light, z)
    even = torch.full((n, built.planes, side, side), background)
    with torch.no_grad():
        counts = microscope.sample(emitters, even, torch.Generator().manual_seed(seed)).numpy()
    return counts[:, 0] if built.planes == 1 else counts


def bead_stack(psf: PSFSettings = ASTIGMATIC, *, z_nm: np.ndarray = Z, name: str = "beads.tif", **how: object) -> BeadStack:
    """Draw a stack in photons."""
    return BeadStack.of(bead_counts(psf, z_nm=z_nm, **how), z_nm, CAMERA.build(), name)  # type: ignore[arg-type]
