"""Phase masks as files for a spatial light modulator: `.npy`, `.mat` and `.tif` of phases, and a TIFF of grey levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..files import replacing

VARIABLE = "mask_rad"
"""Name of the phases in a MATLAB file."""


def write_mask(path: Path, phase: np.ndarray, numbers: Mapping[str, float]) -> None:
    """Write phases (rows, columns) in rad as the suffix says: .npy, .mat (variable ``mask_rad``, and the numbers) or .tif (32 bit).

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, phase.astype(np.float32))
        elif path.suffix == ".mat":
            from scipy.io import savemat

            savemat(temporary, {VARIABLE: phase.astype(np.float64), **dict(numbers)}, do_compression=True)
        else:
            import tifffile

            said = ", ".join(f"{name} {value:g}" for name, value in numbers.items())
            tifffile.imwrite(temporary, phase.astype(np.float32), description=f"phase in rad, within -pi .. pi; {said}")


def write_grey_levels(path: Path, phase: np.ndarray, levels: int) -> None:
    """Write ``round(phase levels / 2 pi) mod levels`` as a TIFF of 8 bit (up to 256 levels) or 16.

    Raises:
        OutputError: the file cannot be written.
    """
    import tifffile

    grey = np.round(phase * levels / (2 * math.pi)).astype(np.int64) % levels
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary, grey.astype(np.uint8 if levels <= 256 else np.uint16), description=f"{levels} grey levels a turn"
        )
