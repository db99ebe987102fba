"""What an optics design writes: pictures on the way, masks for a light modulator, and the PSF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import OutputError
from ..experiment import Experiment
from ..files import replacing
from ..formats.phase_masks import write_grey_levels, write_mask
from ..formats.psf_files import write_psf
from ..optics.masks import MaskSettings
from ..optics.stack import DesignedPSF
from ..optics_document import OpticsDocument
from ..report.optics_design import SHOWN, draw_design
from ..train.fisher_design import Light, bounds_nm
from .optics_checks import aperture_radius_px

DEPTHS = 41
"""Depths at which bounds are told."""
PLACES = ((-0.25, 0.1), (0.35, -0.4))
"""Places in the pixel over which bounds are averaged, so that no symmetry flatters them."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Least standard deviations over depth.

    Args:
        depths_nm: (m,).
        values_nm: (m, 3) of x, y, z.
    """

    depths_nm: np.ndarray
    values_nm: np.ndarray

    @property
    def mean_nm(self) -> float:
        """Mean over axes and depths."""
        return float(self.values_nm.mean())

    @property
    def largest_nm(self) -> float:
        """Largest mean over the axes of a depth."""
        return float(self.values_nm.mean(1).max())

    def to_json(self) -> dict[str, float]:
        """Give means, rounded."""
        x, y, z = (round(float(v), 3) for v in self.values_nm.mean(0))
        return {"mean": round(self.mean_nm, 3), "max": round(self.largest_nm, 3), "x": x, "y": y, "z": z}


@torch.no_grad()
def bounds_of(psf: DesignedPSF, light: Light) -> Bounds:
    """Give the bounds of the mask as it is now; the mean of those of the colour channels."""
    psf.renew()
    assert psf.z_range_nm is not None
    z = torch.linspace(*psf.z_range_nm, DEPTHS, device=psf.stacks[0].depths_nm.device)
    places = [torch.tensor(place, device=z.device).expand(DEPTHS, 2) for place in PLACES]
    each = [bounds_nm(stack, place, z, light) for stack in psf.stacks for place in places]
    return Bounds(z.cpu().numpy(), torch.stack(each).mean(0).cpu().numpy())


@torch.no_grad()
def draw(
    folder: Path, document: OpticsDocument, psf: DesignedPSF, light: Light, bounds: Mapping[str, Bounds], step: int, steps: int
) -> None:
    """Draw the design as it is now into ``design.png``, and into the folder of the pictures on the way.

    Raises:
        OutputError: a file cannot be written.
    """
    on_the_way = folder / "steps"
    try:
        on_the_way.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {on_the_way} cannot be made ({error.strerror}); choose another place") from None
    assert psf.z_range_nm is not None
    first = psf.stacks[0]
    z = torch.linspace(*psf.z_range_nm, SHOWN, device=first.depths_nm.device)
    images = [stack(torch.zeros(SHOWN, 2, device=z.device), z)[:, 0].cpu().numpy() for stack in psf.stacks]
    phase = psf.mask.phase().cpu().double().numpy()
    phase = np.where(first.optics.coverage.cpu().numpy() > 0, phase, np.nan)
    now = bounds["now"]
    title = (
        f"{document.name}, step {step} of {steps}: least σ {now.mean_nm:.1f} nm on average, {now.largest_nm:.1f} nm at the worst depth "
        f"({light.photons:.0f} photons, background {light.background:.3g} per pixel)"
    )
    curves = {name: bound.values_nm for name, bound in bounds.items()}
    png = draw_design(phase, images, z.tolist(), curves, now.depths_nm, title)
    for path in (on_the_way / f"{step:07d}.png", folder / "design.png"):
        with replacing(path) as temporary:
            temporary.write_bytes(png)


def write_masks(folder: Path, document: OpticsDocument, mask: MaskSettings) -> None:
    """Write ``mask.npy``, ``mask.mat`` and ``mask.tif`` in rad, and ``modulator.tif`` in grey levels where the document has a modulator.

    They stand on the modulator's pixels, or else on the cells of the pupil; beyond the aperture the phase is 0.

    Raises:
        OutputError: a file cannot be written.
    """
    modulator, radius = document.design.modulator, aperture_radius_px(document)
    cells = document.pupil.pupil_px
    rows, columns = (cells, cells) if modulator is None else (modulator.rows, modulator.columns)
    y, x = torch.meshgrid(*((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / radius for n in (rows, columns)), indexing="ij")
    phase = torch.where(x**2 + y**2 <= 1, mask.phase(x, y, document.pupil), 0.0).numpy()
    turned = np.angle(np.exp(1j * phase))
    numbers = {
        "aperture_px": 2 * radius,
        "wavelength_nm": float(document.pupil.wavelength_nm),
        "numerical_aperture": float(document.pupil.numerical_aperture),
    }
    for suffix in (".npy", ".mat", ".tif"):
        write_mask(folder / f"mask{suffix}", turned, numbers)
    if modulator is not None:
        write_grey_levels(folder / "modulator.tif", phase, modulator.levels)


def write_psf_file(path: Path, experiment: Experiment, record: Mapping[str, Any]) -> None:
    """Write the PSF with the designed mask."""
    low, high = experiment.specimen.z_nm
    kept = {"program": "denseloc", "z_range_nm": (low, high), "notes": list(record["notes"]), "design": record["design"]}
    write_psf(path, experiment.psf, kept, pixel_size_nm=experiment.pixel_size_nm)
