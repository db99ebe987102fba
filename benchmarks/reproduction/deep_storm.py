"""Deep-STORM: widths of microtubules, likeness to the truth and time, against sparse deconvolution, multi-emitter fits and DECODE."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from claims import Claim, Setting, figure_file, record, trained
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter

from denseloc.data import Frames
from denseloc.experiment import Experiment
from denseloc.localize import LOCALIZERS, Localizer
from denseloc.model_file import find_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import general_2d
import sparse

DOCUMENT = Path(__file__).with_name("deep_storm.toml")
MINUTES = 8.0
MOVIE = "Deep-STORM/testStack_SimulatedMicrotubules.tif"
PUBLISHED = "Deep-STORM, published"


def run(setting: Setting) -> None:
    """Train Deep-STORM and DECODE for the same time, run the methods without training, compare the pictures."""
    document = Experiment.from_file(DOCUMENT)
    photons, told = sparse.photons_of(setting.data / "data" / MOVIE)
    truth = next(t for name, _, t in general_2d.movies(setting.data / "data") if name == "Deep-STORM tubules")
    pictures = {"truth": sparse.drawn(truth).astype(float)}
    results: dict[str, Any] = {}
    for name, localizer in localizers(document, setting).items():
        localizer.conditions = told
        frames = Frames(photons, sparse.PIXEL_NM)
        localizer(Frames(photons[:2], sparse.PIXEL_NM))
        began = time.process_time()
        table = localizer(frames)
        seconds = time.process_time() - began
        pictures[name] = sparse.drawn(table).astype(float)
        results[name] = {**sparse.mark(table, truth), "seconds": seconds, "localizations": len(table)}
        if localizer.picture_px:
            began = time.process_time()
            _, image = localizer.with_picture(frames, None, 512)
            own = f"{name}, image"
            pictures[own] = image.cpu().numpy().astype(float)
            results[own] = {"seconds": time.process_time() - began}
        print("  ", name, results[name], flush=True)
    pictures[PUBLISHED] = loadmat(setting.data / "data/Deep-STORM/Recovery_SimulatedMicrotubules.mat")["Recovery"].astype(float)
    places, across = sparse.lone_tubules(truth, seed=1)
    for name, picture in pictures.items():
        found = sparse.widths_nm(picture, places, across)
        more = {"fwhm_nm": float(np.nanmedian(found)), "nrmse": unlikeness(picture, pictures["truth"])}
        results.setdefault(name, {}).update(more)
        print("  ", name, more, flush=True)
    draw(pictures, results)
    record(
        "deep_storm",
        "Deep-STORM on dense microtubules",
        [width_claim(results), time_claim(results)],
        {"methods": results, "places": len(places), "minutes": MINUTES},
        {"deep_storm": "A corner of the movie, 1.6 um wide: truth, and what the methods make of 361 frames."},
    )


def localizers(document: Experiment, setting: Setting) -> dict[str, Localizer]:
    """Give the methods by name."""
    decode = document.model_copy(update={"localizer": LOCALIZERS.get("decode").model_validate({"preset": "small"})})
    decode = decode.model_copy(update={"training": document.training.model_copy(update={"frames": 4, "batch_size": 12})})
    scales = find_model("general-2d").localizer.scales
    return {
        "deep_storm": trained("deep_storm", document, MINUTES, setting).localizer,
        "decode": trained("deep_storm_decode", decode, MINUTES, setting).localizer,
        "cel0": LOCALIZERS.get("cel0").model_validate({"kind": "cel0"}).build(scales),
        "multi": LOCALIZERS.get("multi").model_validate({"kind": "multi"}).build(scales),
    }


def unlikeness(picture: np.ndarray, truth: np.ndarray, blur_px: float = 1.0) -> float:
    """Give ``|a p - t| / |t|`` of pictures blurred alike, with the factor a that makes it least."""
    if picture.shape != truth.shape:
        raise ValueError(f"pictures of {picture.shape} and {truth.shape} pixels")
    p, t = (gaussian_filter(one, blur_px) for one in (picture, truth))
    factor = (p * t).sum() / (p * p).sum()
    return float(np.linalg.norm(factor * p - t) / np.linalg.norm(t))


def width_claim(results: dict[str, Any]) -> Claim:
    """Compare the widths of lone tubules."""
    text = ", ".join(f"{name} {r['fwhm_nm']:.0f} nm (NRMSE {r['nrmse']:.2f})" for name, r in results.items())
    own, sparse_one, true = (results[name]["fwhm_nm"] for name in ("deep_storm, image", "cel0", "truth"))
    return Claim(
        "Deep-STORM",
        "microtubules come out at 67 nm, 61 nm by CEL0",
        f"361 frames of its example movie, pictures of 12.5 nm pixels, networks of {MINUTES:g} core-minutes",
        text,
        "yes" if abs(own - sparse_one) < 0.25 * true else "in part",
        "the molecules of this movie lie on lines narrower than those of the paper's figure; what is compared is the difference",
    )


def time_claim(results: dict[str, Any]) -> Claim:
    """Compare the times."""
    own = results["deep_storm"]["seconds"]
    text = ", ".join(f"{name} {results[name]['seconds']:.1f} s" for name in ("deep_storm", "decode", "cel0", "multi"))
    ratio = min(results[name]["seconds"] for name in ("cel0", "multi")) / own
    return Claim(
        "Deep-STORM",
        "one to three orders of magnitude faster than sparse and multi-emitter methods, at least as faithful",
        "the same, seconds of one thread for 361 frames of 64 x 64 px",
        text,
        "yes" if ratio >= 10 else "in part" if ratio > 1 else "no",
        f"{ratio:.1f} times faster than the faster of the two; marks as a list: "
        + ", ".join(
            f"{n} J {results[n]['jaccard']:.2f}, {results[n]['rmse_nm']:.0f} nm" for n in ("deep_storm", "decode", "cel0", "multi")
        ),
    )


def draw(pictures: dict[str, np.ndarray], results: dict[str, Any]) -> None:
    """Show a corner of each picture."""
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
    corner = slice(160, 288)
    for axis, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
        shown = gaussian_filter(picture, 0.6)[corner, corner]
        axis.imshow(shown, cmap="magma", vmax=np.quantile(shown, 0.995))
        axis.set_title(f"{name}\nFWHM {results[name]['fwhm_nm']:.0f} nm", fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(figure_file("deep_storm"))
    plt.close(figure)
