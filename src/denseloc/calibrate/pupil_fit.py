"""Phase retrieval: the pupil's aberrations from a stack of beads, by gradient ascent of the likelihood.

Source: Hanser et al., J. Microsc. 216 (2004) 32 (the question); the ascent through the differentiable PSF is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..optics import PSF, PupilSettings
from ..units import PixelSize
from .bead_fit import BeadFit
from .first_guess import best_focus, mean_bead

COUNT = 28  # Zernike polynomials of the radial degrees 0 to 6
ASTIGMATISM = (3, 5)  # OSA/ANSI numbers of the two astigmatisms
START_NM = 70.0  # rms wavefront of the astigmatism that a fit tries to begin with
AT_ONCE = 240  # patches in a gradient step
FREE_PX = 32  # cells of the free phase


def fit_pupil(
    optics: PupilSettings,
    fit: BeadFit,
    pixel_size_nm: PixelSize,
    steps: int,
    progress: Callable[[str], None],
    *,
    free_phase: bool = False,
) -> tuple[PSF, float]:
    """Fit aberrations, blur and beads.

    Several starts, without and with astigmatism of either sign, are taken a short way; the best goes on.

    Args:
        optics: wavelength, aperture and indices, which stay as they are; mask and aberrations to begin with.
        fit: the beads, changed in place.
        pixel_size_nm: (y, x).
        steps: gradient steps.
        progress: told what is going on.
        free_phase: fit the phase of each cell of a grid as well, after the polynomials.

    Returns:
        the PSF, and chi2 per pixel before the free phase.
    """
    focus = best_focus(mean_bead(fit, pixel_size_nm))
    roi = fit.patches.roi_px
    known = optics.model_copy(update={"roi_px": roi, "focal_plane_nm": focus, "blur_nm": optics.blur_nm or 20.0, "phase": None})
    begun = (fit.offset_px.clone(), fit.log_photons.clone(), fit.background.clone())
    best: tuple[float, PSF, tuple[object, ...]] | None = None
    for aberrations in _starts(optics):
        fit.offset_px, fit.log_photons, fit.background = (value.clone() for value in begun)
        psf = _frozen(known.model_copy(update={"zernike_nm": aberrations}).build(pixel_size_nm))
        chi2 = fit.run(psf, max(10, steps // 5), 0.05, at_once=AT_ONCE // 2)
        if best is None or chi2 < best[0]:
            best = chi2, psf, (fit.offset_px.clone(), fit.log_photons.clone(), fit.background.clone())
    assert best is not None
    _, psf, (fit.offset_px, fit.log_photons, fit.background) = best  # type: ignore[assignment]
    several = fit.patches.n_beads > 1
    chi2 = fit.run(psf, steps, 0.03, heights=several, at_once=AT_ONCE)
    progress(f"pupil of {COUNT} Zernike polynomials: chi2 {chi2:.2f}")
    if free_phase:
        free = psf.described().model_copy(update={"phase": np.zeros((FREE_PX, FREE_PX), np.float32)})
        psf = _frozen(free.build(pixel_size_nm))
        progress(f"with a free phase: chi2 {fit.run(psf, steps, 0.01, heights=several, at_once=AT_ONCE):.2f}")
    return psf, chi2


def _starts(optics: PupilSettings) -> Iterator[tuple[float, ...]]:
    """Give the aberrations to begin with: those of the document, or none and astigmatism of two directions and signs."""
    given = tuple(optics.zernike_nm)
    yield (given + (0.0,) * COUNT)[: max(COUNT, len(given))]
    if given or optics.mask is not None:
        return
    for number in ASTIGMATISM:
        for sign in (1.0, -1.0):
            yield tuple(sign * START_NM if j == number else 0.0 for j in range(COUNT))


def _frozen(psf: PSF) -> PSF:
    """Leave to the fit what beads can tell: not wavelength and depth, which aberrations could take up."""
    for name, value in psf.named_parameters():
        if name in ("wavelength_nm", "depth_nm"):
            value.requires_grad_(False)
    return psf
