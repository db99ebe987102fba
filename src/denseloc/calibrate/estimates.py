"""What is told of the conditions of a movie: values with intervals, and where they came from.

Photons are detected photons. Where neither gain nor excess is known, they are such that their noise is Poisson (see `conditions`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

Source = Literal["given", "measured", "assumed"]


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval, its unit, where it came from and how it was got, where there are several ways."""

    value: float
    low: float
    high: float
    unit: str
    source: Source
    how: str = ""

    def __str__(self) -> str:
        text, source = f"{self.value:.4g} {self.unit}".strip(), f"{self.source} {self.how}".strip()
        return f"{text} ({source})" if self.low == self.high else f"{text} ({source}, {self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True)
class Conditions:
    """What a movie was taken under. Photons are detected photons (see the note above).

    Args:
        offset_counts: counts of a pixel without light.
        counts_per_photon: gain; ``excess * counts_per_photon`` is the slope of the variance against the mean.
        excess: factor on the variance of shot noise, 2 for electron multiplying cameras.
        noise_variance: read noise per pixel, photons^2.
        background: median over the field, photons per pixel and frame.
        background_range: 5 % and 95 % quantile over the field, photons per pixel and frame.
        width_nm: standard deviation of the PSF as a Gaussian.
        density_per_um2: emitters per um^2 and frame.
        photons: mean photons of an emitter in a frame, rough.
        notes: what a reader should know besides, one sentence each.
        saturation_counts: counts at which pixels are full; infinite where none seems to be.
        doubt: where the noise of the movie speaks against the gain that was given; empty where it does not.
    """

    offset_counts: Estimate
    counts_per_photon: Estimate
    excess: Estimate
    noise_variance: Estimate
    background: Estimate
    background_range: tuple[float, float]
    width_nm: Estimate
    density_per_um2: Estimate
    photons: Estimate
    notes: tuple[str, ...] = ()
    saturation_counts: float = np.inf
    doubt: str = ""

    def lines(self) -> list[str]:
        """Say the conditions in plain words, one line each, and how to override them."""
        low, high = self.background_range
        text = [
            f"camera offset: {self.offset_counts}",
            f"camera gain: {self.counts_per_photon}",
            f"camera excess noise: {self.excess.value:g} ({self.excess.source})",
            f"camera read noise: {self.noise_variance}",
            f"background: {self.background}; {low:.3g} to {high:.3g} over the field",
            f"PSF width (Gaussian standard deviation): {self.width_nm}",
            f"density: {self.density_per_um2}",
            f"photons of an emitter in a frame: {self.photons}",
        ]
        text += [f"note: {note}" for note in self.notes]
        if "given" not in (self.offset_counts.source, self.counts_per_photon.source):
            text.append("if you know your camera, give it: --camera offset=COUNTS,electrons_per_count=NUMBER[,em_gain=NUMBER]")
        return text

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        values = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return values | {"saturation_counts": self.saturation_counts if np.isfinite(self.saturation_counts) else None}


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Estimate) else list(value) if isinstance(value, tuple) else value
