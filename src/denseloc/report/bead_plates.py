"""Drawings of a calibration: beads under their PSF, errors and bounds over depth, the field with its beads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..calibrate.first_guess import mean_bead
from ..calibrate.judge import Judgement
from ..calibrate.psf_fit import PSFFit
from ..fit import crlb
from .plates import BAND, BLUE, DPI, FAINT, INK, ORANGE, Plate, calm, canvas, plate_of_figure
from .plots import LEGEND
from .summary import number

COLUMNS = 9
"""Depths of the montage."""
BEAD_COLUMNS = 5
"""Depths of a bead's own panel."""
PHOTONS, BACKGROUND = 1000.0, 10.0
"""Of the molecule for which the bounds are shown."""
MOST_DOTS = 3000
ROWS = ("data", "model", "residual")


@dataclass(frozen=True, eq=False)
class Residuals:
    """Every bead in every plane beside its model, (n, planes, k, k) photons, with the expected standard deviation of each pixel."""

    data: np.ndarray
    model: np.ndarray
    sigma: np.ndarray

    @classmethod
    def of(cls, found: PSFFit) -> Residuals:
        """Draw the beads of a fit."""
        patches = found.fit.patches
        with torch.no_grad():
            model = found.fit.model(found.build())
            variance = patches.excess[patches.bead][:, None, None, None] * model.clamp(min=0.5) + patches.noise
        return cls(patches.values.numpy(), model.numpy(), variance.clamp(min=1e-3).sqrt().numpy())


def montage(found: PSFFit, residuals: Residuals, plane: int) -> Plate:
    """Draw the mean of the beads, the PSF and what is left over, over depth, in one focal plane."""
    bead, depths = mean_bead(found.fit, found.pixel_size_nm), found.fit.depths()
    shown = _spread(len(depths), COLUMNS)
    stage = found.fit.patches.z_nm.numpy()
    z = torch.from_numpy(np.asarray(depths[shown], np.float32))
    with torch.no_grad():
        model = found.build()(torch.zeros(len(z), 2), z)[:, plane].numpy()
    data = bead.light[shown, plane].numpy()
    left = [_summed(residuals, stage == np.float32(depths[i]), plane) for i in shown]
    figure, axes = _sheet(len(shown), 1.16, 0.62, 0.32)
    for column, i in enumerate(shown):
        top = max(float(model[column].max()), 1e-9)
        _image(axes[0][column], data[column], (0, top))
        _image(axes[1][column], model[column], (0, top))
        _image(axes[2][column], left[column], (-5, 5), "RdBu_r")
        axes[0][column].set_title(f"{depths[i]:.0f} nm".replace("-", "\u2212"), fontsize=9.5, color=INK, pad=4)
    planes = bead.light.shape[1]
    where = f", focal plane {plane + 1} of {planes}" if planes > 1 else ""
    n = len(found.used)
    alt = f"Mean of {n} bead{'s' if n > 1 else ''}, the PSF and the residual at {len(shown)} depths{where}."
    caption = (
        "Each depth has its own grey scale, the same for data and model. Residual: (data − model) / σ of all beads together, from −5 (blue) to "
        "+5 (red); it should be an even, pale grain."
    )
    return plate_of_figure(figure, f"Focal plane {plane + 1}" if planes > 1 else "", alt, caption)


def bead_panel(found: PSFFit, residuals: Residuals, bead: int, label: str) -> Plate:
    """Draw one bead, its model and what is left over at some depths; planes of a multi-plane PSF lie side by side in each picture."""
    mine = np.nonzero(found.fit.patches.bead.numpy() == bead)[0]
    mine = mine[np.argsort(found.fit.patches.z_nm.numpy()[mine])]
    shown = mine[_spread(len(mine), BEAD_COLUMNS, 0.08)]
    figure, axes = _sheet(len(shown), 0.74, 0.62, 0.28)
    for column, i in enumerate(shown):
        data, model, sigma = (_beside(part[i]) for part in (residuals.data, residuals.model, residuals.sigma))
        limits = (float(np.quantile(model, 0.02)), float(max(model.max(), np.quantile(data, 0.998))))
        _image(axes[0][column], data, limits)
        _image(axes[1][column], model, limits)
        _image(axes[2][column], (data - model) / sigma, (-5, 5), "RdBu_r")
        depth = f"{float(found.fit.patches.z_nm[i]):.0f} nm".replace("-", "\u2212")
        axes[0][column].set_title(depth, fontsize=8.5, color=INK, pad=3)
    chi2, photons = found.chi2_of_beads[bead], found.photons[bead]
    height = float(found.fit.heights[bead])
    caption = (
        f"chi2 {chi2:.2f}, {number(photons)} photons, at x {found.x_nm[bead] * 1e-3:.2f} µm, y {found.y_nm[bead] * 1e-3:.2f} µm"
        + (f", {height:+.0f} nm high" if abs(height) >= 0.5 else "")
    )
    return plate_of_figure(figure, label, f"{label}: data, model and residual at {len(shown)} depths; {caption}.", caption)


def field(found: PSFFit, stack: int) -> Plate:
    """Draw the mean over a stack with a numbered box around each bead: used ones in blue, rejected ones in orange."""
    source = found.stacks[stack]
    mean = source.photons.mean((0, 1)).numpy()
    rows, columns = mean.shape
    width = 3.7
    height = float(np.clip(width * rows / columns * found.pixel_size_nm[0] / found.pixel_size_nm[1], 0.8, 7.0))
    figure = Figure(figsize=(4.4, height + 0.55), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.58 / 4.4, 0.45 / (height + 0.55), width / 4.4, height / (height + 0.55)))
    top = float(np.quantile(mean, 0.999))
    axes.imshow(mean, cmap="gray", vmin=float(np.quantile(mean, 0.02)), vmax=top, extent=(0, columns, rows, 0), aspect="auto")
    half = found.options.bead_px / 2
    for n, bead in enumerate(found.beads):
        if bead.stack != stack:
            continue
        colour = "#6fb7ea" if bead.reason is None else "#ff9a3c"
        corner = (bead.column + 0.5 - half, bead.row + 0.5 - half)
        axes.add_patch(Rectangle(corner, 2 * half, 2 * half, fill=False, edgecolor=colour, linewidth=1.1))
        axes.text(corner[0] + 0.6, corner[1] + 0.8, str(n + 1), color=colour, fontsize=8.5, va="top", clip_on=True)
    calm(axes)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)", xlim=(0, columns), ylim=(rows, 0))
    here = [bead for bead in found.beads if bead.stack == stack]
    used = sum(1 for bead in here if bead.reason is None)
    alt = f"Mean over {source.name} with {used} used and {len(here) - used} rejected beads."
    return plate_of_figure(figure, source.name, alt, "Blue: used. Orange: rejected, with the reason in the table.")


# ------------------------------------------------------------------------------------------------------------------ curves over depth


def wobble(judgement: Judgement) -> Plate:
    """Draw how far the centre of the PSF moves sideways with depth."""
    z = judgement.depths_nm
    figure, axes = canvas()
    axes.axhline(0, color=FAINT, linewidth=0.8)
    for values, name, colour in zip(judgement.wobble_nm.T, ("x", "y"), (BLUE, ORANGE), strict=True):
        axes.plot(z, values, color=colour, linewidth=1.5, label=name)
    _over_depth(axes, judgement, "centre of light (nm)")
    axes.legend(**LEGEND, loc="best", ncols=2)
    reach = np.abs(judgement.wobble_nm[judgement.usable]).max(0, initial=0.0)
    alt = f"Centre of the PSF against depth: up to {reach[0]:.0f} nm in x and {reach[1]:.0f} nm in y within the usable range."
    caption = (
        "Relative to that at z = 0. The PSF contains it, so that localizations do not. A straight line is drift or a tilted axis."
    )
    return plate_of_figure(figure, "Lateral wobble", alt, caption)


def errors(judgement: Judgement, names: str) -> Plate:
    """Draw the errors of the beads' localizations against depth, with the band of the Cramer-Rao bound and the usable range."""
    spots = judgement.localizations
    good = spots.converged
    if spots.z_nm is None or judgement.z_rmse_nm is None:
        error, stage, bound, axis = spots.x_nm, spots.stage_nm, spots.crlb_x_nm, "x"
    else:
        assert spots.crlb_z_nm is not None
        error, stage, bound, axis = spots.z_nm - spots.stage_nm, spots.stage_nm, spots.crlb_z_nm, "z"
    picked = np.nonzero(good)[0]
    picked = picked[_spread(len(picked), MOST_DOTS)] if len(picked) else picked
    figure, axes = canvas()
    order = picked[np.argsort(stage[picked])]
    axes.fill_between(stage[order], -bound[order], bound[order], color=BAND, linewidth=0, label="± bound (CRLB)")
    axes.plot(stage[picked], error[picked], ".", color=BLUE, markersize=2.2, alpha=0.6, label=names)
    if judgement.z_bias_nm is not None:
        axes.plot(judgement.depths_nm, judgement.z_bias_nm, color=ORANGE, linewidth=1.3, label="mean")
    within = error[picked][(stage[picked] >= judgement.usable_nm[0]) & (stage[picked] <= judgement.usable_nm[1])]
    reach = float(np.quantile(np.abs(within), 0.995)) if len(within) else 1.0
    low, high = judgement.usable_nm
    axes.set_ylim(-1.3 * reach, 1.9 * reach)
    _over_depth(axes, judgement, f"{axis} found − {axis} of the bead (nm)")
    axes.legend(**LEGEND, loc="upper center", ncols=3, markerscale=3)
    rms = float(np.sqrt(np.mean(within**2))) if len(within) else float("nan")
    text = f"Errors of {axis} against depth: {rms:.1f} nm (root mean square) from {low:.0f} to {high:.0f} nm, the usable range."
    caption = f"{axis} can be trusted from {low:.0f} to {high:.0f} nm (white): there the error is near its bound or below 20 nm."
    return plate_of_figure(figure, f"Error of {axis}", text, caption.replace("-", "\u2212"))


def bounds(found: PSFFit, judgement: Judgement) -> Plate:
    """Draw the Cramer-Rao bounds of x, y and z of a molecule against depth."""
    psf = found.build()
    z = np.linspace(judgement.depths_nm[0], judgement.depths_nm[-1], 61)
    middle = [(psf.roi_px // 2 + 0.5) * side for side in psf.pixel_size_nm[::-1]]
    positions = torch.tensor([[[*middle, depth]] for depth in z], dtype=torch.float64)
    best = crlb(psf, positions, PHOTONS, BACKGROUND, window_px=(psf.roi_px, psf.roi_px))
    curves = {"x": (best.x_nm, BLUE), "y": (best.y_nm, ORANGE), "z": (best.z_nm, INK)}
    figure, axes = canvas()
    typical = []
    for name, (values, colour) in curves.items():
        if values is None:
            continue
        bound = values[:, 0].numpy()
        axes.plot(z, bound, color=colour, linewidth=1.5, label=name)
        inside = bound[(z >= judgement.usable_nm[0]) & (z <= judgement.usable_nm[1]) & np.isfinite(bound)]
        if len(inside):
            typical.append((name, float(np.median(inside)), float(inside.max())))
    axes.set_ylim(0, 1.45 * max((most for _, _, most in typical), default=1.0))
    _over_depth(axes, judgement, "standard deviation (nm)")
    axes.legend(**LEGEND, loc="upper center", ncols=3)
    words = ", ".join(f"{name} {middle:.1f} nm" for name, middle, _ in typical)
    alt = f"Cramer-Rao bounds against depth for {PHOTONS:.0f} photons and background {BACKGROUND:.0f}: medians {words}."
    caption = f"{PHOTONS:.0f} photons, {BACKGROUND:.0f} background photons per pixel, an ideal camera; medians: {words}."
    return plate_of_figure(figure, "The best that a molecule allows (CRLB)", alt, caption)


def _over_depth(axes: Axes, judgement: Judgement, label: str) -> None:
    """Set the axis of depth, and shade what lies beyond the usable range."""
    z, (low, high) = judgement.depths_nm, judgement.usable_nm
    first, last = float(z[0]), float(z[-1])
    if last <= first:
        first, last = first - 1, last + 1
    for start, end in ((first, low), (high, last)):
        axes.axvspan(start, end, color="#f0f1f3", linewidth=0, zorder=0)
    axes.set(xlabel="z (nm)", ylabel=label, xlim=(first, last))


# ------------------------------------------------------------------------------------------------------------------------- pictures


def _sheet(columns: int, cell: float, left: float, top: float) -> tuple[Figure, list[list[Axes]]]:
    """Make three rows of pictures with their names at the left; lengths in inches."""
    gap = 0.06
    width, height = left + columns * (cell + gap), top + 3 * (cell + gap)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    axes = []
    for row, name in enumerate(ROWS):
        bottom = height - top - (row + 1) * (cell + gap) + gap
        axes.append(
            [
                figure.add_axes(((left + i * (cell + gap)) / width, bottom / height, cell / width, cell / height))
                for i in range(columns)
            ]
        )
        figure.text((left - 0.08) / width, (bottom + cell / 2) / height, name, ha="right", va="center", fontsize=9, color=INK)
    return figure, axes


def _image(axes: Axes, pixels: np.ndarray, limits: tuple[float, float], colours: str = "gray") -> None:
    axes.imshow(pixels, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _spread(n: int, most: int, rim: float = 0.0) -> np.ndarray:
    """Choose up to ``most`` of n numbers, evenly spread, leaving out a part at each end."""
    return np.unique(np.linspace(rim * (n - 1), (1 - rim) * (n - 1), min(most, n)).round().astype(int))


def _summed(residuals: Residuals, rows: np.ndarray, plane: int) -> np.ndarray:
    """Residual of several pictures together, in standard deviations of their sum."""
    difference = (residuals.data[rows, plane] - residuals.model[rows, plane]).sum(0)
    return np.asarray(difference / np.sqrt((residuals.sigma[rows, plane] ** 2).sum(0)))


def _beside(planes: np.ndarray) -> np.ndarray:
    """Lay focal planes (planes, k, k) side by side."""
    return np.concatenate(list(planes), axis=1)
