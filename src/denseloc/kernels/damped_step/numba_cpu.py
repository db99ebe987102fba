"""Damped steps on the CPU: a Cholesky factor of each small matrix."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def damped_step(fisher: np.ndarray, gradient: np.ndarray, damping: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve for the steps; arguments and result as in `naive.damped_step`."""
    n, p = gradient.shape
    step, gain = np.zeros((n, p)), np.zeros(n)
    a, scale, x = np.empty((p, p)), np.empty(p), np.empty(p)
    for i in range(n):
        for k in range(p):
            scale[k] = 0.0 if fixed[i, k] else 1.0 / math.sqrt(fisher[i, k, k]) if fisher[i, k, k] > 0 else 1.0
            x[k] = gradient[i, k] * scale[k]
        good = True
        for k in range(p):
            for m in range(k + 1):
                total = fisher[i, k, m] * scale[k] * scale[m]
                if k == m:
                    total += 1.0 if fixed[i, k] else damping[i] if fisher[i, k, k] > 0 else 0.0
                for q in range(m):
                    total -= a[k, q] * a[m, q]
                if k == m:
                    good = good and total > 0.0
                    a[k, k] = math.sqrt(total) if total > 0.0 else 1.0
                else:
                    a[k, m] = total / a[m, m]
        for k in range(p):
            for q in range(k):
                x[k] -= a[k, q] * x[q]
            x[k] /= a[k, k]
        for back in range(p):
            k = p - 1 - back
            for q in range(k + 1, p):
                x[k] -= a[q, k] * x[q]
            x[k] /= a[k, k]
        gain[i] = 0.0 if good else math.nan
        for k in range(p):
            if good:
                step[i, k] = x[k] * scale[k]
                gain[i] += step[i, k] * gradient[i, k]
    return step, gain
