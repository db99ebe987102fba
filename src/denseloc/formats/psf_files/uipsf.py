"""`.h5`: the calibration of uiPSF; its PSF volume becomes a spline.

``res/I_model`` is (z, y, x), one sample a pixel and a plane; with several channels there is one in each ``res/channel<n>``. Where it is
missing, the spline ``locres/coeff`` (64, z - 1, y - 1, x - 1) is taken. The attribute ``params`` (JSON) gives the pixel size in um. The
minimum is subtracted and the sums over the planes are scaled to a median of 1, as uiPSF does for its spline. The sign of z is that with
which SMAP reads these files: z falls from plane to plane; z = 0 is uiPSF's own central plane.

Source: Liu et al., Nature Methods 21, 1082 (2024).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CalibrationError
from ...units import PixelSize
from . import cells
from .hdf5 import open_hdf5
from .parts import PSFFile, PSFFormat, chosen_pixel_size, needed_pixel_size, one_line
from .spline import sampled_section, spline_section

if TYPE_CHECKING:
    import h5py


class UiPsf(PSFFormat):
    """A PSF volume on the raster of the camera; of a field-dependent calibration its average."""

    name = "uiPSF"
    suffixes: tuple[str, ...] = (".h5", ".hdf5")
    expects = "a calibration of uiPSF (attribute params, groups res and locres)"

    def claims(self, path: Path) -> bool:
        """Say whether the file is of this format."""
        with open_hdf5(path) as file:
            return "params" in file.attrs and ("res" in file or "locres" in file)

    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read the volume.

        Raises:
            CalibrationError: damaged, of a 4Pi microscope, or without a PSF volume.
        """
        notes: list[str] = []
        with open_hdf5(path) as file:
            params = _params(path, file)
            volumes, name = _volumes(path, file)
            is_local = "res" in file and "zernike_map" in file["res"]
        size_um = params.get("pixel_size") if isinstance(params.get("pixel_size"), dict) else {}
        x_nm, y_nm, dz = (_nm(size_um, axis) for axis in "xyz")
        if dz is None:
            raise CalibrationError(
                f"{path}: params has no pixel_size.z, expected the distance of two planes in um; calibrate again"
            )
        if is_local:
            notes.append("the PSF varies over the field; its average was taken")
        is_spline = name == "locres/coeff"
        planes = volumes.shape[1] + (1 if is_spline else 0)
        nodes_per_px = 1 if is_spline else _nodes_per_px(params, volumes.shape[-1], notes)
        values = cells.nodes(volumes) if is_spline else volumes
        lowest = values.min()
        light = np.median((values - lowest).sum((0, 2, 3))) / nodes_per_px**2
        if not (np.isfinite(light) and light > 0):
            raise CalibrationError(f"{path}: {name} sums to {light:.3g}, expected a PSF; calibrate again")
        size = chosen_pixel_size(pixel_size_nm, (y_nm, x_nm) if x_nm and y_nm else None, notes)
        size = needed_pixel_size(path, size, {}, "the volume counts in pixels and params do not say how large they are")
        middle = (planes - 1) // 2
        z_min = (middle - planes + 1) * dz
        if is_spline:
            volumes[..., 0, 0, 0] -= lowest
            section = spline_section(path, cells.reversed_z(volumes / light), (z_min, dz), size, notes)
        else:
            odd = _odd(values, notes)
            section = sampled_section(path, (odd[:, ::-1] - lowest) / light, (z_min, dz), nodes_per_px, size)
        notes.append("the sign of z and the order of x and y are those with which SMAP reads the file; test them with a bead")
        record = {
            "program": "uiPSF",
            "pixel_size_nm": size,
            "z_range_nm": (z_min, middle * dz),
            "z_step_nm": dz,
            "taken": name,
            "normalisation": float(light),
            "subtracted": float(lowest),
            "stage_mov_dir": params.get("stage_mov_dir"),
            "swapxy": params.get("swapxy"),
            "psf_type": params.get("PSFtype"),
            "notes": notes,
        }
        return PSFFile(section, record)


def _params(path: Path, file: h5py.File) -> dict[str, Any]:
    try:
        found = json.loads(file.attrs["params"])
    except (ValueError, TypeError, RecursionError) as error:
        raise CalibrationError(f"{path}: the attribute params is not JSON ({one_line(error)}); calibrate again") from None
    if not isinstance(found, dict):
        raise CalibrationError(
            f"{path}: the attribute params holds {type(found).__name__}, expected keys and values; calibrate again"
        )
    return found


def _volumes(path: Path, file: h5py.File) -> tuple[np.ndarray, str]:
    """Give the volumes (channels, z, y, x), or the cells of the spline where there are none, and the name of the place."""
    import h5py

    res = file.get("res")
    groups: list[Any] = [res] if isinstance(res, h5py.Group) else []
    channels = sorted((n for n in (res or ()) if n.startswith("channel") and n[7:].isdigit()), key=lambda n: int(n[7:]))
    if channels and isinstance(res, h5py.Group):
        groups = [res[name] for name in channels]
    if any("A_model" in group for group in groups):
        raise CalibrationError(f"{path}: a PSF of a 4Pi microscope, which varies with a phase; give one of a single objective")
    arrays = [group["I_model"] for group in groups if isinstance(group.get("I_model"), h5py.Dataset)]
    if groups and len(arrays) == len(groups):
        found, name, ranks = [array[()] for array in arrays], "res/I_model", [3]
    elif isinstance(file.get("locres/coeff"), h5py.Dataset):
        found, name, ranks = [file["locres/coeff"][()]], "locres/coeff", [4, 5]
    else:
        raise CalibrationError(f"{path}: neither res/I_model nor locres/coeff is there, expected a PSF volume; calibrate again")
    shapes = {array.shape for array in found}
    shape = shapes.pop()
    is_good = not shapes and len(shape) in ranks and all(a.dtype.kind == "f" and np.isfinite(a).all() for a in found)
    if is_good and name == "locres/coeff":
        is_good = shape[-4] == 64
    if not is_good or min(shape[-3:]) < 4:
        expected = "(z, y, x)" if ranks == [3] else "([channels,] 64, z - 1, y - 1, x - 1)"
        raise CalibrationError(
            f"{path}: {name} is {shape} of {found[0].dtype}, expected finite numbers {expected}; calibrate again"
        )
    if ranks == [3]:
        return np.stack(found).astype(np.float64), name
    coefficients = found[0].reshape(-1, *shape[-4:]).astype(np.float64)
    return np.stack([cells.from_uipsf(one) for one in coefficients]), name


def _nm(size_um: Any, axis: str) -> float | None:
    value = size_um.get(axis)
    return 1000.0 * value if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10 else None


def _nodes_per_px(params: dict[str, Any], nodes: int, notes: list[str]) -> int:
    """Find how many samples a pixel has: uiPSF may keep its volume ``bin`` times finer than the camera."""
    option = params.get("option")
    model = option.get("model") if isinstance(option, dict) else None
    finer = model.get("bin", 1) if isinstance(model, dict) else 1
    roi = params.get("roi")
    sides = roi.get("roi_size") if isinstance(roi, dict) else None
    side = sides[-1] if isinstance(sides, list) and sides and isinstance(sides[-1], int) else None
    if not isinstance(finer, int) or not 1 < finer <= 8 or side is None or abs(nodes - finer * side) > finer:
        return 1
    notes.append(f"the volume has {finer} samples a pixel")
    return finer


def _odd(values: np.ndarray, notes: list[str]) -> np.ndarray:
    """Make the sides odd; the centre of an even side n is its sample ``n // 2``."""
    rows, columns = values.shape[-2:]
    if rows % 2 == 0 or columns % 2 == 0:
        notes.append(f"of {rows} x {columns} samples the first row or column was left out, so that the centre is a sample")
    return values[..., 1 - rows % 2 :, 1 - columns % 2 :]
