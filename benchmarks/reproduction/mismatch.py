"""Model mismatch: a PSF that is elliptical where the model has a circular one, and depths that spread more or less than the model thinks."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from adapting import adapted
from claims import Claim, Setting, efficiency, figure_file, localized, marks, record, simulated, trained

from denseloc.experiment import Experiment
from denseloc.model_file import Model

PRESET = "small"
STARTS = ("general-2d", "astigmatic-demo")  # weights that the models in 2D and in 3D begin with
MINUTES = 2.0  # of simulator learning, with which all begin
MORE_MINUTES = 2.0  # of each way to go on
RATIOS = (1.0, 1.25, 1.5)
SPREADS = (0.1, 0.25, 0.5, 1.0)
TRUE_SPREAD = 0.5
HALF_RANGE_NM = 800.0  # of depths, at a spread of 1
FRAMES, TEST_FRAMES, SIDE_PX = 400, 300, 64
DENSITY = 0.6
NOTHING_FOUND = -169.0  # efficiency where there is no pair: Jaccard 0, errors as large as the tolerance
WIDTH_NM = 130.0
WAYS: dict[str, dict[str, Any]] = {
    "simulator": {"phases": "sleep", "learn_psf": False, "psf_fits": 0},
    "AEL, PSF fixed": {"phases": "wake", "learn_psf": False},
    "AEL, PSF learned": {"phases": "wake", "learn_psf": True},
    "combined, PSF fixed": {"phases": "both", "learn_psf": False},
    "combined, PSF learned": {"phases": "both", "learn_psf": True},
}
FIXED_WAYS = ("simulator", "AEL, PSF fixed", "combined, PSF fixed")
LOOKS = {"simulator": ("0.4", "-"), "AEL": ("C1", "-"), "combined": ("C0", "-")}


def document(psf: dict[str, Any], half_range_nm: float, name: str) -> Experiment:
    """Write down an experiment; all but the PSF and the depths is the same in all of them."""
    return Experiment.from_json(
        {
            "name": name,
            "pixel_size_nm": 100,
            "psf": psf,
            "camera": {"kind": "scmos", "offset_counts": 100, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
            "specimen": {
                "density_per_um2": DENSITY,
                "z_nm": [-half_range_nm, half_range_nm],
                "blinking": {"kind": "survival", "survival": 0.5},
                "photons": {"kind": "log_uniform", "low": 1500, "high": 1500, "spread": 0.4},
                "background": {"kind": "uniform", "photons": 20},
            },
            "localizer": {"kind": "decode", "preset": PRESET, "conditioned": True},
            "training": {"frames": 5, "seed": 1},
        }
    )


def circular() -> dict[str, Any]:
    """Give the model's PSF: round, with empty maps that may learn what is not."""
    roi = 13
    maps = {"values": np.zeros((1, roi + 1, roi + 1), np.float32), "z_min_nm": 0.0}
    return {"kind": "gaussian", "width_nm": WIDTH_NM, "roi_px": roi, "residual_maps": maps}


def elliptical(ratio: float) -> dict[str, Any]:
    """Give the true PSF, of the same area."""
    side = {"width_nm": WIDTH_NM / ratio**0.5, "width_ratio": ratio}
    return {"kind": "astigmatic", **side, "focus_a_nm": 0, "focus_b_nm": 0, "depth_nm": 1e6, "roi_px": 13}


ASTIGMATIC = {
    "kind": "astigmatic",
    "width_nm": 125,
    "focus_a_nm": -220,
    "focus_b_nm": 220,
    "depth_nm": 330,
    "quartic": 0.05,
    "roi_px": 17,
}


def run(setting: Setting) -> None:
    """Train, adapt, compare."""
    psf = by_psf(setting)
    depths = by_depths(setting)
    draw(psf, depths)
    record(
        "mismatch",
        "Model mismatch",
        [psf_claim(psf, setting), depth_claim(depths, setting)],
        {
            "psf": psf,
            "depths": depths,
            "minutes": MINUTES * setting.scale,
            "more_minutes": MORE_MINUTES * setting.scale,
            "preset": PRESET,
        },
        {
            "mismatch": "Efficiency where the model is wrong: a round PSF for an elliptical one (left; dashed: the PSF is learned), and "
            f"depths of another spread than the true {TRUE_SPREAD} (right)."
        },
    )


def by_psf(setting: Setting) -> dict[str, dict[str, float]]:
    """Efficiency of each way for each ratio of the true PSF."""
    model_document = document(circular(), 0.0, "circular")
    model = trained("mismatch_circular", model_document, MINUTES, setting, STARTS[0])
    found: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    for ratio in RATIOS:
        true = document(elliptical(ratio), 0.0, f"ratio {ratio}")
        for way, how in WAYS.items():
            name = f"mismatch_{ratio:g}_{way.replace(', ', '_').replace(' ', '_')}" if way != "simulator" else "mismatch_simulator"
            found[way][f"{ratio:g}"] = result(name, model, model_document, true, how, setting)
    return found


def by_depths(setting: Setting) -> dict[str, dict[str, float]]:
    """Efficiency of each way for each spread that the model thinks of."""
    true = document(ASTIGMATIC, HALF_RANGE_NM * TRUE_SPREAD, "true depths")
    found: dict[str, dict[str, float]] = {way: {} for way in FIXED_WAYS}
    for spread in SPREADS:
        wrong = document(ASTIGMATIC, HALF_RANGE_NM * spread, f"spread {spread}")
        model = trained(f"mismatch_spread_{spread:g}", wrong, MINUTES, setting, STARTS[1])
        for way in FIXED_WAYS:
            name = f"mismatch_spread_{spread:g}_{way.partition(',')[0]}"
            found[way][f"{spread:g}"] = result(name, model, wrong, true, WAYS[way], setting)
    return found


def result(name: str, model: Model, wrong: Experiment, true: Experiment, how: dict[str, Any], setting: Setting) -> float:
    """Go on in one way with the movie of the true experiment, and give the efficiency on another movie of it."""
    movie = simulated(true, FRAMES, (SIDE_PX, SIDE_PX), seed=21)
    made, _ = adapted(name, model, wrong, movie, MORE_MINUTES, setting, **how)
    made.localizer.threshold = None
    test = simulated(true, TEST_FRAMES, (SIDE_PX, SIDE_PX), seed=22)
    mark = marks(localized(made.localizer, test), test.truth, true.has_depth, test.size_nm)
    value = efficiency(mark) if np.isfinite(mark["rmse_lateral_nm"]) else NOTHING_FOUND
    print(f"{name}: efficiency {value:.1f}, Jaccard {mark['jaccard']:.3f}, {mark['rmse_lateral_nm']:.1f} nm", flush=True)
    return value


def psf_claim(found: dict[str, dict[str, float]], setting: Setting) -> Claim:
    """Say whether the combined way equals simulator learning without mismatch and loses less with it."""
    first, last = f"{RATIOS[0]:g}", f"{RATIOS[-1]:g}"
    simulator, combined, learned = (found[way] for way in ("simulator", "combined, PSF fixed", "combined, PSF learned"))
    equal = combined[first] > simulator[first] - 1
    losses = [one[first] - one[last] for one in (simulator, combined, learned)]
    number = "; ".join(f"{way} " + " ".join(f"{value:.1f}" for value in values.values()) for way, values in found.items())
    holds = (
        "yes" if equal and losses[1] < losses[0] and losses[2] < losses[1] else "in part" if min(losses[1:]) < losses[0] else "no"
    )
    return Claim(
        "DECODE",
        "combined learning equals simulator learning without PSF mismatch and loses less with it; most where the PSF is learned (figure 6b)",
        f"efficiency at ratios {', '.join(f'{r:g}' for r in RATIOS)} of the true widths, circular model, {PRESET} network; {spent(setting)}",
        number,
        holds,
        f"loss from ratio {first} to {last}: {losses[0]:.1f} by the simulator, {losses[1]:.1f} combined, {losses[2]:.1f} with the PSF learned",
    )


def depth_claim(found: dict[str, dict[str, float]], setting: Setting) -> Claim:
    """Say whether too narrow depths harm simulator learning most."""
    simulator, combined = found["simulator"], found["combined, PSF fixed"]
    narrow, right = f"{SPREADS[0]:g}", f"{TRUE_SPREAD:g}"
    losses = [one[right] - one[narrow] for one in (simulator, combined)]
    number = "; ".join(f"{way} " + " ".join(f"{value:.1f}" for value in values.values()) for way, values in found.items())
    return Claim(
        "DECODE",
        "simulator learning suffers from depths that are thought too narrow, combined learning less",
        f"efficiency at spreads {', '.join(f'{s:g}' for s in SPREADS)} against the true {TRUE_SPREAD:g}, astigmatic PSF, {PRESET} network; "
        + spent(setting),
        number,
        "yes" if losses[1] < losses[0] and losses[0] > 2 else "in part" if losses[1] < losses[0] else "no",
        f"loss at the narrowest: {losses[0]:.1f} by the simulator, {losses[1]:.1f} combined",
    )


def spent(setting: Setting) -> str:
    """Say the time of training."""
    first, more = (minutes * setting.scale for minutes in (MINUTES, MORE_MINUTES))
    return f"{first:.2g} core-minutes of simulator learning from {STARTS[0]} and {STARTS[1]}, then {more:.2g} each way, seed 1"


def draw(psf: dict[str, dict[str, float]], depths: dict[str, dict[str, float]]) -> None:
    """Draw efficiency against mismatch."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, found, label in (
        (axes[0], psf, "ratio of the true PSF's widths"),
        (axes[1], depths, "spread of depths in the model"),
    ):
        for way, values in found.items():
            colour, line = LOOKS[way.partition(",")[0]]
            at = [float(key) for key in values]
            axis.plot(at, list(values.values()), "o", color=colour, ls="--" if "learned" in way else line, ms=3.5, label=way)
        axis.set(xlabel=label, ylabel="efficiency (%)")
        axis.legend(frameon=False, fontsize=7)
    axes[1].axvline(TRUE_SPREAD, color="0.8", lw=0.8)
    figure.savefig(figure_file("mismatch"))
    plt.close(figure)
