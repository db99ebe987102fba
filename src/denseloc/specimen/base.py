"""Specimen: the prior over molecules, blinking, photons and background, to draw from and to weigh with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..data.emitters import Emitters
from .backgrounds import Background
from .blinking import Blinking
from .photons import Molecules, PhotonLaw
from .ranges import Level, draw_level
from .structures import Structure
from .volume import Volume

_BINS = 20


@dataclass(frozen=True)
class PartialFrames:
    """The law of the part of a frame that an emitter is on, as `Specimen.log_prob` needs it.

    Args:
        full: probability that an emitter is on for the whole frame.
        density: (bins,) density of the other on-fractions over 0 .. 1; it integrates to ``1 - full``.
        brightness: (k,) equally likely brightnesses of molecules.
    """

    full: float
    density: Tensor
    brightness: Tensor

    @classmethod
    def of(cls, blinking: Blinking, photons: PhotonLaw, volume: Volume, n: int = 256) -> PartialFrames:
        """Measure the law of a specimen, always with the same draws."""
        generator = torch.Generator().manual_seed(0)
        on = blinking.on_fractions()
        is_full = on > 0.9999
        parts = on[~is_full]
        density = (torch.histc(parts, _BINS, 0.0, 1.0) + 0.01) * (_BINS / (len(on) + 0.01 * _BINS))
        x, y, _ = volume.uniform(n, generator)
        brightness = photons.draw(Molecules(torch.arange(n), n, x, y, volume), generator).clamp(min=1e-6)
        return cls(float(is_full.float().mean()), density if len(parts) else density.new_zeros(0), brightness)

    def log_photons(self, law: PhotonLaw, photons: Tensor) -> Tensor:
        """Give the log-density of the photons of emitters.

        ``full f(p) + E_b[h(p / b) / b]`` with f the law of the brightness b and h the density of on-fractions.
        """
        whole = law.log_prob(photons)
        if len(self.density) == 0:
            return whole
        h, b = self.density.to(photons), self.brightness.to(photons)
        on = photons.unsqueeze(-1) / b
        at = (on * _BINS - 0.5).clamp(0, _BINS - 1)
        left = at.long().clamp(max=_BINS - 2)
        between = torch.lerp(h[left], h[left + 1], at - left) * (on <= 1)
        partial = (between / b).mean(-1)
        return torch.logaddexp(whole + math.log(max(self.full, 1e-9)), partial.log())


@dataclass(frozen=True)
class Specimen:
    """What lies under the objective.

    Args:
        volume: where molecules lie: the frame, its margin and the z range.
        density_per_um2: emitters per um^2 and frame, or (low, high), drawn evenly in the logarithm for each movie.
        structure: where molecules sit.
        blinking: when they are on.
        photons: how bright they are.
        background: the light of no molecule.
        channel_shares: share of the molecules in each colour channel.
    """

    volume: Volume
    density_per_um2: Level
    structure: Structure
    blinking: Blinking
    photons: PhotonLaw
    background: Background
    channel_shares: tuple[float, ...] = (1.0,)
    _partial: PartialFrames = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_partial", PartialFrames.of(self.blinking, self.photons, self.volume))

    @torch.no_grad()
    def draw(self, n_frames: int, generator: torch.Generator, n_movies: int = 1) -> Emitters:
        """Draw the emitters of some movies; emitters lie in the margin of the frame too.

        Args:
            n_frames: frames of each movie.
            generator: source of randomness; the emitters stand on its device.
            n_movies: independent movies, each with its own density, structure and typical brightness.

        Returns:
            Emitters ordered by frame; frame t of movie m has the number ``m * n_frames + t``. A molecule keeps its place, its
            brightness and its colour channel, and gives photons in proportion to the part of the frame that it is on.
        """
        density = draw_level(self.density_per_um2, n_movies, generator)
        per_frame = density * (self.volume.grid.area_um2 / self.structure.inside_fraction)
        traces = self.blinking.draw(per_frame, n_frames, generator)
        x, y, z = self.structure.places(traces.movie, n_movies, generator)
        brightness = self.photons.draw(Molecules(traces.movie, n_movies, x, y, self.volume), generator)
        molecule, channel = traces.molecule, self._channels(len(x), generator)
        return Emitters(
            frame=traces.movie[molecule] * n_frames + traces.frame,
            molecule=molecule,
            x_nm=x[molecule],
            y_nm=y[molecule],
            z_nm=z[molecule],
            photons=brightness[molecule] * traces.on,
            channel=channel[molecule],
        ).sort()

    def _channels(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw the channels of n molecules; where there is one, nothing is drawn."""
        if len(self.channel_shares) == 1:
            return torch.zeros(n, dtype=torch.long, device=generator.device)
        shares = torch.tensor(self.channel_shares, device=generator.device)
        below = torch.rand(n, 1, generator=generator, device=generator.device) >= shares.cumsum(0)[:-1]
        return below.sum(1)

    @torch.no_grad()
    def draw_background(self, n_frames: int, generator: torch.Generator, n_movies: int = 1) -> Tensor:
        """Draw the background of some movies, (n_movies * n_frames, 1, rows, columns) photons per pixel; constant in a movie."""
        movies = self.background.draw(self.volume.grid.shape_px, n_movies, generator)
        return movies.unsqueeze(1).expand(-1, n_frames, -1, -1, -1).reshape(n_movies * n_frames, *movies.shape[1:])

    def log_prob(self, emitters: Emitters, n_frames: int) -> Tensor:
        """Give the log-density of the emitters of each frame, (n_frames,); differentiable in photons.

        A simple form of the prior: frames are independent (blinking only shapes the photons), the number of emitters is Poisson,
        places are even over the volume with its margin (structure is left out), photons follow the law times the on-fractions of
        the blinking. Per frame with k emitters, density d and area a with the margin: ``k log d - d a + sum(log p(z) + log
        p(photons))``, which is a density per um^2 (x, y), nm (z, left out where the range is one value) and photon of unordered
        emitters; a range of densities is averaged over 16 values. With several colour channels each emitter has the probability of its
        own besides. An emitter outside of the volume makes its frame impossible
        (-inf).

        Source: Speiser, Turaga, Macke 2019, Teaching deep neural networks to localize sources in super-resolution microscopy, eq. 1
            - 3.
        """
        low, high = self.volume.z_nm
        row = self._partial.log_photons(self.photons, emitters.photons)
        if high > low:
            row = row - math.log(high - low)
        if len(self.channel_shares) > 1:
            row = row + torch.tensor(self.channel_shares).to(row).log()[emitters.channel]
        row = torch.where(self.volume.contains(emitters.x_nm, emitters.y_nm, emitters.z_nm), row, -math.inf)
        per_row = torch.zeros(n_frames, dtype=row.dtype, device=row.device).index_add(0, emitters.frame, row)
        number = torch.bincount(emitters.frame, minlength=n_frames).to(row.dtype)
        level = self.density_per_um2 if isinstance(self.density_per_um2, tuple) else (self.density_per_um2, self.density_per_um2)
        at = (torch.arange(16, device=row.device, dtype=row.dtype) + 0.5) / 16
        log_density = math.log(level[0]) + math.log(level[1] / level[0]) * at
        by_density = number[:, None] * log_density - log_density.exp() * self.volume.area_um2
        return per_row + torch.logsumexp(by_density, 1) - math.log(16)
