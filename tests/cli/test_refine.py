"""`denseloc refine` and `localize --refine`: bad tables are refused in a line, odd ones are mended or left, interrupted runs go on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from denseloc import pipeline, verbs
from denseloc.cli.analysis import Watch
from denseloc.data import Localizations, Provenance
from denseloc.errors import CalibrationError
from denseloc.formats import read_table, write_table
from denseloc.formats.psf_files import write_psf
from denseloc.optics import GaussianSettings

from .conftest import Answer, Place

BARE = ("--no-picture", "--no-report")
CAMERA = "offset=100,electrons_per_count=0.5,read_noise=1.5"
PIXEL = 100.0
SHAPE = (24, 20)
REACH_NM = 250.0  # of a PSF 1.2 px wide
PSF = GaussianSettings(width_nm=120.0, roi_px=11)


@pytest.fixture
def table(place: Place) -> Localizations:
    """The truth of the small movie, 20 nm off, as another program might give it."""
    truth = read_table(place.truth).sort()
    off = np.random.default_rng(5).normal(0, 20, (2, len(truth)))
    columns = {
        "frame": truth.frame,
        "x_nm": truth.x_nm + off[0],
        "y_nm": truth.y_nm + off[1],
        "photons": np.full(len(truth), 2000.0),
        "background": np.full(len(truth), 9.0),
        "probability": np.full(len(truth), 0.8),
        "sigma_x_nm": np.full(len(truth), 20.0),
        "sigma_y_nm": np.full(len(truth), 20.0),
    }
    return Localizations(columns, Provenance(pixel_size_nm=(PIXEL, PIXEL), shape_px=SHAPE, n_frames=40))


@pytest.fixture
def psf(tmp_path: Path) -> Path:
    write_psf(tmp_path / "psf.h5", PSF, pixel_size_nm=PIXEL)
    return tmp_path / "psf.h5"


@pytest.fixture
def refine(command: Callable[..., Answer], place: Place, psf: Path, tmp_path: Path) -> Callable[..., Answer]:
    """Write a table and refine it."""

    def run(rows: Localizations, *more: object, out: str = "out.parquet", camera: str = CAMERA) -> Answer:
        write_table(tmp_path / "in.parquet", rows)
        given = () if "--psf" in more else ("--psf", psf)
        return command(
            "refine", tmp_path / "in.parquet", place.movie, "-o", tmp_path / out, "--camera", camera, *given, *BARE, *more
        )

    return run


def mended(answer: Answer, path: Path) -> Localizations:
    """Check that a table has numbers only, and nothing that has left its window."""
    assert answer.code == 0, answer.err
    found = read_table(path)
    for name in ("x_nm", "y_nm"):
        assert np.isfinite(found.columns[name]).all(), name
        assert np.abs(found.columns[name] - found.columns[f"first_{name}"]).max() <= REACH_NM + 1e-6
    fitted = found.select(found.is_refined == 1)
    for name, values in fitted.columns.items():
        assert np.isfinite(values).all() or name.startswith("first_"), name
    assert (fitted.sigma_x_nm > 0).all()
    assert (fitted.photons > 0).all()
    return found


# ---------------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frame": lambda f: f + 1}, "count frames from 1"),
        ({"frame": lambda f: f + 500}, "the movie has 0 to 39"),
        ({"x_nm": lambda x: x / PIXEL, "y_nm": lambda y: y / PIXEL}, "in pixels or micrometres"),
        ({"x_nm": lambda x: x / 1000, "y_nm": lambda y: y / 1000}, "in pixels or micrometres"),
        ({"x_nm": lambda x: x + 5000}, "lie outside of the movie"),
        ({"y_nm": lambda y: y * np.nan}, "no rows with a position"),
    ],
)
def test_tables_of_another_movie_or_unit_are_refused(
    refine: Callable[..., Answer],
    table: Localizations,
    tmp_path: Path,
    change: dict[str, Callable[[np.ndarray], np.ndarray]],
    words: str,
) -> None:
    if "frame" in change:
        table = table.with_columns(frame=np.linspace(0, 39, len(table)).round().astype(int))  # the last frame has a row too
    answer = refine(table.with_columns(**{name: make(table.columns[name]) for name, make in change.items()}))
    refused(answer, tmp_path, words)


def refused(answer: Answer, folder: Path, words: str) -> None:
    assert answer.code == 2, answer
    assert words in answer.err
    assert len(answer.err.splitlines()) <= 2
    assert "unexpected" not in answer.err
    assert {path.name for path in folder.iterdir()} <= {"in.parquet", "psf.h5", "other.h5"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pixel-size-nm", "160"), "made with pixels of 100 x 100 nm"),
        (("--pixel-size-nm", "0"), "made with pixels of 100 x 100 nm"),
        (("--planes", "3"), "cannot be taken as frames of 3 planes"),
        (("--psf", "other.h5"), "calibrated with pixels of 65 x 65 nm"),
        (("--psf", "none.h5"), "no such file"),
    ],
)
def test_what_does_not_suit_the_movie_is_refused(
    refine: Callable[..., Answer], table: Localizations, tmp_path: Path, options: tuple[str, str], words: str
) -> None:
    write_psf(tmp_path / "other.h5", PSF, pixel_size_nm=65.0)
    name, value = options
    refused(refine(table, name, tmp_path / value if name == "--psf" else value), tmp_path, words)


def test_a_psf_of_another_pixel_size_is_refused_by_localize_too(
    command: Callable[..., Answer], place: Place, tmp_path: Path
) -> None:
    write_psf(tmp_path / "other.h5", PSF, pixel_size_nm=65.0)
    for method in ("single", "multi", "cel0"):
        rest = ("--psf", tmp_path / "other.h5", "--method", method, "--pixel-size-nm", PIXEL, "--camera", CAMERA)
        refused(
            command("localize", place.movie, "-o", tmp_path / "t.parquet", *rest), tmp_path, "calibrated with pixels of 65 x 65 nm"
        )


def test_an_offset_above_the_light_is_refused(refine: Callable[..., Answer], table: Localizations, tmp_path: Path) -> None:
    refused(refine(table, camera="offset=30000,electrons_per_count=0.5"), tmp_path, "lies above nearly all pixels")


# ------------------------------------------------------------------------------------------------------------------------- odd


NAN, ZERO = (lambda v: v * np.nan), (lambda v: v * 0)


@pytest.mark.parametrize(
    "change",
    [
        {"sigma_x_nm": NAN, "sigma_y_nm": NAN},
        {"sigma_x_nm": ZERO, "sigma_y_nm": ZERO},
        {"sigma_x_nm": lambda v: -v, "sigma_y_nm": lambda v: -v},
        {"photons": lambda v: -v, "background": lambda v: -v},
        {"photons": lambda v: v * np.inf, "background": lambda v: v * np.inf},
        {"photons": NAN, "background": NAN},
        {"probability": ZERO},
    ],
)
def test_values_that_cannot_be_are_not_believed(
    refine: Callable[..., Answer], table: Localizations, tmp_path: Path, change: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> None:
    odd = table.with_columns(**{name: make(table.columns[name]) for name, make in change.items()})
    found = mended(refine(odd), tmp_path / "out.parquet")
    assert found.is_refined.mean() > 0.9
    assert np.median(np.abs(found.x_nm - found.first_x_nm)) > 5  # not held at its first place by a sigma of 0


def test_rows_that_stand_twice_are_fitted_once_and_said(
    refine: Callable[..., Answer], table: Localizations, tmp_path: Path
) -> None:
    twice = Localizations.concat([table, table.select(np.arange(30))])
    for bare in (False, True):
        rows = Localizations({k: v for k, v in twice.columns.items() if not (bare and "sigma" in k)}, table.provenance)
        answer = refine(rows)
        found = mended(answer, tmp_path / "out.parquet")
        assert "30 rows of the table stand there twice" in answer.out + answer.err
        assert len(found) == len(table)
        assert found.is_refined.mean() > 0.9


def test_nearly_equal_rows_are_no_singular_matrix(refine: Callable[..., Answer], table: Localizations, tmp_path: Path) -> None:
    names = ("frame", "x_nm", "y_nm", "photons")
    bare = Localizations({name: table.columns[name] for name in names}, table.provenance).select(np.arange(12))
    near = bare.with_columns(x_nm=bare.x_nm + 0.01)
    for more in ((), ("--add", "--remove")):
        answer = refine(Localizations.concat([bare, near, near.with_columns(y_nm=near.y_nm + 0.01)]), *more)
        assert answer.code == 0, answer.err
        found = read_table(tmp_path / "out.parquet")
        assert np.isfinite(found.x_nm).all()
        assert np.isfinite(found.sigma_x_nm).all()


def test_rows_far_from_any_light_stay_in_their_windows(refine: Callable[..., Answer], table: Localizations, tmp_path: Path) -> None:
    lost = np.arange(len(table)) % 7 == 0
    far = table.with_columns(x_nm=np.where(lost, -150.0, table.x_nm), y_nm=np.where(lost, 2500.0, table.y_nm))
    for more in ((), ("--no-prior",)):
        answer = refine(far, *more)
        mended(answer, tmp_path / "out.parquet")
        assert f"{lost.sum()} rows lie outside of the frames" in answer.out + answer.err


def test_a_refinement_that_has_failed_says_so(refine: Callable[..., Answer], table: Localizations) -> None:
    off = np.random.default_rng(1)
    places = {"frame": table.frame, "x_nm": off.uniform(0, 2000, len(table)), "y_nm": off.uniform(0, 2400, len(table))}
    assert "localizations could be refined" in refine(Localizations(places, table.provenance)).out
    assert "localizations could be refined" not in refine(table).out


def test_one_row_is_enough(refine: Callable[..., Answer], table: Localizations, tmp_path: Path) -> None:
    assert len(mended(refine(table.select(np.arange(1))), tmp_path / "out.parquet")) == 1


def test_depths_stay_where_the_psf_tells_none(refine: Callable[..., Answer], table: Localizations, tmp_path: Path) -> None:
    z = np.linspace(-300, 300, len(table))
    deep = table.with_columns(z_nm=z, sigma_z_nm=np.full(len(table), 40.0))
    answer = refine(deep)
    found = mended(answer, tmp_path / "out.parquet")
    assert "z stays as it was" in answer.out + answer.err
    np.testing.assert_allclose(np.sort(found.z_nm), z)
    (tmp_path / "out.parquet").unlink()
    refused(refine(deep, "--add"), tmp_path, "give a 3D PSF")


def test_what_it_says_of_itself_is_its_own(refine: Callable[..., Answer], table: Localizations, tmp_path: Path) -> None:
    told = {"camera": {"source": "measured"}, "uncertainty": {"after": {}}, "assumed": ["PSF width: 5 nm", "kept: all"]}
    assert refine(Localizations(table.columns, Provenance((PIXEL, PIXEL), SHAPE, 40, settings=told))).code == 0
    settings = read_table(tmp_path / "out.parquet").provenance.settings
    assert settings["camera"]["source"] == "given"
    assert "uncertainty" not in settings
    assert "kept: all" in settings["assumed"]
    assert not any("5 nm" in line for line in settings["assumed"] if line.startswith("PSF width"))
    assert settings["refined"]["first"]["camera"] == {"source": "measured"}


def test_full_pixels_are_said_with_a_given_camera(
    command: Callable[..., Answer], place: Place, table: Localizations, psf: Path, tmp_path: Path
) -> None:
    counts = tifffile.imread(place.movie).astype(float)
    for bits in (12, 14):
        gain = 1.5 * 2**bits / counts.max()
        tifffile.imwrite(tmp_path / "full.tif", np.minimum(100 + gain * (counts - 100), 2**bits - 1).clip(0).astype(np.uint16))
        write_table(tmp_path / "in.parquet", table)
        camera = f"offset=100,electrons_per_count={0.5 / gain},read_noise=1.5"
        given = ("--camera", camera, "--psf", psf, *BARE)
        answer = command("refine", tmp_path / "in.parquet", tmp_path / "full.tif", "-o", tmp_path / "out.parquet", *given)
        assert f"some pixels are full ({2**bits - 1} counts)" in answer.out + answer.err
        found = mended(answer, tmp_path / "out.parquet")
        assert found.is_refined.mean() > 0.9
        assert 2500 < np.median(found.photons) < 4500  # 2000 to 5000 were drawn: the full pixels do not dim them


# ------------------------------------------------------------------------------------------------------------------ interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    refine: Callable[..., Answer],
    table: Localizations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    more = ("--add", "--remove", "--block-frames", 8)
    assert refine(table, *more, out="whole.parquet").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "report", lambda self, progress: progress.frames == 16 and signal.raise_signal(number))
        answer = refine(table, *more)
    assert answer.code == code
    assert len(answer.err.splitlines()) == 1
    assert "--resume" in answer.err
    assert not (tmp_path / "out.parquet").exists()
    assert refine(table, *more, "--resume", "--no-prior").code == 2  # another setting
    assert refine(table, *more, "--resume").code == 0
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "out.parquet.parts").exists()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".hdf5"])
def test_localize_and_refine_of_a_part_at_once(
    command: Callable[..., Answer], place: Place, psf: Path, tmp_path: Path, suffix: str
) -> None:
    given = ("--method", "single", "--psf", psf, "--pixel-size-nm", PIXEL, "--camera", CAMERA, *BARE)
    answer = command(
        "localize", place.movie, "-o", tmp_path / f"t{suffix}", *given, "--refine", "--frames", "10:25", "--roi", "2,3,20,16"
    )
    assert answer.code == 0, answer.err
    found = read_table(tmp_path / f"t{suffix}")
    assert len(found) > 3
    assert found.frame.min() >= 10
    assert found.frame.max() < 25
    assert found.x_nm.min() > 250
    assert not list(tmp_path.glob("*.first.*"))


def test_nothing_found_is_an_empty_table_and_no_error(
    command: Callable[..., Answer], place: Place, psf: Path, tmp_path: Path
) -> None:
    given = ("--method", "single", "--psf", psf, "--pixel-size-nm", PIXEL, "--camera", CAMERA, *BARE)
    answer = command("localize", place.movie, "-o", tmp_path / "t.parquet", *given, "--refine", "--min-photons", 1e9)
    assert answer.code == 0, answer.err
    assert len(read_table(tmp_path / "t.parquet")) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet", "psf.h5"}


def test_first_values_are_taken_up_again_only_by_the_run_that_left_them(
    command: Callable[..., Answer], place: Place, psf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--method", "single", "--psf", psf, "--pixel-size-nm", PIXEL, "--camera", CAMERA, *BARE, "--refine")

    def run(name: str, *more: object) -> Answer:
        return command("localize", place.movie, "-o", tmp_path / name, *given, *more)

    def broken(*args: object, **more: object) -> None:
        raise CalibrationError("no light")

    for name in ("bright", "all"):  # what other settings give when nothing has gone wrong
        assert run(f"{name}.parquet", *(("--min-photons", 3000) if name == "bright" else ())).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(verbs, "refine", broken)
        answer = run("t.parquet")
    assert answer.code == 2
    assert "t.parquet.first.parquet" in answer.err
    assert "--resume" in answer.err
    assert run("t.parquet", "--resume", "--min-photons", 3000).code == 0
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "bright.parquet").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(verbs, "refine", broken)
        assert run("t.parquet").code == 2
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "work_through", broken)
        answer = run("t.parquet", "--resume")  # localizes nothing again
    assert answer.code == 0, answer.err
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "all.parquet").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet", "all.parquet", "bright.parquet", "psf.h5"}


def test_a_name_that_no_table_has_is_refused_before_anything_is_localized(
    command: Callable[..., Answer], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "localize", None)
    answer = command("localize", place.movie, "-o", tmp_path / "t.xyz", "--pixel-size-nm", PIXEL, "--refine")
    refused(answer, tmp_path, "unknown table format '.xyz'")
