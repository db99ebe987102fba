"""Phase masks that are being designed: parameters, the phase that they make on the pupil, and the section of the document."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import DocumentError
from .masks import ArrayMaskSettings, MaskSettings, ZernikeMaskSettings
from .pupil import PupilPSF, PupilSettings
from .zernike import order, zernikes

FIRST = 3
"""Index of the first polynomial that shapes an image: before come piston and the two tilts, which only move it."""
ROUGH_DEGREE = 4
"""Radial degree up to which a random start goes."""

MaskForm = Literal["zernike", "free"]


class DesignedMask(nn.Module, ABC):
    """A phase on the pupil with learnable parameters."""

    @abstractmethod
    def phase(self) -> Tensor:
        """Give the phase (P, P) in rad on the cells of the pupil."""

    @abstractmethod
    def section(self) -> MaskSettings:
        """Give the mask as it is now as a section of a document."""


class FreeMask(DesignedMask):
    """One phase for each cell of the pupil."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(start.clone())

    def phase(self) -> Tensor:
        """Give the parameters themselves."""
        return self.values

    def section(self) -> ArrayMaskSettings:
        """Give an array that fills the aperture, phases within -pi .. pi."""
        return ArrayMaskSettings(values=wrapped(self.values.detach().cpu().double()).float().numpy())


class ZernikeMask(DesignedMask):
    """Amplitudes of Zernike polynomials, without piston and tilts."""

    basis: Tensor

    def __init__(self, amplitudes_rad: Tensor, optics: PupilPSF, wavelength_nm: float) -> None:
        super().__init__()
        self.amplitudes = nn.Parameter(amplitudes_rad.clone())
        self.wavelength_nm = wavelength_nm
        basis = zernikes(FIRST + len(amplitudes_rad), *cells(optics))[FIRST:]
        self.register_buffer("basis", basis.float(), persistent=False)

    def phase(self) -> Tensor:
        """Sum up the polynomials."""
        return torch.tensordot(self.amplitudes, self.basis, 1)

    def section(self) -> ZernikeMaskSettings:
        """Give the amplitudes as wavefronts in nm."""
        nm = self.amplitudes.detach().cpu().double() * self.wavelength_nm / (2 * math.pi)
        return ZernikeMaskSettings(rms_nm=(0.0,) * FIRST + tuple(round(v, 4) for v in nm.tolist()))


def designed_mask(
    optics: PupilPSF, form: MaskForm, degree: int, generator: torch.Generator, start_rad: float = 0.5
) -> DesignedMask:
    """Make the mask with which a design begins: the one of the document, or a weak random one.

    Args:
        optics: the microscope; its section's mask is the start, where there is one.
        form: a few polynomials, or each cell by itself.
        degree: highest radial degree of the polynomials.
        generator: draws the random start, on the CPU.
        start_rad: rms of the random start.

    Raises:
        DocumentError: the document's mask does not cover the aperture.
    """
    settings = optics.settings
    count = (degree + 1) * (degree + 2) // 2
    if settings.mask is not None:
        check_covers(settings)
        phase = optics.mask_phase.detach().cpu()
        return FreeMask(phase) if form == "free" else ZernikeMask(fitted(phase, optics, count), optics, settings.wavelength_nm)
    rough = torch.randn(count - FIRST, generator=generator)
    rough[[order(FIRST + k)[0] > ROUGH_DEGREE for k in range(len(rough))]] = 0
    mask = ZernikeMask(rough * (start_rad / rough.norm()), optics, settings.wavelength_nm)
    inside = optics.coverage.detach().cpu() > 0
    return FreeMask(mask.phase().detach() * inside) if form == "free" else mask


def check_covers(settings: PupilSettings) -> None:
    """Check that a mask given as an array is as large as the aperture.

    Raises:
        DocumentError: it is smaller.
    """
    mask = settings.mask
    if isinstance(mask, ArrayMaskSettings):
        across, least = 2 * mask.radius_px(settings.numerical_aperture), min(mask.values.shape)
        if across > 1.02 * least:
            rows, columns = mask.values.shape
            raise DocumentError(
                f"the start mask has {rows} x {columns} pixels, the aperture is {across:.0f} pixels across; give a mask that covers the "
                "aperture, or correct pixel_um, focal_length_mm and magnification"
            )


def cells(optics: PupilPSF) -> tuple[Tensor, Tensor]:
    """Give the places (x, y) of the pupil's cells in units of its radius, (P, P) each."""
    places = optics.places.detach().cpu().double()
    y, x = torch.meshgrid(places, places, indexing="ij")
    return x, y


def fitted(phase: Tensor, optics: PupilPSF, count: int) -> Tensor:
    """Fit polynomials to a phase that may be wrapped: the least squares of the differences between neighbouring cells.

    Args:
        phase: (P, P) in rad.
        optics: the pupil.
        count: number of polynomials, piston and tilts included.

    Returns:
        amplitudes (count - 3,) in rad, without piston and tilts.
    """
    basis = zernikes(count, *cells(optics))[1:]
    inside = optics.coverage.detach().cpu() > 0.5
    rows, values = [], []
    for axis in (0, 1):
        both = inside.narrow(axis, 1, len(inside) - 1) & inside.narrow(axis, 0, len(inside) - 1)
        rows.append(basis.diff(dim=axis + 1)[:, both])
        values.append(wrapped(phase.double().diff(dim=axis))[both])
    found = torch.linalg.lstsq(torch.cat(rows, 1).T, torch.cat(values)[:, None]).solution[:, 0]
    return found[FIRST - 1 :].float()


def wrapped(phase: Tensor) -> Tensor:
    """Bring phases into -pi .. pi."""
    return torch.remainder(phase + math.pi, 2 * math.pi) - math.pi
