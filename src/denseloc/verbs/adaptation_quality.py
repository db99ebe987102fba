"""What a model makes of real frames, as far as it can be told without truth: number, certainty, brightness, and what is left over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..data import Emitters, Localizations
from ..localize import InferringLocalizer
from ..microscope import Microscope
from ..optics import PSF
from ..report.adaptation import Pictures
from ..train.wake import MovieWindows, Noise

MOST_PULL = 6.0  # residuals count for no more than so many standard deviations
SHOWN = 3


@dataclass(frozen=True)
class Quality:
    """What a model makes of the held-out frames.

    Args:
        per_frame: localizations in a frame of the windows.
        probability: mean.
        sigma_nm: median lateral sigma (root of both variances), corrected where a correction is known.
        photons: median.
        chi2: mean squared residual in units of the expected variance, capped at 6 standard deviations; 1 is perfect.
    """

    per_frame: float
    probability: float
    sigma_nm: float
    photons: float
    chi2: float


@torch.no_grad()
def quality_of(
    localizer: InferringLocalizer, psf: PSF, background_factor: float, windows: MovieWindows, noise: Noise, camera: Camera
) -> tuple[Quality, Pictures]:
    """Localize the inner frames of windows and compare the picture of what was found with them."""
    size = localizer.scales.pixel_size_nm
    microscope = Microscope(psf, camera, windows.grid(size))
    inner = windows.photons.shape[1] - 2 * localizer.context
    tables: list[Localizations] = []
    pictures: list[tuple[Tensor, Tensor, Tensor]] = []
    for i in range(len(windows)):
        one = windows.select(slice(i, i + 1))
        table = localizer.localize_windows(one.photons, one.conditions)
        tables.append(table if localizer.correction is None else localizer.correction.apply(table, size))
        frames = one.inner(localizer.context)
        emitters = _emitters(table, frames.device)
        level = (one.background * background_factor).expand(inner, frames.shape[1], -1, -1)
        place = one.origin_nm.expand(len(emitters), 2) if psf.varies_in_field else None
        expected = microscope.expected(emitters, level, origin_nm=place)
        residual = (frames - expected) / torch.sqrt(noise.excess * expected + noise.variance + 0.1)
        pictures.append((frames[inner // 2, 0], expected[inner // 2, 0], residual[:, 0]))
    table = Localizations.concat([t for t in tables if len(t)] or tables)
    rim = 3
    pulls = torch.stack([residual for _, _, residual in pictures])[..., rim:-rim, rim:-rim]
    fullest_first = np.argsort([-float(frame.std()) for frame, _, _ in pictures], kind="stable")
    chosen = fullest_first[np.unique(np.linspace(0, len(pictures) // 2, SHOWN).astype(int))]
    data, model = (np.stack([pictures[i][k].cpu().numpy() for i in chosen]) for k in (0, 1))
    shown = Pictures(data, model, np.stack([pictures[i][2][inner // 2].cpu().numpy() for i in chosen]))
    return _summary(table, inner * len(windows), float(pulls.square().clamp(max=MOST_PULL**2).mean())), shown


def _summary(table: Localizations, frames: int, chi2: float) -> Quality:
    if not len(table):
        return Quality(0.0, math.nan, math.nan, math.nan, chi2)
    return Quality(
        per_frame=len(table) / frames,
        probability=float(np.mean(table.probability)),
        sigma_nm=float(np.median(np.hypot(table.sigma_x_nm, table.sigma_y_nm))),
        photons=float(np.median(table.photons)),
        chi2=chi2,
    )


def _emitters(table: Localizations, device: torch.device) -> Emitters:
    names = ("frame", "x_nm", "y_nm", "photons", *(("z_nm",) if table.is_3d else ()))
    columns = {name: torch.from_numpy(np.ascontiguousarray(table.columns[name])).to(device) for name in names}
    return Emitters.of(**{name: value if name == "frame" else value.float() for name, value in columns.items()})
