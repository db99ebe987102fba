"""Refining a table: nearer to the truth, the same however it is cut, and only with the movie that it was made from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from denseloc.camera import Camera, SCMOSSettings
from denseloc.data import Emitters, Grid, Localizations, Provenance
from denseloc.errors import Interrupted, TableError
from denseloc.fit.temporal import FAULTS
from denseloc.formats import read_table
from denseloc.formats.psf_files import write_psf
from denseloc.microscope import Microscope
from denseloc.optics import GaussianSettings
from denseloc.pipeline import localize
from denseloc.verbs import refine
from denseloc.verbs.refinement_work import HALO, with_halo

PIXEL = 100.0
SHAPE = (40, 44)
FRAMES = 24
PSF = GaussianSettings(width_nm=130.0, roi_px=15)
SIGMA = 25.0


def camera() -> Camera:
    return SCMOSSettings(offset_counts=100, electrons_per_count=0.5, read_noise_electrons=1.0).build()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Localizations, Localizations]:
    """Give a movie of molecules that stay on for three frames, its truth, and a table that is 25 nm off."""
    generator = torch.Generator().manual_seed(4)
    n = 96
    first = torch.randint(0, FRAMES - 2, (n,), generator=generator)
    place = 300 + torch.rand(n, 2, generator=generator) * torch.tensor([(SHAPE[1] - 6) * PIXEL, (SHAPE[0] - 6) * PIXEL])
    frame = (first[:, None] + torch.arange(3)).flatten()
    x, y = (place[:, k].repeat_interleave(3) for k in (0, 1))
    emitters = Emitters.of(frame, x, y, torch.full((3 * n,), 1500.0))
    microscope = Microscope(PSF.build((PIXEL, PIXEL)), camera(), Grid(SHAPE, (PIXEL, PIXEL)))
    with torch.no_grad():
        counts = microscope.sample(emitters, torch.full((FRAMES, 1, *SHAPE), 12.0), generator)
    movie = tmp_path_factory.mktemp("refine") / "movie.tif"
    tifffile.imwrite(movie, counts[:, 0].round().clamp(0, 65535).numpy().astype(np.uint16))
    off = SIGMA * torch.randn(3 * n, 2, generator=generator)
    columns = {
        "frame": frame.numpy(),
        "x_nm": (x + off[:, 0]).numpy(),
        "y_nm": (y + off[:, 1]).numpy(),
        "photons": np.full(3 * n, 1200.0),
        "background": np.full(3 * n, 10.0),
        "probability": np.full(3 * n, 0.9),
        "sigma_x_nm": np.full(3 * n, SIGMA),
        "sigma_y_nm": np.full(3 * n, SIGMA),
    }
    told = Provenance(pixel_size_nm=(PIXEL, PIXEL), shape_px=SHAPE, n_frames=FRAMES)
    truth = Localizations({"frame": frame.numpy(), "x_nm": x.numpy(), "y_nm": y.numpy()})
    return movie, truth, Localizations(columns, told)


def run(scene: tuple[Path, Localizations, Localizations], out: Path, **options: Any) -> Localizations:
    made = refine(scene[2], scene[0], out, psf=PSF, camera=camera(), **options)
    assert made.rows == len(read_table(made.table))
    return read_table(made.table)


def error(table: Localizations, truth: Localizations) -> float:
    """Median distance in nm of each true place from the nearest row of its frame."""
    return float(
        np.median(
            [
                np.hypot(table.x_nm[mine] - x, table.y_nm[mine] - y).min()
                for f, x, y in zip(truth.frame, truth.x_nm, truth.y_nm, strict=True)
                if (mine := table.frame == f).any()
            ]
        )
    )


def test_each_source_of_knowledge_brings_positions_nearer(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    truth = scene[1]
    alone = run(scene, tmp_path / "a.parquet", prior=False, share_positions=False)
    known = run(scene, tmp_path / "b.parquet", share_positions=False)
    shared = run(scene, tmp_path / "c.parquet")
    errors = [error(table, truth) for table in (scene[2], alone, known, shared)]
    assert errors[0] > 3 * errors[1] > 3 * errors[3]
    assert errors[2] <= 1.05 * errors[1]
    assert errors[3] < 0.75 * errors[2]  # three frames tell together
    assert np.median(shared.sigma_x_nm) < 0.7 * np.median(known.sigma_x_nm)


def test_what_it_says_of_its_precision_is_true(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    table, truth = run(scene, tmp_path / "t.parquet"), scene[1]
    pulls = []
    for f, x, y in zip(truth.frame, truth.x_nm, truth.y_nm, strict=True):
        mine = np.flatnonzero(table.frame == f)
        nearest = mine[np.hypot(table.x_nm[mine] - x, table.y_nm[mine] - y).argmin()]
        pulls += [(table.x_nm[nearest] - x) / table.sigma_x_nm[nearest], (table.y_nm[nearest] - y) / table.sigma_y_nm[nearest]]
    spread = np.subtract(*np.quantile(pulls, (0.84, 0.16))) / 2
    assert 0.8 < spread < 1.3


def test_first_values_stay_beside_the_refined_ones(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    table = run(scene, tmp_path / "t.parquet", share_positions=False)
    first = scene[2].sort()
    assert len(table) == len(first)
    assert set(np.round(table.first_x_nm, 3)) == set(np.round(first.x_nm, 3))
    np.testing.assert_allclose(table.first_photons, 1200)
    np.testing.assert_allclose(table.probability, 0.9)
    assert table.is_refined.mean() > 0.97
    assert np.abs(np.median(table.photons) / 1500 - 1) < 0.05
    kept = table.is_refined == 0
    np.testing.assert_allclose(table.x_nm[kept], table.first_x_nm[kept])


@pytest.mark.parametrize("n", [8, 5])
def test_blocks_do_not_change_the_result(scene: tuple[Path, Localizations, Localizations], tmp_path: Path, n: int) -> None:
    whole, parts = run(scene, tmp_path / "a.parquet"), run(scene, tmp_path / "b.parquet", block_frames=n)
    assert list(whole.columns) == list(parts.columns)
    for name in whole.columns:
        np.testing.assert_allclose(parts.columns[name], whole.columns[name], rtol=1e-9, err_msg=name)


def test_a_stopped_run_resumes_to_the_same_table(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    asked = iter([0, 2])
    with pytest.raises(Interrupted):
        run(scene, out, block_frames=8, stop=lambda: next(asked), add=True)
    assert not out.exists()
    resumed = run(scene, out, block_frames=8, resume=True, add=True)
    whole = run(scene, tmp_path / "u.parquet", block_frames=8, add=True)
    assert out.read_bytes()[:4] == b"PAR1"
    for name in whole.columns:
        np.testing.assert_array_equal(resumed.columns[name], whole.columns[name], err_msg=name)
    assert not out.with_name("t.parquet.parts").exists()


def test_missed_emitters_are_added_and_false_ones_removed(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    movie, truth, table = scene
    missing = table.select(np.arange(len(table)) % 6 != 0)
    ghosts = {name: values[:20].copy() for name, values in table.columns.items()}
    ghosts["x_nm"], ghosts["y_nm"] = np.full(20, 350.0), np.linspace(400, 3500, 20)
    ghosts["frame"] = np.arange(20)
    false = Localizations.concat([missing, Localizations(ghosts, table.provenance)])
    out = tmp_path / "t.parquet"
    made = refine(false, movie, out, psf=PSF, camera=camera(), add=True, remove=True)
    found = read_table(out)
    kinds = [decision.what for decision in made.decisions]
    assert kinds.count("added") > 20
    assert kinds.count("removed") + kinds.count("merged") > 10
    reached = [
        np.hypot(found.x_nm[mine] - x, found.y_nm[mine] - y).min() < 60
        for f, x, y in zip(truth.frame, truth.x_nm, truth.y_nm, strict=True)
        if (mine := found.frame == f).any()
    ]
    assert np.mean(reached) > 0.9
    rows = list(csv.DictReader(out.with_suffix(".decisions.csv").open()))
    assert len(rows) == len(made.decisions)
    assert {row["what"] for row in rows} <= {"added", "removed", "merged"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frame": lambda f: f + 10}, "the movie has 0 to 23"),
        ({"x_nm": lambda x: x + 9000}, "lie outside of the movie's 40 x 44 pixels"),
        ({"x_nm": lambda x: x * 0 + np.nan}, "nothing to refine"),
    ],
)
def test_a_table_of_another_movie_is_refused(
    scene: tuple[Path, Localizations, Localizations],
    tmp_path: Path,
    change: dict[str, Callable[[np.ndarray], np.ndarray]],
    words: str,
) -> None:
    movie, _, table = scene
    other = table.with_columns(**{name: make(table.columns[name]) for name, make in change.items()})
    with pytest.raises(TableError, match=words):
        refine(other, movie, tmp_path / "t.parquet", psf=PSF, camera=camera())
    assert not list(tmp_path.iterdir())


def test_the_table_itself_is_no_target(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    run(scene, out)
    before = out.read_bytes()
    with pytest.raises(TableError, match="is the table itself"):
        refine(out, scene[0], out, psf=PSF, camera=camera())
    assert out.read_bytes() == before


def test_a_bare_table_of_positions_is_enough(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    movie, truth, table = scene
    bare = Localizations({name: table.columns[name] for name in ("frame", "x_nm", "y_nm")})
    made = refine(bare, movie, tmp_path / "t.csv", psf=PSF, camera=camera(), pixel_size_nm=PIXEL)
    assert error(read_table(made.table), truth) < 10


@pytest.mark.parametrize("length", [1, 5, 7, 40])
def test_each_block_comes_with_the_frames_that_can_tell_of_it(length: int) -> None:
    spans = [(start, min(start + length, 83)) for start in range(0, 83, length)]

    class Blocks:
        """Blocks whose table is their one first frame, and which of them are held at once."""

        def spans(self) -> list[tuple[int, int]]:
            return spans

        def parts_beside(self, stop: object) -> Iterator[tuple[Localizations, dict[str, np.ndarray]]]:
            for start, _ in spans:
                yield Localizations({name: np.array([start]) for name in ("frame", "x_nm", "y_nm")}), {}

    found = [tuple([int(one.frame[0]) for one, _ in some] for some in (b, [h], a)) for b, h, a in with_halo(Blocks(), lambda: 0)]  # type: ignore[arg-type]
    assert [here for _, here, _ in found] == [[start] for start, _ in spans]
    for (before, _, after), (start, stop) in zip(found, spans, strict=True):
        assert before == [a for a, b in spans if a < start and b > start - HALO]
        assert after == [a for a, _ in spans if stop <= a < stop + HALO]


def test_no_photon_counts_twice_in_what_it_says_of_its_precision(
    scene: tuple[Path, Localizations, Localizations], tmp_path: Path
) -> None:
    first = run(scene, tmp_path / "a.parquet", prior=False, share_positions=False)  # sigmas of a fit to the same frames
    again = run((scene[0], scene[1], first), tmp_path / "b.parquet", share_positions=False)
    ratio = again.sigma_x_nm / first.sigma_x_nm
    assert np.quantile(ratio, 0.1) > 0.97
    assert np.quantile(ratio, 0.9) < 1.03 * np.sqrt(FAULTS)  # what fits that overlap are widened by
    assert 0.97 < np.median(again.crlb_x_nm) / np.median(first.crlb_x_nm) < 1.03


def test_the_camera_given_for_the_table_is_that_of_its_refinement(
    scene: tuple[Path, Localizations, Localizations], tmp_path: Path
) -> None:
    movie, _, table = scene
    first = localize(
        movie, tmp_path / "first.parquet", method="multi", psf=PSF, camera=camera(), pixel_size_nm=PIXEL, frames=(0, 6)
    )
    kept = refine(first.table, movie, tmp_path / "kept.parquet", psf=PSF)
    again = refine(first.table, movie, tmp_path / "again.parquet", psf=PSF, camera=camera())
    np.testing.assert_allclose(read_table(kept.table).photons, read_table(again.table).photons, rtol=1e-3)
    assert any("the camera is the one that was given" in line for line in kept.lines)
    assert "camera: given" in kept.lines
    noise = [next(line for line in one.lines if "read noise" in line) for one in (kept, again)]
    assert noise[0] == noise[1]
    told = table.provenance
    many = {"source": "given", "pixel_maps": True, "offset_counts": 100.0, "counts_per_photon": 2.0}
    bare = table.with_provenance(**{**vars(told), "settings": {"camera": many, "conditions": {"excess": 1.0}}})
    mapped = refine(bare, movie, tmp_path / "mapped.parquet", psf=PSF)
    assert "camera: measured" in mapped.lines
    assert any("give it again" in line for line in mapped.lines)


def test_notes_of_a_calibration_are_not_told_of_the_movie(scene: tuple[Path, Localizations, Localizations], tmp_path: Path) -> None:
    write_psf(tmp_path / "psf.h5", PSF, {"program": "denseloc", "notes": ["camera measured from the stack"]}, pixel_size_nm=PIXEL)
    made = refine(scene[2], scene[0], tmp_path / "t.parquet", psf=tmp_path / "psf.h5", camera=camera())
    assert made.lines[1] == f"PSF: {tmp_path / 'psf.h5'}"
    assert not any("from the stack" in line for line in made.lines)
