"""The examples of docs/adding.md, run as they stand there, meet the contracts of their rooms."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile
import torch

from denseloc import formats
from denseloc.camera import CAMERAS
from denseloc.data import Frames
from denseloc.description import parse
from denseloc.errors import CalibrationError, MovieError
from denseloc.formats import psf_files
from denseloc.localize import LOCALIZERS, InputConditions, Scales
from denseloc.optics import PSFS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding.md"
EXAMPLE = re.compile(r"```python\n# (src/\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Load a file of the page as if it stood in the package."""
    texts = dict(EXAMPLE.findall(PAGE.read_text(encoding="utf-8")))

    def load(path: str) -> ModuleType:
        assert not (PAGE.parents[1] / path).exists(), f"{path} is in the package by now; give the page another example"
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(texts[path], encoding="utf-8")
        is_room = file.name == "__init__.py"
        name = ".".join((file.parent if is_room else file.with_suffix("")).relative_to(tmp_path / "src").parts)
        where = [str(file.parent)] if is_room else None
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def shelf(monkeypatch):
    """Put a section on a shelf for the time of a test."""

    def put(shelf, section):
        monkeypatch.setattr(shelf, "sections", dict(shelf.sections))
        shelf.add(section)
        return shelf

    return put


def test_a_psf(example, shelf):
    shelf(PSFS, example("src/denseloc/optics/logistic.py").LogisticSettings)
    settings = parse(PSFS.get("logistic"), {"kind": "logistic", "width_nm": 130, "roi_px": 31}, "example")
    psf = settings.build((100.0, 120.0)).double()
    offset = torch.tensor([[0.0, 0.0], [0.3, -0.4]], dtype=torch.float64, requires_grad=True)
    patches = psf(offset, torch.zeros(2, dtype=torch.float64))
    assert patches.shape == (2, 1, 31, 31)
    torch.testing.assert_close(patches.sum((1, 2, 3)), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    places = torch.arange(-15, 16, dtype=torch.float64)
    assert (patches[1, 0].sum(0) * places).sum().item() == pytest.approx(0.3, abs=2e-4)
    assert (patches[1, 0].sum(1) * places).sum().item() == pytest.approx(-0.4, abs=2e-4)
    variance_nm2 = ((patches[0, 0].sum(1) * places**2).sum().item() - 1 / 12) * 100**2
    assert variance_nm2**0.5 == pytest.approx(130, rel=1e-3)
    assert torch.autograd.gradcheck(lambda o: psf(o, torch.zeros(2, dtype=torch.float64))[:, :, 13:18, 13:18], (offset,))
    patches[0, 0, 15, 15].backward()
    assert psf.width_nm.grad.item() < 0  # a wider PSF has a lower middle
    assert psf.described() == settings


def test_a_camera(example, shelf, generator):
    shelf(CAMERAS, example("src/denseloc/camera/spad.py").SPADSettings)
    camera = parse(CAMERAS.get("spad"), {"kind": "spad", "dark_counts": 0.5, "quantum_efficiency": 0.6}, "example").build()
    photons = torch.full((200_000,), 12.0)
    counts = camera.sample(photons, generator)
    found = camera.to_photons(counts)
    assert found.mean().item() == pytest.approx(12.0, abs=0.05)
    assert found.var().item() == pytest.approx(camera.excess * 12.0 + float(camera.noise_variance(())), rel=0.02)
    likelihood = [camera.log_prob(counts, torch.full_like(counts, p)).mean().item() for p in (9.0, 12.0, 16.0)]
    assert max(likelihood) == likelihood[1]
    mean = torch.tensor(12.0 * 0.6 + 0.5)
    expected = torch.distributions.Poisson(mean).log_prob(torch.arange(20.0))
    torch.testing.assert_close(camera.log_prob(torch.arange(20.0), torch.full((20,), 12.0)), expected, atol=1e-4, rtol=1e-4)


def test_a_localizer(example, shelf):
    shelf(LOCALIZERS, example("src/denseloc/localize/centroid.py").CentroidSettings)
    scales = Scales((100.0, 100.0), 0.0, 1000.0, 1, InputConditions(10.0))
    localizer = parse(LOCALIZERS.get("centroid"), {"kind": "centroid"}, "example").build(scales)
    psf = PSFS.get("gaussian")(width_nm=100, roi_px=5).build((100.0, 100.0))
    photons = torch.full((3, 1, 20, 24), 10.0)
    with torch.no_grad():
        photons[1, :, 4:9, 10:15] += 2000 * psf(torch.tensor([[0.2, -0.1]]), torch.zeros(1))[0]
    frames = Frames(photons, (100.0, 100.0), first_frame=7, origin_px=(30, 50))
    found = localizer(frames)
    assert found.frame.tolist() == [8]
    assert found.x_nm[0] == pytest.approx((50 + 12 + 0.5 + 0.2) * 100, abs=4)
    assert found.y_nm[0] == pytest.approx((30 + 6 + 0.5 - 0.1) * 100, abs=4)
    assert found.photons[0] == pytest.approx(2000, rel=0.05)
    assert len(localizer(frames, keep=(9, 10))) == 0


def test_a_format(example, monkeypatch, tmp_path):
    spe = example("src/denseloc/formats/spe.py").Spe()
    monkeypatch.setattr(formats, "MOVIE_FORMATS", (*formats.MOVIE_FORMATS, spe))
    counts = np.arange(4 * 5 * 7, dtype="<u2").reshape(4, 5, 7)
    header = bytearray(4100)
    for at, value, size in ((42, 7, 2), (108, 3, 2), (656, 5, 2), (1446, 4, 4)):
        header[at : at + size] = value.to_bytes(size, "little")
    path = tmp_path / "movie.spe"
    path.write_bytes(bytes(header) + counts.tobytes())
    movie = formats.open_movie(path)
    assert (movie.n_frames, movie.field_px) == (4, (5, 7))
    np.testing.assert_array_equal(movie.crop(roi_px=(1, 2, 3, 4)).read(1, 3)[:, 0], counts[1:3, 1:4, 2:6])
    path.write_bytes((bytes(header) + counts.tobytes())[:-80])
    with pytest.raises(MovieError, match="truncated, 2 of 4 frames are whole"):
        formats.open_movie(path)
    path.write_bytes(b"some text")
    with pytest.raises(MovieError, match="9 bytes, expected a header of 4100"):
        formats.open_movie(path)


def test_a_psf_file_format(example, monkeypatch, tmp_path):
    stack_format = example("src/denseloc/formats/psf_files/image_stack.py").ImageStack()
    monkeypatch.setattr(psf_files, "PSF_FORMATS", (*psf_files.PSF_FORMATS, stack_format))
    known = PSFS.get("astigmatic")(width_nm=130, focus_a_nm=200, focus_b_nm=-200, depth_nm=400, roi_px=15).build((110.0, 100.0))
    z = torch.arange(-400.0, 401.0, 50.0)
    with torch.no_grad():
        images = 5000 * known(torch.zeros(len(z), 2), z)[:, 0].numpy()
    path = tmp_path / "psf.tif"
    tifffile.imwrite(path, images, imagej=True, metadata={"axes": "ZYX", "spacing": 0.05, "unit": "um"})
    section, record = psf_files.read_psf(path, pixel_size_nm=(110, 100))
    assert record["z_range_nm"] == pytest.approx([-400, 400])
    at, depth = torch.tensor([[0.3, -0.2]]), torch.tensor([130.0])
    with torch.no_grad():
        wanted, found = known(at, depth)[0, 0], section.build((110.0, 100.0))(at, depth)[0, 0]
    margin = (15 - section.roi_px) // 2
    wanted = wanted[margin : 15 - margin, margin : 15 - margin]
    assert (found - wanted).abs().max() < 0.01 * wanted.max()
    with pytest.raises(CalibrationError, match="the pixel size is not known"):
        psf_files.read_psf(path)
    tifffile.imwrite(path, images[0])
    with pytest.raises(CalibrationError, match="holds an image of 15 x 15 pixels, expected a stack of images of a PSF by ImageJ"):
        psf_files.read_psf(path, pixel_size_nm=100)
    path.write_bytes(b"some text")
    with pytest.raises(CalibrationError, match="not a readable TIFF"):
        psf_files.read_psf(path, pixel_size_nm=100)


CONTRACTS = {
    "test_psfs.py": ("optics", "PSFS", "logistic", "LogisticSettings"),
    "test_cameras.py": ("camera", "CAMERAS", "spad", "SPADSettings"),
    "test_localizers.py": ("localize", "LOCALIZERS", "centroid", "CentroidSettings"),
}

PLUGIN = """
import importlib, importlib.util, pathlib, sys
for room, shelf, kind, section in {contracts!r}:
    name = f"denseloc.{{room}}.{{kind}}"
    package = importlib.import_module(f"denseloc.{{room}}")
    spec = importlib.util.spec_from_file_location(name, pathlib.Path({root!r}, "src", "denseloc", room, kind + ".py"))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(package, shelf).add(getattr(module, section))
"""


def test_one_file_and_one_line_meet_the_contract_tests(example, tmp_path):
    for room, _, kind, _ in CONTRACTS.values():
        example(f"src/denseloc/{room}/{kind}.py")  # writes it
    (tmp_path / "new_kinds.py").write_text(PLUGIN.format(contracts=list(CONTRACTS.values()), root=str(tmp_path)))
    tests = [str(PAGE.parents[1] / "tests" / "contracts" / name) for name in CONTRACTS]
    kinds = " or ".join(kind for _, _, kind, _ in CONTRACTS.values())
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "new_kinds", "-p", "no:cacheprovider", "-vv", "-k", kinds, *tests],
        cwd=PAGE.parents[1],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    for name in CONTRACTS:
        assert ran.stdout.count(f"contracts/{name}") > 8, f"{name} did not take the new kind from the shelf"
    assert "FAILED" not in ran.stdout


@pytest.mark.parametrize("shape", [(3, 9, 13), (1, 1, 5), (2, 4, 1)])
def test_a_kernel(example, shape):
    kernel = example("src/denseloc/kernels/peaks/__init__.py")
    naive = example("src/denseloc/kernels/peaks/naive.py")
    example("src/denseloc/kernels/peaks/numba_cpu.py")
    images = np.random.default_rng(3).integers(0, 6, shape).astype(np.float64)  # integers, so that ties occur
    marked = kernel.peaks(images, 2.5)
    np.testing.assert_array_equal(marked, naive.peaks(images, 2.5))
    assert not marked[images <= 2.5].any()
    if shape == (3, 9, 13):
        assert 0 < marked.sum() < images.size / 2


def test_every_example_of_the_page_is_loaded_by_a_test():
    here = Path(__file__).read_text(encoding="utf-8")
    paths = [path for path, _ in EXAMPLE.findall(PAGE.read_text(encoding="utf-8"))]
    assert len(paths) == 8
    assert all(f'example("{path}")' in here for path in paths)
