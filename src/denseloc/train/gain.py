"""Gain: by how much frames are explained better than before, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

LEAST_GAIN = 0.05  # nats per frame that count as one
TRIMMED = 0.1  # share of the windows at each end that a mean difference leaves out


@dataclass(frozen=True)
class Gain:
    """Difference of two bounds over the same windows, in nats per frame, trimmed; with its standard error.

    The error of a trimmed mean is the spread of the winsorized values over ``(1 - 2 cut) sqrt(n)``. Source: Tukey and McLaughlin, Sankhya A 25
    (1963) 331.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, after: Tensor, before: Tensor) -> Gain:
        """Compare (windows,) bounds."""
        each = np.sort((after - before).double().cpu().numpy())
        cut = int(TRIMMED * len(each))
        kept = each[cut : len(each) - cut]
        pulled_in = np.clip(each, kept[0], kept[-1])
        spread = float(np.std(pulled_in, ddof=1)) if len(kept) > 1 else math.inf
        return cls(float(kept.mean()), spread / ((1 - 2 * cut / len(each)) * math.sqrt(len(each))))

    @property
    def is_certain(self) -> bool:
        """Whether it lies above 0 by more than two standard errors, and by more than the draws scatter."""
        return self.mean > max(2 * self.error, LEAST_GAIN)
