"""How the images of molecules differ from the document's PSF: wider or narrower, and longer in one direction.

At each localization the residual is fitted by what small changes of the PSF would do: of its photons, the background, its place, its depth,
its width, its extent along x against y, and along one diagonal against the other. Errors of the localizer go into place and depth; the rest
is of the PSF.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..optics import PSF
from .scenes import Setup
from .views import View, corners_nm

LEAST = 12
STEP = 0.04  # relative change of the width by which the derivative is taken
MOST = 3000
RIDGE = 1e-3
SEEN_AGAIN = 2.0  # frames in which the same molecule says the same
CHI2_PX = 2  # patches of 5 x 5 pixels are judged


@dataclass(frozen=True, eq=False)
class ShapeChange:
    """Relative changes of the light and of the PSF's extent at each localization.

    Args:
        change: (n, 4) of the width; along x against y; along one diagonal against the other; of the photons.
        weight: (n, 4) inverse variances.
        z_nm: (n,) depth.
        chi2: (n,) of the pixels around each.
    """

    change: np.ndarray
    weight: np.ndarray
    z_nm: np.ndarray
    chi2: np.ndarray

    def middle(self, keep: np.ndarray | None = None) -> np.ndarray:
        """Give weighted medians and their standard errors, (4, 2); NaN where there are few.

        Two molecules that are taken for one are outliers, which a median bears.
        """
        rows = np.ones(len(self.change), bool) if keep is None else keep
        if rows.sum() < LEAST:
            return np.full((4, 2), np.nan)
        value, weight = self.change[rows], self.weight[rows]
        weight = np.minimum(weight, 4 * np.median(weight, 0))
        middle = np.array([_weighted_median(v, w) for v, w in zip(value.T, weight.T, strict=True)])
        spread = np.array([1.48 * _weighted_median(np.abs(v - m), w) for v, w, m in zip(value.T, weight.T, middle, strict=True)])
        number = weight.sum(0) ** 2 / (weight**2).sum(0)
        return np.stack([middle, 1.25 * spread * np.sqrt(SEEN_AGAIN / number)], 1)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, share[-1] / 2)])


@torch.no_grad()
def shape_changes(view: View, setup: Setup) -> ShapeChange:
    """Fit the residual at each localization inside of the rim."""
    table = view.clear
    if "photons" in table:
        table = table.select(np.isfinite(table.photons) & (table.photons > 0))
    if "photons" not in table or not len(table):
        return ShapeChange(np.empty((0, 4)), np.empty((0, 4)), np.empty(0), np.empty(0))
    table = table.select(np.arange(0, len(table), max(1, len(table) // MOST)))
    psf = setup.experiment.psf.build(setup.experiment.pixel_size_nm)
    half = min(psf.roi_px // 2, 5, (min(view.scene.shape_px) - 1) // 2)
    y, x = table.y_nm / view.pixel_size_nm[0] - 0.5, table.x_nm / view.pixel_size_nm[1] - 0.5
    rows, columns = (
        np.clip(v.round().astype(int), half, side - 1 - half) for v, side in zip((y, x), view.scene.shape_px, strict=True)
    )
    dy, dx = (np.clip(v - at, -0.5, 0.5) for v, at in zip((y, x), (rows, columns), strict=True))
    depth = table.z_nm if table.is_3d else np.zeros(len(table))
    window = table.frame // view.scene.inner.shape[1]
    place = np.stack([table.x_nm, table.y_nm], 1) + corners_nm(view.scene, setup)[window] if psf.varies_in_field else None
    channel = torch.from_numpy(table.channel) if "channel" in table else torch.zeros(len(table), dtype=torch.long)
    design = _design(psf, channel, (dx, dy, depth), setup, table.photons, half, place)
    steps = np.arange(-half, half + 1)
    at = (table.frame[:, None, None], slice(None), rows[:, None, None] + steps[:, None], columns[:, None, None] + steps)
    left, noise = (np.moveaxis(v[at], -1, 1) for v in (view.photons - view.expected, view.variance))
    change, weight = _solve(design, left.reshape(len(table), -1), noise.reshape(len(table), -1))
    near = slice(half - CHI2_PX, half + CHI2_PX + 1)
    chi2 = (left**2 / noise)[:, :, near, near].mean((1, 2, 3))
    return ShapeChange(change, weight, depth, chi2)


def _design(
    psf: PSF,
    channel: torch.Tensor,
    at: tuple[np.ndarray, np.ndarray, np.ndarray],
    setup: Setup,
    photons: np.ndarray,
    half: int,
    place: np.ndarray | None,
) -> np.ndarray:
    """Give what a unit of each change does to the patches: (n, changes, planes * pixels); those that are asked for come last.

    ``at``: (n,) offsets dx and dy in pixels and depths in nm; ``place``: (n, 2) nm (x, y) in the whole field, for a PSF that varies there.
    """
    dx, dy, z = at
    offset = torch.from_numpy(np.stack([dx, dy], 1)).float()
    z_nm, ones = torch.from_numpy(np.asarray(z)).float(), torch.ones(len(dx))
    scale = setup.scale * ones
    place_nm = None if place is None else torch.from_numpy(place).float()

    def draw(shift_x: float = 0.0, shift_y: float = 0.0, depth: float = 0.0, wider: float = 1.0) -> np.ndarray:
        moved = offset + torch.tensor([shift_x, shift_y])
        patches = psf.in_channels(channel, moved, z_nm + depth, scale * wider, place_nm).numpy()
        cut = psf.roi_px // 2 - half
        return patches[:, :, cut : patches.shape[2] - cut, cut : patches.shape[3] - cut]

    base = draw()
    along_x, along_y = ((draw(**{n: STEP}) - draw(**{n: -STEP})) / (2 * STEP) for n in ("shift_x", "shift_y"))
    wider = (draw(wider=1 + STEP) - draw(wider=1 - STEP)) / (2 * STEP)
    steps = np.arange(-half, half + 1)
    x, y = steps - dx[:, None, None, None], (steps[:, None] - dy[:, None, None, None])
    stretched, sheared = (x * along_x - y * along_y) / 2, (x * along_y + y * along_x) / 2
    columns = [along_x, along_y, wider, stretched, sheared, base]
    if setup.localizer.scales.z_unit_nm:
        columns.insert(2, (draw(depth=20.0) - draw(depth=-20.0)) / 40.0 * 100.0)
    lit = [photons[:, None, None, None] * column for column in columns]
    flat = [np.ones_like(base) * (np.arange(base.shape[1]) == plane)[:, None, None] for plane in range(base.shape[1])]
    return np.stack([column.reshape(len(dx), -1) for column in (*flat, *lit)], 1)


def _solve(design: np.ndarray, left: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit by weighted least squares; the last four changes and their inverse variances."""
    weighted = design / noise[:, None]
    normal = np.einsum("nik,njk->nij", weighted, design)
    size = np.sqrt(np.einsum("nii->ni", normal).clip(min=1e-20))
    normal = normal / size[:, :, None] / size[:, None] + RIDGE * np.eye(normal.shape[1])
    inverse = np.linalg.inv(normal)
    solution = np.einsum("nij,nj->ni", inverse, np.einsum("nik,nk->ni", weighted, left) / size) / size
    variance = np.einsum("nii->ni", inverse) / size**2
    return solution[:, -4:], 1 / np.maximum(variance[:, -4:], 1e-12)
