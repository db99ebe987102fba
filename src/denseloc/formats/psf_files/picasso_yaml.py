"""`.yaml`: the 3D calibration of Picasso, two polynomials for the widths of an astigmatic Gaussian.

``X Coefficients`` and ``Y Coefficients`` are seven numbers each, the highest power first: the width in pixels along columns and along rows
against the position z of the stage in nm. The range of z is not in the file but follows from ``Number of frames`` and ``Step size in nm``:
symmetric about 0. Picasso multiplies the z that it finds by the ``Magnification factor``; so do we, so that depths are the same as there.

Source: Schnitzbauer et al., Nature Protocols 12, 1198 (2017); Huang et al., Science 319 (2008) 810.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ...errors import CalibrationError
from ...files import replacing
from ...optics import PSFSettings
from ...units import PixelSize, pixel_size_pair
from .parts import PSFFile, WritablePSFFormat, chosen_pixel_size, needed_pixel_size, one_line
from .widths import LARGEST_DEVIATION, curves_of, fit_formula

_X, _Y, _FRAMES, _STEP, _FACTOR = "X Coefficients", "Y Coefficients", "Number of frames", "Step size in nm", "Magnification factor"
_DEGREE = 6
_LARGEST_BYTES = 1 << 20
_STEPS = 100
_LARGEST = 1e30


class PicassoYaml(WritablePSFFormat):
    """Two polynomials of degree 6; widths in camera pixels, so that a pixel size is needed."""

    name = "Picasso calibration"
    suffixes: tuple[str, ...] = (".yaml", ".yml")
    expects = f"a 3D calibration of Picasso ({_X}, {_Y})"

    def claims(self, path: Path) -> bool:
        """Say whether the file is of this format."""
        return any(_X in document or _Y in document for document in documents(path))

    def contents(self, path: Path) -> str:
        """Say what a YAML file holds."""
        keys = [str(key) for document in documents(path) for key in document]
        said = ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "") or "no keys"
        for marks, what in (({"Width", "Height", "Frames"}, "a movie or table of Picasso"), ({"Centers"}, "picks of Picasso")):
            if marks <= set(keys):
                return f"{said} ({what})"
        return said

    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read the polynomials and fit the astigmatic formula to them over the range of the calibration.

        Raises:
            CalibrationError: a key is missing or is not a number, or the pixel size is not known.
        """
        found = next(document for document in documents(path) if _X in document or _Y in document)
        polynomials = [_coefficients(path, found, key) for key in (_X, _Y)]
        frames, step = _number(path, found, _FRAMES), _number(path, found, _STEP)
        factor = _number(path, found, _FACTOR) if _FACTOR in found else 1.0
        if frames < 2 or step <= 0 or factor <= 0:
            text = f"{_FRAMES} {frames:g}, {_STEP} {step:g}, {_FACTOR} {factor:g}"
            raise CalibrationError(f"{path}: {text}; expected at least 2 frames, step and factor above 0; correct the .yaml")
        notes: list[str] = []
        own = found.get("Pixelsize")
        in_file = pixel_size_pair(float(own)) if isinstance(own, (int, float)) and own > 0 else None
        size = needed_pixel_size(path, chosen_pixel_size(pixel_size_nm, in_file, notes), {}, "Picasso gives widths in pixels")
        half = (frames - 1) * step / 2
        stage = np.linspace(-half, half, 2 * _STEPS + 1)
        x_px, y_px = (np.polyval(polynomial, stage) for polynomial in polynomials)
        section, fit = fit_formula(path, factor * stage, x_px * size[1], y_px * size[0])
        notes += fit.pop("notes")
        if factor != 1:
            notes.append(f"depths are those of the stage times the magnification factor {factor:g}, as Picasso gives them")
        record = {
            "program": "Picasso",
            "pixel_size_nm": size,
            **fit,
            "magnification_factor": factor,
            "x_coefficients": polynomials[0].tolist(),
            "y_coefficients": polynomials[1].tolist(),
            "n_frames": frames,
            "z_step_nm": step,
            "notes": notes,
        }
        return PSFFile(section, record)

    def write(self, path: Path, section: PSFSettings, record: Mapping[str, Any], pixel_size_nm: PixelSize | None = None) -> None:
        """Write the polynomials of a Gaussian PSF over the range ``z_range_nm`` of the record, which is centred.

        Raises:
            CalibrationError: not a Gaussian along the pixels' axes, no range of depths or no pixel size, a range that is not symmetric, or
                polynomials that differ from the PSF by more than 5 % of its width.
            OutputError: the file cannot be written.
        """
        import yaml

        from ... import __version__

        size = needed_pixel_size(path, pixel_size_nm, record, "Picasso gives widths in pixels")
        z, x_nm, y_nm = curves_of(path, section, record, size, 2 * _STEPS + 1)
        if abs(z[0] + z[-1]) > 1e-6 * (z[-1] - z[0]):
            raise CalibrationError(
                f"{path}: depths from {z[0]:g} to {z[-1]:g} nm, but Picasso knows ranges about 0 only; give z_range_nm = (-z, z)"
            )
        factor = float(record.get("magnification_factor", 1.0))
        stage = z / factor
        polynomials = [_polynomial(path, stage, widths) for widths in (x_nm / size[1], y_nm / size[0])]
        document = {
            _X: polynomials[0],
            _Y: polynomials[1],
            _FRAMES: _STEPS + 1,
            _STEP: float(stage[-1] - stage[0]) / _STEPS,
            _FACTOR: factor,
            "Generated by": f"denseloc {__version__}",
        }
        if np.isclose(size[0], size[1]):
            document["Pixelsize"] = float(size[1])
        with replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump(document, default_flow_style=False, sort_keys=False), encoding="utf-8")


def documents(path: Path) -> list[dict[str, Any]]:
    """Read the documents of a YAML file; aliases, which could grow without bound, are refused.

    Raises:
        CalibrationError: not YAML, too large, or with aliases.
    """
    import yaml

    class Plain(yaml.SafeLoader):
        """Knows no aliases, and of depth only what a calibration needs."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("it has aliases")
            self.depth += 1
            if self.depth > 32:
                raise yaml.YAMLError("it is nested too deeply")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise CalibrationError(f"{path}: {size} bytes, expected a calibration of a few lines; give the calibration")
    try:
        found = list(yaml.load_all(path.read_text(encoding="utf-8-sig"), Loader=Plain))  # a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise CalibrationError(f"{path}: not a readable YAML ({one_line(error)}); copy it again") from error
    return [document for document in found if isinstance(document, dict)]


def _coefficients(path: Path, document: Mapping[str, Any], key: str) -> np.ndarray:
    values = document.get(key)
    expected = f"{_DEGREE + 1} numbers, highest power first"
    if not isinstance(values, list) or len(values) != _DEGREE + 1:
        found = "missing" if key not in document else f"{len(values)} long" if isinstance(values, list) else f"{values!r:.60}"
        raise CalibrationError(f"{path}: '{key}' is {found}, expected {expected}; calibrate again or correct the .yaml")
    if not all(_is_number(v) for v in values):
        raise CalibrationError(f"{path}: '{key}' holds {values!r:.80}, expected {expected}; correct the .yaml")
    return np.array(values, np.float64)


def _number(path: Path, document: Mapping[str, Any], key: str) -> float:
    value = document.get(key)
    if not _is_number(value):
        found = "missing" if key not in document else f"{value!r:.60}"
        raise CalibrationError(f"{path}: '{key}' is {found}, expected a number; add it to the .yaml")
    return float(value)


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that can be reckoned with; whole numbers in YAML may have any size."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _polynomial(path: Path, z_nm: np.ndarray, widths_px: np.ndarray) -> list[float]:
    scale = float(np.abs(z_nm).max())
    fitted = np.polyfit(z_nm / scale, widths_px, _DEGREE)
    deviation = float(np.abs(np.polyval(fitted, z_nm / scale) / widths_px - 1).max())
    if deviation > LARGEST_DEVIATION:
        raise CalibrationError(
            f"{path}: a polynomial of degree {_DEGREE} misses the width by up to {100 * deviation:.0f} %; narrow z_range_nm"
        )
    return [float(c) for c in fitted / scale ** np.arange(_DEGREE, -1, -1)]
