"""The picture of an optics design: the mask, its images over depth, and the bounds of x, y and z over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .plates import BLUE, DPI, FAINT, INK, ORANGE, calm, plain

AXES = ("x", "y", "z")
COLOURS = (BLUE, "#3f8f5b", ORANGE)
TALL_IN, ROW_IN = 4.9, 1.15
"""Height of the picture, and of each further row of images, in inches."""
SHOWN = 9
"""Depths of the row of images."""


def draw_design(
    phase: np.ndarray,
    images: Sequence[np.ndarray],
    depths_nm: Sequence[float],
    bounds_nm: Mapping[str, np.ndarray],
    bound_depths_nm: np.ndarray,
    title: str,
) -> bytes:
    """Draw a design as a PNG.

    Args:
        phase: (P, P) rad, NaN outside of the aperture.
        images: (n, k, k) fractions of the photons, for each colour channel.
        depths_nm: (n,) of the images.
        bounds_nm: by name, (m, 3) least standard deviations of x, y, z; the first is drawn bold.
        bound_depths_nm: (m,).
        title: heading.
    """
    tall = TALL_IN + ROW_IN * (len(images) - 1)
    figure = Figure(figsize=(10.5, tall), dpi=DPI, facecolor="white")
    figure.suptitle(plain(title), fontsize=10, color=INK, x=0.01, ha="left")
    upper = TALL_IN / tall  # the upper parts keep their sizes

    def box(left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
        return left, 1 - (1 - bottom) * upper, width, height * upper

    axes = figure.add_axes(box(0.02, 0.36, 0.24, 0.54))
    shown = axes.imshow(np.angle(np.exp(1j * phase)), cmap="twilight", vmin=-np.pi, vmax=np.pi, interpolation="nearest")
    axes.axis("off")
    bar = figure.colorbar(shown, ax=axes, ticks=(-np.pi, 0, np.pi), fraction=0.045, pad=0.02)
    bar.ax.set_yticklabels(("\u2212π", "0", "π"), fontsize=8, color=INK)
    panels = [figure.add_axes(box(0.36 + 0.22 * k, 0.44, 0.175, 0.44)) for k in range(len(AXES))]
    _curves(panels, bounds_nm, bound_depths_nm)
    row = figure.add_axes((0.02, 0.02 * upper, 0.96, 1 - 0.74 * upper - 0.02 * upper))
    scaled = [[np.pad(image / image.max(), 1, constant_values=1.0) for image in channel] for channel in images]
    row.imshow(np.concatenate([np.concatenate(line, 1) for line in scaled]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    row.axis("off")
    wide = scaled[0][0].shape[1]
    for i, depth in enumerate(depths_nm):
        text = f"{depth:.0f} nm".replace("-", "\u2212")
        row.text((i + 0.5) * wide, -0.06 * wide, text, fontsize=8, color=INK, ha="center", va="bottom")
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _curves(panels: Sequence[Axes], bounds_nm: Mapping[str, np.ndarray], depths_nm: np.ndarray) -> None:
    """Draw the bounds of all masks over depth, one panel an axis."""
    first = next(iter(bounds_nm.values()))
    for k, (axis, colour, axes) in enumerate(zip(AXES, COLOURS, panels, strict=True)):
        calm(axes)
        for (name, bounds), style, tint in zip(bounds_nm.items(), ("-", "--", ":"), (colour, FAINT, INK), strict=False):
            axes.plot(depths_nm / 1000, bounds[:, k], style, color=tint, lw=1.3, label=name)
        finite = first[:, k][np.isfinite(first[:, k])]
        axes.set_ylim(0, 2.2 * float(np.quantile(finite, 0.9)) if len(finite) else 1.0)
        axes.set_xlabel("z (µm)")
        axes.set_title(f"least σ of {axis} (nm)", fontsize=9, color=INK)
        if k == 0:
            axes.legend(frameon=False, fontsize=7, loc="upper left")
