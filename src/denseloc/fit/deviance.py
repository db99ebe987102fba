"""How well a fit explains its pixels: the deviance, what it should be, and the p-value of a worse one.

``D = 2 sum m - c + c log(c / m)``. At few counts its pixels are not chi-squared, and how far from it depends on the camera: the mean and
the variance of one pixel's term are tabulated, by sums over the law of c, against m and the share of m that is light. The rest of m stands
for read noise (Gaussian); the light is Poisson, or behind an EM register half of a compound Poisson-exponential. A fit of p parameters
takes p from the mean and 2 p from the variance. The sum over a window is then read as a gamma law of this mean and variance.

Source: Laurence and Chromy, Nature Methods 7 (2010) 338 (deviance); Basden, Haniff, Mackay, MNRAS 345 (2003) 985 (law of an EM register).
The moments are ours; at high counts they become ``1 + 1 / 6m`` and ``2 + 2 / 3m`` for Poisson counts.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.special import gammaln, ive, xlogy
from torch import Tensor

N_MEANS, N_SHARES = 90, 17
LEAST, MOST = 1e-2, 100.0
"""Expectations that are tabulated; above, the first terms of the series in 1 / m serve."""


@lru_cache(maxsize=2)
def moments_table(is_amplified: bool) -> Tensor:
    """Tabulate mean and variance of one pixel's deviance: (2, shares of light, expectations)."""
    nodes = np.linspace(-5, 5, 61)  # evenly: the term has a kink where counts become 0
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    moments = np.empty((2, N_SHARES, N_MEANS))
    for j, mean in enumerate(np.geomspace(LEAST, MOST, N_MEANS)):
        for i, share in enumerate(1 - np.linspace(1, 0, N_SHARES) ** 2):  # dense where a little noise smears the counts of 0
            light, probability = _light(share * mean, is_amplified)
            noise = (1 - share) * mean
            count = np.maximum(light[:, None] + noise + np.sqrt(noise) * nodes, 0)
            term = 2 * (mean - count + xlogy(count, count / mean))
            chance = probability[:, None] * weights
            moments[0, i, j] = (chance * term).sum()
            moments[1, i, j] = (chance * term**2).sum() - moments[0, i, j] ** 2
    return torch.from_numpy(moments)


def _light(mean: float, is_amplified: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give counts made by light of this mean (and variance), and their probabilities."""
    if not is_amplified:
        count = np.arange(int(mean + 9 * np.sqrt(mean) + 12)).astype(float)
        return count, np.exp(xlogy(count, mean) - mean - gammaln(count + 1))
    photons = 2 * mean  # each makes an exponential number of electrons; their sum is halved
    root = np.sqrt(photons)
    at = np.linspace(max(root - 6, 0), root + 6, 120)
    density = 2 * root * np.exp(-((at - root) ** 2)) * ive(1, 2 * root * at) * (at[1] - at[0])
    return np.append(0.0, at**2 / 2), np.append(np.exp(-photons), density)


def expected_moments(mean: Tensor, dark: Tensor, is_amplified: bool) -> tuple[Tensor, Tensor]:
    """Give the mean and the variance of the deviance of single pixels.

    Args:
        mean: expected counts m, any shape.
        dark: the part of them that stands for Gaussian noise, broadcastable.
        is_amplified: whether the light has passed an EM register.
    """
    light = (mean - dark).clamp(min=0)
    table = moments_table(is_amplified).to(mean).flatten(1)
    step = np.log(MOST / LEAST) / (N_MEANS - 1)
    column, right = _place((mean.clamp(LEAST, MOST) / LEAST).log() / step, N_MEANS)
    noise = 1 - light / mean.clamp(min=1e-9)
    row, below = _place((N_SHARES - 1) * (1 - noise.clamp(min=0).sqrt()), N_SHARES)
    index = row * N_MEANS + column
    first, second = (
        (1 - below) * torch.lerp(t[index], t[index + 1], right)
        + below * torch.lerp(t[index + N_MEANS], t[index + N_MEANS + 1], right)
        for t in table
    )
    third, fourth = (1.5 * light, 3 * light) if is_amplified else (light, light)
    square, high = mean.clamp(min=1).square(), mean > MOST
    first = torch.where(high, 1 - third / (3 * square) + 1 / (2 * mean), first)
    return first, torch.where(high, 2 + (fourth - 6 * third) / square + 17 / (3 * mean), second)


def _place(at: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Split places on a row of n nodes into the node before and the part of the way to the next."""
    index = at.long().clamp(0, n - 2)
    return index, (at - index).clamp(0, 1)


def deviance(counts: Tensor, mean: Tensor) -> Tensor:
    """Give the deviance of single pixels; counts below 0 count as 0."""
    counts = counts.clamp(min=0)
    return 2 * (mean - counts + torch.special.xlogy(counts, counts / mean))


def p_value(found: Tensor, expected: Tensor, variance: Tensor) -> Tensor:
    """Give the probability of a larger deviance, by the gamma law of the expected mean and variance; elementwise."""
    expected, variance = expected.double().clamp(min=1e-3), variance.double().clamp(min=1e-3)
    return torch.special.gammaincc(expected**2 / variance, found.double().clamp(min=0) * expected / variance)
