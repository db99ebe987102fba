"""Write a movie as TIFF, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..units import PixelSize

LARGEST_IMAGEJ = (1 << 32) - (1 << 20)
"""Bytes from which on a movie is written as BigTIFF, which ImageJ's own form cannot be."""


def write_tiff(
    path: Path,
    pages: Iterator[np.ndarray],
    shape: tuple[int, int, int, int],
    dtype: np.dtype | type,
    pixel_size_nm: PixelSize | None,
    info: str,
) -> None:
    """Write a movie as ImageJ does, or as BigTIFF where that is too small.

    Args:
        path: file to write.
        pages: (rows, columns) each, planes of a frame after one another.
        shape: (frames, planes, rows, columns).
        dtype: uint16 or float32, which ImageJ knows.
        pixel_size_nm: (y, x), None where it is not known.
        info: what the file says of itself, where it is in ImageJ's form.
    """
    n, planes, rows, columns = shape
    fits = n * planes * rows * columns * np.dtype(dtype).itemsize < LARGEST_IMAGEJ
    metadata: dict[str, Any] = {"axes": "TYX" if planes == 1 else "TZYX", "fps": 1.0}
    metadata |= {"Info": info} if fits else {}
    scale: dict[str, Any] = {}
    if pixel_size_nm is not None:
        y_nm, x_nm = pixel_size_nm
        unit, per_unit = (1, 1e3) if fits else (3, 1e7)  # ImageJ speaks of pixels per um, plain TIFF of pixels per cm
        metadata |= {"unit": "um"} if fits else {}
        scale = {"resolution": (per_unit / x_nm, per_unit / y_nm), "resolutionunit": unit}
    with tifffile.TiffWriter(path, imagej=fits, bigtiff=not fits) as tif:
        tif.write(
            pages,
            shape=(n, rows, columns) if planes == 1 else shape,
            dtype=dtype,
            photometric="minisblack",
            metadata=metadata,
            **scale,
        )
