"""A PSF for each of several colours, all on one grey camera: one pupil at several wavelengths, or a measured PSF for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..description import Shelf
from ..errors import DocumentError
from ..units import PixelSize
from .base import PSF, PSFSettings
from .multiplane import MultiplaneSettings
from .planes import ONE_PLANE, PlanesSettings
from .pupil import PupilPSF, PupilSettings

MOST_CHANNELS = 8
ROI_PX: int = PSFSettings.model_fields["roi_px"].default

ONE_COLOUR: Shelf[PSFSettings] = Shelf("PSF of a channel", *ONE_PLANE.sections.values(), MultiplaneSettings, PlanesSettings)
"""What may stand in a channel."""

if TYPE_CHECKING:
    ChannelPSF = Any
else:
    ChannelPSF = ONE_COLOUR.field()


class ColoursSettings(PSFSettings):
    """``[psf] kind = "colours"``: emitters of several colours, which one camera sees without telling their colours.

    Either one pupil ``[psf.optics]`` with the ``wavelengths_nm`` of the channels, or a PSF for each channel, ``[[psf.channel]]``. Channels count
    from 0. In the first form the numerical aperture is one; diffraction, aberrations and mask follow the wavelength. A mask is a way of so many
    nm through glass or liquid crystal: its phase, told at ``optics.wavelength_nm``, goes as 1 / wavelength.
    """

    kind: Literal["colours"] = "colours"
    optics: PupilSettings | None = Field(
        None, description="the pupil of all channels; phases in rad, of mask and phase, hold at its wavelength_nm"
    )
    wavelengths_nm: tuple[float, ...] | None = Field(None, description="wavelength of emission of each channel, for optics")
    mask_path: tuple[float, ...] | None = Field(
        None, description="path through the mask in each channel over that at optics.wavelength_nm (dispersion); absent: 1"
    )
    mask_wraps: bool = Field(
        False, description="the mask lies on a light modulator, whose phase is wrapped into one turn at optics.wavelength_nm"
    )
    channel: tuple[ChannelPSF, ...] | None = Field(
        None,
        description="PSF of each channel, [[psf.channel]], in place of optics",
        examples=[[{"kind": "gaussian", "width_nm": width} for width in (115.0, 140.0)]],
    )

    @model_validator(mode="after")
    def _one_form(self) -> ColoursSettings:
        if (self.optics is None) == (self.channel is None):
            found = "both" if self.channel is not None else "neither"
            raise ValueError(f"give [psf.optics] with wavelengths_nm, or [[psf.channel]] for each colour (found {found})")
        if self.channel is not None:
            given = [name for name in ("wavelengths_nm", "mask_path") if getattr(self, name) is not None]
            given += ["mask_wraps"] if self.mask_wraps else []
            if given:
                raise ValueError(f"{', '.join(given)} belong to [psf.optics]; leave them out beside [[psf.channel]]")
        elif self.wavelengths_nm is None:
            raise ValueError("wavelengths_nm is missing: the wavelength of emission of each channel")
        return self

    @model_validator(mode="after")
    def _possible(self) -> ColoursSettings:
        sections = (self.optics,) if self.channel is None else self.channel
        count = self.channels
        if not 2 <= count <= MOST_CHANNELS:
            raise ValueError(f"{count} channel{'' if count == 1 else 's'}; colours are 2 to {MOST_CHANNELS}")
        if self.mask_path is not None and (len(self.mask_path) != count or not all(0.2 < path < 5 for path in self.mask_path)):
            raise ValueError(f"mask_path {self.mask_path}: expected a factor near 1 for each of {count} channels")
        if any(not 100 < wavelength < 5000 for wavelength in self.wavelengths_nm or ()):
            raise ValueError(f"wavelengths_nm {self.wavelengths_nm}: expected nm, 100 to 5000")
        if self.residual_maps is not None or any(section.residual_maps is not None for section in sections):
            raise ValueError("colours carry no residual_maps; give splines as [[psf.channel]]")
        if any(section.roi_px not in (ROI_PX, self.roi_px) for section in sections):
            raise ValueError(f"roi_px of all channels stands in [psf] (found {self.roi_px} there, and another one inside)")
        return self

    @property
    def channels(self) -> int:
        """Number of colour channels."""
        return len((self.wavelengths_nm or ()) if self.channel is None else self.channel)

    @property
    def tells_depth(self) -> bool:
        """Whether depths can be told apart in any channel."""
        return any(section.tells_depth for section in ((self.optics,) if self.channel is None else self.channel))

    def width_in_focus_nm(self) -> float:
        """Give the size in focus as a Gaussian standard deviation: the mean of the channels."""
        if self.channel is None and self.optics is not None and self.wavelengths_nm is not None:
            nm = sum(self.wavelengths_nm) / len(self.wavelengths_nm)
            return float(self.optics.model_copy(update={"wavelength_nm": nm}).width_in_focus_nm())
        return sum(float(section.width_in_focus_nm()) for section in self.channel or ()) / self.channels

    def build(self, pixel_size_nm: PixelSize) -> ColoursPSF:
        """Make the PSF for a pixel size."""
        return ColoursPSF(self, pixel_size_nm)

    def parts(self, pixel_size_nm: PixelSize) -> list[PSF]:
        """Make the PSF of each channel; the pupils of one optics share their parameters, but for the wavelength."""
        if self.channel is not None:
            return [section.model_copy(update={"roi_px": self.roi_px}).build(pixel_size_nm) for section in self.channel]
        assert self.optics is not None
        assert self.wavelengths_nm is not None
        optics = self.optics.model_copy(update={"roi_px": self.roi_px})
        paths = self.mask_path or (1.0,) * self.channels
        pupils = [
            PupilPSF(optics, pixel_size_nm, wavelength, path, self.mask_wraps)
            for wavelength, path in zip(self.wavelengths_nm, paths, strict=True)
        ]
        for pupil in pupils[1:]:
            for name in ("zernike_nm", "phase", "depth_nm", "blur_nm"):
                setattr(pupil, name, getattr(pupils[0], name))
        return list(pupils)


class ColoursPSF(PSF):
    """The PSFs of the channels side by side. Learnable: what they can learn.

    Drawn without a channel (`forward`) it gives the mean over the channels: what is expected of an emitter of unknown colour.

    Source: Hershko, Weiss, Michaeli, Shechtman, Opt. Express 27 (2019) 6158 (colours of single emitters from grey images, by the PSF).

    Args:
        settings: the section.
        pixel_size_nm: (y, x).
        parts: PSFs of the channels in place of those that the section describes.

    Raises:
        DocumentError: channels of different numbers of focal planes.
    """

    settings: ColoursSettings

    def __init__(self, settings: ColoursSettings, pixel_size_nm: PixelSize, parts: list[PSF] | None = None) -> None:
        super().__init__(settings, pixel_size_nm)
        parts = settings.parts(pixel_size_nm) if parts is None else parts
        self.parts = nn.ModuleList(parts)
        self.channels, self.planes = len(parts), parts[0].planes
        if any(part.planes != self.planes for part in parts):
            raise DocumentError(
                f"channels of {', '.join(str(part.planes) for part in parts)} focal planes; give all the same number"
            )
        known = [part.z_range_nm for part in parts if part.z_range_nm is not None]
        self.z_range_nm = (max(low for low, _ in known), min(high for _, high in known)) if known else None
        self.varies_in_field = any(part.varies_in_field for part in parts)
        self.field_nm = next((part.field_nm for part in parts if part.field_nm is not None), None)

    def in_channel(self, channel: int) -> PSF:
        """Give the PSF of emitters of one colour channel.

        Raises:
            ValueError: there is no such channel.
        """
        if not 0 <= channel < self.channels:
            raise ValueError(f"channel {channel} of a PSF of {self.channels} colours; expected 0 to {self.channels - 1}")
        part = self.parts[channel]
        assert isinstance(part, PSF)
        return part

    def in_channels(
        self,
        channel: Tensor,
        offset_px: Tensor,
        z_nm: Tensor,
        scale: Tensor | None = None,
        place_nm: Tensor | None = None,
    ) -> Tensor:
        """Draw emitters each in its channel (n,) int64; the rest as for `forward`.

        Raises:
            ValueError: an emitter is in a channel that is not there.
        """
        if len(channel) == 0:
            nothing: Tensor = self.in_channel(0)(offset_px, z_nm, scale, place_nm)
            return nothing
        lowest, highest = (int(end) for end in channel.aminmax())
        if lowest < 0 or highest >= self.channels:
            raise ValueError(f"emitters in channels {lowest} .. {highest}; expected 0 .. {self.channels - 1}")
        rows, drawn = [], []
        for number in range(self.channels):
            of_it = torch.nonzero(channel == number)[:, 0]
            if len(of_it):
                width, place = (None if each is None else each[of_it] for each in (scale, place_nm))
                rows.append(of_it)
                drawn.append(self.in_channel(number)(offset_px[of_it], z_nm[of_it], width, place))
        return torch.cat(drawn)[torch.argsort(torch.cat(rows))]

    def forward(self, offset_px: Tensor, z_nm: Tensor, scale: Tensor | None = None, place_nm: Tensor | None = None) -> Tensor:
        """Draw emitters of unknown colour; arguments and result as for every PSF."""
        return torch.stack([part(offset_px, z_nm, scale, place_nm) for part in self.parts]).mean(0)

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Evaluate the mean of the formulas: (n, planes, roi, roi)."""
        return self.forward(torch.stack((dx_px, dy_px), -1), z_nm, scale)

    def values(self) -> dict[str, Any]:
        """Give the present parameters under their names in the document."""
        parts = [self.in_channel(number) for number in range(self.channels)]
        if self.settings.optics is None:
            return {"channel": tuple(part.described() for part in parts)}
        first = parts[0]
        assert isinstance(first, PupilPSF)
        own = {name: value for name, value in first.values().items() if name not in ("wavelength_nm", "mask", "phase")}
        if first.phase is not None:
            own["phase"] = first.phase.detach().cpu().float().numpy()
        wavelengths = tuple(float(part.wavelength_nm.detach()) for part in parts if isinstance(part, PupilPSF))
        return {"optics": self.settings.optics.model_copy(update=own), "wavelengths_nm": wavelengths}

    @torch.no_grad()
    def keep_possible(self) -> None:
        """Bring what a fit has moved out of the ranges of the document to the nearest possible values, in place."""
        for number in range(self.channels):
            self.in_channel(number).keep_possible()
