"""What each method on the shelf costs: its weights, and frames per second on one thread, in its small size, on frames of 64 x 64 pixels.

    python benchmarks/speed/methods.py

Networks are built and not trained: they find nothing, so that the time is that of the network. Methods without training fit the PSF
to frames with one emitter per um2.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from denseloc.data import Frames
from denseloc.experiment import Experiment
from denseloc.localize import LOCALIZERS
from denseloc.machine import keep_memory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import keep

SIDE_PX, FRAMES, SECONDS = 64, 16, 4.0
PLANES = {"voxel_wise": 4}
FLAT = ("cel0", "deep_storm")
DOCUMENT: dict[str, Any] = {
    "pixel_size_nm": 100,
    "camera": {"kind": "ideal"},
    "specimen": {
        "density_per_um2": 1.0,
        "z_nm": [-500, 500],
        "photons": {"kind": "constant", "photons": 2000},
        "background": {"kind": "uniform", "photons": 10},
    },
}
PSF = {"kind": "astigmatic", "width_nm": 130, "focus_a_nm": -200, "focus_b_nm": 200, "depth_nm": 400, "roi_px": 15}


def document_of(kind: str) -> Experiment:
    """Write down the comparison: astigmatic, 2D for a method that knows no depth, several focal planes for one that lives on them."""
    section = {"kind": kind}
    if "preset" in LOCALIZERS.get(kind).model_fields:
        section["preset"] = "small"
    values: dict[str, Any] = {**DOCUMENT, "psf": PSF, "localizer": section}
    if kind in FLAT:
        values |= {"psf": {"kind": "gaussian", "width_nm": 130, "roi_px": 15}}
        values["specimen"] = {**DOCUMENT["specimen"], "z_nm": [0, 0]}
    if (planes := PLANES.get(kind, 1)) > 1:
        focus = [400.0 * (k - (planes - 1) / 2) for k in range(planes)]
        values["psf"] = {"kind": "multiplane", "width_nm": 130, "plane_focus_nm": focus, "depth_nm": 400, "roi_px": 15}
    return Experiment.from_json(values)


def measure(kind: str) -> dict[str, float]:
    """Count the weights and time the localizer."""
    document = document_of(kind)
    localizer = document.build_localizer().eval()
    microscope = document.build_microscope((SIDE_PX, SIDE_PX))
    generator = torch.Generator().manual_seed(1)
    specimen = document.build_specimen((SIDE_PX, SIDE_PX))
    emitters, background = specimen.draw(FRAMES, generator), specimen.draw_background(FRAMES, generator)
    frames = Frames(microscope.sample(emitters, background, generator), document.pixel_size_nm)
    localizer(frames)
    began, runs = time.process_time(), 0
    while time.process_time() - began < SECONDS:
        localizer(frames)
        runs += 1
    weights = sum(weight.numel() for weight in localizer.parameters())
    return {"weights": weights, "frames_per_second": runs * FRAMES / (time.process_time() - began)}


def main() -> None:
    """Measure all and keep the figures."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    keep_memory()
    results = {}
    for kind in LOCALIZERS.names():
        results[kind] = measure(kind)
        print(kind, results[kind], flush=True)
    keep("methods", seed=1, results=results, summary=[])


if __name__ == "__main__":
    main()
