"""Peak memory of `denseloc localize` on a short and a long movie of 128 x 128 px; it must not grow with the movie.

python benchmarks/speed/memory.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from denseloc.experiment import Experiment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import RESULTS, keep

DOCUMENT = {
    "pixel_size_nm": 100,
    "psf": {"kind": "gaussian", "width_nm": 130},
    "camera": {"kind": "scmos", "offset_counts": 100, "electrons_per_count": 0.5, "read_noise_electrons": 1.5},
    "specimen": {
        "density_per_um2": 0.2,
        "z_nm": [0, 0],
        "photons": {"kind": "constant", "photons": 1500},
        "background": {"kind": "uniform", "photons": 20},
        "blinking": {"kind": "exponential", "lifetime_frames": 2.0},
    },
}


def write_movie(path: Path, frames: int) -> None:
    """Simulate 100 frames and repeat them; the table grows as with new ones."""
    import torch

    experiment = Experiment.from_json(DOCUMENT)
    generator = torch.Generator().manual_seed(0)
    specimen, microscope = experiment.build_specimen((128, 128)), experiment.build_microscope((128, 128))
    with torch.no_grad():
        counts = microscope.sample(specimen.draw(100, generator), specimen.draw_background(100, generator), generator)
    block = counts[:, 0].numpy().astype(np.uint16)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for _ in range(frames // 100):
            writer.write(block, contiguous=True)


def peak(movie: Path, out: Path) -> tuple[float, float]:
    """Run the command; peak resident memory in MB and seconds."""
    command = [sys.executable, "-m", "denseloc", "localize", str(movie), "-o", str(out), "--pixel-size-nm", "100"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--no-picture", "--no-report"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return usage.ru_maxrss / 1024, time.perf_counter() - began


def main() -> None:
    """Measure both movies and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs=2, default=(2000, 20000))
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            movie = Path(folder) / f"{frames}.tif"
            write_movie(movie, frames)
            megabytes, seconds = peak(movie, Path(folder) / f"{frames}.parquet")
            results[str(frames)] = {"peak_MB": round(megabytes), "seconds": round(seconds, 1)}
            print(f"{frames} frames of 128 x 128: peak {megabytes:.0f} MB, {seconds:.0f} s")
            movie.unlink()
    summary = [(f"localize, {n} frames of 128 x 128", f"peak {r['peak_MB']} MB, {r['seconds']:.0f} s") for n, r in results.items()]
    keep("memory", seed=0, results=results, summary=summary, file=args.out)


if __name__ == "__main__":
    main()
