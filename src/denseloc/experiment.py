"""The experiment: the document that names one PSF, camera, specimen, localizer and training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, field_validator, model_validator

from .camera import CAMERAS, Camera
from .data import Grid
from .description import Section, parse
from .documents import own_file, read_document
from .errors import DocumentError
from .formats.psf_files import read_psf
from .localize import LOCALIZERS, DecodeSettings, InputConditions, Localizer, LocalizerSettings, Scales
from .microscope import Microscope
from .optics import PSF, PSFS
from .specimen import Specimen, SpecimenSettings
from .train import Simulator, TrainingSettings
from .units import PixelSize, is_plausible_pixel_size, pixel_size_pair

if TYPE_CHECKING:
    from typing import TypeAlias

    from typing_extensions import Self

    PSFKind: TypeAlias = Any
    CameraKind: TypeAlias = Any
    LocalizerKind: TypeAlias = Any
else:
    PSFKind, CameraKind, LocalizerKind = PSFS.field(), CAMERAS.field(), LOCALIZERS.field()


Z_ROUNDING_NM = 1.0


class Experiment(Section):
    """One experiment: what the microscope is, what lies under it, and how a localizer for it is trained."""

    name: str = Field("experiment", description="a name for people")
    description: str = Field("", description="what it is for")
    pixel_size_nm: PixelSize = Field(description="camera pixel in the sample plane, one number or (y, x)")
    psf: PSFKind
    camera: CameraKind
    specimen: SpecimenSettings
    localizer: LocalizerKind = DecodeSettings()
    training: TrainingSettings = TrainingSettings()

    @field_validator("pixel_size_nm", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, (int, float)):
            return pixel_size_pair(value)
        return value

    @field_validator("pixel_size_nm")
    @classmethod
    def _plausible(cls, value: PixelSize) -> PixelSize:
        if not is_plausible_pixel_size(value):
            raise ValueError("a camera pixel in the sample is 5 to 2000 nm wide; give it in nm")
        return value

    @model_validator(mode="after")
    def _width_in_nm(self) -> Experiment:
        width = self.width_px()
        if not 0.1 <= width <= 30:
            raise ValueError(f"the PSF in focus is {width:.3g} camera pixels wide, expected 0.1 to 30; give its width in nm")
        return self

    @model_validator(mode="after")
    def _colours(self) -> Experiment:
        channels, shares = self.psf.channels, self.specimen.channel_shares
        if shares is not None and len(shares) != channels:
            count = f"{channels} channel{'' if channels == 1 else 's'}"
            raise ValueError(f"specimen.channel_shares has {len(shares)} entries, the PSF has {count}; give one for each")
        if channels > 1 and not self.localizer.tells_colours:
            raise ValueError(
                f"the PSF has {channels} colour channels, which a localizer of kind '{self.localizer.kind}' does not tell; take "
                "localizer.kind = 'decode', or the PSF of one channel"
            )
        return self

    @model_validator(mode="after")
    def _frames_for_context(self) -> Experiment:
        needed, frames = 2 * self.localizer.neighbours + 1, self.training.frames
        if self.localizer.needs_training and self.localizer.sees_all_frames and frames < 2:
            raise ValueError(
                f"training.frames {frames}; global context is what the frames of a movie say together, and is learned from windows of many: "
                "give 16 or more, or localizer.context = 'none'"
            )
        if self.localizer.needs_training and frames < needed:
            raise ValueError(
                f"training.frames {frames}; a localizer of kind '{self.localizer.kind}' that looks at "
                f"{self.localizer.neighbours} frame on each side learns from windows of at least {needed}"
            )
        return self

    @model_validator(mode="after")
    def _depths_covered(self) -> Experiment:
        (low, high), known = self.specimen.z_nm, self.localizer.depths_nm
        if known is not None and self.has_depth and not known[0] <= low <= high <= known[1]:
            raise ValueError(
                f"specimen.z_nm runs from {low:g} to {high:g} nm, the localizer gives {known[0]:g} to {known[1]:g} nm only; "
                "widen localizer.z_range_nm or narrow specimen.z_nm"
            )
        return self

    @classmethod
    def from_file(cls, path: Path | str) -> Self:
        """Read a TOML or JSON document; paths inside it count from its folder.

        PSF and camera may stand in files of their own: ``[psf]`` with the one key ``file = "psf.h5"``, any PSF file that `read_psf` knows, and
        ``[camera]`` with ``file = "camera.toml"`` (or .json). The experiment holds them whole.

        Raises:
            DocumentError: not readable, unknown key, wrong unit or value; one line that says which.
            CalibrationError: the PSF's own file holds none.
        """
        path = Path(path)
        values = read_document(path)
        if (psf := own_file(values, "psf", path)) is not None:
            values["psf"] = read_psf(psf, pixel_size_nm=_size(values.get("pixel_size_nm"))).section
        if (camera := own_file(values, "camera", path)) is not None:
            content = read_document(camera)
            values["camera"] = content.get("camera", content)
        return parse(cls, values, str(path))

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str = "document") -> Self:
        """Read the document as it travels inside model files and tables."""
        return parse(cls, values, source)

    def to_json(self) -> dict[str, Any]:
        """Give the whole document as plain JSON values."""
        return self.model_dump(mode="json")

    @staticmethod
    def document_schema() -> dict[str, Any]:
        """Give the JSON schema of the document."""
        return Experiment.model_json_schema()

    def grid(self, shape_px: tuple[int, int], margin_px: float = 0.0) -> Grid:
        """Make the pixel raster of a frame."""
        return Grid(shape_px, self.pixel_size_nm, margin_px)

    def build_camera(self) -> Camera:
        """Make the camera."""
        camera: Camera = self.camera.build()
        return camera

    def build_microscope(self, shape_px: tuple[int, int]) -> Microscope:
        """Make PSF, camera and grid."""
        return Microscope(self.build_psf(), self.build_camera(), self.grid(shape_px))

    def build_psf(self) -> PSF:
        """Make the PSF.

        Raises:
            DocumentError: the specimen reaches beyond the depths in which the PSF is known.
        """
        psf: PSF = self.psf.build(self.pixel_size_nm)
        (low, high), known = self.specimen.z_nm, psf.z_range_nm
        if known is not None and not known[0] - Z_ROUNDING_NM <= low <= high <= known[1] + Z_ROUNDING_NM:
            has_pupil = "pupil_px" in type(self.psf).model_fields
            more = (
                " or raise psf.pupil_px"
                if has_pupil
                else " or raise psf.optics.pupil_px"
                if getattr(self.psf, "optics", None)
                else ""
            )
            raise DocumentError(
                f"specimen.z_nm runs from {low:g} to {high:g} nm, the PSF is known from {known[0]:.0f} to {known[1]:.0f} nm only; "
                f"narrow specimen.z_nm{more}"
            )
        return psf

    def build_specimen(self, shape_px: tuple[int, int]) -> Specimen:
        """Make what lies under the objective, with a margin as wide as half of the PSF's patch (at most 6 px)."""
        return self.specimen.build(self.grid(shape_px, margin_px=min(6.0, self.psf.roi_px / 2)), self.psf.channels)

    @property
    def serves_many(self) -> bool:
        """Whether its model takes movies of any camera and pixel size: drawn with various cameras, and told the conditions or without training."""
        return bool(self.camera.kind == "various" and self.localizer.is_told)

    @property
    def has_depth(self) -> bool:
        """Whether the localizer is to find z: the specimen is thick and the PSF tells depths apart."""
        low, high = self.specimen.z_nm
        return high > low and bool(self.psf.tells_depth)

    def width_px(self) -> float:
        """Size of the PSF in focus, in pixels (of the mean side, where pixels are not square)."""
        return float(self.psf.width_in_focus_nm()) / math.sqrt(self.pixel_size_nm[0] * self.pixel_size_nm[1])

    def build_localizer(self) -> Localizer:
        """Make the localizer, untrained, with the scales that follow from this document; its first weights follow from the seed."""
        camera, specimen = self.build_camera(), self.build_specimen((32, 32))
        generator, side = torch.Generator().manual_seed(0), self.training.patch_px
        emitters = specimen.draw(1, generator, n_movies=50)
        background = math.exp(float(specimen.draw_background(1, generator, n_movies=50).clamp(min=0.05).log().mean()))
        excess = float(torch.as_tensor(camera.excess, dtype=torch.float32).mean())
        noise = float(camera.random_crop((side, side), generator).noise_variance((side, side)).mean())
        reference = InputConditions(background, excess, noise, self.width_px())
        low, high = self.specimen.z_nm
        scales = Scales(
            pixel_size_nm=self.pixel_size_nm,
            z_unit_nm=max(abs(low), abs(high)) if self.has_depth else 0.0,
            photon_unit=math.exp(float(emitters.photons.clamp(min=1).log().mean())) if len(emitters) else 1000.0,
            planes=self.build_psf().planes,
            reference=reference,
            channels=self.psf.channels,
        )
        with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
            torch.manual_seed(self.training.seed)
            localizer: Localizer = self._with_psf(self.localizer).build(scales)
        return localizer

    def _with_psf(self, section: LocalizerSettings) -> LocalizerSettings:
        """Give a method that fits a PSF that of the document, where it names none of its own."""
        lacks_one = section.takes_psf and getattr(section, "psf", None) is None
        return section.model_copy(update={"psf": self.psf}) if lacks_one else section

    def build_simulator(self, localizer: Localizer, device: torch.device | str = "cpu") -> Simulator:
        """Make what draws the training batches."""
        side = self.training.patch_px
        return Simulator(
            self.build_specimen((side, side)),
            self.build_microscope((side, side)).to(device),
            width_px=self.width_px(),
            psf_scale=self.training.psf_scale,
            plane_shift_nm=self.training.plane_shift_nm,
            lone_fraction=self.training.lone_fraction,
            frames=self.training.frames,
            context=localizer.context,
            reference=None if self.localizer.is_told else localizer.scales.reference.tensor(1),
        )


def _size(value: Any) -> float | PixelSize | None:
    """Give a document's pixel size for files that count in pixels; what is wrong with it, the document says itself."""
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(v, (int, float)) and math.isfinite(v) and v > 0 for v in numbers) or len(numbers) not in (1, 2):
        return None
    return float(numbers[0]) if len(numbers) == 1 else (float(numbers[0]), float(numbers[1]))


__all__ = ["Experiment", "read_document"]
