"""What an inspection measures besides the conditions, and all of it as facts: value, interval, source."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..calibrate.blinking import Lifetime, measure_lifetime
from ..calibrate.conditions import Conditions, Estimate
from ..calibrate.depth import Depths, measure_depths
from ..calibrate.excess import Skewness
from ..calibrate.light import BackgroundInTime, DarkestGamma, PhotonFit, background_in_time, darkest_gamma, fit_photon_law
from ..calibrate.photon_transfer import Span
from ..calibrate.sampling import take_sample
from ..calibrate.series import CameraMaps
from ..calibrate.spots import fit_spots
from ..data import Movie
from ..optics import PSF
from ..units import PixelSize

FIT_FRAMES = 120
MULTIPLIED_SLOPE = 12.0
"""Counts^2 of variance per count of light from which on electrons are taken to be multiplied, where nothing else shows it: no other camera is
set to so few electrons per count (the least known is 0.107, which gives 9.3), because few would fill its 16 bits."""
DARKEST_SOURCE = "gamma law of the darkest 10 % of the pixels"
ESTIMATES = {
    "camera offset": "offset_counts",
    "camera gain": "counts_per_photon",
    "camera excess noise": "excess",
    "camera read noise": "noise_variance",
    "background": "background",
    "PSF width": "width_nm",
    "density": "density_per_um2",
    "photons of an emitter in a frame": "photons",
}
"""Names of the facts that are estimates of the conditions."""


@dataclass(frozen=True)
class Fact:
    """One value with the ends of its 95 % interval (equal where none is known), its unit and where it comes from."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str

    @staticmethod
    def of(name: str, span: Span | Estimate, unit: str, source: str) -> Fact:
        """Make a fact of a value with an interval."""
        return Fact(name, float(span.value), float(span.low), float(span.high), unit, source)

    def __str__(self) -> str:
        between = "" if self.low == self.high else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{f'{self.value:.4g} {self.unit}'.strip()}{between}; {self.source}"

    def to_json(self) -> dict[str, float | str | None]:
        """Give plain JSON values; an interval without end has None there."""
        ends = {name: value if np.isfinite(value) else None for name, value in (("low", self.low), ("high", self.high))}
        return {"name": self.name, "value": self.value, **ends, "unit": self.unit, "source": self.source}


@dataclass(frozen=True, eq=False)
class Light:
    """What the light of the movie shows besides the conditions.

    Args:
        lifetime: how long molecules are on.
        spots: (n,) photons of isolated spots.
        law: fitted to them.
        in_time: background over the movie.
        darkest: law of the darkest pixels.
        depths: of isolated spots, where a PSF was given.
        depths_wanted: a PSF was given.
    """

    lifetime: Lifetime | None
    spots: np.ndarray
    law: PhotonFit | None
    in_time: BackgroundInTime | None
    darkest: DarkestGamma | None
    depths: Depths | None
    depths_wanted: bool

    @staticmethod
    def of(movie: Movie, found: Conditions, size: PixelSize, psf: PSF | None) -> Light:
        """Measure it with the camera of the conditions.

        Raises:
            CalibrationError: the PSF tells no depth.
        """
        offset, gain, excess = found.offset_counts.value, found.counts_per_photon.value, found.excess.value
        noise, width = found.noise_variance.value, max(found.width_nm.value / float(np.sqrt(size[0] * size[1])), 0.8)
        counts = take_sample(movie).counts[:FIT_FRAMES]
        photons = (counts - np.float32(offset)) / np.float32(gain)
        spots = fit_spots(photons / np.float32(excess), width, noise / excess**2)
        bright = excess * spots.photons
        return Light(
            measure_lifetime(movie, width) if found.width_nm.source != "assumed" else None,
            bright,
            fit_photon_law(bright) if spots.isolated_share >= 0.5 else None,
            background_in_time(movie, offset, gain, noise, excess),
            darkest_gamma(counts, offset, gain),
            None if psf is None else measure_depths(psf, photons, width, excess, noise),
            psf is not None,
        )

    def notes(self) -> list[str]:
        """Say what the background does over the movie, and what could not be measured."""
        told = []
        if self.lifetime is None:
            told.append("the movie is too short or too dark to show how long molecules are on")
        if self.in_time is None:
            told.append("the movie is too short to show how the background changes")
        elif self.in_time.change.low > 0.1 or self.in_time.change.high < -0.1:
            told.append(f"the background changes by {100 * self.in_time.change.value:+.0f} % over the movie")
        if self.law is None:
            told.append("too few spots stand alone to fit the law of their photons")
        if self.depths_wanted and self.depths is None:
            told.append("too few isolated spots fit the PSF to say how deep the molecules lie")
        return told


def unsure_of_excess(found: Conditions) -> Conditions:
    """Widen intervals where the excess noise is only assumed: with 1 in place of 2 the gain doubles and photons halve, or the reverse."""
    if found.excess.source != "assumed":
        return found
    up, down = 2.0 / found.excess.value, 1.0 / found.excess.value
    gain = found.counts_per_photon
    return replace(
        found,
        counts_per_photon=gain if gain.source == "given" else _scaled(gain, 1 / up, 1 / down),
        noise_variance=_scaled(found.noise_variance, down**2, up**2),
        background=_scaled(found.background, down, up),
        photons=_scaled(found.photons, down, up),
    )


def _scaled(entry: Estimate, down: float, up: float) -> Estimate:
    return replace(entry, low=down * entry.low, high=up * entry.high)


def facts(
    found: Conditions,
    alone: Conditions,
    skewness: Skewness | None,
    maps: CameraMaps | None,
    light: Light,
    by_pixels: Estimate | None = None,
) -> list[Fact]:
    """Lay everything out as facts; beside what was given stands what the movie itself shows, beside a count what the pixels say."""
    told = [_estimated(name, getattr(found, key), getattr(alone, key)) for name, key in ESTIMATES.items()]
    low, high = found.background_range
    told.append(Fact("background over the field", (low + high) / 2, low, high, "photons per pixel", "5 % and 95 % of the field"))
    if by_pixels is not None:
        told.append(Fact.of("density by the pixels", by_pixels, by_pixels.unit, by_pixels.how))
    if skewness is not None:
        sigma, why = skewness.sigma, "third cumulant of the noise over that of shot noise: 1, or 1.5 where electrons are multiplied"
        told.append(Fact("skewness of the noise", skewness.ratio, skewness.ratio - 2 * sigma, skewness.ratio + 2 * sigma, "", why))
    return told + _of_series(maps) + _of_light(light, found)


def _estimated(name: str, entry: Estimate, alone: Estimate) -> Fact:
    source = f"{entry.source} {entry.how}".strip()
    if source == "measured":
        source = "measured from the movie"
    if entry.source != "measured" and alone.source == "measured":
        source += f"; the movie itself shows {alone.value:.4g} ({alone.low:.4g} to {alone.high:.4g})"
    return Fact.of(name, entry, entry.unit, source)


def _of_series(maps: CameraMaps | None) -> list[Fact]:
    if maps is None:
        return []
    told = [
        Fact.of("offset of the dark series", maps.offset_span, "counts", "median of the pixels"),
        Fact.of("variance of the dark series", maps.variance_span, "counts^2", "median of the pixels"),
    ]
    if maps.gain_span is not None:
        told.append(Fact.of("slope of the bright series", maps.gain_span, "counts", "photon transfer, mean of the pixels"))
        scatter = 100 * maps.raw_scatter
        told.append(Fact("scatter of the gain between pixels", scatter, scatter, scatter, "%", "bright series, chance taken away"))
    return told


def _of_light(light: Light, found: Conditions) -> list[Fact]:
    """Give facts in the camera's photons; where the excess is assumed, their intervals grow with it."""
    sure = found.excess.source != "assumed"
    down, up = (1.0, 1.0) if sure else (1.0 / found.excess.value, 2.0 / found.excess.value)

    def of_photons(name: str, span: Span, unit: str, source: str) -> Fact:
        return Fact(name, span.value, down * span.low, up * span.high, unit, source)

    told = []
    if light.lifetime is not None:
        told.append(Fact.of("lifetime of the on-state", light.lifetime.frames, "frames", "measured from the covariance of frames"))
    if light.law is not None:
        source = f"{light.law.family} law fitted to {light.law.spots} isolated spots above {light.law.least:.0f} photons"
        told.append(of_photons("mean of the photon law", light.law.mean, "photons", source))
        told.append(of_photons("standard deviation of the photon law", light.law.sd, "photons", source))
    if light.in_time is not None:
        source = f"straight line through {len(light.in_time.frame)} windows over the movie"
        told.append(Fact.of("change of the background over the movie", light.in_time.change, "of its beginning", source))
    if light.darkest is not None:
        told.append(of_photons("background of the darkest places", light.darkest.mean, "photons per pixel", DARKEST_SOURCE))
    if light.depths is not None:
        d = light.depths
        source = f"{len(d.z_nm)} of {d.tried} isolated spots fitted with the PSF, each to {d.crlb_nm:.0f} nm (CRLB)"
        for share, span in (("5 %", d.low), ("50 %", d.middle), ("95 %", d.high)):
            told.append(Fact.of(f"z below which {share} of the spots lie", span, "nm", source))
    return told
