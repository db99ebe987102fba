"""What a PSF gives back of its parameters, and where it keeps them."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from denseloc.optics import PSF, PSFSettings
from denseloc.optics.base import parameter

PIXEL_NM = (100.0, 100.0)


class TailsSettings(PSFSettings):
    """``[psf] kind = "tails"``."""

    kind: Literal["tails"] = "tails"
    width_nm: float = Field(130.0, gt=50, lt=400)
    share: float = Field(0.5, ge=0, lt=1)
    tails: tuple[float, ...] = (1.0, 2.0)

    def build(self, pixel_size_nm: tuple[float, float]) -> Tails:
        """Make the PSF."""
        return Tails(self, pixel_size_nm)


class Tails(PSF):
    """A PSF with a parameter of several elements, which it does not give back."""

    settings: TailsSettings

    def __init__(self, settings: TailsSettings, pixel_size_nm: tuple[float, float]) -> None:
        super().__init__(settings, pixel_size_nm)
        self.width_nm = parameter(settings.width_nm)
        self.share = parameter(settings.share)
        self.tails = nn.Parameter(torch.tensor(settings.tails))

    def shape(self, dx_px: Tensor, dy_px: Tensor, z_nm: Tensor, scale: Tensor) -> Tensor:
        """Draw nothing."""
        return torch.zeros(len(dx_px), 1, self.roi_px, self.roi_px)


class WholeTails(Tails):
    """The same, which gives it back."""

    def values(self) -> dict[str, Any]:
        """Give the tails too."""
        return {**super().values(), "tails": tuple(self.tails.tolist())}


@pytest.mark.parametrize("tails", [(1.0, 2.0), (1.0,)])
def test_a_parameter_that_would_be_lost_is_an_error(tails: tuple[float, ...]) -> None:
    settings = TailsSettings(tails=tails)
    with pytest.raises(TypeError, match=r"Tails: values\(\) leaves out the parameter 'tails' of shape"):
        settings.build(PIXEL_NM).described()
    psf = WholeTails(settings, PIXEL_NM)
    with torch.no_grad():
        psf.tails += 1
    assert psf.described() == TailsSettings(tails=tuple(t + 1 for t in tails))


@pytest.mark.parametrize(("far", "near"), [(1e4, 400.0), (-1e4, 50.0), (400.0, 400.0), (50.0, 50.0)])
def test_open_ends_of_a_range_are_kept_clear_of(far: float, near: float) -> None:
    psf = WholeTails(TailsSettings(), PIXEL_NM)
    with torch.no_grad():
        psf.width_nm.fill_(far)
        psf.share.fill_(far)
    psf.keep_possible()
    described = psf.described()
    assert described.width_nm == pytest.approx(near, rel=1e-5)
    assert TailsSettings.model_validate(described.model_dump()) == described  # 50 < width < 400, 0 <= share < 1


def test_a_kind_without_a_width_is_told_what_it_lacks() -> None:
    class Nameless(PSFSettings):
        kind: Literal["nameless"] = "nameless"

        def build(self, pixel_size_nm: tuple[float, float]) -> PSF:
            return TailsSettings().build(pixel_size_nm)

    with pytest.raises(TypeError, match=r"Nameless has no key width_nm; give the class a method width_in_focus_nm\(\)"):
        Nameless().width_in_focus_nm()
    assert TailsSettings().width_in_focus_nm() == 130.0
