"""What is looked at before an optics design begins: sampling, memory, and whether the modulator can hold the mask."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import DocumentError
from ..machine import memory_bytes
from ..optics import PupilPSF
from ..optics.designed_mask import check_covers
from ..optics.masks import ArrayMaskSettings
from ..optics.stack import DesignedPSF
from ..optics_document import OpticsDocument
from ..specimen.ranges import high as highest

WORST_ERROR, NOTED_ERROR = 0.25, 0.1
"""Change of an image with a pupil of twice the cells, as a fraction of its norm, from which on a design is refused, or is noted."""
FINEST_PUPIL_PX = 512
BYTES, COPIES = 4, 8
"""Of a number; and how many copies of the patches of a batch the gradient keeps."""


@torch.no_grad()
def sampling_error(optics: PupilPSF, z_nm: tuple[float, float]) -> tuple[float, int]:
    """Compare the images at both ends of the depths with those of a pupil of twice as many cells.

    Returns:
        norm of the difference as a fraction of the image's, the greater of both, and the finer pupil_px; 0 where there is no finer one.
    """
    cells = optics.settings.pupil_px
    finer = min(FINEST_PUPIL_PX, 2 * cells)
    if finer == cells:
        return 0.0, cells
    device = optics.places.device
    better = optics.finer(finer).to(device)
    z = torch.tensor(z_nm, device=device)
    place = torch.zeros(2, 2, device=device)
    image, truth = optics(place, z), better(place, z)
    return float(
        (torch.linalg.vector_norm(image - truth, dim=(1, 2, 3)) / torch.linalg.vector_norm(truth, dim=(1, 2, 3))).max()
    ), finer


def check_sampling(document: OpticsDocument, optics: PupilPSF) -> None:
    """Check that the start mask covers the aperture, and that the pupil has enough cells for mask and depths.

    Raises:
        DocumentError: it has not.
    """
    check_covers(optics.settings)
    low, high = document.specimen.z_nm
    error, finer = sampling_error(optics, (low, high))
    if error > WORST_ERROR:
        raise DocumentError(
            f"{document.pupil_key}.pupil_px {optics.settings.pupil_px} is too coarse for z from {low:g} to {high:g} nm: with {finer} the image there "
            f"changes by {100 * error:.0f} %; raise {document.pupil_key}.pupil_px, or narrow specimen.z_nm"
        )


def check_memory(document: OpticsDocument, psf: DesignedPSF, device: torch.device) -> None:
    """Check that the depths, and the emitters of a batch, fit into the memory of the device.

    Raises:
        DocumentError: they do not.
    """
    there = memory_bytes(device)
    if there is None:
        return
    planes, side = len(psf.stacks[0].depths_nm), psf.roi_px
    stack = sum(4 * one.coefficients.numel() + one.numbers_per_depth * min(planes, 8) for one in psf.stacks)
    patches, what = 5 * max(16, planes) * side**2 * COPIES, f"{planes} depths of {side} x {side} px"
    if document.design.objective == "network":
        training = document.training
        area = ((training.patch_px + 12) ** 2) * document.pixel_size_nm[0] * document.pixel_size_nm[1] / 1e6
        emitters = training.batch_size * training.frames * area * highest(document.specimen.density_per_um2)
        patches = round(emitters * side**2 * COPIES)
        what += f" and {emitters:.0f} emitters a batch"
    needed = BYTES * (stack + patches)
    if needed > there:
        raise DocumentError(
            f"{what} need about {needed / 1e9:.0f} GB, {device} has {there / 1e9:.0f} GB; take a greater design.z_step_nm, a smaller "
            "psf.roi_px or pupil_px, or a smaller training.batch_size or patch_px"
        )


def check_modulator(document: OpticsDocument) -> None:
    """Check that the modulator is as large as the image of the aperture on it.

    Raises:
        DocumentError: it is smaller.
    """
    modulator = document.design.modulator
    if modulator is None:
        return
    across, least = 2 * aperture_radius_px(document), min(modulator.rows, modulator.columns)
    if across > least or across < 8:
        raise DocumentError(
            f"the aperture is {across:.0f} pixels across on the modulator of {modulator.rows} x {modulator.columns} pixels, expected 8 to "
            f"{least}; correct pixel_um, focal_length_mm and magnification of [design.modulator]"
        )


def aperture_radius_px(document: OpticsDocument) -> float:
    """Give the radius of the aperture on the modulator, in its pixels; on the pupil's own cells where there is none."""
    modulator = document.design.modulator
    if modulator is None:
        return float(document.pupil.pupil_px) / 2
    relay = ArrayMaskSettings(
        values=np.zeros((4, 4)),
        pixel_um=modulator.pixel_um,
        focal_length_mm=modulator.focal_length_mm,
        magnification=modulator.magnification,
    )
    return relay.radius_px(document.pupil.numerical_aperture)
