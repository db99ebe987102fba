"""Maximum likelihood: bounds, and the fit of one emitter."""

from .fisher import Bounds, crlb
from .noise import Noise
from .single import SingleFits, fit_single

__all__ = ["Bounds", "Noise", "SingleFits", "crlb", "fit_single"]
