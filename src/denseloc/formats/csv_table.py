"""`.csv`: written as ThunderSTORM does; read in the manners of ThunderSTORM, of the SMLM challenge, or with our column names.

ThunderSTORM and the challenge count frames from 1 and have their origin at the outer corner of the first pixel, as we have. Some
programs write their columns but count from 0; a file with a frame 0 is taken to count from 0.

Source: Ovesny et al., Bioinformatics 30, 2389 (2014); Sage et al., Nature Methods 16, 387 (2019).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.columns import COLUMNS
from ..data.localizations import REQUIRED, Localizations, Provenance
from ..errors import TableError
from ..files import replacing
from .parts import slices, steady


@dataclass(frozen=True)
class Dialect:
    """One manner of writing a table: which of our columns each of its columns gives, and the number of its first frame."""

    name: str
    columns: dict[str, tuple[str, ...]]
    first_frame: int


THUNDERSTORM = Dialect(
    "ThunderSTORM",
    {
        "frame": ("frame",),
        "x [nm]": ("x_nm",),
        "y [nm]": ("y_nm",),
        "z [nm]": ("z_nm",),
        "sigma [nm]": ("width_nm",),
        "sigma1 [nm]": ("width_x_nm",),
        "sigma2 [nm]": ("width_y_nm",),
        "intensity [photon]": ("photons",),
        "i [photon]": ("photons",),
        "offset [photon]": ("background",),
        "background [photon]": ("background",),
        "uncertainty [nm]": ("sigma_x_nm", "sigma_y_nm"),
        "uncertainty_xy [nm]": ("sigma_x_nm", "sigma_y_nm"),
        "uncertainty_z [nm]": ("sigma_z_nm",),
        "probability": ("probability",),
        "channel": ("channel",),
        "channel probability": ("channel_probability",),
    },
    first_frame=1,
)
CHALLENGE = Dialect(
    "SMLM challenge",
    {"frame": ("frame",), "xnano": ("x_nm",), "ynano": ("y_nm",), "znano": ("z_nm",), "intensity": ("photons",)},
    first_frame=1,
)
OWN = Dialect("denseloc", {name: (name,) for name in COLUMNS}, first_frame=0)
DIALECTS = (OWN, THUNDERSTORM, CHALLENGE)

_HEADERLESS = ("id", "frame", "xnano", "ynano", "znano", "intensity")
"""The six columns of a challenge table without header."""

_WRITTEN = (
    ("x [nm]", "x_nm"),
    ("y [nm]", "y_nm"),
    ("z [nm]", "z_nm"),
    ("sigma [nm]", "width_nm"),
    ("sigma1 [nm]", "width_x_nm"),
    ("sigma2 [nm]", "width_y_nm"),
    ("intensity [photon]", "photons"),
    ("offset [photon]", "background"),
    ("uncertainty_xy [nm]", "sigma_x_nm"),
    ("uncertainty_z [nm]", "sigma_z_nm"),
    ("probability", "probability"),
    ("channel", "channel"),
    ("channel probability", "channel_probability"),
)


class Csv:
    """Text tables; a CSV has no place for provenance, the conventions are those of ThunderSTORM."""

    name = "CSV"
    suffixes: tuple[str, ...] = (".csv",)

    def iterate(self, path: Path, rows: int) -> Iterator[Localizations]:
        """Read the table and give it ``rows`` rows at a time.

        Raises:
            TableError: as `read`.
        """
        return slices(self.read(path), rows)

    def read(self, path: Path) -> Localizations:
        """Read the table in the manner that its header shows, in full double precision.

        Raises:
            TableError: no manner fits the header, or an entry is not a number.
        """
        header, has_header = _header(path)
        dialect, wanted = _choose(header, path)
        entries = _numbers(path, len(header), sorted(wanted), has_header)
        columns: dict[str, np.ndarray] = {}
        for index, (names, scale) in wanted.items():
            for name in names:
                columns[name] = entries[index] if scale == 1.0 else entries[index] * scale
        columns["frame"] = _frames(columns["frame"], dialect, path)
        return Localizations(columns)

    def write(self, path: Path, parts: Iterable[Localizations], provenance: Provenance) -> int:
        """Write the parts as ThunderSTORM does; give the number of rows.

        ``uncertainty_xy`` is the root mean square of sigma_x_nm and sigma_y_nm. What ThunderSTORM has no column for is left out,
        except probabilities and colour channels.

        Raises:
            TableError: parts with different columns.
            OutputError: the file cannot be written.
        """
        rows = 0
        with replacing(path) as part_path, open(part_path, "wb") as file:
            for part in steady(parts, path):
                columns = _thunderstorm(part, rows)
                if file.tell() == 0:
                    file.write((",".join(f'"{name}"' for name in columns) + "\n").encode())
                file.write(_text(columns))
                rows += len(part)
        return rows


def _thunderstorm(part: Localizations, first_id: int) -> dict[str, np.ndarray]:
    columns = {"id": np.arange(first_id + 1, first_id + 1 + len(part)), "frame": part.frame + THUNDERSTORM.first_frame}
    for theirs, ours in _WRITTEN:
        if ours in part:
            columns[theirs] = part.columns[ours]
    if "sigma_x_nm" in part and "sigma_y_nm" in part:
        columns["uncertainty_xy [nm]"] = np.sqrt((part.sigma_x_nm**2 + part.sigma_y_nm**2) / 2)
    else:
        columns.pop("uncertainty_xy [nm]", None)
    return columns


def _text(columns: dict[str, np.ndarray]) -> bytes:
    """Write numbers with as many digits as bring them back exactly."""
    import pyarrow
    import pyarrow.csv

    sink = io.BytesIO()
    pyarrow.csv.write_csv(pyarrow.table(columns), sink, pyarrow.csv.WriteOptions(include_header=False))
    text = sink.getvalue()
    # Java reads NaN and Infinity in these spellings only
    return text.replace(b"nan", b"NaN").replace(b"inf", b"Infinity") if b"n" in text else text


def _header(path: Path) -> tuple[list[str], bool]:
    """Read the names of the columns; say whether they stood in the file."""
    with open(path, "rb") as file:
        line = file.readline(1 << 16)
    text = line.decode("utf-8-sig", errors="replace").strip()
    if "\0" in text or not text:
        raise TableError(f"{path}: not a text table, expected a header with column names; give a CSV file")
    names = next(csv.reader([text]))
    if len(names) == 1 and "," in names[0]:  # the whole header stands in quotes
        names = next(csv.reader(names))
    names = [" ".join(name.lower().split()) for name in names]
    if not all(re.fullmatch(r"[-+]?[0-9.]+(e[-+]?\d+)?|nan", name) for name in names):
        return names, True
    if len(names) != len(_HEADERLESS):
        raise TableError(
            f"{path}: {len(names)} columns without a header, expected {len(_HEADERLESS)} as in the challenge; add a header"
        )
    return list(_HEADERLESS), False


def _choose(header: list[str], path: Path) -> tuple[Dialect, dict[int, tuple[tuple[str, ...], float]]]:
    """Find the manner that knows frame, x and y; give for each column of use its place, our names and the factor."""
    for dialect in DIALECTS:
        wanted: dict[int, tuple[tuple[str, ...], float]] = {}
        for index, name in enumerate(header):
            in_nm = re.sub(r"\[(um|µm|μm)\]$", "[nm]", name)
            if in_nm in dialect.columns:
                wanted[index] = (dialect.columns[in_nm], 1.0 if in_nm == name else 1e3)
        found = {ours for names, _ in wanted.values() for ours in names}
        if all(name in found for name in REQUIRED):
            return dialect, wanted
    known = "; ".join(", ".join(list(dialect.columns)[:3]) for dialect in (THUNDERSTORM, CHALLENGE))
    known += f"; {', '.join(REQUIRED)}"
    raise TableError(f"{path}: columns {', '.join(header)[:300]}, expected at least one of ({known}); rename or convert them")


def _numbers(path: Path, n_columns: int, wanted: list[int], has_header: bool) -> dict[int, np.ndarray]:
    """Read the columns at the places ``wanted`` as doubles."""
    import pyarrow
    import pyarrow.csv

    names = [str(index) for index in range(n_columns)]
    types = {str(index): pyarrow.float64() for index in wanted}
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=int(has_header)),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types)),
        )
    except pyarrow.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return {index: np.empty(0) for index in wanted}
        reason = re.sub(r"^In CSV column #\d+: ", "", " ".join(str(error).split()))[:160]
        raise TableError(f"{path}: {reason}, expected numbers in {n_columns} columns; correct the table") from error
    return {index: table.column(str(index)).to_numpy() for index in wanted}


def _frames(values: np.ndarray, dialect: Dialect, path: Path) -> np.ndarray:
    """Turn frame numbers of the file into ours, which count from 0."""
    if not np.isfinite(values).all() or (values != np.rint(values)).any() or (values < 0).any() or (values > 1 << 53).any():
        raise TableError(f"{path}: frame numbers that are empty, negative or not whole, expected whole numbers; correct the table")
    frames = values.astype(np.int64)
    counts_from_zero = len(frames) > 0 and frames.min() == 0
    return frames if counts_from_zero else frames - dialect.first_frame
