"""`_3dcal.mat`: the cubic-spline calibration of SMAP and fit3Dcspline, MATLAB v7 and v7.3.

The PSF stands in ``cspline.coeff`` as (rows - 1, columns - 1, planes - 1, 64), one node a camera pixel and one plane a step of ``dz`` nm, in
a cell with one array for each channel. ``x0`` is the node of the centre, counted from 1. ``z0`` is the plane of z = 0 as SMAP's
fit counts, which is from 0, and its z falls from plane to plane: ``z = -(plane - z0) dz``. We keep that z, without SMAP's factor for
the mismatch of refractive indices. The sums over a plane are scaled so that the brightest is 1 (all channels together): this is what SMAP
writes since 2023; older files differ.

Source: Li et al., Nature Methods 15, 367 (2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CalibrationError
from ...files import replacing
from ...optics import PSFSettings
from ...optics.spline import SplineSettings
from ...units import PixelSize
from . import cells
from .mat_tree import read_mat, scalar, variables
from .parts import PSFFile, WritablePSFFormat, chosen_pixel_size, needed_pixel_size
from .spline import cells_for_export, check_same_everywhere, spline_section

_PLACES = ("SXY_g", "SXY", "cspline", "cspline_psf_model")
"""Variables in which the spline may stand; in a file with two channels, ``SXY_g`` has them both."""

_BULKY = ("PSF", "PSFsmooth", "bspline", "cspline_all", "gausscal", "global", "transformation", "zernikefit", "beadpos", "filelist")


class Smap(WritablePSFFormat):
    """A cubic spline; of a field with several tiles the one in the middle."""

    name = "SMAP calibration"
    suffixes: tuple[str, ...] = (".mat",)
    expects = "a 3D calibration of SMAP or fit3Dcspline (SXY or cspline)"

    def claims(self, path: Path) -> bool:
        """Say whether the file is of this format."""
        return not set(_PLACES).isdisjoint(variables(path))

    def contents(self, path: Path) -> str:
        """Say what a MATLAB file holds."""
        names = variables(path)
        said = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
        return f"{said} (localizations of SMAP)" if "saveloc" in names else said

    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read the spline.

        Raises:
            CalibrationError: damaged, without ``cspline``, or its numbers are not those of a spline.
        """
        found = read_mat(path, (*_PLACES, "parameters"), _BULKY)
        notes: list[str] = []
        record: dict[str, Any] = {"program": "SMAP"}
        tile = _tile(path, found, record, notes)
        spline = tile.get("cspline", tile)
        channels = _channels(path, spline)
        dz, z0 = scalar(spline.get("dz")), scalar(spline.get("z0"))
        if dz is None or dz <= 0:
            raise CalibrationError(f"{path}: cspline.dz is {dz}, expected the distance of two planes in nm; calibrate again")
        if z0 is None:
            z0 = float((channels.shape[1] + 1) // 2)
            notes.append(f"the file has no z0; z = 0 was put into plane {z0:g}")
        channels = _centred(path, channels, scalar(spline.get("x0")), notes)
        light = cells.nodes(channels).sum((0, 2, 3))  # of each plane
        if not light.max() > 0:
            raise CalibrationError(f"{path}: cspline.coeff sums to {light.max():.3g}, expected a PSF; calibrate again")
        size = chosen_pixel_size(pixel_size_nm, _pixel_size(found.get("parameters")), notes)
        size = needed_pixel_size(path, size, {}, "the spline counts in pixels and parameters do not say how large they are")
        z_min = (z0 - channels.shape[1]) * dz
        section = spline_section(path, cells.reversed_z(channels / light.max()), (z_min, dz), size, notes)
        if (mirror := scalar(spline.get("mirror"))) and len(channels) > 1:
            notes.append(f"the second channel is as the first one sees it: it was mirrored (mirror = {mirror:g})")
        record |= {
            "pixel_size_nm": size,
            "z_range_nm": (z_min, z0 * dz),
            "z_step_nm": dz,
            "z0": z0,
            "normalisation": float(light.max()),
            "light_min": float(light.min() / light.max()),
            "em_gain_on": _flag(tile.get("EMon")),
            "em_mirror": _flag(_of(found.get("parameters"), "emmirror")),
            "modality": _of(found.get("parameters"), "modality"),
            "notes": notes,
        }
        return PSFFile(section, record)

    def write(self, path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize | None = None) -> None:
        """Write a PSF of one or two planes as a spline, v7; other kinds than the spline are sampled over ``z_range_nm`` of the record.

        Raises:
            CalibrationError: more than two planes, a PSF that changes over the field, or the pixel size or the range of depths is needed
                and not known.
            OutputError: the file cannot be written.
        """
        import scipy.io

        own = section.pixel_size_nm if isinstance(section, SplineSettings) else None
        size = own or needed_pixel_size(path, pixel_size_nm, record, "a spline counts in pixels")
        check_same_everywhere(path, section, size)
        spline, z_min, dz = cells_for_export(path, section, record, size)
        if len(spline) > 2:
            raise CalibrationError(f"{path}: a PSF of {len(spline)} planes, but SMAP knows one or two; write .h5")
        stack = cells.nodes(spline)[:, ::-1]
        light = stack.sum((2, 3)).max(1)
        planes = spline.shape[1]
        reference = float(light[0])  # the second channel keeps its share against the first
        coefficients = [cells.to_smap(one / reference).astype(np.float32) for one in cells.reversed_z(spline)]
        shown = [np.ascontiguousarray(one.transpose(1, 2, 0) / reference, dtype=np.float32) for one in stack]
        nodes = stack.shape[-1]
        cspline: dict[str, Any] = {
            "coeff": _cell(coefficients),
            "dz": float(dz),
            "z0": z_min / dz + planes,
            "x0": float((nodes - 1) // 2 + 1),
            "mirror": 0.0,
        }
        if len(spline) == 2:
            cspline |= {"normf": light / reference, "coeffrawref": coefficients[0], "coeffrawtar": coefficients[1]}
            cspline["global"] = {"isglobal": 1.0, "coeffrawref": coefficients[0], "coeffrawtar": coefficients[1]}
        everywhere = np.array([[-np.inf, np.inf]])
        tile = {
            "cspline": cspline,
            "gauss_zfit": np.empty((0, 0)),
            "gauss_sx2_sy2": np.empty((0, 0)),
            **dict.fromkeys(("Xrange", "Yrange", "Xrangeall", "Yrangeall"), everywhere),
            "posind": np.array([[1.0, 1.0]]),
            "EMon": float(bool(record.get("em_gain_on"))),
            "PSF": _cell(shown),
        }
        parameters = {
            "dz": float(dz),
            "ROIxy": float(nodes),
            "ROIz": float(planes + 1),
            "modality": str(record.get("modality") or "arbitrary"),
            "pixelsize": _cell([np.array([[size[1], size[0]]]) / 1000]),
            "cam_pixelsize_um": np.array([[size[1], size[0]]]) / 1000,
            "emmirror": float(bool(record.get("em_mirror"))),
        }
        name = "SXY" if len(spline) == 1 else "SXY_g"
        with replacing(path) as temporary, open(temporary, "wb") as file:
            scipy.io.savemat(file, {name: tile, "parameters": parameters}, do_compression=True, long_field_names=True)


def _tile(path: Path, found: Mapping[str, Any], record: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Find the struct with the spline: alone, or the tile nearest to the middle of the field."""
    where = next((name for name in _PLACES if name in found), _PLACES[0])
    value = found.get(where)
    if isinstance(value, dict):
        return value
    if not isinstance(value, np.ndarray) or value.dtype != object:
        raise CalibrationError(f"{path}: {where} holds no structs, expected a calibration of SMAP; calibrate again")
    shape = value.shape if value.ndim == 2 else (1, value.size)
    places = [(x, y) for x in range(shape[0]) for y in range(shape[1]) if _has_spline(value.reshape(shape)[x, y])]
    if not places:
        raise CalibrationError(f"{path}: no cspline in {where}, expected a spline; calibrate again with a spline fit")
    x, y = min(places, key=lambda at: (at[0] - (shape[0] - 1) / 2) ** 2 + (at[1] - (shape[1] - 1) / 2) ** 2)
    record["tiles"] = {"found": list(shape), "taken": [x + 1, y + 1]}
    if len(places) > 1:
        notes.append(f"the PSF varies over the field in {shape[0]} x {shape[1]} tiles; tile ({x + 1}, {y + 1}) was taken")
    tile: dict[str, Any] = value.reshape(shape)[x, y]
    return tile


def _has_spline(tile: Any) -> bool:
    return isinstance(tile, dict) and isinstance(tile.get("cspline"), dict) and "coeff" in tile["cspline"]


def _channels(path: Path, spline: Any) -> np.ndarray:
    """Give the cells of all channels: (channels, z, y, x, 4, 4, 4)."""
    if not isinstance(spline, dict) or "coeff" not in spline:
        raise CalibrationError(f"{path}: there is no cspline.coeff, expected a spline; calibrate again with a spline fit")
    coeff = spline["coeff"]
    if isinstance(coeff, np.ndarray) and coeff.dtype == object:
        arrays = list(coeff.reshape(-1))
    elif isinstance(coeff, np.ndarray) and coeff.ndim == 5:
        arrays = [coeff[..., channel] for channel in range(coeff.shape[-1])]
    else:
        arrays = [coeff]
    shapes = [getattr(array, "shape", None) for array in arrays]
    is_good = [
        isinstance(a, np.ndarray) and a.ndim == 4 and a.shape[3] == 64 and a.dtype.kind == "f" and min(a.shape[:3]) > 0
        for a in arrays
    ]
    if not arrays or not all(is_good) or len(set(shapes)) > 1:
        text = " and ".join(str(shape) for shape in shapes) or "an empty cell"
        raise CalibrationError(
            f"{path}: cspline.coeff is {text}, expected (rows - 1, columns - 1, planes - 1, 64) a channel; calibrate again"
        )
    stacked = np.stack([cells.from_smap(np.asarray(array, np.float64)) for array in arrays])
    if not np.isfinite(stacked).all():
        raise CalibrationError(f"{path}: cspline.coeff has entries that are not finite, expected numbers; calibrate again")
    return stacked


def _centred(path: Path, channels: np.ndarray, x0: float | None, notes: list[str]) -> np.ndarray:
    """Cut the cells so that the centre of the PSF is the middle node."""
    rows, columns = (n + 1 for n in channels.shape[2:4])
    if x0 is None:
        if rows % 2 == 0 or columns % 2 == 0:
            notes.append("the file has no x0; the centre lies between two nodes")
        return channels
    if x0 != round(x0) or not (1 < x0 < rows and 1 < x0 < columns):
        raise CalibrationError(f"{path}: cspline.x0 is {x0:g}, expected one of the {rows} x {columns} nodes; calibrate again")
    centre = round(x0) - 1
    reach = min(centre, rows - 1 - centre, columns - 1 - centre)
    if (rows, columns) != (2 * reach + 1, 2 * reach + 1):
        notes.append(f"{rows} x {columns} nodes were cut to {2 * reach + 1} x {2 * reach + 1} about the centre x0 = {x0:g}")
    return channels[:, :, centre - reach : centre + reach, centre - reach : centre + reach]


def _pixel_size(parameters: Any) -> PixelSize | None:
    """Find the pixel size (y, x) in nm; SMAP gives [x y] in um."""
    for name in ("cam_pixelsize_um", "pixelsize"):
        value = _of(parameters, name)
        if isinstance(value, np.ndarray) and value.dtype == object and value.size:
            value = value.reshape(-1)[0]
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size in (1, 2):
            x, y = float(value.reshape(-1)[0]), float(value.reshape(-1)[-1])
            if 0.005 <= x <= 2 and 0.005 <= y <= 2:
                return (1000 * y, 1000 * x)
    return None


def _of(parameters: Any, name: str) -> Any:
    return parameters.get(name) if isinstance(parameters, dict) else None


def _flag(value: Any) -> bool | None:
    number = scalar(value)
    return None if number is None else number != 0


def _cell(arrays: list[np.ndarray]) -> np.ndarray:
    """Make a MATLAB cell of one row."""
    cell = np.empty((1, len(arrays)), dtype=object)
    for index, array in enumerate(arrays):
        cell[0, index] = array
    return cell
