"""The bias of dim emitters is known and taken away."""

from __future__ import annotations

import pytest
import torch

from denseloc.fit import fit_single
from denseloc.localize import LOCALIZERS
from denseloc.optics import AstigmaticSettings, GaussianSettings, PSFSettings

PIXEL_NM = (100.0, 100.0)
KINDS: dict[str, PSFSettings] = {
    "gaussian": GaussianSettings(width_nm=130, roi_px=25),
    "astigmatic": AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=25),
}
PHOTONS, BACKGROUND = 300.0, 10.0


def spots(kind: str, n: int, excess: float = 1.0) -> tuple[torch.Tensor, dict]:
    """Draw dim emitters in the middle pixel, and say how they are fitted."""
    generator = torch.Generator().manual_seed(3)
    psf = KINDS[kind].build(PIXEL_NM)
    offset, z = torch.rand(n, 2, generator=generator) - 0.5, 1000 * (torch.rand(n, generator=generator) - 0.5)
    with torch.no_grad():
        light = PHOTONS * psf(offset, z)[:, :, 5:-5, 5:-5] + BACKGROUND
    told = {"z_range_nm": (-600.0, 600.0)} if kind == "astigmatic" else {}
    return excess * torch.poisson(light / excess, generator=generator), {"psf": psf, "excess": excess, "reach_px": 2.5, **told}


@pytest.mark.parametrize(("kind", "excess"), [("gaussian", 2.0), ("astigmatic", 1.0), ("astigmatic", 2.0)])
def test_dim_emitters_come_out_too_bright_and_are_put_right(kind: str, excess: float) -> None:
    photons, told = spots(kind, 5000, excess)
    usual, put_right = fit_single(photons=photons, **told), fit_single(photons=photons, unbiased=True, **told)
    good = usual.converged
    assert torch.equal(good, put_right.converged)
    bound = usual.crlb("photons")[good].mean()
    error = [(fits["photons"] - PHOTONS)[good].mean() / bound for fits in (usual, put_right)]
    assert error[0] > 0.05, "what is to be taken away is there"
    assert abs(error[1]) < max(0.03, 0.3 * error[0])
    spread = [(fits["photons"] - PHOTONS)[good].square().mean() for fits in (usual, put_right)]
    assert spread[1] < 1.04 * spread[0], "the spread is hardly larger"
    assert torch.equal(usual.values[~good], put_right.values[~good]), "what has not converged stays where it was left"


def test_in_photons_the_bias_is_the_same_at_any_brightness() -> None:
    """It is of the first order in 1 / photons: where the background grows with the emitter, its share of the photons falls as they rise."""
    psf = KINDS["gaussian"].build(PIXEL_NM)
    with torch.no_grad():
        shape = psf(torch.zeros(1, 2), torch.zeros(1))[:, :, 5:-5, 5:-5]
    moved = []
    for photons in (2000.0, 8000.0):
        light = photons * shape + photons * 1e-3
        usual, put_right = (fit_single(psf, light, unbiased=choice, dtype=torch.float64) for choice in (False, True))
        moved.append(float(usual["photons"] - put_right["photons"]))
    assert moved[0] > 0.1
    assert moved[1] == pytest.approx(moved[0], rel=0.05)


def test_least_squares_are_another_estimate() -> None:
    with pytest.raises(ValueError, match="leave it out with estimator 'least_squares'"):
        LOCALIZERS.get("single")(unbiased=True, estimator="least_squares")
