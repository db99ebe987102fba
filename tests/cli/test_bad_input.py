"""Bad input: exit 2, one or two lines that say what to do, no traceback, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from denseloc import model_file, pipeline
from denseloc.cli import options
from denseloc.data import movie_from_array
from denseloc.errors import DenselocError
from denseloc.pipeline import LOOKED_AT, check_light

from .conftest import DOCUMENT, untrained

BARE = ("--no-picture", "--no-report")


def counts(n=6, rows=16, columns=12):
    return np.random.default_rng(0).poisson(120, (n, rows, columns)).astype(np.uint16)


@pytest.fixture
def refused(command, tmp_path):
    """Run the command and check that it refuses in the proper way; gives what it said."""

    def run(*arguments, words=(), keeps=()):
        before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
        answer = command(*arguments)
        assert answer.code == 2, answer
        lines = answer.err.splitlines()
        assert 1 <= len(lines) <= 2, answer.err
        assert "Traceback" not in answer.err + answer.out
        for word in words:
            assert word in answer.err, answer.err
        after = {
            path: path.stat().st_size for path in tmp_path.rglob("*") if path.name not in keeps and path.parent.name not in keeps
        }
        assert after == before
        return answer.err

    return run


@pytest.fixture
def localize(refused, place, tmp_path):
    """Refuse to localize a movie with the tiny model."""

    def run(movie, *more, words=(), keeps=(), model=place.model, out=None):
        return refused("localize", movie, "-o", out or tmp_path / "out.parquet", "--model", model, *more, words=words, keeps=keeps)

    return run


# ------------------------------------------------------------------------------------------------------------------------- movies


def test_truncated_tiff(localize, place, command, tmp_path):
    whole = place.movie.read_bytes()
    movie = tmp_path / "cut.tif"
    movie.write_bytes(whole[: len(whole) * 2 // 3])
    localize(movie, words=("truncated", "frames are whole", "--allow-truncated"))
    answer = command("localize", movie, "-o", tmp_path / "out.parquet", "--model", place.model, "--allow-truncated", *BARE)
    assert answer.code == 0


def test_tiff_without_pages(localize, tmp_path):
    movie = tmp_path / "none.tif"
    movie.write_bytes(b"II*\0\0\0\0\0")
    localize(movie, words=("without pages",))


def test_empty_file(localize, tmp_path):
    movie = tmp_path / "empty.tif"
    movie.write_bytes(b"")
    localize(movie, words=("empty.tif",))


def test_text_called_tif(localize, tmp_path):
    movie = tmp_path / "text.tif"
    movie.write_text("these are notes, not a movie\n" * 20)
    localize(movie, words=("not a TIFF",))


def test_rgb(localize, tmp_path):
    movie = tmp_path / "rgb.tif"
    tifffile.imwrite(movie, np.zeros((16, 16, 3), np.uint8), photometric="rgb")
    localize(movie, words=("RGB", "channels"))


@pytest.mark.parametrize("frame", [0, 4])
def test_float_with_nan(localize, tmp_path, frame):
    pixels = counts().astype(np.float32)
    pixels[frame, 3, 3] = np.nan
    movie = tmp_path / "nan.tif"
    tifffile.imwrite(movie, pixels, photometric="minisblack")
    localize(movie, words=(f"frame {frame}", "NaN"))


def test_nan_after_finished_blocks_keeps_them(localize, place, tmp_path, monkeypatch):
    """Only sampled frames are looked at before the first block; later a NaN costs no finished work."""
    pixels = counts(40).astype(np.float32)
    pixels[37] = np.nan
    movie = tmp_path / "late.tif"
    tifffile.imwrite(movie, pixels, photometric="minisblack")
    monkeypatch.setattr("denseloc.data.movie.Movie.sample", lambda self, n: self.read(0, 4))
    monkeypatch.setattr("denseloc.calibrate.conditions.take_sample", _first_frames)
    told = localize(movie, "--block-frames", 8, words=("frame 37", "NaN", "--resume"), keeps=("out.parquet.parts",))
    assert len(told.splitlines()) == 2
    kept = sorted(path.name[:21] for path in (tmp_path / "out.parquet.parts").glob("*.parquet"))
    assert kept[0] == "0000000000-0000000008"


def _first_frames(movie):
    from denseloc.calibrate.sampling import take_sample

    return take_sample(movie.crop((0, 8)))


def test_missing_movie_offers_its_neighbour(localize, tmp_path, place):
    (tmp_path / "movie.tif").write_bytes(place.movie.read_bytes())
    localize(tmp_path / "mobie.tif", words=("no such file", "movie.tif"))


def test_unknown_movie_format(localize, tmp_path):
    movie = tmp_path / "movie.avi"
    movie.write_bytes(b"RIFF")
    localize(movie, words=("unknown movie format", ".dax"))


def test_one_frame_works(command, place, tmp_path):
    movie = tmp_path / "one.tif"
    tifffile.imwrite(movie, tifffile.imread(place.movie)[5], photometric="minisblack")
    answer = command("localize", movie, "-o", tmp_path / "one.parquet", "--model", place.model)
    assert answer.code == 0, answer
    assert "in 1 frames" in answer.out
    assert {"one.parquet", "one.png", "one.html"} <= {path.name for path in tmp_path.iterdir()}


def test_frames_down_to_8_px_work_and_smaller_ones_are_refused(command, localize, place, tmp_path):
    movie = tmp_path / "small.tif"
    tifffile.imwrite(movie, counts(5, 8, 8), photometric="minisblack")
    assert command("localize", movie, "-o", tmp_path / "small.parquet", "--model", place.model, *BARE).code == 0
    tiny = tmp_path / "tiny.tif"
    tifffile.imwrite(tiny, counts(5, 7, 20), photometric="minisblack")
    localize(tiny, words=("7 x 20 px", "at least 8 x 8"))


def test_movie_without_light(command, localize, place, tmp_path):
    """Noise alone gives an empty table; pixels that are all alike are no movie."""
    movie = tmp_path / "dark.tif"
    frames = np.full((25, 16, 16), 100, np.uint16)
    tifffile.imwrite(movie, frames, photometric="minisblack")
    localize(movie, words=("all pixels of all frames hold 100 counts", "right movie"))
    frames[4, 3, 4] = 101  # not among the frames that are sampled
    dark = movie_from_array(frames)
    assert (dark.sample(LOOKED_AT) == 100).all()
    check_light(dark)
    tifffile.imwrite(movie, frames, photometric="minisblack")
    answer = command("localize", movie, "-o", tmp_path / "dark.csv", "--model", place.model)
    assert answer.code == 0, answer
    assert "0 localizations" in answer.out


def test_frames_outside_of_the_movie(localize, place):
    localize(place.movie, "--frames", "30:50", words=("30:50", "0:40"))
    localize(place.movie, "--roi", "0,0,64,64", words=("24 x 20 px",))


# ------------------------------------------------------------------------------------------------------------------------- camera


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ("offset=100,electrons_per_count=0", ("electrons_per_count", "above 0")),
        ("offset=100,electrons_per_count=-2", ("electrons_per_count", "above 0", "-2")),
        ("offset=100,electrons_per_count=2,em_gain=-300", ("em_gain", "-300")),
        ("offset=100,electrons_per_count=2,em_gain=0", ("em_gain", "at least 1")),
        ("offset=-5,electrons_per_count=2", ("offset_counts", "negative")),
        ("offset=100,gain=2", ("electrons_per_count",)),
        ("offset=100,electrons_pr_count=2", ("electrons_per_count",)),
        ("offset=100,electrons_per_count=two", ("two", "number")),
        ("offset=100", ("electrons_per_count",)),
        ("kind=scmoss,offset=100", ("scmos",)),
        ("nowhere.toml", ("nowhere.toml",)),
    ],
)
def test_camera(localize, place, camera, words):
    localize(place.movie, "--camera", camera, words=words)


def test_camera_file(command, localize, place, tmp_path):
    file = tmp_path / "camera.toml"
    file.write_text('[camera]\nkind = "scmos"\noffset_counts = 100\nelectrons_per_count = 0.5\nread_noise_electrons = 1.5\n')
    assert command("localize", place.movie, "-o", tmp_path / "t.csv", "--model", place.model, "--camera", file, *BARE).code == 0
    file.write_text('kind = "scmos"\noffset_counts = 100\nelectrons_per_count = 0.5\nread_noise_electron = 1.5\n')
    localize(place.movie, "--camera", file, words=("read_noise_electron'", "read_noise_electrons"))


def test_pixel_size_missing(refused, general, tmp_path):
    movie = tmp_path / "plain.tif"
    tifffile.imwrite(movie, counts(), photometric="minisblack")
    arguments = ("localize", movie, "-o", tmp_path / "t.parquet", "--model", general)
    refused(*arguments, words=("does not say its pixel size", "--pixel-size-nm 100"))
    refused(*arguments, "--pixel-size-nm", "0.1", words=("0.1 nm", "5 to 2000 nm"))
    refused(*arguments, "--pixel-size-nm", "wide", words=("--pixel-size-nm", "wide"))


# ---------------------------------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("width_nm = 120", "widht_nm = 120"), ("psf", "widht_nm", "did you mean 'width_nm'")),
        (("pixel_size_nm = 100", "pixel_size_um = 0.1"), ("pixel_size_um", "did you mean 'pixel_size_nm'")),
        (("pixel_size_nm = 100", "pixel_size_nm = 0.1"), ("pixel_size_nm", "give it in nm", "0.1")),
        (("electrons_per_count = 0.5", "electrons_per_count = -0.5"), ("electrons_per_count", "above 0", "-0.5")),
        (('kind = "gaussian"', 'kind = "gausian"'), ("did you mean 'gaussian'",)),
        (('kind = "gaussian"', 'file = "psf.json"'), ("psf.file", "stands alone")),
        (("low = 2000", "low = 9000"), ("photons", "low to high")),
        (("[camera]", "[camra]"), ("camra", "did you mean 'camera'")),
        (("pixel_size_nm = 100", "pixel_size_nm = "), ("not valid TOML",)),
    ],
)
def test_documents(refused, tmp_path, change, words):
    assert change[0] in DOCUMENT
    document = tmp_path / "bad.toml"
    document.write_text(DOCUMENT.replace(*change, 1))
    refused("simulate", document, "-o", tmp_path / "movie.tif", words=words)
    refused("train", document, "-o", tmp_path / "model.safetensors", words=words)


def test_document_that_is_not_there(refused, tmp_path):
    refused("train", tmp_path / "none.toml", "-o", tmp_path / "m.safetensors", words=("none.toml", "No such file"))
    refused("train", tmp_path, "-o", tmp_path / "m.safetensors", words=("Is a directory",))
    (tmp_path / "list.json").write_text("[1, 2]")
    refused("train", tmp_path / "list.json", "-o", tmp_path / "m.safetensors", words=("holds list",))


def test_various_cameras_are_not_one_movie(refused, tmp_path):
    start, end = DOCUMENT.index("[camera]"), DOCUMENT.index("[specimen]")
    (tmp_path / "many.toml").write_text(DOCUMENT[:start] + '[camera]\nkind = "various"\n\n' + DOCUMENT[end:])
    refused("simulate", tmp_path / "many.toml", "-o", tmp_path / "movie.tif", words=("many cameras", "scmos"))


# ------------------------------------------------------------------------------------------------------------------------- models


def test_corrupt_models(localize, place, tmp_path):
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"not a model at all", place.model.read_bytes()[:-1000], place.model.read_bytes()[:50]):
        bad.write_bytes(content)
        localize(place.movie, model=bad, words=("bad.safetensors", "damaged"))
    save_file(load_file(place.model), bad)
    localize(place.movie, model=bad, words=("no denseloc document",))


def _rewritten(place, target, **changes):
    with safe_open(place.model, "pt") as file:
        notes = json.loads(file.metadata()["denseloc"])
    save_file(load_file(place.model), target, {"denseloc": json.dumps({**notes, **changes})})
    return target


def test_model_of_a_newer_version(localize, place, tmp_path):
    newer = _rewritten(place, tmp_path / "newer.safetensors", format=model_file.FORMAT + 1)
    localize(place.movie, model=newer, words=(f"format {model_file.FORMAT + 1}", "newer denseloc"))


def test_model_whose_weights_do_not_fit(localize, place, tmp_path):
    with safe_open(place.model, "pt") as file:
        experiment = json.loads(file.metadata()["denseloc"])["experiment"]
    experiment["localizer"]["preset"] = "small"
    other = _rewritten(place, tmp_path / "other.safetensors", experiment=experiment)
    localize(place.movie, model=other, words=("do not fit together",))


def test_model_for_another_pixel_size(localize, place):
    localize(place.movie, "--pixel-size-nm", 160, words=("100 nm", "160 nm"))


def test_model_for_another_number_of_planes(localize, place, tmp_path):
    psf = {"kind": "multiplane", "width_nm": 130, "plane_focus_nm": [-250, 250], "depth_nm": 400, "roi_px": 11}
    biplane = untrained(tmp_path / "biplane.safetensors", psf=psf)
    localize(place.movie, model=biplane, words=("2 focal planes", "the movie has 1"))


def test_unknown_model_and_method(localize, place, monkeypatch):
    monkeypatch.setattr(model_file, "shipped_models", lambda: {"general-2d": place.model})
    localize(place.movie, model="generl-2d", words=("did you mean 'general-2d'",))
    localize(place.movie, "--method", "decoed", words=("did you mean 'decode'",))
    localize(place.movie, "--method", "decode", "--threshold", 1.5, words=("1.5", "between 0 and 1"))


def test_absent_device(localize, place):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    localize(place.movie, "--device", "cuda", words=("device 'cuda'", "--device cpu"))
    localize(place.movie, "--device", "toaster", words=("device 'toaster'",))


# ------------------------------------------------------------------------------------------------------------------------- output


def test_folder_missing(localize, place, tmp_path):
    localize(place.movie, out=tmp_path / "no" / "where" / "t.parquet", words=("does not exist",))
    localize(place.movie, out=tmp_path, words=("suffix",))
    localize(place.movie, out=tmp_path / "t.xlsx", words=(".xlsx", ".parquet"))


def test_folder_not_writable(localize, refused, place, tmp_path, monkeypatch):
    if Path("/proc/self").exists():
        localize(place.movie, out="/proc/t.parquet", words=("/proc/t.parquet", "another"))  # binds for root as well
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: not mode & os.W_OK and access(path, mode, **more))
    localize(place.movie, words=("may not be written to",))
    for arguments in (
        ("simulate", place.document, "-o", tmp_path / "m.tif"),
        ("train", place.document, "-o", tmp_path / "m.safetensors"),
    ):
        refused(*arguments, words=("may not be written to",))


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_picture_and_report_are_looked_after_before_the_work(localize, place, tmp_path, suffix):
    (tmp_path / f"out{suffix}").mkdir()
    localize(place.movie, words=(f"out{suffix}", "a folder"))


def _full_from(monkeypatch, is_late):
    """Let the disk be full for all files, or for the final ones only."""
    replace = os.replace

    def full(source, target):
        if is_late(Path(target)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        replace(source, target)

    monkeypatch.setattr("denseloc.files.os.replace", full)


def test_disk_full_from_the_beginning(localize, refused, place, tmp_path, monkeypatch):
    _full_from(monkeypatch, lambda target: True)
    localize(place.movie, words=("disk is full",))
    refused("simulate", place.document, "-o", tmp_path / "m.tif", "--size", 16, "--frames", 5, words=("disk is full",))
    refused("render", place.truth, "-o", tmp_path / "p.png", words=("disk is full",))
    refused("report", place.truth, "-o", tmp_path / "r.html", words=("disk is full",))


def test_disk_full_at_the_end_keeps_the_blocks(localize, command, place, tmp_path, monkeypatch):
    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        _full_from(patch, lambda target: target == out)
        localize(place.movie, words=("disk is full", "--resume"), keeps=("out.parquet.parts",))
    assert command("localize", place.movie, "-o", out, "--model", place.model, "--resume", *BARE).code == 0
    assert not (tmp_path / "out.parquet.parts").exists()


def test_resume_of_another_run(localize, place, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _full_from(patch, lambda target: target == tmp_path / "out.parquet")
        localize(place.movie, keeps=("out.parquet.parts",))
    localize(place.movie, "--resume", "--threshold", 0.9, words=("another movie, model or setting", "--resume"))


ALLOCATIONS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
]


@pytest.mark.parametrize("error", ALLOCATIONS, ids=lambda error: str(error)[:20])
def test_out_of_memory(localize, place, monkeypatch, error):
    def exhausted(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "localize", exhausted)
    told = localize(place.movie, words=("out of memory", "--tile-px", "--block-frames"))
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("denseloc.verbs.render", ("render", "truth", "-o", "p.png"), "--pixel-size-nm"),
        ("denseloc.verbs.report", ("report", "truth", "-o", "r.html"), "--min-probability"),
        ("denseloc.verbs.evaluate", ("evaluate", "truth", "truth"), "--min-probability"),
        ("denseloc.verbs.simulate", ("simulate", "document", "-o", "m.tif"), "--size"),
        ("denseloc.training.train", ("train", "document", "-o", "m.safetensors"), "batch_size"),
        (
            "denseloc.verbs.calibrate",
            ("calibrate", "b.tif", "-o", "p.json", "--kind", "gaussian", "--z-step-nm", "10", "--camera", "kind=ideal"),
            "--roi-px",
        ),
        ("denseloc.verbs.demo", ("demo",), "larger machine"),
    ],
)
def test_out_of_memory_names_what_to_lower(refused, place, monkeypatch, verb, arguments, words):
    def exhausted(*_, **__):
        raise ALLOCATIONS[1]

    monkeypatch.setattr(verb, exhausted)
    refused(
        *({"truth": place.truth, "document": place.document}.get(word, word) for word in arguments), words=("out of memory", words)
    )


def test_other_errors_are_not_taken_for_a_lack_of_memory(localize, place, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("shapes do not agree")

    monkeypatch.setattr(pipeline, "localize", fails)
    assert "memory" not in localize(place.movie, words=("unexpected: RuntimeError",))


@pytest.mark.parametrize(("name", "value"), [("tile_px", 15), ("tile_px", 4097), ("block_frames", 0), ("block_frames", 16385)])
def test_bounds_hold_for_the_function_as_for_the_option(place, tmp_path, name, value):
    """The option shows its bounds in the help; they are those of the function."""
    with pytest.raises(DenselocError, match=rf"{name} \(--{name.replace('_', '-')}\) {value}; expected"):
        pipeline.localize(place.movie, tmp_path / "t.parquet", model=place.model, **{name: value})
    shown = {"tile_px": options.TilePx, "block_frames": options.BlockFrames}[name].__metadata__[0]
    bounds = {
        "tile_px": (pipeline.LEAST_TILE_PX, pipeline.MOST_TILE_PX),
        "block_frames": (1, pipeline.MOST_BLOCK),
    }
    assert (shown.min, shown.max) == bounds[name]


# ------------------------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("localise", "m.tif"), ("localise", "localize")),
        (("localize", "m.tif"), ("--out", "--help")),
        (("localize", "m.tif", "-o", "t.csv", "--pixel-size", "100"), ("--pixel-size-nm",)),
        (("localize", "m.tif", "-o", "t.csv", "--frames", "10"), ("--frames", "start:stop")),
        (("localize", "m.tif", "-o", "t.csv", "--frames", "5:1:2"), ("--frames",)),
        (("localize", "m.tif", "-o", "t.csv", "--roi", "1,2,3"), ("--roi", "y0,x0,height,width")),
        (("localize", "m.tif", "-o", "t.csv", "--tile-px", "2"), ("--tile-px",)),
        (("localize", "m.tif", "-o", "t.csv", "--tile-px", "1000000"), ("--tile-px", "4096")),
        (("localize", "m.tif", "-o", "t.csv", "--block-frames", "9999999999"), ("--block-frames", "16384")),
        (("simulate", "e.toml", "-o", "m.tif", "--size", "100000"), ("--size", "8192")),
        (("simulate", "e.toml", "-o", "m.tif", "--frames", "99999999999"), ("--frames", "10000000")),
        (("simulate", "e.toml", "-o", "m.tif", "--size", "64y64"), ("--size",)),
        (("render", "t.csv", "-o", "p.png", "--mode", "blobs"), ("--mode", "histogram")),
        (("render", "t.csv", "-o", "p.jpg"), (".png",)),
        (("report", "t.csv", "-o", "p.pdf"), (".html",)),
        (("train", "e.toml", "-o", "m.pt"), ("e.toml",)),
        (("evaluate", "none.csv", "none.csv"), ("none.csv", "no such file")),
    ],
)
def test_misuse(refused, arguments, words):
    refused(*arguments, words=words)


# -------------------------------------------------------------------------------------------------------- plan, inspect, convert


def test_a_plan_is_a_page_and_its_seed_a_number(refused, tmp_path):
    psf = tmp_path / "psf.json"
    psf.write_text('{"kind": "gaussian", "width_nm": 130, "roi_px": 11}')
    refused("plan", psf, "--pixel-size-nm", 100, "-o", tmp_path / "page.txt", words=("ends in .html",))
    refused("plan", psf, "--pixel-size-nm", 100, "--seed", 10**30, words=("--seed",))


def test_a_series_that_is_the_movie(refused, place):
    refused("inspect", place.movie, "--pixel-size-nm", 100, "--dark", place.movie, words=("movie.tif is given twice",))


def test_an_offset_above_all_pixels(refused, place):
    given = ("--pixel-size-nm", 100, "--camera", "offset=1e6,electrons_per_count=1")
    refused("inspect", place.movie, *given, words=("offset of 1e+06 counts lies above nearly all pixels",))


def test_rows_without_a_place_are_told(command, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text('"frame","x [nm]","y [nm]"\n1,inf,20\n2,nan,20\n3,10,20\n')
    answer = command("convert", table, "-o", tmp_path / "out.parquet")
    assert answer.code == 0
    assert "warning: 2 rows have a position that is no finite number" in answer.out


def test_a_folder_is_no_table(refused, tmp_path):
    refused("convert", tmp_path, "-o", tmp_path / "out.csv", words=("this is a folder, expected a table",))
