"""What makes a network's uncertainties true: sigma times a factor, and another scale for probability.

A network learns its own errors and is a little off: too sure where it saw few cases, too modest elsewhere. On simulations with truth this
can be counted (`evaluate.coverage`), and put right by curves with a few knots, which keep the order of sigmas and of probabilities:

    sigma' = sigma exp(f(log sigma) + g(logit p))        logit p' = h(logit p)

with ``log sigma + f`` and ``h`` rising and ``g`` falling: doubtful localizations err more than their sigma says.

Source: Guo et al., "On calibration of modern neural networks" (2017), section 4 (temperature, binning); Kuleshov et al., "Accurate
uncertainties for deep learning using calibrated regression" (2018), section 3. The curves are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..data import Localizations
from ..units import PixelSize

STRONGEST = 3.0
"""Sigma is multiplied by no more than this and no less than its inverse: a network farther off needs a better training."""
SURE = 12.0  # logit from which on a probability counts as one
MOST_KNOTS = 64


@dataclass(frozen=True)
class Curve:
    """A curve of straight pieces, level beyond its ends.

    Args:
        at: rising places of the knots.
        value: values there.
    """

    at: tuple[float, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.at) <= MOST_KNOTS or len(self.at) != len(self.value):
            raise ValueError(f"a curve of {len(self.at)} places and {len(self.value)} values, expected 1 to {MOST_KNOTS} of both")
        if not all(isinstance(v, float) and math.isfinite(v) for v in (*self.at, *self.value)):
            raise ValueError("a curve with knots that are no numbers")
        if any(b <= a for a, b in pairwise(self.at)):
            raise ValueError("a curve whose knots do not rise")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Interpolate, (n,) float64."""
        return np.interp(x, self.at, self.value)

    @staticmethod
    def of(values: Any) -> Curve:
        """Read the JSON form: ``[[places], [values]]``."""
        at, value = values
        return Curve(tuple(float(v) for v in at), tuple(float(v) for v in value))

    def to_json(self) -> list[list[float]]:
        """Give places and values."""
        return [[round(v, 4) for v in self.at], [round(v, 4) for v in self.value]]


LEVEL = Curve((0.0,), (0.0,))


@dataclass(frozen=True)
class SigmaCorrection:
    """A factor on one sigma.

    Args:
        by_sigma: log factor against log sigma (x and y in camera pixels, z in nm, photons in photons).
        by_probability: log factor against the logit of the network's own probability.
    """

    by_sigma: Curve
    by_probability: Curve = LEVEL

    def __post_init__(self) -> None:
        if any(b < a - 1e-3 for a, b in _steps(self.by_sigma, slope=1.0)):
            raise ValueError("a correction that changes the order of sigmas")
        if any(b > a for a, b in _steps(self.by_probability)):
            raise ValueError("a correction that trusts doubtful localizations more than sure ones")

    def factor(self, sigma: np.ndarray, logit: np.ndarray | None) -> np.ndarray:
        """Give the factors (n,) on sigmas (n,); without probabilities the sure ones' factor holds."""
        with np.errstate(divide="ignore", invalid="ignore"):
            bend = self.by_sigma(np.log(sigma))
        bend = bend + self.by_probability(np.full(len(sigma), SURE) if logit is None else logit)
        return np.exp(np.clip(bend, -math.log(STRONGEST), math.log(STRONGEST)))

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {"by_sigma": self.by_sigma.to_json(), "by_probability": self.by_probability.to_json()}


@dataclass(frozen=True)
class Correction:
    """What is done to the uncertainties of a localizer's tables.

    Args:
        sigmas: by column (``sigma_x_nm``, ...).
        probability: logit of the true share against the logit of the network's own probability; None leaves it.
    """

    sigmas: Mapping[str, SigmaCorrection] = field(default_factory=dict)
    probability: Curve | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and any(b <= a for a, b in _steps(self.probability)):
            raise ValueError("a correction that changes the order of probabilities")

    def apply(self, table: Localizations, pixel_size_nm: PixelSize) -> Localizations:
        """Correct the sigmas and probabilities of a table as the network gave it; ``pixel_size_nm`` (y, x) of its frames."""
        own = logit(table.probability.astype(np.float64)) if "probability" in table else None
        changed: dict[str, np.ndarray] = {}
        for name, one in self.sigmas.items():
            if name in table:
                sigma = table.columns[name].astype(np.float64)
                changed[name] = sigma * one.factor(sigma / unit_of(name, pixel_size_nm), own)
        if own is not None and self.probability is not None:
            changed["probability"] = 1 / (1 + np.exp(-self.probability(own)))
        return table.with_columns(**changed)

    def own_probability(self, reported: float) -> float:
        """Give the network's own probability that is reported as ``reported``; below 1, so that the surest are always kept."""
        if self.probability is None:
            return reported
        own = np.interp(float(logit(np.array(reported))), self.probability.value, self.probability.at)
        return float(1 / (1 + np.exp(-min(own, SURE))))

    def range_of(self, name: str) -> tuple[float, float]:
        """Give the least and the largest factor on a sigma."""
        one = self.sigmas[name]
        ends = (f(one.by_sigma.value) + f(one.by_probability.value) for f in (min, max))
        low, high = (min(max(math.exp(end), 1 / STRONGEST), STRONGEST) for end in ends)
        return low, high

    def describe(self) -> str:
        """Say in words what is done: ``sigma corrected by 0.93 .. 1.21 (x), ...; probability corrected``."""
        parts = [f"{low:.2f} .. {high:.2f} ({short(name)})" for name in self.sigmas for low, high in (self.range_of(name),)]
        words = [f"sigma corrected by {', '.join(parts)}"] if parts else []
        words += ["probability corrected"] if self.probability is not None else []
        return "; ".join(words) or "nothing corrected"

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        values: dict[str, Any] = {"sigmas": {name: one.to_json() for name, one in self.sigmas.items()}}
        if self.probability is not None:
            values["probability"] = self.probability.to_json()
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Correction:
        """Read what `to_json` gave.

        Raises:
            ValueError, TypeError, KeyError: it is no correction.
        """
        sigmas = {
            str(name): SigmaCorrection(Curve.of(one["by_sigma"]), Curve.of(one["by_probability"]))
            for name, one in dict(values["sigmas"]).items()
        }
        shares = values.get("probability")
        return Correction(sigmas, None if shares is None else Curve.of(shares))


def short(name: str) -> str:
    """Give the quantity of a sigma's column: x, y, z or photons."""
    return name.removeprefix("sigma_").removesuffix("_nm")


def unit_of(name: str, pixel_size_nm: PixelSize) -> float:
    """Give the unit in which a sigma is looked up: the camera pixel for x and y, as one network may serve many pixel sizes."""
    return {"sigma_y_nm": pixel_size_nm[0], "sigma_x_nm": pixel_size_nm[1]}.get(name, 1.0)


def logit(p: np.ndarray) -> np.ndarray:
    """Give ``log(p / (1 - p))`` between -`SURE` and `SURE`."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(p) - np.log1p(-np.minimum(p, 1.0)), -SURE, SURE)


def _steps(curve: Curve, slope: float = 0.0) -> list[tuple[float, float]]:
    """Give the neighbouring values of a curve plus a straight line."""
    line = [v + slope * a for a, v in zip(curve.at, curve.value, strict=True)]
    return list(pairwise(line))
