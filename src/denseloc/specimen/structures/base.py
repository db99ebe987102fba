"""What every structure does: places for molecules."""

from __future__ import annotations

import abc

import torch
from torch import Tensor


class Structure(abc.ABC):
    """Places where molecules sit.

    Attributes:
        inside_fraction: expected part of the molecules that lie in the frame, and not in its margin.
    """

    inside_fraction: float

    @abc.abstractmethod
    def places(self, movie: Tensor, n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw a place for each molecule.

        Args:
            movie: (n,) int64 movie of each molecule; molecules of one movie share its structure.
            n_movies: number of movies.
            generator: source of randomness.

        Returns:
            (3, n) of x, y, z in nm.
        """
