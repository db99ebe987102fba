"""Emitters: one molecule in one frame, as truth or as a draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Emitters:
    """Struct of arrays; all tensors have length n and stand on one device.

    Args:
        frame: (n,) int64, counted from 0.
        molecule: (n,) int64, the same number for one fluorophore over the movie.
        x_nm, y_nm, z_nm: (n,) positions in nm; x = column, y = row, origin at the outer corner of pixel (0, 0).
        photons: (n,) expected photons of the emitter in this frame.
        channel: (n,) int64 colour channel.
    """

    frame: Tensor
    molecule: Tensor
    x_nm: Tensor
    y_nm: Tensor
    z_nm: Tensor
    photons: Tensor
    channel: Tensor

    def __post_init__(self) -> None:
        lengths = {getattr(self, f.name).shape for f in fields(self)}
        if len(lengths) > 1:
            raise ValueError(f"all columns of Emitters must have one length, found {sorted(map(tuple, lengths))}")

    @classmethod
    def of(
        cls,
        frame: Tensor,
        x_nm: Tensor,
        y_nm: Tensor,
        photons: Tensor,
        z_nm: Tensor | None = None,
        molecule: Tensor | None = None,
        channel: Tensor | None = None,
    ) -> Emitters:
        """Make emitters with z = 0, one molecule per row and channel 0 where these are not given."""
        return cls(
            frame=frame.long(),
            molecule=torch.arange(len(frame), device=frame.device) if molecule is None else molecule.long(),
            x_nm=x_nm,
            y_nm=y_nm,
            z_nm=torch.zeros_like(x_nm) if z_nm is None else z_nm,
            photons=photons,
            channel=torch.zeros_like(frame, dtype=torch.long) if channel is None else channel.long(),
        )

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, keep: Tensor) -> Emitters:
        """Take the rows of a mask or of an index."""
        return Emitters(*(getattr(self, f.name)[keep] for f in fields(self)))

    def sort(self) -> Emitters:
        """Order the rows by frame; rows of one frame keep their order."""
        return self.select(torch.argsort(self.frame, stable=True))

    def to(self, device: torch.device | str) -> Emitters:
        """Move all columns to a device."""
        return Emitters(*(getattr(self, f.name).to(device) for f in fields(self)))

    def shifted(self, dx_nm: float = 0.0, dy_nm: float = 0.0, dz_nm: float = 0.0) -> Emitters:
        """Move all emitters by a constant."""
        return replace(self, x_nm=self.x_nm + dx_nm, y_nm=self.y_nm + dy_nm, z_nm=self.z_nm + dz_nm)

    @staticmethod
    def concat(parts: Sequence[Emitters]) -> Emitters:
        """Join several sets of emitters."""
        return Emitters(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Emitters)))

    def to_pandas(self) -> pandas.DataFrame:
        """Give the rows as a pandas table (needs pandas)."""
        import pandas

        return pandas.DataFrame({f.name: getattr(self, f.name).detach().cpu().numpy() for f in fields(self)})
