"""Damped steps on the CPU: a Cholesky factor of each small matrix."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_fast = njit(cache=True, nogil=True, error_model="numpy")


@_fast
def solve(fisher: np.ndarray, gradient: np.ndarray, damping: float, fixed: np.ndarray, work: np.ndarray, step: np.ndarray) -> float:
    """Write one step (p,) as `naive.damped_step` does and give its gain; ``work`` (p + 2, p) is scratch."""
    p = len(gradient)
    a, scale, x = work[:p], work[p], work[p + 1]
    for k in range(p):
        scale[k] = 0.0 if fixed[k] else 1.0 / math.sqrt(fisher[k, k]) if fisher[k, k] > 0 else 1.0
        x[k] = gradient[k] * scale[k]
    good = True
    for k in range(p):
        for m in range(k + 1):
            total = fisher[k, m] * scale[k] * scale[m]
            if k == m:
                total += 1.0 if fixed[k] else damping if fisher[k, k] > 0 else 0.0
            for q in range(m):
                total -= a[k, q] * a[m, q]
            if k == m:
                good = good and total > 0.0
                a[k, k] = 1.0 / math.sqrt(total) if total > 0.0 else 1.0  # its inverse
            else:
                a[k, m] = total * a[m, m]
    for k in range(p):
        for q in range(k):
            x[k] -= a[k, q] * x[q]
        x[k] *= a[k, k]
    gain = 0.0 if good else math.nan
    for k in range(p - 1, -1, -1):
        for q in range(k + 1, p):
            x[k] -= a[q, k] * x[q]
        x[k] *= a[k, k]
        step[k] = x[k] * scale[k] if good else 0.0
        gain += step[k] * gradient[k]
    return gain


@_fast
def damped_step(fisher: np.ndarray, gradient: np.ndarray, damping: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve for the steps; arguments and result as in `naive.damped_step`."""
    n, p = gradient.shape
    step, gain, work = np.zeros((n, p)), np.zeros(n), np.empty((p + 2, p))
    for i in range(n):
        gain[i] = solve(fisher[i], gradient[i], damping[i], fixed[i], work, step[i])
    return step, gain
