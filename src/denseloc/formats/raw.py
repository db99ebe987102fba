"""`.raw` with `.yaml`: flat frames as Picasso keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.movie import Movie
from ..errors import MovieError
from .beside import pixel_size, read_yaml_documents
from .sources import check_dtype, movie_of, plain_tags, raw_frames, shown

LONGEST_TYPE = 40
"""Characters that the name of a number type may have."""


class Raw:
    """Flat frames; the (multi-document) YAML beside them gives size, number, number type and byte order."""

    name = "raw + yaml"
    suffixes: tuple[str, ...] = (".raw",)

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open the movie.

        Raises:
            MovieError: the YAML is missing or incomplete, or does not fit the file.
        """
        info: dict[str, Any] = {}
        for document in read_yaml_documents(path, MovieError):
            info.update(document)
        n_frames, rows, columns = (_number(info, key, path) for key in ("Frames", "Height", "Width"))
        source = raw_frames(path, n_frames, (rows, columns), _dtype(info, path), allow_truncated=allow_truncated, exact=True)
        pixel = pixel_size(info)
        return movie_of(source, len(source), (rows, columns), path, (pixel, pixel) if pixel else None, plain_tags(info))


def _number(info: dict[str, Any], key: str, path: Path) -> int:
    value = info.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 63:
        raise MovieError(
            f"{path.with_suffix('.yaml')}: '{key}' is {shown(value)}, expected a positive whole number; correct the .yaml"
        )
    return value


def _dtype(info: dict[str, Any], path: Path) -> np.dtype:
    found, order = info.get("Data Type"), info.get("Byte Order", "<")
    try:
        if not isinstance(found, str) or not isinstance(order, str) or len(found) > LONGEST_TYPE:
            raise TypeError
        return check_dtype(np.dtype(found).newbyteorder(order), str(path))  # type: ignore[arg-type]
    except (TypeError, ValueError, SyntaxError):
        text = f"'Data Type' is {shown(found)} and 'Byte Order' is {shown(order)}, expected for example uint16 and '<'; correct the .yaml"
        raise MovieError(f"{path.with_suffix('.yaml')}: {text}") from None
