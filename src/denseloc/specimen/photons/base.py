"""What every photon law does: the brightness of molecules."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from ..volume import Volume


@dataclass(frozen=True)
class Molecules:
    """The molecules that need a brightness.

    Args:
        movie: (n,) movie of each molecule.
        n_movies: number of movies.
        x_nm, y_nm: (n,) places.
        volume: where they lie.
    """

    movie: Tensor
    n_movies: int
    x_nm: Tensor
    y_nm: Tensor
    volume: Volume

    def __len__(self) -> int:
        return len(self.movie)


class PhotonLaw(abc.ABC):
    """Photons that a molecule gives in a frame in which it is on all the time."""

    @abc.abstractmethod
    def draw(self, molecules: Molecules, generator: torch.Generator) -> Tensor:
        """Draw the brightness of each molecule, (n,) photons, never negative."""

    @abc.abstractmethod
    def log_prob(self, photons: Tensor) -> Tensor:
        """Give the log-density per photon of a brightness, over all movies; differentiable."""
