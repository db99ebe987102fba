"""Render a table to a picture file, part by part."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import matplotlib

from ..data import Image, Localizations, Provenance
from ..errors import OutputError
from ..files import check_writable
from ..formats import iter_table, read_table
from ..render import read_tiff, save_png, save_tiff
from ..render import render as draw
from ..render.draw import Colour, Mode

IMAGES = (".tif", ".tiff")
PIXEL_NM = 10.0
COMFORTABLE_PX = 60_000_000
"""A picture for which no pixel size was asked for has no more pixels than this."""


def render(
    table: Localizations | Path | str,
    out: Path | str | None = None,
    *,
    pixel_size_nm: float | None = None,
    mode: Mode = "gaussian",
    sigma_nm: float | None = None,
    colour: Colour | None = None,
    z_range_nm: tuple[float, float] | None = None,
    field_nm: tuple[float, float] | None = None,
    scale_bar: bool = True,
    colormap: str = "hot",
) -> Image:
    """Draw a table as a super-resolved picture and write it.

    An image that a method gave itself (the ``image`` of `localize`) is drawn as it is: colour map and scale bar are chosen, its pixels stay.

    A table in a file is read part by part where the camera field is known from it; memory is that of the picture then.

    Args:
        table: the localizations, or their file; or the file of an image, .tif.
        out: picture to write: .png to look at, .tif with 32-bit values; None writes nothing.
        pixel_size_nm: pixel of the picture, or of an image that does not say it; None takes 10 nm, and more for
            fields that would need more than 60 million pixels.
        mode: ``gaussian`` or ``histogram``.
        sigma_nm: standard deviation of every localization; None takes its own.
        colour: ``z`` shows depth as colour, ``none`` does not; None shows it where the table knows z.
        z_range_nm: (lowest, highest) z of the colours.
        field_nm: (height, width) of the camera field; None takes it from the table.
        scale_bar: draw scale bar and legend on a .png.
        colormap: of a .png without colour.

    Raises:
        TableError: the table cannot be read or lacks what is needed.
        OutputError: the picture cannot be written, or its suffix is not known.
    """
    if out is not None:
        out = Path(out)
        check_picture(out, colormap)
    if not isinstance(table, Localizations) and Path(table).suffix.lower() in IMAGES:
        if (mode, sigma_nm, colour or "none", z_range_nm, field_nm) != ("gaussian", None, "none", None, None):
            raise OutputError(
                f"{table}: an image is drawn as it is; leave mode, sigma, colour, z range and field out, or give the table"
            )
        image = read_tiff(table, pixel_size_nm)
        _save(image, out, scale_bar, colormap)
        return image
    if isinstance(table, Localizations):
        first, parts = table, iter((table,))
    else:
        stream = iter_table(table)
        first = next(stream)
        parts = chain((first,), stream)
    field = field_nm or _field_nm(first.provenance)
    if colour is None:
        colour = "z" if first.is_3d else "none"
    whole = None if field is not None else table if isinstance(table, Localizations) else read_table(table)
    image = draw(
        parts if whole is None else whole,
        pixel_size_nm=pixel_size_nm or comfortable_pixel_nm(field),
        mode=mode,
        sigma_nm=sigma_nm,
        colour=colour,
        z_range_nm=z_range_nm,
        field_nm=field,
    )
    _save(image, out, scale_bar, colormap)
    return image


def _save(image: Image, out: Path | str | None, scale_bar: bool, colormap: str) -> None:
    """Write a picture as its suffix says."""
    if out is not None and Path(out).suffix.lower() == ".png":
        save_png(image, out, scale_bar=scale_bar, colormap=colormap)
    elif out is not None:
        save_tiff(image, out)


def check_picture(out: Path | str, colormap: str = "hot") -> None:
    """Check, before the work, that a picture can be written to ``out``.

    Raises:
        OutputError: the suffix or the colour map is not known, or the target cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise OutputError(f"picture {out.name}: the suffix '{out.suffix}' names no picture format; expected .png or .tif")
    if colormap not in matplotlib.colormaps:
        raise OutputError(f"colour map '{colormap}' is not known; expected a name of matplotlib's, such as hot, inferno or gray")
    check_writable(out)


def _field_nm(provenance: Provenance) -> tuple[float, float] | None:
    """Give (height, width) of the camera field where it is known."""
    shape, size = provenance.shape_px, provenance.pixel_size_nm
    return None if shape is None or size is None else (shape[0] * size[0], shape[1] * size[1])


def comfortable_pixel_nm(field_nm: tuple[float, float] | None) -> float:
    """Give 10 nm, or the next of 20, 50, 100, ... nm at which the picture of a field has a size that programs can show."""
    if field_nm is None:
        return PIXEL_NM
    for step in (1, 2, 5, 10, 20, 50, 100):
        if math.prod(side / (step * PIXEL_NM) for side in field_nm) <= COMFORTABLE_PX:
            return step * PIXEL_NM
    return 200 * PIXEL_NM
