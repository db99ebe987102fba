"""The authors' trained network of DeepSTORM3D (Tetrapod, 4 um) beside ours: the same layers, the same frames, the same way to a table.

    python benchmarks/reproduction/deep_storm_3d_authors.py --data ../shared/data

prints Jaccard and RMSE of their network at several densities, and with ``--model`` those of a model of ours on the same frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denseloc.data import Emitters, Frames, Localizations
from denseloc.documents import read_document
from denseloc.evaluate import match
from denseloc.experiment import Experiment
from denseloc.localize import DeepStorm3D, DeepStorm3DSettings, Localizer
from denseloc.localize.frame_by_frame import Found
from denseloc.localize.peaks import find_peaks
from denseloc.model_file import load_model
from denseloc.optics.pupil_field import Aperture, Radial, scalar_amplitudes
from denseloc.train.validate import as_table
from denseloc.units import PixelSize

HERE = Path(__file__).parent
MASK = "DeepSTORM3D/masks/mask_tetrapod_printed.mat"
WEIGHTS = "DeepSTORM3D/weights/Tetrapod_demo2_weights_best_loss.pkl"
SIDE_PX, CLEAR_PX = 121, 20  # their frames; emitters keep this far from the rim
BASELINE, SCALE = 30.0, 250.0  # counts: what lies under the photons, and what their frames are divided by
LEAST, REACH = 40 / 800, 4  # their threshold and radius in voxels
SHIFT_PX = 0.5  # their labels count from the corner of a pixel whose middle the light is drawn around


def tetrapod(data: Path) -> Experiment:
    """Read the document with the mask from the data folder, and with a pupil that is evenly lit, as their simulator has it."""
    document = read_document(HERE / "tetrapod.toml")
    document["psf"]["mask"]["values"] = str(data / MASK)
    psf = Experiment.from_json(document, "tetrapod.toml").psf
    aperture = Aperture.of(psf.pupil_px)
    radial = Radial.of(aperture.radii, psf.numerical_aperture, psf.immersion_index, psf.medium_index)
    field = abs(scalar_amplitudes(radial, aperture)[0])
    document["psf"]["amplitude"] = field[field > 0].min() / np.where(field > 0, field, np.inf)
    return Experiment.from_json(document, "tetrapod.toml")


def renamed(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give their weights the names of ours."""
    places = {"norm": "norm", "layer10": "leave", "deconv1": "up.0", "deconv2": "up.1"}
    places |= {f"layer{i}": f"trunk.{i - 1}" for i in range(1, 7)} | {f"layer{i}": f"fine.{i - 7}" for i in range(7, 10)}
    ours = {}
    for name, value in theirs.items():
        layer, _, rest = name.partition(".")
        ours[f"{places[layer]}.{rest.replace('bn.', 'norm.')}"] = value
    return ours


class AuthorsNetwork(DeepStorm3D):
    """Their weights in our network of the paper's size, fed and read as they do: counts over 250, voxels above 40 of 800, one in 4 voxels."""

    def output(self, photons: Tensor, conditions: Tensor) -> Tensor:
        """Give emitters per voxel."""
        maps: Tensor = self.net((photons + BASELINE).clamp(min=0) / SCALE)
        return maps

    def read(self, output: Tensor, photons: Tensor, conditions: Tensor, pixel_size_nm: PixelSize) -> Found:
        """Find the maxima in their way, without smoothing."""
        peaks = find_peaks(output, LEAST, (REACH, REACH, REACH))
        table = peaks.table(self.grid, pixel_size_nm).shifted(SHIFT_PX * pixel_size_nm[1], SHIFT_PX * pixel_size_nm[0])
        return Found(table, (peaks.at[:, 2] // 4).cpu().numpy(), (peaks.at[:, 3] // 4).cpu().numpy())


def authors_network(data: Path) -> AuthorsNetwork:
    """Load their network for the microscope of `tetrapod`."""
    experiment = tetrapod(data)
    settings = DeepStorm3DSettings(preset="paper", depths=121, z_range_nm=(0.0, 4000.0))
    network = AuthorsNetwork(settings, experiment.build_localizer().scales)
    network.net.load_state_dict(renamed(torch.load(data / WEIGHTS, weights_only=True, map_location="cpu")))
    return network.eval()


def clear_frames(experiment: Experiment, density_per_um2: float, n: int, seed: int) -> tuple[Frames, Localizations]:
    """Draw n frames of their size with emitters that keep away from the rim; gives photons and truth.

    Args:
        experiment: of `tetrapod`.
        density_per_um2: in the clear part.
        n: frames.
        seed: of everything.
    """
    generator = torch.Generator().manual_seed(seed)
    p = experiment.pixel_size_nm[0]
    side_nm = (SIDE_PX - 2 * CLEAR_PX) * p
    m = round(density_per_um2 * n * (side_nm / 1e3) ** 2)
    x, y, z = torch.rand(3, m, generator=generator)
    shape, scale = 3.0, 3000.0
    photons = torch._standard_gamma(torch.full((m,), shape), generator) * scale
    frame = torch.randint(0, n, (m,), generator=generator).sort()[0]
    low, high = experiment.specimen.z_nm
    emitters = Emitters.of(frame, x * side_nm + CLEAR_PX * p, y * side_nm + CLEAR_PX * p, photons, low + (high - low) * z)
    microscope = experiment.build_microscope((SIDE_PX, SIDE_PX))
    with torch.no_grad():
        counts = microscope.sample(emitters, torch.ones(n, 1, SIDE_PX, SIDE_PX), generator)
    return Frames(microscope.camera.to_photons(counts), experiment.pixel_size_nm), as_table(emitters)


def mark(localizer: Localizer, frames: Frames, truth: Localizations, least_photons: float = 0.0) -> dict[str, float]:
    """Localize and compare in three dimensions, 250 nm lateral and 500 nm axial.

    Args:
        localizer: theirs or ours.
        frames, truth: of `clear_frames`.
        least_photons: emitters with fewer are neither asked for nor held against a localization that finds them.
    """
    table = localizer(frames)
    pairs = match(table, truth, dimensions=3)
    bright = truth.photons >= least_photons
    hits = bright[pairs.truth]
    excused = len(hits) - int(hits.sum())
    squares = [float((pairs.difference(name, table, truth)[hits] ** 2).mean()) for name in ("x_nm", "y_nm", "z_nm")]
    bias = {f"bias_{name}": float(pairs.difference(name, table, truth)[hits].mean()) for name in ("x_nm", "y_nm", "z_nm")}
    found, wanted, hit = len(table) - excused, int(bright.sum()), int(hits.sum())
    return {
        "jaccard": hit / max(1, found + wanted - hit),
        "recall": hit / max(1, wanted),
        "precision": hit / max(1, found),
        "rmse_lateral_nm": (squares[0] + squares[1]) ** 0.5,
        "rmse_axial_nm": squares[2] ** 0.5,
        **bias,
    }


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.063, 0.126, 0.252, 0.441])
    args = parser.parse_args()
    experiment = tetrapod(args.data)
    localizers: dict[str, Localizer] = {"authors": authors_network(args.data)}
    if args.model is not None:
        localizers["ours"] = load_model(args.model).localizer
    for density in args.densities:
        frames, truth = clear_frames(experiment, density, args.frames, seed=5)
        for name, localizer in localizers.items():
            for least in (0.0, 6000.0):
                marks = mark(localizer, frames, truth, least)
                print(f"{density:6.3f} {name:8s} from {least:5.0f} photons  " + "  ".join(f"{k} {v:.3g}" for k, v in marks.items()))


if __name__ == "__main__":
    main()
