"""Bead stacks -> PSFs; every bead localized in every plane with them, also in planes that the fit has not seen.

    python benchmarks/accuracy/calibration.py                    all stacks, splines
    python benchmarks/accuracy/calibration.py --kind parametric

"lateral" is the root mean square over the beads of their place, averaged over the stack with the weights of the bounds, against the truth after
one constant offset. "z" is against the stage between -600 and 600 nm. "held out" fits the even planes and localizes in the odd ones.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import tifffile

from denseloc.calibrate.judge import BeadLocalizations, judge, localize_beads, missed_share
from denseloc.calibrate.psf_fit import PSFFit, fit_psf
from denseloc.calibrate.stack import BeadStack, measure_camera
from denseloc.camera import Camera, EMCCDSettings, SCMOSSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

EMCCD = EMCCDSettings(
    offset_counts=100,
    electrons_per_count=45,
    em_gain=300,
    quantum_efficiency=0.9,
    spurious_electrons=0.002,
    read_noise_electrons=74.4,
)


@dataclass(frozen=True)
class Case:
    """A stack with what is known of it; camera None: measured from the stack."""

    name: str
    counts: np.ndarray
    z_nm: np.ndarray
    pixel_nm: tuple[float, float]
    roi_px: int
    camera: Camera | None
    truth_nm: np.ndarray | None = None


def cases(shared: Path) -> Iterator[Case]:
    """Read the stacks, one after the other."""
    stage = np.arange(-750, 751, 10.0)
    for kind, roi in (("2D", 21), ("AS", 21), ("DH", 27)):
        folder = shared / "challenge/sim"
        rows = list(csv.DictReader((folder / f"beads_{kind}_activations.csv").open()))
        truth = np.array([[float(r["xnano"]), float(r["ynano"])] for r in rows if int(r["frame"]) == 1])
        yield Case(f"simulated {kind}", tifffile.imread(folder / f"beads_{kind}.tif"), stage, (100, 100), roi, EMCCD.build(), truth)
    data = shared / "data"
    stack = np.load(data / "deep_loco/Beads-AS-Exp_zstack.npz")
    yield Case("challenge 2016 AS", stack["imgs"], stack["z_vals"], (100, 100), 25, EMCCD.build())
    frames = sorted((data / "deep_loco/Beads-DH-Exp").glob("*.tif"))
    yield Case("challenge 2016 DH", np.stack([tifffile.imread(f) for f in frames]), stage, (100, 100), 31, EMCCD.build())
    camera = SCMOSSettings(offset_counts=99, electrons_per_count=1.83, read_noise_electrons=1.5).build()
    counts = tifffile.imread(data / "3denseSTORM/real_3d_astigmatism/calibration.tif")
    yield Case("real 3denseSTORM", counts, np.arange(-400, 401, 10.0), (65, 65), 25, camera)
    counts = tifffile.imread(data / "fit3Dcspline/single_bead.tif")
    yield Case("real fit3Dcspline", counts, np.arange(-1000, 1001, 10.0), (127, 127), 15, None)
    counts = tifffile.imread(data / "VIPR/TP_im.tif")
    z = scipy.io.loadmat(data / "VIPR/NFP_pos_TP_images.mat")["z_stack_pos"].ravel() * -1000
    yield Case("real VIPR Tetrapod", counts, z, (160, 160), 55, None)
    averaged = SCMOSSettings(offset_counts=0, electrons_per_count=1, read_noise_electrons=1).build()
    for name, file, pixel, roi in (("two lobes", "psf_pri_measured", (72, 74), 41), ("2D", "psf_2d_beads1", (72.6, 72.6), 41)):
        counts = 1000 * tifffile.imread(
            data / f"PYME/{file}.tif"
        )  # averaged and scaled: no law of noise holds, the peak is our choice
        yield Case(f"averaged PYME {name}", counts, np.arange(-1500, 1501, 50.0), pixel, roi, averaged)


def measure(case: Case, kind: str) -> dict[str, Any]:
    """Fit, localize, compare."""
    camera, note = case.camera, "given"
    if camera is None:
        offset, gain = measure_camera(case.counts)
        camera = SCMOSSettings(offset_counts=offset, electrons_per_count=1 / gain.value, read_noise_electrons=0).build()
        note = f"measured: offset {offset:.0f}, {gain.value:.3g} counts per photon"
    began = time.monotonic()
    fit = fit_of(case, camera, kind, slice(None))
    seconds = time.monotonic() - began
    result: dict[str, Any] = {
        "seconds": round(seconds),
        "camera": note,
        "beads": len(fit.used),
        "chi2": fit.chi2,
        "missed": missed_share(fit),
    }
    judged = judge(fit)
    result |= {"usable_nm": judged.usable_nm, "warnings": judged.warnings}
    result |= errors(judged.localizations)
    if case.truth_nm is not None:
        result["lateral_nm"] = lateral(fit, judged.localizations, case.truth_nm)
    learnt, rest = (fit_of(case, camera, kind, slice(start, None, 2), steps=300 if start == 0 else 30) for start in (0, 1))
    held_out = localize_beads(rest, learnt.build())
    result["held_out"] = errors(held_out)
    return result


def fit_of(case: Case, camera: Camera, kind: str, planes: slice, steps: int = 300) -> PSFFit:
    """Fit some planes of a stack."""
    stack = BeadStack.of(case.counts[planes], case.z_nm[planes], camera, case.name)
    return fit_psf([stack], case.pixel_nm, kind, roi_px=case.roi_px, map_step_nm=50, nodes_per_px=1, steps=steps)


def errors(spots: BeadLocalizations) -> dict[str, float]:
    """Error of z against the stage and its bound between -600 and 600 nm."""
    if spots.z_nm is None or spots.crlb_z_nm is None:
        return {}
    chosen = np.abs(spots.stage_nm) <= 600
    error, bound = (spots.z_nm - spots.stage_nm)[chosen], spots.crlb_z_nm[chosen]
    return {
        "z_rmse_nm": float(np.sqrt(np.mean(error**2))),
        "z_crlb_nm": float(np.sqrt(np.mean(bound**2))),
        "z_ratio": float(np.sqrt(np.mean((error / bound) ** 2))),
        "z_bias_nm": float(error.mean()),
        "z_median_error_nm": float(np.median(np.abs(error))),
        "not_converged": float(1 - spots.converged[chosen].mean()),
    }


def lateral(fit: PSFFit, spots: BeadLocalizations, truth_nm: np.ndarray) -> float:
    """Root mean square of the beads' distances from their true places, one constant offset removed."""

    def place(value: np.ndarray, bound: np.ndarray, bead: int) -> float:
        mine = spots.bead == bead
        return float(np.average(value[mine], weights=bound[mine] ** -2))

    n = len(fit.used)
    x = fit.x_nm + [place(spots.x_nm, spots.crlb_x_nm, b) for b in range(n)]
    y = fit.y_nm + [place(spots.y_nm, spots.crlb_y_nm, b) for b in range(n)]
    found = np.stack((x, y), 1)
    nearest = np.hypot(*(found[:, None] - truth_nm).transpose(2, 0, 1)).argmin(1)
    off = found - truth_nm[nearest]
    return float(np.sqrt(((off - off.mean(0)) ** 2).sum(1).mean()))


def main() -> None:
    """Measure all stacks, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--kind", default="spline")
    parser.add_argument("--only", nargs="*", help="words of the names of stacks")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    results: dict[str, Any] = {}
    summary = []
    for case in cases(args.shared):
        if args.only and not any(word in case.name for word in args.only):
            continue
        results[case.name] = r = measure(case, args.kind)
        print(case.name, {k: round(v, 3) if isinstance(v, float) else v for k, v in r.items()}, flush=True)
        place = f"places {r['lateral_nm']:.2f} nm, " if "lateral_nm" in r else ""
        text = f"{place}z {r['z_rmse_nm']:.1f} nm against a bound of {r['z_crlb_nm']:.1f}; on held-out planes {r['held_out']['z_rmse_nm']:.1f}"
        summary.append((f"beads {case.name}, {args.kind} PSF", f"{text}; chi2 {r['chi2']:.2f}, {r['beads']} beads"))
    keep(f"calibration_{args.kind}", seed=0, results=results, summary=summary, file=args.results / f"calibration_{args.kind}.json")


if __name__ == "__main__":
    main()
