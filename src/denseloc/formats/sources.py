"""Sources of frames: numbers that lie uncompressed in files, read when asked for."""

from __future__ import annotations

import math
import reprlib
import threading
import weakref
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..data.movie import FrameSource, Movie
from ..errors import MovieError
from ..units import PixelSize

PLAUSIBLE_NM = (10.0, 1000.0)
"""Pixel sizes outside of this range are not those of a microscope; such entries of files are ignored."""


MOST_PX = 1 << 28
"""Pixels that a frame may have (16384 x 16384), more than any camera has."""
MOST_FRAMES = 10_000_000
"""Frames that a movie may have; the place of each is kept in memory."""


def check_size(shape_px: tuple[int, int], name: str) -> tuple[int, int]:
    """Refuse frames (rows, columns) that are empty or larger than any camera's, before memory is taken for one.

    Raises:
        MovieError: names the size.
    """
    rows, columns = shape_px
    if rows < 1 or columns < 1 or rows * columns > MOST_PX:
        limit = f"1 to {MOST_PX} pixels"
        raise MovieError(
            f"{name}: frames of {shown(rows)} x {shown(columns)} px, expected {limit}; export the movie again or crop it"
        )
    return rows, columns


def shown(value: object) -> str:
    """Give what was found in a file as a short text for a message, however large it is."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, tuple):
        return f"({', '.join(shown(item) for item in value[:6])}{', ...' if len(value) > 6 else ''})"
    text = value if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_dtype(dtype: np.dtype, name: str) -> np.dtype:
    """Refuse number types that cannot be counts.

    Raises:
        MovieError: the pixels are not integers or floats.
    """
    if dtype.kind not in "uif":
        raise MovieError(f"{name}: pixels are {dtype.name}, expected integers or real floats; save the movie as 16-bit counts")
    return dtype


def check_frames(counts: np.ndarray, start: int, name: str) -> np.ndarray:
    """Refuse frames with NaN or infinity; ``counts`` holds frames start, start + 1, ...

    Raises:
        MovieError: names the first frame that is not finite.
    """
    if counts.dtype.kind == "f" and not np.isfinite(counts).all():
        bad = ~np.isfinite(counts).reshape(len(counts), -1).all(axis=1)
        frame = start + int(np.argmax(bad))
        raise MovieError(
            f"{name}: frame {frame} contains NaN or infinity, expected finite counts; leave it out or repair the movie"
        )
    return counts


def check_range(start: int, stop: int, n_frames: int, name: str) -> None:
    """Refuse a range of frames outside of the movie.

    Raises:
        MovieError: names the range and the number of frames.
    """
    if not 0 <= start <= stop <= n_frames:
        raise MovieError(f"{name}: frames {start}:{stop} asked for, the movie has 0:{n_frames}; give start:stop inside of it")


def whole_frames(expected: int | None, whole: int, name: str, allow_truncated: bool, what: str = "truncated") -> int:
    """Give the number of frames to use of a movie of which ``whole`` of ``expected`` frames lie inside the file.

    An unknown number of expected frames, None, is more than there are.

    Raises:
        MovieError: the movie is truncated and that was not allowed, no frame is whole, or there are more than any movie has.
    """
    if min(whole, whole if expected is None else expected) > MOST_FRAMES:
        raise MovieError(
            f"{name}: {shown(whole)} frames in the file, expected at most {MOST_FRAMES}; correct its frame size or split it"
        )
    if expected is not None and whole >= expected:
        return expected
    of = "of an unknown number of" if expected is None else f"of {shown(expected)}"
    if whole < 1:
        raise MovieError(f"{name}: {what}, none {of} frames is whole; copy or export the movie again")
    if not allow_truncated:
        raise MovieError(
            f"{name}: {what}, {whole} {of} frames are whole; copy it again, or localize frames 0:{whole} of it: "
            "--allow-truncated (in Python allow_truncated=True)"
        )
    return whole


def plausible(pixel_size_nm: tuple[float, float] | None) -> PixelSize | None:
    """Keep a (y, x) pixel size in nm if a microscope can have it."""
    if pixel_size_nm is None:
        return None
    low, high = PLAUSIBLE_NM
    y, x = (float(size) for size in pixel_size_nm)
    return (y, x) if low <= y <= high and low <= x <= high else None


def plain_tags(values: Mapping[Any, Any], longest: int = 200) -> dict[str, Any]:
    """Keep what is a number, a truth value or a short text."""
    return {
        str(key): value
        for key, value in values.items()
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= longest)
    }


class RawFrames:
    """Frames that lie uncompressed in one or more files.

    They are read, not memory-mapped: the memory in use is that of the frames asked for, whatever the size of the movie, and a file
    that shrinks while it is read gives an error instead of ending the program. One lock guards the file positions.

    Args:
        files: the files, as paths (opened at first use and kept open) or as one open binary file.
        offsets: (n,) place of each frame in its file, in bytes.
        shape_px: (rows, columns).
        dtype: number type in the file, with its byte order.
        name: the movie's name in messages.
        file_of: (n,) index into ``files`` for each frame; None where there is one file.
    """

    def __init__(
        self,
        files: Sequence[Path] | BinaryIO,
        offsets: np.ndarray,
        shape_px: tuple[int, int],
        dtype: np.dtype,
        name: str,
        file_of: np.ndarray | None = None,
    ) -> None:
        self.offsets = np.asarray(offsets, dtype=np.int64)
        self.shape_px = shape_px
        self.dtype = check_dtype(np.dtype(dtype), name)
        self.name = name
        self.frame_bytes = shape_px[0] * shape_px[1] * self.dtype.itemsize
        self._file_of = np.zeros(len(self.offsets), np.int32) if file_of is None else np.asarray(file_of, dtype=np.int32)
        self._paths = list(files) if isinstance(files, Sequence) else []
        self._open: dict[int, BinaryIO] = {} if isinstance(files, Sequence) else {0: files}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames start .. stop-1 as (n, y, x) in native byte order.

        Raises:
            MovieError: a frame is outside of the movie, lies beyond the end of its file, or is not finite.
        """
        check_range(start, stop, len(self), self.name)
        counts = np.empty((stop - start, *self.shape_px), self.dtype)
        flat = memoryview(counts.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        gaps = np.diff(self.offsets[start:stop]) != self.frame_bytes
        gaps |= np.diff(self._file_of[start:stop]) != 0
        edges = [0, *(np.flatnonzero(gaps) + 1).tolist(), stop - start] if stop > start else [0]
        with self._lock:
            for begin, end in pairwise(edges):
                self._fill(start + begin, flat[begin * self.frame_bytes : end * self.frame_bytes])
        return check_frames(counts.astype(self.dtype.newbyteorder("="), copy=False), start, self.name)

    def _fill(self, frame: int, target: memoryview) -> None:
        """Fill ``target`` with what lies in the file from ``frame`` on."""
        done = 0
        try:
            file = self._file(int(self._file_of[frame]))
            file.seek(int(self.offsets[frame]))
            while done < len(target):
                n = file.readinto(target[done:])  # type: ignore[attr-defined]
                if not n:
                    break
                done += n
        except OSError as error:
            raise MovieError(f"{self.name}: frame {frame} cannot be read ({error.strerror or error}); check the disk") from error
        if done < len(target):
            frame += done // self.frame_bytes
            raise MovieError(f"{self.name}: frame {frame} lies beyond the end of the file, which has shrunk; copy the movie again")

    def _file(self, index: int) -> BinaryIO:
        if index not in self._open:
            self._open[index] = open(self._paths[index], "rb", buffering=0)  # type: ignore[assignment] # noqa: SIM115
        return self._open[index]


def _close_all(files: dict[int, BinaryIO]) -> None:
    for file in files.values():
        file.close()


def raw_frames(
    path: Path,
    n_frames: int,
    shape_px: tuple[int, int],
    dtype: np.dtype,
    offset: int = 0,
    allow_truncated: bool = False,
    exact: bool = False,
) -> RawFrames:
    """Give frames that follow each other in one file from ``offset`` on.

    Raises:
        MovieError: the file is shorter than its frames; or, where ``exact``, longer.
    """
    frame_bytes = math.prod(check_size(shape_px, str(path))) * check_dtype(np.dtype(dtype), str(path)).itemsize
    found = path.stat().st_size - offset
    if exact and found > n_frames * frame_bytes:
        raise MovieError(
            f"{path}: {found} bytes, expected {n_frames * frame_bytes} for {n_frames} frames of {shape_px[0]} x {shape_px[1]} px "
            f"{np.dtype(dtype).name}; correct the frame size or number of frames in the file beside it"
        )
    n = whole_frames(n_frames, max(found, 0) // frame_bytes, str(path), allow_truncated)
    return RawFrames([path], offset + np.arange(n, dtype=np.int64) * frame_bytes, shape_px, dtype, str(path))


def movie_of(
    source: FrameSource,
    n_frames: int,
    shape_px: tuple[int, int],
    path: Path,
    pixel_size_nm: PixelSize | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Movie:
    """Make the Movie of a whole file."""
    rows, columns = shape_px
    return Movie(
        source=source,
        name=path.name,
        frames=(0, n_frames),
        field_px=(rows, columns),
        roi_px=(0, 0, rows, columns),
        pixel_size_nm=plausible(pixel_size_nm),
        tags=tags or {},
        path=path,
    )
