"""`.hdf5` with `.yaml`: localizations as Picasso keeps them.

Positions are in pixels with pixel centres on the integers, so ``x = x_nm / p - 0.5``; frames count from 0; z is in nm. Whenever it
loads a table, Picasso drops rows that are not finite, that lie outside of the field, or that have a negative size, precision or
number of photons; such rows are left out here already, and counted in the YAML.

Source: Schnitzbauer et al., Nature Protocols 12, 1198 (2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import COLUMNS
from ..data.localizations import LEFT_OUT, Localizations, Provenance
from ..errors import TableError
from ..files import check_writable, replacing
from ..units import index_to_nm, nm_to_index
from .beside import pixel_size, read_yaml_documents
from .parts import from_json, steady, to_json
from .sources import shown

if TYPE_CHECKING:
    import h5py

MOST_ROW_BYTES, MOST_CHUNK_BYTES = 4096, 1 << 28
MOST_PACKED, ANY_BYTES = 250, 1 << 20
"""Rows of more than ANY_BYTES that are packed into less than their 250th are no localizations."""
MOST_ARRAY_TEXT = 200
_NEEDED = ("frame", "x", "y")
_NOT_NEGATIVE = ("x", "y", "photons", "sx", "sy", "lpx", "lpy")
_CONVENTIONS = "x, y, sx, sy, lpx, lpy in pixels, pixel centres on the integers, x = column; z, lpz in nm; frames from 0"


class Picasso:
    """A compound data set ``locs``; the YAML beside it has one document a step, newest last."""

    name = "Picasso"
    suffixes: tuple[str, ...] = (".hdf5",)

    def iterate(self, path: Path, rows: int) -> Iterator[Localizations]:
        """Read ``rows`` rows at a time.

        Raises:
            TableError: as `read`.
        """
        provenance = _read_provenance(path)
        import h5py

        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise TableError(
                f"{path}: not a readable HDF5 file ({' '.join(str(error).split())[:120]}); copy or write it again"
            ) from error
        with file, _damage_explained(path):
            locs = file.get("locs")
            if not isinstance(locs, h5py.Dataset) or locs.dtype.names is None:
                found = ", ".join(file) or "nothing"
                raise TableError(f"{path}: holds {found}, expected a compound data set 'locs' of Picasso; convert the table")
            missing = [name for name in _NEEDED if name not in locs.dtype.names]
            if missing:
                raise TableError(
                    f"{path}: 'locs' has {', '.join(locs.dtype.names)}, expected also {', '.join(missing)}; convert the table"
                )
            _check_extent(locs, path)
            for start in range(0, max(len(locs), 1), rows):
                yield Localizations(_from_picasso(locs[start : start + rows], provenance, path), provenance)

    def read(self, path: Path) -> Localizations:
        """Read the whole table.

        Raises:
            TableError: the YAML is missing or has no Pixelsize, or there is no data set ``locs`` with frame, x and y.
        """
        return Localizations.concat(list(self.iterate(path, 1 << 20)))

    def check(self, path: Path, provenance: Provenance | None) -> None:
        """Check that this format can hold such a table, and that the YAML would replace no file of another kind.

        Raises:
            TableError, OutputError: as `write`.
        """
        if provenance is not None:
            _needed(path, provenance)
        beside = check_writable(path.with_suffix(".yaml"))
        owner = f"the movie {path.stem}.raw" if path.with_suffix(".raw").exists() else "something else"
        if owner != "something else" or (beside.exists() and not _is_of_picasso(path)):
            raise TableError(f"{path}: {beside.name} belongs to {owner} and would be lost; write {path.stem}_locs.hdf5")

    def write(self, path: Path, parts: Iterable[Localizations], provenance: Provenance) -> int:
        """Write the parts and the YAML; give the number of rows written.

        ``lpx``, ``lpy`` are the standard deviations, or their Cramer-Rao bounds where these alone are known.

        Raises:
            TableError: pixel size, field or number of frames is not known, or pixels are not square; parts with different columns.
            OutputError: a file cannot be written.
        """
        import h5py

        self.check(path, provenance)
        pixel, shape_px = _needed(path, provenance)
        beside = path.with_suffix(".yaml")
        rows = left_out = 0
        names: list[str] = []
        with replacing(path) as part_path, replacing(beside) as part_yaml:
            with h5py.File(part_path, "w") as file:
                for part in steady(parts, path):
                    locs = _to_picasso(part, pixel)
                    sane = _sane(locs, shape_px)
                    names = list(part.columns)
                    rows, left_out = rows + int(sane.sum()), left_out + int((~sane).sum())
                    _append(file, locs[sane])
            short = replace(provenance, experiment=_without_arrays(provenance.experiment))
            documents = _documents(provenance, pixel, shape_px, left_out, to_json(short, names))
            part_yaml.write_text(documents, encoding="utf-8")
        return rows


def _check_extent(locs: h5py.Dataset, path: Path) -> None:
    """Compare what a data set claims to hold with what lies in the file, before memory is taken for it.

    Raises:
        TableError: not one row of numbers a localization, or more rows, larger rows or larger chunks than there can be.
    """
    odd = [name for name in _NEEDED if locs.dtype[name].kind not in "uif"]
    if locs.ndim != 1 or odd:
        found = f"{', '.join(odd)} of type {locs.dtype[odd[0]]}" if odd else f"shape {shown(locs.shape)}"
        raise TableError(f"{path}: 'locs' has {found}, expected rows of numbers; convert the table")
    if locs.dtype.itemsize > MOST_ROW_BYTES:
        raise TableError(f"{path}: rows of {locs.dtype.itemsize} bytes, expected at most {MOST_ROW_BYTES}; convert the table")
    if locs.is_virtual or locs.external:
        raise TableError(f"{path}: the rows of 'locs' lie in other files, expected them in this one; copy them into it")
    claimed, held = len(locs) * locs.dtype.itemsize, min(locs.id.get_storage_size(), path.stat().st_size)
    packed = locs.id.get_create_plist().get_nfilters() > 0
    if claimed > (MOST_PACKED * held + ANY_BYTES if packed else held):
        text = f"'locs' speaks of {len(locs)} rows of {locs.dtype.itemsize} bytes, the file holds {held} bytes of them"
        raise TableError(f"{path}: {text}; copy or write it again")
    if locs.chunks is not None and locs.chunks[0] * locs.dtype.itemsize > MOST_CHUNK_BYTES:
        raise TableError(
            f"{path}: chunks of {locs.chunks[0]} rows, expected at most {MOST_CHUNK_BYTES} bytes in one; write it again"
        )


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{path}: damaged ({' '.join(str(error).split())[:120]}); copy or write it again") from error


def _needed(path: Path, provenance: Provenance) -> tuple[float, tuple[int, int]]:
    unknown = [name for name in ("pixel_size_nm", "shape_px", "n_frames") if getattr(provenance, name) is None]
    if unknown or provenance.pixel_size_nm is None or provenance.shape_px is None:
        raise TableError(
            f"{path}: Picasso needs {', '.join(unknown)}, which the table does not say, and no .csv does; convert the .parquet or .hdf5 that the "
            "localizations were first written to, or write .parquet or .csv"
        )
    y, x = provenance.pixel_size_nm
    if not np.isclose(y, x):
        raise TableError(f"{path}: pixels of {y} x {x} nm (y, x), but Picasso knows square ones only; write .parquet or .csv")
    return float(x), provenance.shape_px


def _is_of_picasso(path: Path) -> bool:
    """Whether the YAML beside ``path`` is of the kind that Picasso writes: its documents say what made them."""
    try:
        documents = read_yaml_documents(path, TableError)
    except TableError:
        return False
    return any(isinstance(document.get("Generated by"), str) for document in documents)


def _to_picasso(part: Localizations, pixel: float) -> np.ndarray:
    """Give the rows as Picasso's compound type; unknown columns are left out."""
    columns: dict[str, np.ndarray] = {"frame": part.frame, "x": nm_to_index(part.x_nm, pixel), "y": nm_to_index(part.y_nm, pixel)}
    for theirs, ours, unit in (
        ("photons", ("photons",), 1.0),
        ("sx", ("width_x_nm", "width_nm"), pixel),
        ("sy", ("width_y_nm", "width_nm"), pixel),
        ("bg", ("background",), 1.0),
        ("lpx", ("sigma_x_nm", "crlb_x_nm"), pixel),
        ("lpy", ("sigma_y_nm", "crlb_y_nm"), pixel),
        ("z", ("z_nm",), 1.0),
        ("lpz", ("sigma_z_nm", "crlb_z_nm"), 1.0),
        ("likelihood", ("log_likelihood",), 1.0),
        ("probability", ("probability",), 1.0),
    ):
        known = next((name for name in ours if name in part), None)
        if known is not None:
            columns[theirs] = part.columns[known] / unit
    locs = np.empty(len(part), [(name, "u4" if name == "frame" else "f4") for name in columns])
    for name, values in columns.items():
        locs[name] = values
    return locs


def _sane(locs: np.ndarray, shape_px: tuple[int, int]) -> np.ndarray:
    """Mark the rows that Picasso keeps."""
    names = locs.dtype.names or ()
    keep = np.all([np.isfinite(locs[name]) for name in names], axis=0)
    for name in _NOT_NEGATIVE:
        if name in names:
            keep &= locs[name] >= 0
    rows, columns = shape_px
    return keep & (locs["x"] < columns) & (locs["y"] < rows)


def _append(file: h5py.File, locs: np.ndarray) -> None:
    if "locs" not in file:
        file.create_dataset("locs", data=locs, maxshape=(None,), chunks=(4096,))
        return
    data = file["locs"]
    start = len(data)
    data.resize((start + len(locs),))
    data[start:] = locs


def _documents(provenance: Provenance, pixel: float, shape_px: tuple[int, int], left_out: int, metadata: str) -> str:
    import yaml

    from .. import __version__

    movie = {
        "File": provenance.movie or "",
        "Width": int(shape_px[1]),
        "Height": int(shape_px[0]),
        "Frames": int(provenance.n_frames or 0),
        "Pixelsize": pixel,
    }
    step = {
        "Generated by": f"denseloc {__version__} Localize",
        "Fit method": provenance.method or "",
        "Pixelsize": pixel,
        "Rows left out": left_out,
        "Conventions": _CONVENTIONS,
        "denseloc": metadata,
    }
    return yaml.safe_dump_all([movie, step], sort_keys=False, allow_unicode=True, width=1 << 20)


def _without_arrays(values: Any) -> Any:
    """Leave the packed arrays of a document out, such as those of a measured PSF: tens of kB in one line of YAML."""
    if isinstance(values, Mapping):
        return {key: _without_arrays(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_without_arrays(value) for value in values]
    if isinstance(values, str) and values.startswith("f32:") and len(values) > MOST_ARRAY_TEXT:
        return f"an array of {values.split(':', 2)[1]} numbers, {LEFT_OUT}"
    return values


def _read_provenance(path: Path) -> Provenance:
    documents = read_yaml_documents(path, TableError)
    pixel = next((size for document in reversed(documents) if (size := pixel_size(document)) is not None), None)
    if pixel is None:
        raise TableError(f"{path.with_suffix('.yaml')}: no 'Pixelsize' (nm), which is needed to turn pixels into nm; add it there")
    for document in reversed(documents):
        if isinstance(document.get("denseloc"), str):
            told = from_json(document["denseloc"], path)
            return told if told.pixel_size_nm is not None else replace(told, pixel_size_nm=(pixel, pixel))
    first: dict[str, Any] = documents[0] if documents else {}
    height, width, frames = (_whole_number(first.get(key)) for key in ("Height", "Width", "Frames"))
    return Provenance(
        pixel_size_nm=(pixel, pixel),
        shape_px=(height, width) if height is not None and width is not None else None,
        n_frames=frames,
        movie=first.get("File") if isinstance(first.get("File"), str) else None,
        method=next((d["Generated by"] for d in reversed(documents) if isinstance(d.get("Generated by"), str)), None),
    )


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31 else None


def _from_picasso(locs: np.ndarray, provenance: Provenance, path: Path) -> dict[str, np.ndarray]:
    assert provenance.pixel_size_nm is not None
    pixel = provenance.pixel_size_nm[1]
    names = locs.dtype.names or ()
    values = {name: locs[name].astype(np.float64) for name in names if locs[name].ndim == 1 and locs[name].dtype.kind in "uif"}
    if not ((values["frame"] >= 0) & (values["frame"] < 1 << 53)).all():
        raise TableError(f"{path}: frame numbers that are negative or no numbers, expected whole ones from 0; correct the table")
    columns = {
        "frame": np.rint(values["frame"]),
        "x_nm": index_to_nm(values["x"], pixel),
        "y_nm": index_to_nm(values["y"], pixel),
    }
    if "sx" in values and "sy" in values:
        columns["width_nm"] = np.sqrt((values["sx"] ** 2 + values["sy"] ** 2) / 2) * pixel
        if not np.array_equal(values["sx"], values["sy"], equal_nan=True):
            columns["width_x_nm"], columns["width_y_nm"] = values["sx"] * pixel, values["sy"] * pixel
    for theirs, ours, unit in (
        ("photons", "photons", 1.0),
        ("bg", "background", 1.0),
        ("lpx", "sigma_x_nm", pixel),
        ("lpy", "sigma_y_nm", pixel),
        ("z", "z_nm", 1.0),
        ("lpz", "sigma_z_nm", 1.0),
        ("likelihood", "log_likelihood", 1.0),
        ("probability", "probability", 1.0),
    ):
        if theirs in values:
            columns[ours] = values[theirs] * unit
    return {name: columns[name].astype(COLUMNS[name].dtype) for name in columns}
