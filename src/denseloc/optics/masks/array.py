"""A mask as an array of phases: measured, designed elsewhere or printed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from ...description import Array, nearest
from .base import MaskSettings

if TYPE_CHECKING:
    from ..pupil import PupilSettings


MOST_RAD = 40.0
"""Largest phase of a mask: six turns; degrees and grey levels of a light modulator go beyond it, unwrapped masks do not."""


def _read(value: Any) -> Any:
    """Read a MATLAB file or a TIFF; anything else is left to the array's own reader."""
    is_tiff = isinstance(value, (str, Path)) and str(value).lower().endswith((".tif", ".tiff"))
    return _read_tiff(str(value)) if is_tiff else _read_mat(value)


def _read_tiff(path: str) -> Any:
    """Read an image of one page."""
    import tifffile

    try:
        image = tifffile.imread(path)
        if not image.size:
            raise ValueError("it holds no image")
        return image
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"cannot read the mask {path} ({reason}); give a TIFF of one page of 32-bit phases") from None


def _read_mat(value: Any) -> Any:
    """Read ``mask.mat`` or ``mask.mat:variable``; anything else is left to the array's own reader."""
    path, dot, variable = str(value).rpartition(".mat") if isinstance(value, (str, Path)) else ("", "", "")
    if not dot or str(value).startswith("f32:") or (variable and not variable.startswith(":")):
        return value
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path + dot)
    except (OSError, ValueError, NotImplementedError, MatReadError) as error:
        reason = "MATLAB 7.3 files are not read; save with -v7" if isinstance(error, NotImplementedError) else str(error)
        raise ValueError(f"cannot read {path + dot} ({reason})") from None
    arrays = {
        k: v for k, v in content.items() if isinstance(v, np.ndarray) and v.ndim == 2 and v.dtype.kind in "fiu" and v.size > 1
    }
    wanted = variable[1:]
    if not wanted and len(arrays) == 1:
        return next(iter(arrays.values()))
    if wanted not in arrays:
        found = ", ".join(arrays) or "none"
        raise ValueError(f"{path + dot}: name one array as '{Path(path).name}.mat:NAME'{nearest(wanted, arrays)}; arrays: {found}")
    return arrays[wanted]


class ArrayMaskSettings(MaskSettings):
    """``[psf.mask] kind = "array"``: phases on a square grid, centred on the aperture.

    How much of the array the aperture fills follows from ``aperture_px``, or from the geometry of the 4f relay: the aperture's image
    on the mask has the radius ``f NA / sqrt(M^2 - NA^2)``. Without either it fills the array. Beyond the array the phase is 0; wrapped
    phases are interpolated as ``exp(i phase)``.
    """

    kind: Literal["array"] = "array"
    values: Annotated[Array, BeforeValidator(_read)] = Field(
        description="(rows, columns) phases in rad: an array, a .npy file, a TIFF, a MATLAB file 'mask.mat' or 'mask.mat:variable'"
    )
    aperture_px: float | None = Field(None, gt=2, description="diameter of the aperture in pixels of the mask")
    pixel_um: float | None = Field(None, gt=0, description="width of a pixel of the mask")
    focal_length_mm: float | None = Field(None, gt=0, description="focal length of the relay's lens before the mask")
    magnification: float | None = Field(None, gt=1, description="magnification of objective and tube lens")

    @model_validator(mode="after")
    def _whole(self) -> ArrayMaskSettings:
        if self.values.ndim != 2 or min(self.values.shape) < 4 or not np.isfinite(self.values).all():
            raise ValueError(
                f"a mask is an array (rows, columns) of at least 4 x 4 finite phases (found shape {self.values.shape})"
            )
        largest = float(np.abs(self.values).max())
        if largest > MOST_RAD:
            raise ValueError(
                f"phases up to {largest:.4g}; expected rad (a turn is 6.28): divide degrees by 57.3, grey levels by their number a turn"
            )
        given = [n for n in ("pixel_um", "focal_length_mm", "magnification") if getattr(self, n) is not None]
        if given and (len(given) < 3 or self.aperture_px is not None):
            raise ValueError(
                "give pixel_um, focal_length_mm and magnification together, or aperture_px alone (found "
                f"{', '.join(given + (['aperture_px'] if self.aperture_px is not None else []))})"
            )
        return self

    def radius_px(self, numerical_aperture: float) -> float:
        """Give the aperture's radius in pixels of the mask."""
        if self.pixel_um is not None and self.focal_length_mm is not None and self.magnification is not None:
            radius_mm = self.focal_length_mm * numerical_aperture / math.sqrt(self.magnification**2 - numerical_aperture**2)
            return 1e3 * radius_mm / self.pixel_um
        return (min(self.values.shape) if self.aperture_px is None else self.aperture_px) / 2

    def upright(self, x: Tensor, y: Tensor, settings: PupilSettings) -> Tensor:
        """Give the phase in rad of the mask before it is turned."""
        phasor = torch.polar(torch.ones(self.values.shape, dtype=x.dtype), torch.tensor(self.values, dtype=x.dtype))
        rows, columns = self.values.shape
        radius = self.radius_px(settings.numerical_aperture)
        at = torch.stack((2 * radius / columns * x, 2 * radius / rows * y), -1)[None]  # -1 .. 1 from edge to edge
        parts = torch.stack((phasor.real, phasor.imag))[None]
        drawn = torch.nn.functional.grid_sample(parts, at, mode="bilinear", padding_mode="border", align_corners=False)[0]
        phase = torch.atan2(drawn[1], drawn[0])
        return torch.where((at[0].abs() <= 1).all(-1), phase, 0.0)
