"""Denser movies of the same sample: each frame is the sum of some frames that lie far apart.

The molecules of the summed frames are others, so that a movie becomes as many times denser as frames are summed, and as many times shorter: what a
method makes of it can be compared with what it makes of the movie itself.

Source: Speiser, Turaga, Macke, "Teaching deep neural networks to localize sources in super-resolution microscopy by combining simulation-based
learning and unsupervised learning" (2019): 6 and 12 times denser movies by summing frames 1, 301, 601, ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import MovieError
from .localizations import Localizations
from .movie import FrameSource, Movie

APART = 300
"""Frames between the ones that are summed."""


@dataclass(frozen=True)
class Compression:
    """Which frames are summed.

    ``factor * apart`` frames in a row become ``apart`` frames: frame j of them is the sum of frames j, j + apart, j + 2 apart, ... Neighbours stay
    neighbours. What is left at the end of the movie is left out.

    Args:
        factor: frames in a sum.
        apart: frames between them; more than a molecule stays on.

    Raises:
        MovieError: an impossible number.
    """

    factor: int
    apart: int = APART

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise MovieError(f"factor {self.factor}; expected 2 or more: that many frames are summed")
        if self.apart < 1:
            raise MovieError(f"frames {self.apart} apart; expected 1 or more, and more than a molecule stays on")

    def n_frames(self, n: int) -> int:
        """Give the number of frames that n frames become."""
        return n // (self.factor * self.apart) * self.apart

    def n_used(self, n: int) -> int:
        """Give the number of frames, of n, that are summed; the others lie behind them."""
        return self.n_frames(n) * self.factor

    def frame_of(self, frame: np.ndarray) -> np.ndarray:
        """Give the frame (n,) of which frames (n,) become a part, both counted from 0."""
        return frame // (self.factor * self.apart) * self.apart + frame % self.apart

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Part sums start .. stop - 1 into runs of neighbours: first and last + 1 of the run, and the frame with which its sums begin."""
        while start < stop:
            end = min(stop, (start // self.apart + 1) * self.apart)
            yield start, end, start // self.apart * self.factor * self.apart + start % self.apart
            start = end

    def table(self, rows: Localizations, n_frames: int, first: int = 0) -> Localizations:
        """Give the rows of a table (a truth) of the movie for the compressed movie, in the order of its frames.

        Args:
            rows: frames counted as in the movie.
            n_frames: frames of the movie that were in use.
            first: the first of them.
        """
        frame = rows.frame - first
        kept = rows.select((frame >= 0) & (frame < self.n_used(n_frames)))
        return kept.with_columns(frame=self.frame_of(kept.frame - first)).with_provenance(n_frames=self.n_frames(n_frames)).sort()


def compressed(movie: Movie, factor: int, apart: int = APART, offset_counts: float | np.ndarray = 0.0) -> Movie:
    """Sum frames of a movie that lie far apart, lazily: nothing is read before it is asked for.

    Each frame holds the camera's offset. It is taken away from all summed frames but one, in whole counts where the movie has whole counts, so that
    the camera's offset and gain hold for the sums as well. Its read noise does not: it grows by ``sqrt(factor)``.

    Args:
        movie: of any number of planes; its region and range of frames stay in use.
        factor: frames in a sum.
        apart: frames between them; more than a molecule stays on.
        offset_counts: of a dark pixel, one number or (rows, columns) of the whole field.

    Returns:
        A movie whose frames count from 0 and hold whole numbers of 32 bits (64 where the movie has as many), or floats of 32 bits.

    Raises:
        MovieError: an impossible number, or the movie is too short.
    """
    which = Compression(factor, apart)
    n = movie.n_frames
    if which.n_frames(n) < 1:
        most = n // factor
        mend = f"take them at most {most} apart (--apart)" if most else "give a longer one, or a smaller factor"
        raise MovieError(f"{movie.name} has {n} frames; sums of {factor} that are {apart} apart need {factor * apart}: {mend}")
    source = _Sums(movie.source, which, movie.frames[0], np.asarray(offset_counts, np.float64))
    return replace(movie, source=source, name=f"{movie.name} ({factor} frames summed)", frames=(0, which.n_frames(n)), path=None)


class _Sums:
    """Sums of frames of another source."""

    def __init__(self, source: FrameSource, which: Compression, first: int, offset: np.ndarray) -> None:
        self.source, self.which, self.first = source, which, first
        self.spare = offset * (which.factor - 1)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read sums start .. stop - 1."""
        parts = []
        for begin, end, at in self.which.runs(start, stop):
            parts.append(self._sum(self.first + at, end - begin))
        return np.concatenate(parts)

    def _sum(self, at: int, n: int) -> np.ndarray:
        """Sum n neighbours that begin at a frame with those behind them."""
        total = self.source.read(at, at + n)
        is_float, is_short = total.dtype.kind == "f", total.dtype.itemsize <= 2
        kind = np.dtype(np.float64 if is_float else np.int64)
        total = total.astype(kind) - (self.spare if is_float else np.rint(self.spare)).astype(kind)
        for i in range(1, self.which.factor):
            begin = at + i * self.which.apart
            total += self.source.read(begin, begin + n)
        return total.astype(np.float32) if is_float else total.astype(np.int32) if is_short else total
