"""Stacks of beads become a PSF file with a report, which documents and localizers take; what is no such stack is refused."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bead_stacks import CAMERA_WORDS, bead_counts
from denseloc.calibrate.psf_fit import fit_psf
from denseloc.experiment import Experiment
from denseloc.formats import read_table
from denseloc.formats.psf_files import read_psf
from denseloc.optics import GaussianSettings, MultiplaneSettings
from denseloc.verbs import calibration

from .conftest import DOCUMENT

Z_NM = np.linspace(-490, 490, 15)
PLACES = ((1240.0, 1330.0), (3480.0, 1490.0), (2310.0, 3390.0), (4710.0, 2440.0))
"""The last bead lies at the edge."""
STEPS = 12
OPTICS = ("--kind", "pupil", "--wavelength-nm", 670, "--na", 1.4)


def save(path: Path, counts: np.ndarray) -> Path:
    tifffile.imwrite(path, np.clip(np.round(counts), 0, 65535).astype(np.uint16), photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return bead_counts(z_nm=Z_NM, places=PLACES, background=15.0)


@pytest.fixture(scope="module")
def beads(counts, tmp_path_factory) -> Path:
    """A stack of three lone beads and one at the edge."""
    return save(tmp_path_factory.mktemp("beads") / "beads.tif", counts)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(calibration, "fit_psf", partial(fit_psf, steps=STEPS))


@pytest.fixture
def calibrate(command, tmp_path):
    """Calibrate with the usual options; later ones replace them."""

    def run(*stacks, out="psf.h5", camera=CAMERA_WORDS, pixel=100, step=70, roi=11, more=("--no-report",)):
        known = (("--camera", camera), ("--pixel-size-nm", pixel), ("--z-step-nm", step), ("--roi-px", roi))
        given = [word for pair in known if pair[1] is not None for word in pair]
        return command("calibrate", *stacks, "-o", tmp_path / out, *given, *more)

    return run


@pytest.fixture(scope="module")
def made(beads, tmp_path_factory) -> Path:
    """A PSF file of the stack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "fit_psf", partial(fit_psf, steps=STEPS))
        out = tmp_path_factory.mktemp("made") / "psf.h5"
        from denseloc.preparation import read_camera

        calibration.calibrate(
            beads, out, z_step_nm=70, camera=read_camera(CAMERA_WORDS), pixel_size_nm=100, roi_px=11, report=False
        )
    return out


def document_with(psf: Path, place: Path) -> Path:
    start, end = DOCUMENT.index("[psf]"), DOCUMENT.index("[camera]")
    text = f'{DOCUMENT[:start]}[psf]\nfile = "{psf}"\n\n{DOCUMENT[end:]}'
    place.write_text(text.replace("z_nm = [0, 0]", "z_nm = [-300, 300]"))
    return place


# ------------------------------------------------------------------------------------------------------------------------- it works


def test_calibrate_leaves_psf_and_report_and_says_what_they_are_worth(calibrate, beads, tmp_path):
    answer = calibrate(beads, more=())
    assert (answer.code, answer.err) == (0, ""), answer
    assert {path.name for path in tmp_path.iterdir()} == {"psf.h5", "psf.report.html"}
    said = " ".join(answer.out.split())
    assert "psf.h5 spline, 11 px wide" in said
    assert re.search(r"beads 3 of 4 used, (29|30|31) \d{3} photons each", said)
    assert re.search(r"chi2 [01]\.\d\d per pixel", said)
    assert re.search(r"usable from -\d+ to \d+ nm; z is [\d.]+ nm off there, the bound is [\d.]+ nm", said)
    assert "judged on the beads that it was fitted to (--held-out judges on others)" in said
    assert "note: bead left out: row 24, column 47: too near to the edge" in said
    assert "note: z = 0 is where the beads are most compact" in said
    found = read_psf(tmp_path / "psf.h5")
    record = found.record
    assert (found.section.kind, found.section.roi_px) == ("spline", 11)
    assert record["pixel_size_nm"] == [100, 100]
    assert record["beads"] == 3
    assert record["rejected"] == [{"stack": "beads.tif", "row": 24, "column": 47, "reason": "too near to the edge"}]
    low, high = record["z_range_nm"]
    assert low <= -300 < 300 <= high
    assert len(record["z_error_nm"]) == 15
    assert [word for word in record["warnings"] if "--roi-px" not in word] == []


def test_what_is_not_wanted_is_left_out(calibrate, beads, tmp_path):
    answer = calibrate(beads, more=("--no-report", "-q", "--kind", "astigmatic"))
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["psf.h5"]


def test_a_camera_that_is_not_given_is_measured(calibrate, beads):
    answer = calibrate(beads, camera=None, more=("--kind", "astigmatic", "--no-report"))
    assert answer.code == 0, answer
    said = " ".join(answer.out.split())
    found = re.search(r"camera measured from the stack: offset (\d+) counts, ([\d.]+) counts per photon \(", said)
    assert found
    assert int(found[1]) == pytest.approx(100, abs=10)
    assert float(found[2]) == pytest.approx(2, rel=0.1)


def test_held_out_planes_judge(calibrate, beads):
    answer = calibrate(beads, more=("--held-out", "--kind", "astigmatic", "--no-report"))
    assert answer.code == 0, answer
    assert "fitted to the first, third, fifth ... plane and judged on the others" in answer.out


def test_several_stacks_and_falling_depths(calibrate, counts, tmp_path):
    one, two = save(tmp_path / "a.tif", counts[::-1]), save(tmp_path / "b.tif", counts[1:-1][::-1])
    answer = calibrate(one, two, step=-70, more=("--kind", "astigmatic", "--no-report"))
    assert answer.code == 0, answer
    assert "beads 6 of 8 used" in " ".join(answer.out.split())
    assert "a.tif, row 24, column 47" in answer.out
    assert "the depth falls from frame to frame" in answer.out
    section = read_psf(tmp_path / "psf.h5").section
    assert section.focus_a_nm < section.focus_b_nm  # as if the depths had risen


def test_the_depth_of_the_first_frame(calibrate, beads, tmp_path):
    assert calibrate(beads, more=("--kind", "astigmatic", "--z-first-nm", -190, "--no-report")).code == 0
    section = read_psf(tmp_path / "psf.h5").section
    assert section.focus_a_nm == pytest.approx(-220 + 300, abs=30)
    assert section.focus_b_nm == pytest.approx(240 + 300, abs=30)


def test_planes_that_follow_one_another(calibrate, tmp_path):
    truth = MultiplaneSettings(width_nm=140, plane_focus_nm=(-250, 250), depth_nm=400, transmission=(0.5, 0.5), roi_px=21)
    pictures = bead_counts(truth, z_nm=Z_NM, places=PLACES[:3])
    stack = save(tmp_path / "biplane.tif", pictures.reshape(-1, 48, 48))
    answer = calibrate(stack, roi=11, more=("--planes", 2, "--kind", "multiplane", "--no-report"))
    assert answer.code == 0, answer
    foci = read_psf(tmp_path / "psf.h5").section.plane_focus_nm
    assert foci[1] - foci[0] == pytest.approx(500, abs=40)


@pytest.mark.parametrize("suffix", [".json", ".toml", ".mat", ".yaml"])
def test_other_files_keep_what_they_can(calibrate, beads, tmp_path, suffix):
    answer = calibrate(beads, out=f"psf{suffix}", more=("--no-report", "--kind", "astigmatic" if suffix == ".yaml" else "spline"))
    assert answer.code == 0, answer
    assert {path.name for path in tmp_path.iterdir()} == {f"psf{suffix}"}
    if suffix in (".json", ".toml"):
        loads(tmp_path / f"psf{suffix}", tmp_path / "e.toml")
    found = read_psf(tmp_path / f"psf{suffix}", pixel_size_nm=100)
    assert found.section.kind == ("astigmatic" if suffix == ".yaml" else "spline")
    if suffix == ".yaml":
        low, high = found.record["z_range_nm"]
        assert low == -high
        assert high >= 200
        assert found.section.focus_b_nm - found.section.focus_a_nm == pytest.approx(460, abs=40)
    else:
        import torch

        at, z = torch.zeros(3, 2), torch.tensor([-220.0, 0.0, 240.0])
        images = found.section.build((100.0, 100.0))(at, z)[:, 0, 3:-3, 3:-3].detach()
        half = (images.shape[-1] - 1) // 2
        spread = [images[:, half].std(1), images[:, :, half].std(1)]
        assert (spread[0][0] - spread[1][0]) * (spread[0][2] - spread[1][2]) < 0  # the elongation turns


def loads(psf: Path, place: Path) -> None:
    """Check that a document takes a PSF file and keeps it on its way."""
    document = Experiment.from_file(document_with(psf, place))
    assert (document.psf.kind, document.psf.roi_px) == ("spline", 11)
    text = json.dumps(document.to_json())
    assert json.dumps(Experiment.from_json(json.loads(text)).to_json()) == text  # it travels whole


def test_a_document_takes_the_psf(made, tmp_path):
    loads(made, tmp_path / "e.toml")


def test_localize_with_the_psf_finds_the_molecules(made, command, tmp_path):
    movie, rng = tmp_path / "movie.tif", np.random.default_rng(3)
    frames, true = [], []
    for number in range(12):
        places = [(x + rng.uniform(-300, 300), y + rng.uniform(-300, 300)) for x, y in ((1200, 1200), (3500, 1400), (2400, 3500))]
        z = float(rng.uniform(-250, 250))
        frames.append(bead_counts(z_nm=np.array([z]), places=places, photons=8000.0, seed=number)[0])
        true += [(number, x, y, z) for x, y in places]
    save(movie, np.stack(frames))
    out = tmp_path / "t.parquet"
    given = ("--camera", CAMERA_WORDS, "--pixel-size-nm", 100, "--no-picture", "--no-report")
    answer = command("localize", movie, "--method", "single", "--psf", made, "-o", out, *given)
    assert answer.code == 0, answer
    table, truth = read_table(out), np.array(true)
    assert ((table.x_nm >= 0) & (table.x_nm <= 4800) & (table.y_nm >= 0) & (table.y_nm <= 4800)).all()
    without = command("localize", movie, "--method", "single", "--psf", made, "-o", tmp_path / "u.parquet", *given[:2], *given[4:])
    assert without.code == 0, without.err  # the PSF knows the pixel size where the movie does not
    assert (read_table(tmp_path / "u.parquet").x_nm == table.x_nm).all()
    assert len(truth) - 3 <= len(table) <= len(truth) + 3
    offset = read_psf(made).record["wobble_nm"]
    assert len(offset) == 15
    errors = []
    for frame, x, y, z in true:
        here = table.select(table.frame == frame)
        apart = np.hypot(here.x_nm - x, here.y_nm - y)
        if len(apart) and apart.min() < 100:
            nearest = int(apart.argmin())
            errors.append((here.x_nm[nearest] - x, here.y_nm[nearest] - y, here.z_nm[nearest] - z))
    assert len(errors) >= len(true) - 3
    assert np.median(np.abs(np.array(errors)[:, :2])) < 15
    z_errors = np.array(errors)[:, 2]
    assert abs(np.median(z_errors)) < 60  # z = 0 is the plane of the stack in which the beads were most compact
    assert np.median(np.abs(z_errors - np.median(z_errors))) < 30


# ------------------------------------------------------------------------------------------------------------------------- refused


@pytest.fixture
def refused(calibrate, tmp_path):
    """Check that a calibration is refused in one line (two where the options do not fit together), and that nothing was written."""

    def run(*stacks, words, **how):
        before = sorted(tmp_path.rglob("*"))
        answer = calibrate(*stacks, **how)
        assert answer.code == 2, answer
        first, *rest = answer.err.splitlines()
        assert rest in ([], ["see: denseloc calibrate --help"])
        assert first.startswith("denseloc: ")
        assert "Traceback" not in answer.err + answer.out
        for word in words:
            assert word in answer.err, answer.err
        assert sorted(tmp_path.rglob("*")) == before

    return run


def stack_of(tmp_path: Path, *places: tuple[float, float], **how: object) -> Path:
    return save(tmp_path / "stack.tif", bead_counts(z_nm=Z_NM, places=places, **how))


def test_a_stack_without_beads(refused, tmp_path):
    stack = save(tmp_path / "stack.tif", bead_counts(z_nm=Z_NM, photons=0.0))
    refused(stack, words=("stack.tif: no bead found",))


def test_touching_beads(refused, tmp_path):
    refused(stack_of(tmp_path, (1840, 2330), (2730, 2330)), words=("2 found, 2 too near to another", "--roi-px"))
    refused(stack_of(tmp_path, (2040, 2330), (2540, 2330)), words=("1 found, 1 two side by side",))


def test_a_bead_at_the_edge(refused, tmp_path):
    refused(stack_of(tmp_path, (340, 2330)), words=("no usable bead: 1 found, 1 too near to the edge", "6 px from the edge"))


@pytest.mark.parametrize("step", [0, "nan", "inf", "-nan"])
def test_no_z_step(refused, beads, step):
    refused(beads, step=step, words=("z step", "expected the distance of two planes"))


@pytest.mark.parametrize("step", [0.05, 50_000, -0.05])
def test_a_z_step_in_another_unit(refused, beads, step):
    refused(beads, step=step, words=("15 planes with a z step of", "give --z-step-nm in nm"))


def test_a_z_step_that_is_missing(command, beads, tmp_path):
    answer = command("calibrate", beads, "-o", tmp_path / "psf.h5")
    assert answer.code == 2
    assert "--z-step-nm" in answer.err


def test_a_movie_in_place_of_a_stack(refused, tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        bead_counts(
            GaussianSettings(width_nm=130, roi_px=15),
            z_nm=np.zeros(1),
            places=rng.uniform(300, 4500, (9, 2)),
            photons=3000.0,
            seed=i,
        )
        for i in range(30)
    ]
    movie = save(tmp_path / "movie.tif", np.concatenate(frames))
    refused(movie, words=("movie.tif", "not a movie of blinking molecules"))
    refused(movie, camera=None, words=("movie.tif",))


def test_saturated_pixels(refused, tmp_path):
    counts = bead_counts(z_nm=Z_NM, places=PLACES[:3])
    stack = save(tmp_path / "stack.tif", np.minimum(counts, 1023))
    refused(stack, words=("3 found, 3 saturated; lower the exposure",))


def test_pixels_that_are_no_numbers(refused, counts, tmp_path):
    spoilt = counts.astype(np.float32)
    spoilt[4, 5, 6] = np.nan
    tifffile.imwrite(tmp_path / "stack.tif", spoilt, photometric="minisblack")
    refused(tmp_path / "stack.tif", words=("stack.tif", "frame 4", "NaN"))


def test_stacks_that_do_not_belong_together(refused, calibrate, beads, counts, tmp_path):
    """A stack of 15 depths beside one of 11 is no mistake; one that is too thin is named."""
    shorter = save(tmp_path / "short.tif", counts[2:13])
    assert calibrate(beads, shorter, more=("--kind", "astigmatic", "--no-report")).code == 0
    (tmp_path / "psf.h5").unlink()
    refused(beads, save(tmp_path / "thin.tif", counts[:3]), words=("thin.tif has 3 planes",))


def test_too_few_planes(refused, counts, tmp_path):
    stack = save(tmp_path / "stack.tif", counts[:4])
    refused(stack, words=("4 planes; expected a stack through focus, 5 planes or more",))
    refused(save(tmp_path / "seven.tif", counts[4:11]), camera=None, words=("7 planes are too few", "--camera"))


def test_focal_planes_that_do_not_divide_the_frames(refused, beads):
    refused(beads, more=("--planes", 2), words=("beads.tif", "15", "planes"))


def test_too_many_frames(refused, tmp_path):
    stack = save(tmp_path / "stack.tif", np.full((2001, 16, 16), 100))
    refused(stack, words=("2001 frames; expected a stack of beads", "at most 2000"))


@pytest.mark.parametrize("roi", [14, 5, 101, -7])
def test_an_impossible_width(refused, beads, roi):
    refused(beads, roi=roi, words=(f"roi_px {roi}", "odd number of pixels from 7 to 99"))


def test_optics_without_a_pupil(refused, beads):
    refused(beads, more=("--na", 1.4), words=("--na without --kind pupil",))
    refused(beads, more=("--na", 1.4, "--wavelength-nm", 670), words=("--wavelength-nm and --na without --kind pupil",))


def test_a_pupil_without_optics(refused, beads):
    refused(beads, more=OPTICS[:2], words=("--wavelength-nm and --na",))
    refused(beads, more=OPTICS[:4], words=("--wavelength-nm and --na",))
    refused(beads, more=(*OPTICS, "--immersion-index", 1.33), words=("numerical_aperture 1.4", "immersion_index 1.33"))
    refused(beads, more=(*OPTICS[:4], "--na", -1), words=("numerical_aperture", "-1"))
    refused(beads, more=(*OPTICS, "--model", "wavy"), words=("model", "wavy"))


@pytest.mark.parametrize(
    ("out", "more", "words"),
    [
        ("psf.tif", (), ("psf.tif", ".h5", ".json", ".mat")),
        ("psf", (), ("expected a name that ends in",)),
        ("no/where/psf.h5", (), ("does not exist",)),
        ("psf.yaml", (), ("psf.yaml", "widths of a Gaussian", "'spline'")),
        ("psf.h5", ("--kind", "airy"), ("'airy'", "spline, parametric, pupil")),
    ],
)
def test_nowhere_to_write_to(refused, beads, out, more, words):
    refused(beads, out=out, more=more, words=words)


def test_a_report_that_cannot_be_written_is_seen_before_the_work(refused, beads, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "fit_psf", None)
    (tmp_path / "psf.report.html").mkdir()
    refused(beads, more=(), words=("psf.report.html", "a folder"))


def test_no_pixel_size(refused, beads):
    refused(beads, pixel=None, words=("beads.tif does not say its pixel size", "--pixel-size-nm 100"))
    refused(beads, pixel=0.1, words=("0.1 nm", "5 to 2000 nm"))


def test_a_psf_that_cannot_be_trusted_is_not_written(refused, tmp_path):
    flat = bead_counts(GaussianSettings(width_nm=140, roi_px=21), z_nm=Z_NM, places=PLACES[:3])
    refused(save(tmp_path / "flat.tif", flat), more=(), words=("depths cannot be told", "--kind gaussian"))


def test_a_camera_that_is_none(refused, beads):
    refused(beads, camera="offset=100", words=("electrons_per_count",))


def test_a_missing_stack(refused, tmp_path):
    refused(tmp_path / "gone.tif", words=("gone.tif",))


def test_a_mat_of_another_program_is_no_psf(command, beads, tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "other.mat", {"results": np.eye(4)})
    out = tmp_path / "t.parquet"
    answer = command("localize", beads, "--method", "single", "--psf", tmp_path / "other.mat", "-o", out, "--pixel-size-nm", 100)
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1, answer.err
    assert "holds results, expected a 3D calibration of SMAP" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["other.mat"]


def test_a_stack_that_is_given_twice(refused, beads):
    refused(beads, beads, words=("beads.tif is given 2 times",))


def test_values_that_are_no_counts(refused, counts, tmp_path):
    tifffile.imwrite(tmp_path / "scaled.tif", (counts / counts.max()).astype(np.float32), photometric="minisblack")
    refused(tmp_path / "scaled.tif", camera=None, words=("scaled.tif", "as if they were scaled"))


def test_a_camera_whose_offset_is_above_the_counts(refused, beads):
    refused(beads, camera="offset=1e6,electrons_per_count=0.5", words=("100 % of the pixels lie below the camera's offset",))


def test_planes_without_light(refused, counts, tmp_path):
    dark = counts.copy()
    dark[7] = 0
    refused(save(tmp_path / "dark.tif", dark), words=("dark in 1 of 15 planes (7;", "leave these planes out"))


def test_a_stack_there_and_back(refused, counts, tmp_path):
    refused(save(tmp_path / "twice.tif", np.concatenate((counts, counts[::-1]))), words=("depths cannot be told",))


@pytest.mark.parametrize("first", ["nan", "inf", 1e9])
def test_an_impossible_first_depth(refused, beads, first):
    refused(beads, more=("--z-first-nm", first), words=("z of the first frame", "-50000 to 50000 nm"))


@pytest.mark.parametrize("more", [("--free-phase",), ("--immersion-index", 1.4), ("--model", "scalar"), ("--bead-diameter-nm", 40)])
def test_options_of_a_pupil_without_one(refused, beads, more):
    refused(beads, more=more, words=(f"{more[0]} without --kind pupil",))


def test_wrong_units_that_fit_are_warned_of(calibrate, beads):
    wide = calibrate(beads, pixel=1000)
    assert wide.code == 0
    assert "nm wide in focus, expected 60 to 600 nm" in wide.out
    deep = calibrate(beads, step=700)
    assert deep.code == 0, deep
    assert "is the z step right?" in deep.out


def test_a_stack_beside_the_focus_is_noted(calibrate, beads):
    answer = calibrate(beads, more=("--kind", "astigmatic", "--z-first-nm", 1000, "--no-report"))
    assert "depths go from 1000 to 1980 nm, so that 0, the focus, is not inside" in answer.out
