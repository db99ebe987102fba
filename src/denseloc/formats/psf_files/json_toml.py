"""`.json`, `.toml`: the section of a PSF as a document takes it; without a record, which has no place there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...description import parse
from ...documents import own_file, read_document
from ...errors import CalibrationError, DocumentError
from ...files import replacing
from ...optics import PSFS, PSFSettings
from ...units import PixelSize, pixel_size_pair
from .parts import PSFFile, WritablePSFFormat, chosen_pixel_size


class SectionFile(WritablePSFFormat):
    """A section alone, or the ``[psf]`` of a whole document, whose pixel size goes into the record; it may name a file of its own."""

    name = "section"
    suffixes: tuple[str, ...] = (".json", ".toml")
    expects = "the section of a PSF (with a key kind)"

    def claims(self, path: Path) -> bool:
        """Say whether the file is of this format."""
        document = _values(path)
        return "kind" in _section(document) or own_file(document, "psf", path) is not None

    def contents(self, path: Path) -> str:
        """Say what keys a file holds."""
        keys = list(_values(path))
        return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "") or "no keys"

    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read the section, or the file that it names; names of files in it count from the folder of the document.

        Raises:
            CalibrationError: the file that it names is no PSF, or names a further one.
            DocumentError: an unknown kind or key, or an impossible value.
        """
        document = _values(path)
        notes: list[str] = []
        size = chosen_pixel_size(pixel_size_nm, _pixel_size(document.get("pixel_size_nm")), notes)
        told: dict[str, Any] = {"pixel_size_nm": size} if size else {}
        if (named := own_file(document, "psf", path)) is not None:
            section, record = _followed(path, named, size)
            return PSFFile(section, {**record, **told, "notes": [*record.get("notes", []), *notes]})
        values = _section(document)
        section = parse(PSFS.get(str(values["kind"])), values, str(path))
        return PSFFile(section, {"program": "denseloc", **told, "notes": notes})

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


def _values(path: Path) -> dict[str, Any]:
    try:
        return read_document(path)
    except DocumentError as error:
        raise CalibrationError(str(error)) from None


def _section(document: dict[str, Any]) -> dict[str, Any]:
    inner = document.get("psf")
    return inner if isinstance(inner, dict) else document


def _followed(path: Path, named: Path, pixel_size_nm: PixelSize | None) -> PSFFile:
    """Read the file that a document names, which names no further one."""
    from . import read_psf

    if named.suffix.lower() in SectionFile.suffixes and named.is_file() and own_file(_values(named), "psf", named) is not None:
        raise CalibrationError(f"{path}: its psf.file {named} names a further file; name the PSF itself")
    return read_psf(named, pixel_size_nm=pixel_size_nm)


def _pixel_size(value: Any) -> PixelSize | None:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
        return pixel_size_pair((value[0], value[1]))
    return pixel_size_pair(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
