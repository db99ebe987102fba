"""Movie: counts on disk, read block by block, never all in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import MovieError
from ..units import PixelSize


class FrameSource(Protocol):
    """What a movie format gives: frames by number."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames start .. stop-1 as (n, y, x) or (n, plane, y, x) in the file's own number type."""
        ...


@dataclass(frozen=True)
class Block:
    """Frames ``start .. stop`` of a movie with the context frames around them.

    ``counts`` holds frames ``first .. first + len(counts) - 1``; only ``start .. stop - 1`` are to be localized.
    """

    counts: np.ndarray
    first: int
    start: int
    stop: int


@dataclass(frozen=True)
class Movie:
    """Lazy counts ``(frame, [plane,] y, x)`` with what the file says of itself.

    Args:
        source: reads frames of the whole file.
        name: name of the movie for people.
        frames: (start, stop) of the frames in use, numbered as in the file.
        field_px: (rows, columns) of the whole frame in the file.
        roi_px: (y0, x0, height, width) of the region in use, in pixels of the file.
        n_planes: number of focal planes, 1 for ordinary movies.
        pixel_size_nm: (y, x), None if the file does not say.
        tags: what the file says of camera and acquisition, as read.
        path: the file or folder.
    """

    source: FrameSource
    name: str
    frames: tuple[int, int]
    field_px: tuple[int, int]
    roi_px: tuple[int, int, int, int]
    n_planes: int = 1
    pixel_size_nm: PixelSize | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames in use."""
        return self.frames[1] - self.frames[0]

    @property
    def shape_px(self) -> tuple[int, int]:
        """(rows, columns) in use."""
        return self.roi_px[2], self.roi_px[3]

    @property
    def origin_px(self) -> tuple[int, int]:
        """(row, column) of the region's first pixel in the whole field."""
        return self.roi_px[0], self.roi_px[1]

    def crop(self, frames: tuple[int | None, int | None] | None = None, roi_px: tuple[int, int, int, int] | None = None) -> Movie:
        """Restrict to a range of frames and a region (y0, x0, height, width); frame numbers and positions stay those of the whole movie."""
        start, stop = self.frames
        if frames is not None:
            lo = start if frames[0] is None else frames[0]
            hi = stop if frames[1] is None else frames[1]
            if not (start <= lo < hi <= stop):
                raise MovieError(f"frames {lo}:{hi} asked for, the movie has {start}:{stop}; give start:stop inside of it")
            start, stop = lo, hi
        region = self.roi_px
        if roi_px is not None:
            y0, x0, height, width = roi_px
            rows, columns = self.field_px
            if y0 < 0 or x0 < 0 or height < 1 or width < 1 or y0 + height > rows or x0 + width > columns:
                raise MovieError(
                    f"region y0,x0,height,width = {y0},{x0},{height},{width} px is not inside the field of {rows} x {columns} px"
                )
            region = roi_px
        return replace(self, frames=(start, stop), roi_px=region)

    def with_planes(self, n: int) -> Movie:
        """Take each n consecutive images of the file as the focal planes of one frame.

        Raises:
            MovieError: the movie has planes already, or their number does not divide the number of its images.
        """
        if n == self.n_planes:
            return self
        if n < 1 or self.n_planes != 1 or self.frames[0] != 0 or self.frames[1] % n:
            raise MovieError(
                f"{self.name} has {self.frames[1]} images; they cannot be taken as frames of {n} planes each: give the right number "
                "of planes (--planes)"
            )
        return replace(self, source=_PlaneSource(self.source, n), frames=(0, self.frames[1] // n), n_planes=n)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames start .. stop-1 (numbered as in the file) of the region as (n, planes, y, x) in the file's number type."""
        counts = self.source.read(start, stop)
        if counts.ndim == 3:
            counts = counts[:, None]
        y0, x0, height, width = self.roi_px
        if (height, width) == tuple(counts.shape[-2:]):
            return counts
        return counts[:, :, y0 : y0 + height, x0 : x0 + width].copy()  # a view would keep the whole frames alive

    def blocks(self, n: int, overlap: int = 0, start: int | None = None) -> Iterator[Block]:
        """Walk over the movie in blocks of n frames, each with up to ``overlap`` context frames on both sides (inside the range in use)."""
        first, last = self.frames
        for begin in range(first if start is None else start, last, n):
            end = min(begin + n, last)
            lo, hi = max(first, begin - overlap), min(last, end + overlap)
            yield Block(self.read(lo, hi), lo, begin, end)

    def sample(self, n: int) -> np.ndarray:
        """Read about n frames spread evenly over the movie, (m, planes, y, x)."""
        first, last = self.frames
        picked = np.unique(np.linspace(first, last - 1, min(n, last - first)).astype(int))
        return np.concatenate([self.read(int(i), int(i) + 1) for i in picked])


class _PlaneSource:
    """Frames of several planes that follow one another in the file."""

    def __init__(self, source: FrameSource, n: int) -> None:
        self.source, self.n = source, n

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames start .. stop-1 as (frames, planes, y, x)."""
        images = self.source.read(start * self.n, stop * self.n)
        return images.reshape(-1, self.n, *images.shape[-2:])


class ArraySource:
    """Frames of an array in memory or of a memory map."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames start .. stop-1."""
        return np.asarray(self.array[start:stop])


def movie_from_array(array: np.ndarray, name: str = "array", pixel_size_nm: PixelSize | None = None) -> Movie:
    """Make a Movie of an array (frame, y, x) or (frame, plane, y, x)."""
    if array.ndim not in (3, 4):
        raise MovieError(f"an array of shape {array.shape} is not a movie; expected (frame, y, x) or (frame, plane, y, x)")
    rows, columns = array.shape[-2:]
    return Movie(
        source=ArraySource(array),
        name=name,
        frames=(0, len(array)),
        field_px=(rows, columns),
        roi_px=(0, 0, rows, columns),
        n_planes=array.shape[1] if array.ndim == 4 else 1,
        pixel_size_nm=pixel_size_nm,
    )
