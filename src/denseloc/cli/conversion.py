"""The command that writes a table in another format, or a part of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from . import options
from .screen import Screen
from .words import caution, number, say

ConvertedOut = Annotated[
    Path,
    Option(
        "--out", "-o", metavar="TABLE", help="Table to write: .parquet, .csv (ThunderSTORM), .hdf5 (Picasso).", show_default=False
    ),
]

CONVERT_EXAMPLES = (
    "denseloc convert table.parquet -o table.csv",
    "denseloc convert table.parquet -o sure.hdf5 --max-sigma-nm 20 --min-photons 300",
)


def convert(
    table: options.Table,
    out: ConvertedOut,
    min_probability: options.MinProbability = None,
    max_sigma_nm: options.MaxSigmaNm = None,
    min_photons: options.MinPhotons = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a table in another format, whole or without the rows that do not hold what you ask for."""
    with Screen("reading", "converting", quiet):
        from .. import verbs

        made = verbs.convert(table, out, min_probability=min_probability, max_sigma_nm=max_sigma_nm, min_photons=min_photons)
    if not quiet:
        rest = made.read - made.rows
        if made.nowhere:
            rows = "row has" if made.nowhere == 1 else "rows have"
            caution(f"{number(made.nowhere)} {rows} a position that is no finite number; check the program that wrote the table")
        if made.refused:
            rows = "row lies" if made.refused == 1 else "rows lie"
            caution(
                f"{number(made.refused)} {rows} outside of the centres of the outermost pixels, or with a value that is no finite number: Picasso "
                "would take them out, so they were left out"
            )
        if made.read and not made.rows:
            caution("no row is left; ask for less")
        say(f"table    {made.table}   {number(made.rows)} localizations" + (f", {number(rest)} left out" if rest else ""))
