"""`.sif`: Andor's own movie file; a header of text lines, then frames of 32-bit floats, row by row as the file has them.

The header changes with the version. It is read from its two ends: the beginning (exposure, gain, camera) stands alike in all versions;
the end is the line with area and sizes, before which two lines of the axes stand. What lies between is skipped.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..data.movie import Movie
from ..errors import MovieError
from .sources import MOST_FRAMES, RawFrames, check_size, movie_of, shown, whole_frames

MAGIC = b"Andor Technology Multi-Channel File\n"
LONGEST_HEADER = 1 << 20
"""Bytes in which the sizes must stand; headers have some thousand."""
LONGEST_LINE = 256
"""Bytes of a line that holds one number."""
_SIZES = re.compile(
    rb"655\d\d -?\d{1,9} -?\d{1,9} -?\d{1,9} -?\d{1,9} "
    rb"(?P<frames>\d{1,30}) (?P<areas>\d{1,9}) (?P<total>\d{1,30}) (?P<one>\d{1,30})\s*\n"
)
_AREA = re.compile(rb"\s*655\d\d (\d{1,9}) (\d{1,9}) (\d{1,9}) (\d{1,9}) (\d{1,6}) (\d{1,6})[^\n]{0,100}\n")
"""left, top, right, bottom (from 1, both ends in it), binning along y and along x."""
_OPENING = ("version", "", "", "", "time", "temperature_C")
_TIMES = ("exposure_s", "cycle_s", "accumulated_cycle_s", "accumulations")
_SPEEDS = ("stack_cycle_s", "pixel_readout_s", "", "", "gain_dac")


class Sif:
    """One recording; several sub-areas in one file are refused."""

    name = "Andor sif"
    suffixes: tuple[str, ...] = (".sif",)

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open the movie.

        Raises:
            MovieError: not a sif, damaged, truncated, with several areas, or spooled to other files.
        """
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(LONGEST_HEADER)
            if not head.startswith(MAGIC):
                raise MovieError(f"{path}: does not begin as an Andor .sif does; give the right file or export the movie as TIFF")
            sizes = _last(_SIZES, head)
            if sizes is None:
                raise MovieError(f"{path}: no sizes of frames in its header; export the movie as TIFF in Andor's program")
            n_frames, shape_px, area_end, tags = _frame_sizes(head, sizes, path)
            file.seek(area_end)
            first = _first_frame(file, n_frames, str(path), allow_truncated)
        frame_bytes = 4 * math.prod(shape_px)
        n = whole_frames(n_frames, max(size - first, 0) // frame_bytes, str(path), allow_truncated)
        places = first + np.arange(n, dtype=np.int64) * frame_bytes
        source = RawFrames([path], places, shape_px, np.dtype("<f4"), str(path))
        return movie_of(source, n, shape_px, path, tags={**_opening(head), **tags})


def _last(pattern: re.Pattern[bytes], head: bytes) -> re.Match[bytes] | None:
    """Find the sizes: the first place after which an area follows, since pixels may look like text too."""
    return next((found for found in pattern.finditer(head) if _AREA.match(head, found.end())), None)


def _frame_sizes(head: bytes, sizes: re.Match[bytes], path: Path) -> tuple[int, tuple[int, int], int, dict[str, Any]]:
    """Give frames, (rows, columns), the end of the areas and tags.

    Raises:
        MovieError: several areas, or sizes that do not agree.
    """
    n_frames, areas, total, one = (int(sizes[name]) for name in ("frames", "areas", "total", "one"))
    if areas != 1:
        raise MovieError(f"{path}: {areas} areas in each frame, expected 1; export the movie as TIFF in Andor's program")
    area = _AREA.match(head, sizes.end())
    assert area is not None
    left, top, right, bottom, bin_y, bin_x = (int(number) for number in area.groups())
    if min(bin_y, bin_x, left, bottom) < 1 or right < left or top < bottom:
        raise MovieError(f"{path}: an impossible area {left},{top},{right},{bottom} in its header; export the movie as TIFF")
    shape_px = check_size(((top - bottom + 1) // bin_y, (right - left + 1) // bin_x), str(path))
    pixels = math.prod(shape_px)
    if n_frames < 1 or n_frames > MOST_FRAMES or one != pixels or total != n_frames * pixels:
        raise MovieError(
            f"{path}: {shown(n_frames)} frames of {shape_px[0]} x {shape_px[1]} px do not agree with {shown(total)} pixels in all, "
            "both from its header; export the movie as TIFF"
        )
    tags = {"roi_left_px": left - 1, "roi_bottom_px": bottom - 1, "Binning": f"{bin_x}x{bin_y}"}
    return n_frames, shape_px, area.end(), tags


def _first_frame(file: BinaryIO, n_frames: int, name: str, allow_truncated: bool) -> int:
    """Give the place of the first pixel: after the times of the frames, one a line, and what newer versions add.

    Raises:
        MovieError: the lines break off.
    """
    for _ in range(n_frames):
        if not _number_line(file):
            raise MovieError(f"{name}: truncated among the times of its frames, no frame is whole; copy or export the movie again")
    place = file.tell()
    flag = file.readline(4)
    if flag == b"0\n":
        return place + 2
    if flag == b"1\n":  # one more number for each frame
        for _ in range(n_frames):
            if not _number_line(file):
                return place
        return file.tell()
    return place


def _number_line(file: BinaryIO) -> bool:
    line = file.readline(LONGEST_LINE)
    return line.endswith(b"\n") and re.fullmatch(rb"\s*-?\d{1,20}\s*", line) is not None


def _opening(head: bytes) -> dict[str, Any]:
    """Read what stands at the beginning of all versions; what cannot be read is left out."""
    lines = head[len(MAGIC) :].split(b"\n", 4)
    if len(lines) < 4:
        return {}
    words = [word for word in lines[1].split(b" ") if word]
    tags: dict[str, Any] = dict(_named(words, _OPENING))
    binary = [i for i, word in enumerate(words) if not word[:1].isdigit() and not word.startswith(b"-")]
    after = [i for i in binary if i >= len(_OPENING)]
    if after:  # marks of one byte: four or five, then 0 and the times; one mark; the speeds
        begin = next((i for i in range(after[0], len(words)) if i not in after), len(words)) + 1
        tags |= dict(_named(words[begin:], _TIMES))
        middle = next((i for i in after if i > begin), None)
        if middle is not None:
            tags |= dict(_named(words[middle + 1 :], _SPEEDS))
    detector = lines[2].strip()
    if 0 < len(detector) <= 80 and detector.isascii():
        tags["DetectorType"] = detector.decode("ascii")
    return tags


def _named(words: list[bytes], names: tuple[str, ...]) -> list[tuple[str, float]]:
    pairs = []
    for name, word in zip(names, words, strict=False):
        if not re.fullmatch(rb"-?\d{1,18}(\.\d{1,18})?([eE][-+]?\d{1,2})?", word):
            break
        if name:
            pairs.append((name, float(word)))
    return pairs
