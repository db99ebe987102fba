"""Theta: what of the microscope and of its molecules is learned from a movie, with bounds that it may not leave.

PSF: widths, foci and residual maps, as far as a movie without truth can tell them. Where the PSF shows depth, its scale and zero in
z are those of the calibration: no movie says how far a molecule lies from the focus, only how it looks. Maps keep their light and
its centre. Besides: level of the background, noise, density, and the laws of photons and z, as a normal law of each.

Source: Speiser, Turaga, Macke 2019, sections 1.1 to 1.3.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..camera import density
from ..data import Emitters
from ..localize.base import Scales
from ..localize.draws import Draws, SetLaw
from ..optics import PSF

SHARE_BOUNDS, SHARE_BEGINS = (0.05, 0.95), (0.1, 0.9)  # of a part that is hardly there at the beginning no share is learned
FOCI_MOVE = 0.5  # of their distance from each other
MAPS_MOVE = 0.25  # of the PSF's peak
ODD = 1e-3  # share of pixels that hold what the model does not know, such as dust
ODD_RANGE = 1e3  # photons over which such light is spread evenly, for the frames' log-likelihood
NEAR_BOUND = 0.01


@dataclass(frozen=True)
class Beginning:
    """What is known of a movie before theta is learned.

    Args:
        per_um2: emitters per um^2 and frame.
        photons: typical photons of an emitter.
        photons_sd: standard deviation of their logarithm.
        z_nm: (low, high).
    """

    per_um2: float
    photons: float
    photons_sd: float
    z_nm: tuple[float, float]


class Theta(nn.Module):
    """The generative parameters.

    Args:
        psf: learned in place.
        scales: units of the localizer.
        beginning: of the movie.
        learn_psf: whether the PSF is learned, or only the rest.
    """

    first_maps: Tensor
    misfit: Tensor

    def __init__(self, psf: PSF, scales: Scales, beginning: Beginning, *, learn_psf: bool = True) -> None:
        super().__init__()
        self.psf, self.scales = psf, scales
        y_nm, x_nm = scales.pixel_size_nm
        low, high = beginning.z_nm
        unit = scales.z_unit_nm or 1.0
        spread = max((high - low) / unit / math.sqrt(12), 1e-2)

        def scalar(value: float) -> nn.Parameter:
            return nn.Parameter(torch.tensor(float(value)))

        self.log_background, self.log_noise = scalar(0.0), scalar(0.0)
        self.log_per_px = scalar(math.log(max(beginning.per_um2 * y_nm * x_nm * 1e-6, 1e-6)))
        self.photons_mean = scalar(math.log(max(beginning.photons, 1.0) / scales.photon_unit))
        self.photons_log_sd = scalar(math.log(min(max(beginning.photons_sd, 0.15), 1.5)))
        self.z_mean, self.z_log_sd = scalar((low + high) / 2 / unit), scalar(math.log(spread))
        self.bounds: dict[str, tuple[float, float]] = {}
        for name, reach in (
            ("log_background", math.log(2)),
            ("log_noise", math.log(2)),
            ("log_per_px", math.log(10)),
            ("photons_mean", math.log(10)),
            ("photons_log_sd", math.log(5)),
            ("z_mean", 1.0),
            ("z_log_sd", math.log(4)),
        ):
            at = float(getattr(self, name).detach())
            self.bounds[name] = (at - reach, at + reach)
        for value in (self.z_mean, self.z_log_sd):
            value.requires_grad_(scales.z_unit_nm > 0)
        psf.requires_grad_(False)
        self.register_buffer("misfit", torch.tensor(0.0))  # relative error of molecules' light; 0 before a PSF was fitted to any
        self.learned = self._free_psf() if learn_psf else []

    def _free_psf(self) -> list[str]:
        """Set free what can be learned of the PSF, and note its bounds; gives the names."""
        learned = []
        values, kinds = dict(self.psf.named_parameters()), self.psf.told_by_movies
        foci = [float(values[name].detach()) for name in self.foci]
        for name, value in values.items():
            at = float(value.detach()) if value.ndim == 0 else math.nan
            kind = kinds.get(name)
            if isinstance(kind, float) and at > 0:
                self.bounds[f"psf.{name}"] = (at / kind, at * kind)
            elif kind == "share" and SHARE_BEGINS[0] <= at <= SHARE_BEGINS[1]:
                self.bounds[f"psf.{name}"] = SHARE_BOUNDS
            elif kind == "focus":
                reach = FOCI_MOVE * (max(foci) - min(foci)) + 10.0
                self.bounds[f"psf.{name}"] = (at - reach, at + reach)
            elif name == "maps":
                middle = torch.zeros(1, device=value.device)
                with torch.no_grad():
                    peak = float(self.psf(torch.zeros(1, 2, device=value.device), middle).max())
                self.register_buffer("first_maps", value.detach().clone())
                self.bounds["psf.maps"] = (-MAPS_MOVE * peak, MAPS_MOVE * peak)
            else:
                continue
            value.requires_grad_(True)
            learned.append(name)
        return learned

    @property
    def foci(self) -> list[str]:
        """Names of the PSF's foci that a movie can tell of."""
        return [name for name, kind in self.psf.told_by_movies.items() if kind == "focus"]

    # ---------------------------------------------------------------------------------------------------------------------- the model

    @property
    def per_um2(self) -> float:
        """Emitters per um^2 and frame."""
        y_nm, x_nm = self.scales.pixel_size_nm
        return math.exp(float(self.log_per_px.detach())) / (y_nm * x_nm * 1e-6)

    @property
    def maps_peak(self) -> float:
        """Largest value of the PSF that the maps belong to."""
        return self.bounds["psf.maps"][1] / MAPS_MOVE

    @torch.no_grad()
    def count(self, emitters: Emitters, number: Tensor, pixels: int) -> None:
        """Set the rates to those of molecules that were found, within their bounds.

        Args:
            emitters: with photons and depths.
            number: how many were found, the sum of their probabilities.
            pixels: of all frames, that they were found in.
        """
        light = (emitters.photons.clamp(min=1) / self.scales.photon_unit).log()
        self.log_per_px.fill_(float((number / pixels).clamp(min=1e-6).log()))
        self.photons_mean.fill_(float(light.mean()))
        self.photons_log_sd.fill_(float(light.std().clamp(min=1e-2).log()))
        if self.scales.z_unit_nm:
            depth = emitters.z_nm / self.scales.z_unit_nm
            self.z_mean.fill_(float(depth.mean()))
            self.z_log_sd.fill_(float(depth.std().clamp(min=1e-3).log()))
        self.keep()

    def with_psf_of(self, other: Theta) -> Theta:
        """Give a copy with the PSF of another theta."""
        copied = copy.deepcopy(self)
        copied.psf.load_state_dict(other.psf.state_dict())
        return copied

    def log_prior(self, law: SetLaw, draws: Draws) -> Tensor:
        """Log-probability (k, n, zones) of drawn sets: as many on each pixel, even places, normal laws of log photons and z."""
        _, _, z, brightness = draws.value.unbind(-1)
        marks = _log_normal(brightness, self.photons_mean, self.photons_log_sd)
        if self.scales.z_unit_nm:
            marks = marks + _log_normal(z, self.z_mean, self.z_log_sd)
        return law.log_prior(draws, self.log_per_px.exp(), marks)

    def log_likelihood(self, photons: Tensor, expected: Tensor, excess: Tensor, variance: Tensor) -> Tensor:
        """Log-density of each pixel; a few pixels may hold anything, so that one speck of dust does not decide.

        Args:
            photons, expected: (..., h, w), of one shape.
            excess, variance: of the camera, broadcastable.
        """
        noise = self.log_noise.exp()
        usual = density.shifted_gamma(photons, expected, excess * noise, variance * noise)
        return torch.logaddexp(usual + math.log1p(-ODD), usual.new_tensor(math.log(ODD / ODD_RANGE)))

    # --------------------------------------------------------------------------------------------------------------------- the ascent

    def groups(self, rate: float, *, psf: bool = True) -> list[dict[str, Any]]:
        """Step sizes relative to each parameter's usual size; those of the PSF are left out where ``psf`` is False."""
        rates: dict[float, list[nn.Parameter]] = {}
        for name, value in self.named_parameters():
            if value.requires_grad and (psf or not name.startswith("psf.")):
                size = 1.0
                if name == "psf.maps":
                    size = 0.2 * self.bounds[name][1]
                elif name.startswith("psf.") and name.removeprefix("psf.") in self.foci:
                    size = 100.0
                elif name.startswith("psf."):
                    size = max(abs(float(value.detach())), 0.1)
                rates.setdefault(rate * size, []).append(value)
        return [{"params": values, "lr": lr, "peak": lr} for lr, values in rates.items()]

    @torch.no_grad()
    def keep(self) -> float:
        """Bring what a step has moved beyond its bounds back, and take out of it what no movie can tell; gives by how many nm z = 0 had moved."""
        parameters, moved = dict(self.named_parameters()), 0.0
        names = [f"psf.{name}" for name in self.foci if name in self.learned]
        if names:
            middle = sum(sum(self.bounds[name]) / 2 for name in names) / len(names)
            foci = [parameters[name] for name in names]
            drift = torch.stack([focus.detach() for focus in foci]).mean() - middle
            for focus in foci:
                focus.sub_(drift)
            moved = float(drift)
        for name, (low, high) in self.bounds.items():
            if name == "psf.maps":
                change = _without_light(parameters[name] - self.first_maps)
                parameters[name].copy_(self.first_maps + change.clamp(low, high))
            else:
                parameters[name].clamp_(low, high)
        self.psf.keep_possible()
        return moved

    def at_bounds(self, *, psf: bool | None = None) -> list[str]:
        """Say, one line each, what has run to its bound: the model lacks something that this parameter cannot give.

        Args:
            psf: look at the PSF's parameters only, or at all others only; at all if None.
        """
        lines = []
        for name, (low, high) in self.bounds.items():
            if psf is not None and name.startswith("psf.") is not psf:
                continue
            value = self.get_parameter(name)
            if name == "psf.maps" or not value.requires_grad:
                continue
            near = NEAR_BOUND * (high - low)
            at = float(value.detach())
            if not low + near < at < high - near:
                what, shown, end = _in_words(name, at, self.scales)
                lines.append(
                    f"{what} ran to its bound, {shown}; {'less' if at <= low + near else 'more'} was wanted: {end}, or train anew"
                )
        return lines

    def values(self) -> dict[str, float]:
        """Give all that is learned, in units for people; maps by their largest change as a share of the PSF's peak."""
        found = {name: float(self.psf.get_parameter(name).detach()) for name in self.learned if name != "maps"}
        if "maps" in self.learned:
            most = float((self.psf.get_parameter("maps").detach() - self.first_maps).abs().max())
            found["largest change of the maps"] = most / self.maps_peak
        found |= {
            "background, factor": math.exp(float(self.log_background.detach())),
            "noise variance, factor": math.exp(float(self.log_noise.detach())),
            "density per um2": self.per_um2,
            "photons, median": math.exp(float(self.photons_mean.detach())) * self.scales.photon_unit,
            "photons, spread of the logarithm": math.exp(float(self.photons_log_sd.detach())),
        }
        if self.scales.z_unit_nm:
            found["z, mean in nm"] = float(self.z_mean.detach()) * self.scales.z_unit_nm
            found["z, spread in nm"] = math.exp(float(self.z_log_sd.detach())) * self.scales.z_unit_nm
        return found


def _log_normal(value: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    return -0.5 * ((value - mean) / log_sd.exp()) ** 2 - log_sd - 0.5 * math.log(2 * math.pi)


def _without_light(maps: Tensor) -> Tensor:
    """Take the mean and the first moments out of maps (..., s, s): light is the photons' matter, its centre that of the positions."""
    s = maps.shape[-1]
    at = torch.linspace(-1, 1, s, device=maps.device)
    maps = maps - maps.mean((-1, -2), keepdim=True)
    for slope in (at.expand(s, s), at[:, None].expand(s, s)):
        maps = maps - slope * (maps * slope).sum((-1, -2), keepdim=True) / slope.square().sum()
    return maps


def _in_words(name: str, value: float, scales: Scales) -> tuple[str, str, str]:
    """Say what a parameter is, its value, and what to look at where it runs to its bound."""
    if name.startswith("psf."):
        return f"'{name.removeprefix('psf.')}' of the PSF", f"{value:.4g}", "calibrate the PSF from beads"
    known = {
        "log_background": (
            "the background",
            f"{math.exp(value):.3g} times the measured one",
            "look at the background of the movie",
        ),
        "log_noise": ("the noise", f"{math.exp(value):.3g} times the camera's variance", "give the camera (--camera)"),
        "log_per_px": ("the density", f"{math.exp(value):.3g} per pixel", "look at the movie"),
        "photons_mean": ("the photons", f"{math.exp(value) * scales.photon_unit:.4g}", "give the camera (--camera)"),
        "photons_log_sd": ("the spread of the photons", f"{math.exp(value):.3g} in the logarithm", "look at the movie"),
        "z_mean": ("the mean depth", f"{value * scales.z_unit_nm:.4g} nm", "widen z_nm of the document"),
        "z_log_sd": ("the spread of depths", f"{math.exp(value) * scales.z_unit_nm:.4g} nm", "change z_nm of the document"),
    }
    return known[name]


__all__ = ["Beginning", "Theta"]
