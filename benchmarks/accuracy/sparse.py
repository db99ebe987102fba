"""All methods on 2D movies with truth, none trained or tuned for these: marks, frames/s, and widths of tubules in pictures.

    python benchmarks/accuracy/sparse.py --data ../shared/data

Each method is told what `localize` measures of the movie, and the pixel size. Times are seconds of the processor in the localizer alone, in one
thread, the methods in turn movie by movie. Widths: the full width at half maximum across straight lone tubules of the Deep-STORM movie, in
histograms of 12.5 nm a pixel, beside that of the truth and of the picture that the authors of Deep-STORM publish with the movie.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from denseloc.camera import Camera
from denseloc.data import Frames, Localizations
from denseloc.description import parse
from denseloc.evaluate import match
from denseloc.formats import open_movie, read_table
from denseloc.localize import LOCALIZERS, CEL0Settings, InputConditions, Localizer
from denseloc.model_file import find_model
from denseloc.preparation import prepare
from denseloc.render import render
from denseloc.verbs import refine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import RESULTS, keep
from general_2d import movies

METHODS: dict[str, dict[str, Any]] = {
    "cel0": {},
    "cel0, 2 points per pixel": {"upsampling": 2},
    "l1": {"penalty": "l1"},
    "single": {},
    "multi": {},
    "general 2D model": {},
}
PIXEL_NM = (100.0, 100.0)
REFINED = "general 2D, refined"
PICTURE_NM, FIELD_NM = 12.5, 6400.0
AROUND_NM, THIN_NM, ALONE_NM = (
    300.0,
    20.0,
    60.0,
)  # a straight lone tubule: within the first, spread below the second, nothing beyond the third
PLACES = 200


def localizer_of(name: str) -> Localizer:
    """Build a method."""
    general = find_model("general-2d").localizer
    if name == "general 2D model":
        return general
    if name in ("single", "multi"):
        return parse(LOCALIZERS.get(name), {"kind": name}, name).build(general.scales)
    return CEL0Settings(**METHODS[name]).build(general.scales)


def photons_of(path: Path) -> tuple[torch.Tensor, InputConditions]:
    """Read a movie in photons, (n, 1, y, x), and what the methods are told of it."""
    movie = open_movie(path)
    ready = prepare(movie, None, PIXEL_NM, None)
    camera: Camera = ready.camera
    return camera.to_photons(torch.from_numpy(movie.read(*movie.frames).astype(np.float32))), ready.conditions


def mark(table: Localizations, truth: Localizations) -> dict[str, float]:
    """Compare with the truth, in 2D within 250 nm, without border."""
    pairs = match(table, truth, dimensions=2)
    dx, dy = (pairs.difference(name, table, truth) for name in ("x_nm", "y_nm"))
    return {
        "jaccard": len(pairs) / (len(table) + len(truth) - len(pairs)),
        "recall": len(pairs) / len(truth),
        "precision": len(pairs) / max(1, len(table)),
        "rmse_nm": float(np.sqrt(np.mean(dx**2 + dy**2))),
    }


def marked(movie: str, method: str, table: Localizations, truth: Localizations, frames_per_s: float) -> dict[str, float]:
    """Compare with the truth and print."""
    marks = mark(table, truth) | {"frames_per_s": frames_per_s}
    print(
        f"{movie:18s} {method:25s} Jaccard {marks['jaccard']:.3f}  RMSE {marks['rmse_nm']:5.1f} nm  recall {marks['recall']:.3f}  "
        f"precision {marks['precision']:.3f}  {frames_per_s:6.1f} frames/s",
        flush=True,
    )
    return marks


def refined(table: Localizations, movie: Path) -> Localizations:
    """Refine a table of some frames with a Gaussian of the width measured in the movie."""
    with tempfile.TemporaryDirectory() as folder:
        return read_table(refine(table, movie, Path(folder) / "t.parquet", pixel_size_nm=PIXEL_NM).table)


def lone_tubules(truth: Localizations, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose places on straight lone tubules: (n, 2) row and column in nm, and (n, 2) the directions across."""
    points = np.stack((truth.y_nm, truth.x_nm), 1)
    tree = cKDTree(points)
    places, across = [], []
    for index in np.random.default_rng(seed).permutation(len(points)):
        here = points[index]
        if len(places) == PLACES:
            break
        if (here < 2 * AROUND_NM).any() or (here > FIELD_NM - 2 * AROUND_NM).any():
            continue
        around = points[tree.query_ball_point(here, AROUND_NM)]
        centred = around - around.mean(0)
        spread, directions = np.linalg.eigh(centred.T @ centred / len(around))
        if spread[0] < THIN_NM**2 and np.abs(centred @ directions[:, 0]).max() < ALONE_NM:
            places.append(around.mean(0))
            across.append(directions[:, 0])
    return np.array(places), np.array(across)


def widths_nm(picture: np.ndarray, places: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Measure the full width at half maximum of the profile across each place, averaged over 400 nm of length."""
    step = 2.5
    t, along = np.arange(-250, 250 + step, step), np.arange(-200, 200 + PICTURE_NM, PICTURE_NM)
    found = []
    for place, normal in zip(places, across, strict=True):
        tangent = np.array([-normal[1], normal[0]])
        at = place[:, None, None] + normal[:, None, None] * t[None, :, None] + tangent[:, None, None] * along
        profile = map_coordinates(picture.astype(float), at / PICTURE_NM - 0.5, order=1).mean(1)
        top = int(profile.argmax())
        below = profile < profile[top] / 2
        left, right = np.flatnonzero(below[:top]), np.flatnonzero(below[top:])
        if not len(left) or not len(right):
            found.append(np.nan)
            continue
        ends = [_crossing(profile, left[-1], left[-1] + 1), _crossing(profile, top + right[0], top + right[0] - 1)]
        found.append(step * (ends[1] - ends[0]))
    return np.array(found)


def _crossing(profile: np.ndarray, low: int, high: int) -> float:
    """Give where the profile crosses half of its top between two neighbours."""
    part = (profile.max() / 2 - profile[low]) / (profile[high] - profile[low])
    return float(low + part * (high - low))


def drawn(table: Localizations) -> np.ndarray:
    """Count localizations in pixels of 12.5 nm."""
    picture: np.ndarray = render(
        table, pixel_size_nm=PICTURE_NM, mode="histogram", field_nm=(FIELD_NM, FIELD_NM), origin_nm=(0.0, 0.0)
    ).pixels
    return picture


def main() -> None:
    """Localize, compare, print and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--frames", type=int, default=None, help="only so many of each movie")
    parser.add_argument("--out", type=Path, default=RESULTS / "sparse.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    methods = {name: localizer_of(name) for name in METHODS}
    results: dict[str, Any] = {}
    for name, path, truth in movies(args.data):
        photons, told = photons_of(path)
        photons = photons[: args.frames]
        truth = truth.select(truth.frame < len(photons))
        tables: dict[str, Localizations] = {}
        results[name] = {}
        for method, localizer in methods.items():
            localizer.conditions = told
            localizer(Frames(photons[:2], PIXEL_NM))  # what is compiled at first use
            process = time.process_time()
            with torch.inference_mode():
                tables[method] = localizer(Frames(photons, PIXEL_NM))
            results[name][method] = marked(name, method, tables[method], truth, len(photons) / (time.process_time() - process))
        process = time.process_time()
        tables[REFINED] = refined(tables["general 2D model"], path)
        results[name][REFINED] = marked(name, REFINED, tables[REFINED], truth, len(photons) / (time.process_time() - process))
        if name == "Deep-STORM tubules":
            pictures = {"truth": drawn(truth)} | {method: drawn(table) for method, table in tables.items()}
            pictures["Deep-STORM, published"] = loadmat(args.data / "Deep-STORM/Recovery_SimulatedMicrotubules.mat")["Recovery"]
            places, across = lone_tubules(truth, seed=1)
            results["tubules"] = {"places": len(places)}
            for what, picture in pictures.items():
                found = widths_nm(picture, places, across)
                low, middle, high = np.nanpercentile(found, [25, 50, 75])
                results["tubules"][what] = {
                    "fwhm_nm": middle,
                    "quartiles_nm": [low, high],
                    "unmeasured": int(np.isnan(found).sum()),
                }
                print(f"FWHM {what:25s} {middle:5.1f} nm ({low:.1f} to {high:.1f}), {len(places)} places")
    keep("sparse", seed=1, results=results, summary=summary(results), file=args.out)


def summary(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Give the rows that the pages show."""
    rows = []
    for name, marks in results.items():
        if name == "tubules":
            widths = {what: found["fwhm_nm"] for what, found in marks.items() if what != "places"}
            text = "; ".join(f"{what} {width:.0f}" for what, width in widths.items())
            rows.append(("median FWHM of lone tubules in nm, Deep-STORM movie", text))
            continue
        parts = [
            f"{method}: Jaccard {marks[method]['jaccard']:.3f}, RMSE {marks[method]['rmse_nm']:.1f} nm, {marks[method]['frames_per_s']:.0f} frames/s"
            for method in ("cel0", "single", "multi", "general 2D model", REFINED)
        ]
        rows.append((f"all methods in 2D, {name}", "; ".join(parts)))
    return rows


if __name__ == "__main__":
    main()
