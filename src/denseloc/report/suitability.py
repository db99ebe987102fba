"""The page of a check: verdict, what to do, and the movie beside scenes drawn from the model's own document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .. import __version__
from ..suitability import Checked, Evidence, Suitability
from ..suitability.numbers import LAGS, correlation
from ..suitability.views import View
from .plates import BAND, BLUE, DPI, ORANGE, Plate, calm, canvas, plate_of_figure
from .plots import LEGEND
from .rendering import rendered
from .summary import number

HEADLINES = {
    "pass": "The model suits this movie",
    "warn": "The model suits this movie with reservations",
    "fail": "The model does not suit this movie",
}
TONES = {"pass": "good", "warn": "warn", "fail": "warn"}
PAIRS = 3
BARS = 40
COLUMNS = (
    ("photons", "Photons", "photons per localization"),
    ("background", "Background", "photons per pixel"),
    ("sigma_x_nm", "Sigma in x", "standard deviation (nm)"),
    ("sigma_z_nm", "Sigma in z", "standard deviation of z (nm)"),
    ("z_nm", "Depth", "z (nm)"),
)


def check_page(checked: Checked, title: str, run: Mapping[str, str]) -> str:
    """Draw a check as one HTML page without scripts that needs no network."""
    suits, evidence = checked.suitability, checked.evidence
    context: dict[str, Any] = {
        "title": title,
        "version": __version__,
        "tone": TONES[suits.verdict],
        "verdict": HEADLINES[suits.verdict],
        "findings": [capital(finding.text) for finding in suits.findings],
        "notes": [capital(note) for note in suits.notes],
        "frames": frames_beside(evidence) if evidence else [],
        "residuals": residual_maps(evidence) if evidence else [],
        "histograms": histograms(evidence) if evidence else [],
        "rows": rows(suits),
        "scores": [(kind, f"{mine:.2f}", f"{usual:.2f}") for kind, (mine, usual) in suits.told_apart.items()],
        "run": dict(run),
    }
    return rendered("suitability.html", context)


def capital(text: str) -> str:
    """Write a sentence with a capital letter and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def rows(suits: Suitability) -> list[tuple[str, str, str, str, str]]:
    """Give the numbers in words: what, movie, drawn scenes, trained range, unit."""

    def word(value: float) -> str:
        return "" if not np.isfinite(value) else f"{value:.3g}".replace("-", "\u2212") if abs(value) < 1000 else number(value)

    return [
        (
            one.name,
            word(one.movie),
            with_error(one.drawn, one.spread) if one.spread and np.isfinite(one.drawn) else word(one.drawn),
            "" if one.trained is None else f"{word(one.trained[0])} to {word(one.trained[1])}",
            one.unit,
        )
        for one in suits.compared
    ]


def with_error(value: float, error: float) -> str:
    """Write a number with its standard error to the two digits of the error that mean something."""
    places = min(6, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:,.{places}f} ± {error:,.{places}f}".replace(",", "\u2009").replace("-", "\u2212")


def frames_beside(evidence: Evidence) -> list[Plate]:
    """Draw frames of the movie, what the model expects of them, and frames drawn from the document, all on one scale."""
    movie, drawn = evidence.movie, evidence.drawn[0] if evidence.drawn else None
    n = len(movie.photons)
    picked = np.unique(np.linspace(0, n - 1, min(PAIRS, n)).astype(int))
    low, high = (float(end) for end in np.quantile(movie.photons[picked], (0.01, 0.998)))
    plates = []
    for frame in picked:
        shown = [("movie", movie.photons[frame, 0]), ("model", movie.expected[frame, 0])]
        shown += [] if drawn is None else [("drawn", drawn.photons[frame, 0])]
        figure = Figure(figsize=(3.0 * len(shown), 3.1), dpi=DPI // 2 + 20, facecolor="white")
        for i, (name, values) in enumerate(shown):
            axes = figure.add_subplot(1, len(shown), i + 1)
            axes.imshow(values, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            axes.set_title(name, fontsize=9)
            axes.set_axis_off()
        figure.subplots_adjust(left=0.01, right=0.99, top=0.92, bottom=0.01, wspace=0.03)
        alt = f"Frame {frame + 1} of those looked at: the movie, the model's picture of it"
        alt += ", and a frame drawn from the model's document." if drawn else "."
        caption = (
            "Movie, the model's picture of it, and another frame drawn from its document."
            if drawn
            else "Movie, and the model's picture of it."
        )
        plates.append(plate_of_figure(figure, "", alt, caption))
    return plates


def residual_maps(evidence: Evidence) -> list[Plate]:
    """Draw the mean residual around molecules and the autocorrelation of the residual, of movie and drawn scene."""
    views = [("movie", evidence.movie), *([("drawn", evidence.drawn[0])] if evidence.drawn else [])]
    around = [(name, mean_residual(view)) for name, view in views]
    plates = []
    if all(values is not None for _, values in around):
        top = max(0.3, *(float(np.abs(values).max()) for _, values in around))  # type: ignore[arg-type]
        caption = "Mean of (data − model) in standard deviations. Even in both: the PSF is right. Rings: it is wider or narrower."
        plates.append(_maps(around, top, "Residual around molecules", caption))
    spread = []
    for name, view in views:
        values = correlation(view).copy()
        values[LAGS, LAGS] = 0.0
        spread.append((name, values))
    top = max(0.1, *(float(np.abs(values).max()) for _, values in spread))
    caption = "By how much residuals of pixels that far apart go together; the middle is left out. "
    caption += "Should look alike." if len(views) > 1 else "Should be near 0."
    plates.append(_maps(spread, top, "Autocorrelation of the residual", caption))
    return plates


def mean_residual(view: View, half: int = 6) -> np.ndarray | None:
    """Average the residual around localizations, (2 half + 1, 2 half + 1); None where there are too few."""
    table = view.counted
    if not len(table) or min(view.scene.shape_px) < 2 * half + 1:
        return None
    rows, columns = (
        np.clip((v / p).astype(int), half, side - 1 - half)
        for v, p, side in zip((table.y_nm, table.x_nm), view.pixel_size_nm, view.scene.shape_px, strict=True)
    )
    step = np.arange(-half, half + 1)
    patches = view.residual[:, 0][table.frame[:, None, None], rows[:, None, None] + step[:, None], columns[:, None, None] + step]
    return np.asarray(np.clip(patches, -8, 8).mean(0))


def _maps(named: list[tuple[str, Any]], top: float, title: str, caption: str) -> Plate:
    figure = Figure(figsize=(4.4, 2.3), dpi=DPI, facecolor="white")
    for i, (name, values) in enumerate(named):
        axes = figure.add_axes((0.02 + 0.42 * i, 0.03, 0.4, 0.82))
        shown = axes.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top)
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
    beside = figure.add_axes((0.87, 0.08, 0.025, 0.7))
    figure.colorbar(shown, cax=beside)
    calm(beside)
    words = "; ".join(f"{name} from {values.min():.2f} to {values.max():.2f}" for name, values in named)
    return plate_of_figure(figure, title, f"{title}: {words}.", caption)


def histograms(evidence: Evidence) -> list[Plate]:
    """Draw what the model says of movie and drawn scenes over each other, with the training range behind."""
    movie = evidence.movie.counted
    ranges = evidence.trained
    limits = {"background": ranges.background, "z_nm": ranges.z_nm, "photons": (0.0, ranges.photons[1])}
    plates = []
    for name, title, label in COLUMNS:
        if name not in movie or not len(movie) or (name.endswith("z_nm") and ranges.z_nm is None):
            continue
        drawn = np.concatenate([view.counted.columns[name] for view in evidence.drawn]) if evidence.drawn else np.empty(0)
        plates.append(_histogram(movie.columns[name], drawn, title, label, limits.get(name)))
    for axis, pixel in zip("xy", evidence.movie.pixel_size_nm[::-1], strict=True):
        values = [np.mod(view.counted.columns[f"{axis}_nm"] / pixel, 1.0) for view in (evidence.movie, *evidence.drawn)]
        if len(values[0]):
            others = np.concatenate(values[1:]) if len(values) > 1 else np.empty(0)
            plates.append(_histogram(values[0], others, f"Place inside of the pixel, {axis}", "0 and 1 are edges", None, 16))
    return plates


def _histogram(
    movie: np.ndarray, drawn: np.ndarray, title: str, label: str, trained: tuple[float, float] | None, bars: int = BARS
) -> Plate:
    movie, drawn = (values[np.isfinite(values)] for values in (movie, drawn))
    ends = [np.quantile(values, (0.005, 0.99)) for values in (movie, drawn) if len(values)] or [np.array([0.0, 1.0])]
    low, high = min(float(end[0]) for end in ends), max(float(end[1]) for end in ends)
    high = high if high > low else low + 1.0
    edges = np.linspace(low, high, bars + 1)
    figure, axes = canvas()
    if trained is not None and trained[1] > low and trained[0] < high:
        axes.axvspan(max(trained[0], low), min(trained[1], high), color=BAND, linewidth=0)
    words = []
    for name, values, colour, filled in (("movie", movie, BLUE, True), ("drawn", drawn, ORANGE, False)):
        if len(values):
            heights = np.histogram(values, edges)[0] / (len(values) * (edges[1] - edges[0]))
            axes.stairs(heights, edges, color=colour, fill=filled, alpha=0.8 if filled else 1.0, linewidth=1.5, label=name)
            words.append(f"{name} median {number(float(np.median(values)))}")
    axes.set(xlim=(low, high), xlabel=label, ylabel="density", yticks=[])
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
    axes.legend(**LEGEND, loc="upper right")
    return plate_of_figure(
        figure, title, f"{title}: {', '.join(words)}.", "Light blue: what the model was trained on." if trained else ""
    )
