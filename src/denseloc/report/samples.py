"""Sample frames and how well the model describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..units import PixelSize

CHI2_LIMIT = 1.3
"""Chi2 per pixel above which the model does not describe the frames."""
CHI2_FLOOR = 0.7
"""Chi2 per pixel below which the frames hold less noise than the model expects."""
CHI2_MOLECULES_LIMIT = 2.0
"""The same limit as `CHI2_LIMIT` for the few pixels that hold light of molecules."""
CORRELATION_LIMIT = 0.1
"""Correlation of neighbouring residuals above which the residual has structure."""


@dataclass(frozen=True, eq=False)
class FrameSample:
    """One raw frame and what the model expects of it.

    Args:
        frame: number of the frame in the whole movie.
        photons: (y, x) the raw frame in photons.
        expected: (y, x) photons that the model expects from the localizations, or None.
        variance: (y, x) expected variance in photons^2, or None; then photon noise alone is assumed.
        pixel_size_nm: (y, x).
        origin_px: (row, column) of the frame's first pixel in the whole field.
    """

    frame: int
    photons: np.ndarray
    expected: np.ndarray | None = None
    variance: np.ndarray | None = None
    pixel_size_nm: PixelSize = (100.0, 100.0)
    origin_px: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.photons.ndim != 2:
            raise ValueError(f"a sample frame has the shape (y, x), found {self.photons.shape}")
        for name in ("expected", "variance"):
            array = getattr(self, name)
            if array is not None and array.shape != self.photons.shape:
                raise ValueError(f"'{name}' of frame {self.frame} has the shape {array.shape}, the frame has {self.photons.shape}")


@dataclass(frozen=True, eq=False)
class Agreement:
    """How well a model describes one frame.

    Args:
        frame: number of the frame.
        residual: (y, x) of (data - model) in standard deviations; NaN where the variance is not positive.
        chi2: mean square of the residual; 1 if the model and its noise are right.
        chi2_molecules: the same over pixels that hold light of molecules, None if there are too few.
        correlation: of residuals of neighbouring pixels; 0 if only noise is left.
        excess: light in the data over light in the model, minus 1.
        n_pixels: number of pixels that count.
        photon_noise_only: no variance was given, so photon noise was assumed.
    """

    frame: int
    residual: np.ndarray
    chi2: float
    chi2_molecules: float | None
    correlation: float
    excess: float
    n_pixels: int
    photon_noise_only: bool

    @property
    def sentence(self) -> str:
        """The agreement in plain words."""
        if self.chi2 > CHI2_LIMIT:
            return (
                f"The model does not describe this frame: it differs from the data by {np.sqrt(self.chi2):.1f} times the noise. "
                "Look at the residual: rings are a wrong PSF, spots are missed molecules, a slope is a wrong background."
            )
        if self.chi2 < CHI2_FLOOR:
            return (
                "The data hold less noise than the model expects: check gain, offset and read noise, and that nothing was smoothed."
            )
        if self.chi2_molecules is not None and self.chi2_molecules > CHI2_MOLECULES_LIMIT:
            return "The background is described well, the molecules are not: look for rings (PSF) and spots (missed molecules)."
        if abs(self.correlation) > CORRELATION_LIMIT:
            return "The size of the residual is that of noise, but neighbouring pixels differ alike: faint structure is left over."
        return "The model describes this frame to within its noise."


def compare(sample: FrameSample) -> Agreement | None:
    """Compare a frame with its model; None if there is no model picture or no pixel that counts.

    ``chi2 = mean((photons - expected)^2 / variance)``. Pixels hold light of molecules where the expectation is more than one
    standard deviation above its median.
    """
    if sample.expected is None:
        return None
    expected = np.asarray(sample.expected, dtype=np.float64)
    variance = np.asarray(expected if sample.variance is None else sample.variance, dtype=np.float64)
    usable = np.isfinite(sample.photons) & np.isfinite(expected) & np.isfinite(variance) & (variance > 0)
    if not usable.any():
        return None
    residual = np.full(expected.shape, np.nan)
    residual[usable] = (sample.photons[usable] - expected[usable]) / np.sqrt(variance[usable])
    square = residual**2
    bright = usable & (expected > np.median(expected[usable]) + np.sqrt(np.median(variance[usable])))
    light = expected[usable].sum()
    return Agreement(
        frame=sample.frame,
        residual=residual,
        chi2=float(square[usable].mean()),
        chi2_molecules=float(square[bright].mean()) if bright.sum() >= 9 else None,
        correlation=_neighbour_correlation(residual),
        excess=float(sample.photons[usable].sum() / light - 1) if light > 0 else 0.0,
        n_pixels=int(usable.sum()),
        photon_noise_only=sample.variance is None,
    )


def compare_all(samples: Sequence[FrameSample]) -> list[Agreement]:
    """Compare all frames that have a model picture."""
    return [agreement for agreement in map(compare, samples) if agreement is not None]


def _neighbour_correlation(residual: np.ndarray) -> float:
    """Correlate residuals with those one pixel to the right and one pixel below, over pairs that both count."""
    centred = residual - np.nanmean(residual)
    products = np.concatenate([(centred[:, 1:] * centred[:, :-1]).ravel(), (centred[1:] * centred[:-1]).ravel()])
    products = products[np.isfinite(products)]
    power = float(np.nanmean(centred**2))
    return float(products.mean()) / power if len(products) and power > 0 else 0.0
