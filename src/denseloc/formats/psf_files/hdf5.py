"""Opening HDF5 files with errors of one line, and saying what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CalibrationError
from .parts import one_line

if TYPE_CHECKING:
    import h5py

_KNOWN = {
    "locs": "localizations of Picasso",
    "data": "emitters of DECODE",
    "saveloc": "localizations of SMAP",
    "fr_0": "localizations of storm-analysis",
    "SXY": "a calibration of SMAP under a name that does not end in .mat",
}

_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError)
"""What h5py raises, and what a wrong type of an entry leads to."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open for reading; what goes wrong while the file is being read is a damage of the file.

    Raises:
        CalibrationError: not HDF5, truncated or damaged.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CalibrationError(f"{path}: not a readable HDF5 file ({one_line(error)}); copy or write it again") from error
    try:
        with file:
            yield file
    except _DAMAGED as error:
        raise CalibrationError(f"{path}: the HDF5 file is damaged ({one_line(error)}); copy or write it again") from error


def contents(path: Path) -> str:
    """Say what an HDF5 file holds, and of which program it is where that can be told."""
    with open_hdf5(path) as file:
        names = [str(name) for name in file]
    said = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
    program = next((program for name, program in _KNOWN.items() if name in names), None)
    return f"{said} ({program})" if program else said
