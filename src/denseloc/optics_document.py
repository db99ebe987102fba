"""The document of an optics design: an experiment, and the section that says how its phase mask is designed."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from .experiment import Experiment
from .optics import PupilSettings
from .optics.masks import MaskSettings
from .train.design_settings import DesignSettings

LEAST_RANGE_NM, MOST_RANGE_NM = 200.0, 20_000.0


class OpticsDocument(Experiment):
    """An experiment whose PSF is a pupil, of one colour or of several, and ``[design]``."""

    design: DesignSettings = Field(default_factory=DesignSettings)

    @model_validator(mode="after")
    def _optics(self) -> OpticsDocument:
        if not isinstance(self.psf, PupilSettings) and getattr(self.psf, "optics", None) is None:
            raise ValueError(
                f"'psf' of kind '{self.psf.kind}' has no pupil to put a mask into; give [psf] kind = \"pupil\", or \"colours\" with [psf.optics]"
            )
        psf = self.pupil
        if psf.residual_maps is not None:
            raise ValueError("'psf' carries residual_maps of the present mask, which another mask would not have; leave them out")
        finest, pixel = min(self.wavelengths_nm) / (2 * psf.numerical_aperture), max(self.pixel_size_nm)
        if pixel > finest:
            raise ValueError(
                f"pixels of {pixel:g} nm are too coarse for the aperture, whose finest period is {finest:.0f} nm; expected at most one "
                "period: raise the magnification, or correct pixel_size_nm or numerical_aperture"
            )
        low, high = self.specimen.z_nm
        if not LEAST_RANGE_NM <= high - low <= MOST_RANGE_NM:
            raise ValueError(
                f"specimen.z_nm spans {high - low:g} nm; a mask is designed for depths over {LEAST_RANGE_NM:g} to {MOST_RANGE_NM:g} nm"
            )
        if psf.depth_nm + low < 0 and psf.medium_index != psf.immersion_index:
            raise ValueError(
                f"specimen.z_nm begins {-(psf.depth_nm + low):g} nm below the cover glass; raise {self.pupil_key}.depth_nm, the height of z = 0, to "
                f"{-low:g} or more"
            )
        if self.design.objective == "network" and not self.localizer.needs_training:
            raise ValueError(
                f"a localizer of kind '{self.localizer.kind}' does not learn; design.objective 'network' needs one that does"
            )
        if self.design.objective == "fisher" and self.psf.channels > 1:
            raise ValueError(
                "design.objective 'fisher' is the bound of a position and says nothing of telling colours apart; for a PSF of kind 'colours' "
                "take design.objective = 'network'"
            )
        return self

    @property
    def pupil(self) -> PupilSettings:
        """The pupil that gets the mask."""
        pupil: PupilSettings = self.psf if isinstance(self.psf, PupilSettings) else self.psf.optics
        return pupil

    @property
    def pupil_key(self) -> str:
        """Where the pupil stands in the document."""
        return "psf" if isinstance(self.psf, PupilSettings) else "psf.optics"

    @property
    def wavelengths_nm(self) -> tuple[float, ...]:
        """Wavelength of emission in each colour channel."""
        return (self.psf.wavelength_nm,) if isinstance(self.psf, PupilSettings) else tuple(self.psf.wavelengths_nm)

    def with_mask(self, mask: MaskSettings) -> Experiment:
        """Give the experiment with a mask in its pupil, ready for training."""
        values: dict[str, Any] = {name: getattr(self, name) for name in Experiment.model_fields}
        pupil = self.pupil.model_copy(update={"mask": mask})
        psf = pupil if isinstance(self.psf, PupilSettings) else self.psf.model_copy(update={"optics": pupil})
        return Experiment(**{**values, "psf": psf})
