"""What `inspect` says of simulated movies with known camera and conditions.

    python benchmarks/accuracy/movie_inspection.py                    20 settings, 200 frames of 64 x 64 px each
    python benchmarks/accuracy/movie_inspection.py --settings 4
    python benchmarks/accuracy/movie_inspection.py --real ../shared   and what it says of real movies, beside what is known of them

Half of the cameras are EMCCD, half sCMOS; every other offset is 100 counts, the rest is drawn. Each movie is inspected alone, with a
dark series, and with dark and bright series (100 frames each). Bounds: gain within 5 %, offset within 1 count, background within 5 %,
width within 3 %, density within 15 % below 1 per um^2. Gain is counts per photon where excess noise is told from gain, as it must be. The
true offset is the level of a dark frame: the half count that rounding down takes and the clock-induced charge are in it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from denseloc.calibrate.conditions import Estimate
from denseloc.data import Movie, movie_from_array
from denseloc.errors import DenselocError
from denseloc.experiment import Experiment
from denseloc.formats import open_movie
from denseloc.formats.camera_tags import camera_tags
from denseloc.verbs.inspection import Inspection, inspect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

FRAMES, SIDE, SERIES = 200, 64, 100
BOUNDS = {"gain": 0.05, "offset": 1.0, "background": 0.05, "width": 0.03, "density": 0.15}
WAYS = ("alone", "dark", "dark and bright")


def setting(rng: np.random.Generator, i: int) -> dict[str, Any]:
    """Draw the document of one movie."""
    offset = 100.0 if i % 4 < 2 else float(rng.uniform(50, 500))
    if i % 2:
        camera = {"kind": "emccd", "em_gain": float(rng.uniform(100, 400)), "electrons_per_count": float(rng.uniform(8, 45))}
        camera |= {"read_noise_electrons": float(rng.uniform(20, 90))}
    else:
        camera = {
            "kind": "scmos",
            "electrons_per_count": float(rng.uniform(0.24, 2.2)),
            "read_noise_electrons": float(rng.uniform(0.7, 2.5)),
        }
    mean = float(np.exp(rng.uniform(np.log(600), np.log(5000))))
    return {
        "pixel_size_nm": float(rng.uniform(90, 130)),
        "psf": {"kind": "gaussian", "width_nm": float(rng.uniform(120, 170)), "roi_px": 15},
        "camera": {**camera, "offset_counts": offset},
        "specimen": {
            "density_per_um2": float(np.exp(rng.uniform(np.log(0.05), np.log(2.5)))),
            "z_nm": [0.0, 0.0],
            "blinking": {"kind": "exponential", "lifetime_frames": float(rng.uniform(0.7, 6))},
            "photons": {"kind": "gamma", "mean": mean, "sd": 0.5 * mean},
            "background": {"kind": "uniform", "photons": float(np.exp(rng.uniform(np.log(4), np.log(100))))},
        },
    }


def counts_of(document: Experiment, generator: torch.Generator) -> tuple[list[Movie], dict[str, float]]:
    """Simulate the movie, a dark series and two bright ones; give them with the truth."""
    microscope, specimen = document.build_microscope((SIDE, SIDE)), document.build_specimen((SIDE, SIDE))
    emitters, background = specimen.draw(FRAMES, generator), specimen.draw_background(1, generator)
    with torch.no_grad():
        movie = microscope.sample(emitters, background.expand(FRAMES, -1, -1, -1), generator)[:, 0]
        levels = [microscope.camera.sample(torch.full((SERIES, SIDE, SIDE), photons), generator) for photons in (0.0, 50.0, 200.0)]
    side_nm = SIDE * document.pixel_size_nm[0]
    inside = (emitters.x_nm >= 0) & (emitters.x_nm < side_nm) & (emitters.y_nm >= 0) & (emitters.y_nm < side_nm)
    camera = document.camera
    if camera.kind == "emccd":  # it rounds down, and multiplies charge that comes without light
        dark = camera.spurious_electrons * camera.em_gain / camera.electrons_per_count - 0.5
    else:
        dark = 0.0
    truth = {
        "gain": float(torch.as_tensor(microscope.camera.counts_per_photon)),
        "offset": camera.offset_counts + dark,
        "background": float(background.mean()),
        "width": document.psf.width_nm,
        "density": int(inside.sum()) / FRAMES / (side_nm * 1e-3) ** 2,
        "lifetime": document.specimen.blinking.lifetime_frames,
    }
    whole = [movie_from_array(one.numpy().round().astype(np.uint16)) for one in (movie, *levels)]
    return whole, truth


def compare(found: Inspection, truth: dict[str, float]) -> dict[str, dict[str, float | bool]]:
    """Give value, truth, error in the unit of the bound, and whether the interval holds the truth."""
    conditions = found.conditions
    entries: dict[str, Estimate] = {
        "gain": conditions.counts_per_photon,
        "offset": conditions.offset_counts,
        "background": conditions.background,
        "width": conditions.width_nm,
        "density": conditions.density_per_um2,
    }
    rows: dict[str, dict[str, float | bool]] = {}
    for name, entry in entries.items():
        off = entry.value - truth[name] if name == "offset" else entry.value / truth[name] - 1
        held = entry.low <= truth[name] <= entry.high
        rows[name] = {
            "value": float(entry.value),
            "low": float(entry.low),
            "high": float(entry.high),
            "truth": float(truth[name]),
            "error": float(off),
            "within": bool(abs(off) <= BOUNDS[name]),
            "interval_holds": bool(held),
        }
    for fact in found.facts:
        if fact.name == "lifetime of the on-state":
            off, held = fact.value / truth["lifetime"] - 1, fact.low <= truth["lifetime"] <= fact.high
            rows["lifetime"] = {"value": fact.value, "truth": truth["lifetime"], "error": float(off), "interval_holds": bool(held)}
    rows["excess"] = {"value": conditions.excess.value, "measured": conditions.excess.source == "measured"}
    return rows


def counted(records: list[dict[str, Any]], way: str) -> list[tuple[str, str]]:
    """Count, for each quantity, how often the bound and the interval hold."""
    rows = []
    for name in BOUNDS:
        of = [r["ways"][way][name] for r in records if name != "density" or r["truth"]["density"] < 1]
        good, held = sum(bool(one["within"]) for one in of), sum(bool(one["interval_holds"]) for one in of)
        worst, middle = max(abs(one["error"]) for one in of), float(np.median([abs(one["error"]) for one in of]))
        unit = ("counts", 1) if name == "offset" else ("%", 100)
        text = f"{good} of {len(of)} within {BOUNDS[name] * unit[1]:g} {unit[0]}; median {middle * unit[1]:.2g}, worst {worst * unit[1]:.3g}"
        rows.append((f"{name}, movie {way if way == 'alone' else 'with ' + way}", f"{text}; interval holds the truth in {held}"))
    return rows


REAL: dict[str, tuple[str, float, str]] = {
    "tubulins": (
        "3denseSTORM/real_3d_astigmatism/tubulins.tif",
        65,
        "real; its authors: offset 99 counts, photons = 0.6 (counts - offset), no multiplication; 1 to 4 emitters per um^2, "
        "background 25 to 30 photons in their scale; astigmatic",
    ),
    "locan": ("Locan/images.tif", 133, "real, five frames; sparse (3 to 4 spots a frame), offset about 500 counts"),
    "cell": (
        "storm-analysis/test_bg_sub.dax",
        160,
        "real, five frames; typical of that laboratory: offset 100, about 3 counts per electron",
    ),
    "bundles": (
        "Deep-STORM/testStack_SimulatedMicrotubules.tif",
        100,
        "simulated; offset about 100, about 1 count per photon; 5.5 emitters per um^2, on bundles",
    ),
    "random": (
        "Deep-STORM/ArtificialDataset_demo1.tif",
        100,
        "simulated, 20 frames; 6.1 emitters per um^2, width 105 to 115 nm, 2000 to 2500 photons, background 50 photons",
    ),
    "sif": ("simple-STORM/testsif.sif", 100, "one frame of a DU897_BV; its pixel size is not known, 100 nm is said to get so far"),
}
"""Real (and two foreign simulated) movies: file, pixel size in nm, and what those who made or looked at them know."""


def inspect_real(shared: Path) -> dict[str, Any]:
    """Say of each movie what its file proposes, what the counts show, and what is known; or why it was refused."""
    told: dict[str, Any] = {}
    for name, (file, pixel_size_nm, known) in REAL.items():
        path = shared / "data" / file
        if not path.exists():
            continue
        proposed = [str(proposal) for proposal in camera_tags(open_movie(path))]
        try:
            found = inspect(path, pixel_size_nm=pixel_size_nm)
        except DenselocError as error:
            told[name] = {"known": known, "proposed": proposed, "refused": str(error).replace(str(path), path.name)}
            continue
        told[name] = {
            "known": known,
            "proposed": proposed,
            "facts": {fact.name: str(fact) for fact in found.facts},
            "contradictions": list(found.contradictions),
            "notes": list(found.notes),
        }
        print(f"{name}: {known}", *(f"  {line}" for line in found.lines()), sep="\n", flush=True)
    return told


def real_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Sum up each movie in a row; what is known of it stands in the results."""
    names = ("camera offset", "camera gain", "background", "PSF width", "density")
    rows = []
    for name, entry in told.items():
        shown = (
            "refused: " + entry["refused"]
            if "refused" in entry
            else "; ".join(f"{n} {entry['facts'][n].split(';')[0]}" for n in names)
        )
        rows.append((f"inspection of {name}", shown))
    return rows


def main() -> None:
    """Run and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, metavar="SHARED", help="folder with data/, for the real movies")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng, generator = np.random.default_rng(options.seed), torch.Generator().manual_seed(options.seed)
    records: list[dict[str, Any]] = []
    for i in range(options.settings):
        document = Experiment.from_json(setting(rng, i))
        (movie, dark, *bright), truth = counts_of(document, generator)
        ways = {}
        for way, first, others in zip(WAYS, (None, dark, dark), ([], [], bright), strict=True):
            ways[way] = compare(inspect(movie, pixel_size_nm=document.pixel_size_nm, dark=first, bright=others), truth)
        records.append({"camera": document.camera.kind, "truth": truth, "ways": ways})
        told = {k: round(float(v["error"]), 3) for k, v in ways["alone"].items() if "error" in v}
        print(i, document.camera.kind, f"density {truth['density']:.2f}", told, ways["alone"]["excess"], flush=True)
    summary = [row for way in WAYS for row in counted(records, way)] if records else []
    right = sum(r["ways"]["alone"]["excess"]["value"] == (2.0 if r["camera"] == "emccd" else 1.0) for r in records)
    sure = sum(bool(r["ways"]["alone"]["excess"]["measured"]) for r in records)
    wrong = sum(
        bool(r["ways"]["alone"]["excess"]["measured"])
        and r["ways"]["alone"]["excess"]["value"] != (2.0 if r["camera"] == "emccd" else 1.0)
        for r in records
    )
    summary.append(
        ("excess noise, movie alone", f"right in {right} of {len(records)}; said to be measured in {sure}, of these wrong {wrong}")
    )
    of = [r["ways"]["alone"]["lifetime"] for r in records if "lifetime" in r["ways"]["alone"]]
    if of:
        middle = 100 * float(np.median([abs(one["error"]) for one in of]))
        summary.append(
            (
                "lifetime",
                f"median error {middle:.2g} %; interval holds the truth in {sum(bool(one['interval_holds']) for one in of)} of {len(of)}",
            )
        )
    told = inspect_real(options.real) if options.real else {}
    summary += real_rows(told)
    for what, result in summary:
        print(f"{what}: {result}")
    keep("movie_inspection", seed=options.seed, results=records, summary=summary, file=options.out, real=told)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
