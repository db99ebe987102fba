"""Write a table in another format, whole or in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import Localizations, Provenance
from ..errors import TableError
from ..formats import check_table, iter_table, write_table
from ..selection import Selection


@dataclass(frozen=True)
class Conversion:
    """What a conversion left behind.

    Args:
        table: the file written.
        rows: written.
        read: rows of the source.
        nowhere: wanted rows whose position is no finite number; Picasso's format leaves them out.
        refused: other wanted rows that Picasso's format leaves out: outside of the centres of the outermost pixels, or with a value that
            is no finite number.
    """

    table: Path
    rows: int
    read: int
    nowhere: int = 0
    refused: int = 0


def convert(
    table: Path | str,
    out: Path | str,
    *,
    min_probability: float | None = None,
    max_sigma_nm: float | None = None,
    min_photons: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Conversion:
    """Write a table in the format of another suffix, part by part, so that memory does not grow with it.

    Args:
        table: any table that can be read.
        out: ``.parquet``, ``.csv`` (ThunderSTORM) or ``.hdf5`` (Picasso); the source stays as it is.
        min_probability, max_sigma_nm, min_photons: as in `Selection`: rows to keep; None keeps all.
        progress: told the number of rows read.

    Raises:
        TableError: a table cannot be read, the format needs what the table does not know, or both are the same file.
        OutputError: the target cannot be written.
    """
    table, out = Path(table), Path(out)
    if table.resolve() == out.resolve():
        raise TableError(f"{out} is the table itself; give another name")
    selection = Selection(min_probability, max_sigma_nm, min_photons)
    parts = iter_table(table)
    first = next(parts, Localizations.empty())
    provenance: Provenance = selection.noted(first.provenance)
    check_table(out, provenance)
    read = wanted_rows = nowhere = 0

    def kept() -> Iterator[Localizations]:
        nonlocal read, wanted_rows, nowhere
        for part in _from(first, parts):
            read += len(part)
            progress(read)
            wanted = selection.keep(part)
            wanted_rows += len(wanted)
            nowhere += int((~np.isfinite(wanted.x_nm) | ~np.isfinite(wanted.y_nm)).sum())
            yield wanted

    rows = write_table(out, kept(), provenance)
    lost = wanted_rows - rows
    return Conversion(out, rows, read, nowhere, max(0, lost - nowhere))


def _from(first: Localizations, rest: Iterator[Localizations]) -> Iterator[Localizations]:
    yield first
    yield from rest
