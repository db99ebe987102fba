"""What all table formats share: parts of one size, and provenance as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..data.columns import COLUMNS, CONVENTIONS
from ..data.localizations import Localizations, Provenance
from ..errors import TableError

FORMAT_VERSION = 1
ROWS = 131_072
"""Rows that are written at a time, however large the parts are that come in, so that equal contents give equal files."""


def steady(parts: Iterable[Localizations], path: Path, rows: int = ROWS) -> Iterator[Localizations]:
    """Join and cut parts to ``rows`` rows each; gives at least one part. Parts without rows may have any columns.

    Raises:
        TableError: a part has other columns than the first one.
    """
    held: list[Localizations] = []
    empty: Localizations | None = None
    given = False
    for part in parts:
        if not len(part):
            empty = empty or part
            continue
        if held and set(held[0].columns) != set(part.columns):
            odd = ", ".join(sorted(set(held[0].columns) ^ set(part.columns)))
            raise TableError(f"{path}: the columns {odd} are known in some parts only, expected the same in all; drop or fill them")
        held.append(part)
        if sum(map(len, held)) >= rows:
            joined = held[0] if len(held) == 1 else Localizations.concat(held)
            whole = len(joined) // rows * rows
            yield from (joined.select(slice(start, start + rows)) for start in range(0, whole, rows))  # type: ignore[arg-type]
            held, given = [joined.select(slice(whole, None))], True  # type: ignore[arg-type]
    if held and len(held[0]):
        yield Localizations.concat(held)
    elif not given:
        yield empty if empty is not None else Localizations.empty()


def slices(table: Localizations, rows: int) -> Iterator[Localizations]:
    """Cut a table into parts of ``rows`` rows; a table without rows is one part."""
    for start in range(0, max(len(table), 1), rows):
        yield table.select(slice(start, start + rows))  # type: ignore[arg-type]


def to_json(provenance: Provenance, names: Iterable[str]) -> str:
    """Write conventions, units of the columns ``names`` and provenance as one JSON text; equal input gives equal text."""
    from .. import __version__

    document = {
        "format_version": FORMAT_VERSION,
        "program": f"denseloc {__version__}",
        "conventions": CONVENTIONS,
        "units": {name: COLUMNS[name].unit for name in names},
        "provenance": {field.name: _plain(getattr(provenance, field.name)) for field in fields(provenance)},
    }
    return json.dumps(document, sort_keys=True, default=_plain)


def from_json(text: str | bytes, path: Path) -> Provenance:
    """Read what `to_json` wrote.

    Raises:
        TableError: written by a newer version, or damaged.
    """
    try:
        document = json.loads(text)
        version = int(document["format_version"])
        if version > FORMAT_VERSION:
            raise TableError(f"{path}: table format {version}, this denseloc reads up to {FORMAT_VERSION}; update denseloc")
        entries = _checked(dict(document["provenance"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise TableError(f"{path}: the 'denseloc' metadata are damaged ({reason}); copy or write the table again") from error
    return Provenance(**entries)


def _checked(entries: dict[str, Any]) -> dict[str, Any]:
    """Keep the entries that a Provenance has, each of its type; ValueError names one that is not."""
    given = {name: entries[name] for name in asdict(Provenance()) if entries.get(name) is not None}
    for name, low, high, kinds in (("pixel_size_nm", 0, 1e9, (int, float)), ("shape_px", 0, 1 << 31, (int,))):
        pair = given.get(name, [1, 1])
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(one) in kinds and low < one < high for one in pair):
            raise ValueError(f"'{name}' is {str(pair)[:40]}, expected (y, x)")
    if type(given.get("n_frames", 0)) is not int:
        raise ValueError(f"'n_frames' is {str(given['n_frames'])[:40]}")
    for name, kind in (("movie", str), ("method", str), ("experiment", dict), ("settings", dict)):
        if not isinstance(given.get(name, kind()), kind):
            raise ValueError(f"'{name}' is {str(given[name])[:40]}")
    return given | {name: tuple(given[name]) for name in ("pixel_size_nm", "shape_px") if name in given}


def _plain(value: Any) -> Any:
    """Turn numpy numbers and arrays, mappings and paths into what JSON knows."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str, list, tuple)):
        return value
    return str(value)
