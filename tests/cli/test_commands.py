"""The commands do what their help says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from denseloc import __version__, model_file
from denseloc.cli import app, examination
from denseloc.cli.app import COMMANDS
from denseloc.data import Localizations, Provenance
from denseloc.formats import read_table, write_table
from denseloc.pipeline import localize
from denseloc.verbs import demonstration

from .conftest import DOCUMENT

NAMES = [function.__name__ for function, _ in COMMANDS]


def test_version(command):
    assert command("--version").out == f"denseloc {__version__}\n"


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples(command, name):
    answer = command(name, "--help")
    assert answer.code == 0
    examples = answer.out.partition("Examples:")[2]
    assert f"denseloc {name}" in examples


def test_examples_are_commands(command):
    """Each example parses up to the point where its files would be read."""
    for _, examples in COMMANDS:
        for example in " ".join(line for line in examples if not line.startswith("#")).replace("\\ ", "").split("denseloc ")[1:]:
            words = example.replace("\\[", "[").split()
            assert words[0] in NAMES  # what comes next may be another command's
            known = set(re.findall(r"--?[a-z][a-z-]*", command(words[0], "--help").out))
            assert {word.split("=")[0] for word in words[1:] if re.match("--?[a-z]", word)} <= known


def test_help_loads_nothing_heavy_and_completion_is_offered():
    code = "import sys; from denseloc.cli import main; main(['--help']); sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    code = "from denseloc.cli import main; main([])"
    environment = {**os.environ, "_DENSELOC_COMPLETE": "source_bash"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "complete" in told.stdout
    assert "denseloc" in told.stdout
    assert app.info.name == "denseloc"


def test_no_arguments_give_the_help(command):
    assert "localize" in command().out


# ----------------------------------------------------------------------------------------------------------------------- localize


@pytest.mark.parametrize("suffix", [".csv", ".hdf5"])
def test_localize_leaves_table_picture_and_report(command, place, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    answer = command("localize", place.movie, "-o", out, "--model", place.model)
    assert answer.code == 0
    assert answer.err == ""
    extra = {"out.yaml"} if suffix == ".hdf5" else set()
    assert {path.name for path in tmp_path.iterdir()} == {out.name, "out.png", "out.html"} | extra
    for words in (
        "the model's document",
        "100 counts (the model's)",
        "photons per pixel (measured",
        "localizations in 40 frames",
        "table",
        "report",
    ):
        assert words in answer.out
    page = (tmp_path / "out.html").read_text()
    assert "movie.tif" in page
    assert "chi2" in page  # whatever the format keeps, the report of the run knows its movie
    truth = read_table(place.truth)
    assert 0.2 * len(truth) < len(read_table(out)) < 1.5 * len(truth)


def test_localize_quietly_and_without_extras(command, place, tmp_path):
    answer = command(
        "localize", place.movie, "-o", tmp_path / "t.parquet", "--model", place.model, "-q", "--no-picture", "--no-report"
    )
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_localize_a_part(command, place, tmp_path):
    """Frames and region cut the movie; numbers and positions stay those of the whole."""
    base = ("localize", place.movie, "--model", place.model, "--no-picture", "--no-report", "--method", "decode", "-o")
    assert command(*base, tmp_path / "part.parquet", "--frames", "10:30", "--roi", "4,0,20,20").code == 0
    part = read_table(tmp_path / "part.parquet")
    assert len(part)
    assert part.frame.min() >= 10
    assert part.frame.max() < 30
    assert part.y_nm.min() > 300
    known = part.provenance
    assert (known.n_frames, known.shape_px, known.settings["frames"]) == (40, (24, 20), [10, 30])


def rows_of(table, first, stop):
    return table.select((table.frame >= first) & (table.frame < stop))


@pytest.mark.parametrize("frames", ["10:30", "0:1", "39:40", ":7", "33:"])
def test_a_part_of_the_frames_has_the_rows_of_the_whole(command, place, tmp_path, frames):
    """The frames beside the part are looked at as well, so that its first and last frames are not those of another movie."""
    base = ("localize", place.movie, "--model", place.model, "--no-picture", "--no-report", "--threshold", 0.2, "-o")
    assert command(*base, tmp_path / "whole.parquet").code == 0
    assert command(*base, tmp_path / "part.parquet", "--frames", frames, "--block-frames", 6).code == 0
    whole, part = read_table(tmp_path / "whole.parquet"), read_table(tmp_path / "part.parquet")
    start, stop = part.provenance.settings["frames"]
    expected = rows_of(whole, start, stop)
    assert len(part) == len(expected)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(part.columns[name], values)


def test_a_part_of_the_demonstration_has_the_rows_of_the_whole(tmp_path):
    """A model that is told background and noise is told those of the whole movie."""
    movie = demonstration.source() / demonstration.MOVIE
    common = {"model": demonstration.MODEL, "roi_px": (8, 8, 24, 24), "camera": None}
    whole = read_table(localize(movie, tmp_path / "whole.parquet", **common).table)
    run = localize(movie, tmp_path / "part.parquet", frames=(31, 60), **common)
    part, expected = read_table(run.table), rows_of(whole, 31, 60)
    assert len(part) == len(expected) > 50
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(part.columns[name], values)
    assert run.frames == 29


def test_a_part_beside_frames_that_cannot_be_read(command, place, tmp_path):
    """Damaged frames outside of the part are no reason to refuse it; conditions are those of the part then, and this is said."""
    pixels = tifffile.imread(place.movie).astype(np.float32)
    pixels[20:] = np.nan
    movie = tmp_path / "damaged.tif"
    tifffile.imwrite(movie, pixels, photometric="minisblack")
    answer = command("localize", movie, "--model", place.model, "-o", tmp_path / "t.parquet", "--frames", "5:20", "--no-report")
    assert answer.code == 0, answer
    assert "conditions were measured in the frames wanted alone" in answer.out
    assert "localizations in 15 frames" in answer.out


def test_localize_without_model_takes_the_shipped_one_and_says_what_it_assumed(command, place, general, tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "shipped_models", lambda: {"general-2d": general})
    answer = command("localize", place.movie, "-o", tmp_path / "t.parquet", "--no-picture", "--no-report")
    assert answer.code == 0
    said = " ".join(answer.out.split())
    for words in (
        "general (chosen; --model takes another)",
        "camera measured",
        "counts per photon (",
        "--camera offset=COUNTS,electrons_per_count",
    ):
        assert words in said
    assert re.search(r"camera offset +[\d.]+ counts \(\w+, [\d.]+ to [\d.]+\)", answer.out)


def test_localize_with_pixel_maps_of_the_camera(command, place, tmp_path):
    """Maps of the whole field are cut to the region; an even map gives what its three numbers give."""
    maps = np.stack([np.full((24, 20), value, np.float32) for value in (100.0, 0.5, 9.0)])
    np.save(tmp_path / "maps.npy", maps)
    (tmp_path / "camera.toml").write_text('kind = "scmos"\npixel_maps = "maps.npy"\n')
    base = ("localize", place.movie, "--model", place.model, "--no-picture", "--no-report", "--roi", "4,0,20,20", "-o")
    assert command(*base, tmp_path / "maps.parquet", "--camera", tmp_path / "camera.toml").code == 0
    assert command(*base, tmp_path / "numbers.parquet", "--camera", "offset=100,electrons_per_count=0.5,read_noise=1.5").code == 0
    mapped, numbers = read_table(tmp_path / "maps.parquet"), read_table(tmp_path / "numbers.parquet")
    assert len(mapped) > 3
    np.testing.assert_allclose(mapped.x_nm, numbers.x_nm, atol=1e-3)


# ----------------------------------------------------------------------------------------------------------------------- evaluate


@pytest.mark.parametrize("name", ["03_missed_false", "09_wobble_offset"])
def test_evaluate_json_is_the_challenges(command, shared, name):
    cases = shared / "challenge" / "cases"
    expected = json.loads((cases / "expected.json").read_text())["cases"][name]["matlab"]
    wobble = cases / f"{name}_wobble.csv"
    for suffix, more in (("", ()), ("_wobble", ("--wobble", wobble))) if wobble.exists() else (("", ()),):
        answer = command("evaluate", cases / f"{name}_loc.csv", cases / f"{name}_gt.csv", "--json", *more)
        found = json.loads(answer.out)
        assert list(found) == ["3d_all", "3d_p25", "2d_all", "2d_p25"]
        for key, values in found.items():
            theirs = expected[key + suffix]
            assert list(values) == list(theirs)
            for field, value in theirs.items():
                assert values[field] == pytest.approx(value, rel=1e-6, abs=1e-9), (key, field)


def rows(dx=0.0, n=300):
    rng = np.random.default_rng(1)
    columns = {"frame": np.arange(n), "x_nm": rng.uniform(500, 5500, n) + dx, "y_nm": rng.uniform(500, 5500, n)}
    return Localizations({**columns, "photons": np.full(n, 1000.0)}, Provenance((100.0, 100.0), (60, 60), n))


def test_evaluate_takes_an_offset_away(command, tmp_path):
    write_table(tmp_path / "truth.csv", rows())
    write_table(tmp_path / "moved.parquet", rows(80.0))
    plain = command("evaluate", tmp_path / "moved.parquet", tmp_path / "truth.csv", "--json")
    assert json.loads(plain.out)["2d_all"]["mean_dx_nm"] == pytest.approx(80)
    answer = command("evaluate", tmp_path / "moved.parquet", tmp_path / "truth.csv", "--remove-offset")
    assert "offset taken away: x 80.0 nm, y 0.0 nm" in answer.out
    assert re.search(r"Jaccard / % +100\.0", answer.out)
    narrow = command("evaluate", tmp_path / "moved.parquet", tmp_path / "truth.csv", "--json", "--lateral-nm", 50)
    assert json.loads(narrow.out)["2d_all"]["TP"] == 0


def test_evaluate_of_a_part_counts_no_other_frames_as_missed(command, tmp_path):
    truth = rows()
    write_table(tmp_path / "truth.csv", truth)
    part = truth.select(truth.frame < 40).with_provenance(settings={"frames": [0, 40]})
    write_table(tmp_path / "part.parquet", part)
    answer = command("evaluate", tmp_path / "part.parquet", tmp_path / "truth.csv")
    assert "note: localized were frames 0 to 39; 260 true emitters elsewhere are left out (--whole counts them)" in answer.out
    assert re.search(r"recall / % +100\.0", answer.out)
    whole = command("evaluate", tmp_path / "part.parquet", tmp_path / "truth.csv", "--whole")
    assert "left out" not in whole.out
    assert not re.search(r"recall / % +100\.0", whole.out)
    write_table(tmp_path / "foreign.csv", truth.select(truth.frame < 40))
    foreign = json.loads(command("evaluate", tmp_path / "foreign.csv", tmp_path / "truth.csv", "--json").out)
    assert foreign["2d_all"]["TP"] + foreign["2d_all"]["FN"] > 200


def test_evaluate_of_a_region_counts_nothing_beyond_it_as_missed(command, tmp_path):
    truth = rows()
    write_table(tmp_path / "truth.csv", truth)
    inside = (truth.y_nm >= 1000) & (truth.y_nm < 4000) & (truth.x_nm >= 2000) & (truth.x_nm < 5000)
    settings = {"frames": [0, 300], "roi_px": [10, 20, 30, 30]}
    write_table(tmp_path / "part.parquet", truth.select(inside).with_provenance(settings=settings))
    answer = command("evaluate", tmp_path / "part.parquet", tmp_path / "truth.csv")
    gone = int((~inside).sum())
    assert f"localized were frames 0 to 299; rows 10 to 39, columns 20 to 49; {gone} true emitters elsewhere" in answer.out
    assert re.search(r"recall / % +100\.0", answer.out)
    values = json.loads(command("evaluate", tmp_path / "part.parquet", tmp_path / "truth.csv", "--json").out)
    assert values["localized"] == {"frames": [0, 300], "roi_px": [10, 20, 30, 30], "true_emitters_left_out": gone}
    border = (truth.y_nm > 1450) & (truth.y_nm < 3550) & (truth.x_nm > 2450) & (truth.x_nm < 4550)
    assert values["2d_all"]["TP"] == values["2d_all"]["n_gt_in_border"] == border.sum() > 0
    whole = json.loads(command("evaluate", tmp_path / "part.parquet", tmp_path / "truth.csv", "--json", "--whole").out)
    assert whole["2d_all"]["FN"] == gone
    assert "localized" not in whole


# -------------------------------------------------------------------------------------------------------------- render and report


def test_render(command, tmp_path):
    write_table(tmp_path / "t.parquet", rows())
    answer = command("render", tmp_path / "t.parquet", "-o", tmp_path / "p.tif", "--mode", "histogram", "--pixel-size-nm", 20)
    assert answer.code == 0
    assert "300 x 300 pixels of 20 nm" in answer.out
    pixels = tifffile.imread(tmp_path / "p.tif")
    assert pixels.dtype == np.float32
    assert pixels.sum() == 300
    answer = command("render", tmp_path / "t.parquet", "-o", tmp_path / "p.png")
    assert "no columns sigma_x_nm" in answer.out  # drawn with a standard width, and said
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    answer = command("render", tmp_path / "t.parquet", "-o", tmp_path / "z.png", "--colour", "z")
    assert answer.code == 2
    assert "z_nm" in answer.err


def test_render_a_table_that_does_not_know_its_field(command, tmp_path):
    write_table(tmp_path / "t.csv", rows())
    assert command("render", tmp_path / "t.csv", "-o", tmp_path / "p.tif", "--mode", "histogram").code == 0
    assert tifffile.imread(tmp_path / "p.tif").sum() == 300


def test_report_again_from_the_table(command, place, tmp_path):
    out = tmp_path / "t.parquet"
    command("localize", place.movie, "-o", out, "--model", place.model, "--no-picture", "--no-report")
    answer = command("report", out)
    assert answer.code == 0
    with_movie = (tmp_path / "t.html").read_text()
    assert "chi2 per pixel" in with_movie
    assert "note:" not in answer.out
    answer = command("report", out, tmp_path / "gone.tif", "-o", tmp_path / "no.html")
    assert answer.code == 0
    assert "note: The movie" in answer.out
    assert "is not there" in answer.out
    without = (tmp_path / "no.html").read_text()
    assert len(without) < len(with_movie)


# ------------------------------------------------------------------------------------------------------------- simulate and train


def test_simulate(command, place, tmp_path):
    arguments = ("simulate", place.document, "--frames", 30, "--size", "20x32", "--seed", 5, "-o")
    answer = command(*arguments, tmp_path / "a.tif")
    assert answer.code == 0
    assert "30 frames of 20 x 32 px" in answer.out
    assert command(*arguments, tmp_path / "b.tif", "--truth", tmp_path / "b.csv", "-q").out == ""
    a, b = tifffile.imread(tmp_path / "a.tif"), tifffile.imread(tmp_path / "b.tif")
    assert a.shape == (30, 20, 32)
    assert a.dtype == np.uint16
    assert (a == b).all()
    truth, text = read_table(tmp_path / "a.truth.parquet"), read_table(tmp_path / "b.csv")
    np.testing.assert_allclose(truth.x_nm, text.x_nm, rtol=1e-6)
    assert truth.x_nm.max() < 3200
    assert truth.y_nm.max() < 2000


def test_train_says_how_good_the_model_is(command, place, tmp_path):
    document = tmp_path / "short.toml"
    document.write_text(DOCUMENT.replace("steps = 80", "steps = 4"))
    answer = command("train", document, "-o", tmp_path / "m.safetensors", "--start-from", place.model)
    assert answer.code == 0
    assert re.search(r"4 steps, .*Jaccard [\d.]+ %, RMSE [\d.]+ nm", answer.out)
    assert {path.name for path in tmp_path.iterdir()} == {"short.toml", "m.safetensors"}


# ---------------------------------------------------------------------------------------------------------- models, doctor, demo


def test_models(command, place, monkeypatch):
    monkeypatch.setattr(model_file, "shipped_models", lambda: {"tiny": place.model})
    answer = command("models")
    said = " ".join(answer.out.split())
    for words in ("tiny", "decode tiny", "MB", "80", "Jaccard"):
        assert words in said
    assert re.search(r"\d+ of 100 right", said)
    assert re.search(r"\d+ nm off sideways", said)
    monkeypatch.setattr(model_file, "shipped_models", dict)
    assert "denseloc train" in command("models").out


def test_doctor(command, place, monkeypatch):
    monkeypatch.setattr(examination, "shipped_models", lambda: {"general-2d": place.model})
    monkeypatch.setattr(examination, "SPEED_S", 0.05)
    monkeypatch.setattr(examination.examine, "__defaults__", (0.05,))
    answer = command("doctor")
    assert answer.code == 0
    for words in ("Python", "processors", "GB free", "torch", "frames/s of 64 x 64 px"):
        assert words in answer.out


def test_doctor_gives_the_line_that_brings_cuda(monkeypatch):
    if examination.torch.cuda.is_available() or examination.torch.version.cuda is not None:
        pytest.skip("this torch knows CUDA")
    monkeypatch.setattr(examination, "shipped_models", dict)
    monkeypatch.setattr(examination, "nvidia_card", lambda: True)
    _, fixes = examination.examine(0.0)
    assert any("pip install --force-reinstall torch --index-url" in fix for fix in fixes)
    assert any("general-2d is not there" in fix for fix in fixes)


def test_demo(command, place, tmp_path, monkeypatch):
    data = tmp_path / "package"
    data.mkdir()
    (data / "demo.tif").write_bytes(place.movie.read_bytes())
    write_table(data / "demo.truth.csv", read_table(place.truth))
    monkeypatch.setattr(demonstration, "source", lambda: data)
    monkeypatch.setattr(demonstration, "MODEL", place.model)
    answer = command("demo", "--out", tmp_path / "made" / "here")
    assert answer.code == 0, answer
    assert {path.name for path in (tmp_path / "made" / "here").iterdir()} == {"table.parquet", "picture.png", "report.html"}
    assert re.search(r"against the truth: Jaccard [\d.]+ %, RMSE [\d.]+ nm", answer.out)


def test_help_loses_no_name_in_brackets(command):
    """Brackets are markup where they are not escaped: the section that the help names would vanish."""
    assert "with a section [design]" in command("design", "--help").out
