"""Four states: off, on, dark, bleached; the photophysics of the reference evaluation."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from ...description import Section
from ..ranges import Positive
from .base import SHORTEST, Blinking, Traces, exponential, movie_of_each, rows_of_intervals

_MOST_BURSTS = 64


class FourStateSettings(Section):
    """Settings of the four states; times are means of exponential laws, in frames.

    Args:
        mean_on_frames: time until a molecule that is on goes dark.
        mean_dark_frames: time until a dark molecule is on again.
        mean_bleach_frames: time until a molecule that is on bleaches.
    """

    kind: Literal["four_state"] = "four_state"
    mean_on_frames: Positive = 3.0
    mean_dark_frames: Positive = 2.5
    mean_bleach_frames: Positive = 1.5

    def build(self) -> FourState:
        """Make the law."""
        return FourState(self)


class FourState(Blinking):
    """OFF -> ON -> (DARK <-> ON) or BLEACHED; the first ON is equally likely at any time, so the density stays constant.

    One burst lasts ``1 / (1 / on + 1 / bleach)`` on average and is the last one with probability ``on / (on + bleach)``. Molecules
    that began before frame 0 are drawn too.

    Source: Sage et al. 2019, Super-resolution fight club (simulation of the challenge).
    """

    def __init__(self, settings: FourStateSettings) -> None:
        self.settings = settings
        on, dark, bleach = settings.mean_on_frames, settings.mean_dark_frames, settings.mean_bleach_frames
        self.burst_frames = 1 / (1 / on + 1 / bleach)
        last = on / (on + bleach)
        whole_life = self.burst_frames / last + dark * (1 / last - 1)
        self.warm_up_frames = math.ceil(8 * whole_life)
        self.n_bursts = min(_MOST_BURSTS, max(1, math.ceil(math.log(1e-4) / math.log1p(-last))))
        self.last = last

    def draw(self, per_frame: Tensor, n_frames: int, generator: torch.Generator) -> Traces:
        """Draw molecules and rows."""
        rate = per_frame / _rows_per_molecule(self.settings)
        movie = movie_of_each(torch.poisson(rate * (n_frames + self.warm_up_frames), generator))
        first_on = torch.rand(len(movie), generator=generator, device=movie.device) * (n_frames + self.warm_up_frames)
        molecule, frame, on = self._rows(first_on - self.warm_up_frames, n_frames, generator)
        seen, molecule = torch.unique_consecutive(molecule, return_inverse=True)
        return Traces(movie[seen], molecule, frame, on)

    def on_fractions(self) -> Tensor:
        """Give some thousand drawn on-fractions."""
        generator = torch.Generator().manual_seed(0)
        return self._rows(torch.rand(2_000, generator=generator), 10 * self.warm_up_frames, generator)[2]

    def _rows(self, first_on: Tensor, n_frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Live the lives of molecules with a given first ON; molecule, frame, on-fraction of each row that is on long enough.

        Rows are ordered by molecule.
        """
        n, device = len(first_on), first_on.device
        waits = exponential((2, self.n_bursts, n), 1.0, generator)
        bursts = waits[0] * self.burst_frames
        ends = torch.cumsum(bursts + waits[1] * self.settings.mean_dark_frames, 0)
        start = torch.cat([torch.zeros(1, n, device=device), ends[:-1]]) + first_on
        goes_on = torch.rand(self.n_bursts, n, generator=generator, device=device) >= self.last
        is_lived = torch.cat([torch.ones(1, n, dtype=torch.bool, device=device), goes_on[:-1]]).int().cumprod(0).bool()
        stop = start + bursts
        is_lived &= (stop > 0) & (start < n_frames)
        molecule = torch.arange(n, device=device).expand(self.n_bursts, n)[is_lived]
        molecule, frame, on = rows_of_intervals(molecule, start[is_lived], stop[is_lived], n_frames)
        key, row = torch.unique(molecule * n_frames + frame, return_inverse=True)
        on = torch.zeros(len(key), device=device).index_add_(0, row, on)
        kept = on > SHORTEST
        key = key[kept]
        return key // n_frames, key % n_frames, on[kept].clamp(max=1)


@cache
def _rows_per_molecule(settings: FourStateSettings) -> float:
    """Measure the mean number of rows of a molecule, to about 0.3 %, always with the same lives."""
    law = FourState(settings)
    generator = torch.Generator().manual_seed(0)
    n = 100_000
    rows = law._rows(torch.rand(n, generator=generator), 3 * law.warm_up_frames, generator)
    return len(rows[0]) / n
