"""Foreign and own files: movies that are read, tables that are read and written; one file a format.

A movie format has `suffixes` and `open`; a table format has `suffixes`, `iterate`, `read` and `write`, and `check` where it cannot
write every table everywhere. To add one, write a file here and put its class on the shelf below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..data.localizations import Localizations, Provenance
from ..data.movie import Movie
from ..description import nearest
from ..errors import MovieError, TableError
from ..files import check_writable
from .csv_table import Csv
from .dax import Dax
from .npy import Npy, Npz
from .parquet import Parquet
from .picasso import Picasso
from .raw import Raw
from .sif import Sif
from .tiff import Tiff, TiffFolder


class MovieFormat(Protocol):
    """A kind of movie file."""

    name: str
    suffixes: tuple[str, ...]

    def open(self, path: Path, allow_truncated: bool = False) -> Movie:
        """Open a movie without reading its frames; raise MovieError for what is not a movie."""
        ...


class TableFormat(Protocol):
    """A kind of table file."""

    name: str
    suffixes: tuple[str, ...]

    def iterate(self, path: Path, rows: int) -> Iterator[Localizations]:
        """Read up to ``rows`` rows at a time; an empty table gives one part without rows."""
        ...

    def read(self, path: Path) -> Localizations:
        """Read the whole table; raise TableError for what is not one."""
        ...

    def write(self, path: Path, parts: Iterable[Localizations], provenance: Provenance) -> int:
        """Write parts one after the other and give the number of rows written; the target is whole or untouched."""
        ...


@runtime_checkable
class Particular(Protocol):
    """A table format that cannot write every table everywhere."""

    def check(self, path: Path, provenance: Provenance | None) -> None:
        """Raise what `write` would raise for this target and provenance (None: not known yet), without writing."""
        ...


MOVIE_FORMATS: tuple[MovieFormat, ...] = (Tiff(), Dax(), Raw(), Npy(), Npz(), Sif())
TABLE_FORMATS: tuple[TableFormat, ...] = (Parquet(), Csv(), Picasso())
FOLDER_FORMAT: MovieFormat = TiffFolder()


def movie_suffixes() -> tuple[str, ...]:
    """List the suffixes of the movie files that can be read."""
    return tuple(suffix for one in MOVIE_FORMATS for suffix in one.suffixes)


def table_suffixes() -> tuple[str, ...]:
    """List the suffixes of the table files that can be read and written, the default first."""
    return tuple(suffix for one in TABLE_FORMATS for suffix in one.suffixes)


def open_movie(path: Path | str, allow_truncated: bool = False) -> Movie:
    """Open a movie file or a folder of single-frame TIFFs; frames are read when asked for.

    Args:
        path: file or folder.
        allow_truncated: open the whole frames of a truncated movie instead of refusing it.

    Raises:
        MovieError: missing, of an unknown format, damaged, truncated, or not a movie of grey frames.
    """
    path = Path(path)
    if not path.exists():
        raise MovieError(f"{path}: no such file or folder{_neighbour(path)}; check the path")
    if not path.is_file() and not path.is_dir():
        raise MovieError(f"{path} is neither a file nor a folder; give a movie")
    suffix = path.suffix.lower()
    known = {s: one for one in MOVIE_FORMATS for s in one.suffixes}
    if not path.is_dir() and suffix not in known:
        raise MovieError(
            f"{path}: unknown movie format '{suffix}', expected {', '.join(known)} or a folder of TIFFs; convert the movie"
        )
    try:
        return (FOLDER_FORMAT if path.is_dir() else known[suffix]).open(path, allow_truncated)
    except OSError as error:
        raise MovieError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from error


def iter_table(path: Path | str, rows: int = 200_000) -> Iterator[Localizations]:
    """Read a table up to ``rows`` rows at a time, in the order of the file; an empty table gives one part without rows.

    Raises:
        TableError: missing, of an unknown format, damaged, or without known columns.
    """
    path = Path(path)
    return _explained(path, _existing(path).iterate(path, rows))


def read_table(path: Path | str) -> Localizations:
    """Read a whole table.

    Raises:
        TableError: missing, of an unknown format, damaged, or without known columns.
    """
    path = Path(path)
    table_format = _existing(path)
    try:
        return table_format.read(path)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from error


def check_table(path: Path | str, provenance: Provenance | None = None) -> None:
    """Check, before long work, that a table can be written to ``path`` in the format of its suffix.

    Args:
        path: the target.
        provenance: what the table will know of itself, where that is known already; some formats need a part of it.

    Raises:
        TableError: unknown suffix, or the format cannot hold such a table or write it there.
        OutputError: the target cannot be written.
    """
    path = Path(path)
    table_format = _format(path)
    check_writable(path)
    if isinstance(table_format, Particular):
        table_format.check(path, provenance)


def write_table(
    path: Path | str, parts_or_table: Localizations | Iterable[Localizations], provenance: Provenance | None = None
) -> int:
    """Write a table, or parts of one as they come, in the format of the suffix; give the number of rows written.

    The target is replaced only when all has been written. Where no provenance is given, it is that of the first part.

    Raises:
        TableError: unknown suffix, parts with different columns, or the format needs something that is not known.
        OutputError: the target cannot be written or the disk is full; nothing was written then.
    """
    path = Path(path)
    check_table(path, provenance)
    parts = iter((parts_or_table,) if isinstance(parts_or_table, Localizations) else parts_or_table)
    if provenance is None:
        first = next(parts, Localizations.empty())
        provenance, parts = first.provenance, chain((first,), parts)
    return _format(path).write(path, parts, provenance)


def _format(path: Path, *, is_there: bool = False) -> TableFormat:
    known = {suffix: one for one in TABLE_FORMATS for suffix in one.suffixes}
    suffix = path.suffix.lower()
    if suffix not in known:
        meant = "" if is_there else nearest(suffix, known)
        advice = "export it as .csv from the program that wrote it, in the manner of ThunderSTORM" if is_there else "rename it"
        raise TableError(f"{path}: unknown table format '{suffix}'{meant}, expected one of {', '.join(known)}; {advice}")
    return known[suffix]


def _existing(path: Path) -> TableFormat:
    if path.is_dir():
        raise TableError(f"{path}: this is a folder, expected a table; give the file")
    if not path.is_file():
        raise TableError(f"{path}: no such file{_neighbour(path)}; check the path")
    table_format = _format(path, is_there=True)
    if path.stat().st_size == 0:
        raise TableError(f"{path}: the file is empty (0 bytes), expected a table; write or copy it again")
    return table_format


def _explained(path: Path, parts: Iterator[Localizations]) -> Iterator[Localizations]:
    try:
        yield from parts
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from error


def _neighbour(path: Path) -> str:
    """Offer the file in the same folder with the nearest name."""
    try:
        return nearest(path.name, sorted(other.name for other in path.parent.iterdir()))
    except OSError:
        return ""


__all__ = [
    "MOVIE_FORMATS",
    "TABLE_FORMATS",
    "MovieFormat",
    "Particular",
    "TableFormat",
    "check_table",
    "iter_table",
    "movie_suffixes",
    "open_movie",
    "read_table",
    "table_suffixes",
    "write_table",
]
