"""By how much the likeliest parameters err in the mean where light is scarce, in first order in 1 / photons.

With the expected counts m of the pixels, their slopes J by the parameters, their second derivatives H and the bound C of the estimates:

    b = -1/2 C sum J tr(C H) / m

summed over the pixels. It is a property of the method, also where the model is exact: light that noise has put beside an emitter draws its
position towards itself and counts as photons, so that dim emitters come out too bright. ``tr(C H)`` is the sum of the second derivatives along
the columns of a root of C, taken as differences.

Source: Cox and Snell, J. R. Stat. Soc. B 30 (1968) 248, equation 20; for Poisson counts the terms of third order cancel but for this one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .drawing import Drawing, SpotPixels
from .terms import Terms

STEP = 0.2  # of the differences, in standard deviations
MOST = 0.5  # standard deviations: where more is found, the first order says nothing


@torch.no_grad()
def bias(drawing: Drawing, windows: SpotPixels, which: Tensor, at: Tensor, covariance: Tensor) -> Tensor:
    """Give the bias of spots.

    Args:
        drawing: the PSF.
        windows: of all spots.
        which: (m,) windows.
        at: (m, p) the likeliest parameters in the units of the fit.
        covariance: (m, p, p) their bounds; spots whose bounds are not finite and positive have no bias that is known.

    Returns:
        (m, p), 0 where it is not known.
    """
    terms = Terms.of(drawing, windows, which, at)
    spread = covariance.diagonal(dim1=1, dim2=2).sqrt()
    relative = covariance / (spread[:, :, None] * spread[:, None])
    known = torch.isfinite(relative).all(2).all(1)
    relative = torch.where(known[:, None, None], relative, torch.eye(at.shape[1], dtype=at.dtype, device=at.device))
    root, failed = torch.linalg.cholesky_ex(relative)
    known &= failed == 0
    spread = torch.where(known[:, None], spread, 0.0)
    k = drawing.n_coordinates

    def light(moved: Tensor) -> Tensor:
        """Draw the emitter's own light; the background bends nothing."""
        return moved[:, k, None, None, None] * drawing.fractions(which, moved, windows.shape_px).double()

    still = light(at)
    bends = torch.zeros_like(still)
    for column in root.unbind(2):
        step = STEP * spread * column
        bends += (light(at + step) - 2 * still + light(at - step)) / STEP**2
    pull = torch.einsum("npqhw,nqhw->np", terms.slopes, windows.gain * bends / terms.mean)
    shift = -0.5 * spread * torch.einsum("npr,nr->np", relative, spread * pull)
    return torch.where(known[:, None], torch.minimum(torch.maximum(shift, -MOST * spread), MOST * spread), 0.0)
