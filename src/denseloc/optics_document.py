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
    """An experiment whose PSF is a pupil, and ``[design]``."""

    design: DesignSettings = Field(default_factory=DesignSettings)

    @model_validator(mode="after")
    def _optics(self) -> OpticsDocument:
        psf = self.psf
        if not isinstance(psf, PupilSettings):
            raise ValueError(f"'psf' of kind '{psf.kind}' has no pupil to put a mask into; give [psf] kind = \"pupil\"")
        if psf.residual_maps is not None:
            raise ValueError("'psf' carries residual_maps of the present mask, which another mask would not have; leave them out")
        finest, pixel = psf.wavelength_nm / (2 * psf.numerical_aperture), max(self.pixel_size_nm)
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
                f"specimen.z_nm begins {-(psf.depth_nm + low):g} nm below the cover glass; raise psf.depth_nm, the height of z = 0, to "
                f"{-low:g} or more"
            )
        if self.design.objective == "network" and not self.localizer.needs_training:
            raise ValueError(
                f"a localizer of kind '{self.localizer.kind}' does not learn; design.objective 'network' needs one that does"
            )
        return self

    def with_mask(self, mask: MaskSettings) -> Experiment:
        """Give the experiment with a mask in its pupil, ready for training."""
        values: dict[str, Any] = {name: getattr(self, name) for name in Experiment.model_fields}
        return Experiment(**{**values, "psf": self.psf.model_copy(update={"mask": mask})})
