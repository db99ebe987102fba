"""Reading documents as plain values: TOML or JSON, with the names of files inside them counted from the document's folder."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import DocumentError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LONGEST_DOCUMENT = 1 << 28
"""Bytes that a document may have; one with maps of a whole sensor inside takes tens of MB."""

_ARRAY_FILE = re.compile(r"(?s).+(\.npy|\.safetensors|\.tiff?|\.mat(:\w*)?)")
_FOR_PEOPLE = ("name", "description")


def read_document(path: Path | str) -> dict[str, Any]:
    """Read a TOML or JSON file as plain values; names of array files in it become paths from its folder.

    Raises:
        DocumentError: not readable, or not a table of keys.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(LONGEST_DOCUMENT + 1)
        text = content.decode("utf-8-sig")  # some editors begin a file with a byte-order mark
    except OSError as error:
        raise DocumentError(f"cannot read the document {path} ({error.strerror}); give a TOML or JSON file") from None
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is not a text file; give a TOML or JSON document") from None
    except ValueError as error:  # a name with a null byte
        raise DocumentError(f"cannot read the document {str(path)!r} ({error}); give a TOML or JSON file") from None
    if len(content) > LONGEST_DOCUMENT:
        raise DocumentError(
            f"{path} has more than {LONGEST_DOCUMENT >> 20} MiB, expected a document; keep large arrays in .npy files"
        )
    is_json = path.suffix.lower() == ".json"
    try:
        values = json.loads(text) if is_json else tomllib.loads(text)
        resolved = resolve_paths(values, path.parent)
    except (ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DocumentError(f"{path} is not valid {'JSON' if is_json else 'TOML'}: {reason}") from None
    if not isinstance(resolved, dict):
        raise DocumentError(f"{path} holds {type(values).__name__}, expected keys and values; give a document")
    return resolved


def resolve_paths(values: Any, folder: Path) -> Any:
    """Turn relative names of array files (``a.npy``, ``a.safetensors``, ``a.mat``, ``a.mat:variable``) into paths from a folder, at any depth.

    The paths are absolute, so that a second time changes nothing. ``name`` and ``description``, which are for people, stay as they are.
    """
    if isinstance(values, dict):
        return {key: value if key in _FOR_PEOPLE else resolve_paths(value, folder) for key, value in values.items()}
    if isinstance(values, list):
        return [resolve_paths(value, folder) for value in values]
    if isinstance(values, str) and _ARRAY_FILE.fullmatch(values):
        return str(folder.absolute() / values)
    return values


def own_file(values: Mapping[str, Any], section: str, path: Path) -> Path | None:
    """Give the path of a section's own file, or None where the section stands in the document.

    Args:
        values: the document.
        section: its key in there; ``psf = { file = "psf.h5" }`` or ``psf = "psf.h5"`` name a file.
        path: of the document; the name counts from its folder.

    Raises:
        DocumentError: there are values beside the file.
    """
    given = values.get(section)
    name = given.get("file") if isinstance(given, dict) else given
    if not isinstance(name, str):
        return None
    if isinstance(given, dict) and len(given) > 1:
        others = ", ".join(key for key in given if key != "file")
        raise DocumentError(f"{path}: '{section}.file' stands alone, found {others} beside it; give the file or the values")
    return path.parent / name
