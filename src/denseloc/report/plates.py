"""Plates: drawings as PNG inside of data URIs, with words for those who do not see them."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#1d2733"
FAINT = "#6b7785"
BLUE = "#2f6690"
ORANGE = "#d9730d"
BAND = "#e3eef5"
DPI = 144


@dataclass(frozen=True)
class Plate:
    """One drawing on the page.

    Args:
        source: data URI of a PNG.
        width, height: in pixels of the PNG.
        title: a few words above the drawing.
        alt: what the drawing shows, with its main numbers.
        caption: what to look at.
    """

    source: str
    width: int
    height: int
    title: str
    alt: str
    caption: str = ""


def plate_of_png(png: bytes, title: str, alt: str, caption: str = "") -> Plate:
    """Make a plate of the bytes of a PNG file."""
    width, height = struct.unpack(">II", png[16:24])
    return Plate("data:image/png;base64," + base64.b64encode(png).decode("ascii"), width, height, title, alt, caption)


def plate_of_figure(figure: Figure, title: str, alt: str, caption: str = "") -> Plate:
    """Draw a matplotlib figure as a plate."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return plate_of_png(buffer.getvalue(), title, alt, caption)


def plain(text: str) -> str:
    """Make matplotlib write a text as it stands: names of files and documents may hold ``$``, which begins a formula there."""
    return text.replace("$", r"\$")


def canvas(width_in: float = 4.4, height_in: float = 2.5) -> tuple[Figure, Axes]:
    """Make an empty, calm drawing."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    left, bottom, right, top = 0.66, 0.45, 0.2, 0.08
    axes = figure.add_axes(
        (left / width_in, bottom / height_in, 1 - (left + right) / width_in, 1 - (bottom + top) / height_in),
    )
    calm(axes)
    return figure, axes


def calm(axes: Axes) -> None:
    """Draw axes thin and grey."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(colors=INK, labelsize=9, width=0.7, length=3, color=FAINT)
    axes.xaxis.label.set(size=9.5, color=INK)
    axes.yaxis.label.set(size=9.5, color=INK)
