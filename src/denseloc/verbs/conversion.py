"""Write a table in another format, whole or in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..data import Localizations, Provenance
from ..errors import TableError
from ..formats import check_table, iter_table, write_table
from ..localize.rescaling import rescaled
from ..selection import Selection
from ..units import PixelSize, is_plausible_pixel_size, pixel_size_pair


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
        rescaled: what became of the sub-pixel positions, where they were to be rescaled.
    """

    table: Path
    rows: int
    read: int
    nowhere: int = 0
    refused: int = 0
    rescaled: str = ""


def convert(
    table: Path | str,
    out: Path | str,
    *,
    min_probability: float | None = None,
    max_sigma_nm: float | None = None,
    min_photons: float | None = None,
    filter_rate: float | None = None,
    rescale_offsets: bool = False,
    pixel_size_nm: float | PixelSize | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Conversion:
    """Write a table in the format of another suffix, part by part, so that memory does not grow with it.

    Args:
        table: any table that can be read.
        out: ``.parquet``, ``.csv`` (ThunderSTORM) or ``.hdf5`` (Picasso); the source stays as it is.
        min_probability, max_sigma_nm, min_photons, filter_rate: as in `Selection`: rows to keep; None keeps all.
        rescale_offsets: spread sub-pixel positions that lean to the pixels' centres (see `localize.rescaling`); the rows that are kept are read
            twice then. For tables as localized: before drift is corrected, and not refined.
        pixel_size_nm: camera pixel, one number or (y, x), for a table that does not say it; it is written into the new table.
        progress: told the number of rows read.

    Raises:
        TableError: a table cannot be read, the format needs what the table does not know, or both are the same file.
        OutputError: the target cannot be written.
    """
    table, out = Path(table), Path(out)
    if table.resolve() == out.resolve():
        raise TableError(f"{out} is the table itself; give another name")
    selection = Selection(min_probability, max_sigma_nm, min_photons, filter_rate)
    first = next(iter_table(table), Localizations.empty())
    provenance: Provenance = selection.noted(first.provenance)
    if pixel_size_nm is not None:
        provenance = replace(provenance, pixel_size_nm=_plausible(pixel_size_nm))
    check_table(out, provenance)
    limit_nm = selection.limit(lambda: map(selection.keep, iter_table(table)))
    read = wanted_rows = nowhere = 0

    def kept() -> Iterator[Localizations]:
        nonlocal read, wanted_rows, nowhere
        read = wanted_rows = nowhere = 0
        for part in iter_table(table):
            read += len(part)
            progress(read)
            wanted = selection.within(selection.keep(part), limit_nm)
            wanted_rows += len(wanted)
            nowhere += int((~np.isfinite(wanted.x_nm) | ~np.isfinite(wanted.y_nm)).sum())
            yield wanted

    parts = kept()
    if rescale_offsets:
        parts, provenance = rescaled(kept, provenance)
    rows = write_table(out, parts, provenance)
    done = provenance.settings["assumed"][-1] if rescale_offsets else ""
    return Conversion(out, rows, read, nowhere, max(0, wanted_rows - rows - nowhere), done)


def _plausible(pixel_size_nm: float | PixelSize) -> PixelSize:
    pair = pixel_size_pair(pixel_size_nm)
    if not is_plausible_pixel_size(pair):
        raise TableError(f"pixel size {pair[1]:g} nm; expected 5 to 2000 nm in the sample plane: give it in nm")
    return pair
