"""Cut a field into overlapping tiles whose cores cover it once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A part of a field: what is computed (outer) and what is kept of it (core), both as slices."""

    outer: tuple[slice, slice]
    core: tuple[slice, slice]

    @property
    def core_inside(self) -> tuple[slice, slice]:
        """The core in the tile's own pixels."""
        rows, columns = (slice(c.start - o.start, c.stop - o.start) for o, c in zip(self.outer, self.core, strict=True))
        return rows, columns


def tiles(shape_px: tuple[int, int], tile_px: int, halo_px: int, align_px: int) -> Iterator[Tile]:
    """Cut a field of (rows, columns); cores are at most ``tile_px`` wide, begin at multiples of ``align_px`` and overlap by ``halo_px``."""
    step = max(align_px, tile_px // align_px * align_px)
    halo = -(-halo_px // align_px) * align_px
    for top, bottom in _spans(shape_px[0], step):
        for left, right in _spans(shape_px[1], step):
            yield Tile(
                outer=(
                    slice(max(0, top - halo), min(shape_px[0], bottom + halo)),
                    slice(max(0, left - halo), min(shape_px[1], right + halo)),
                ),
                core=(slice(top, bottom), slice(left, right)),
            )


def _spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, step):
        yield start, min(start + step, length)
