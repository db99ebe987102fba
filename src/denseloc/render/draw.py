"""From localizations to a picture, part by part."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from ..data import Image, Localizations
from ..errors import OutputError, TableError
from ..kernels import splat_image
from .colour import depth_colours

Mode = Literal["gaussian", "histogram"]
Colour = Literal["none", "z"]

DEFAULT_SIGMA_NM = 10.0
"""Used where a table does not know the standard deviations of its positions."""
SMALLEST_SIGMA_PX = 0.5
"""Narrower Gaussians are widened to this many output pixels."""
MAX_PIXELS = 200_000_000


class RenderWarning(UserWarning):
    """Something that the picture needs was not in the table and was assumed."""


def render(
    parts: Localizations | Iterable[Localizations],
    *,
    pixel_size_nm: float = 10.0,
    mode: Mode = "gaussian",
    sigma_nm: float | None = None,
    colour: Colour = "none",
    z_range_nm: tuple[float, float] | None = None,
    field_nm: tuple[float, float] | None = None,
    origin_nm: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Draw localizations, each with a total weight of 1.

    Parts are taken one after the other and forgotten, so that memory is that of the picture and one part. Localizations outside
    of the picture, or with a coordinate that is not a number, are not drawn.

    Args:
        parts: a table, or parts of one.
        pixel_size_nm: side of the picture's square pixels.
        mode: ``gaussian`` draws each localization as a Gaussian integrated over the pixels; ``histogram`` counts them.
        sigma_nm: standard deviation of the Gaussians; None takes the table's own sigma_x_nm and sigma_y_nm, or 10 nm with a
            `RenderWarning` where it has none. Never below half a pixel of the picture.
        colour: ``none``, or ``z`` to mix the hues of z in each pixel (see `colour.depth_colours`).
        z_range_nm: (lowest, highest) z of the colours; z outside of it takes the end's colour. None takes the 1 % and 99 %
            quantiles of the first part that has rows.
        field_nm: (height, width) of the picture's region. None takes the rest of the camera field after ``origin_nm`` from the
            provenance, else the region that holds all localizations; the latter needs a table or a sequence of tables, which can
            be read twice.
        origin_nm: (y, x) of the region's outer corner; None takes (0, 0), or the corner of localizations below zero where the field is
            not known.
        max_pixels: refuse larger pictures.

    Returns:
        float32 pixels: (rows, columns) of localizations per pixel; with colour (rows, columns, 3), proportional to them, largest
            value 1.

    Raises:
        TableError: colour is asked for without z, or the region cannot be known.
        OutputError: the picture would have more than ``max_pixels``.
    """
    if not pixel_size_nm > 0:
        raise OutputError(f"pixel size of the picture is {pixel_size_nm} nm; expected more than 0")
    if sigma_nm is not None and not sigma_nm > 0:
        raise OutputError(f"sigma of the picture is {sigma_nm} nm; expected more than 0")
    if mode not in ("gaussian", "histogram") or colour not in ("none", "z"):
        raise ValueError(f"mode '{mode}', colour '{colour}'; expected gaussian or histogram, none or z")
    kept = [parts] if isinstance(parts, Localizations) else parts
    walk = iter(kept)
    seen = _first_with_rows(walk)
    first = seen[-1] if seen else None
    region = _region(first, kept if isinstance(kept, Sequence) else None, field_nm, origin_nm)
    shape = _shape_px(region, pixel_size_nm, max_pixels)
    canvas = np.zeros((*shape, 3 if colour == "z" else 1), np.float32)
    depth = _depth(first, z_range_nm) if colour == "z" else None
    for part in chain(seen, walk):
        _draw(part, canvas, region, pixel_size_nm, sigma_nm if mode == "gaussian" else 0.0, depth)
    if depth is None:
        return Image(canvas[:, :, 0], (pixel_size_nm, pixel_size_nm), region.origin_nm)
    brightest = float(canvas.max())
    if brightest > 0:
        canvas /= brightest
    return Image(canvas, (pixel_size_nm, pixel_size_nm), region.origin_nm, depth)


@dataclass(frozen=True)
class _Region:
    """What the picture covers: (y, x) of its corner and (height, width), in nm."""

    origin_nm: tuple[float, float]
    size_nm: tuple[float, float]


def _first_with_rows(walk: Iterator[Localizations]) -> list[Localizations]:
    """Take parts up to and with the first that has rows."""
    taken = []
    for part in walk:
        taken.append(part)
        if len(part):
            break
    return taken


def _region(
    first: Localizations | None,
    again: Sequence[Localizations] | None,
    field_nm: tuple[float, float] | None,
    origin_nm: tuple[float, float] | None,
) -> _Region:
    """Find what the picture covers; ``again`` are all parts if they can be read twice."""
    if field_nm is not None:
        return _Region(origin_nm or (0.0, 0.0), field_nm)
    known = None if first is None else first.provenance
    if known is not None and known.shape_px is not None and known.pixel_size_nm is not None:
        y0, x0 = origin_nm or (0.0, 0.0)
        (rows, columns), (pitch_y, pitch_x) = known.shape_px, known.pixel_size_nm
        return _Region((y0, x0), (rows * pitch_y - y0, columns * pitch_x - x0))
    boxes = [] if again is None else [box for box in map(_box, again) if box is not None]
    if not boxes:
        raise TableError(
            "the camera field is not known from the table; give the region of the picture as field_nm = (height, width)"
        )
    low, high = np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)
    corner = (min(0.0, float(low[0])), min(0.0, float(low[1]))) if origin_nm is None else origin_nm
    # the far edge itself lies outside of the last pixel, so a part in 1e9 more keeps the outermost localization
    return _Region(corner, (float(high[0] - corner[0]) * (1 + 1e-9) + 1e-6, float(high[1] - corner[1]) * (1 + 1e-9) + 1e-6))


def _box(part: Localizations) -> tuple[np.ndarray, np.ndarray] | None:
    """Give the lowest and highest (y, x) of the finite positions, None where there are none."""
    points = np.stack([part.y_nm, part.x_nm], axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    return (points.min(axis=0), points.max(axis=0)) if len(points) else None


def _shape_px(region: _Region, pixel_size_nm: float, max_pixels: int) -> tuple[int, int]:
    """Give (rows, columns) that cover the region; sizes within 1e-6 of a whole number of pixels are that number."""
    height, width = region.size_nm
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise OutputError(f"the picture's region is {height:g} x {width:g} nm (height x width); expected more than 0")
    rows, columns = (max(1, math.ceil(size / pixel_size_nm - 1e-6)) for size in (height, width))
    if rows * columns > max_pixels:
        raise OutputError(
            f"a picture of {rows} x {columns} pixels ({height:.0f} x {width:.0f} nm at {pixel_size_nm:g} nm a pixel) is more than"
            f" the {max_pixels} pixels allowed; take a larger output pixel, a smaller region or a larger max_pixels"
        )
    return rows, columns


def _depth(first: Localizations | None, z_range_nm: tuple[float, float] | None) -> tuple[float, float]:
    """Find (lowest, highest) z of the colours."""
    if first is not None and not first.is_3d:
        raise TableError("the table has no column z_nm to colour by; render without colour")
    if z_range_nm is not None:
        if not z_range_nm[0] < z_range_nm[1]:
            raise OutputError(f"z range {z_range_nm[0]:g} .. {z_range_nm[1]:g} nm is empty; give the lower end first")
        return z_range_nm
    z = np.zeros(0) if first is None else first.z_nm[np.isfinite(first.z_nm)]
    low, high = np.quantile(z, (0.01, 0.99)) if len(z) else (0.0, 0.0)
    return (float(low), float(high)) if high - low > 1.0 else (float(low) - 1.0, float(high) + 1.0)


def _draw(
    part: Localizations,
    canvas: np.ndarray,
    region: _Region,
    pixel_nm: float,
    sigma_nm: float | None,
    depth: tuple[float, float] | None,
) -> None:
    """Add one part to the canvas; sigma_nm 0 counts instead of drawing Gaussians, None takes the part's own."""
    if depth is not None:
        if not part.is_3d:
            raise TableError("a part of the table has no column z_nm to colour by; render without colour")
        part = part.select(np.isfinite(part.z_nm))
    x, y = (part.x_nm - region.origin_nm[1]) / pixel_nm, (part.y_nm - region.origin_nm[0]) / pixel_nm
    weight = np.ones((len(part), 1), np.float32) if depth is None else _hues(part.z_nm, depth)
    if sigma_nm == 0.0:
        splat_image.histogram(x, y, weight, canvas)
    else:
        sigma_x, sigma_y = (np.fmax(s / pixel_nm, SMALLEST_SIGMA_PX) for s in _sigmas(part, sigma_nm))
        splat_image.gaussian(x, y, sigma_x, sigma_y, weight, canvas)


def _sigmas(part: Localizations, sigma_nm: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Give the standard deviations along x and y in nm."""
    if sigma_nm is None and "sigma_x_nm" in part and "sigma_y_nm" in part:
        return part.sigma_x_nm.astype(np.float64), part.sigma_y_nm.astype(np.float64)
    if sigma_nm is None:
        message = f"the table has no columns sigma_x_nm and sigma_y_nm; its localizations are drawn with {DEFAULT_SIGMA_NM:g} nm"
        warnings.warn(message, RenderWarning, stacklevel=4)
    both = np.full(len(part), DEFAULT_SIGMA_NM if sigma_nm is None else sigma_nm)
    return both, both


def _hues(z_nm: np.ndarray, depth: tuple[float, float]) -> np.ndarray:
    """Look up the colour of each z: (n, 3) float32."""
    colours = depth_colours()
    place = (z_nm - depth[0]) / (depth[1] - depth[0])
    return colours[np.clip(place * len(colours), 0, len(colours) - 1).astype(np.int64)]
