"""A PSF from a stack of beads: a formula and the pixel maps of what it misses, by maximum likelihood.

Source: Speiser et al. 2019, section 1.3: the beads' x and y are shared over the stack, z is the stage, shape parameters and maps are found
by gradient ascent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..camera import Camera
from ..errors import CalibrationError
from ..optics import PSF, AstigmaticSettings, DoubleHelixSettings, GaussianSettings, PSFSettings, ResidualMaps
from ..units import PixelSize


@dataclass(frozen=True)
class BeadFit:
    """A PSF and how well it describes its beads.

    Args:
        psf: the document section.
        x_nm, y_nm: (beads,) places in the field, corner origin.
        photons: (beads,) of each bead.
        chi2: mean squared residual in units of the expected variance; 1 is perfect.
        chi2_formula: the same without maps.
        residual: (depths, k, k) mean residual over the beads, as a fraction of the photons.
    """

    psf: PSFSettings
    x_nm: np.ndarray
    y_nm: np.ndarray
    photons: np.ndarray
    chi2: float
    chi2_formula: float
    residual: np.ndarray


def fit_beads(
    stack: np.ndarray,
    z_nm: np.ndarray,
    camera: Camera,
    pixel_size_nm: PixelSize,
    kind: str,
    *,
    roi_px: int = 21,
    map_step_nm: float = 100.0,
    nodes_per_px: int = 2,
    steps: int = 300,
    progress: Callable[[str], None] = lambda _: None,
) -> BeadFit:
    """Fit a PSF to one stack.

    Args:
        stack: (depths, rows, columns) counts.
        z_nm: (depths,) position of the bead in each plane; the sign that it has here is the sign of all depths later.
        camera: turns counts into photons.
        pixel_size_nm: (y, x).
        kind: "gaussian", "astigmatic" or "double_helix".
        roi_px: odd width of the patch.
        map_step_nm: distance of the residual maps in z; 0 for no maps.
        nodes_per_px: nodes of the maps per pixel.
        steps: gradient steps of each stage.
        progress: told what is going on.

    Raises:
        CalibrationError: no usable bead, or depths and planes do not agree.
    """
    if stack.ndim != 3 or len(stack) != len(z_nm):
        raise CalibrationError(
            f"a bead stack of shape {stack.shape} with {len(z_nm)} depths; expected (depths, rows, columns), one depth a plane"
        )
    photons = camera.to_photons(torch.from_numpy(stack.astype(np.float32)))
    rows, columns = find_beads(photons.mean(0).numpy(), roi_px)
    half = roi_px // 2
    patches = torch.stack(
        [photons[:, r - half : r + half + 1, c - half : c + half + 1] for r, c in zip(rows, columns, strict=True)], 1
    )
    progress(f"{len(rows)} beads, {len(z_nm)} planes")
    z = torch.from_numpy(np.asarray(z_nm, np.float32))
    fit = _Fit(patches, z, float(torch.as_tensor(camera.excess).mean()), float(camera.noise_variance(stack.shape[-2:]).mean()))
    psf = _begin(kind, patches, z, pixel_size_nm, roi_px)
    chi2_formula = fit.run(psf, steps, rate=0.02)
    progress(f"formula: chi2 {chi2_formula:.2f}")
    chi2 = chi2_formula
    if map_step_nm > 0:
        psf = _with_maps(psf, z, map_step_nm, nodes_per_px)
        chi2 = fit.run(psf, 2 * steps, rate=0.004)
        progress(f"with maps: chi2 {chi2:.2f}")
    x, y = fit.offset.detach().numpy().T
    return BeadFit(
        psf=psf.described(),
        x_nm=(columns + x + 0.5) * pixel_size_nm[1],
        y_nm=(rows + y + 0.5) * pixel_size_nm[0],
        photons=fit.log_photons.detach().exp().numpy(),
        chi2=chi2,
        chi2_formula=chi2_formula,
        residual=fit.residual(psf),
    )


def find_beads(mean_photons: np.ndarray, roi_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Find isolated beads in the mean over the stack whose whole patch lies inside the field; gives rows and columns."""
    blur = roi_px / 5  # two lobes become one
    smooth = ndimage.gaussian_filter(mean_photons, blur)
    low = np.quantile(smooth, 0.2)
    grain = 1.48 * np.median(np.abs(np.diff(mean_photons, axis=0))) / np.sqrt(2)
    limit = low + max(0.3 * (smooth.max() - low), 8 * grain / (2 * np.sqrt(np.pi) * blur))
    is_peak = (smooth == ndimage.maximum_filter(smooth, roi_px // 2 | 1)) & (smooth > limit)
    rows, columns = np.nonzero(is_peak)
    half = roi_px // 2
    inside = (rows >= half) & (columns >= half) & (rows < smooth.shape[0] - half) & (columns < smooth.shape[1] - half)
    distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns) + 1e9 * np.eye(len(rows))
    alone = distance.min(1, initial=1e9) > 0.8 * roi_px
    if not (inside & alone).any():
        raise CalibrationError(
            f"no usable bead: {len(rows)} found, {int((~inside).sum())} too near to the edge, {int((~alone).sum())} too near to another; "
            f"give a stack with isolated beads at least {half} px from the edge, or a smaller roi_px"
        )
    return rows[inside & alone], columns[inside & alone]


class _Fit:
    """Patches (depths, beads, k, k), and the parameters of the beads."""

    def __init__(self, patches: Tensor, z_nm: Tensor, excess: float, noise: float) -> None:
        depths, beads, k, _ = patches.shape
        self.patches, self.excess, self.noise = patches, excess, noise
        self.z = z_nm[:, None].expand(depths, beads).reshape(-1)
        rim = torch.ones(k, k, dtype=torch.bool)
        rim[2:-2, 2:-2] = False
        self.background = patches[:, :, rim].median(-1).values.median(0).values.clone().requires_grad_()
        light = (patches - self.background.detach()[:, None, None]).sum((2, 3)).median(0).values.clamp(min=1.0)
        self.log_photons = light.log().requires_grad_()
        at = torch.arange(k, dtype=torch.float32) - k // 2
        middle = (patches.mean(0) - self.background.detach()[:, None, None]).clamp(min=0)
        middle = middle * (at**2 + at[:, None] ** 2 < (k / 3) ** 2)
        total = middle.sum((1, 2))
        self.offset = torch.stack([(middle.sum(1) * at).sum(1) / total, (middle.sum(2) * at).sum(1) / total], -1).requires_grad_()

    def model(self, psf: PSF) -> Tensor:
        depths, beads, k, _ = self.patches.shape
        # a bead may lie off the middle pixel; it is drawn about its own pixel, where the maps are known, and moved
        whole = self.offset.detach().round()
        offset = (self.offset - whole).expand(depths, beads, 2).reshape(-1, 2)
        shape = psf(offset, self.z)[:, 0].reshape(depths, beads, k, k)
        for bead, (x, y) in enumerate(whole.long().tolist()):
            if x or y:
                shape = torch.cat((shape[:, :bead], shape[:, bead : bead + 1].roll((y, x), (2, 3)), shape[:, bead + 1 :]), 1)
        return self.background[:, None, None] + self.log_photons.exp()[:, None, None] * shape

    def run(self, psf: PSF, steps: int, rate: float) -> float:
        """Maximise the likelihood over beads and PSF; gives chi2 per pixel."""
        for name, value in psf.named_parameters():
            if name == "angle_deg" and float(value.detach()) == 0:  # axes along the pixels stay so, which is also far quicker
                value.requires_grad_(False)
        natural = [p for n, p in psf.named_parameters() if n != "maps" and p.requires_grad]
        scale = [max(1.0, abs(float(p.detach().abs().max()))) for p in natural]
        groups: list[dict[str, Any]] = [{"params": [p], "lr": rate * s} for p, s in zip(natural, scale, strict=True)]
        groups += [{"params": [self.offset], "lr": rate}, {"params": [self.log_photons], "lr": rate}]
        groups += [{"params": [self.background], "lr": rate * float(self.background.detach().mean().clamp(min=1))}]
        if psf.maps is not None:
            groups.append({"params": [psf.maps], "lr": rate * 0.1})
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * i / steps)))
        chi2 = math.nan
        for _ in range(steps):
            model = self.model(psf)
            variance = (self.excess * model.detach().clamp(min=1.0) + self.noise).clamp(min=1e-3)
            squares = (self.patches - model) ** 2 / variance
            chi2 = float(squares.detach().mean())
            loss = squares.mean()
            if psf.maps is not None:
                loss = loss + 30 * psf.maps.square().sum((-1, -2)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            psf.keep_possible()
        return chi2

    @torch.no_grad()
    def residual(self, psf: PSF) -> np.ndarray:
        """Mean residual over the beads as a fraction of their photons, (depths, k, k)."""
        return ((self.patches - self.model(psf)) / self.log_photons.exp()[:, None, None]).mean(1).numpy()


def _moments(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Second moments (depths,) of the beads' light: mean size^2, and the two components (xx - yy) / 2 and xy of its elongation, in px^2."""
    k = patches.shape[-1]
    rim = torch.cat([patches[..., :2, :].flatten(2), patches[..., -2:, :].flatten(2)], -1).median(-1).values
    light = (patches - rim[..., None, None]).mean(1)
    at = torch.arange(k, dtype=torch.float32) - k // 2
    light = light.clamp(min=0) * torch.exp(-(at**2 + at[:, None] ** 2) / (2 * (k / 4) ** 2))
    total = light.sum((1, 2))
    x, y = (light.sum(1) * at).sum(1) / total, (light.sum(2) * at).sum(1) / total
    xx = (light.sum(1) * at**2).sum(1) / total - x**2
    yy = (light.sum(2) * at**2).sum(1) / total - y**2
    xy = (light * at * at[:, None]).sum((1, 2)) / total - x * y
    return (xx + yy) / 2, (xx - yy) / 2, xy


def _begin(kind: str, patches: Tensor, z: Tensor, pixel_size_nm: PixelSize, roi_px: int) -> PSF:
    """Guess the formula's parameters from the moments of the light."""
    p = pixel_size_nm[1]
    size, along, across = _moments(patches)
    focus = float(z[size.argmin()])
    if kind == "gaussian":
        return GaussianSettings(width_nm=1.2 * p, depth_nm=400.0, focus_nm=focus, roi_px=roi_px).build(pixel_size_nm)
    if kind == "astigmatic":
        # the elongation (along, across) runs along a line through 0 as z passes the two foci; its direction is twice the angle
        spread = torch.stack((along, across), -1)
        direction = torch.linalg.eigh(spread.T @ spread).eigenvectors[:, -1]
        angle = 0.5 * math.degrees(math.atan2(float(direction[1]), float(direction[0])))
        turned = abs(angle) > 5 and abs(abs(angle) - 90) > 5
        angle = angle if turned else 0.0
        direction = torch.tensor([math.cos(math.radians(2 * angle)), math.sin(math.radians(2 * angle))])
        elongation = spread @ direction
        slope = float(
            (elongation * (z - focus)).sum()
        )  # above 0: wide along the first axis at large z, so that axis is in focus at small z
        gap = -250.0 if slope > 0 else 250.0
        settings = AstigmaticSettings(
            width_nm=1.2 * p,
            focus_a_nm=focus + gap,
            focus_b_nm=focus - gap,
            depth_nm=350.0,
            angle_deg=angle,
            roi_px=roi_px,
            quartic=0.05,
        )
        return settings.build(pixel_size_nm)
    if kind == "double_helix":
        twice = np.unwrap(np.arctan2(across.numpy(), along.numpy()))
        inner = np.abs(z.numpy()) < 0.8 * np.abs(z.numpy()).max()
        turn, start = np.polyfit(z.numpy()[inner] * 1e-3, np.degrees(twice[inner]) / 2, 1)
        strength = torch.sqrt(along**2 + across**2).median()
        separation = 2 * math.sqrt(2 * float(strength)) * p
        settings_dh = DoubleHelixSettings(
            width_nm=1.5 * p,
            separation_nm=separation,
            turn_deg_per_um=float(turn),
            angle_deg=float(start),
            depth_nm=800.0,
            roi_px=roi_px,
        )
        return settings_dh.build(pixel_size_nm)
    raise CalibrationError(f"no fit for a PSF of kind '{kind}'; known: gaussian, astigmatic, double_helix")


def _with_maps(psf: PSF, z: Tensor, step_nm: float, nodes_per_px: int) -> PSF:
    """Give the PSF empty residual maps over the depths of the stack."""
    low, high = float(z.min()), float(z.max())
    depths = max(1, round((high - low) / step_nm)) + 1
    side = nodes_per_px * psf.roi_px + 1
    maps = ResidualMaps(
        values=np.zeros((depths, side, side), np.float32),
        z_min_nm=low,
        z_step_nm=(high - low) / max(1, depths - 1),
        nodes_per_px=nodes_per_px,
    )
    return psf.described().model_copy(update={"residual_maps": maps}).build(psf.pixel_size_nm)
