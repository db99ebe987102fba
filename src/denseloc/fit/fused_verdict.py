"""What a fused fit is worth, compiled: log-likelihood and deviance with its expectation, and the covariance of the estimates.

Defined by `deviance` and `fisher.invert`.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernels.spot_score.elementary import fast, log, log_factorial
from ..kernels.spot_score.naive import LEAST_MEAN
from ..kernels.spot_score.numba_cpu import COUNT, DARK, THERE
from .deviance import LEAST, MOST, N_MEANS, N_SHARES

MADE_OF = "9d1c9964483d"
"""Digest of the imported files: compiled code is kept until this file changes, and a test says when it must."""


@fast
def add_likelihood(
    pixels: np.ndarray,
    fractions: np.ndarray,
    bright: float,
    level: float,
    means: np.ndarray,
    logs: np.ndarray,
    likelihood: float,
    deviance: float,
) -> tuple[float, float]:
    """Write expectations and their logarithms; gives log-likelihood and deviance with those of a plane added."""
    counts, there, dark = pixels[COUNT], pixels[THERE], pixels[DARK]
    for i in range(np.uint64(len(means))):
        mean = max(bright * fractions[i] + level + dark[i], LEAST_MEAN)
        means[i] = mean
        logs[i] = log(mean)
    for i in range(np.uint64(len(means))):
        mean, count = means[i], max(counts[i], 0.0)
        likelihood += there[i] * (count * logs[i] - mean - log_factorial(count))
        deviance += 2.0 * there[i] * (mean - count + count * (log(max(count, 1e-100)) - logs[i]))
    return likelihood, deviance


@fast
def add_moments(
    pixels: np.ndarray, means: np.ndarray, logs: np.ndarray, table: np.ndarray, is_amplified: bool, first: float, second: float
) -> tuple[float, float]:
    """Give the sums with the expectation and the variance of the deviance of a plane added."""
    there, dark = pixels[THERE], pixels[DARK]
    per_log, least = (N_MEANS - 1) / math.log(MOST / LEAST), math.log(LEAST)
    of_third, of_fourth = (1.5, 3.0) if is_amplified else (1.0, 1.0)
    other, most_dark = np.uint64(N_MEANS * N_SHARES), 0.0
    for i in range(np.uint64(len(dark))):
        most_dark = max(most_dark, dark[i])
    is_dark = most_dark > 0.0
    for i in range(np.uint64(len(means))):
        mean = means[i]
        light = max(mean - dark[i], 0.0)
        if mean > MOST:
            inverse = 1.0 / mean
            expected = 1.0 - of_third * light * inverse * inverse / 3.0 + 0.5 * inverse
            variance = 2.0 + (of_fourth - 6.0 * of_third) * light * inverse * inverse + 17.0 / 3.0 * inverse
        else:
            x = max((logs[i] - least) * per_log, 0.0)
            column = min(int(x), N_MEANS - 2)
            right = x - column
            k = np.uint64((N_SHARES - 1) * N_MEANS + column)
            if is_dark:
                y = (N_SHARES - 1) * (1.0 - math.sqrt(max(1.0 - light / mean, 0.0)))
                row = min(int(y), N_SHARES - 2)
                below, k = y - row, np.uint64(row * N_MEANS + column)
                k1, k2, k3 = k + np.uint64(1), k + np.uint64(N_MEANS), k + np.uint64(N_MEANS + 1)
                w0, w1, w2, w3 = (1.0 - below) * (1.0 - right), (1.0 - below) * right, below * (1.0 - right), below * right
                expected = w0 * table[k] + w1 * table[k1] + w2 * table[k2] + w3 * table[k3]
                k, k1, k2, k3 = k + other, k1 + other, k2 + other, k3 + other
                variance = w0 * table[k] + w1 * table[k1] + w2 * table[k2] + w3 * table[k3]
            else:  # all is light
                expected = (1.0 - right) * table[k] + right * table[k + np.uint64(1)]
                k = k + other
                variance = (1.0 - right) * table[k] + right * table[k + np.uint64(1)]
        first, second = first + there[i] * expected, second + there[i] * variance
    return first, second


@fast
def invert(fisher: np.ndarray, work: np.ndarray, out: np.ndarray) -> None:
    """Write the inverse of a symmetric matrix (p, p), infinite where it is not positive definite; ``work`` (p + 2, p) is scratch.

    The diagonal is scaled to 1; the inverse of the Cholesky factor takes the place above its diagonal, transposed.
    """
    p = len(fisher)
    scale, factor = work[p], work[:p]
    good = True
    for k in range(p):
        scale[k] = 1.0 / math.sqrt(max(fisher[k, k], 1e-300))
        for m in range(k + 1):
            total = fisher[k, m] * scale[k] * scale[m]
            for q in range(m):
                total -= factor[k, q] * factor[m, q]
            if k == m:
                good = good and total > 0.0
                factor[k, k] = 1.0 / math.sqrt(total) if total > 0.0 else 1.0  # its inverse
            else:
                factor[k, m] = total * factor[m, m]
    for m in range(p):  # column by column of the inverse of the factor, kept above its diagonal
        for k in range(m + 1, p):
            total = factor[k, m] * factor[m, m]
            for q in range(m + 1, k):
                total += factor[k, q] * factor[m, q]
            factor[m, k] = -total * factor[k, k]
    for a in range(p):
        for b in range(a + 1):
            total = 0.0
            for k in range(a, p):
                total += (factor[a, k] if k > a else factor[a, a]) * (factor[b, k] if k > b else factor[b, b])
            value = total * scale[a] * scale[b]
            good = good and abs(value) < np.inf
            out[a, b] = out[b, a] = value
    if not good:
        out[:] = np.inf
