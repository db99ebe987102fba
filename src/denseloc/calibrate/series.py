"""Maps of a camera from frames without light and from frames of even, still light: offset, gain and read noise of every pixel.

Per pixel, with series b of even light at the means m_b and the variances v_b, and the dark series (o, v_o):

    gain = sum_b (m_b - o) (v_b - v_o) / sum_b (m_b - o)^2

Variances are those of neighbouring frames' differences, so that a lamp that drifts does not count. One pixel knows its gain within
``sqrt(2 / frames)`` only: the map is drawn towards its mean by what chance alone would scatter it.

Source: F. Huang et al., Nature Methods 10, 653, 2013 (supplementary note: gain from several levels of light).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data import Movie
from ..errors import CalibrationError
from .photon_transfer import Span

LEAST_FRAMES = 20
BLOCK_PIXELS = 1 << 23
LEAST_LIGHT = 3.0
"""Light of a bright series in standard deviations of the dark noise."""
NOT_STRAIGHT = 0.005
"""Relative error that the gain keeps however many frames there are: neither sensors nor lamps are straight and still to better than this."""


@dataclass(frozen=True, eq=False)
class LightLevel:
    """One series: mean (counts) and variance (counts^2) of each pixel, (rows, columns), the number of frames and the largest count."""

    mean: np.ndarray
    variance: np.ndarray
    frames: int
    highest: float


@dataclass(frozen=True, eq=False)
class CameraMaps:
    """A camera by its pixels.

    Args:
        offset: (rows, columns) counts.
        variance: (rows, columns) counts^2 in the dark.
        gain: (rows, columns) counts^2 of variance per count of light, or None without bright series.
        offset_span, variance_span: medians over the pixels, with their 95 % interval; where the noise is too small to smear the steps of whole
            counts, the offset's interval holds what rounding may do.
        gain_span: mean over the pixels without outliers; single gains are skewed by chance, so that their median is too low.
        raw_scatter: relative scatter of the gains that is real, chance taken away; 0 without bright series.
    """

    offset: np.ndarray
    variance: np.ndarray
    gain: np.ndarray | None
    offset_span: Span
    variance_span: Span
    gain_span: Span | None
    raw_scatter: float = 0.0

    def pixel_maps(self) -> np.ndarray:
        """Give (3, rows, columns) float32 as ``[camera] pixel_maps`` takes them: offset, electrons per count, variance.

        Raises:
            CalibrationError: there was no bright series, so that the gain is not known.
        """
        if self.gain is None:
            raise CalibrationError(
                "maps of a camera need its gain; give frames of even light: --bright FILE, in Python bright=[FILE]"
            )
        return np.stack([self.offset, 1 / self.gain, self.variance]).astype(np.float32)


def measure_level(movie: Movie, what: str) -> LightLevel:
    """Measure a series of frames of still light, block by block.

    Args:
        movie: counts; the first plane is looked at.
        what: "dark" or "bright", for messages.

    Raises:
        CalibrationError: too few frames, values that are not finite, or all frames alike.
    """
    if movie.n_frames < LEAST_FRAMES:
        raise CalibrationError(f"{what} series {movie.name}: {movie.n_frames} frames, expected {LEAST_FRAMES} or more; record more")
    rows, columns = movie.shape_px
    total, squares, before, highest = np.zeros((rows, columns)), np.zeros((rows, columns)), None, -np.inf
    for block in movie.blocks(max(1, BLOCK_PIXELS // (rows * columns))):
        counts = block.counts[:, 0].astype(np.float64)
        if not np.isfinite(counts).all():
            raise CalibrationError(
                f"{what} series {movie.name} holds values that are not finite, expected counts; export it again without them"
            )
        total += counts.sum(0)
        highest = max(highest, float(counts.max()))
        chain = counts if before is None else np.concatenate([before[None], counts])
        squares += np.square(np.diff(chain, axis=0)).sum(0)
        before = counts[-1]
    variance = squares / (2 * (movie.n_frames - 1))
    if not variance.any():
        raise CalibrationError(
            f"{what} series {movie.name}: all frames are alike, expected noise; give the raw frames of the camera"
        )
    return LightLevel(total / movie.n_frames, variance, movie.n_frames, highest)


def camera_maps(dark: LightLevel, bright: Sequence[LightLevel] = ()) -> CameraMaps:
    """Make the maps.

    Args:
        dark: without light.
        bright: of even light, one or several levels.

    Raises:
        CalibrationError: sizes differ, a bright series is full or not brighter than the dark one, or its noise does not grow with it.
    """
    for level in bright:
        _check_bright(dark, level)
    variance = np.maximum(dark.variance, 1e-3)
    variance_span = _median_span(variance)
    rounding = float(np.exp(-2 * np.pi**2 * max(variance_span.value - 1 / 12, 0.0)) / np.pi)
    offset_span = _wider(_median_span(dark.mean), float(np.hypot(rounding, 1 / dark.frames)))  # means come in steps of 1 / frames
    if not bright:
        return CameraMaps(dark.mean, variance, None, offset_span, variance_span, None)
    light = np.stack([level.mean - dark.mean for level in bright])
    power = np.square(light).sum(0)
    gain = (light * np.stack([level.variance - dark.variance for level in bright])).sum(0) / np.maximum(power, 1e-9)
    span = _mean_span(gain[power > 0])
    middle = span.value
    span = _wider(span, NOT_STRAIGHT * abs(middle))
    if middle <= 0:
        raise CalibrationError("the noise of the bright series does not grow with the light; give raw frames of even, still light")
    # a variance of n frames by differences of neighbours scatters by sqrt(3 / n)
    parts = [light[i] ** 2 * (level.variance**2 / level.frames + dark.variance**2 / dark.frames) for i, level in enumerate(bright)]
    chance = 3 * np.sum(parts, axis=0) / np.maximum(power, 1e-9) ** 2
    real = max(0.0, float(1.4826 * np.median(np.abs(gain - np.median(gain)))) ** 2 - float(np.median(chance)))
    drawn = middle + (gain - middle) * (real / (real + chance + 1e-300))
    drawn = np.where((power > 0) & np.isfinite(drawn) & (drawn > 0.2 * middle), drawn, middle)
    return CameraMaps(dark.mean, variance, drawn, offset_span, variance_span, span, float(np.sqrt(real)) / middle)


def _check_bright(dark: LightLevel, bright: LightLevel) -> None:
    if bright.mean.shape != dark.mean.shape:
        sizes = [f"{level.mean.shape[0]} x {level.mean.shape[1]} px" for level in (bright, dark)]
        raise CalibrationError(f"a bright series of {sizes[0]} and a dark series of {sizes[1]}; record both with the same region")
    full = bright.highest >= 255 and float(np.log2(bright.highest + 1)).is_integer()
    if full:
        raise CalibrationError(
            f"a bright series reaches {bright.highest:.0f} counts, the largest there is; record it with less light"
        )
    light = float(np.median(bright.mean - dark.mean))
    if light < LEAST_LIGHT * float(np.sqrt(np.median(dark.variance))):
        raise CalibrationError(
            f"a bright series is {light:.3g} counts above the dark one, expected more than its noise; give more light"
        )


def _median_span(values: np.ndarray) -> Span:
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    error = 2 * 1.25 * float(high - low) / 2 / np.sqrt(values.size)
    return Span(float(middle), float(middle) - error, float(middle) + error)


def _wider(span: Span, error: float) -> Span:
    """Add an independent error to the interval."""
    half = float(np.hypot((span.high - span.low) / 2, error))
    return Span(span.value, span.value - half, span.value + half)


def _mean_span(values: np.ndarray) -> Span:
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    kept = values[np.abs(values - middle) <= 3 * max(float(high - low), 1e-12)]
    mean, error = float(kept.mean()), 2 * float(kept.std()) / np.sqrt(kept.size)
    return Span(mean, mean - error, mean + error)
