"""LUENN against DECODE with one frame and with three, from sparse to 31 emitters per um2, at three signal-to-noise ratios; its error network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from claims import Claim, Drawn, Setting, figure_file, localized, marks, record, simulated, trained

from denseloc.data import Localizations
from denseloc.evaluate.matching import match
from denseloc.experiment import Experiment

DOCUMENT = Path(__file__).with_name("luenn.toml")
MINUTES = 2.5
SIGNALS = {"1k": (1000.0, 50.0), "5k": (5000.0, 250.0), "20k": (20000.0, 1000.0)}
NETWORKS: dict[str, dict[str, Any]] = {
    "luenn": {"kind": "luenn", "preset": "tiny"},
    "decode, 1 frame": {"kind": "decode", "preset": "tiny", "context": "none"},
    "decode, 3 frames": {"kind": "decode", "preset": "tiny", "context": "local"},
}
DENSITIES = (0.04, 0.2, 1.0, 2.4, 5.5, 9.3, 15.5, 31.0)
EMITTERS, SIDE_PX, SEED = 4000, 64, 31
BINS, RATES = 8, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
ERROR_DENSITY = 2.4


def run(setting: Setting) -> None:
    """Train all for the same time, mark them at each density, look at foretold errors."""
    curves: dict[str, Any] = {}
    for signal in SIGNALS:
        for name in NETWORKS:
            document = document_of(name, signal)
            localizer = trained(f"luenn_{signal}_{name.replace(', ', '_').replace(' ', '_')}", document, MINUTES, setting).localizer
            curves[f"{signal}, {name}"] = rows = []
            for density in DENSITIES:
                drawn = drawn_at(document, density)
                rows.append({"density": density, **marks(localized(localizer, drawn), drawn.truth, True, drawn.size_nm)})
            print("  ", signal, name, [f"{row['jaccard']:.2f}" for row in rows], flush=True)
    foretold = {signal: errors(signal, setting) for signal in SIGNALS}
    show(curves, [at_random(density) for density in DENSITIES], foretold)


def show(curves: dict[str, Any], chance: list[dict[str, float]], foretold: dict[str, Any]) -> None:
    """Draw and record."""
    draw(curves, chance, foretold)
    record(
        "luenn",
        "LUENN at ultra-high density",
        [density_claim(curves, chance), gain_claim(curves), precision_claim(curves), error_claim(foretold), filter_claim(foretold)],
        {"curves": curves, "at_random": chance, "foretold": foretold, "minutes": MINUTES},
        {
            "luenn": "Recall, Jaccard, and lateral and axial error per axis, against density; columns are 1 000, 5 000 and 20 000 photons. "
            "Dotted: as many points as there are molecules, put anywhere.",
            "luenn_errors": "Mean actual against mean foretold error (left, middle); Jaccard and error against the share that is dropped.",
        },
    )


def document_of(network: str, signal: str) -> Experiment:
    """Write down the experiment of one network and signal."""
    values = Experiment.from_file(DOCUMENT).to_json()
    photons, background = SIGNALS[signal]
    values["specimen"]["photons"] |= {"mean": photons, "sd": 0.1 * photons}
    values["specimen"]["background"]["photons"] = background
    values["localizer"] = NETWORKS[network]
    if network.endswith("3 frames"):
        values["training"] |= {"frames": 4}  # two of which are learned, as of the others
    return Experiment.from_json(values)


def drawn_at(document: Experiment, density: float) -> Drawn:
    """Draw enough frames for some thousand emitters."""
    area = (SIDE_PX * 0.1) ** 2
    return simulated(document, int(np.clip(EMITTERS / (density * area), 4, 600)), (SIDE_PX, SIDE_PX), SEED, density)


def at_random(density: float) -> dict[str, float]:
    """Give the marks of as many points as there are molecules, put anywhere in the same frames: what pairs by chance."""
    drawn = drawn_at(document_of("luenn", "1k"), density)
    truth, rng = drawn.truth, np.random.default_rng(SEED)
    low, high = Experiment.from_file(DOCUMENT).specimen.z_nm
    ends = {"y_nm": (0.0, drawn.size_nm[0]), "x_nm": (0.0, drawn.size_nm[1]), "z_nm": (low, high)}
    anywhere = Localizations({**truth.columns, **{name: rng.uniform(*end, len(truth)) for name, end in ends.items()}})
    return {"density": density, **marks(anywhere, truth, True, drawn.size_nm)}


def errors(signal: str, setting: Setting) -> dict[str, Any]:
    """Set foretold beside actual errors, in bins of the foretold ones, and drop the worst of them in steps."""
    document = document_of("luenn", signal)
    localizer = trained(f"luenn_{signal}_luenn", document, MINUTES, setting).localizer
    drawn = drawn_at(document, ERROR_DENSITY)
    found, truth = localized(localizer, drawn), drawn.truth
    pairs = match(found, truth, dimensions=3)
    bins = {}
    for axis in ("x", "y", "z"):
        told = found.columns[f"sigma_{axis}_nm"][pairs.table] * np.sqrt(2 / np.pi)  # mean error of a Gaussian law
        actual = np.abs(pairs.difference(f"{axis}_nm", found, truth))
        groups = np.array_split(np.argsort(told), BINS)
        bins[axis] = {"told": [float(told[g].mean()) for g in groups], "actual": [float(actual[g].mean()) for g in groups]}
    return {"bins": bins, "filtered": [{"rate": rate, **kept(found, drawn, rate)} for rate in RATES]}


def kept(found: Localizations, drawn: Drawn, rate: float) -> dict[str, float]:
    """Give the marks without the share ``rate`` of the localizations with the largest expected errors."""
    spread = np.sqrt(found.sigma_x_nm**2 + found.sigma_y_nm**2 + found.sigma_z_nm**2)
    return marks(found.select(spread <= np.quantile(spread, 1 - rate)), drawn.truth, True, drawn.size_nm)


def density_claim(curves: dict[str, Any], chance: list[dict[str, float]]) -> Claim:
    """Compare Jaccard and 3D error from 5 per um2 on, where the paper sees LUENN level with three frames of DECODE or above."""
    parts, wins = [], []
    for signal in SIGNALS:
        rows = {name: [r for r in curves[f"{signal}, {name}"] if r["density"] > 5] for name in NETWORKS}
        mean = {name: np.mean([r["jaccard"] for r in rs]) for name, rs in rows.items()}
        error = {name: np.mean([r["rmse_3d_nm"] for r in rs]) for name, rs in rows.items()}
        wins.append(mean["luenn"] >= mean["decode, 3 frames"] - 0.01)
        parts.append(f"{signal}: " + ", ".join(f"{name} J {mean[name]:.3f} / {error[name]:.0f} nm" for name in NETWORKS))
    return Claim(
        "LUENN",
        "equals or exceeds multi-frame DECODE from 5 emitters per um2 on",
        f"luenn.toml, tiny networks, {MINUTES:g} core-minutes each; mean over 5.5 to 31 per um2",
        "; ".join(parts),
        "yes" if all(wins) else "in part" if any(wins) else "no",
        "errors are 3D distances of the pairs within 250 and 500 nm; points put anywhere score "
        + ", ".join(
            f"J {row['jaccard']:.2f} / {row['rmse_3d_nm']:.0f} nm at {row['density']:g}" for row in chance if row["density"] > 5
        )
        + " per um2: from 10 on the tolerance alone makes marks rise",
    )


def gain_claim(curves: dict[str, Any]) -> Claim:
    """Compare 1 and 31 per um2 at low signal, as the paper does, with recall beside the error."""
    rows = {row["density"]: row for row in curves["1k, luenn"]}
    low, high = rows[1.0], rows[31.0]
    more = high["recall"] * 31 / max(low["recall"], 1e-9)
    return Claim(
        "LUENN",
        "low signal, 1 to 31 per um2: three times more emitters found, 3D RMSE 51 to 79 nm",
        "the same, 1 000 photons",
        f"{more:.1f} times more found (recall {low['recall']:.2f} to {high['recall']:.2f}), 3D RMSE {low['rmse_3d_nm']:.0f} to "
        f"{high['rmse_3d_nm']:.0f} nm, {low['rmse_3d_nm'] / 3**0.5:.0f} to {high['rmse_3d_nm'] / 3**0.5:.0f} nm per axis",
        "yes" if more >= 3 and high["rmse_3d_nm"] < 1.6 * low["rmse_3d_nm"] else "in part",
        "three times more found at 31 times the density is a tenth of the recall",
    )


def precision_claim(curves: dict[str, Any]) -> Claim:
    """Look whether the error levels off above 5 per um2."""
    parts, level = [], []
    for signal in SIGNALS:
        row = {r["density"]: r["rmse_3d_nm"] for r in curves[f"{signal}, luenn"]}
        level.append(row[31.0] / row[5.5] < 1.15)
        parts.append(f"{signal}: {row[1.0]:.0f}, {row[5.5]:.0f}, {row[31.0]:.0f} nm")
    return Claim(
        "LUENN",
        "precision levels off above 5 per um2",
        "the same; 3D RMSE at 1, 5.5 and 31 per um2",
        "; ".join(parts),
        "yes" if all(level) else "in part" if any(level) else "no",
        "pairs beyond 250 nm do not count, which alone keeps the error from growing",
    )


def error_claim(foretold: dict[str, Any]) -> Claim:
    """Compare actual with foretold errors over bins."""
    ratio = {
        signal: [a / t for axis in f["bins"].values() for a, t in zip(axis["actual"], axis["told"], strict=True)]
        for signal, f in foretold.items()
    }
    text = "; ".join(f"{s}: {min(r):.2f} to {max(r):.2f}, median {np.median(r):.2f}" for s, r in ratio.items())
    good = [0.8 < np.median(r) < 1.25 for r in ratio.values()]
    return Claim(
        "LUENN",
        "the mean actual error follows the error network's estimate",
        f"{ERROR_DENSITY:g} per um2, {BINS} bins of the estimate for each axis",
        f"actual over foretold, {text}",
        "yes" if all(good) else "in part" if any(good) else "no",
    )


def filter_claim(foretold: dict[str, Any]) -> Claim:
    """Look what dropping the worst does to the error."""
    parts, falls = [], []
    for signal, found in foretold.items():
        rows = found["filtered"]
        falls.append(rows[-1]["rmse_3d_nm"] < 0.8 * rows[0]["rmse_3d_nm"])
        chosen = [rows[RATES.index(rate)] for rate in (0.0, 0.3, 0.6, 0.85)]
        parts.append(f"{signal}: " + ", ".join(f"{r['rmse_3d_nm']:.0f} nm (J {r['jaccard']:.2f})" for r in chosen))
    return Claim(
        "LUENN",
        "dropping up to 85 % by the estimate trades emitters for precision",
        "the same; 3D RMSE without 0, 30, 60 and 85 %",
        "; ".join(parts),
        "yes" if all(falls) else "in part" if any(falls) else "no",
    )


def draw(curves: dict[str, Any], chance: list[dict[str, float]], foretold: dict[str, Any]) -> None:
    """Draw marks against density, and the errors."""
    keys = {"recall": "recall", "jaccard": "Jaccard", "rmse_x_nm": "lateral RMSE (nm)", "rmse_z_nm": "axial RMSE (nm)"}
    figure, axes = plt.subplots(len(keys), len(SIGNALS), figsize=(9.5, 9), layout="constrained", sharex=True, sharey="row")
    for column, signal in enumerate(SIGNALS):
        for line, (key, label) in enumerate(keys.items()):
            for name in NETWORKS:
                rows = curves[f"{signal}, {name}"]
                axes[line, column].semilogx([r["density"] for r in rows], [r[key] for r in rows], "o-", ms=3, label=name)
            axes[line, column].semilogx(DENSITIES, [r[key] for r in chance], ":", color="0.5", label="points anywhere")
            axes[line, 0].set_ylabel(label)
        axes[0, column].set_title(f"{signal} photons")
        axes[-1, column].set_xlabel("emitters per um²")
    axes[0, 0].legend(frameon=False, fontsize=7)
    figure.savefig(figure_file("luenn"))
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.3), layout="constrained")
    for signal, found in foretold.items():
        for axis, name in zip(axes[:2], ("x", "z"), strict=True):
            axis.plot(found["bins"][name]["told"], found["bins"][name]["actual"], "o-", ms=3, label=signal)
            axis.set(xlabel=f"foretold |d{name}| (nm)", ylabel=f"actual |d{name}| (nm)")
            axis.axline((0, 0), slope=1, color="0.7", lw=0.8)
        rows = found["filtered"]
        axes[2].plot([r["rate"] for r in rows], [r["rmse_3d_nm"] for r in rows], "o-", ms=3, label=signal)
    axes[2].set(xlabel="share dropped", ylabel="3D RMSE (nm)")
    axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(figure_file("luenn_errors"))
    plt.close("all")
