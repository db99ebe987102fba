"""Refining and localizing on another device than the CPU, which is pretended: nothing is mixed, and the results are those of the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from denseloc.camera import Camera, SCMOSSettings
from denseloc.data import Frames, Localizations, Provenance
from denseloc.formats import read_table
from denseloc.localize import LOCALIZERS, InputConditions, Scales
from denseloc.optics import AstigmaticSettings, GaussianSettings, PSFSettings
from denseloc.verbs import refine
from pretended_gpu import pretended_gpu

PIXEL_NM = (100.0, 100.0)
SHAPE = (24, 28)
SPOTS = np.array([[0, 600.0, 700.0], [0, 1010.0, 900.0], [1, 620.0, 720.0], [1, 1900.0, 1500.0], [2, 610.0, 710.0]])
GAUSSIAN = GaussianSettings(width_nm=130.0, roi_px=11)
ASTIGMATIC = AstigmaticSettings(width_nm=130, focus_a_nm=250, focus_b_nm=-250, depth_nm=350, roi_px=15)


def camera() -> Camera:
    return SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=1.0).build()


def light(psf: PSFSettings) -> torch.Tensor:
    """Draw three frames of emitters in focus, in photons."""
    rows, columns = (torch.arange(n) for n in SHAPE)
    photons = torch.full((3, 1, *SHAPE), 10.0)
    widths = (130.0, 130.0) if psf is GAUSSIAN else (160.0, 160.0)
    for frame, x, y in SPOTS:
        square = ((columns + 0.5) * 100 - x).square() / widths[0] ** 2 + (((rows + 0.5) * 100 - y).square() / widths[1] ** 2)[
            :, None
        ]
        photons[int(frame), 0] += 2000 * 1e4 / (2 * np.pi * widths[0] * widths[1]) * torch.exp(-0.5 * square)
    return torch.poisson(photons, generator=torch.Generator().manual_seed(2))


def assert_close(found: Localizations, expected: Localizations) -> None:
    assert list(found.columns) == list(expected.columns)
    assert len(found) == len(expected) > 0
    for name in ("frame", "x_nm", "y_nm", "photons"):
        np.testing.assert_allclose(found.columns[name], expected.columns[name], rtol=1e-3, atol=1.0, err_msg=name)


@pytest.mark.parametrize("psf", [GAUSSIAN, ASTIGMATIC], ids=["flat", "deep"])
@pytest.mark.parametrize("method", ["single", "multi", "cel0"])
def test_methods_without_training_run_there(method: str, psf: PSFSettings) -> None:
    more = {"z_nm": 0.0} if method == "cel0" else {}
    section = LOCALIZERS.get(method).model_validate({"kind": method, "psf": psf, **more})
    localizer = section.build(Scales(PIXEL_NM, 0.0 if psf is GAUSSIAN else 400.0, 1000.0, 1, InputConditions(10.0)))
    photons = light(psf)
    expected = localizer(Frames(photons, PIXEL_NM))
    with pretended_gpu() as device:
        found = localizer(Frames(photons.to(device), PIXEL_NM))
    assert_close(found, expected)


@pytest.mark.parametrize("psf", [GAUSSIAN, ASTIGMATIC], ids=["flat", "deep"])
def test_refining_runs_there(tmp_path: Path, psf: PSFSettings) -> None:
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, (100 + 2 * light(psf)[:, 0]).round().numpy().astype(np.uint16), photometric="minisblack")
    off = SPOTS[:4] + np.array([0, 20.0, -15.0])
    ghost = np.array([[2, 2300.0, 400.0]])
    frame, x, y = np.concatenate([off, ghost]).T
    columns = {"frame": frame.astype(int), "x_nm": x, "y_nm": y, "sigma_x_nm": np.full(5, 30.0), "sigma_y_nm": np.full(5, 30.0)}
    if psf is ASTIGMATIC:
        columns |= {"z_nm": np.zeros(5), "sigma_z_nm": np.full(5, 100.0)}
    table = Localizations(columns, Provenance(pixel_size_nm=PIXEL_NM, shape_px=SHAPE, n_frames=3))
    there = tmp_path / "there.parquet"
    with pretended_gpu() as device:
        made = refine(table, movie, there, psf=psf, camera=camera(), add=True, remove=True, device=device.type)
    assert {one.what for one in made.decisions} >= {"added"}
    here = tmp_path / "here.parquet"
    refine(table, movie, here, psf=psf, camera=camera(), add=True, remove=True)
    assert_close(read_table(there), read_table(here))
