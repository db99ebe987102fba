"""Points: a structure given place by place."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import field_validator
from torch import Tensor

from ...description import Array, Section
from ...errors import DocumentError
from ..volume import Volume
from .base import Structure


class PointsSettings(Section):
    """Settings of a structure of given places.

    Args:
        places_nm: (n, 2) of x, y or (n, 3) of x, y, z in nm; without z the molecules lie anywhere in the z range.
    """

    kind: Literal["points"] = "points"
    places_nm: Array

    @field_validator("places_nm")
    @classmethod
    def _is_a_list_of_places(cls, places: Array) -> Array:
        if places.ndim != 2 or places.shape[1] not in (2, 3) or len(places) == 0:
            raise ValueError(f"must have the shape (n, 2) or (n, 3) of x, y[, z] in nm; found {places.shape}")
        return places

    def build(self, volume: Volume) -> Points:
        """Make the structure; at least one place must lie in the frame."""
        return Points(torch.from_numpy(self.places_nm.copy()), volume)


class Points(Structure):
    """Places taken at random from a list; places outside of the frame's margin and of the z range are left out.

    Args:
        places_nm: (n, 2) or (n, 3).
        volume: where molecules lie.
    """

    def __init__(self, places_nm: Tensor, volume: Volume) -> None:
        self.volume = volume
        x, y = places_nm[:, 0], places_nm[:, 1]
        z = places_nm[:, 2] if places_nm.shape[1] == 3 else torch.full_like(x, volume.z_nm[0])
        kept = volume.contains(x, y, z)
        height, width = volume.grid.size_nm
        in_frame = kept & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if not bool(in_frame.any()):
            found = f"x {float(x.min()):g} .. {float(x.max()):g}, y {float(y.min()):g} .. {float(y.max()):g} nm"
            low, high = volume.z_nm
            expected = f"x 0 .. {width:g}, y 0 .. {height:g}, z {low:g} .. {high:g} nm"
            raise DocumentError(f"none of the structure's {len(x)} places lies in the frame: found {found}, expected {expected}")
        self.places_nm = torch.stack([x, y, z])[:, kept]
        self.has_z = places_nm.shape[1] == 3
        self.inside_fraction = float(in_frame.sum() / kept.sum())

    def places(self, movie: Tensor, n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw a place for each molecule."""
        n, device = len(movie), generator.device
        known = self.places_nm.to(device)
        placed = known[:, torch.randint(known.shape[1], (n,), generator=generator, device=device)]
        if not self.has_z:
            low, high = self.volume.z_nm
            placed[2] = low + (high - low) * torch.rand(n, generator=generator, device=device)
        return placed
