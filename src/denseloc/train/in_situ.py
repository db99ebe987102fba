"""The PSF from the molecules of a movie: its parameters, and place and light of all molecules of many frames, fitted together.

What a network finds with a PSF that is off is off as well: a molecule's depth goes with the widths that the network believes in. So
theta that climbs the likelihood at drawn sets follows the network and stays near it. Here the molecules that the network found are a
beginning only. They move together with the PSF to the most probable state, by a quasi-Newton method over some thousand numbers, each
in units of what is known of it: those of a molecule by the network's own sigma.

Light that no PSF of its kind explains is a noise that grows with the signal, its relative size learned too: it keeps a few bright
molecules out of focus from deciding, and says afterwards how well the kind of PSF suits the movie.

Source: Xu et al., Nature Methods 17 (2020) 531 (PSFs from blinking molecules themselves); Byrd, Lu, Nocedal, Zhu, SIAM J. Sci. Comput.
16 (1995) 1190 (L-BFGS-B). Ours: all molecules of crowded frames at once, begun by a network; smooth priors of the maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

from ..camera import density
from ..data import Emitters
from ..localize import InferringLocalizer
from ..microscope import Microscope
from .theta import Theta
from .wake import LIGHT_PX, MovieWindows, Noise

MOST_FRAMES = 240
MOST_ITERATIONS = 120
LEAST_EMITTERS = 30
BELIEVED = 0.3  # probability from which on a molecule is fitted
LOOSE = 10.0  # a molecule may leave its beginning by some times its sigma
MAPS_SD = 0.005  # of the PSF's peak: how far maps are expected to change
SMOOTH_PX, SMOOTH_Z_NM = 1.0, 100.0  # how smoothly
FIRST_MISFIT, MISFITS = 0.05, (0.005, 1.0)
AT_ONCE = 8  # windows that the network looks at together


@dataclass(frozen=True)
class Seen:
    """Some frames of a movie and what a network found in them.

    Args:
        frames: (n, planes, s, s) photons.
        level: (n, 1, s, s) measured background.
        origin_nm: (n, 2) of the windows in the field.
        emitters: begin the fit; m.
        sigma: (m, 4) of x, y, z in nm and of log photons.
        probability: (m,).
    """

    frames: Tensor
    level: Tensor
    origin_nm: Tensor
    emitters: Emitters
    sigma: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Fitted:
    """What theta was fitted to: how many frames, and molecules in them."""

    frames: int
    emitters: int


@torch.no_grad()
def see(localizer: InferringLocalizer, windows: MovieWindows, most: int = MOST_FRAMES) -> Seen:
    """Let a localizer look at the inner frames of some windows, spread evenly over them."""
    inner = windows.photons.shape[1] - 2 * localizer.context
    picked = np.unique(np.linspace(0, len(windows) - 1, max(1, min(len(windows), most // inner))).astype(int))
    some = windows.select(torch.from_numpy(picked).to(windows.photons.device))
    found, sigma, probability = [], [], []
    for first in range(0, len(some), AT_ONCE):
        part = some.select(slice(first, first + AT_ONCE))
        table = localizer.localize_windows(part.photons, part.conditions)
        names = ("x_nm", "y_nm", "photons", *(("z_nm",) if table.is_3d else ()))
        told = {
            name: torch.from_numpy(np.array(table.columns[name])).to(part.photons)
            for name in (*names, *(f"sigma_{one}" for one in names), "probability")
        }
        frame = torch.from_numpy(np.array(table.columns["frame"])).to(part.photons.device) + first * inner
        found.append(Emitters.of(frame, **{name: told[name] for name in names}))
        z = told["sigma_z_nm"] if table.is_3d else torch.ones_like(told["x_nm"])
        light = (told["sigma_photons"] / told["photons"].clamp(min=1)).clamp(0.02, 0.5)
        sigma.append(torch.stack((told["sigma_x_nm"].clamp(min=1), told["sigma_y_nm"].clamp(min=1), z.clamp(min=1), light), 1))
        probability.append(told["probability"])
    level, origin = (part.repeat_interleave(inner, 0) for part in (some.background, some.origin_nm))
    return Seen(some.inner(localizer.context), level, origin, Emitters.concat(found), torch.cat(sigma), torch.cat(probability))


def fit_in_situ(theta: Theta, seen: Seen, microscope: Microscope, noise: Noise) -> Fitted | None:
    """Fit theta's PSF, background and noise, and set its rates, in place; None, and nothing changed, where molecules are too few or it fails.

    Args:
        theta: changed in place, within its bounds.
        seen: frames and the molecules to begin with.
        microscope: with theta's PSF, on the frames' grid.
        noise: of the camera.
    """
    kept = torch.nonzero(seen.probability > BELIEVED)[:, 0]
    if len(kept) < LEAST_EMITTERS:
        return None
    chosen = replace(seen, emitters=seen.emitters.select(kept), sigma=seen.sigma[kept], probability=seen.probability[kept])
    fit = _Fit(theta, chosen, microscope, noise)
    found = minimize(
        fit.value_and_slope,
        np.zeros(fit.size),
        jac=True,
        method="L-BFGS-B",
        bounds=fit.bounds(),
        options={"maxiter": MOST_ITERATIONS, "maxcor": 20, "ftol": 1e-8},
    )
    if not np.isfinite(found.x).all() or not math.isfinite(float(found.fun)):
        fit.take(torch.zeros(fit.size))
        return None
    fit.take(torch.from_numpy(found.x))
    emitters = fit.emitters()
    emitters = replace(emitters, z_nm=emitters.z_nm - theta.keep())  # foci and molecules move together
    theta.count(emitters, seen.probability.sum(), seen.frames[:, 0].numel())
    theta.misfit.fill_(float(fit.log_misfit.detach().exp()))
    return Fitted(len(seen.frames), len(kept))


class _Fit:
    """The target, as a function of one vector: all that is free, in units of what is known of it."""

    def __init__(self, theta: Theta, seen: Seen, microscope: Microscope, noise: Noise) -> None:
        self.theta, self.seen, self.microscope, self.noise = theta, seen, microscope, noise
        device = seen.frames.device
        self.log_misfit = nn.Parameter(torch.tensor(math.log(FIRST_MISFIT), device=device))
        self.free = {f"psf.{name}": theta.psf.get_parameter(name) for name in theta.learned}
        self.free |= {"log_background": theta.log_background, "log_noise": theta.log_noise, "log_misfit": self.log_misfit}
        self.first = {name: value.detach().clone() for name, value in self.free.items()}
        self.unit = {name: self._unit(name, float(value.detach().abs().max())) for name, value in self.free.items()}
        self.moves = torch.zeros(len(seen.emitters), 4, device=device)
        self.size = self.moves.numel() + sum(value.numel() for value in self.free.values())
        side = seen.frames.shape[-1]
        self.cut = (..., slice(LIGHT_PX, side - LIGHT_PX), slice(LIGHT_PX, side - LIGHT_PX))

    def _unit(self, name: str, value: float) -> float:
        if name == "psf.maps":
            return MAPS_SD * self.theta.maps_peak
        if name.removeprefix("psf.") in self.theta.foci:
            return 10.0
        return 0.02 * max(value, 0.1) if name.startswith("psf.") else 0.05

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Give the ends of each number: those of theta, none for molecules and maps."""
        ends: list[tuple[float | None, float | None]] = [(None, None)] * self.moves.numel()
        known = {**self.theta.bounds, "log_misfit": (math.log(MISFITS[0]), math.log(MISFITS[1]))}
        for name, value in self.free.items():
            if name == "psf.maps":
                ends += [(None, None)] * value.numel()
            else:
                at, unit = float(self.first[name]), self.unit[name]
                ends.append(((known[name][0] - at) / unit, (known[name][1] - at) / unit))
        return ends

    def value_and_slope(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Give minus the log-probability and its slopes."""
        changes = self.take(torch.from_numpy(vector))
        self.moves.requires_grad_(True)
        with torch.enable_grad():
            value = self._value()
            slopes = torch.autograd.grad(value, [self.moves, *self.free.values()])
        self.moves.requires_grad_(False)
        parts = [(slopes[0] + self.moves / LOOSE**2).flatten()]
        total = float(value.detach()) + float(self.moves.square().sum()) / (2 * LOOSE**2)
        for (name, change), slope in zip(changes.items(), slopes[1:], strict=True):
            in_units = self.unit[name] * slope
            if name == "psf.maps":
                in_units = self._smooth(in_units) + change
                total += float(change.square().sum()) / 2
            parts.append(in_units.flatten())
        return total, torch.cat(parts).double().cpu().numpy()

    @torch.no_grad()
    def take(self, vector: Tensor) -> dict[str, Tensor]:
        """Put a vector into molecules and theta; gives the changes of theta in their units."""
        vector = vector.to(self.moves)
        self.moves.copy_(vector[: self.moves.numel()].reshape(self.moves.shape))
        at, changes = self.moves.numel(), {}
        for name, value in self.free.items():
            changes[name] = vector[at : at + value.numel()].reshape(value.shape)
            at += value.numel()
            moved = self._smooth(changes[name]) if name == "psf.maps" else changes[name]
            value.copy_(self.first[name] + self.unit[name] * moved)
        return changes

    def emitters(self) -> Emitters:
        """Give the molecules where they are now."""
        begun, by = self.seen.emitters, self.moves * self.seen.sigma
        z = begun.z_nm + by[:, 2] if self.theta.scales.z_unit_nm else begun.z_nm
        light = begun.photons * by[:, 3].clamp(-5, 5).exp()
        return replace(begun, x_nm=begun.x_nm + by[:, 0], y_nm=begun.y_nm + by[:, 1], z_nm=z, photons=light)

    def _value(self) -> Tensor:
        """Give minus the log-likelihood of the frames."""
        seen, emitters, noise = self.seen, self.emitters(), self.noise
        level = (seen.level * self.theta.log_background.exp()).expand(-1, seen.frames.shape[1], -1, -1)
        place = seen.origin_nm[emitters.frame] if self.microscope.psf.varies_in_field else None
        expected = self.microscope.expected(emitters, level, origin_nm=place)[self.cut].clamp(min=density.SMALL)
        signal = (expected - level[self.cut]).clamp(min=0)
        excess = noise.excess + (2 * self.log_misfit).exp() * signal.square() / expected
        variance = torch.tensor(noise.variance, device=expected.device)
        return -self.theta.log_likelihood(seen.frames[self.cut], expected, excess, variance).sum()

    def _smooth(self, maps: Tensor) -> Tensor:
        """Smooth maps (planes, depths, s, s) so that white noise of unit variance keeps its variance; symmetric."""
        described = self.theta.psf.settings.residual_maps
        assert described is not None
        steps = (SMOOTH_Z_NM / described.z_step_nm, *(2 * [SMOOTH_PX * described.nodes_per_px]))
        for axis, sd in zip((1, 2, 3), steps, strict=True):
            reach = max(1, round(3 * sd))
            kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=maps.device) / sd) ** 2)
            kernel = kernel / kernel.square().sum().sqrt()
            along = maps.movedim(axis, -1)
            maps = functional.conv1d(along.reshape(-1, 1, along.shape[-1]), kernel[None, None], padding=reach)
            maps = maps.reshape(along.shape).movedim(-1, axis)
        return maps
