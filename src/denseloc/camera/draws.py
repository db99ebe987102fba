"""Fast random numbers for cameras: Poisson, gamma and their compound (electron multiplication).

On the CPU, large means take one normal number and a few multiplications; smaller means take the exact samplers of torch.
Other devices always take the exact samplers, which are fast there. The tests hold the approximations against the exact laws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LARGE = 20.0
"""Above it the distribution functions of gamma and multiplied numbers are met to better than 4e-4."""

LARGE_POISSON = 10.0
"""Above it the distribution function of Poisson numbers is met to better than 3e-4."""

Draw = Callable[[Tensor, torch.Generator], Tensor]


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in the shape of x."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def poisson(mean: Tensor, generator: torch.Generator) -> Tensor:
    """Draw Poisson numbers; means above `LARGE_POISSON` by the Cornish-Fisher expansion on the integers.

    ``round(m + sqrt(m) z + (z^2 - 1) / 6 - (z^3 + 2 z) / (72 sqrt(m)))`` with z standard normal, not below 0.

    Source: Molenaar 1970, Approximations to the Poisson, Binomial and Hypergeometric Distribution Functions (normal expansion).
    """
    return _split(mean, generator, _poisson_large, torch.poisson, LARGE_POISSON)


def gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Draw gamma numbers of scale 1; shapes above `LARGE` by the cube-root transformation; a shape of 0 gives 0.

    Differentiable in the shape where that asks for gradients (then always exact).

    Source: Wilson and Hilferty 1931, The distribution of chi-square.
    """
    if shape.requires_grad:
        return _standard_gamma(shape, generator)
    return _split(shape, generator, _gamma_large, _gamma_exact)


def multiplied(mean: Tensor, generator: torch.Generator) -> Tensor:
    """Draw Gamma(n, 1) with n ~ Poisson(mean): electrons after multiplication, divided by the gain.

    Twice this number has the noncentral chi-square law with 0 degrees of freedom and noncentrality 2 mean, whose square root is
    nearly normal. Above `LARGE`: ``mean (sqrt(1 - v) + sqrt(v) z)^2`` with ``v = 1 - sqrt(1 - 1 / mean)``, which has the exact mean
    and variance.

    Source: Sankaran 1963, Approximations to the non-central chi-square distribution (its power h is 1/2 here).
    """
    return _split(mean, generator, _multiplied_large, _multiplied_exact)


def _split(mean: Tensor, generator: torch.Generator, large: Draw, exact: Draw, limit: float = LARGE) -> Tensor:
    """Draw with ``large`` above the limit and with ``exact`` elsewhere."""
    mean = mean.detach()
    if mean.device.type != "cpu" or mean.numel() == 0:
        return exact(mean, generator)
    is_small = mean < limit
    n_small = int(is_small.sum())
    if n_small == 0:
        return large(mean, generator)
    if n_small == mean.numel():
        return exact(mean, generator)
    result = large(mean.clamp(min=limit), generator)
    result[is_small] = exact(mean[is_small], generator)
    return result


def _poisson_large(mean: Tensor, generator: torch.Generator) -> Tensor:
    z = normal_like(mean, generator)
    root = mean.sqrt()
    square = z * z
    tail = (square + 2).mul_(z).div_(root).mul_(-1 / 72)
    return tail.addcmul_(root, z).add_(square, alpha=1 / 6).add_(mean).sub_(1 / 6).round_().clamp_(min=0)


def _gamma_large(shape: Tensor, generator: torch.Generator) -> Tensor:
    root = shape.rsqrt()
    third = normal_like(shape, generator).mul_(root).mul_(1 / 3).addcmul_(root, root, value=-1 / 9).add_(1)
    return (third * third).mul_(third).mul_(shape).clamp_(min=0)


def _gamma_exact(shape: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(shape > 0, _standard_gamma(shape.clamp(min=1e-6), generator), 0.0)


def _multiplied_large(mean: Tensor, generator: torch.Generator) -> Tensor:
    inverse = mean.reciprocal()
    variance = inverse.div_((1 - inverse).sqrt_().add_(1))
    centre = (1 - variance).sqrt_()
    root = normal_like(mean, generator).mul_(variance.sqrt_()).add_(centre)
    return root.square_().mul_(mean)


def _multiplied_exact(mean: Tensor, generator: torch.Generator) -> Tensor:
    return _gamma_exact(torch.poisson(mean, generator), generator)


def _standard_gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    return torch._standard_gamma(shape, generator=generator)
