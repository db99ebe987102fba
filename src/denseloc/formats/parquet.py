"""`.parquet`: our own table, the default; the columns as they are, with units, conventions and provenance in the metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.columns import COLUMNS
from ..data.localizations import REQUIRED, Localizations, Provenance
from ..errors import TableError
from ..files import replacing
from .parts import ROWS, from_json, steady, to_json

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

ANY_ROWS, MOST_ROWS_PER_BYTE = 1 << 20, 1000
"""Rows that a file may speak of, whatever its size, and for each of its bytes."""
METADATA_KEY = b"denseloc"


class Parquet:
    """The same table gives the same bytes: no dates are written."""

    name = "Parquet"
    suffixes: tuple[str, ...] = (".parquet",)

    def iterate(self, path: Path, rows: int) -> Iterator[Localizations]:
        """Read ``rows`` rows at a time. A file of another program is read where it has our column names.

        Raises:
            TableError: damaged, newer than this program, or without ``frame``, ``x_nm`` and ``y_nm``.
        """
        import pyarrow.parquet

        with _damage_explained(path), pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            schema = file.schema_arrow
            names = [name for name in COLUMNS if name in schema.names]
            if any(name not in names for name in REQUIRED):
                raise TableError(f"{path}: columns {', '.join(schema.names)}, expected at least {', '.join(REQUIRED)}; rename them")
            metadata = schema.metadata or {}
            provenance = from_json(metadata[METADATA_KEY], path) if METADATA_KEY in metadata else Provenance()
            given = False
            for batch in file.iter_batches(batch_size=rows, columns=names):
                yield Localizations({name: _numbers(batch.column(name), name, path) for name in names}, provenance)
                given = True
            if not given:
                yield Localizations.empty(names, provenance)

    def read(self, path: Path) -> Localizations:
        """Read the whole table.

        Raises:
            TableError: as `iterate`.
        """
        import pyarrow.parquet

        with _damage_explained(path):
            rows = pyarrow.parquet.read_metadata(path).num_rows
        size = path.stat().st_size
        if not 0 <= rows <= max(ANY_ROWS, MOST_ROWS_PER_BYTE * size):
            raise TableError(f"{path}: speaks of {rows} rows in {size} bytes, expected fewer; copy or write it again")
        columns: dict[str, np.ndarray] = {}
        done, provenance = 0, Provenance()
        for part in self.iterate(path, ROWS):  # filled in place: joining parts at the end would take twice the memory
            if done + len(part) > rows:
                break
            for name, values in part.columns.items():
                columns.setdefault(name, np.empty(rows, values.dtype))[done : done + len(part)] = values
            done, provenance = done + len(part), part.provenance
        if done != rows:
            raise TableError(f"{path}: damaged, it does not hold the {rows} rows that it speaks of; copy or write it again")
        return Localizations(columns, provenance)

    def write(self, path: Path, parts: Iterable[Localizations], provenance: Provenance) -> int:
        """Write the parts; give the number of rows.

        Raises:
            TableError: parts with different columns.
            OutputError: the file cannot be written.
        """
        import pyarrow
        import pyarrow.parquet

        rows = 0
        with replacing(path) as part_path:
            pieces = steady(parts, path)
            first = next(pieces)
            schema = _schema(first, provenance)
            with pyarrow.parquet.ParquetWriter(part_path, schema, compression="zstd") as writer:
                for piece in chain((first,), pieces):
                    arrays = [pyarrow.array(piece.columns[name]) for name in schema.names]
                    writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
                    rows += len(piece)
        return rows


def _schema(table: Localizations, provenance: Provenance) -> pyarrow.Schema:
    import pyarrow

    columns = [COLUMNS[name] for name in table.columns]
    fields = [
        pyarrow.field(c.name, pyarrow.from_numpy_dtype(c.dtype), nullable=False, metadata={"unit": c.unit, "meaning": c.meaning})
        for c in columns
    ]
    return pyarrow.schema(fields, metadata={METADATA_KEY: to_json(provenance, table.columns)})


def _numbers(column: pyarrow.Array, name: str, path: Path) -> np.ndarray:
    """Turn a column into numbers of our type; NaN stands for what is missing, which integers cannot have."""
    import pyarrow

    dtype = COLUMNS[name].dtype
    if column.null_count and dtype == "int64":
        raise TableError(
            f"{path}: the column '{name}' has {column.null_count} empty entries, expected whole numbers; fill or drop them"
        )
    return column.cast(pyarrow.from_numpy_dtype(dtype)).to_numpy(zero_copy_only=False)


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise TableError(f"{path}: not a readable Parquet table ({reason}); copy or write it again") from error
