"""Histograms and curves of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..data import Localizations
from ..description import Range
from ..units import PixelSize
from .plates import BAND, BLUE, FAINT, INK, ORANGE, Plate, calm, canvas, plate_of_figure
from .samples import Agreement
from .summary import SUBPIXEL_BINS, Flatness, finite, number, subpixel

TIME_POINTS = 120
"""Most points of the curve of counts over time; longer movies are averaged."""

LEGEND: Mapping[str, Any] = {
    "fontsize": 8.5,
    "labelcolor": INK,
    "facecolor": "white",
    "edgecolor": "none",
    "framealpha": 0.8,
    "borderaxespad": 0.1,
}

HISTOGRAMS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("Photons", ("photons",), "photons per localization", "A heap at the right end means a limit of the model."),
    (
        "Lateral uncertainty",
        ("sigma_x_nm", "sigma_y_nm"),
        "standard deviation (nm)",
        "What the localizer says of its own error in x and y.",
    ),
    ("Axial uncertainty", ("sigma_z_nm",), "standard deviation of z (nm)", "What the localizer says of its own error in z."),
    ("Axial position", ("z_nm",), "z (nm)", "Heaps at the ends mean molecules beyond the range of the model."),
    (
        "Background",
        ("background",),
        "photons per pixel and frame",
        "Light under each localization; light blue, where it is drawn, is what the model was made for.",
    ),
    ("Probability", ("probability",), "probability of being real", "Most of it near 1 is a sure localizer."),
)


def histograms(table: Localizations, ranges: Mapping[str, Range]) -> list[Plate]:
    """Draw the histogram of each quantity that the table has, with the training range, where it is known, in light blue behind."""
    plates = []
    for title, names, label, caption in HISTOGRAMS:
        series = {name: values for name in names if len(values := finite(table, name))}
        if series:
            plates.append(histogram(series, title, label, caption, ranges.get(names[0])))
    return plates


def shows_ranges(table: Localizations, ranges: Mapping[str, Range]) -> bool:
    """Whether a histogram of the table has a training range behind it."""
    return any(names[0] in ranges and len(finite(table, names[0])) > 0 for _, names, _, _ in HISTOGRAMS)


def histogram(series: Mapping[str, np.ndarray], title: str, label: str, caption: str, trained: Range | None = None) -> Plate:
    """Draw one or two histograms over one axis, which ends at the 0.5 % and 99.5 % quantiles, with their medians."""
    low, high = _span(np.concatenate(list(series.values())))
    figure, axes = canvas()
    if trained is not None and trained[1] > low and trained[0] < high:
        axes.axvspan(max(trained[0], low), min(trained[1], high), color=BAND, linewidth=0)
    edges = np.linspace(low, high, 61)
    words = []
    for (name, values), colour in zip(series.items(), (BLUE, ORANGE), strict=False):
        heights, _ = np.histogram(values, edges)
        median = float(np.median(values))
        name_short = name.removesuffix("_nm").replace("_", " ")
        text = f"{name_short}: median {number(median)}" if len(series) > 1 else f"median {number(median)}"
        axes.stairs(heights, edges, color=colour, fill=len(series) == 1, alpha=0.85, linewidth=1.4)
        axes.axvline(median, color=colour if len(series) > 1 else INK, linewidth=1, linestyle=(0, (4, 3)), label=text)
        low_end, high_end = np.quantile(values, (0.05, 0.95))
        words.append(f"{name} has the median {number(median)} and 90 % between {number(low_end)} and {number(high_end)}")
    axes.set(xlim=(low, high), xlabel=label, ylabel="localizations")
    axes.set_ylim(0, 1.18 * axes.get_ylim()[1])
    axes.legend(**LEGEND, loc="upper right")
    _few_ticks(axes)
    return plate_of_figure(figure, title, f"Histogram of {label}: {'; '.join(words)}.", caption)


def counts_over_time(counts: np.ndarray, first_frame: int) -> Plate:
    """Draw the number of localizations per frame over the movie, averaged to at most `TIME_POINTS` points."""
    n = len(counts)
    step = max(1, -(-n // TIME_POINTS))
    starts = np.arange(0, n, step)
    means = np.add.reduceat(counts, starts) / np.diff(np.append(starts, n))
    figure, axes = canvas()
    axes.stairs(means, first_frame + np.append(starts, n), color=BLUE, fill=True, alpha=0.85)
    axes.set(xlabel="frame", ylabel="localizations per frame", xlim=(first_frame, first_frame + n))
    axes.set_ylim(0, max(1.1 * float(means.max()), 1.0))
    _few_ticks(axes, whole=True)
    average = f" Each step is the mean of {step} frames." if step > 1 else ""
    mean, least, most = (number(float(value)) for value in (counts.mean(), means.min(), means.max()))
    alt = f"Localizations per frame over {number(n)} frames: mean {mean}, least {least}, most {most}."
    return plate_of_figure(figure, "Localizations over time", alt, f"A slow fall is bleaching; steps and holes are not.{average}")


def subpixel_curve(table: Localizations, pixel_size_nm: PixelSize) -> Plate:
    """Draw where positions lie inside of the camera pixel, against an even spread."""
    axes_of = [subpixel(table.x_nm, pixel_size_nm[1], "x"), subpixel(table.y_nm, pixel_size_nm[0], "y")]
    figure, axes = canvas()
    edges = np.linspace(0, 1, SUBPIXEL_BINS + 1)
    mean = max(float(axes_of[0].counts.mean()), 1e-9)
    axes.axhspan(1 - 2 / np.sqrt(mean), 1 + 2 / np.sqrt(mean), color=BAND, linewidth=0)
    axes.axhline(1, color=FAINT, linewidth=0.8)
    highest = 1.0
    for flat, colour in zip(axes_of, (BLUE, ORANGE), strict=True):
        relative = flat.counts / max(float(flat.counts.mean()), 1e-9)
        highest = max(highest, float(relative.max()))
        axes.stairs(
            relative,
            edges,
            color=colour,
            linewidth=1.6,
            baseline=None,
            label=f"{flat.axis} ({_unevenness(flat)})",
        )
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.35 * highest),
        xlabel="position inside of the pixel (0 and 1: edges)",
        ylabel="against an even spread",
    )
    axes.legend(**LEGEND, loc="upper right", ncols=2)
    caption = "Should be flat; the band is ± 2 standard deviations of counting. Bumps are a grid artefact. After drift correction "
    return plate_of_figure(figure, "Position inside of the pixel", _subpixel_alt(axes_of), caption + "this check says little.")


def _unevenness(flat: Flatness) -> str:
    """Say how uneven positions lie beyond what counting alone makes of an even spread."""
    percent = f"{100 * flat.contrast:.1f}"
    return "even" if percent == "0.0" else f"uneven by {percent} %"


def _subpixel_alt(axes_of: Sequence[Flatness]) -> str:
    words = "; ".join(f"{flat.axis} {_unevenness(flat)}" for flat in axes_of) + ", beyond counting noise"
    return f"Histogram of positions inside of the camera pixel: {words}."


def subpixel_map(table: Localizations, pixel_size_nm: PixelSize, bins: int = 16) -> Plate:
    """Draw the density of positions inside of the camera pixel as a map."""
    good = np.isfinite(table.x_nm) & np.isfinite(table.y_nm)
    row, column = (np.mod(v[good] / p, 1.0) * bins for v, p in zip((table.y_nm, table.x_nm), pixel_size_nm, strict=True))
    index = np.minimum(row.astype(int), bins - 1) * bins + np.minimum(column.astype(int), bins - 1)
    density = np.bincount(index, minlength=bins * bins).reshape(bins, bins)
    relative = density / max(float(density.mean()), 1e-9)
    figure, axes = canvas()
    shown = axes.imshow(relative, extent=(0, 1, 1, 0), cmap="Blues", vmin=0, vmax=max(2.0, float(np.quantile(relative, 0.99))))
    axes.set(xlabel="x in the pixel", ylabel="y in the pixel", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_anchor("W")
    beside = figure.add_axes((0.68, 0.18, 0.03, 0.79))
    figure.colorbar(shown, cax=beside, label="against an even spread")
    calm(beside)
    beside.spines[:].set_visible(False)
    alt = f"Map of positions inside of the pixel: from {relative.min():.2f} to {relative.max():.2f} times an even spread."
    return plate_of_figure(figure, "The pixel as a map", alt, "Should be one even tone; a dark centre or cross is a grid artefact.")


def residual_histogram(agreements: Sequence[Agreement]) -> Plate:
    """Draw the residuals of all sample frames against the normal curve that pure noise gives."""
    values = np.concatenate([a.residual[np.isfinite(a.residual)] for a in agreements])
    figure, axes = canvas()
    edges = np.linspace(-6, 6, 61)
    heights, _ = np.histogram(np.clip(values, -6, 6), edges)
    axes.stairs(heights / (len(values) * 0.2), edges, color=BLUE, fill=True, alpha=0.85, label="residuals")
    x = np.linspace(-6, 6, 241)
    axes.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color=INK, linewidth=1.2, label="pure noise")
    axes.set(xlabel="(data − model) in standard deviations", ylabel="density of pixels", xlim=(-6, 6), yscale="log", ylim=(1e-5, 2))
    axes.legend(**LEGEND, loc="upper left")
    beyond = float(np.mean(np.abs(values) > 4))
    alt = f"Histogram of residuals over {number(len(values))} pixels: standard deviation {number(float(values.std()))}; "
    alt += f"{100 * beyond:.2g} % lie beyond 4 standard deviations."
    caption = "Wings above the curve are pixels that the model does not explain. The outermost steps hold all that lies beyond 6."
    return plate_of_figure(figure, "All residuals", alt, caption)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Find the ends of an axis: the 0.5 % and 99.5 % quantiles, widened to the data's ends where these are near, never empty."""
    low, high = np.quantile(values, (0.005, 0.995))
    width = high - low
    low, high = max(float(values.min()), low - 0.1 * width), min(float(values.max()), high + 0.1 * width)
    if high - low <= 1e-9 * max(abs(high), 1.0):
        half = 0.05 * abs(high) or 0.5
        return low - half, high + half
    return float(low), float(high)


def _few_ticks(axes: Axes, whole: bool = False) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(tick_label))


def tick_label(value: float, _: int = 0) -> str:
    """Write a tick shortly: 0.5, 250, 2.5k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}".replace("-", "\u2212")
    return f"{value:.4g}".replace("-", "\u2212") if abs(value) > 1e-12 else "0"
