"""`.csv`: curves of the widths of an astigmatic Gaussian against depth, with the wobble of its centre where the file has it."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CalibrationError
from ...units import PixelSize
from .parts import PSFFile, PSFFormat, chosen_pixel_size
from .widths import fit_formula

_UNITS = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3}
_NAMES = {
    "z": "z",
    "x": "x",
    "y": "y",
    "sigma_x": "sigma_x",
    "sigma_y": "sigma_y",
    "sigma1": "sigma_x",
    "sigma2": "sigma_y",
}
_LARGEST_BYTES = 32 << 20


class SigmaCurves(PSFFormat):
    """A table ``z [nm], sigma_x [nm], sigma_y [nm]`` (or sigma1, sigma2; lengths in nm or um), with or without ``x [nm], y [nm]``.

    Widths are Gaussian standard deviations, sigma_x along the columns. The astigmatic formula is fitted to the curves; the record says by
    how much it differs. ``x`` and ``y`` go into the record as the wobble.
    """

    name = "curves of widths"
    suffixes: tuple[str, ...] = (".csv",)
    expects = "curves of widths (columns z [nm], sigma_x [nm], sigma_y [nm])"

    def claims(self, path: Path) -> bool:
        """Say whether the file is of this format."""
        names = header(path)
        is_table = any(name.startswith(("frame", "intensity", "photons")) for name in names)  # of localizations
        return {"z", "sigma_x", "sigma_y"} <= set(_columns(names)) and not is_table

    def contents(self, path: Path) -> str:
        """Say what columns a text table has."""
        return ", ".join(header(path))[:200]

    def read(self, path: Path, pixel_size_nm: PixelSize | None = None) -> PSFFile:
        """Read the curves and fit the formula.

        Raises:
            CalibrationError: an entry is not a number, too few depths, or widths that are not positive.
        """
        columns = _numbers(path)
        section, fit = fit_formula(path, columns["z"], columns["sigma_x"], columns["sigma_y"])
        notes: list[str] = fit.pop("notes")
        record: dict[str, Any] = {"program": self.name, **fit}
        if "x" in columns and "y" in columns:
            record["wobble_nm"] = np.stack([columns[name] for name in ("z", "x", "y")], 1).tolist()
        size = chosen_pixel_size(pixel_size_nm, None, notes)
        return PSFFile(section, {**record, **({"pixel_size_nm": size} if size else {}), "notes": notes})


def header(path: Path) -> list[str]:
    """Read the names of the columns of a text table, in small letters."""
    with open(path, "rb") as file:
        text = file.readline(1 << 16).decode("utf-8-sig", errors="replace").strip()
    if not text or "\0" in text:
        raise CalibrationError(f"{path}: not a text table, expected a header with column names; give a CSV file")
    return [" ".join(name.lower().split()) for name in next(csv.reader([text]))]


def _columns(names: list[str]) -> dict[str, tuple[int, float]]:
    """Find for each known column its place and the nm in its unit."""
    found: dict[str, tuple[int, float]] = {}
    for index, name in enumerate(names):
        match = re.fullmatch(r"(\w+) ?\[(nm|um|µm|μm)\]", name)
        if match and match[1] in _NAMES:
            found.setdefault(_NAMES[match[1]], (index, _UNITS[match[2]]))
    return found


def _numbers(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise CalibrationError(f"{path}: {size} bytes, expected curves of a few thousand depths; give the calibration")
    rows: list[list[float]] = []
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = csv.reader(file)
        names = next(lines)
        for number, row in enumerate(lines, start=2):
            if not row:
                continue
            try:
                rows.append([float(entry) for entry in row])
            except ValueError as error:
                raise CalibrationError(f"{path}: line {number}: {error}; expected numbers; correct the table") from None
            if len(row) != len(names):
                raise CalibrationError(f"{path}: line {number} has {len(row)} entries, expected {len(names)}; correct the table")
    table = np.array(rows, np.float64).reshape(len(rows), len(names))
    return {name: table[:, index] * unit for name, (index, unit) in _columns(header(path)).items()}
