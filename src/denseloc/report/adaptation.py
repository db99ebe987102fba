"""The page of an adaptation: what changed, whether the movie is explained better, and the frames to see it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from .. import __version__
from ..optics import PSF
from .plates import BLUE, DPI, FAINT, INK, ORANGE, Plate, canvas, plate_of_figure
from .rendering import rendered

DEPTHS = 5
QUALITY = {
    "per_frame": "localizations in a frame of a window",
    "probability": "their probability, mean",
    "sigma_nm": "their lateral sigma, median (nm)",
    "photons": "their photons, median",
    "chi2": "chi2 per pixel (1 is ideal)",
}
THETA = {
    "background, factor": "background over the measured one",
    "noise variance, factor": "variance of the noise over the camera's",
    "density per um2": "emitters per µm² and frame",
    "photons, median": "photons of an emitter, median",
    "photons, spread of the logarithm": "spread of the logarithm of the photons",
    "z, mean in nm": "depth, mean (nm)",
    "z, spread in nm": "depth, spread (nm)",
    "largest change of the maps": "largest change of the PSF's maps (fraction of its peak)",
}
"""What was learned, in words; what is not listed is a key of the document's PSF."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some held-out frames, what a model makes of them, and the residual in standard deviations; (n, rows, columns) each."""

    data: np.ndarray
    model: np.ndarray
    residual: np.ndarray


def adaptation_page(
    *,
    title: str,
    refused: str | None,
    warnings: Sequence[str],
    gain: tuple[float, float],
    network_gain: tuple[float, float],
    theta: tuple[Mapping[str, float], Mapping[str, float]],
    quality: tuple[Mapping[str, float], Mapping[str, float]],
    psfs: tuple[PSF, PSF],
    depths_nm: tuple[float, float],
    history: Sequence[Mapping[str, Any]],
    kept_step: int,
    frames: tuple[Pictures, Pictures],
    run: Mapping[str, str],
) -> str:
    """Draw the page as one HTML page without scripts that needs no network.

    Args:
        title: heading.
        refused: why no model was written, or None.
        warnings: what the user should know.
        gain: of the held-out bound in nats per frame, and its standard error.
        network_gain: the same of the network alone.
        theta: what was learned, before and after, by name.
        quality: what the models make of the held-out frames, before and after.
        psfs: before and after.
        depths_nm: (low, high) at which they are drawn.
        history: of the checks.
        kept_step: round whose state is kept.
        frames: before and after.
        run: what was done, in the order to show.
    """
    return rendered(
        "adaptation.html",
        {
            "title": title,
            "version": __version__,
            "tone": "warn" if refused or warnings else "good",
            "verdict": "No model was written" if refused else "The adapted model explains held-out frames better",
            "warnings": ([refused] if refused else []) + list(warnings),
            "facts": [
                (f"{gain[0]:+.2f} ± {gain[1]:.2f}".replace("-", "\u2212"), "nats", "gain of the bound, per frame that judges"),
                (
                    f"{network_gain[0]:+.2f} ± {network_gain[1]:.2f}".replace("-", "\u2212"),
                    "nats",
                    "the new network against the old one, both with the new PSF",
                ),
            ],
            "theta": learned_rows(*theta),
            "quality": quality_rows(*quality),
            "psf": psf_plate(*psfs, depths_nm),
            "curve": curve_plate(history, kept_step),
            "frames": frames_plate(*frames),
            "run": run,
        },
    )


def learned_rows(before: Mapping[str, float], after: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Say what was learned: name, before, after."""
    return _rows(before, after, {name: THETA.get(name, f"psf.{name}") for name in after})


def quality_rows(before: Mapping[str, float], after: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Say what the models make of held-out frames: name, before, after."""
    return _rows(before, after, QUALITY)


def _rows(before: Mapping[str, float], after: Mapping[str, float], words: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(words[name], _number(before[name]), _number(after[name])) for name in after if name in before]


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "\u2212")


@torch.no_grad()
def psf_plate(before: PSF, after: PSF, depths_nm: tuple[float, float]) -> Plate:
    """Draw the PSF at some depths before and after, and their difference."""
    low, high = depths_nm
    depths = np.linspace(low, high, DEPTHS if high > low else 1)
    z = torch.tensor(depths, dtype=torch.float32)
    first, second = (psf(torch.zeros(len(z), 2), z)[:, 0].numpy() for psf in (before, after))
    top = float(max(first.max(), second.max()))
    most = max(float(np.abs(second - first).max()), 1e-9)
    figure, axes = _sheet(3, len(depths), 1.1)
    for column, depth in enumerate(depths):
        rows = (
            (first[column], "gray", 0.0, top),
            (second[column], "gray", 0.0, top),
            (second[column] - first[column], "RdBu_r", -most, most),
        )
        for row, (pixels, colours, floor, ceiling) in enumerate(rows):
            axes[row][column].imshow(pixels, cmap=colours, vmin=floor, vmax=ceiling, interpolation="nearest")
        if len(depths) > 1:
            axes[0][column].set_title(f"{depth:.0f} nm".replace("-", "\u2212"), fontsize=9, color=INK, pad=3)
    for row, name in enumerate(("before", "after", "change")):
        axes[row][0].set_ylabel(name, fontsize=9, color=INK)
    where = f"{len(depths)} depths" if len(depths) > 1 else "one depth"
    alt = f"The PSF before and after at {where}; it changed by at most {100 * most / top:.1f} % of its peak."
    return plate_of_figure(
        figure, "PSF", alt, f"Largest change {100 * most / top:.1f} % of the peak; red is more light than before."
    )


def curve_plate(history: Sequence[Mapping[str, Any]], kept_step: int) -> Plate:
    """Draw the gain of the held-out bound over the rounds, and mark the state that is kept."""
    figure, axes = canvas()
    steps, gains = [entry["step"] for entry in history], [entry["gain"] for entry in history]
    axes.plot(steps, gains, "o-", color=BLUE, markersize=3.5, linewidth=1.3)
    kept = steps.index(kept_step)
    axes.plot(steps[kept], gains[kept], "o", color=ORANGE, markersize=6)
    axes.axhline(0, color=FAINT, linewidth=0.7)
    axes.set(xlabel="round", ylabel="gain (nats per frame)")
    alt = f"Gain of the held-out bound over {steps[-1]} rounds; {gains[kept]:.2f} nats per frame after {steps[kept]}, whose state is kept."
    caption = "Orange: the state that is kept. These frames had a part in choosing it, so that it looks better than it is; others judge it, above."
    return plate_of_figure(figure, "Bound of the frames that choose", alt, caption)


def frames_plate(before: Pictures, after: Pictures) -> Plate:
    """Draw held-out frames beside what the models make of them."""
    n = len(before.data)
    figure, axes = _sheet(n, 5, 1.5)
    for row in range(n):
        low, high = (float(v) for v in np.quantile(before.data[row], (0.01, 0.998)))
        shown = (before.data[row], before.model[row], after.model[row])
        for column, pixels in enumerate(shown):
            axes[row][column].imshow(pixels, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
        for column, pixels in ((3, before.residual[row]), (4, after.residual[row])):
            axes[row][column].imshow(pixels, cmap="RdBu_r", vmin=-5, vmax=5, interpolation="nearest")
    for column, name in enumerate(("frame", "before", "after", "residual before", "residual after")):
        axes[0][column].set_title(name, fontsize=9, color=INK, pad=3)
    rms = [float(np.sqrt(np.mean(np.clip(one.residual, -6, 6) ** 2))) for one in (before, after)]
    alt = f"{n} held-out frames, the models' pictures and residuals; root mean square residual {rms[0]:.2f} before, {rms[1]:.2f} after."
    caption = (
        "From the fullest to a middling one. Residual: (frame − model) / σ from −5 (blue) to +5 (red); it should be an even grain. The rim holds "
        "light from outside."
    )
    return plate_of_figure(figure, "Held-out frames", alt, caption)


def _sheet(rows: int, columns: int, cell: float) -> tuple[Figure, Any]:
    """Make a sheet of empty pictures; lengths in inches."""
    figure = Figure(figsize=(columns * cell + 0.3, rows * cell + 0.3), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
        one.spines[:].set_visible(False)
    return figure, axes
