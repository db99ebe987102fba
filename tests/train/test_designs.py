"""Designs of masks: they get better, they go on where they were stopped, and the differentiable frames are right on average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from denseloc.errors import DocumentError, TrainingError
from denseloc.localize import TrainableLocalizer
from denseloc.optics.designed_mask import FreeMask, designed_mask
from denseloc.optics.stack import StackPSF
from denseloc.optics_document import OpticsDocument
from denseloc.train.co_design import CoDesign
from denseloc.train.fisher_design import FisherDesign, Light


def document(**design: Any) -> OpticsDocument:
    """A microscope whose images are drawn in milliseconds."""
    return OpticsDocument.from_json(
        {
            "pixel_size_nm": 110.0,
            "psf": {
                "kind": "pupil",
                "wavelength_nm": 600.0,
                "numerical_aperture": 1.2,
                "immersion_index": 1.33,
                "model": "scalar",
                "roi_px": 15,
                "pupil_px": 24,
            },
            "camera": {"kind": "scmos", "offset_counts": 100.0, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
            "specimen": {
                "density_per_um2": 0.4,
                "z_nm": [-500.0, 500.0],
                "photons": {"kind": "constant", "photons": 3000.0},
                "background": {"kind": "uniform", "photons": 20.0},
            },
            "localizer": {"kind": "decode", "preset": "tiny"},
            "training": {"steps": 8, "batch_size": 2, "frames": 3, "patch_px": 16, "warmup": 2, "seed": 3},
            "design": design,
        }
    )


def fisher(checkpoint: Path | None = None, **design: Any) -> FisherDesign:
    wanted = document(z_step_nm=200.0, **design)
    optics = wanted.psf.build(wanted.pixel_size_nm)
    mask = designed_mask(optics, wanted.design.mask, 4, torch.Generator().manual_seed(0))
    return FisherDesign(StackPSF(optics, mask, wanted.specimen.z_nm, 200.0), wanted.design, Light(3000.0, 20.0), checkpoint, "m")


def together(checkpoint: Path | None = None) -> CoDesign:
    wanted = document(objective="network", mask="free", z_step_nm=250.0)
    optics = wanted.psf.build(wanted.pixel_size_nm)
    mask = designed_mask(optics, "free", 4, torch.Generator().manual_seed(0))
    psf = StackPSF(optics, mask, wanted.specimen.z_nm, 250.0)
    localizer = wanted.build_localizer()
    assert isinstance(localizer, TrainableLocalizer)
    simulator = wanted.build_simulator(localizer)
    simulator.microscope.psf = psf
    return CoDesign(localizer, simulator, wanted.training, wanted.design, psf, "cpu", checkpoint, "m")


@pytest.mark.parametrize("over_z", ["mean", "max"])
@pytest.mark.parametrize("form", ["zernike", "free"])
def test_the_bound_falls(form: str, over_z: str) -> None:
    worker = fisher(mask=form, over_z=over_z, steps=12, learning_rate=0.1)
    worker.run(every=1)
    bounds = [entry["bound_nm"] for entry in worker.history]
    assert bounds[-1] < 0.95 * bounds[0]


def test_a_stopped_fisher_design_goes_on_to_the_same_mask(tmp_path: Path) -> None:
    whole = fisher(steps=6)
    whole.run()
    first = fisher(tmp_path / "c", steps=6)
    first.run(stop=lambda: first.step >= 3)
    second = fisher(tmp_path / "c", steps=6)
    assert second.resume()
    assert second.step == 3
    second.run()
    for a, b in zip(whole.psf.mask.parameters(), second.psf.mask.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    other = fisher(tmp_path / "c", steps=7)
    with pytest.raises(TrainingError, match="another document"):
        other.resume()


def test_the_mask_moves_between_its_rests_and_a_stopped_co_design_goes_on_to_the_same(tmp_path: Path) -> None:
    whole = together()
    start = whole.psf.mask.phase().detach().clone()
    weights = [p.detach().clone() for p in whole.localizer.parameters()]
    seen: dict[int, torch.Tensor] = {}

    def look() -> bool:
        seen[whole.step] = whole.psf.mask.phase().detach().clone()
        return False

    whole.run(stop=look)
    torch.testing.assert_close(seen[1], start)
    assert float((seen[6] - start).abs().max()) > 0.01
    torch.testing.assert_close(whole.psf.mask.phase().detach(), seen[7])
    assert any(not torch.equal(a, b) for a, b in zip(weights, whole.localizer.parameters(), strict=True))
    first = together(tmp_path / "c")
    first.run(stop=lambda: first.step >= 4)
    second = together(tmp_path / "c")
    assert second.resume()
    second.run()
    torch.testing.assert_close(second.psf.mask.phase(), whole.psf.mask.phase(), rtol=0, atol=0)
    for a, b in zip(whole.localizer.parameters(), second.localizer.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    "camera",
    [
        {
            "kind": "scmos",
            "offset_counts": 100.0,
            "electrons_per_count": 0.5,
            "read_noise_electrons": 3.0,
            "quantum_efficiency": 0.8,
        },
        {"kind": "emccd", "offset_counts": 100.0, "electrons_per_count": 20.0, "em_gain": 100.0, "read_noise_electrons": 60.0},
        {"kind": "various"},
    ],
)
def test_differentiable_noise_has_the_mean_and_variance_of_the_camera(camera: dict[str, Any]) -> None:
    wanted = OpticsDocument.from_json({**document().to_json(), "camera": camera})
    simulator = wanted.build_simulator(wanted.build_localizer())
    expected = torch.full((3 * 64, 1, 16, 16), 50.0, requires_grad=True)
    photons, excess, floor = simulator._record_differentiably(expected, 64, torch.Generator().manual_seed(5))
    windows = photons.detach().unflatten(0, (64, 3)).flatten(1)
    assert float(windows.mean()) == pytest.approx(50.0, rel=0.02)
    torch.testing.assert_close(windows.var(1), excess * 50 + floor, rtol=0.2, atol=0.0)
    assert float((windows.var(1) / (excess * 50 + floor)).mean()) == pytest.approx(1.0, rel=0.03)
    photons.sum().backward()  # type: ignore[no-untyped-call]
    assert expected.grad is not None
    assert float(expected.grad.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"psf": {"kind": "gaussian", "width_nm": 130.0}}, "has no pupil"),
        ({"pixel_size_nm": 300.0}, "too coarse for the aperture"),
        ({"specimen.z_nm": [0.0, 0.0]}, "spans 0 nm"),
        ({"specimen.z_nm": [-30000.0, 30000.0]}, "spans 60000 nm"),
        ({"psf.medium_index": 1.3}, "below the cover glass"),
        ({"localizer": {"kind": "cel0"}, "design": {"objective": "network"}}, "does not learn"),
        ({"design": {"objective": "network", "steps": 5}}, r"steps stand in \[training\]"),
        ({"design": {"objectve": "network"}}, "did you mean 'objective'"),
        ({"design": {"learning_rate": -1}}, "learning_rate"),
    ],
)
def test_impossible_documents_are_told_in_one_line(change: dict[str, Any], words: str) -> None:
    values = document().to_json()
    for key, value in change.items():
        section, _, name = key.rpartition(".")
        (values[section] if section else values)[name] = value
    with pytest.raises(DocumentError, match=words) as error:
        OpticsDocument.from_json(values)
    assert "\n" not in str(error.value)


def test_with_mask_gives_a_plain_experiment() -> None:
    wanted = document()
    optics = wanted.psf.build(wanted.pixel_size_nm)
    made = wanted.with_mask(FreeMask(torch.zeros_like(optics.mask_phase)).section())
    assert type(made).__name__ == "Experiment"
    assert made.psf.mask.kind == "array"
    assert "design" not in made.to_json()
