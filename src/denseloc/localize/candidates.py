"""From maps to localizations: candidate pixels, and the two ways of decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from ..data import Localizations
from ..units import PixelSize
from .posterior import NEIGHBOURHOOD, PixelPosterior

CANDIDATE_PROBABILITY = 0.02  # pixels below this never decide anything


@dataclass(frozen=True)
class Candidates:
    """Pixels with a probability worth keeping; struct of arrays of length n.

    Args:
        frame, row, column: int64, in the whole movie and the whole field.
        probability: detection probability of the pixel.
        value: (n, 4) x and y in px (pixel centres on the integers of row and column), z / z_unit, log(photons / photon_unit).
        sigma: (n, 4) standard deviations of the same.
        background: photons per pixel.
        channel: (n, channels) probabilities of the colour channels, None for one colour.
    """

    frame: np.ndarray
    row: np.ndarray
    column: np.ndarray
    probability: np.ndarray
    value: np.ndarray
    sigma: np.ndarray
    background: np.ndarray
    channel: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, keep: np.ndarray) -> Candidates:
        """Take the rows of a mask or of an index."""
        kept: Any = (None if values is None else values[keep] for values in self._columns())
        return Candidates(*kept)

    @staticmethod
    def concat(parts: Sequence[Candidates]) -> Candidates:
        """Join the candidates of several tiles or blocks."""
        columns = zip(*(part._columns() for part in parts), strict=True)
        joined: Any = (None if values[0] is None else np.concatenate(values) for values in columns)
        return Candidates(*joined)

    def _columns(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self)]


def candidates(
    posterior: PixelPosterior, first_frame: int, origin_px: tuple[int, int], core: tuple[slice, slice] = (slice(None), slice(None))
) -> Candidates:
    """Take the pixels of the tile's core that may hold an emitter.

    Args:
        posterior: maps of the tile.
        first_frame: number of the first frame in the movie.
        origin_px: (row, column) of the tile's first pixel in the field.
        core: part of the tile whose pixels count.
    """
    top, left = core[0].start or 0, core[1].start or 0
    probability = posterior.probability[:, core[0], core[1]]
    frame, row, column = torch.nonzero(probability > CANDIDATE_PROBABILITY, as_tuple=True)
    at = (frame, slice(None), row + top, column + left)
    mean = posterior.mean[at].float().cpu().numpy().astype(np.float64)
    row_px = row.cpu().numpy() + top + origin_px[0]
    column_px = column.cpu().numpy() + left + origin_px[1]
    mean[:, 0] += column_px
    mean[:, 1] += row_px
    colours = posterior.channel_probability
    return Candidates(
        frame=frame.cpu().numpy() + first_frame,
        row=row_px,
        column=column_px,
        probability=probability[frame, row, column].float().cpu().numpy().astype(np.float64),
        value=mean,
        sigma=posterior.sigma[at].float().cpu().numpy().astype(np.float64),
        background=posterior.background[frame, row + top, column + left].float().cpu().numpy().astype(np.float64),
        channel=None if colours is None else colours[at].float().cpu().numpy().astype(np.float64),
    )


def merge_by_position(pixels: Candidates, threshold: float, *, radius_px: float = 0.8, depth: float = 0.5) -> Candidates:
    """Decode by predicted position: pixels whose predictions agree speak of one emitter, however they lie.

    A group's probability is the sum over its pixels (at most 1), its coordinates are the probability-weighted means. Pixel-wise suppression
    splits an emitter near a pixel border in two and swallows a close neighbour; predicted positions tell these cases apart.

    Args:
        pixels: candidates of whole frames.
        threshold: least summed probability.
        radius_px: largest distance of predicted positions in a group.
        depth: largest distance of predicted depths in a group, in units of z; infinite for a network that was never taught z.
    """
    from ..kernels.merge import numba_cpu

    x, y, z, _ = pixels.value.T
    group = numba_cpu.merge(
        pixels.frame,
        pixels.row,
        pixels.column,
        pixels.probability,
        np.ascontiguousarray(x),
        np.ascontiguousarray(y),
        np.ascontiguousarray(z),
        NEIGHBOURHOOD,
        radius_px,
        depth,
    )
    return _weighted(pixels, group, np.flatnonzero(group == np.arange(len(group))), threshold)


def suppress_non_maxima(pixels: Candidates, threshold: float, candidate: float = 0.3) -> Candidates:
    """Decode as the DECODE paper does, in its own numbers: candidate above 0.3 and largest of its 3 x 3; with its four neighbours above 0.7.

    The coordinates are the means over the five pixels of the cross, weighted by probability; each pixel's offset counts from its own centre.

    Source: Speiser et al. 2019, section 1.5.
    """
    lookup = {key: i for i, key in enumerate(zip(pixels.frame.tolist(), pixels.row.tolist(), pixels.column.tolist(), strict=True))}
    founders, members, owners = [], [], []
    for i in np.flatnonzero(pixels.probability > candidate):
        f, r, c = int(pixels.frame[i]), int(pixels.row[i]), int(pixels.column[i])
        around = [lookup.get((f, r + dr, c + dc), -1) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if dr or dc]
        mine = (pixels.probability[i], -i)
        if any(j >= 0 and (pixels.probability[j], -j) > mine for j in around):
            continue
        founders.append(i)
        cross = [i] + [lookup.get((f, r + dr, c + dc), -1) for dr, dc in ((-1, 0), (0, -1), (0, 1), (1, 0))]
        members += [j for j in cross if j >= 0]
        owners += [i for j in cross if j >= 0]
    return _weighted(pixels.select(np.array(members, int)), np.array(owners, int), np.array(founders, int), threshold)


def _weighted(pixels: Candidates, group: np.ndarray, founders: np.ndarray, threshold: float) -> Candidates:
    """Average groups of pixels by probability and keep those whose summed probability passes the threshold."""
    slot = np.searchsorted(founders, group)
    total = np.bincount(slot, pixels.probability, len(founders))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(slot, pixels.probability * values, len(founders)) / np.maximum(total, 1e-12)

    first = np.full(len(founders), len(group), int)
    np.minimum.at(first, slot, np.arange(len(group)))
    heads = pixels.select(first)
    averaged = Candidates(
        frame=heads.frame,
        row=heads.row,
        column=heads.column,
        probability=np.minimum(total, 1.0),
        value=np.stack([mean(v) for v in pixels.value.T], -1),
        sigma=np.sqrt(np.stack([mean(s**2) for s in pixels.sigma.T], -1)),
        background=mean(pixels.background),
        channel=None if pixels.channel is None else np.stack([mean(p) for p in pixels.channel.T], -1),
    )
    return averaged.select(total > threshold)


def to_localizations(found: Candidates, pixel_size_nm: PixelSize, z_unit_nm: float, photon_unit: float) -> Localizations:
    """Give decoded candidates their units: nm and photons, ordered by frame, y and x."""
    y_nm, x_nm = pixel_size_nm
    x, y, z, brightness = found.value.T
    sigma_x, sigma_y, sigma_z, sigma_log = found.sigma.T
    photons = np.exp(np.clip(brightness, -20, 20)) * photon_unit
    columns = {
        "frame": found.frame,
        "x_nm": (x + 0.5) * x_nm,
        "y_nm": (y + 0.5) * y_nm,
        "photons": photons,
        "background": found.background,
        "probability": found.probability,
        "sigma_x_nm": sigma_x * x_nm,
        "sigma_y_nm": sigma_y * y_nm,
        "sigma_photons": photons * sigma_log,
    }
    if z_unit_nm:
        columns |= {"z_nm": z * z_unit_nm, "sigma_z_nm": sigma_z * z_unit_nm}
    if found.channel is not None:
        columns |= {"channel": found.channel.argmax(1), "channel_probability": found.channel.max(1)}
    return Localizations(columns).sort()
