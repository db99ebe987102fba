"""`.raw` with `.yaml`: flat frames as Picasso keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.movie import Movie
from ..errors import DenselocError, MovieError
from .sources import check_dtype, movie_of, plain_tags, raw_frames


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


def read_yaml_documents(path: Path, error_type: type[DenselocError]) -> list[dict[str, Any]]:
    """Read the documents of the YAML file beside ``path``, oldest first.

    Raises:
        DenselocError: of ``error_type``; the file is missing or is not YAML.
    """
    import yaml

    beside = path.with_suffix(".yaml")
    try:
        with open(beside, encoding="utf-8") as file:
            documents = list(yaml.safe_load_all(file))
    except FileNotFoundError:
        raise error_type(f"{path}: {beside.name} is not beside it; copy the .yaml that belongs to it to {beside}") from None
    except OSError as error:
        raise error_type(f"{beside}: cannot be read ({error.strerror}); check its permissions") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise error_type(f"{beside}: not YAML ({' '.join(str(error).split())[:120]}); copy it again") from error
    return [document for document in documents if isinstance(document, dict)]


def pixel_size(info: dict[str, Any]) -> float | None:
    """Find the pixel size in nm that a Picasso document gives, or None."""
    for key in ("Pixelsize", "Camera.Pixelsize"):
        value = info.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return float(value)
    return None


def _number(info: dict[str, Any], key: str, path: Path) -> int:
    value = info.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise MovieError(f"{path.with_suffix('.yaml')}: '{key}' is {value}, expected a positive whole number; correct the .yaml")
    return value


def _dtype(info: dict[str, Any], path: Path) -> np.dtype:
    found, order = info.get("Data Type"), info.get("Byte Order", "<")
    try:
        return check_dtype(np.dtype(str(found)).newbyteorder(order), str(path))
    except (TypeError, ValueError):
        text = f"'Data Type' is {found} and 'Byte Order' is {order}, expected for example uint16 and '<'; correct the .yaml"
        raise MovieError(f"{path.with_suffix('.yaml')}: {text}") from None
