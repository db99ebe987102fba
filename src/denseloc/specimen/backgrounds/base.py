"""What every background does: light that comes from no molecule in focus."""

from __future__ import annotations

import abc

import torch
from torch import Tensor


class Background(abc.ABC):
    """Background of movies; constant over the frames of one movie."""

    @abc.abstractmethod
    def draw(self, shape_px: tuple[int, int], n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw one background for each movie, (n_movies, 1, rows, columns) photons per pixel and frame, never negative."""
