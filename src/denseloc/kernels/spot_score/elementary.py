"""Logarithm, exponential, error function and log-gamma without branches, so that loops over pixels run in the processor's vectors.

Those of the mathematics library are called number by number, which takes longer than all else a fit does. The results are good to a few
units in the last place (the error function: absolutely), not exact to it.

Source: Shepherd and Laframboise, Mathematics of Computation 36 (1981) 249 (the error function as ``(1 + 2 x) exp(x^2) erfc(x)``, a polynomial
in ``(x - k) / (x + k)``; the coefficients are fitted here); Abramowitz and Stegun, 6.1.41 (Stirling's series).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.options import DefaultOptions
from numba.extending import intrinsic
from scipy.special import erfcx

FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
"""Sums in any order; not "nnan", because absent pixels may be NaN."""

_COMMON: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
_UNCOUNTED: dict[str, Any] = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}

whole: Callable[[Any], Any] = njit(cache=True, **_COMMON)
"""Compile without locks and with divisions by nought that give infinity."""

fast: Callable[[Any], Any] = njit(cache=True, **_COMMON, **_UNCOUNTED)
"""Compile so too what makes no arrays: then nobody counts who holds which, which takes a quarter of the time of loops as short as these."""

inside: Callable[[Any], Any] = njit(cache=True, **_COMMON, forceinline=True)
"""Compile for a place inside of a loop that is to be vectorized."""

merged: Callable[[Any], Any] = njit(**_COMMON, inline="always")
"""Compile as a part of whatever calls it, which is quicker than to compile it once for itself and again for each caller."""


_reading: Callable[[Any], Callable[[Any], Any]] = intrinsic
"""Compile as an instruction; the first argument, the context, is numba's own to give."""


@_reading
def _bits(typing: Any, x: Any) -> Any:
    """Read the bits of a double as an integer."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.int64))

    return types.int64(types.float64), build


@_reading
def _number(typing: Any, x: Any) -> Any:
    """Read the bits of an integer as a double."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.int64), build


def _fitted(function: Callable[[np.ndarray], np.ndarray], degree: int, low: float, high: float) -> tuple[float, ...]:
    """Give the powers, highest first, of the polynomial that meets a function at the Chebyshev nodes between two places."""
    series = np.polynomial.Chebyshev.interpolate(function, degree, (low, high))
    return tuple(float(c) for c in series.convert(kind=np.polynomial.Polynomial).coef[::-1])


def _scaled_tail(t: np.ndarray) -> np.ndarray:
    x = _TURN * (1 + t) / np.maximum(1 - t, 1e-300)
    scaled: np.ndarray = np.where(t < 1, (1 + 2 * x) * erfcx(x), 2 / math.sqrt(math.pi))
    return scaled


def _rest_of_log(z: np.ndarray) -> np.ndarray:
    """Give ``(log((1 + s) / (1 - s)) - 2 s) / s^3`` at z = s^2."""
    return np.polynomial.polynomial.polyval(z, [2.0 / (2 * k + 3) for k in range(15)])


_TURN = 3.75  # the x at which t is 0
_TAIL = _fitted(_scaled_tail, 20, -1.0, 1.0)
_EVEN, _ODD = _TAIL[::2], _TAIL[1::2]  # halves, because the compiler unrolls loops of few rounds only
_LN2 = 0.6931471805599453
_ROOT_HALF = 0x3FE6A09E00000000  # bits of a number just below
_ONE = 0x3FF0000000000000
_SERIES = _fitted(_rest_of_log, 6, 0.0, 0.0295)
_FACTORS = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@inside
def log_and_inverse(x: float) -> tuple[float, float]:
    """Give the natural logarithm and the inverse of a number above 0 (not of one below 1e-150), by one division."""
    bits: int = _bits(x)
    k = (bits - _ROOT_HALF) >> 52
    mantissa: float = _number(bits - (k << 52))
    f = mantissa - 1.0  # x = 2^k (1 + f), 1 + f in 0.707 .. 1.414
    divided = 1.0 / (x * (2.0 + f))
    s = f * divided * x
    z = s * s
    total = 0.0
    for c in _SERIES:
        total = total * z + c
    return k * _LN2 + (2.0 * s + s * z * total), divided * (2.0 + f)


@inside
def log(x: float) -> float:
    """Give the natural logarithm alone."""
    return log_and_inverse(x)[0]


@inside
def exp_of_negative(x: float) -> float:
    """Give ``exp(x)`` for x <= 0; below -700 that of -700."""
    x = max(x, -700.0)
    k = int(x * (1.0 / _LN2) - 0.5)
    f = x - k * _LN2
    total = 0.0
    for c in _FACTORS:
        total = total * f + c
    power: float = _number(_ONE + (k << 52))
    return total * power


@inside
def upper_tail(x: float, bell: float) -> float:
    """Give ``erfc(x)`` for x >= 0, where ``bell`` is ``exp(-x^2)``."""
    t = (x - _TURN) / (x + _TURN)
    square = t * t
    even = odd = 0.0
    for c in _EVEN:
        even = even * square + c
    for c in _ODD:
        odd = odd * square + c
    return bell * (even + t * odd) / (1.0 + 2.0 * x)


@inside
def log_factorial(x: float) -> float:
    """Give ``log(x!)``, that is log-gamma of ``x + 1``, for x >= 0."""
    a = x + 8.0
    product = (x + 1.0) * (x + 2.0) * (x + 3.0) * (x + 4.0) * ((x + 5.0) * (x + 6.0) * (x + 7.0))
    r = 1.0 / a
    z = r * r
    series = r * (1 / 12 + z * (-1 / 360 + z * (1 / 1260 + z * (-1 / 1680 + z * (1 / 1188 + z * (-691 / 360360))))))
    return (a - 0.5) * log(a) - a + _HALF_LOG_TWO_PI + series - log(product)
