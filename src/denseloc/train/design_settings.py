"""The document section ``[design]``: how a phase mask is designed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..description import Section
from .loop import Seed

STEPS = 400
"""Steps of a design by Fisher information where the document says none."""


class ModulatorSettings(Section):
    """``[design.modulator]``: the pixels on which the mask is written for a spatial light modulator or a printed mask."""

    rows: int = Field(ge=16, le=8192, description="pixels along y")
    columns: int = Field(ge=16, le=8192, description="pixels along x")
    pixel_um: float = Field(gt=0, lt=1000, description="width of a pixel")
    focal_length_mm: float = Field(gt=0, description="focal length of the relay's lens before the mask")
    magnification: float = Field(gt=1, description="magnification of objective and tube lens")
    levels: int = Field(256, ge=2, le=65536, description="grey levels for a turn of 2 pi")


class DesignSettings(Section):
    """``[design]``."""

    objective: Literal["fisher", "network"] = Field(
        "fisher", description="least bound of one emitter's position, or least loss of the localizer at the specimen's density"
    )
    mask: Literal["zernike", "free"] = Field(
        "zernike", description="a sum of smooth polynomials, or each cell of the pupil by itself"
    )
    degree: int = Field(8, ge=2, le=20, description="highest radial degree of the polynomials")
    over_z: Literal["mean", "max"] = Field("mean", description="fisher: which value over the depths is to be least")
    photons: float | None = Field(None, gt=0, description="fisher: photons of the emitter; absent: the specimen's median")
    background: float | None = Field(None, ge=0, description="fisher: photons per pixel; absent: the specimen's median")
    steps: int | None = Field(
        None, ge=1, le=10_000_000, description=f"fisher: steps, {STEPS} if absent; the network takes those of [training]"
    )
    learning_rate: float = Field(0.03, gt=0, le=10, description="largest step of the mask's parameters, in rad")
    start_rad: float = Field(0.5, gt=0, le=20, description="rms of the random mask to begin with, where [psf] has no mask")
    z_step_nm: float = Field(100.0, ge=5, le=1000, description="distance of the depths at which images are computed")
    seed: Seed = Field(0, description="number from which start and draws of the design follow")
    modulator: ModulatorSettings | None = Field(None, description="pixels on which the mask is written")

    @model_validator(mode="after")
    def _of_the_objective(self) -> DesignSettings:
        if self.objective == "network":
            given = [name for name in ("photons", "background", "steps") if getattr(self, name) is not None]
            if given:
                where = "steps stand in [training]" if given == ["steps"] else "light stands in [specimen], steps in [training]"
                raise ValueError(f"{', '.join(given)} belong to the objective 'fisher'; the network's {where}")
        return self
