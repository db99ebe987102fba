"""Drawings of an inspection: noise against light, background in space and time, photons, how long light stays, depths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy import stats

from ..calibrate.blinking import Lifetime
from ..calibrate.conditions import Conditions
from ..calibrate.depth import Depths
from ..calibrate.light import BackgroundInTime, DarkestGamma, PhotonFit
from ..calibrate.photon_transfer import NoisePoints
from ..calibrate.series import CameraMaps
from ..units import PixelSize
from .plates import BAND, BLUE, DPI, FAINT, INK, ORANGE, Plate, calm, canvas, plate_of_figure
from .plots import LEGEND, tick_label
from .summary import number

BARS = 40


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the page draws.

    Args:
        found: camera and conditions.
        pixel_size_nm: (y, x).
        points: variance of the noise in bins of brightness, or None for frames too small.
        background: (y, x) photons per pixel and frame.
        in_time: background over the movie, or None for a movie too short.
        darkest: law of the darkest pixels, or None.
        darkest_counts: (n,) their counts above the offset.
        photons: (n,) of isolated spots.
        law: fitted to them, or None for too few.
        lifetime: or None for a movie too short.
        depths: of isolated spots, where a PSF was given.
        maps: of the camera, where series were given.
    """

    found: Conditions
    pixel_size_nm: PixelSize
    points: NoisePoints | None
    background: np.ndarray
    in_time: BackgroundInTime | None
    darkest: DarkestGamma | None
    darkest_counts: np.ndarray
    photons: np.ndarray
    law: PhotonFit | None
    lifetime: Lifetime | None
    depths: Depths | None
    maps: CameraMaps | None


def of_camera(evidence: Evidence) -> list[Plate]:
    """Draw noise against light, and the maps of the camera where there are any."""
    drawn = [] if evidence.points is None else [transfer(evidence.points, evidence.found)]
    maps = evidence.maps
    if maps is not None:
        drawn.append(
            _map(
                maps.offset, "Offset of each pixel", "counts", "Dark series. Stripes are amplifiers; single bright pixels are hot."
            )
        )
        drawn.append(_map(np.sqrt(maps.variance), "Read noise of each pixel", "counts", "Standard deviation in the dark series."))
        if maps.gain is not None:
            caption = "Variance per count of light in the bright series, drawn towards its mean by what chance alone scatters."
            drawn.append(_map(maps.gain, "Slope of each pixel", "counts", caption))
    return drawn


def of_background(evidence: Evidence) -> list[Plate]:
    """Draw the background in space, in time and in the darkest places."""
    caption = "Smooth map over the movie. Where molecules cover a place in most frames it is too high."
    drawn = [_map(evidence.background, "Background over the field", "photons per pixel", caption)]
    if evidence.in_time is not None:
        drawn.append(over_time(evidence.in_time))
    if evidence.darkest is not None:
        drawn.append(darkest(evidence.darkest_counts, evidence.darkest, evidence.found.counts_per_photon.value))
    return drawn


def of_molecules(evidence: Evidence) -> list[Plate]:
    """Draw photons, how long light stays, and depths."""
    drawn = [] if len(evidence.photons) < 5 else [photons(evidence.photons, evidence.law)]
    if evidence.lifetime is not None:
        drawn.append(staying(evidence.lifetime))
    if evidence.depths is not None:
        drawn.append(depths(evidence.depths))
    return drawn


def transfer(points: NoisePoints, found: Conditions) -> Plate:
    """Draw the variance of the noise against the local brightness, with the line of the camera found."""
    gain, excess, offset = found.counts_per_photon, found.excess.value, found.offset_counts.value
    noise = found.noise_variance.value * gain.value**2
    figure, axes = canvas()
    axes.errorbar(
        points.mean, points.variance, 2 * points.sigma, fmt="o", color=BLUE, markersize=3.5, linewidth=1, label="movie, ± 2 σ"
    )
    x = np.array([min(offset, points.mean.min()), points.mean.max()])
    axes.plot(x, excess * gain.value * (x - offset) + noise, color=ORANGE, linewidth=1.4, label="the camera found")
    axes.axvline(offset, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), label=f"offset {offset:.4g}")
    axes.set(xlabel="local brightness (counts)", ylabel="variance of the noise (counts²)")
    axes.set_ylim(0, 1.05 * float((points.variance + 2 * points.sigma).max()))
    axes.legend(**LEGEND, loc="upper left")
    _ticks(axes)
    alt = f"Variance of the noise against brightness in {len(points.mean)} bins, and a line of slope {excess * gain.value:.4g} counts."
    caption = (
        "The slope is gain times excess noise. Where the points end far right of the offset, the movie hardly shows the offset."
    )
    return plate_of_figure(figure, "Photon transfer", alt, caption)


def over_time(in_time: BackgroundInTime) -> Plate:
    """Draw the background of sliding windows and their straight line."""
    figure, axes = canvas()
    axes.plot(in_time.frame, in_time.photons, "o-", color=BLUE, markersize=3.5, linewidth=1.2)
    slope, first = np.polyfit(in_time.frame, in_time.photons, 1)
    axes.plot(in_time.frame, first + slope * in_time.frame, color=ORANGE, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set(xlabel="frame", ylabel="photons per pixel")
    axes.set_ylim(0, 1.2 * max(float(in_time.photons.max()), 1e-6))
    _ticks(axes)
    change = in_time.change
    words = f"{100 * change.value:+.1f} % over the movie ({100 * change.low:+.1f} to {100 * change.high:+.1f} %)".replace(
        "-", "\u2212"
    )
    alt = (
        f"Background in {len(in_time.frame)} windows: from {in_time.photons[0]:.3g} to {in_time.photons[-1]:.3g} photons, {words}."
    )
    return plate_of_figure(figure, "Background over time", alt, f"Median over the field, in windows of 12 frames: {words}.")


def darkest(counts: np.ndarray, law: DarkestGamma, gain: float) -> Plate:
    """Draw the histogram of the darkest pixels with its gamma law."""
    figure, axes = canvas()
    mean = law.mean.value * gain
    low, high = (float(end) for end in np.quantile(counts, (0.001, 0.998)))
    edges = np.linspace(low, max(high, low + 1e-6), BARS + 1)
    if high - low < 4 * BARS:  # whole counts would make a comb of narrow bars
        edges = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1, max(1.0, np.ceil((high - low) / BARS)))
    axes.stairs(
        np.histogram(counts, edges, density=True)[0], edges, color=BLUE, fill=True, alpha=0.85, label="darkest 10 % of the pixels"
    )
    x = np.linspace(max(edges[0], 1e-3), edges[-1], 300)
    axes.plot(x, stats.gamma(mean / law.scale.value, scale=law.scale.value).pdf(x), color=ORANGE, linewidth=1.4, label="gamma law")
    axes.set(xlabel="counts above the offset", ylabel="density")
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(**LEGEND, loc="upper right")
    _ticks(axes)
    alt = (
        f"Histogram of the darkest pixels: mean {law.mean.value:.3g} photons, scale of the gamma law {law.scale.value:.3g} counts."
    )
    caption = f"Mean {law.mean.value:.3g} photons per pixel ({law.mean.low:.3g} to {law.mean.high:.3g})."
    return plate_of_figure(figure, "The darkest places", alt, caption)


def photons(values: np.ndarray, law: PhotonFit | None) -> Plate:
    """Draw the photons of isolated spots with their law."""
    figure, axes = canvas()
    edges = np.linspace(0, float(np.quantile(values, 0.995)) * 1.1, BARS + 1)
    heights = np.histogram(values, edges)[0]
    axes.stairs(heights, edges, color=BLUE, fill=True, alpha=0.85, label=f"{len(values)} isolated spots")
    caption = "Bright spots that stand alone. "
    if law is not None:
        spread = law.sd.value / law.mean.value
        if law.family == "gamma":
            shape = stats.gamma(1 / spread**2, scale=law.mean.value * spread**2)
        else:
            log_sd = float(np.sqrt(np.log1p(spread**2)))
            shape = stats.lognorm(log_sd, scale=law.mean.value * np.exp(-(log_sd**2) / 2))
        x = np.linspace(edges[1] / 20, edges[-1], 300)
        seen = float(shape.sf(law.least))
        axes.plot(
            x,
            shape.pdf(x) / max(seen, 1e-6) * law.spots * (edges[1] - edges[0]),
            color=ORANGE,
            linewidth=1.4,
            label=f"{law.family} law",
        )
        axes.axvline(law.least, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), label="dimmer ones not looked at")
        caption += f"The law has mean {number(law.mean.value)} and standard deviation {number(law.sd.value)}; it is fitted as cut off at the line."
    else:
        caption += "Too few of them stand alone for a law."
    axes.set(xlabel="photons in a frame", ylabel="spots", xlim=(0, edges[-1]))
    axes.set_ylim(0, 1.45 * max(float(heights.max()), 1.0))
    axes.legend(**LEGEND, loc="upper right")
    _ticks(axes)
    alt = f"Histogram of the photons of {len(values)} isolated spots: median {number(float(np.median(values)))}."
    return plate_of_figure(figure, "Photons of a molecule in a frame", alt, caption)


def staying(lifetime: Lifetime) -> Plate:
    """Draw how alike the light of frames k apart is, and the decay of the lifetime found."""
    figure, axes = canvas()
    lag = np.arange(1, len(lifetime.covariance) + 1)
    scale = max(float(np.abs(lifetime.covariance).max()), 1e-30)
    values, sigma = lifetime.covariance / scale, lifetime.sigma / scale
    axes.errorbar(lag, values, 2 * sigma, fmt="o", color=BLUE, markersize=3.5, linewidth=1, label="movie, ± 2 σ")
    frames = lifetime.frames
    if frames.value > 0:
        shape = np.exp(-(lag - 1) / frames.value)
        if np.ptp(shape) > 0:
            amplitude, floor = np.polyfit(shape, values, 1, w=1 / np.maximum(sigma, 0.1 * np.median(sigma) + 1e-12))
            x = np.linspace(1, lag[-1], 300)
            axes.plot(
                x,
                floor + amplitude * np.exp(-(x - 1) / frames.value),
                color=ORANGE,
                linewidth=1.4,
                label=f"{frames.value:.3g} frames",
            )
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set(xlabel="frames apart", ylabel="covariance of the light")
    axes.legend(**LEGEND, loc="upper right")
    _ticks(axes, whole=True)
    high = "open" if not np.isfinite(frames.high) else f"{frames.high:.3g}"
    words = f"on for {frames.value:.3g} frames on average ({frames.low:.3g} to {high})"
    caption = f"Molecules are {words}. Times of being on are taken to be exponential; the level that stays is bleaching, drift and structure."
    return plate_of_figure(figure, "How long molecules are on", f"Covariance of frames up to {lag[-1]} apart: {words}.", caption)


def depths(found: Depths) -> Plate:
    """Draw the depths of isolated spots with their quantiles."""
    figure, axes = canvas()
    heights, edges = np.histogram(found.z_nm, 30)
    axes.axvspan(found.low.value, found.high.value, color=BAND, linewidth=0)
    axes.stairs(heights, edges, color=BLUE, fill=True, alpha=0.85)
    axes.axvline(found.middle.value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlabel="z (nm)", ylabel="spots")
    _ticks(axes)
    words = f"5 % {found.low.value:.0f} nm, median {found.middle.value:.0f} nm, 95 % {found.high.value:.0f} nm".replace(
        "-", "\u2212"
    )
    caption = f"{len(found.z_nm)} of {found.tried} isolated spots: {words}. Each is known to about {found.crlb_nm:.0f} nm, which is in the spread."
    return plate_of_figure(figure, "Depth", f"Histogram of depths: {words}.", caption)


def _map(values: np.ndarray, title: str, unit: str, caption: str) -> Plate:
    """Draw a map of the field in pixels, with a scale beside it."""
    rows, columns = values.shape
    room = (2.9, 3.0)
    scale = min(room[0] / columns, room[1] / rows)
    width, height = columns * scale, rows * scale
    figure = Figure(figsize=(4.4, height + 0.6), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.6 / 4.4, 0.48 / (height + 0.6), width / 4.4, height / (height + 0.6)))
    low, high = (float(end) for end in np.quantile(values, (0.005, 0.995)))
    shown = axes.imshow(values, cmap="viridis", vmin=low, vmax=max(high, low + 1e-6), extent=(0, columns, rows, 0), aspect="auto")
    calm(axes)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    beside = figure.add_axes(((0.72 + width) / 4.4, 0.48 / (height + 0.6), 0.1 / 4.4, height / (height + 0.6)))
    figure.colorbar(shown, cax=beside, label=unit)
    calm(beside)
    beside.spines[:].set_visible(False)
    middle = float(np.median(values))
    words = f"median {middle:.4g}, 99 % between {low:.4g} and {high:.4g} {unit}"
    return plate_of_figure(figure, title, f"{title}: {words}.", f"{caption} {words[0].upper()}{words[1:]}.")


def _ticks(axes: Axes, whole: bool = False) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(tick_label))
