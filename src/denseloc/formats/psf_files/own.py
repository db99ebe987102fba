"""`.h5`: our own PSF file; the section as a JSON attribute, its arrays as data sets, and the record of the calibration.

The root has the attributes format, format_version, program, conventions (JSON) and section (JSON); ``arrays/<name>`` holds in float32 what the
section names as ``{"dataset": "<name>"}``; the one element of ``record`` is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...description import Section, parse
from ...errors import CalibrationError, DocumentError
from ...files import replacing
from ...optics import PSFS, PSFSettings
from ...units import PixelSize
from .hdf5 import contents, open_hdf5
from .parts import CONVENTIONS, PSFFile, WritablePSFFormat, plain

if TYPE_CHECKING:
    import h5py

FORMAT = "denseloc psf"
FORMAT_VERSION = 1


class Own(WritablePSFFormat):
    """Our own PSF file: any kind of PSF, exactly as it is, with conventions, versions and the record of its calibration."""

    name = "denseloc"
    suffixes: tuple[str, ...] = (".h5", ".hdf5")
    expects = "a PSF of denseloc (attribute format)"

    def claims(self, path: Path) -> bool:
        """Say whether the file is of this format."""
        with open_hdf5(path) as file:
            return _text(file.attrs.get("format")) == FORMAT

    def contents(self, path: Path) -> str:
        """Say what an HDF5 file holds, and of which program it is where that can be told."""
        return contents(path)

    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read section and record; ``pixel_size_nm`` is not needed.

        Raises:
            CalibrationError: written by a newer version, or damaged.
        """
        with open_hdf5(path) as file:
            version = file.attrs.get("format_version")
            if not isinstance(version, (int, np.integer)):
                raise CalibrationError(f"{path}: the PSF file has no format_version; copy or write it again")
            if version > FORMAT_VERSION:
                raise CalibrationError(f"{path}: PSF format {version}, this denseloc reads up to {FORMAT_VERSION}; update denseloc")
            values = _with_arrays(json.loads(_text(file.attrs["section"])), file)
            record = json.loads(_text(file["record"][0])) if "record" in file else {}
        if not isinstance(values, dict) or not isinstance(record, dict):
            raise CalibrationError(f"{path}: the PSF file is damaged (no keys and values); copy or write it again")
        try:
            return PSFFile(parse(PSFS.get(str(values.get("kind"))), values, str(path)), record)
        except DocumentError as error:
            text = str(error).removeprefix(f"{path}: ")
            raise CalibrationError(f"{path}: {text}; update denseloc, or write the file again") from None

    def write(self, path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize | None = None) -> None:
        """Write section and record; the target is whole or untouched.

        Raises:
            OutputError: the file cannot be written.
        """
        import h5py

        from ... import __version__

        record = dict(record) if pixel_size_nm is None else {**record, "pixel_size_nm": pixel_size_nm}
        arrays: dict[str, np.ndarray] = {}
        values = _without_arrays(section, "", arrays)
        with replacing(path) as temporary, h5py.File(temporary, "w", libver="v108") as file:  # from 1.8 on, attributes above 64 kB
            file.attrs["format"] = _fixed(FORMAT)
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["program"] = _fixed(f"denseloc {__version__}")
            file.attrs["conventions"] = _fixed(json.dumps(CONVENTIONS))
            file.attrs["section"] = _fixed(json.dumps(values))
            file.create_dataset("record", data=_fixed(json.dumps(plain(record)))[None], chunks=(1,), fletcher32=True)
            for name, array in arrays.items():
                file.create_dataset(f"arrays/{name}", data=array, compression="gzip", shuffle=True, fletcher32=True)


def _fixed(text: str) -> np.ndarray:
    """Keep text as characters of a fixed number: HDF5 keeps no checksums of text of variable length, and may hang where it is damaged."""
    return np.array(text.encode("ascii", "backslashreplace"))


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _without_arrays(section: Section, place: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Give a section as plain values, with its arrays (and those of the sections in it) taken out into ``arrays``."""
    values = section.model_dump(mode="json", exclude_none=True)
    for name, value in _parts(section):
        key = f"{place}{name}"
        if isinstance(value, np.ndarray):
            arrays[key] = np.ascontiguousarray(value, dtype=np.float32)
            values[name] = {"dataset": key}
        else:
            values[name] = _without_arrays(value, f"{key}.", arrays)
    return values


def _parts(section: Section) -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, (np.ndarray, Section)):
            yield name, value


def _with_arrays(values: Any, file: h5py.File) -> Any:
    """Put the arrays back into their places."""
    import h5py

    if not isinstance(values, dict):
        return values
    if set(values) != {"dataset"}:
        return {key: _with_arrays(value, file) for key, value in values.items()}
    name = values["dataset"]
    data = file.get(f"arrays/{name}")
    if not isinstance(data, h5py.Dataset):
        raise KeyError(f"the array '{name}' is missing")
    if data.dtype.kind != "f":
        raise TypeError(f"the array '{name}' holds {data.dtype}, expected numbers")
    return data[()]
