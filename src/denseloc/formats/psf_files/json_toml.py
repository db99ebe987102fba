"""`.json`, `.toml`: the section of a PSF as a document takes it; without a record, which has no place there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...description import parse
from ...errors import CalibrationError
from ...files import replacing
from ...optics import PSFS, PSFSettings
from ...units import PixelSize, pixel_size_pair
from .parts import PSFFile, chosen_pixel_size, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class SectionFile:
    """A section alone, or the ``[psf]`` of a whole document, whose pixel size goes into the record."""

    name = "section"
    suffixes: tuple[str, ...] = (".json", ".toml")
    expects = "the section of a PSF (with a key kind)"

    def claims(self, path: Path) -> bool:
        """Say whether the file is of this format."""
        return "kind" in _section(_values(path))

    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read the section; names of .npy files in it count from the folder of the file.

        Raises:
            DocumentError: an unknown kind or key, or an impossible value.
        """
        document = _values(path)
        values = _from_folder(_section(document), path.parent)
        section = parse(PSFS.get(str(values["kind"])), values, str(path))
        notes: list[str] = []
        size = chosen_pixel_size(pixel_size_nm, _pixel_size(document.get("pixel_size_nm")), notes)
        return PSFFile(section, {"program": "denseloc", **({"pixel_size_nm": size} if size else {}), "notes": notes})

    def write(self, path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize | None = None) -> None:
        """Write the section; the record is not kept.

        Raises:
            OutputError: the file cannot be written.
        """
        import tomli_w

        values = section.model_dump(mode="json", exclude_none=True)
        text = json.dumps(values, indent=1) if path.suffix.lower() == ".json" else tomli_w.dumps({"psf": values})
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def contents(path: Path) -> str:
    """Say what keys a file holds."""
    keys = list(_values(path))
    return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "") or "no keys"


def _values(path: Path) -> dict[str, Any]:
    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: not valid {kind} ({one_line(error)}); correct it") from None
    if not isinstance(values, dict):
        raise CalibrationError(f"{path}: holds {type(values).__name__}, expected keys and values; give the section of a PSF")
    return values


def _section(document: dict[str, Any]) -> dict[str, Any]:
    inner = document.get("psf")
    return inner if isinstance(inner, dict) else document


def _from_folder(values: Any, folder: Path) -> Any:
    if isinstance(values, dict):
        return {key: _from_folder(value, folder) for key, value in values.items()}
    return str(folder / values) if isinstance(values, str) and values.endswith(".npy") else values


def _pixel_size(value: Any) -> PixelSize | None:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
        return pixel_size_pair((value[0], value[1]))
    return pixel_size_pair(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
