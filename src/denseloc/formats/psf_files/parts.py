"""What all PSF files share: the section with its record, numbers as JSON knows them, pixel sizes, the light of a sampled PSF.

A record is free JSON. Keys with a fixed meaning, each of them optional:

    program        what wrote the file
    pixel_size_nm  (y, x) of the camera with which the PSF was calibrated
    z_range_nm     (low, high) in which the PSF is to be used
    notes          lines for people: what was left out, assumed or changed on the way
    chi2, beads    quality of the fit and number of beads
    wobble_nm      rows (z, x, y): how far the centre of the PSF moves with depth
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ...data.columns import CONVENTIONS as COORDINATES
from ...errors import CalibrationError
from ...optics import PSFSettings
from ...units import PixelSize, is_plausible_pixel_size, pixel_size_pair

CONVENTIONS = {
    **COORDINATES,
    "psf": "fraction of the photons in each pixel, indexed (row, column), emitter relative to the centre of the middle pixel",
    "array_order": "(planes, z ascending, y = row, x = column), those that are there",
}
"""Written into every PSF file of ours."""


class PSFFile(NamedTuple):
    """A PSF as a file gives it.

    Args:
        section: the document section, ready to be built.
        record: how the PSF came to be and how far it is to be trusted; plain JSON values.
    """

    section: PSFSettings
    record: dict[str, Any]


class PSFFormat(Protocol):
    """A kind of PSF file; a format is a subclass."""

    name: str
    suffixes: tuple[str, ...]
    expects: str

    @abstractmethod
    def claims(self, path: Path) -> bool:
        """Say by its content whether the file is of this format; raise CalibrationError where it cannot be read at all."""

    @abstractmethod
    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read section and record; raise CalibrationError or DocumentError for what is not a PSF."""

    def contents(self, path: Path) -> str:
        """Say in a few words what a file holds that no format claims, for the error; nothing where that is not known."""
        return ""


@runtime_checkable
class WritablePSFFormat(PSFFormat, Protocol):
    """A kind of PSF file that can be written too."""

    @abstractmethod
    def write(self, path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize | None = None) -> None:
        """Write; the target is whole or untouched."""


def plain(value: Any) -> Any:
    """Turn numpy numbers and arrays, mappings and paths into JSON values; numbers that are not finite become null."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def one_line(error: BaseException) -> str:
    """Say an error of a library in one short line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def chosen_pixel_size(given: PixelSize | None, found: PixelSize | None, notes: list[str]) -> PixelSize | None:
    """Take the pixel size that was asked for, else that of the file; a difference is noted."""
    if given is not None and found is not None and not np.allclose(given, found, rtol=0.02):
        notes.append(
            f"the file says pixels of {found[0]:g} x {found[1]:g} nm (y, x), {given[0]:g} x {given[1]:g} nm were asked for"
        )
    return given or found


def needed_pixel_size(path: Path, given: PixelSize | None, record: Mapping[str, Any], why: str) -> PixelSize:
    """Find the pixel size in the argument or the record.

    Raises:
        CalibrationError: it stands in neither.
    """
    size = given or record.get("pixel_size_nm")
    if size is None:
        raise CalibrationError(f"{path}: the pixel size is not known, but {why}; give pixel_size_nm (--pixel-size-nm)")
    y, x = pixel_size_pair(tuple(size) if isinstance(size, list) else size)
    if not is_plausible_pixel_size((y, x)):
        raise CalibrationError(
            f"{path}: a pixel size of {y:g} x {x:g} nm (y, x), expected 5 to 2000 nm; give pixel_size_nm (--pixel-size-nm) in nm"
        )
    return (y, x)


def depths(path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize) -> tuple[float, float]:
    """Find the range of depths over which a PSF is to be sampled: that of the record, else that of the PSF.

    Raises:
        CalibrationError: neither says one.
    """
    known = record.get("z_range_nm") or section.build(pixel_size_nm).z_range_nm
    if known is None:
        raise CalibrationError(f"{path}: the range of depths is not known; put z_range_nm = (low, high) into the record")
    low, high = float(known[0]), float(known[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise CalibrationError(f"{path}: z_range_nm is {low:g} to {high:g}, expected low below high; correct the record")
    return low, high


def odd_roi(nodes: int, nodes_per_px: int) -> int:
    """Give the widest odd patch whose pixel centres stay on ``nodes`` nodes, wherever in its pixel the emitter lies."""
    reach = (nodes - 1) / (2 * nodes_per_px) - 0.5
    return min(2 * int(reach + 1e-9) + 1, 101)
