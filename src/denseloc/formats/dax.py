"""`.dax` with `.inf`: flat 16-bit frames with a text file beside them, as the Zhuang lab's programs write."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..data.movie import Movie
from ..errors import MovieError
from .sources import movie_of, raw_frames, shown

LONGEST = 1 << 20
"""Characters that an `.inf` may have; they are a few hundred."""
DIGITS = 18
"""Digits that a number in it may have."""


class Dax:
    """Flat frames; the `.inf` beside them gives size, number and byte order (big-endian unless it says little)."""

    name = "dax + inf"
    suffixes: tuple[str, ...] = (".dax",)

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open the movie.

        Raises:
            MovieError: the `.inf` is missing or incomplete, or does not fit the file.
        """
        tags = _read_inf(path)
        rows, columns = _frame_shape(tags, path)
        n_frames = _number(tags, "number of frames", path)
        source = raw_frames(path, n_frames, (rows, columns), _dtype(tags, path), allow_truncated=allow_truncated, exact=True)
        return movie_of(source, len(source), (rows, columns), path, tags=tags)


def _read_inf(path: Path) -> dict[str, str]:
    inf = path.with_suffix(".inf")
    try:
        with open(inf, encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST + 1)
    except FileNotFoundError:
        raise MovieError(f"{path}: {inf.name} is not beside it; copy the .inf that was recorded with the movie to {inf}") from None
    except OSError as error:
        raise MovieError(f"{inf}: cannot be read ({error.strerror}); check its permissions") from error
    if len(text) > LONGEST:
        raise MovieError(f"{inf}: more than {LONGEST} characters, expected a few lines about the movie; copy the right .inf")
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _number(tags: dict[str, str], key: str, path: Path) -> int:
    found = tags.get(key, "nothing")
    if not found.isdecimal() or len(found) > DIGITS or int(found) < 1:
        raise MovieError(f"{path.with_suffix('.inf')}: '{key}' is {shown(found)}, expected a positive number; correct the .inf")
    return int(found)


def _frame_shape(tags: dict[str, str], path: Path) -> tuple[int, int]:
    found = tags.get("frame dimensions", "nothing")
    match = re.fullmatch(rf"(\d{{1,{DIGITS}}})\s*x\s*(\d{{1,{DIGITS}}})", found)
    if match is None or "0" in match.groups():
        raise MovieError(
            f"{path.with_suffix('.inf')}: 'frame dimensions' is {shown(found)}, expected 'width x height' in px; correct the .inf"
        )
    return int(match[2]), int(match[1])


def _dtype(tags: dict[str, str], path: Path) -> np.dtype:
    found = tags.get("data type", "16 bit integers (binary, big endian)")
    match = re.match(r"(8|16|32)\s*bit", found)
    if match is None:
        raise MovieError(
            f"{path.with_suffix('.inf')}: 'data type' is {shown(found)}, expected '16 bit integers (binary, big endian)' or the like"
        )
    return np.dtype(f"{'<' if 'little' in found.lower() else '>'}u{int(match[1]) // 8}")
