"""What wake-sleep asks of a localizer: a posterior that can be drawn from and weighed."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ..data import Localizations
from .base import TrainableLocalizer
from .posterior import PixelPosterior


class InferringLocalizer(TrainableLocalizer):
    """A localizer that gives a distribution over sets of emitters, as the family of DECODE does."""

    @abstractmethod
    def posterior_of_windows(self, photons: Tensor, conditions: Tensor, absent: Tensor | None = None) -> PixelPosterior:
        """Give the posterior of the inner frames of windows.

        Args:
            photons: (b, t, planes, h, w), t >= 2 c + 1 with c the number of neighbours on each side.
            conditions: (b, 4).
            absent: (b,) True where a frame is to be seen as if there were no others: without neighbours, as at the ends of a movie.

        Returns:
            posterior of the b (t - 2 c) inner frames, window by window.
        """

    @abstractmethod
    def localize_windows(self, photons: Tensor, conditions: Tensor, absent: Tensor | None = None) -> Localizations:
        """Localize the inner frames of windows, uncorrected, frames counting on from 0; arguments as for `posterior_of_windows`."""
