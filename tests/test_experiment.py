"""The document: strict, in the right units, and whole."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from scipy.io import savemat

from denseloc.errors import CalibrationError, CameraError, DocumentError
from denseloc.experiment import Experiment


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Copy a document with one entry set, or removed where the value is None."""
    new = copy.deepcopy(document)
    *sections, key = path.split(".")
    at = new
    for section in sections:
        at = at.setdefault(section, {})
    if value is None:
        del at[key]
    else:
        at[key] = value
    return new


@pytest.mark.parametrize("suffix", [".toml", ".json", ".JSON"])
def test_a_file_becomes_an_experiment_and_goes_through_json(tiny_document: dict[str, Any], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tiny{suffix}"
    path.write_text(tomli_w.dumps(tiny_document) if suffix == ".toml" else json.dumps(tiny_document), encoding="utf-8")
    experiment = Experiment.from_file(path)
    assert experiment.pixel_size_nm == (100.0, 100.0)
    assert Experiment.from_json(json.loads(json.dumps(experiment.to_json()))) == experiment
    assert experiment.to_json()["training"]["steps"] == 12


def test_a_byte_order_mark_is_read_over(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(tiny_document), encoding="utf-8-sig")
    assert Experiment.from_file(path).name == "tiny"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("pixel_size_nm", None, "'pixel_size_nm' is missing"),
        ("camera.offset_counts", None, "needs offset_counts"),
        ("pixel_size_nm", 0.1, "a camera pixel in the sample is 5 to 2000 nm wide; give it in nm.*found"),
        ("pixel_size_nm", "wide", "'pixel_size_nm'.*found 'wide'"),
        ("psf.width_nm", 0.13, "the PSF in focus is 0.0013 camera pixels wide, expected 0.1 to 30; give its width in nm"),
        ("pixel_size", 100, r"unknown key 'pixel_size' \(did you mean 'pixel_size_nm'\?\)"),
        ("training.learning_rat", 1, r"unknown key 'training.learning_rat' \(did you mean 'learning_rate'\?\)"),
        ("camera.offset", 1, r"unknown key 'camera.scmos.offset' \(did you mean 'offset_counts'\?\)"),
        ("specimen.photons.lo", 1, r"unknown key 'specimen.photons.log_uniform.lo' \(did you mean 'low'\?\)"),
        ("psf.kind", "gausian", r"unknown PSF 'gausian' \(did you mean 'gaussian'\?\)"),
        ("localizer.kind", "decoed", r"unknown localizer 'decoed' \(did you mean 'decode'\?\)"),
        ("training.patch_px", 18, "'training.patch_px'.*multiple of 4"),
        ("training.steps", 0, "'training.steps'.*greater than or equal to 1"),
        ("specimen.z_nm", [100, -100], "'specimen.z_nm'"),
        ("psf.width_nm", float("inf"), "finite"),
        ("specimen.density_per_um2", [1, 1e6], r"at most 1000 emitters per um\^2 and frame.*found 1e\+06"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(
    tiny_document: dict[str, Any], tmp_path: Path, path: str, value: Any, words: str
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(tomli_w.dumps(changed(tiny_document, path, value)), encoding="utf-8")
    with pytest.raises(DocumentError, match=words) as error:
        Experiment.from_file(file)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.toml", b"psf = [", "is not valid TOML"),
        ("a.json", b"{", "is not valid JSON"),
        ("a.json", b"[1, 2]", "holds list, expected keys and values"),
        ("a.txt", b"psf = [", "is not valid TOML"),
        ("a.toml", b"\xff\xfe\x00", "is not a text file"),
        ("a.toml", b"", "is missing"),
    ],
)
def test_a_file_that_is_no_document(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DocumentError, match=words) as error:
        Experiment.from_file(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("depth", [200, 450, 900, 100_000])
@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_a_document_that_is_nested_without_end(tmp_path: Path, suffix: str, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    (tmp_path / f"a{suffix}").write_text(f'{{"a": {nested}}}' if suffix == ".json" else f"a = {nested}")
    with pytest.raises(DocumentError) as error:
        Experiment.from_file(tmp_path / f"a{suffix}")
    assert "\n" not in str(error.value)


def test_a_document_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denseloc.documents.LONGEST_DOCUMENT", 1 << 20)
    with open(tmp_path / "a.toml", "wb") as file:
        file.truncate(1 << 32)
    for path in (tmp_path / "a.toml", Path("/dev/zero")):
        with pytest.raises(DocumentError, match="has more than 1 MiB, expected a document"):
            Experiment.from_file(path)


def test_a_file_whose_name_is_none(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**tiny_document, "psf": {"file": "a\0b"}}))
    with pytest.raises(CalibrationError, match="no such file"):
        Experiment.from_file(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["mask.mat", "mask.mat:wave"])
def test_a_mask_of_matlab_counts_from_the_documents_folder(
    tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mask = {"kind": "array", "values": name}
    pupil = {"kind": "pupil", "wavelength_nm": 600, "numerical_aperture": 1.2, "immersion_index": 1.33, "roi_px": 9, "mask": mask}
    (tmp_path / "here").mkdir()
    savemat(tmp_path / "here" / "mask.mat", {"wave": np.eye(8)})
    (tmp_path / "here" / "a.json").write_text(json.dumps({**tiny_document, "psf": pupil, "description": "with mask.mat"}))
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.from_file("here/a.json")
    np.testing.assert_array_equal(experiment.psf.mask.values, np.eye(8))
    assert experiment.description == "with mask.mat"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot read the document"):
        Experiment.from_file(tmp_path / "none.toml")
    with pytest.raises(DocumentError, match="cannot read the document"):
        Experiment.from_file(tmp_path)


def test_the_schema_knows_all_kinds() -> None:
    text = json.dumps(Experiment.document_schema())
    for word in ("astigmatic", "emccd", "filaments", "pixel_size_nm", "decode"):
        assert word in text


# ------------------------------------------------------------------------------------------------------------------------- build


def test_scales_follow_from_the_document(tiny_document: dict[str, Any]) -> None:
    scales = Experiment.from_json(tiny_document).build_localizer().scales
    assert scales.pixel_size_nm == (100.0, 100.0)
    assert scales.z_unit_nm == 0.0
    assert scales.planes == 1
    assert 1500 < scales.photon_unit < 2700  # the middle of 1000 to 4000 in the logarithm
    assert scales.reference.background == pytest.approx(10.0)
    assert scales.reference.noise_variance == pytest.approx(1.5**2 + 0.5**2 / 12)
    assert scales.reference.width_px == pytest.approx(1.3)


def test_depth_needs_a_thick_specimen_and_a_psf_that_tells_depths(tiny_document: dict[str, Any]) -> None:
    thick = changed(tiny_document, "specimen.z_nm", [-300.0, 500.0])
    assert not Experiment.from_json(thick).has_depth
    astigmatic = {"kind": "astigmatic", "width_nm": 130.0, "focus_a_nm": 200.0, "focus_b_nm": -200.0, "depth_nm": 350.0}
    assert Experiment.from_json(changed(thick, "psf", astigmatic)).build_localizer().scales.z_unit_nm == 500.0
    assert not Experiment.from_json(changed(tiny_document, "psf", astigmatic)).has_depth


def test_several_planes_reach_the_network(tiny_document: dict[str, Any]) -> None:
    biplane = {"kind": "multiplane", "width_nm": 130.0, "plane_focus_nm": [-250.0, 250.0], "depth_nm": 350.0, "roi_px": 9}
    experiment = Experiment.from_json(changed(changed(tiny_document, "psf", biplane), "specimen.z_nm", [-300.0, 300.0]))
    localizer = experiment.build_localizer()
    batch = experiment.build_simulator(localizer).draw(2, torch.Generator().manual_seed(0))
    assert batch.photons.shape == (2, 3, 2, 16, 16)
    assert localizer.posterior_of_windows(batch.photons, batch.conditions).logit.shape == (2, 16, 16)


def test_a_camera_with_maps_of_its_pixels(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    maps = np.stack([np.full((40, 30), 100.0), np.full((40, 30), 0.5), np.random.default_rng(0).uniform(2, 30, (40, 30))])
    np.save(tmp_path / "maps.npy", maps)
    document = changed(tiny_document, "camera", {"kind": "scmos", "pixel_maps": "maps.npy"})
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    experiment = Experiment.from_file(tmp_path / "tiny.toml")
    localizer = experiment.build_localizer()
    assert localizer.scales.reference.noise_variance == pytest.approx((16 + 1 / 12) * 0.25, rel=0.2)
    batch = experiment.build_simulator(localizer).draw(2, torch.Generator().manual_seed(0))
    assert batch.photons.shape == (2, 3, 1, 16, 16)
    again = Experiment.from_json(json.loads(json.dumps(experiment.to_json())))
    np.testing.assert_array_equal(again.camera.pixel_maps, maps.astype(np.float32))
    with pytest.raises(CameraError, match="is not inside the camera's maps of 40 x 30 px"):
        Experiment.from_json(changed(experiment.to_json(), "training.patch_px", 32)).build_localizer()


def test_the_seed_decides_the_first_weights_and_nothing_else_does(tiny_document: dict[str, Any]) -> None:
    experiment = Experiment.from_json(tiny_document)
    other = Experiment.from_json(changed(tiny_document, "training.seed", 4))
    before = torch.get_rng_state()
    first = experiment.build_localizer().state_dict()
    torch.testing.assert_close(torch.get_rng_state(), before)
    torch.rand(7)
    second, third = experiment.build_localizer().state_dict(), other.build_localizer().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_seeds_are_those_that_generators_take(tiny_document: dict[str, Any]) -> None:
    for seed in (-(1 << 62), 1 << 62):
        Experiment.from_json(changed(tiny_document, "training.seed", seed))
    for seed in (1 << 63, -(10**30)):
        with pytest.raises(DocumentError, match=r"training.seed.*a seed lies within -2\^62 .. 2\^62"):
            Experiment.from_json(changed(tiny_document, "training.seed", seed))
