"""compress: a denser movie on disk, with its camera, pixel size and truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from denseloc.calibrate.conditions import Conditions, Estimate
from denseloc.camera import SCMOS, EMCCDSettings, IdealSettings, SCMOSSettings
from denseloc.cli import main
from denseloc.data import Localizations, Movie, Provenance, movie_from_array
from denseloc.errors import CalibrationError, OutputError
from denseloc.formats import open_movie, read_table, write_table
from denseloc.preparation import read_camera
from denseloc.verbs import compress, compression, movie_writing
from denseloc.verbs.compression import camera_of_sums

TAGS = "Andor-Gain = 200\nAndor-Exposure = 20\nCamera = ixon"


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    counts = np.random.default_rng(0).poisson(130, (70, 12, 14)).astype(np.uint16)
    metadata = {"axes": "TYX", "unit": "um", "Info": TAGS}
    tifffile.imwrite(tmp_path / "m.tif", counts, imagej=True, resolution=(1 / 0.1, 1 / 0.12), metadata=metadata)
    return tmp_path / "m.tif"


def test_a_denser_movie(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dense.tif"
    assert main(["compress", str(movie), "-o", str(out), "--factor", "3", "--apart", "10", "--offset", "100"]) == 0
    said = capsys.readouterr().out
    assert "60" not in said.splitlines()[0]
    assert "20 frames, sums of 3, 10 frames at the end left out" in said
    assert "offset   100 counts (given), in each sum once; read noise is 1.73 times that of one frame" in said
    old, new = open_movie(movie), open_movie(out)
    counts = old.read(0, 70).astype(int)
    read = new.read(0, 20)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[3], counts[3] + counts[13] + counts[23] - 200)
    np.testing.assert_array_equal(read[17], counts[37] + counts[47] + counts[57] - 200)
    assert new.pixel_size_nm == pytest.approx((120.0, 100.0))
    assert new.tags["Andor-Gain"] == "200"
    assert new.tags["Camera"] == "ixon"
    assert new.tags["offset"] == "100"
    assert "Andor-Exposure" not in new.tags
    assert "Frames summed" in new.tags


def test_the_camera_holds_for_the_sums(tmp_path: Path) -> None:
    """Photons of sums, by the written camera, have the mean and the noise that it says."""
    camera = SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=4, quantum_efficiency=0.8).build()
    generator = torch.Generator().manual_seed(0)
    counts = camera.sample(torch.full((400, 20, 20), 5.0), generator).numpy().astype(np.uint16)
    made = compress(movie_from_array(counts), tmp_path / "d.tif", factor=8, apart=5, camera=camera)
    assert made.camera == tmp_path / "d.camera.json"
    assert made.offset_counts.value == 100
    after = read_camera(str(made.camera))
    photons = after.to_photons(torch.from_numpy(open_movie(made.movie).read(0, 50).astype(np.float32)))
    assert photons.mean().item() == pytest.approx(40, abs=0.2)
    expected = 40 * after.excess + after.noise_variance((1, 1)).item()
    assert photons.var().item() == pytest.approx(expected, rel=0.05)
    assert expected > 40 * camera.excess + 4 * camera.noise_variance((1, 1)).item()


def test_cameras_of_sums() -> None:
    em = EMCCDSettings(offset_counts=100, electrons_per_count=20, em_gain=200, read_noise_electrons=60, spurious_electrons=0.01)
    found = camera_of_sums(em.build(), 4)
    assert found is not None
    assert (found.read_noise_electrons, found.spurious_electrons, found.offset_counts) == (120, 0.04, 100)  # type: ignore[attr-defined]
    maps = np.stack([np.full((3, 4), 100.0), np.full((3, 4), 0.5), np.arange(12.0).reshape(3, 4)]).astype(np.float32)
    by_pixel = camera_of_sums(SCMOSSettings(pixel_maps=maps).build(), 4)
    assert by_pixel is not None
    built = by_pixel.build()
    assert isinstance(built, SCMOS)
    np.testing.assert_array_equal(built.variance, 4 * maps[2])
    assert camera_of_sums(IdealSettings().build(), 4) is None


def test_maps_of_the_offset(tmp_path: Path) -> None:
    offset = np.arange(80, 80 + 12 * 14).reshape(12, 14).astype(np.float32)
    counts = np.broadcast_to(offset, (40, 12, 14)).astype(np.uint16)
    maps = np.stack([offset, np.ones_like(offset), np.ones_like(offset)])
    given: dict[str, Any] = {"factor": 4, "apart": 10, "camera": SCMOSSettings(pixel_maps=maps).build(), "roi_px": (2, 3, 8, 9)}
    made = compress(movie_from_array(counts), tmp_path / "d.tif", **given)
    np.testing.assert_array_equal(open_movie(made.movie).read(0, 1)[0, 0], offset[2:10, 3:12])
    assert made.camera is not None
    assert read_camera(str(made.camera)).to_photons(torch.zeros(8, 9)).shape == (8, 9)


def test_sums_beyond_16_bits_are_wider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = np.full((20, 8, 8), 100, np.uint16)
    counts[:, 4, 4] = 60000
    tifffile.imwrite(tmp_path / "m.tif", counts)
    out = tmp_path / "d.tif"
    assert main(["compress", str(tmp_path / "m.tif"), "-o", str(out), "--factor", "5", "--apart", "4", "--offset", "100"]) == 0
    assert "the sums do not fit into 16 bits, so that it holds 32-bit floats" in capsys.readouterr().out
    read = open_movie(out).read(0, 4)
    assert read.dtype == np.float32
    assert read[0, 0, 4, 4] == 5 * 60000 - 400
    assert read[0, 0, 0, 0] == 100
    below = compress(movie_from_array(counts[:, :4]), out, factor=5, apart=4, offset_counts=130)
    assert below.is_wide
    assert open_movie(out).read(0, 1)[0, 0, 0, 0] == -20


def test_the_offset_is_measured_where_none_is_given(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = compression.estimate_conditions

    def measured(given: Movie, **more: Any) -> Conditions:
        assert more["pixel_size_nm"] == pytest.approx((120.0, 100.0))
        return replace(original(given, offset_counts=100, **more), offset_counts=Estimate(99.6, 98, 101, "counts", "measured"))

    monkeypatch.setattr(compression, "estimate_conditions", measured)
    assert main(["compress", str(movie), "-o", str(tmp_path / "d.tif"), "--factor", "3", "--apart", "10"]) == 0
    assert "offset   99.6 counts (measured, 98 to 101)" in capsys.readouterr().out
    counts = open_movie(movie).read(0, 70).astype(int)
    found = open_movie(tmp_path / "d.tif")
    np.testing.assert_array_equal(found.read(3, 4)[0], counts[3] + counts[13] + counts[23] - 199)
    assert "offset" not in found.tags  # what was measured is no word of the file's


def test_an_offset_that_cannot_be_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", np.full((20, 12, 12), 100, np.uint16))
    asked = ["compress", str(tmp_path / "flat.tif"), "-o", str(tmp_path / "d.tif"), "--factor", "2", "--apart", "5"]
    assert main(asked) == 0
    assert "warning: this movie does not show its camera's offset" in capsys.readouterr().out

    def fails(*_: object, **__: object) -> Conditions:
        raise CalibrationError("nothing to see")

    monkeypatch.setattr(compression, "estimate_conditions", fails)
    assert main(asked) == 2
    assert "give the camera's offset: --offset COUNTS" in capsys.readouterr().err


def test_blocks_planes_and_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).integers(0, 900, (30, 2, 9, 8)).astype(np.uint16)
    monkeypatch.setattr(compression, "BLOCK_PX", 2 * 9 * 8 * 4)
    seen: list[tuple[int, int]] = []
    given: dict[str, Any] = {"factor": 3, "apart": 5, "offset_counts": 0, "pixel_size_nm": 130.0}
    made = compress(movie_from_array(counts), tmp_path / "a.tif", **given, progress=lambda *at: seen.append(at))
    assert seen == [(4, 20), (8, 20), (10, 20), (14, 20), (18, 20), (20, 20)]
    monkeypatch.setattr(movie_writing, "LARGEST_IMAGEJ", 100)
    large = compress(movie_from_array(counts), tmp_path / "b.tif", **given)
    for one in (made, large):
        new = open_movie(one.movie)
        new = new if new.n_planes == 2 else new.with_planes(2)
        np.testing.assert_array_equal(new.read(7, 8)[0], counts[[17, 22, 27]].sum(0))
        assert new.pixel_size_nm == pytest.approx((130.0, 130.0))


def test_the_truth_follows(movie: Path, tmp_path: Path) -> None:
    columns = {"frame": np.array([0, 10, 20, 69]), "x_nm": np.array([650.0, 750, 150, 650]), "y_nm": np.full(4, 850.0)}
    write_table(tmp_path / "t.parquet", Localizations(columns, Provenance((120.0, 100.0), (12, 14), 70, "m.tif")))
    given = ["--factor", "3", "--apart", "10", "--offset", "0", "--truth", str(tmp_path / "t.parquet"), "--roi", "2,4,8,8"]
    assert main(["compress", str(movie), "-o", str(tmp_path / "d.tif"), *given]) == 0
    truth = read_table(tmp_path / "d.truth.parquet")
    assert truth.frame.tolist() == [0, 0]  # the third lies outside of the region, the fourth behind the last sum
    assert truth.x_nm.tolist() == [250.0, 350.0]
    assert truth.y_nm.tolist() == [610.0, 610.0]
    assert (truth.provenance.n_frames, truth.provenance.shape_px) == (20, (8, 8))


@pytest.mark.parametrize(("more", "words"), [
    (["--factor", "1"], "factor 1; expected 2 or more"),
    (["--factor", "6"], "m.tif has 70 frames; sums of 6 that are 300 apart need 1800: take them at most 11 apart"),
    (["--factor", "80", "--apart", "1"], "a smaller factor"),
    (["--factor", "2", "--apart", "0"], "frames 0 apart; expected 1 or more"),
    (["--factor", "2", "--apart", "5", "--offset", "nan"], "expected a number"),
    (["--factor", "2", "--apart", "5", "--offset", "1", "--camera", "offset=1,electrons_per_count=1"], "given twice"),
    (["--factor", "2", "--apart", "5", "--pixel-size-nm", "0.1"], "expected 5 to 2000 nm"),
    (["--factor", "2", "--apart", "5", "--offset", "1", "--truth", "none.parquet"], "none.parquet"),
    (["--factor", "2", "--apart", "5", "--planes", "3"], "cannot be taken as frames of 3 planes"),
])  # fmt: skip
def test_bad_input_in_one_line(
    movie: Path, tmp_path: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compress", str(movie), "-o", str(tmp_path / "d.tif"), *more]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert 1 <= len(said.splitlines()) <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["m.tif"]


def test_names_that_cannot_be_written(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = movie.read_bytes()
    for name, words in (("m.tif", "the movie itself"), ("d.png", "ends in .tif"), ("no/d.tif", "does not exist")):
        assert main(["compress", str(movie), "-o", str(tmp_path / name), "--factor", "2", "--apart", "5", "--offset", "1"]) == 2
        assert words in capsys.readouterr().err
    assert movie.read_bytes() == before


@pytest.mark.parametrize("step", ["replacing", "write_table", "write_tiff"])
def test_a_step_that_fails_leaves_what_was_there(step: str, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Movie, camera and truth get their names when all three are whole; what an earlier run has left stays until then."""
    write_table(
        tmp_path / "t.parquet", Localizations({"frame": np.array([0]), "x_nm": np.array([650.0]), "y_nm": np.array([850.0])})
    )
    camera = SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=4).build()
    given: dict[str, Any] = {"factor": 3, "apart": 10, "camera": camera, "truth": tmp_path / "t.parquet"}
    original, asked = getattr(compression, step), []

    def fails_at_the_end(path: Path, *more: Any) -> Any:
        asked.append(path.name)
        if step == "replacing" and path.name == "d.tif":
            return original(path)
        if step == "write_tiff":
            original(path, *more)  # it is the naming that must wait
        raise OutputError("the disk is full")

    def after_failure() -> dict[str, bytes]:
        with monkeypatch.context() as patch:
            patch.setattr(compression, step, fails_at_the_end)
            with pytest.raises(OutputError, match="the disk is full"):
                compress(movie, tmp_path / "d.tif", **given)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert set(after_failure()) == {"m.tif", "t.parquet"}
    assert asked
    compress(movie, tmp_path / "d.tif", **given)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"m.tif", "t.parquet", "d.tif", "d.camera.json", "d.truth.parquet"}
    given["apart"] = 12
    assert after_failure() == before


def test_a_name_beside_that_is_taken_is_told_before_the_work(movie: Path, tmp_path: Path) -> None:
    camera = SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=4).build()
    (tmp_path / "d.camera.json").mkdir()
    done: list[int] = []
    with pytest.raises(OutputError, match=r"d\.camera\.json: this is a folder"):
        compress(movie, tmp_path / "d.tif", factor=3, apart=10, camera=camera, progress=lambda at, n: done.append(at))
    assert not done
