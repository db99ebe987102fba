"""Many emitters: find, fit together, subtract, find again; no training. The family of 3D-DAOSTORM and of the spline fitters.

What it finds and how it decides stands in `crowd.py`.

Source: Holden, Uphoff, Kapanidis, Nature Methods 8 (2011) 279 and Babcock, Sigal, Zhuang, Optical Nanoscopy 1 (2012) 6 (find, fit, subtract,
find again); Huang, Schwartz, Byars, Lidke, Biomedical Optics Express 2 (2011) 1377 (several emitters by maximum likelihood).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..data import Frames, Localizations
from ..fit import Noise
from ..fit.joint_fits import JointFits
from ..fit.start import depth_starts
from .base import Scales
from .crowd import Crowd, CrowdSettings
from .fitting import Fitting, WindowedSettings, width_in_px
from .single import window_for, window_for_width


class MultiSettings(WindowedSettings):
    """``[localizer] kind = "multi"``."""

    kind: Literal["multi"] = "multi"
    significance: float = Field(
        5.0, gt=0, examples=[12.0], description="least height of a maximum of the residual over the noise of its filter"
    )
    false_positive_rate: float = Field(1e-3, gt=0, lt=1, description="chance that an emitter which is not there is kept")
    most_together: int = Field(8, ge=1, le=24, description="emitters fitted jointly; larger groups are cut")
    sloped_background: bool = Field(False, description="let the background around a group slope")

    def build(self, scales: Scales) -> Multi:
        """Make the localizer; it needs no training."""
        return Multi(self, scales)


class Multi(Fitting):
    """Fits all emitters of a frame, those that overlap together. It knows no probability, so that no threshold on it applies."""

    settings: MultiSettings
    block_px = 1 << 17

    def patch_px(self) -> int:
        """Give the pixels across a Gaussian that nobody gave."""
        return 2 * (window_for_width(self.conditions.width_px) // 2) + 5

    @torch.no_grad()
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize; see `Localizer.forward`. Frames are worked on whole, so that tiles have no meaning here.

        Raises:
            ModelError: a threshold was set, or the PSF has another number of planes than the frames.
        """
        part = self.part_of(frames, keep)
        crowd = self.crowd(frames)
        fits = crowd.grow(crowd.none(), part)
        fits, _ = crowd.prune(fits)
        fits = crowd.settled(fits)
        h, w = crowd.joint.shape_px
        x, y = fits.at[:, 0], fits.at[:, 1]
        return to_localizations(fits.select((x >= -0.5) & (x <= w - 0.5) & (y >= -0.5) & (y <= h - 0.5)), crowd).sort()

    def crowd(self, frames: Frames) -> Crowd:
        """Set up the search in frames."""
        psf, asked = self.psf_for(frames), self.settings
        z_range = asked.depths_of(psf, self.scales)
        noise = Noise(self.conditions.excess, self.conditions.noise_variance)
        width = width_in_px(psf)
        depths = depth_starts(psf, z_range) if self.finds_depth else torch.zeros(1)
        search = CrowdSettings(
            window_px=asked.window_px or window_for(psf, depths),
            reach_px=reach_for(width),
            distance_px=max(1, round(width)),
            width_px=width,
            z_range_nm=z_range,
            significance=asked.significance,
            false_positive_rate=asked.false_positive_rate,
            most=asked.most_together,
            slope=asked.sloped_background,
        )
        return Crowd(frames, psf, noise, search, self.finds_depth)


def reach_for(width_px: float) -> float:
    """Give how far in px an emitter may move from where it starts, along x and along y, by the width of the PSF."""
    return max(1, math.ceil(1.5 * width_px)) + 0.5


def to_localizations(fits: JointFits, crowd: Crowd) -> Localizations:
    """Give fits as a table, row by row, positions in the field."""
    joint = crowd.joint
    sigma = fits.covariance.diagonal(dim1=1, dim2=2).sqrt()
    pixel, units = joint.pixel, torch.ones_like(sigma)
    units[:, :2] = pixel
    sigma = sigma * units
    place = (fits.at[:, :2] + 0.5 + joint.origin) * pixel
    columns: dict[str, Tensor] = {"frame": fits.frame + crowd.frames.first_frame, "x_nm": place[:, 0], "y_nm": place[:, 1]}
    names = ["x_nm", "y_nm", *(["z_nm"] if joint.n_coordinates == 3 else [])]
    if joint.n_coordinates == 3:
        columns["z_nm"] = fits.at[:, 2]
    for k, name in enumerate(names):
        columns[f"sigma_{name}"] = columns[f"crlb_{name}"] = sigma[:, k]
    columns["photons"], columns["sigma_photons"] = fits.at[:, -1], sigma[:, -1]
    columns["background"] = fits.background.mean(1)
    columns["log_likelihood"], columns["p_value"] = fits.log_likelihood, fits.p_value
    return Localizations({name: values.cpu().numpy().astype(np.float64) for name, values in columns.items()})
