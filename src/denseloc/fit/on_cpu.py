"""Fits on the CPU, spot by spot, on as many threads as torch may use: what `fused` needs of a PSF and of windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..kernels import spline_patch
from ..kernels.foretold import foretell
from ..optics import AstigmaticPSF, GaussianPSF
from ..optics.spline import SplinePSF
from .deviance import moments_table
from .drawing import Drawing, number_type
from .levenberg import Climb, Limits
from .noise import Noise
from .start import REACH_PX, Masks

if TYPE_CHECKING:
    from .fused_spot import Shape

AT_ONCE = 512  # spots that a thread takes at a time


def takes(drawing: Drawing, photons: Tensor) -> bool:
    """Whether there is a fused fit of this PSF for these windows; it is for single precision, where rounding is its own."""
    is_known = drawing.is_aligned or (type(drawing.psf) is SplinePSF and drawing.third in (None, "depth"))
    return is_known and not drawing.psf.varies_in_field and photons.device.type == "cpu" and photons.dtype == torch.float32


def fit(
    drawing: Drawing,
    photons: Tensor,
    noise: Noise,
    starts: Tensor | Masks,
    depths_nm: Tensor,
    limits: Limits,
    least_photons: float,
    tries: int,
    tolerance: float,
    max_iterations: int,
) -> tuple[Climb, Tensor, Tensor]:
    """Fit one emitter in each window.

    Args:
        drawing: the PSF; aligned, or a spline.
        photons: (n, planes, h, w); NaN where there is no pixel.
        noise: of the photons.
        starts: coordinates (n, s, c) to begin with, or masks for moments.
        depths_nm: (s,) of the masks.
        limits: where the parameters may go.
        least_photons: no emitter has as few.
        tries, tolerance, max_iterations: as for `single.fit_single`.

    Returns:
        the best ends, covariances (n, p, p), and (n, 4) sums of the log-likelihood, the deviance, its expectation and its variance.
    """
    from . import fused
    from .fused_spot import DEPTH, NOTHING, WIDTH, WIDTHS

    third = {None: NOTHING, "depth": DEPTH, "width": WIDTH, "widths": WIDTHS}[drawing.third]
    n, p = len(photons), len(limits.low)
    task = fused.Task(noise.gain, third, p - drawing.n_coordinates - 1, tries, tolerance, max_iterations, noise.is_amplified)
    bounds = fused.Bounds(_array(limits.low), _array(limits.high), _array(limits.stride), least_photons)
    matrices = np.empty((n, p, p)), np.empty((n, p, p))
    ends = fused.Ends(
        np.empty((n, p)), np.empty(n), matrices[0], np.empty(n, np.int64), np.empty(n, np.bool_), matrices[1], np.empty((n, 4))
    )
    arguments = (
        _array(photons),
        _array(noise.dark(photons)),
        _shape(drawing),
        task,
        bounds,
        _starts(starts, depths_nm, photons.shape, drawing.n_coordinates),
        _array(moments_table(noise.is_amplified).flatten()),
    )
    foretell(fused.fit, "the fits")
    _spread(lambda begin, end: fused.fit(*arguments, begin, end, ends), n)
    *found, covariance, sums = (torch.from_numpy(values) for values in ends)
    return Climb(*found), covariance, sums


def _spread(work: Callable[[int, int], Any], n: int) -> None:
    """Do work on 0 .. n in parts, on as many threads as torch may use."""
    threads = min(torch.get_num_threads(), -(-n // AT_ONCE))
    if threads <= 1:
        work(0, n)
        return
    cuts = range(0, n, AT_ONCE)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, cuts, [min(cut + AT_ONCE, n) for cut in cuts]))


def _shape(drawing: Drawing) -> Shape:
    """Describe the PSF."""
    from .fused_spot import Shape

    psf = drawing.psf
    if isinstance(psf, SplinePSF):
        settings, c = psf.settings, psf.coefficients.detach()
        phases = spline_patch.sort_phases(c, psf.roi_px, settings.nodes_per_px)
        return Shape(psf.roi_px, np.zeros((2, 5)), settings.z_min_nm if c.shape[1] > 1 else math.inf, settings.z_step_nm, phases)
    none = spline_patch.sort_phases(number_type(psf).new_zeros(1, 1, 4, 4), 1, 1)
    return Shape(0, _widths(drawing), 0.0, 1.0, none)


def _widths(drawing: Drawing) -> np.ndarray:
    """Give what `optics.base.gaussian_width` asks for along x and y: (2, 5) width in px, focus, 1 / depth, A, B."""
    psf = drawing.psf
    pixel = torch.tensor(psf.pixel_size_nm[::-1], dtype=torch.float64)
    flat = torch.zeros(2, 5, dtype=torch.float64)
    if drawing.third in ("width", "widths"):
        flat[:, 0] = drawing.widths_nm(torch.tensor([drawing.focus_nm], dtype=torch.float64))[0] / pixel
        return _array(flat)
    if isinstance(psf, AstigmaticPSF):
        values = [float(v) for v in (psf.width_nm, psf.focus_a_nm, psf.focus_b_nm, psf.depth_nm, psf.cubic, psf.quartic)]
        width, focus_a, focus_b, depth, cubic, quartic = values
        flat[:] = torch.tensor([width, 0.0, 1 / depth, cubic, quartic])
        flat[0, 1], flat[1, 1], flat[1, 0] = focus_a, focus_b, width * float(psf.width_ratio)
    else:
        assert isinstance(psf, GaussianPSF)
        flat[:, 0] = float(psf.width_nm)
        if psf.depth_nm is not None:
            flat[:, 1], flat[:, 2] = float(psf.focus_nm), 1 / float(psf.depth_nm)
    flat[:, 0] /= pixel
    return _array(flat)


def _starts(starts: Tensor | Masks, depths_nm: Tensor, shape: torch.Size, c: int) -> Any:
    """Describe the starts; masks are filled up to the runs of the score's pixels."""
    from ..kernels.spot_score.numba_cpu import run_length
    from .fused import Starts

    _, planes, h, w = shape
    if isinstance(starts, Tensor):
        none = np.zeros((0, 4, planes, run_length(h, w))), np.zeros((0, 8))
        return Starts(_array(starts.double()), *none, REACH_PX, _array(depths_nm.double()))
    rows = np.zeros((len(starts.rows), 4, planes, run_length(h, w)))
    rows[..., : h * w] = starts.rows.flatten(3).numpy()
    return Starts(np.zeros((0, 1, c)), rows, _array(starts.constants), REACH_PX, _array(depths_nm.double()))


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().contiguous().numpy()
    return array
