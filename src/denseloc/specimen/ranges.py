"""Numbers of a document that may be one value or a range drawn per movie."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from torch import Tensor

from ..description import Range, ordered

Level = float | tuple[float, float]
"""One number, or (low, high)."""

_SCHEMA = {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}]}


def _read(value: Any) -> Any:
    """Read a number or a pair in order, all finite."""
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    numbers = list(value) if pair else [value]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in numbers):
        raise ValueError("expected a number or a pair of numbers (low, high)")
    return ordered((float(numbers[0]), float(numbers[1])), "a range") if pair else float(numbers[0])


def _positive(value: Any) -> Any:
    if low(value) <= 0:
        raise ValueError("must be above 0")
    return value


def _not_negative(value: Any) -> Any:
    if isinstance(value, tuple) and value[0] <= 0:
        raise ValueError("a range must be above 0 at both ends; it is drawn evenly in its logarithm")
    if low(value) < 0:
        raise ValueError("must not be negative")
    return value


PositiveLevel = Annotated[Any, BeforeValidator(_read), AfterValidator(_positive), WithJsonSchema(_SCHEMA)]
"""Level above zero."""

LevelFromZero = Annotated[Any, BeforeValidator(_read), AfterValidator(_not_negative), WithJsonSchema(_SCHEMA)]
"""Level at or above zero."""


def _ordered(value: Range) -> Range:
    return ordered(value, "a range")


OrderedRange = Annotated[Range, AfterValidator(_ordered)]
"""(low, high) in order."""


def _positive_number(value: float) -> float:
    if value <= 0:
        raise ValueError("must be above 0")
    return value


def _number_from_zero(value: float) -> float:
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("must be between 0 and 1")
    return value


Positive = Annotated[float, AfterValidator(_positive_number)]
NotNegative = Annotated[float, AfterValidator(_number_from_zero)]
Fraction = Annotated[float, AfterValidator(_fraction)]


def low(level: Level) -> float:
    """Give the lower end."""
    return level[0] if isinstance(level, tuple) else level


def high(level: Level) -> float:
    """Give the upper end."""
    return level[1] if isinstance(level, tuple) else level


def ends(level: Any) -> Range:
    """Give both ends, equal for one number; a pair may be a list, as in documents that travel as JSON."""
    return (float(level[0]), float(level[1])) if isinstance(level, (tuple, list)) else (float(level), float(level))


def draw_level(level: Level, n: int, generator: torch.Generator) -> Tensor:
    """Draw n values, evenly in the logarithm for a range; (n,)."""
    if not isinstance(level, tuple):
        return torch.full((n,), level, device=generator.device)
    u = uniform(n, generator)
    return (math.log(level[0]) + (math.log(level[1]) - math.log(level[0])) * u).exp()


def uniform(n: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draw n uniform numbers in low .. high; (n,) float32."""
    u = torch.rand(n, generator=generator, device=generator.device)
    return u if (low, high) == (0.0, 1.0) else low + (high - low) * u
