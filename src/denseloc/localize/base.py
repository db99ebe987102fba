"""What every localizer is: something that turns Frames into Localizations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data import Emitters, Frames, Localizations
from ..description import Section
from ..errors import ModelError
from ..units import PixelSize
from .correction import Correction


@dataclass(frozen=True)
class InputConditions:
    """What a localizer is told of a movie.

    Args:
        background: photons per pixel and frame.
        excess: variance of the shot noise per photon (2 behind an EM register, 1 elsewhere).
        noise_variance: variance of the camera's own noise in photons^2.
        width_px: size of the PSF in focus as a Gaussian standard deviation, in pixels.
    """

    background: float
    excess: float = 1.0
    noise_variance: float = 0.0
    width_px: float = 1.3

    def tensor(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Give the conditions of n frames as (n, 4): background, excess, noise variance, width."""
        row = torch.tensor([self.background, self.excess, self.noise_variance, self.width_px], device=device)
        return row.expand(n, 4)


@dataclass(frozen=True)
class Scales:
    """Units in which a network speaks, derived from its experiment.

    Args:
        pixel_size_nm: (y, x) of the frames.
        z_unit_nm: half of the depth range, 0 where there is no depth.
        photon_unit: typical photons of an emitter.
        planes: number of focal planes.
        reference: conditions of a model that serves one microscope only.
        channels: number of colour channels to be told apart.
    """

    pixel_size_nm: PixelSize
    z_unit_nm: float
    photon_unit: float
    planes: int
    reference: InputConditions
    channels: int = 1


class LocalizerSettings(Section):
    """What the sections of all localizers share."""

    needs_training: ClassVar[bool] = True
    """Whether it is of use only with trained weights; its localizer is a `TrainableLocalizer` then."""

    misses_pixels: ClassVar[bool] = False
    """Whether photons may be NaN where a pixel tells nothing, as full ones do."""

    tells_colours: ClassVar[bool] = False
    """Whether it tells the colour channels of a PSF that has several."""

    takes_psf: ClassVar[bool] = False
    """Whether it fits a PSF: its section has a key ``psf``, and where that is None it gets the document's."""

    @property
    def neighbours(self) -> int:
        """Number of neighbouring frames that it looks at on each side; training windows hold them besides the frames that are learned."""
        return 0

    @property
    def depths_nm(self) -> tuple[float, float] | None:
        """Lowest and highest z that it can give, where a key of its section limits them; None for no limit."""
        return None

    @property
    def sees_all_frames(self) -> bool:
        """Whether it looks at what all frames of a movie say together; training windows stand for movies then."""
        return False

    @property
    def is_told(self) -> bool:
        """Whether it is told the conditions of each movie, so that it serves many; those of its own microscope are built in otherwise."""
        return not self.needs_training

    def densest_per_um2(self, width_nm: float) -> float | None:
        """Give the density up to which it serves spots of this width, where its nature sets it and not its training; None for no limit."""
        return None

    @abstractmethod
    def build(self, scales: Scales) -> Localizer:
        """Make the localizer, untrained."""


class Localizer(nn.Module, ABC):
    """Turns Frames into Localizations.

    Attributes:
        context: number of neighbouring frames that it looks at on each side.
        halo_px: how far a pixel's result depends on its neighbours; tiles overlap by this much.
        align_px: tiles begin at multiples of this.
        sees_all_frames: whether it wants to look over a movie (`look_over`) before it localizes it part by part.
        conditions: what it is told of the movie; set before use.
        threshold: least probability of a localization, None for the method's own.
        correction: makes its uncertainties true; None leaves them as the method states them.
        block_px: pixels of the frames that are localized between two reports of progress, some seconds of work.
        picture_px: pixels of the method's own picture per camera pixel and axis; 0 for a method that gives a table alone.
    """

    context: int = 0
    halo_px: int = 0
    align_px: int = 1
    sees_all_frames: bool = False
    threshold: float | None = None
    correction: Correction | None = None
    block_px: int = 1 << 22
    picture_px: int = 0

    def __init__(self, scales: Scales) -> None:
        super().__init__()
        self.scales = scales
        self.conditions = scales.reference

    def __call__(self, frames: Frames, *more: Any, **named: Any) -> Localizations:
        """Localize as `forward` says, with uncertainties corrected where a correction is known."""
        return self.corrected(super().__call__(frames, *more, **named), frames)

    def corrected(self, table: Localizations, frames: Frames) -> Localizations:
        """Correct the uncertainties of a table as the method states it."""
        return table if self.correction is None else self.correction.apply(table, frames.pixel_size_nm)

    def look_over(self, frames: Iterable[Frames], tile_px: int = 512) -> None:
        """Look at frames from all over a movie, before it is localized part by part; methods that look at each part alone do nothing.

        What is seen holds until the next call or `forget`. Without it, the frames that are localized together count as the movie.

        Args:
            frames: blocks of any frames of the movie, all of one size and place.
            tile_px: largest tile that is computed at once; does not change the result.
        """

    def forget(self) -> None:
        """Forget what `look_over` has seen."""

    def own_probability(self, reported: float) -> float:
        """Give the method's own probability that is reported as ``reported``."""
        return reported if self.correction is None else self.correction.own_probability(reported)

    def with_picture(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> tuple[Localizations, Tensor]:
        """Localize as a call does, and give the sum of the method's own images of these frames, in emitters per pixel.

        Returns:
            the table, and (rows picture_px, columns picture_px).

        Raises:
            ModelError: the method gives a table alone.
        """
        raise ModelError("this method gives a table and no image of its own; leave the image (--image) out and render the table")

    def check_fits(self, free_bytes: float, n_frames: int, shape_px: tuple[int, int], training: bool) -> None:
        """Check, before long work, that memory suffices; a method that needs little says nothing.

        Args:
            free_bytes: of memory where it runs.
            n_frames: frames at once.
            shape_px: (rows, columns) of these; for use, of the field, which is cut into tiles.
            training: whether it is trained on them.

        Raises:
            TrainingError, ModelError: it does not; says what would.
        """

    @abstractmethod
    def forward(self, frames: Frames, keep: tuple[int, int] | None = None, tile_px: int = 512) -> Localizations:
        """Localize.

        Args:
            frames: consecutive frames; those outside of ``keep`` serve as context only.
            keep: (start, stop) numbers of the frames to be localized; all if None.
            tile_px: largest tile that is computed at once; does not change the result.
        """


@dataclass(frozen=True)
class Batch:
    """Windows of consecutive frames with the truth of their inner frames, all that a localizer can learn from.

    The inner frames of a window are those which have as many neighbours on each side as the localizer looks at: all but the first c and the
    last c of t, with c its context.

    Args:
        photons: (b, t, planes, h, w) what the camera says, in photons; t >= 2 c + 1.
        conditions: (b, 4) background, excess, noise variance, PSF width in px, as a localizer would be told.
        emitters: those of the inner frames that lie inside the frame; frames count 0 .. b (t - 2 c) - 1, window by window.
        background: (b (t - 2 c), 1, h, w) true background of the inner frames.
        absent: (b,) windows whose frames are to be treated as if there were no others: without neighbours, as at the ends of a movie.
    """

    photons: Tensor
    conditions: Tensor
    emitters: Emitters
    background: Tensor
    absent: Tensor


class TrainableLocalizer(Localizer):
    """A localizer that learns from batches; the training loop asks no more of it than this."""

    @abstractmethod
    def batch_loss(self, batch: Batch) -> Tensor:
        """Give the loss of a batch, (), differentiable in the parameters; chooses its own arithmetic (16 bit or 32)."""

    @abstractmethod
    def localize_batch(self, batch: Batch) -> Localizations:
        """Localize the inner frames of a batch without its truth, uncorrected; frames count as those of ``batch.emitters`` do."""

    @abstractmethod
    def hidden_weights(self) -> list[nn.Parameter]:
        """List the weights (out, in, ...) inside of the network, neither at its input nor at its output, which Muon may take."""

    def take_first_weights(self) -> None:
        """Take up weights that the section names, before a training begins; for most methods there are none.

        Raises:
            ModelError: they do not fit.
        """

    def late_weights(self) -> list[nn.Parameter]:
        """List the weights that `batch_loss` does not reach and that `late_loss` trains when all others stand; for most methods none."""
        return []

    def late_loss(self, batch: Batch) -> Tensor:
        """Give the loss of the late weights, (), differentiable in them alone."""
        raise NotImplementedError(f"{type(self).__name__} has no late weights")
