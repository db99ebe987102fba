"""The bias of maximum likelihood in its first order in 1 / photons: what the likeliest parameters err in the mean where the model is exact.

With expectations m, variances v, slopes J, second derivatives H and the bound C: ``b = -1/2 C sum J tr(C H) / v``. It is a property of the method:
light that noise has put beside an emitter draws position and depth towards itself, and counts as photons.

Source: Cox and Snell, J. R. Stat. Soc. B 30 (1968) 248, equation 20; for Poisson counts the terms of third order cancel but for this one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from denseloc.fit.drawing import frozen, patches, split
from denseloc.fit.fisher import invert
from denseloc.kernels.spot_score.naive import placed
from denseloc.optics import PSF

STEPS = {"px": 0.02, "nm": 8.0}


def bias_over_bound(
    psf: PSF, place_nm: Tensor, photons: float, background: float, side: int, excess: float, noise: Tensor | float
) -> dict[str, float]:
    """Give the bias of x, y, z and photons over their bounds, in the mean over spots.

    Args:
        psf: of one PSF or several planes, each with its own background.
        place_nm: (n, 3) x, y, z from the outer corner of the window.
        photons, background: of each emitter, and of a pixel of each plane.
        side: pixels across the window.
        excess, noise: variance ``excess m + noise``; the noise (n, 1 or planes, side, side) or one number.
    """
    drawn = frozen(psf, torch.float64, "cpu")
    has_depth = bool(psf.settings.tells_depth)
    pixel = torch.tensor(psf.pixel_size_nm[::-1], dtype=torch.float64)
    at = torch.cat((place_nm[:, :2].double() / pixel - 0.5, place_nm[:, 2:].double()), 1)

    def image(at: Tensor) -> tuple[Tensor, Tensor]:
        whole, part = split(at[:, :2])
        both = patches(drawn, part, at[:, 2], "depth" if has_depth else None)
        values, slopes = (placed(one, whole[:, 1], whole[:, 0], (side, side)) for one in both)
        return values, slopes

    values, slopes = image(at)
    n, planes = values.shape[:2]
    lights = torch.eye(planes, dtype=torch.float64)[None, :, :, None, None].expand(n, -1, -1, side, side)
    jacobian = torch.cat((photons * slopes, values[:, None], lights), 1)
    d, p = slopes.shape[1], jacobian.shape[1]
    bends = values.new_zeros(n, p, p, *values.shape[1:])
    for k in range(d):
        step = torch.zeros(3, dtype=torch.float64)
        step[k] = STEPS["px" if k < 2 else "nm"]
        ahead, behind = (image(at + sign * step)[1] for sign in (1, -1))
        bends[:, k, :d] = photons * (ahead - behind) / (2 * step[k])
        bends[:, k, d] = bends[:, d, k] = slopes[:, k]
    weight = 1 / (excess * (photons * values + background) + noise)
    bound = invert(torch.einsum("npqhw,nrqhw,nqhw->npr", jacobian, jacobian, weight))
    trace = torch.einsum("nab,nabqhw->nqhw", bound, bends)
    bias = -0.5 * torch.einsum("nab,nbqhw,nqhw->na", bound, jacobian, trace * weight)
    relative = (bias / bound.diagonal(dim1=1, dim2=2).sqrt()).mean(0)
    names = ("x_nm", "y_nm", *(("z_nm",) if has_depth else ()), "photons")
    return {name: float(value) for name, value in zip(names, relative, strict=False)}
