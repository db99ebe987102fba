"""Pictures as files: PNG for people, 32-bit TIFF for measuring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import tifffile
from PIL import ImageDraw, ImageFont

from ..data import CONVENTIONS, Image
from ..errors import OutputError
from ..files import replacing
from .colour import depth_colours

_READABLE_PX = 480
_WHITE = (255, 255, 255)
_SHADE = 0.35


def save_png(
    image: Image,
    path: Path | str,
    *,
    scale_bar: bool = True,
    percentile: float = 99.7,
    gamma: float | None = None,
    colormap: str = "hot",
) -> None:
    """Write a picture for people to look at, with a scale bar and, where colour shows z, a legend of z.

    Brightness is ``min(value / white, 1) ** gamma`` where ``white`` is a percentile of the pixels that are not 0. Pictures of
    less than 480 pixels are enlarged by a whole factor when they carry a scale bar, so that its label can be read; slivers too
    narrow for it go without.

    Args:
        image: what `draw.render` gives.
        path: where to write.
        scale_bar: draw the bar and the legend; False gives exactly the pixels of the picture.
        percentile: 0 .. 100, of the lit pixels, that is shown as the brightest.
        gamma: below 1 lifts faint structures; None takes 0.7, and 0.55 where colour shows z.
        colormap: a name that matplotlib knows, for pictures without colour.

    Raises:
        OutputError: the colour map or a number is impossible, or the file cannot be written.
    """
    if gamma is None:
        gamma = 0.7 if image.pixels.ndim == 2 else 0.55
    if not (0 < percentile <= 100 and gamma > 0):
        raise OutputError(f"percentile {percentile:g} and gamma {gamma:g}; expected a percentile in 0 .. 100 and a gamma above 0")
    rgb = _coloured(image.pixels, percentile, gamma, colormap)
    if scale_bar:
        zoom = max(1, -(-_READABLE_PX // max(rgb.shape[:2])))
        rgb = rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)
        rgb = _annotated(rgb, image, nm_per_px=(image.pixel_size_nm[0] / zoom, image.pixel_size_nm[1] / zoom))
    notes = PIL.PngImagePlugin.PngInfo()
    notes.add_text("denseloc", json.dumps(_geometry(image)))
    with replacing(Path(path)) as temporary:
        PIL.Image.fromarray(rgb).save(temporary, format="PNG", pnginfo=notes)


def save_tiff(image: Image, path: Path | str) -> None:
    """Write the values as a 32-bit ImageJ TIFF that knows its pixel size in nm; colour becomes three channels.

    Raises:
        OutputError: the file cannot be written.
    """
    pixels = np.asarray(image.pixels, np.float32)
    metadata: dict[str, Any] = {"unit": "nm", "axes": "YX", "Info": json.dumps(_geometry(image))}
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        metadata |= {"axes": "CYX", "mode": "composite"}
    (pitch_y, pitch_x), (y0, x0) = image.pixel_size_nm, image.origin_nm
    if (y0, x0) != (0.0, 0.0):
        metadata |= {"xorigin": -x0 / pitch_x, "yorigin": -y0 / pitch_y}
    with replacing(Path(path)) as temporary:
        tifffile.imwrite(temporary, pixels, imagej=True, resolution=(1 / pitch_x, 1 / pitch_y), resolutionunit=1, metadata=metadata)


def read_tiff(path: Path | str, pixel_size_nm: float | None = None) -> Image:
    """Read an image as `save_tiff` writes it, or another one in grey whose pixel size is given.

    Args:
        path: a TIFF of one plane.
        pixel_size_nm: of its pixels where the file does not say it in nm.

    Raises:
        OutputError: not a readable image, or its pixel size is said twice or not at all.
    """
    try:
        with tifffile.TiffFile(path) as file:
            pixels, notes = file.asarray(), dict(file.imagej_metadata or {})
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise OutputError(f"{path}: not a readable TIFF ({str(error).splitlines()[0]}); give a table or an image") from None
    if pixels.ndim != 2 or pixels.dtype.kind not in "iuf":
        raise OutputError(
            f"{path}: {' x '.join(map(str, pixels.shape))} values; expected an image of one plane: give a table, or project it first"
        )
    try:
        said = json.loads(str(notes.get("Info", "{}")))
        (y, x), (y0, x0) = said["pixel_size_nm"], said["origin_nm"]
        known = (float(y), float(x)), (float(y0), float(x0))
    except (ValueError, KeyError, TypeError):
        known = None
    if (known is None) == (pixel_size_nm is None):
        what = "does not say its pixel size in nm; give it" if known is None else "has its own pixels; leave the pixel size out"
        raise OutputError(f"{path} {what} (--pixel-size-nm, in Python pixel_size_nm)")
    size, origin = known or ((float(pixel_size_nm or 0), float(pixel_size_nm or 0)), (0.0, 0.0))
    return Image(np.asarray(pixels, np.float32), size, origin)


def _geometry(image: Image) -> dict[str, Any]:
    """Say where the pixels lie, as plain JSON values."""
    return {
        "pixel_size_nm": list(image.pixel_size_nm),
        "origin_nm": list(image.origin_nm),
        "pair_order": "(y, x)",
        "z_range_nm": None if image.z_range_nm is None else list(image.z_range_nm),
        **CONVENTIONS,
    }


def _coloured(pixels: np.ndarray, percentile: float, gamma: float, colormap: str) -> np.ndarray:
    """Turn values into (rows, columns, 3) bytes."""
    value = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    lit = value[value > 0]
    white = float(np.percentile(lit, percentile)) if len(lit) else 1.0
    shown = np.clip(value / white, 0.0, 1.0) ** gamma
    if pixels.ndim == 3:
        hue = pixels / np.where(value > 0, value, 1.0)[:, :, None]
        return np.round(hue * shown[:, :, None] * 255).astype(np.uint8)
    if colormap not in matplotlib.colormaps:
        raise OutputError(f"colour map '{colormap}' is not known; expected a name of matplotlib's, such as hot, inferno or gray")
    return matplotlib.colormaps[colormap](np.round(shown * 255).astype(np.uint8), bytes=True)[:, :, :3]


def _round_length(longest_nm: float) -> float:
    """Give the largest 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(longest_nm) + 1e-9)
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest_nm * (1 + 1e-9)))


def _length_label(length_nm: float) -> str:
    """Write a length in nm, um or mm."""
    for unit, nm in (("mm", 1e6), ("\N{MICRO SIGN}m", 1e3)):
        if length_nm >= nm:
            return f"{length_nm / nm:g} {unit}"
    return f"{length_nm:g} nm"


def _annotated(rgb: np.ndarray, image: Image, nm_per_px: tuple[float, float]) -> np.ndarray:
    """Draw the scale bar at the lower right and, for colour, the legend of z at the upper right."""
    height, width = rgb.shape[:2]
    size = max(12, round(min(height, width) / 36))
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
    canvas = PIL.Image.fromarray(np.ascontiguousarray(rgb))
    if width >= 12 * size and height >= 5 * size:
        _draw_bar(canvas, font, size, nm_per_px[1])
    if image.z_range_nm is not None and width >= 12 * size and height >= 16 * size:
        _draw_legend(canvas, font, size, image.z_range_nm)
    return np.asarray(canvas)


def _plate(canvas: PIL.Image.Image, box: tuple[int, int, int, int]) -> ImageDraw.ImageDraw:
    """Darken a box (left, top, right, bottom) so that white on it can be read; gives the pen."""
    box = (max(box[0], 0), max(box[1], 0), min(box[2], canvas.width), min(box[3], canvas.height))
    patch = canvas.crop(box)
    canvas.paste(patch.point([round(value * _SHADE) for value in range(256)] * 3), box[:2])
    return ImageDraw.Draw(canvas)


def _text_width(font: ImageFont.FreeTypeFont, text: str) -> int:
    """Measure a text in pixels."""
    return round(font.getlength(text))


def _draw_bar(canvas: PIL.Image.Image, font: ImageFont.FreeTypeFont, size: int, nm_per_px: float) -> None:
    """Draw a bar of a round length of up to a quarter of the width, with its label above it."""
    length_nm = _round_length(canvas.width * nm_per_px / 4)
    length, label = round(length_nm / nm_per_px), _length_label(length_nm)
    thick, gap = max(3, size // 3), size // 2
    block = max(length, _text_width(font, label))
    right, bottom = canvas.width - 2 * gap, canvas.height - 2 * gap
    top = bottom - thick - gap - size
    pen = _plate(canvas, (right - block - gap, top - gap, right + gap, bottom + gap))
    middle = right - block / 2
    pen.text((middle, top + size / 2), label, fill=_WHITE, font=font, anchor="mm")
    left = round(middle - length / 2)
    pen.rectangle((left, bottom - thick, left + length - 1, bottom - 1), fill=_WHITE)


def _draw_legend(canvas: PIL.Image.Image, font: ImageFont.FreeTypeFont, size: int, z_range_nm: tuple[float, float]) -> None:
    """Draw the colours of z as an upright bar with its ends labelled, highest z on top."""
    labels = [f"{z_range_nm[1]:+.0f} nm", "z", f"{z_range_nm[0]:+.0f} nm"]
    tall, wide, gap = size * 9, size, size // 2
    right, top = canvas.width - 2 * gap, 2 * gap
    text = max(_text_width(font, label) for label in labels)
    pen = _plate(canvas, (right - wide - gap - text - gap, top - gap, right + gap, top + tall + gap))
    colours = np.round(depth_colours(tall)[::-1] * 255).astype(np.uint8)
    canvas.paste(PIL.Image.fromarray(np.ascontiguousarray(np.repeat(colours[:, None], wide, axis=1))), (right - wide, top))
    places = (top, top + tall / 2, top + tall)
    for label, y, anchor in zip(labels, places, ("rt", "rm", "rb"), strict=True):
        pen.text((right - wide - gap, y), label, fill=_WHITE, font=font, anchor=anchor)
