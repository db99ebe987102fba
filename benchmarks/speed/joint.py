"""Time joint fits of groups of 1 to 10 emitters, windows of 13 x 13 pixels that overlap: microseconds an emitter on one core.

Run as ``python benchmarks/speed/joint.py``. A Gaussian of 130 nm and pixels of 100 nm, 1500 photons each on a background of 10, at least 2.5 px
from one another; fits begin 0.2 px off. Processor time (other programs may run beside), all overhead included, the median of several rounds in turn.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denseloc.camera import Ideal
from denseloc.data import Emitters, Grid
from denseloc.fit import Noise, fit_single
from denseloc.fit.joint import Joint
from denseloc.fit.joint_fits import JointFits
from denseloc.localize.single import windows
from denseloc.microscope import Microscope
from denseloc.optics import GaussianSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

PIXEL_NM = (100.0, 100.0)
PSF = GaussianSettings(width_nm=130, roi_px=19)
SIZES, EMITTERS, ROUNDS = (1, 2, 3, 5, 10), 1000, 5
SIDE, WINDOW, APART_PX, PHOTONS = 36, 13, 2.5, 1500.0


def groups(e: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw frames with a group of e emitters each, grown one beside another: frame (n,), x and y in px and photons (n, 3), photons of the pixels."""
    n = EMITTERS // e
    places = []
    for _ in range(n):
        own = [0.5 * SIDE - 0.5 + torch.rand(2, generator=generator)]
        while len(own) < e:
            beside = own[int(torch.randint(len(own), (), generator=generator))]
            place = beside + 8 * (torch.rand(2, generator=generator) - 0.5)
            inside = bool(((place > 6) & (place < SIDE - 7)).all())
            if inside and all((place - other).norm() > APART_PX for other in own):
                own.append(place)
        places.append(torch.stack(own))
    at = torch.cat((torch.cat(places), torch.full((n * e, 1), PHOTONS)), 1)
    frame = torch.arange(n).repeat_interleave(e)
    emitters = Emitters.of(frame, 100 * (at[:, 0] + 0.5), 100 * (at[:, 1] + 0.5), at[:, 2])
    with torch.no_grad():
        light = Microscope(PSF.build(PIXEL_NM), Ideal(), Grid((SIDE, SIDE), PIXEL_NM)).expected(
            emitters, torch.full((n, 1, SIDE, SIDE), 10.0)
        )
    return frame, at, torch.poisson(light, generator=generator)


def main() -> None:
    """Time, compare with the truth, print and keep."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    psf = PSF.build(PIXEL_NM).requires_grad_(False)
    drawn = {e: groups(e, generator) for e in SIZES}
    spent: dict[int, list[float]] = {e: [] for e in SIZES}
    single: list[float] = []
    results: dict[str, Any] = {}
    for turn in range(ROUNDS + 1):
        for e, (frame, at, light) in drawn.items():
            search = Joint(psf, light, Noise(), window_px=WINDOW, most=10)
            begun = JointFits.beginning(frame, at + torch.tensor([0.2, -0.2, -200.0]), torch.full((len(at), 1), 8.0))
            start = time.process_time()
            fits = search.fit(begun)
            spent[e].append(1e6 * (time.process_time() - start) / len(at))
            if turn == 0:
                pull = (fits.at - at) / fits.covariance.diagonal(dim1=1, dim2=2).sqrt()
                results[f"{e} together"] = {
                    "emitters": len(at),
                    "largest_group": int(torch.bincount(fits.group).max()),
                    "converged": fits.converged.double().mean().item(),
                    "iterations": fits.iterations.double().mean().item(),
                    "pull": pull[fits.converged, :2].std().item(),
                }
        frame, at, light = drawn[1]
        peaks = torch.cat((frame[:, None], at[:, [1, 0]].round().long()), 1)
        start = time.process_time()
        fit_single(psf, windows(light, peaks, WINDOW))
        single.append(1e6 * (time.process_time() - start) / len(at))
    for e in SIZES:
        results[f"{e} together"] |= {"us_per_emitter": round(float(np.median(spent[e][1:])), 1)}
        print(e, results[f"{e} together"])
    results["fit_single"] = {"us_per_emitter": round(float(np.median(single[1:])), 1)}
    print("single", results["fit_single"])
    text = ", ".join(f"{results[f'{e} together']['us_per_emitter']:.0f} of {e}" for e in SIZES)
    row = ("joint fit of overlapping emitters, 13 x 13 px windows, one core", f"{text} together, in us an emitter")
    keep("joint_speed", seed=1, results=results, summary=[row])


if __name__ == "__main__":
    main()
