"""Does `check` notice a model that does not suit? 40 pairs of model and movie: 20 that match, 20 with one thing wrong.

Three models: a small one, trained for one microscope under narrow conditions, and the two shipped ones. A matching movie is drawn from the
model's own document, with conditions drawn anew within its ranges. A wrong one has one thing changed that puts it outside of what the model was
trained on. Thresholds were set on the pairs of `TUNED_ON`; those of `SEED` are reported.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from claims import Claim, Setting, figure_file, record, trained

from denseloc.camera import Camera
from denseloc.data import Movie
from denseloc.data.movie import movie_from_array
from denseloc.experiment import Experiment
from denseloc.model_file import Model, find_model
from denseloc.preparation import parse_camera
from denseloc.verbs import check

TUNED_ON, SEED = 1, 2
MINUTES = 4.0
FRAMES, SIDE_PX = 240, 64
OUTSIDE = 1.5  # a level that is to be wrong lies beyond its range by this factor at least
LEAST_SIGNAL = 6.0  # photons of a molecule over the noise beneath it, below which there is nothing to be seen

STRUCTURE = {"kind": "filaments", "radius_nm": 12.0, "thickness_nm": 6.0, "fraction": 0.5}
SMALL: dict[str, dict[str, Any]] = {
    "plane": {
        "pixel_size_nm": 110.0,
        "psf": {"kind": "gaussian", "width_nm": 140.0},
        "camera": {
            "kind": "scmos",
            "offset_counts": 100.0,
            "electrons_per_count": 0.45,
            "read_noise_electrons": 1.6,
            "quantum_efficiency": 0.8,
        },
        "specimen": {
            "density_per_um2": [0.1, 1.0],
            "z_nm": [0.0, 0.0],
            "photons": {"kind": "flux", "photons": [800.0, 1600.0], "relative": [0.5, 1.5]},
            "background": {"kind": "slowly_varying", "photons": [5.0, 15.0], "length_px": 12.0, "amplitude": 0.1},
            "structure": STRUCTURE,
            "blinking": {"kind": "exponential", "lifetime_frames": 2.5},
        },
        "localizer": {"kind": "decode", "preset": "tiny"},
        "training": {"frames": 4, "seed": 1},
    },
}


@dataclass(frozen=True)
class Pair:
    """A model and a movie.

    Args:
        model: its name.
        wrong: what does not match; empty for a matching pair.
        document: of the movie, plain values.
        seed: of the movie.
        camera: that the check is told.
        told: what the movie's file says besides.
    """

    model: str
    wrong: str
    document: dict[str, Any]
    seed: int
    camera: Camera | None = None
    told: dict[str, Any] = field(default_factory=dict)

    def movie(self) -> Movie:
        """Draw the movie; its file does not say its pixel size unless ``told`` does."""
        document = Experiment.from_json(self.document)
        generator = torch.Generator().manual_seed(self.seed)
        specimen, microscope = document.build_specimen((SIDE_PX, SIDE_PX)), document.build_microscope((SIDE_PX, SIDE_PX))
        with torch.no_grad():
            emitters, background = specimen.draw(FRAMES, generator), specimen.draw_background(1, generator)
            counts = microscope.sample(emitters, background.expand(FRAMES, -1, -1, -1), generator)
        return movie_from_array(
            counts.round().clamp(0, 65535).numpy().astype(np.uint16), f"{self.model} {self.wrong or 'matching'}", **self.told
        )


def models(setting: Setting) -> dict[str, Model]:
    """Train the small models and load the shipped ones."""
    small = {name: trained(f"suitability_{name}", Experiment.from_json(values), MINUTES, setting) for name, values in SMALL.items()}
    return {**small, "astigmatic-demo": find_model("astigmatic-demo"), "general-2d": find_model("general-2d")}


class Conditions:
    """Draws the conditions of movies within the ranges of a model's document.

    Args:
        name: of the model.
        model: the model.
        rng: source of randomness.
    """

    def __init__(self, name: str, model: Model, rng: np.random.Generator) -> None:
        self.name, self.model, self.rng = name, model, rng

    def pair(self, wrong: str, **factors: float) -> Pair:
        """Draw one movie; levels are multiplied by the factors, and lie in the upper half of their range where a factor is to leave it."""
        while True:
            document, camera, told = self._document(wrong, factors), None, {}
            if self.name == "general-2d":
                told = {"pixel_size_nm": (100.0, 100.0)}
                if wrong == "gain":
                    camera = parse_camera("offset=100,electrons_per_count=0.92,read_noise=1.6")
            if wrong or self._visible(document):
                return Pair(self.name, wrong, document, int(self.rng.integers(1 << 30)), camera, told)

    def _document(self, wrong: str, factors: dict[str, float]) -> dict[str, Any]:
        values = self.model.experiment.to_json()
        specimen = values["specimen"]
        law = specimen["photons"]
        level = self._between(law.get("photons") or (law["low"], law["high"]), factors.get("photons"))
        specimen["photons"] = {"kind": "flux", "photons": level, "relative": law.get("relative", [0.5, 1.5])}
        specimen["background"]["photons"] = self._between(specimen["background"]["photons"], factors.get("background"))
        specimen["density_per_um2"] = self._between(specimen["density_per_um2"], factors.get("density"), top=2.0)
        if self.name == "general-2d":
            values["camera"] = SMALL["plane"]["camera"] | {"quantum_efficiency": 1.0}
            values["psf"]["width_nm"] *= float(np.exp(self.rng.uniform(math.log(0.9), math.log(1.8))))
        return change(values, wrong)

    def _between(self, limits: Any, factor: float | None, top: float = math.inf) -> float:
        low, high = limits if isinstance(limits, (list, tuple)) else (limits, limits)
        low, high = math.log(low), math.log(min(high, top) if factor is None else high)
        start = low if factor is None else max((low + high) / 2, high - math.log(factor / OUTSIDE))
        return float(np.exp(self.rng.uniform(start, high))) * (factor or 1.0)

    def _visible(self, document: dict[str, Any]) -> bool:
        """Whether molecules stand out of the noise."""
        experiment = Experiment.from_json(document)
        camera = experiment.build_camera()
        light = float(camera.excess) * document["specimen"]["background"]["photons"] + float(camera.noise_variance((1, 1)))
        width = experiment.width_px() * (1.5 if experiment.has_depth else 1.0)
        return bool(document["specimen"]["photons"]["photons"] > LEAST_SIGNAL * math.sqrt(4 * math.pi * light) * width)


def change(values: dict[str, Any], wrong: str) -> dict[str, Any]:
    """Change the microscope of a movie."""
    psf, camera = values["psf"], values["camera"]
    if wrong == "PSF 20 % wider":
        psf["width_nm"] *= 1.2
    elif wrong == "PSF 20 % narrower":
        psf["width_nm"] /= 1.2
    elif wrong == "astigmatism":
        psf["focus_a_nm"], psf["focus_b_nm"] = 1.5 * psf["focus_a_nm"], 1.5 * psf["focus_b_nm"]
    elif wrong == "elliptical PSF":
        values["psf"] = {
            "kind": "astigmatic",
            "width_nm": psf["width_nm"],
            "width_ratio": 1.3,
            "focus_a_nm": 0.0,
            "focus_b_nm": 0.0,
            "depth_nm": 400.0,
        }
    elif wrong == "pixel size":  # the file does not say it, or says it wrongly
        y, x = values["pixel_size_nm"]
        values["pixel_size_nm"] = [1.3 * y, 1.3 * x]
    elif wrong == "gain" and camera["kind"] != "various":
        camera["electrons_per_count"] /= 2.0
    return values


WRONG: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("plane", "PSF 20 % wider", {}),
    ("plane", "elliptical PSF", {}),
    ("astigmatic-demo", "PSF 20 % wider", {}),
    ("astigmatic-demo", "PSF 20 % narrower", {}),
    ("astigmatic-demo", "astigmatism", {}),
    ("general-2d", "elliptical PSF", {}),
    ("plane", "photons", {"photons": 3.0}),
    ("astigmatic-demo", "photons", {"photons": 3.0}),
    ("general-2d", "photons", {"photons": 3.0}),
    ("plane", "background", {"background": 5.0}),
    ("astigmatic-demo", "background", {"background": 5.0}),
    ("general-2d", "background", {"background": 5.0}),
    ("plane", "pixel size", {}),
    ("astigmatic-demo", "pixel size", {}),
    ("plane", "density", {"density": 10.0}),
    ("astigmatic-demo", "density", {"density": 10.0}),
    ("general-2d", "density", {"density": 10.0}),
    ("plane", "gain", {}),
    ("astigmatic-demo", "gain", {}),
    ("general-2d", "gain", {}),
)
MATCHING = {"plane": 7, "astigmatic-demo": 7, "general-2d": 6}


def pairs(known: dict[str, Model], seed: int) -> Iterator[Pair]:
    """Give 20 matching pairs and 20 wrong ones."""
    rng = np.random.default_rng(seed)
    drawn = {name: Conditions(name, model, rng) for name, model in known.items()}
    for name, n in MATCHING.items():
        yield from (drawn[name].pair("") for _ in range(n))
    for name, wrong, factors in WRONG:
        yield drawn[name].pair(wrong, **factors)


def run(setting: Setting) -> None:
    """Check all pairs and count."""
    known = models(setting)
    rows = []
    for pair in pairs(known, SEED):
        began = time.process_time()
        found = check(known[pair.model], pair.movie(), camera=pair.camera, device="cpu")
        seconds = time.process_time() - began
        first = found.suitability.findings[0].text if found.suitability.findings else ""
        rows.append(
            {
                "model": pair.model,
                "wrong": pair.wrong,
                "verdict": found.verdict,
                "topics": sorted(found.suitability.topics),
                "first": first,
                "seconds": round(seconds, 1),
            }
        )
        print(f"  {pair.model:16} {pair.wrong or 'matching':18} {found.verdict:5} {seconds:.1f} s  {first[:110]}", flush=True)
    report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Keep the rows, draw them, say what they mean."""
    noticed = sum(row["verdict"] != "pass" for row in rows if row["wrong"])
    alarms = sum(row["verdict"] != "pass" for row in rows if not row["wrong"])
    wrong, right = sum(bool(row["wrong"]) for row in rows), sum(not row["wrong"] for row in rows)
    holds = "yes" if noticed >= 0.95 * wrong and alarms <= 0.05 * right else "no"
    missed = "; ".join(f"{row['model']}, {row['wrong']}" for row in rows if row["wrong"] and row["verdict"] == "pass")
    draw(rows)
    claim = Claim(
        "denseloc",
        "`denseloc check` notices a model that does not suit the movie",
        f"{wrong} simulated movies with one thing wrong, {right} matching; {FRAMES} frames of {SIDE_PX} px; a small model and the two shipped ones",
        f"{noticed} of {wrong} wrong ones warned or failed, {alarms} of {right} matching ones; "
        f"{np.median([row['seconds'] for row in rows]):.1f} s each at the median, one core",
        holds,  # type: ignore[arg-type]
        f"not noticed: {missed}" if missed else "thresholds set on other movies",
    )
    record(
        "suitability",
        "Does the model suit the movie?",
        [claim],
        rows,
        {"suitability": "Verdicts by what was wrong; the first row holds the matching pairs."},
        seed=SEED,
    )


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the verdicts by what was wrong."""
    kinds = list(dict.fromkeys(row["wrong"] for row in rows))
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    left = np.zeros(len(kinds))
    for verdict, colour in (("fail", "#c0392b"), ("warn", "#e59866"), ("pass", "#7fb3d5")):
        count = np.array([sum(row["wrong"] == kind and row["verdict"] == verdict for row in rows) for kind in kinds])
        axis.barh([kind or "matching" for kind in kinds], count, left=left, color=colour, label=verdict)
        left += count
    axis.invert_yaxis()
    axis.set(xlabel="pairs")
    axis.set_xticks(range(0, 21, 5))
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(figure_file("suitability"))
    plt.close(figure)
