"""Cramer-Rao bounds of any number of emitters that share a window.

The Fisher matrix of pixels with mean mu and variance ``excess mu + v`` is ``I_ab = sum dmu_a dmu_b / (excess mu + v)``: that of the Poisson counts of
`noise`. Its inverse bounds the covariance of every unbiased estimate.

Source: Ober, Ram, Ward, Biophysical Journal 86 (2004) 1185 (one emitter); Ram, Ward, Ober, PNAS 103 (2006) 4457 (two emitters); Huang et al.,
Nature Methods 10 (2013) 653 (variance of the pixels).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.spot_score.naive import LEAST_MEAN, placed
from ..optics import PSF
from .drawing import frozen, patches, split
from .noise import Noise

CHUNK = 1 << 22  # numbers of the Jacobian held at once


@dataclass(frozen=True)
class Bounds:
    """Least standard deviations of n cases with e emitters each; infinite where the parameters cannot be told apart.

    Args:
        x_nm, y_nm: (n, e).
        z_nm: (n, e), or None where z is no parameter.
        photons: (n, e).
        background: (n, planes), or (n, 1) where the planes share it.
        covariance: (n, p, p) in the order of ``names``.
        names: of the parameters: emitter by emitter x, y, [z,] photons as ``x_nm_0`` ..., then the backgrounds.
    """

    x_nm: Tensor
    y_nm: Tensor
    z_nm: Tensor | None
    photons: Tensor
    background: Tensor
    covariance: Tensor
    names: tuple[str, ...]


def crlb(
    psf: PSF,
    positions_nm: Tensor,
    photons: Tensor | float,
    background: Tensor | float,
    *,
    window_px: tuple[int, int],
    excess: float = 1.0,
    noise_variance: Tensor | float = 0.0,
    depth: bool | None = None,
    shared_background: bool = False,
    origin_nm: tuple[float, float] | None = None,
    prior_nm: float | None = None,
) -> Bounds:
    """Give the Cramer-Rao bounds of x, y, z and photons of each emitter and of the background.

    Args:
        psf: any PSF.
        positions_nm: (n, e, 3) x, y, z, or (e, 3) for one case; x and y from the outer corner of the window's pixel (0, 0).
        photons: of each emitter, broadcastable to (n, e).
        background: photons per pixel, broadcastable to (n, planes).
        window_px: (rows, columns) of the pixels that the emitters share.
        excess: variance of the shot noise per photon.
        noise_variance: variance of the camera's own noise in photons^2, one number, (rows, columns) or broadcastable to
            (n, planes, rows, columns).
        depth: whether z is a parameter; as the PSF's kind says if None.
        shared_background: one background for all planes instead of one each.
        origin_nm: place (x, y) of the window's outer corner in the field, for a PSF that varies there; its middle if None.
        prior_nm: standard deviation to which x, y and z are known beforehand, as photons are to their own number, so that emitters that
            cannot be told apart leave the others alone; None for nothing known.
    """
    like = positions_nm.new_zeros(0, dtype=torch.float64)
    positions = positions_nm.to(like)
    positions = positions[None] if positions.ndim == 2 else positions
    n, e, _ = positions.shape
    bright = torch.as_tensor(photons).to(like).expand(n, e)
    level = torch.as_tensor(background).to(like).expand(n, psf.planes)
    has_depth = bool(psf.settings.tells_depth) if depth is None else depth
    drawn = frozen(psf, torch.float64, positions.device)
    noise = Noise(excess, torch.as_tensor(noise_variance).to(like))
    dark = noise.dark(like.expand(n, psf.planes, 0, 0).new_empty(n, psf.planes, *window_px))
    step = max(1, CHUNK // (psf.planes * max(window_px[0] * window_px[1], psf.roi_px**2) * (4 * e + psf.planes)))
    matrices = []
    for i in range(0, n, step):
        some = slice(i, i + step)
        mean, slopes = _expected(
            drawn, positions[some], bright[some], level[some], window_px, has_depth, shared_background, origin_nm
        )
        variance = noise.excess * mean + noise.excess**2 * (dark[some] if len(dark) > 1 else dark)
        matrices.append(torch.einsum("npqhw,nrqhw,nqhw->npr", slopes, slopes, 1 / variance.clamp(min=LEAST_MEAN)))
    names = [f"{name}_{k}" for k in range(e) for name in ("x_nm", "y_nm", *(("z_nm",) if has_depth else ()), "photons")]
    if prior_nm is not None:
        known = [torch.full_like(bright, prior_nm)] * (3 if has_depth else 2) + [bright]
        matrices = [torch.cat(matrices) + _information(torch.stack(known, 2).flatten(1), 1 if shared_background else psf.planes)]
    covariance = invert(torch.cat(matrices)) if matrices else like.new_zeros(0, len(names), len(names))
    return _bounds(covariance, names, e, has_depth)


def _information(sigma: Tensor, lights: int) -> Tensor:
    """Give the information matrix (n, p, p) of standard deviations (n, p - lights), none on the backgrounds."""
    return torch.diag_embed(torch.cat((sigma**-2, torch.zeros_like(sigma[:, :1]).expand(-1, lights)), 1))


def _expected(
    psf: PSF,
    positions: Tensor,
    photons: Tensor,
    background: Tensor,
    window_px: tuple[int, int],
    depth: bool,
    shared: bool,
    origin_nm: tuple[float, float] | None,
) -> tuple[Tensor, Tensor]:
    """Give the mean photons (n, planes, h, w) and their derivatives (n, p, planes, h, w) by the parameters, in nm and photons."""
    n, e, _ = positions.shape
    y_nm, x_nm = psf.pixel_size_nm
    pixel = positions.new_tensor((x_nm, y_nm))
    whole, part = split((positions[..., :2] / pixel - 0.5).reshape(-1, 2))
    places = None
    if origin_nm is not None and psf.varies_in_field:
        places = positions[..., :2].reshape(-1, 2) + positions.new_tensor(origin_nm)
    values, slopes = patches(psf, part, positions[..., 2].reshape(-1), "depth" if depth else None, places)
    size = positions.new_tensor((x_nm, y_nm, 1.0))[: slopes.shape[1]]
    slopes = slopes / size[:, None, None, None] * photons.reshape(-1, 1, 1, 1, 1)
    every = placed(torch.cat((slopes, values[:, None]), 1), whole[:, 1], whole[:, 0], window_px)
    every = every.reshape(n, e, *every.shape[1:])
    mean = (photons[:, :, None, None, None] * every[:, :, -1]).sum(1) + background[:, :, None, None]
    lights = (
        torch.ones_like(mean)[:, None]
        if shared
        else torch.diag_embed(torch.ones_like(mean).movedim(1, -1)).movedim((-2, -1), (1, 2))
    )
    return mean, torch.cat((every.flatten(1, 2), lights), 1)


def invert(fisher: Tensor) -> Tensor:
    """Invert information matrices (n, p, p); where one is singular the variances become infinite."""
    scale = fisher.diagonal(dim1=1, dim2=2).clamp(min=1e-300).rsqrt()
    inverse, info = torch.linalg.inv_ex(fisher * scale[:, :, None] * scale[:, None, :])
    inverse = inverse * scale[:, :, None] * scale[:, None, :]
    bad = (info != 0) | (inverse.diagonal(dim1=1, dim2=2) <= 0).any(1) | ~torch.isfinite(inverse).all((1, 2))
    return torch.where(bad[:, None, None], torch.full_like(inverse, float("inf")), inverse)


def _bounds(covariance: Tensor, names: list[str], e: int, depth: bool) -> Bounds:
    sigma = covariance.diagonal(dim1=1, dim2=2).sqrt()
    own = sigma[:, : len(names)].reshape(len(sigma), e, -1)
    lights = sigma.shape[1] - len(names)
    background = ["background"] if lights == 1 else [f"background_{k}" for k in range(lights)]
    return Bounds(
        x_nm=own[:, :, 0],
        y_nm=own[:, :, 1],
        z_nm=own[:, :, 2] if depth else None,
        photons=own[:, :, -1],
        background=sigma[:, len(names) :],
        covariance=covariance,
        names=(*names, *background),
    )
