"""Camera, width of the PSF, background and density from an ordinary movie, so that a user need know none of them.

The chain, each step in its own file: power spectrum (width, light that fluctuates) -> variance against mean (gain, offset) ->
isolated spots where there are any (width) -> histogram of the pixels (background, density, photons).

An electron multiplying camera doubles the variance, which no single movie can tell from a doubled gain. Where neither gain nor
excess is given, photons are such that their noise is Poisson; for an electron multiplying camera they are half of the true ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data import Movie
from ..errors import CalibrationError
from ..units import PixelSize, pixel_size_pair
from .background import background_map
from .estimates import Conditions, Estimate, Source
from .photon_transfer import Span, Transfer, choose_order, fit_transfer, noise_points
from .pixel_law import PixelLaw, fit_pixel_law
from .sampling import Sample, take_sample
from .spectrum import SpectrumFit, fit_spectrum
from .spots import Spots, fit_spots

ASSUMED_WIDTH_NM = Span(130.0, 80.0, 250.0)
ASSUMED_PHOTONS = Span(1000.0, 100.0, 10000.0)
LEAST_SIGNIFICANCE = 25.0  # log-likelihood that the light of molecules must gain over white noise
SPOT_FRAMES = 60
MISFIT_OF_GAIN = 1.5  # factor beyond the interval of the gain seen from which on a given one is doubted
MISFIT = 0.25  # log of the power from which on the histogram of the pixels does not explain the movie
VAGUE = 0.5  # standard error of the log density from which on the histogram is not believed
TRANSMISSION = 0.286  # share of a crowd's power in the contrast of one over two widths
LAW_ERROR = 0.3  # photons; the noise of a multiplying camera is more skewed than the law has it
BY_HISTOGRAM, BY_SPOTS = "from the histogram of the pixels", "from isolated spots"
CROWDED = 0.7  # emitters within three widths of another from which on spots are no longer trusted


@dataclass(frozen=True)
class _Optics:
    """Width in pixels and what it rests on."""

    width: Span
    source: Source


def estimate_conditions(
    movie: Movie,
    *,
    pixel_size_nm: float | PixelSize,
    offset_counts: float | None = None,
    counts_per_photon: float | None = None,
    excess: float | None = None,
    noise_variance: float | None = None,
    width_nm: float | None = None,
) -> Conditions:
    """Estimate camera, PSF width, background and density from up to 200 frames of a movie.

    A width that is given is kept as it is. Background, density and photons are taken from it only where the movie does not speak
    against it: a PSF that changes with depth, or another one than was thought, has another width among the molecules of this movie.

    Args:
        movie: counts; of a movie with several planes the first one is looked at.
        pixel_size_nm: (y, x) or one number.
        offset_counts: camera offset where it is known.
        counts_per_photon: camera gain where it is known.
        excess: 1, or 2 for an electron multiplying camera, where it is known.
        noise_variance: read noise per pixel in photons^2 where it is known.
        width_nm: standard deviation of the PSF where it is known.

    Raises:
        CalibrationError: a given value or the movie is impossible.
    """
    pixel = pixel_size_pair(pixel_size_nm)
    side_nm = float(np.sqrt(pixel[0] * pixel[1]))
    _check_given(pixel_size_nm=side_nm, counts_per_photon=counts_per_photon, excess=excess, width_nm=width_nm)
    if offset_counts is not None and not np.isfinite(offset_counts):
        raise CalibrationError(f"offset_counts = {offset_counts}; expected a finite number: give the right one or leave it out")
    if noise_variance is not None and not (np.isfinite(noise_variance) and noise_variance >= 0):
        raise CalibrationError(
            f"noise_variance = {noise_variance}; expected a number of at least 0: give the right one or leave it out"
        )
    sample = take_sample(movie)
    if offset_counts is not None and offset_counts > (most := float(np.quantile(sample.counts, 0.99))):
        raise CalibrationError(
            f"{movie.name}: the camera's offset of {offset_counts:g} counts lies above nearly all pixels (99 % are below {most:g} counts); give the "
            "right offset, and the movie as the camera recorded it"
        )
    spectrum = fit_spectrum(sample.fluctuation())
    given = None if width_nm is None else _Optics(_scaled(Span(width_nm, width_nm, width_nm), 1 / side_nm), "given")
    optics = _first_width(spectrum, side_nm, given)
    camera = _Camera(sample, offset_counts, counts_per_photon, excess, noise_variance)
    state = _measure(sample, camera, optics, spectrum)
    spots = fit_spots(state.photons[:SPOT_FRAMES], max(optics.width.value, 0.8), state.transfer.noise_variance.value)
    better = _joined_width(optics, spectrum, spots, state)
    if abs(better.width.value / optics.width.value - 1) > 0.03:
        state = _measure(sample, camera, better, spectrum)
    return _conditions(state, better, given, spots, side_nm)


def _check_given(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise CalibrationError(f"{name} = {value}; expected a number above 0: give the right one or leave it out")


def _first_width(spectrum: SpectrumFit | None, side_nm: float, given: _Optics | None) -> _Optics:
    """Give the width that the spectrum shows, or the given one where that agrees or nothing is seen."""
    if spectrum is None or spectrum.significance < LEAST_SIGNIFICANCE:
        return given or _Optics(_scaled(ASSUMED_WIDTH_NM, 1 / side_nm), "assumed")
    seen = _around(spectrum.width_px, float(np.hypot(spectrum.sigma_px, 0.015 * spectrum.width_px)))
    return given if given is not None and seen.low <= given.width.value <= seen.high else _Optics(seen, "measured")


def _around(value: float, sigma: float) -> Span:
    return Span(value, max(value - 2 * sigma, 0.0), value + 2 * sigma)


def _scaled(span: Span, factor: float) -> Span:
    return Span(span.value * factor, span.low * factor, span.high * factor)


class _Camera:
    """What was given of the camera, and the search for the rest."""

    def __init__(
        self, sample: Sample, offset: float | None, gain: float | None, excess: float | None, noise_variance: float | None
    ) -> None:
        self.sample, self.offset, self.gain, self.excess = sample, offset, gain, excess
        self.noise_variance = noise_variance
        self.slope_seen: Span | None = None

    def transfer(self, width_px: float, spectrum: SpectrumFit | None) -> tuple[Transfer, float, bool]:
        """Give offset, slope and read noise, the excess, and whether any of it was measured."""
        counts = self.sample.counts
        power, floor = (spectrum.power, spectrum.floor) if spectrum else (0.0, 1.0)
        found = None
        if min(counts.shape[1:]) >= 16:
            order = choose_order(width_px, power, floor, min(counts.shape[1:]))
            points = noise_points(counts, width_px, order, self.sample.saturation, self.sample.quantization)
            found = fit_transfer(points, self.sample.lowest_offset, self.offset)
            excess = self.excess if self.excess is not None else self._seen_excess(found)
            if self.gain is not None:
                self.slope_seen = None if found is None else found.slope
                found = fit_transfer(points, self.sample.lowest_offset, self.offset, self.gain * excess)
        else:
            excess = self.excess or 1.0
        transfer = found or self._assumed(excess)
        if self.noise_variance is not None:
            noise = self.noise_variance / excess**2  # photons of the slope are detected photons over the excess
            transfer = replace(transfer, noise_variance=Span(noise, noise, noise))
        return transfer, excess, found is not None

    def _seen_excess(self, found: Transfer | None) -> float:
        """Take 2 where the gain is known and the variance is nearer to twice of what it gives."""
        return 2.0 if self.gain is not None and found is not None and found.slope.value > 1.5 * self.gain else 1.0

    def _assumed(self, excess: float) -> Transfer:
        darkest = float(np.quantile(self.sample.counts, 0.01))
        offset = self.offset if self.offset is not None else (100.0 if darkest >= 100 else min(darkest, 0.0))
        slope = self.gain * excess if self.gain is not None else 1.0
        return Transfer(
            Span(offset, min(0.0, darkest), max(darkest, offset)), Span(slope, slope / 10, slope * 10), Span(0.0, 0.0, 30.0)
        )


@dataclass(frozen=True, eq=False)
class _State:
    """One pass of the chain; photons are Poisson photons, counts over the slope."""

    camera: _Camera
    transfer: Transfer
    excess: float
    measured: bool
    photons: np.ndarray
    background: np.ndarray
    law: PixelLaw
    power: float
    width_px: float


def _measure(sample: Sample, camera: _Camera, optics: _Optics, spectrum: SpectrumFit | None) -> _State:
    transfer, excess, measured = camera.transfer(optics.width.value, spectrum)
    slope, noise = transfer.slope.value, transfer.noise_variance.value
    photons = (sample.counts - np.float32(transfer.offset.value)) / np.float32(slope)
    seen = spectrum is not None and spectrum.significance >= LEAST_SIGNIFICANCE
    power = spectrum.power / slope**2 if spectrum is not None and seen else 0.0
    level = background_map(photons, noise)
    grain = 1 / slope if sample.quantization else 0.0
    width = optics.width.value
    law = _fit_law(photons, width, noise, power, grain)
    vague = _is_vague(law, noise, width)
    if vague or abs(law.power_misfit) > MISFIT:  # what stands still is taken for molecules: take the uneven background away first
        flat = _fit_law(photons - level + level.mean(), width, noise, power, grain)
        flat = replace(flat, background=flat.background + float(np.median(level) - level.mean()))
        clearer = vague and not _is_vague(flat, noise, width)
        law = flat if clearer or abs(flat.power_misfit) < abs(law.power_misfit) else law
    return _State(camera, transfer, excess, measured, photons, level, law, power, width)


def _fit_law(photons: np.ndarray, width_px: float, noise_variance: float, power: float, grain: float) -> PixelLaw:
    """Fit the law of the pixels; from beside again where the search ended among emitters brighter than any pixel allows."""
    law = fit_pixel_law(photons, width_px, noise_variance, power, grain)
    brightest = 4 * np.pi * width_px**2 * max(float(photons.max()), 1.0)  # twice what a Gaussian with this peak holds
    for more in (0.01, 0.03, 0.1):  # read noise that nobody would see
        if law.photons <= brightest:
            break
        law = fit_pixel_law(photons, width_px, noise_variance + more, power, grain)
    return law


def _is_vague(law: PixelLaw, noise_variance: float, width_px: float) -> bool:
    """Whether many dim emitters explain the pixels about as well as few bright ones, as an uneven background makes it."""
    return law.sigmas[1] > VAGUE or _is_dim(law, noise_variance, width_px)


def _is_dim(law: PixelLaw, noise_variance: float, width_px: float) -> bool:
    """Whether emitters as dim as the law has them would not be seen as spots: three times the noise under a spot."""
    light = max(law.background + noise_variance, 0.1)
    return bool(law.photons < 3 * np.sqrt(4 * np.pi * light) * width_px)


def _crowding(state: _State, width_px: float) -> float:
    """Give the emitters expected within three widths of another."""
    return state.law.density_px * np.pi * (3 * width_px) ** 2 if state.power > 0 else 0.0


def _joined_width(first: _Optics, spectrum: SpectrumFit | None, spots: Spots, state: _State) -> _Optics:
    """Join the widths of the spectrum and of the spots; where both are good and differ, single spots are believed."""
    middle, sigma = spots.median_width()
    if first.source == "given" or not np.isfinite(middle) or spots.isolated_share < 0.6 or _crowding(state, middle) > CROWDED:
        return first
    sigma = float(np.hypot(sigma, 0.015 * middle))
    if first.source == "assumed" or spectrum is None:
        return _Optics(_around(middle, sigma), "measured")
    other = float(np.hypot(spectrum.sigma_px, 0.015 * spectrum.width_px))
    if abs(middle - spectrum.width_px) > 3 * np.hypot(sigma, other):
        return _Optics(_around(middle, 1.5 * sigma), "measured")
    weights = np.array([1 / sigma**2, 1 / other**2])
    joined = float((weights * [middle, spectrum.width_px]).sum() / weights.sum())
    return _Optics(_around(joined, float(max(weights.sum() ** -0.5, abs(middle - spectrum.width_px) / 2))), "measured")


def _conditions(state: _State, optics: _Optics, given: _Optics | None, spots: Spots, side_nm: float) -> Conditions:
    """Put the results into the units of the user; of the widths, the given one is told where there is one."""
    camera, transfer, excess = state.camera, state.transfer, state.excess
    how: Source = "measured" if state.measured else "assumed"
    excess_source: Source = "given" if camera.excess is not None else "measured" if excess > 1 else "assumed"
    noise = _scaled(transfer.noise_variance, excess**2)
    gain = _scaled(transfer.slope, 1 / excess)
    level = _scaled(_background(state), excess)
    shift = level.value - excess * float(np.median(state.background))
    low, high = (max(0.0, excess * float(q) + shift) for q in np.quantile(state.background, [0.05, 0.95]))
    density, photons, seen, way = _emitters(state, spots, 1.0 if given is None else given.width.value / optics.width.value)
    area_um2 = side_nm**2 * 1e-6
    return Conditions(
        offset_counts=_estimate(transfer.offset, "counts", how, camera.offset),
        counts_per_photon=_estimate(gain, "counts per photon", how, camera.gain),
        excess=Estimate(
            excess, 1.0 if excess_source == "assumed" else excess, 2.0 if excess_source == "assumed" else excess, "", excess_source
        ),
        noise_variance=_estimate(noise, "photons^2", how, camera.noise_variance),
        background=_estimate(level, "photons per pixel", how, None),
        background_range=(low, high),
        width_nm=_estimate(_scaled((given or optics).width, side_nm), "nm", (given or optics).source, None),
        density_per_um2=_estimate(_scaled(density, 1 / area_um2), "emitters per um^2 and frame", "measured", None, way),
        photons=_estimate(_scaled(photons, excess), "photons", seen, None, way if seen == "measured" else ""),
        notes=(*_other_width(optics, given, side_nm), *_notes(state, optics, excess_source, seen)),
        saturation_counts=camera.sample.saturation,
        doubt=_doubt(camera, excess),
    )


def _doubt(camera: _Camera, excess: float) -> str:
    """Say where the variance of the pixels grows with their mean much faster or slower than the gain that was given has it."""
    if camera.gain is None or camera.slope_seen is None:
        return ""
    seen = _scaled(camera.slope_seen, 1 / excess)
    if seen.low / MISFIT_OF_GAIN <= camera.gain <= seen.high * MISFIT_OF_GAIN:
        return ""
    return (
        f"the camera given has {camera.gain:.4g} counts per photon, the noise of the movie speaks of {seen.value:.4g} ({seen.low:.4g} to "
        f"{seen.high:.4g}): photons and sigmas are wrong if the camera is; check electrons_per_count, kind and em_gain"
    )


def _estimate(span: Span, unit: str, source: Source, given: float | None, way: str = "") -> Estimate:
    if given is not None:
        return Estimate(float(given), float(given), float(given), unit, "given")
    return Estimate(float(span.value), float(span.low), float(span.high), unit, source, way)


def _background(state: _State) -> Span:
    """Give the background with the interval that the offset, the gain and the fit leave to it."""
    value, sigma = state.law.background, state.law.sigmas[0]
    counts = state.transfer.offset.value + state.transfer.slope.value * value
    camera = state.transfer.photons_of(counts)
    error = float(np.sqrt((2 * sigma) ** 2 + (0.05 * value) ** 2 + LAW_ERROR**2))
    return Span(value, max(0.0, camera.low - error), camera.high + error)


def _emitters(state: _State, spots: Spots, given_ratio: float) -> tuple[Span, Span, Source, str]:
    """Give density per pixel and photons of an emitter, and how they were got.

    The intervals grow with how unevenly molecules lie, and with the ratio of the width given to that seen: molecules of many widths
    look like more and dimmer ones.
    """
    law, pixels = state.law, state.photons[0].size
    counted = spots.per_frame / pixels
    enough = spots.per_frame * min(len(state.photons), SPOT_FRAMES) >= 5
    if state.power <= 0 and not enough:
        return Span(0.0, 0.0, 1.0 / pixels), ASSUMED_PHOTONS, "assumed", ""
    if len(spots.photons) >= 5 and _counts_spots(state, spots):
        bright = float(np.median(spots.photons))
        return (
            Span(counted, counted / 1.7, max(3 * counted, min(law.density_px, 10 * counted))),
            Span(bright, bright / 3, 2 * bright),
            "measured",
            BY_SPOTS,
        )
    slope = state.transfer.slope
    doubt = 0.25 * float(np.log(slope.high / slope.low)) if state.camera.gain is None else 0.0
    uneven = 0.15 + 0.1 * min(law.clustering, 3.0) + abs(law.power_misfit) + doubt + 2 * abs(float(np.log(given_ratio)))
    wide, tall = (float(np.exp(2 * np.hypot(sigma, uneven))) for sigma in law.sigmas[1:])
    density = Span(law.density_px, law.density_px / wide, law.density_px * wide)
    if enough and _crowding(state, state.width_px) < CROWDED:
        density = Span(density.value, min(density.low, counted / 1.2), max(density.high, 1.2 * counted))
    return density, Span(law.photons, law.photons / tall, law.photons * tall), "measured", BY_HISTOGRAM


def _counts_spots(state: _State, spots: Spots) -> bool:
    """Whether spots are to be counted: the field is mostly empty and the histogram of the pixels does not explain it.

    A crowd of molecules would make the contrast restless everywhere; a Gaussian PSF passes 0.286 of its power into the contrast.
    """
    law = state.law
    light = max(law.background + state.transfer.noise_variance.value, 0.1)
    crowd = np.sqrt(1 + TRANSMISSION * state.power / light)
    misread = _crowding(state, state.width_px) > CROWDED and spots.restlessness < 0.6 * crowd
    misread = misread or _is_dim(law, state.transfer.noise_variance.value, state.width_px)
    return spots.restlessness < 2 and (misread or abs(law.power_misfit) > MISFIT)


def _other_width(optics: _Optics, given: _Optics | None, side_nm: float) -> tuple[str, ...]:
    """Say where the width given is not that of the molecules seen."""
    if given is None or optics.source != "measured":
        return ()
    mine, theirs = side_nm * optics.width.value, side_nm * given.width.value
    return (
        f"the molecules look {mine:.3g} nm wide on average, {theirs:.3g} nm were given (in focus); background and density are measured "
        "with the former",
    )


def _notes(state: _State, optics: _Optics, excess_source: Source, seen: Source) -> tuple[str, ...]:
    notes = []
    if excess_source == "assumed":
        notes.append(
            "one movie cannot tell excess noise from gain; for an EMCCD give the camera (--camera) with its em_gain, else photons read half "
            "of the true ones"
        )
    if excess_source == "measured":
        notes.append("the noise is that of an electron multiplying camera of the gain given")
    if not state.measured:
        notes.append("the movie is too small or too dark to show its camera; offset and gain are assumed")
    if np.isfinite(state.camera.sample.saturation):
        notes.append(
            f"some pixels are full ({state.camera.sample.saturation:.0f} counts): bright molecules look wider and dimmer than they are; fits leave "
            "these pixels out"
        )
    offset = state.transfer.offset
    if state.camera.offset is None and (offset.high - offset.low) / state.transfer.slope.value > 0.5 * state.law.background:
        notes.append("the movie hardly tells the offset from the background; localizations depend little on it")
    if optics.source == "assumed":
        notes.append("no molecules were seen; the width of the PSF is assumed")
    elif seen == "assumed":
        notes.append("no molecules were seen")
    return tuple(notes)
