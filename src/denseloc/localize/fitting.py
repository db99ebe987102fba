"""What localizers that fit a PSF share: no training, the PSF of their section, and frames that suit it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from ..data import Frames
from ..description import Range, ordered
from ..errors import ModelError
from ..fit import DEPTHS_NM
from ..optics import PSF, PSFS, GaussianSettings, MultiplaneSettings, PSFSettings
from ..units import PixelSize
from .base import Localizer, LocalizerSettings, Scales

if TYPE_CHECKING:
    from typing import TypeAlias

    PSFKind: TypeAlias = Any
else:
    PSFKind = PSFS.field()

MOST_PATCH_PX = 101  # pixels across the patch of a Gaussian that nobody gave


class FittingSettings(LocalizerSettings):
    """What the sections of such localizers share."""

    needs_training: ClassVar[bool] = False
    takes_psf: ClassVar[bool] = True
    states_sigma: ClassVar[bool] = False
    """Whether it gives standard deviations."""

    psf: PSFKind | None = Field(None, description="the PSF; absent: a Gaussian as wide as is measured or told of the movie")

    @model_validator(mode="after")
    def _one_colour(self) -> FittingSettings:
        if self.psf is not None and self.psf.channels > 1:
            raise ValueError(
                f"a fit takes the PSF of one colour, found {self.psf.channels} channels; give the PSF of one of them, or a model of method 'decode'"
            )
        return self


class WindowedSettings(FittingSettings):
    """What the sections of those share that look at windows around emitters."""

    misses_pixels: ClassVar[bool] = True
    states_sigma: ClassVar[bool] = True

    window_px: int | None = Field(
        None, ge=5, le=65, description="pixels across the square that tells of an emitter; odd; absent: by the PSF's size"
    )
    z_range_nm: Range | None = Field(None, description="depths searched; absent: those of the PSF or of the model")

    @model_validator(mode="after")
    def _possible(self) -> WindowedSettings:
        if self.window_px is not None and self.window_px % 2 == 0:
            raise ValueError(f"window_px must be odd (found {self.window_px})")
        if self.z_range_nm is not None:
            ordered(self.z_range_nm, "z_range_nm")
        return self

    def depths_of(self, psf: PSF, scales: Scales) -> tuple[float, float]:
        """Give the depths that are searched, in nm."""
        unit = scales.z_unit_nm
        return self.z_range_nm or psf.z_range_nm or ((-unit, unit) if unit else DEPTHS_NM)


class Fitting(Localizer):
    """A localizer that fits a PSF. It knows no probability, so that no threshold on it applies."""

    settings: FittingSettings

    def __init__(self, settings: FittingSettings, scales: Scales) -> None:
        super().__init__(scales)
        self.settings = settings

    @abstractmethod
    def patch_px(self) -> int:
        """Give the odd number of pixels across the patch that the conditions ask of a PSF."""

    @property
    def finds_depth(self) -> bool:
        """Whether z is found."""
        told: PSFSettings | None = self.settings.psf
        return told is not None and told.tells_depth

    def psf_settings(self, pixel_size_nm: PixelSize) -> PSFSettings:
        """Give the PSF of the document, or a Gaussian of the width that the conditions tell."""
        told: PSFSettings | None = self.settings.psf
        if told is not None:
            return told
        width = self.conditions.width_px * math.sqrt(pixel_size_nm[0] * pixel_size_nm[1])
        roi = min(MOST_PATCH_PX, self.patch_px())
        if self.scales.planes == 1:
            return GaussianSettings(width_nm=width, roi_px=roi)
        return MultiplaneSettings(width_nm=width, plane_focus_nm=(0.0,) * self.scales.planes, depth_nm=1e6, roi_px=roi)

    def psf_for(self, frames: Frames) -> PSF:
        """Make the PSF on the device of the frames.

        Raises:
            ModelError: it has another number of planes than the frames.
        """
        size, planes = frames.pixel_size_nm, frames.photons.shape[1]
        psf: PSF = self.psf_settings(size).build(size).requires_grad_(False).to(frames.photons.device)
        if psf.planes != planes:
            raise ModelError(f"the PSF has {psf.planes} planes, the frames have {planes}; give a PSF for such frames")
        return psf

    def part_of(self, frames: Frames, keep: tuple[int, int] | None) -> tuple[int, int]:
        """Give the indices (start, stop) of the frames to be localized.

        Raises:
            ModelError: a threshold was set.
        """
        if self.threshold is not None:
            kind = type(self.settings).model_fields["kind"].default
            raise ModelError(
                f"method '{kind}' gives no probabilities, so that no threshold on them applies; leave it out, or set 'significance'"
            )
        return (0, len(frames)) if keep is None else (keep[0] - frames.first_frame, keep[1] - frames.first_frame)


def width_in_px(psf: PSF) -> float:
    """Give the width of a PSF in focus, in pixels."""
    return float(psf.settings.width_in_focus_nm()) / math.sqrt(psf.pixel_size_nm[0] * psf.pixel_size_nm[1])
