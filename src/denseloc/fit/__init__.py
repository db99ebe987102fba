"""Maximum likelihood: bounds, and the fit of one emitter."""

from .expectation import CrowdBounds, DepthBounds, Expectation, Light, bounds_in_crowd, bounds_over_depth
from .fisher import Bounds, crlb
from .noise import Noise
from .single import DEPTHS_NM, SingleFits, fit_single

__all__ = [
    "DEPTHS_NM",
    "Bounds",
    "CrowdBounds",
    "DepthBounds",
    "Expectation",
    "Light",
    "Noise",
    "SingleFits",
    "bounds_in_crowd",
    "bounds_over_depth",
    "crlb",
    "fit_single",
]
