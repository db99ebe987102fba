"""What a refinement asks of a table before it begins, and what it says of it when it has ended."""

from __future__ import annotations

import numpy as np

from ..data import Localizations, Movie, Provenance
from ..errors import CalibrationError, TableError
from ..experiment import Experiment
from ..preparation import Preparation
from ..units import PixelSize

OUTSIDE_PX = 2.0  # positions this far outside of the field are those of another movie
FOREIGN = 0.2  # share of rows that may be outside
TELLING = 5  # rows from which on their places tell in which unit they are
SAME_PIXEL = 0.01  # pixel sizes that differ by less are the same
FEW = 0.5  # share of rows below which a refinement has failed
UNKNOWN_NM = 2000.0  # standard deviation of a position that nothing is known of
BELIEVED_NM = 1.0  # least standard deviation of a table that is believed
SAME_FRAME = 3.0
"""Factor on the sigmas of tables that no network made. A fit has found them in the very pixels that are fitted again, and would count these twice;
three times as wide they still hold a fit in place."""


def usable(table: Localizations) -> tuple[Localizations, list[str]]:
    """Give the rows that can be fitted, in the order of their frames, and say what was left out.

    Raises:
        TableError: there are none.
    """
    rows = table.select(np.isfinite(table.x_nm) & np.isfinite(table.y_nm)).sort()
    if len(rows) == 0:
        raise TableError("the table has no rows with a position, so that there is nothing to refine; localize the movie first")
    notes = []
    if lost := len(table) - len(rows):
        notes.append(f"note: {lost} rows of the table have no position and are left out")
    names = [name for name in ("frame", "channel", "x_nm", "y_nm", "z_nm") if name in rows.columns]
    place = np.stack([np.nan_to_num(np.asarray(rows.columns[name], np.float64).round(3)) for name in names], 1)
    once = np.unique(place, axis=0, return_index=True)[1]
    if twice := len(rows) - len(once):
        notes.append(f"note: {twice} rows of the table stand there twice and are left out")
        rows = rows.select(np.sort(once))
    return rows, notes


def believed(values: np.ndarray | None, n: int, factor: float = 1.0) -> np.ndarray:
    """Give the standard deviations (n,) of a table as far as they are believed, in nm; what is missing, 0 or no number knows nothing."""
    if values is None:
        return np.full(n, UNKNOWN_NM)
    known = np.isfinite(values) & (values > 0)
    return np.where(known, np.clip(factor * np.where(known, values, 1.0), BELIEVED_NM, UNKNOWN_NM), UNKNOWN_NM)


def usual(values: np.ndarray | None, n: int, otherwise: float, low: float, high: float = np.inf) -> np.ndarray:
    """Give photons or backgrounds (n,) to begin with: those of a table, ``otherwise`` where it has none that can be."""
    if values is None:
        return np.full(n, otherwise)
    return np.clip(np.where(np.isfinite(values) & (values > 0), values, otherwise), low, high)


def context_of(document: Experiment | None) -> int:
    """Give how many frames on each side the method of a table has looked at; a table of another program has none."""
    return 0 if document is None else document.build_localizer().context


def factor_on_sigma(document: Experiment | None, told: Provenance) -> float:
    """Give the factor by which a table's sigmas are widened, by the document of the model that made it and what has been done since."""
    by_network = document is not None and document.localizer.needs_training
    return 1.0 if by_network and "refined" not in told.settings else SAME_FRAME


def check_pixel_size(asked: PixelSize | float | None, told: Provenance) -> None:
    """Refuse another pixel size than that by which the table's positions were made."""
    if asked is None or told.pixel_size_nm is None:
        return
    y, x = asked if isinstance(asked, tuple) else (asked, asked)
    if any(abs(a - b) > SAME_PIXEL * b for a, b in zip((y, x), told.pixel_size_nm, strict=True)):
        made = told.pixel_size_nm
        raise TableError(
            f"the table was made with pixels of {made[0]:g} x {made[1]:g} nm (y, x), {y:g} x {x:g} nm were given; leave out the pixel size "
            "(--pixel-size-nm), or localize the movie again with the right one"
        )


def check_origin(rows: Localizations, movie: Movie, size: PixelSize) -> None:
    """Refuse a table that cannot be of this movie."""
    first, last = movie.frames
    frames = rows.frame
    if int(frames.max()) >= last or int(frames.min()) < first:
        hint = (
            "; it seems to count frames from 1: take 1 off" if int(frames.min()) == first + 1 and int(frames.max()) == last else ""
        )
        raise TableError(
            f"the table has frames {int(frames.min())} to {int(frames.max())}, the movie has {first} to {last - 1}; "
            f"give the movie that the table was made from{hint}"
        )
    (h, w), (height, width) = movie.shape_px, movie.field_px
    if len(rows) >= TELLING and rows.x_nm.max() <= width and rows.y_nm.max() <= height:
        raise TableError(
            f"the table's positions lie within {rows.x_nm.max():.3g} x {rows.y_nm.max():.3g} (x, y), the field is "
            f"{width * size[1]:.0f} x {height * size[0]:.0f} nm; they seem to be in pixels or micrometres: give a table in nm"
        )
    share = outside(rows, movie, size).mean()
    if share > FOREIGN:
        raise TableError(
            f"{100 * share:.0f} % of the table's positions lie outside of the movie's {h} x {w} pixels of {size[1]:g} nm; "
            "give the movie that the table was made from, and its pixel size"
        )


def outside(rows: Localizations, movie: Movie, size: PixelSize, margin: float = OUTSIDE_PX) -> np.ndarray:
    """Say which rows (n,) lie more than a margin in px outside of the movie's region."""
    (h, w), (y0, x0) = movie.shape_px, movie.origin_px
    x, y = rows.x_nm / size[1] - x0, rows.y_nm / size[0] - y0
    return np.asarray((x < -margin) | (y < -margin) | (x > w + margin) | (y > h + margin))


def check_depths(rows: Localizations, finds_depth: bool, add: bool) -> None:
    """Refuse to add emitters without a depth to a table that has depths."""
    if rows.is_3d and not finds_depth and add:
        raise CalibrationError(
            "the table has depths, the PSF tells none, so that added emitters would have none; give a 3D PSF (--psf), or do not add"
        )


def notes_before(rows: Localizations, movie: Movie, ready: Preparation, finds_depth: bool) -> list[str]:
    """Say what of a table cannot be refined."""
    notes = []
    if away := int(outside(rows, movie, ready.pixel_size_nm, 0.5).sum()):
        notes.append(f"{away} rows lie outside of the frames and keep their first values")
    if rows.is_3d and not finds_depth:
        notes.append("the PSF tells no depth; z stays as it was")
    return [f"note: {text}" for text in notes]


def warnings_after(refined: int, rows: int) -> list[str]:
    """Warn of a refinement that has moved too little."""
    if rows == 0 or refined >= FEW * rows:
        return []
    return [
        f"only {refined} of {rows} localizations could be refined, the others keep their first values: the table may be of another movie, or the "
        "PSF, the pixel size or the camera is wrong"
    ]
