"""Log-densities that several cameras share, in electrons."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SMALL = 1e-10
"""Smallest mean number of electrons that a density is evaluated at."""

_HERMITE = np.polynomial.hermite_e.hermegauss(5)
_LEGENDRE = np.polynomial.legendre.leggauss(24)
_REACH = 6.0


def shifted_poisson(electrons: Tensor, mean: Tensor, variance: float | Tensor) -> Tensor:
    """Give the log-density of electrons with shot noise and Gaussian read noise, as a Poisson law shifted by the variance.

    ``(d + v) log(m + v) - (m + v) - log Gamma(d + v + 1)``. Below d + v = 0, where the Poisson law ends, the density falls off like
    the read noise does: by ``u + u^2 / (2 v)`` at a distance u.

    Source: Huang et al. 2013, Video-rate nanoscopy using sCMOS camera-specific single-molecule localization algorithms.
    """
    found = electrons + variance
    below = (-found).clamp(min=0)
    found = found.clamp(min=0)
    expected = (mean + variance).clamp(min=SMALL)
    tail = below + below.square() / (2 * (variance + SMALL))
    return found * expected.log() - expected - torch.lgamma(found + 1) - tail


def shifted_gamma(photons: Tensor, mean: Tensor, excess: Tensor | float, variance: Tensor | float) -> Tensor:
    """Give the log-density of photons of any camera as one gamma law with the camera's mean and variance.

    ``x + v / e ~ Gamma(shape = (m + v / e) / e, scale = e)``: mean m, variance ``e m + v``. Photons below the law's end count as at it.

    Source: Speiser, Turaga, Macke 2019, equation 3. Ours: the shift, by which read noise adds to the variance and not to the mean.

    Args:
        photons: what the camera says, in photons.
        mean: expected photons.
        excess: variance of the shot noise per photon, e.
        variance: of the camera's own noise, photons^2, v.
    """
    shift = variance / excess
    shape = (mean + shift).clamp(min=1e-2) / excess
    scaled = (photons + shift).clamp(min=0.05 * excess) / excess
    return (shape - 1) * scaled.log() - scaled - torch.lgamma(shape) - torch.as_tensor(excess).log()


def multiplied(x: Tensor, mean: Tensor) -> Tensor:
    """Give the log-density at x > 0 of electrons after multiplication, x in units of the gain, without the charge of exactly zero.

    ``f(x) = exp(-m - x) sqrt(m / x) I1(2 sqrt(m x))``, kept in range by the scaled Bessel function.

    Source: Hirsch et al. 2013, A stochastic model for electron multiplication charge-coupled devices.
    """
    mean = mean.clamp(min=SMALL)
    x = x.clamp(min=1e-12)
    argument = 2 * (mean * x).sqrt()
    bessel = torch.special.i1e(argument) / argument
    return (2 * mean * bessel).log() - (mean.sqrt() - x.sqrt()).square()


def multiplied_with_noise(x: Tensor, mean: Tensor, noise: float) -> Tensor:
    """Give the log of `multiplied` convolved with a Gaussian of standard deviation ``noise`` (x and noise in units of the gain).

    Away from zero by five Gauss-Hermite nodes; near zero, where the density ends abruptly, by Gauss-Legendre nodes on what is left.
    """
    x, mean = torch.broadcast_tensors(x, mean)
    near = x < _REACH * noise
    if not bool(near.any()):
        return _convolve_far(x, mean, noise)
    if bool(near.all()):
        return _convolve_near(x, mean, noise)
    result = torch.empty_like(x)
    result = result.masked_scatter(near, _convolve_near(x[near], mean[near], noise))
    return result.masked_scatter(~near, _convolve_far(x[~near], mean[~near], noise))


def _convolve_far(x: Tensor, mean: Tensor, noise: float) -> Tensor:
    nodes, weights = (torch.as_tensor(a, dtype=x.dtype, device=x.device) for a in _HERMITE)
    values = multiplied(x.unsqueeze(-1) + noise * nodes, mean.unsqueeze(-1))
    return torch.logsumexp(values + (weights / math.sqrt(2 * math.pi)).log(), dim=-1)


def _convolve_near(x: Tensor, mean: Tensor, noise: float) -> Tensor:
    nodes, weights = (torch.as_tensor(a, dtype=x.dtype, device=x.device) for a in _LEGENDRE)
    low = (x - _REACH * noise).clamp(min=0)
    half = ((x + _REACH * noise).clamp(min=0) - low).clamp(min=1e-6 * noise) / 2
    at = low.unsqueeze(-1) + half.unsqueeze(-1) * (nodes + 1)
    gauss = -0.5 * ((at - x.unsqueeze(-1)) / noise).square() - math.log(noise * math.sqrt(2 * math.pi))
    return torch.logsumexp(multiplied(at, mean.unsqueeze(-1)) + gauss + weights.log(), dim=-1) + half.log()
