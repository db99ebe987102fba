"""MATLAB files as plain trees, the same for v7 and for v7.3 (which is HDF5).

A scalar struct becomes a dict; a struct array or a cell array an object array of MATLAB's shape; text a str; numbers an array of MATLAB's
shape, so that the first axis is MATLAB's first. In v7.3 arrays lie transposed, text is character codes, cells and the fields of
struct arrays are references. What has no such form (objects, function handles) becomes None.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CalibrationError
from .hdf5 import open_hdf5
from .parts import one_line

_DAMAGED = (ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, MemoryError, NotImplementedError)
_MOST_NODES = 100_000
_DEEPEST = 24


def variables(path: Path) -> list[str]:
    """List the variables of a file.

    Raises:
        CalibrationError: not a MATLAB file, or damaged.
    """
    import h5py

    if h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            return [str(name) for name in file if not str(name).startswith("#")]
    return [str(name) for name, _, _ in _scipy(path, "whosmat")]


def read_mat(path: Path, names: Collection[str], leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Read variables as trees.

    Args:
        path: file.
        names: variables to read, those that are there.
        leave_out: fields that are not wanted, at any depth.

    Raises:
        CalibrationError: not a MATLAB file, or damaged.
    """
    import h5py

    if h5py.is_hdf5(path):
        with open_hdf5(path) as file:
            reader = _Hdf(file, frozenset(leave_out))
            return {name: reader.tree(file[name], 0) for name in names if name in file}
    found = _scipy(path, "loadmat", variable_names=list(names), struct_as_record=False, squeeze_me=False)
    return {name: _tree(found[name], frozenset(leave_out)) for name in names if name in found}


def scalar(value: Any) -> float | None:
    """Give a number that MATLAB keeps as a 1 x 1 array, or None."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiub":
        number = float(value.reshape(-1)[0])
        return number if np.isfinite(number) else None
    return None


def _scipy(path: Path, function: str, **options: Any) -> Any:
    """Call a reader of scipy; whatever it says of a damaged file becomes one line."""
    import scipy.io
    from scipy.io.matlab import MatReadError

    try:
        return getattr(scipy.io, function)(path, **options)
    except (*_DAMAGED, OSError, MatReadError, zlib.error, struct.error) as error:
        raise CalibrationError(f"{path}: not a readable MATLAB file ({one_line(error)}); copy or write it again") from error


def _tree(value: Any, leave_out: frozenset[str]) -> Any:
    """Turn what scipy gives into a tree."""
    from scipy.io.matlab import MatlabFunction, MatlabOpaque, mat_struct

    if isinstance(value, mat_struct):
        return {name: _tree(getattr(value, name), leave_out) for name in value._fieldnames if name not in leave_out}
    if not isinstance(value, np.ndarray) or isinstance(value, (MatlabFunction, MatlabOpaque)):
        return None
    if value.dtype.kind == "U":
        return str(value.reshape(-1)[0]) if value.size == 1 else "" if not value.size else [str(text) for text in value.reshape(-1)]
    if value.dtype != object:
        return value if value.dtype.kind in "fiubc" else None
    if value.size == 1 and isinstance(value.reshape(-1)[0], mat_struct):
        return _tree(value.reshape(-1)[0], leave_out)
    return _objects([_tree(item, leave_out) for item in value.reshape(-1)], value.shape)


class _Hdf:
    """Reader of v7.3: follows references, up to a number of them, so that rings end."""

    def __init__(self, file: Any, leave_out: frozenset[str]) -> None:
        self.file = file
        self.leave_out = leave_out
        self.nodes = 0

    def tree(self, item: Any, depth: int) -> Any:
        """Turn a group or a data set into a tree."""
        import h5py

        self.nodes += 1
        if self.nodes > _MOST_NODES or depth > _DEEPEST:
            raise ValueError("more cells and structs than a calibration has")
        if isinstance(item, h5py.Group):
            return self._struct(item, depth)
        if not isinstance(item, h5py.Dataset):
            return None
        kind = _class(item)
        if "MATLAB_empty" in item.attrs:
            return "" if kind == "char" else np.empty([int(n) for n in np.atleast_1d(item[()])][:4])
        if kind == "char":
            return "".join(map(chr, item[()].T.reshape(-1).tolist()))
        if item.dtype == object:
            return self._referred(item, depth)
        return item[()].T if item.dtype.kind in "fiub" else None

    def _struct(self, group: Any, depth: int) -> Any:
        import h5py

        fields = {str(name): group[name] for name in group if str(name) not in self.leave_out}
        is_array = fields and all(
            isinstance(f, h5py.Dataset) and f.dtype == object and _class(f) != "cell" for f in fields.values()
        )
        if not is_array:
            return {name: self.tree(field, depth + 1) for name, field in fields.items()}
        columns = {name: self._referred(field, depth) for name, field in fields.items()}
        shapes = {column.shape for column in columns.values()}
        if len(shapes) != 1:
            raise ValueError("a struct array whose fields differ in shape")
        flat = {name: column.reshape(-1) for name, column in columns.items()}
        shape = shapes.pop()
        return _objects([{name: column[i] for name, column in flat.items()} for i in range(int(np.prod(shape)))], shape)

    def _referred(self, item: Any, depth: int) -> np.ndarray:
        references = item[()].T
        return _objects([self.tree(self.file[r], depth + 1) if r else None for r in references.reshape(-1)], references.shape)


def _class(item: Any) -> str:
    found = item.attrs.get("MATLAB_class", b"")
    return found.decode() if isinstance(found, bytes) else str(found)


def _objects(items: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item
    return array.reshape(shape)
