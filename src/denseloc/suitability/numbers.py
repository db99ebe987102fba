"""What is compared between the movie and the scenes drawn from the document: one number each, with what it means."""

from __future__ import annotations

import numpy as np

from ..calibrate.photon_transfer import noise_points
from .psf_shape import LEAST, ShapeChange, shape_changes
from .scenes import Setup
from .views import SEEN, UNSEEN, View

LAGS = 3
ORDER = 4
LEAST_SIDE_PX = 24


def numbers(view: View, setup: Setup) -> tuple[dict[str, float], ShapeChange]:
    """Measure a view; what cannot be measured is NaN."""
    shape = shape_changes(view, setup)
    found = {
        "density_per_um2": view.density_per_um2,
        **_columns(view),
        **_residuals(view),
        "noise": noise_ratio(view, setup),
        **_phases(view),
    }
    means = shape.middle()
    for name, (value, error) in zip(("wider", "stretched", "sheared", "brighter"), means, strict=True):
        found |= {name: float(value), f"{name}_error": float(error)}
    found["chi2_spot"] = float(np.median(shape.chi2)) if len(shape.chi2) >= LEAST else np.nan
    return found, shape


def _columns(view: View) -> dict[str, float]:
    """Medians of what the table says."""
    table, found = view.counted, {}
    for name in ("photons", "background", "probability", "sigma_x_nm", "sigma_y_nm", "sigma_z_nm", "z_nm"):
        values = table.columns[name][np.isfinite(table.columns[name])] if name in table else np.empty(0)
        found[name] = float(np.median(values)) if len(values) else np.nan
    return found


def _residuals(view: View) -> dict[str, float]:
    """Chi2 with and without light of molecules, correlation of neighbours."""
    residual, light = view.inside(view.residual), view.inside(view.light)
    dark = light < UNSEEN * np.sqrt(view.inside(view.variance))
    lit = light > SEEN * np.sqrt(view.inside(view.variance))
    map_ = correlation(view)
    near = [map_[LAGS, LAGS + 1], map_[LAGS + 1, LAGS]]
    return {
        "chi2_dark": float((residual[dark] ** 2).mean()) if dark.sum() > 50 else np.nan,
        "chi2_lit": float((residual[lit] ** 2).mean()) if lit.sum() > 50 else np.nan,
        "chi2": float((residual**2).mean()),
        "correlation": float(np.mean(near)),
    }


def correlation(view: View) -> np.ndarray:
    """Give the autocorrelation of the residual of the first plane, (2 LAGS + 1, 2 LAGS + 1) with 1 in the middle."""
    residual = view.inside(view.residual)[:, 0]
    residual = np.clip(residual - residual.mean((1, 2), keepdims=True), -8, 8)
    power = np.abs(np.fft.rfft2(residual, (2 * residual.shape[1], 2 * residual.shape[2]))) ** 2
    spread = np.fft.irfft2(power.mean(0), (2 * residual.shape[1], 2 * residual.shape[2]))
    rows, columns = residual.shape[1:]
    steps = np.arange(-LAGS, LAGS + 1)
    pairs = (rows - np.abs(steps))[:, None] * (columns - np.abs(steps))
    around = spread[np.ix_(steps, steps)] / np.maximum(pairs, 1)
    return np.asarray(around / max(around[LAGS, LAGS], 1e-12))


def noise_ratio(view: View, setup: Setup) -> float:
    """Give the variance of the noise over what the camera says, from the finest structure, which no optics passes."""
    if min(view.scene.shape_px) < LEAST_SIDE_PX:
        return float("nan")
    ratios, weights = [], []
    width = setup.conditions.width_px
    for place, region in enumerate(view.scene.regions):
        windows = view.scene.place == place
        if not windows.any():
            continue
        stack = view.scene.inner[windows][:, :, 0].reshape(-1, *view.scene.shape_px)
        points = noise_points(stack, width, ORDER)
        if not len(points.mean):
            continue
        camera = setup.camera_of(region, view.scene.shape_px)
        said = float(np.mean(np.asarray(camera.excess))) * np.maximum(points.mean, 0.0) + float(
            camera.noise_variance(view.scene.shape_px).mean()
        )
        good = said > 0
        ratios.append(points.variance[good] / said[good])
        weights.append((said[good] / points.sigma[good]) ** 2)
    if not ratios:
        return float("nan")
    ratio, weight = np.concatenate(ratios), np.concatenate(weights)
    return float((ratio * weight).sum() / weight.sum()) if weight.sum() > 0 else float("nan")


def _phases(view: View) -> dict[str, float]:
    """How unevenly positions lie inside of the pixel: length of the first wave along x and y."""
    table, found = view.counted, {}
    for axis, pixel in zip("yx", view.pixel_size_nm, strict=True):
        values = table.columns[f"{axis}_nm"]
        wave = np.exp(2j * np.pi * values / pixel).mean() if len(values) >= 50 else np.nan
        found[f"subpixel_{axis}"] = float(np.abs(wave))
    return found
