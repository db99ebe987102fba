"""What a TIFF says of pixel size and camera: Micro-Manager, OME, ImageJ, plain resolution, in this order."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ..units import PixelSize
from .camera_tags import info_tags
from .sources import plain_tags, plausible

if TYPE_CHECKING:
    import tifffile

MICRO_MANAGER_TAG = 51123
_NM_PER = {
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
    "inch": 2.54e7,
}
_RESOLUTION_UNIT = {2: "inch", 3: "cm"}


def describe(tif: tifffile.TiffFile) -> tuple[PixelSize | None, dict[str, Any]]:
    """Give the (y, x) pixel size in nm, None where nothing plausible is said, and the tags."""
    micro_manager, ome, imagej = _micro_manager(tif), _ome(tif), dict(tif.imagej_metadata or {})
    tags = {**plain_tags(info_tags(imagej.get("Info"))), **plain_tags(imagej), **plain_tags(ome), **plain_tags(micro_manager)}
    for size in (_of_micro_manager(micro_manager), _of_ome(ome), _of_resolution(tif, imagej.get("unit"))):
        if plausible(size) is not None:
            return plausible(size), tags
    return None, tags


def _micro_manager(tif: tifffile.TiffFile) -> dict[str, Any]:
    """Join the summary and the metadata of the first image; values that stand as ``{"PropVal": v}`` are taken out."""
    summary = (tif.micromanager_metadata or {}).get("Summary") or {}
    tag = tif.pages.first.tags.get(MICRO_MANAGER_TAG)
    image = tag.value if tag is not None else {}
    if isinstance(image, (str, bytes)):
        try:
            image = json.loads(image)
        except ValueError:
            image = {}
    return {**dict(_flat(summary)), **dict(_flat(image if isinstance(image, Mapping) else {}))}


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            if "PropVal" in value:
                yield key, value["PropVal"]
            else:
                yield from _flat(value)
        else:
            yield key, value


def _ome(tif: tifffile.TiffFile) -> dict[str, Any]:
    """Take the attributes of Pixels, of the first Plane and of the detector out of the OME-XML."""
    found: dict[str, Any] = {}
    try:
        root = ElementTree.fromstring(tif.ome_metadata) if tif.ome_metadata else None
    except (ElementTree.ParseError, ValueError):
        root = None
    if root is None:
        return found
    for noun in ("Detector", "DetectorSettings", "Plane", "Pixels"):
        element = next((e for e in root.iter() if e.tag.rpartition("}")[2] == noun), None)
        if element is not None:
            found.update({name: value for name, value in element.attrib.items() if name != "ID"})
    return found


def most_declared(tif: tifffile.TiffFile) -> int:
    """Give the largest number of images that the OME-XML speaks of, 0 without OME-XML.

    tifffile makes a list of that length whatever the file holds.
    """
    page_px = max(math.prod(tif.pages.first.shape), 1)
    most = 0
    for tag in re.findall(r"<(?:\w+:)?(?:Pixels|TiffData)\b[^>]*>", tif.ome_metadata or ""):
        counts = {key: min(int(value[:18]), 10**18) for key, value in re.findall(r'\b(\w+)\s*=\s*["\']\s*\+?(\d+)', tag)}
        images = math.prod(counts.get(f"Size{axis}", 1) for axis in "TCZYX") // page_px
        most = max(most, images, counts.get("PlaneCount", 0), counts.get("NumPlanes", 0), counts.get("IFD", 0))
    return most


def _of_micro_manager(values: Mapping[str, Any]) -> PixelSize | None:
    for key in ("PixelSizeUm", "PixelSize_um"):
        size = _number(values.get(key))
        if size:
            return (size * 1e3, size * 1e3)
    return None


def _of_ome(values: Mapping[str, Any]) -> PixelSize | None:
    sizes = []
    for axis in "YX":
        size, unit = _number(values.get(f"PhysicalSize{axis}")), values.get(f"PhysicalSize{axis}Unit", "µm")
        if size is None or unit not in _NM_PER:
            return None
        sizes.append(size * _NM_PER[unit])
    return (sizes[0], sizes[1])


def _of_resolution(tif: tifffile.TiffFile, imagej_unit: Any) -> PixelSize | None:
    """Turn pixels per unit into nm; ImageJ keeps the unit in its description and may write the micro sign as an escape."""
    page = tif.pages.first
    if imagej_unit is not None:
        unit = str(imagej_unit).replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    else:
        tag = page.tags.get("ResolutionUnit")
        unit = _RESOLUTION_UNIT.get(int(tag.value), "") if tag is not None else ""
    x, y = (_number(tag.value) if (tag := page.tags.get(name)) is not None else None for name in ("XResolution", "YResolution"))
    if not x or not y or unit not in _NM_PER:
        return None
    return (_NM_PER[unit] / y, _NM_PER[unit] / x)


def _number(value: Any) -> float | None:
    """Read a number, a text with a number, or a fraction (numerator, denominator)."""
    try:
        if isinstance(value, tuple) and len(value) == 2:
            return float(value[0]) / float(value[1])
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
