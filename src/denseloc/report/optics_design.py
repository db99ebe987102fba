"""The picture of an optics design: the mask, its images over depth, and the bounds of x, y and z over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import replacing
from .plates import BLUE, DPI, FAINT, INK, ORANGE, calm

AXES = ("x", "y", "z")
COLOURS = (BLUE, "#3f8f5b", ORANGE)
SHOWN = 9
"""Depths of the row of images."""


def draw_design(
    path: Path,
    phase: np.ndarray,
    images: np.ndarray,
    depths_nm: Sequence[float],
    bounds_nm: Mapping[str, np.ndarray],
    bound_depths_nm: np.ndarray,
    title: str,
) -> None:
    """Draw a design into a PNG.

    Args:
        path: to write.
        phase: (P, P) rad, NaN outside of the aperture.
        images: (n, k, k) fractions of the photons.
        depths_nm: (n,) of the images.
        bounds_nm: by name, (m, 3) least standard deviations of x, y, z; the first is drawn bold.
        bound_depths_nm: (m,).
        title: heading.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = Figure(figsize=(10.5, 4.9), dpi=DPI, facecolor="white")
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    axes = figure.add_axes((0.02, 0.36, 0.24, 0.54))
    shown = axes.imshow(np.angle(np.exp(1j * phase)), cmap="twilight", vmin=-np.pi, vmax=np.pi, interpolation="nearest")
    axes.axis("off")
    bar = figure.colorbar(shown, ax=axes, ticks=(-np.pi, 0, np.pi), fraction=0.045, pad=0.02)
    bar.ax.set_yticklabels(("\u2212π", "0", "π"), fontsize=8, color=INK)
    _curves(figure, bounds_nm, bound_depths_nm)
    wide = 0.96 / len(images)
    for i, (image, depth) in enumerate(zip(images, depths_nm, strict=True)):
        cell = figure.add_axes((0.02 + i * wide, 0.02, 0.94 * wide, 0.24))
        cell.imshow(image, cmap="gray", vmin=0, interpolation="nearest")
        cell.set_xticks(())
        cell.set_yticks(())
        cell.set_title(f"{depth:.0f} nm".replace("-", "\u2212"), fontsize=8, color=INK, pad=3)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary), metadata={"Software": None})


def _curves(figure: Figure, bounds_nm: Mapping[str, np.ndarray], depths_nm: np.ndarray) -> None:
    """Draw the bounds of all masks over depth, one panel an axis."""
    first = next(iter(bounds_nm.values()))
    for k, (axis, colour) in enumerate(zip(AXES, COLOURS, strict=True)):
        axes = figure.add_axes((0.36 + 0.22 * k, 0.44, 0.175, 0.44))
        calm(axes)
        for (name, bounds), style, tint in zip(bounds_nm.items(), ("-", "--", ":"), (colour, FAINT, INK), strict=False):
            axes.plot(depths_nm / 1000, bounds[:, k], style, color=tint, lw=1.3, label=name)
        finite = first[:, k][np.isfinite(first[:, k])]
        axes.set_ylim(0, 2.2 * float(np.quantile(finite, 0.9)) if len(finite) else 1.0)
        axes.set_xlabel("z (µm)")
        axes.set_title(f"least σ of {axis} (nm)", fontsize=9, color=INK)
        if k == 0:
            axes.legend(frameon=False, fontsize=7, loc="upper left")
