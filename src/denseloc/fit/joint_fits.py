"""What joint fits begin with and what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prior:
    """What is known of the coordinates beforehand.

    Args:
        mean: (n, 2 or 3) x, y in px of the frame and depth in nm.
        precision: (n, 2 or 3) inverse variances in the same units; 0 for nothing known.
    """

    mean: Tensor
    precision: Tensor

    def select(self, keep: Tensor) -> Prior:
        """Take the rows of a mask or of an index."""
        return Prior(self.mean[keep], self.precision[keep])

    def lengthened(self, more: JointFits) -> Prior:
        """Add rows of which nothing is known."""
        mean = more.at[:, : self.mean.shape[1]].to(self.mean)
        return Prior(torch.cat((self.mean, mean)), torch.cat((self.precision, torch.zeros_like(mean))))


@dataclass(frozen=True)
class JointFits:
    """Estimates of n emitters, in px of the frames (pixel centres on the integers), nm of depth and photons.

    Args:
        frame: (n,) index of the frame.
        at: (n, c) x, y, [depth,] photons, float64.
        covariance: (n, c, c) of an emitter's own parameters, with those of its group free; infinite where they cannot be told apart.
        fisher: (n, c, c) what its own pixels tell of it if all else is known, without the prior.
        background: (n, planes) level at the emitter.
        group: (n,) number of its group.
        pixel: (n, 2) x, y of the pixel in the middle of the window that it was fitted in, int64; not always that on which it has ended.
        log_likelihood, deviance_ratio, p_value: (n,) of its group's pixels, as in `single.SingleFits`.
        iterations: (n,) evaluations of its group in the last sweep.
        converged: (n,) at a maximum inside of the limits; the other rows must not be used.
    """

    frame: Tensor
    at: Tensor
    covariance: Tensor
    fisher: Tensor
    background: Tensor
    group: Tensor
    pixel: Tensor
    log_likelihood: Tensor
    deviance_ratio: Tensor
    p_value: Tensor
    iterations: Tensor
    converged: Tensor

    def __len__(self) -> int:
        return len(self.at)

    def select(self, keep: Tensor) -> JointFits:
        """Take the rows of a mask or of an index."""
        return JointFits(**{name: values[keep] for name, values in vars(self).items()})

    @staticmethod
    def concat(parts: Sequence[JointFits]) -> JointFits:
        """Join fits to the same frames; the numbers of the groups mean nothing between parts."""
        return JointFits(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})

    @staticmethod
    def beginning(frame: Tensor, at: Tensor, background: Tensor) -> JointFits:
        """Make rows that nothing is known of but where their fit is to begin.

        Args:
            frame: (n,) int64 index of each emitter's frame.
            at: (n, c) x, y in px, [depth in nm,] photons.
            background: (n, planes) photons per pixel.
        """
        n, c = at.shape
        square = torch.full((n, c, c), float("inf"), dtype=torch.float64, device=at.device)
        number = torch.full((n,), float("nan"), dtype=torch.float64, device=at.device)
        whole = torch.zeros(n, dtype=torch.long, device=at.device)
        return JointFits(
            frame,
            at.double(),
            square,
            torch.zeros_like(square),
            background.double(),
            whole,
            at[:, :2].round().long(),
            number,
            number,
            number,
            whole,
            torch.zeros(n, dtype=torch.bool, device=at.device),
        )
