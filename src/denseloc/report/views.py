"""Views: the super-resolved picture, raw frames with localizations on them, and model against data."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..data import Image, Localizations, Movie
from ..render.picture import save_png
from .plates import DPI, Plate, calm, plate_of_figure, plate_of_png
from .samples import Agreement, FrameSample
from .summary import lateral_sigma_nm, number

PICTURE_PX = 1400
"""Longest side of the super-resolved picture on the page."""
PICTURE_BOX = (1132, 860)
"""Largest (width, height) at which it is shown, in pixels of the page."""
OVERLAY_PX = 64
CROSS_PX, CROSS_POINTS = 2.2, (6.0, 10.0)
"""Width of a cross in camera pixels, and its bounds in points."""
DRAWN_IN = 2.98
"""Width of a drawn frame in inches."""
RESIDUAL_PX = 128
FACTORS = (1, 2, 5, 10, 20, 50, 100)
"""Enlargements of sigma in the overlay."""

Window = tuple[slice, slice]


def picture(image: Image, n_localizations: int) -> Plate:
    """Show the super-resolved picture with a scale bar, binned to at most `PICTURE_PX`."""
    shown = binned(image, PICTURE_PX)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        save_png(shown, path, scale_bar=True)
        png = path.read_bytes()
    height, width = (n * p * 1e-3 for n, p in zip(shown.pixels.shape[:2], shown.pixel_size_nm, strict=True))
    colour = " Colour shows z." if shown.pixels.ndim == 3 else ""
    smaller = "" if shown is image else f", binned for this page from {number(image.pixel_size_nm[0])} nm"
    caption = f"{width:.1f} × {height:.1f} µm at {number(shown.pixel_size_nm[0])} nm per pixel{smaller}.{colour}"
    alt = f"Super-resolved picture of {number(n_localizations)} localizations, {width:.1f} by {height:.1f} µm, with a scale bar."
    plate = plate_of_png(png, "", alt, caption)
    zoom = min(PICTURE_BOX[0] / plate.width, PICTURE_BOX[1] / plate.height, 1.6)
    return replace(plate, width=round(zoom * plate.width), height=round(zoom * plate.height))


def binned(image: Image, limit: int) -> Image:
    """Bin a picture by whole pixels until its longest side is at most ``limit``: sums of counts, means of colours."""
    rows, columns = image.pixels.shape[:2]
    factor = -(-max(rows, columns) // limit)
    if factor <= 1:
        return image
    padding = [(0, -rows % factor), (0, -columns % factor)] + [(0, 0)] * (image.pixels.ndim - 2)
    padded = np.pad(image.pixels, padding)
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor, *padded.shape[2:])
    pixels = blocks.sum((1, 3)) if image.pixels.ndim == 2 else blocks.mean((1, 3))
    y, x = image.pixel_size_nm
    return replace(image, pixels=pixels.astype(np.float32), pixel_size_nm=(y * factor, x * factor))


def frames_to_show(samples: Sequence[FrameSample], movie: Movie | None, n: int) -> list[FrameSample]:
    """Choose n raw frames: samples spread over those given, else frames of the movie in its own counts (first plane)."""
    if samples:
        picked = np.unique(np.linspace(0, len(samples) - 1, min(n, len(samples))).astype(int))
        return [samples[i] for i in picked]
    if movie is None or movie.pixel_size_nm is None or movie.n_frames < 1:
        return []
    start, stop = movie.frames
    size, origin = movie.pixel_size_nm, movie.origin_px
    frames = np.unique(np.linspace(start, stop - 1, min(n, stop - start)).astype(int))
    return [
        FrameSample(int(f), movie.read(int(f), int(f) + 1)[0, 0].astype(np.float32), pixel_size_nm=size, origin_px=origin)
        for f in frames
    ]


def enlargement(table: Localizations, pixel_nm: float) -> int:
    """Choose by how much to enlarge sigma so that typical circles have a radius of about a pixel; 0 if sigma is not known."""
    sigma = lateral_sigma_nm(table)
    median = float(np.median(sigma)) if len(sigma) else 0.0
    return min(FACTORS, key=lambda f: abs(np.log(f * median / pixel_nm))) if median > 0 else 0


def overlay(sample: FrameSample, table: Localizations, unit: str, factor: int) -> Plate:
    """Draw a raw frame with its localizations: a cross at the position, a circle of ``factor`` sigma (0: a fixed one)."""
    here = table.select(table.frame == sample.frame)
    x_px, y_px = here.x_nm / sample.pixel_size_nm[1], here.y_nm / sample.pixel_size_nm[0]
    window = busiest(sample, x_px, y_px, OVERLAY_PX)
    figure, axes = _frame(sample, window, sample.photons, "gray", f"{unit} per pixel")
    colour = "#ffb000"
    axes.plot(
        x_px,
        y_px,
        linestyle="none",
        marker="+",
        markersize=cross_points(window),
        markeredgewidth=1.1,
        color=colour,
        path_effects=[withStroke(linewidth=2.1, foreground="black")],  # seen on bright spots and on dark ground
    )
    radii, words = _circles(here, sample, factor)
    axes.add_collection(
        EllipseCollection(
            2 * radii[0],
            2 * radii[1],
            np.zeros(len(here)),
            units="xy",
            offsets=np.stack([x_px, y_px], axis=1),
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=colour,
            linewidths=0.8,
        )
    )
    whole = _window_words(sample, window)
    alt = f"Raw frame {sample.frame} with {len(here)} localizations drawn as crosses with circles."
    found = f"{number(len(here))} localization{'' if len(here) == 1 else 's'} in this frame. "
    return plate_of_figure(figure, f"Frame {sample.frame}", alt, found + words + whole)


def cross_points(window: Window) -> float:
    """Give the width of a cross in points: some camera pixels, as wide as can be seen and no wider than a spot."""
    columns = window[1].stop - window[1].start
    return float(np.clip(CROSS_PX * 72 * DRAWN_IN / columns, *CROSS_POINTS))


def _circles(here: Localizations, sample: FrameSample, factor: int) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """Give the (x, y) radii of the circles in pixels, and what they mean."""
    pixel_y, pixel_x = sample.pixel_size_nm
    if factor == 0:
        return (np.full(len(here), 1.5),) * 2, "Circles: 1.5 pixels, as sigma is not known."
    radius_x = np.nan_to_num(factor * here.sigma_x_nm / pixel_x)
    radius_y = np.nan_to_num(factor * (here.sigma_y_nm if "sigma_y_nm" in here else here.sigma_x_nm) / pixel_y)
    return (radius_x, radius_y), f"Circles: {factor} × sigma." if factor > 1 else "Circles: sigma."


def triptych(sample: FrameSample, agreement: Agreement) -> list[Plate]:
    """Draw raw frame, model and residual in standard deviations, raw and model on one scale."""
    if sample.expected is None:
        raise ValueError(f"frame {sample.frame} has no model picture")
    rows, columns = np.unravel_index(np.argsort(sample.expected, axis=None)[-200:], sample.expected.shape)
    window = busiest(sample, columns + sample.origin_px[1] + 0.5, rows + sample.origin_px[0] + 0.5, RESIDUAL_PX)
    scale = _scale(sample.photons[window])
    frame = f"frame {sample.frame}"
    plates = []
    for name, pixels, limits, colours, label, caption in (
        ("Data", sample.photons, scale, "gray", "photons per pixel", f"The raw {frame}.{_window_words(sample, window)}"),
        (
            "Model",
            sample.expected,
            scale,
            "gray",
            "photons per pixel",
            "What the model expects from the localizations, on the same scale.",
        ),
        (
            "Residual",
            agreement.residual,
            (-5, 5),
            "RdBu_r",
            "standard deviations",
            "(data − model) / σ. Red: more light than the model.",
        ),
    ):
        figure, _ = _frame(sample, window, pixels, colours, label, limits)
        alt = f"{name} of {frame}" + (f": chi2 per pixel {agreement.chi2:.2f}." if name == "Residual" else ".")
        plates.append(plate_of_figure(figure, name, alt, caption))
    return plates


def busiest(sample: FrameSample, x_px: np.ndarray, y_px: np.ndarray, size: int) -> Window:
    """Find the window of about ``size`` pixels that holds the most of the points (in pixels of the field); all of a small frame."""
    slices = []
    for length, origin, points in zip(sample.photons.shape, sample.origin_px, (y_px, x_px), strict=True):
        if length <= 1.5 * size:
            slices.append(slice(0, length))
            continue
        starts = np.unique(np.append(np.arange(0, length - size, max(size // 4, 1)), length - size))
        inside = np.sort(points - origin)
        held = np.searchsorted(inside, starts + size) - np.searchsorted(inside, starts)
        best = starts[held == held.max()]
        start = int(best[len(best) // 2])
        slices.append(slice(start, start + size))
    return slices[0], slices[1]


def _frame(
    sample: FrameSample, window: Window, pixels: np.ndarray, colours: str, label: str, limits: tuple[float, float] | None = None
) -> tuple[Figure, Axes]:
    """Draw a window of a frame, in pixels of the whole field, with a bar of its values; the window fills the drawing."""
    rows, columns = window
    y0, x0 = sample.origin_px
    aspect = sample.pixel_size_nm[0] / sample.pixel_size_nm[1]
    left, bottom, top, width, tall = 0.56, 0.45, 0.08, DRAWN_IN, (rows.stop - rows.start) * aspect / (columns.stop - columns.start)
    height = float(np.clip(width * tall, 0.8, 7.0))
    sheet = (4.4, bottom + height + top)
    figure = Figure(figsize=sheet, dpi=DPI, facecolor="white")
    axes = figure.add_axes((left / sheet[0], bottom / sheet[1], width / sheet[0], height / sheet[1]))
    bar = figure.add_axes(((left + width + 0.08) / sheet[0], bottom / sheet[1], 0.12 / sheet[0], height / sheet[1]))
    low, high = limits or _scale(pixels[window])
    extent = (x0 + columns.start, x0 + columns.stop, y0 + rows.stop, y0 + rows.start)
    drawn = axes.imshow(pixels[window], cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest", aspect=aspect)
    figure.colorbar(drawn, cax=bar, label=label)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)", autoscale_on=False)
    for part in (axes, bar):
        calm(part)
        part.spines[:].set_visible(False)
    axes.yaxis.set_label_coords(-0.38 / width, 0.5)
    return figure, axes


def _scale(pixels: np.ndarray) -> tuple[float, float]:
    """Find the black and the white point."""
    good = pixels[np.isfinite(pixels)]
    if not len(good):
        return 0.0, 1.0
    low, high = np.quantile(good, (0.01, 0.998))
    return float(low), float(high if high > low else low + 1.0)


def _window_words(sample: FrameSample, window: Window) -> str:
    rows, columns = (part.stop - part.start for part in window)
    height, width = sample.photons.shape
    return "" if (rows, columns) == (height, width) else f" Shown: the busiest {columns} × {rows} pixels of {width} × {height}."
