"""Molecules counted by the shipped 2D model: the density of a movie whose molecules look as those that the model has learned.

The histogram of the pixels has to guess which light is molecules; a network sees them. The probabilities of all that it may have seen
are summed, those of dim and of crowded molecules in part, so that the sum is the number of emitters without a threshold that loses some.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..calibrate.conditions import Conditions, Estimate
from ..camera import SCMOS, Camera
from ..data import Frames, Movie
from ..experiment import Experiment
from ..localize import InputConditions, Localizer
from ..model_choice import GENERAL
from ..model_file import find_model
from ..preparation import background_to_follow
from ..report.samples import CHI2_LIMIT, CHI2_MOLECULES_LIMIT, compare_all
from ..suitability import judge_conditions
from ..survey import FRAMES, SIDE_PX, Survey, survey
from ..units import PixelSize
from .samples import Exposure, sample_frames

MOST_FRAMES = 200
MOST_PIXELS = 3_000_000  # looked at in all, a few seconds; a frame that stands alone needs its two neighbours
LEAST_PROBABILITY = 0.1
"""What is less probable is what training taught to expect anywhere, not what is seen: in movies that are dimmer or sparser than those of
the training it adds up to a fifth of the molecules."""
MOST_CROWDED = 0.75
"""Emitters within two widths up to which the count was measured (benchmarks/accuracy/movie_inspection.py)."""
SPLIT = 1.25
"""The model's count over that of the pixels from which on spots may be of a shape that it explains by several emitters each: 2.1 to 3.2
for astigmatic spots, 1.3 to 2.4 out of focus, at most 1.25 for round ones."""
COMPARED_FRAMES = 10


@dataclass(frozen=True)
class Count:
    """Conditions of a movie with the density that is believed.

    Args:
        conditions: density and photons are the model's where its count is believed.
        pixels: density by the statistics of the pixels, where the model's stands in its place; else None.
        notes: why the model was not believed, one sentence at most.
    """

    conditions: Conditions
    pixels: Estimate | None = None
    notes: tuple[str, ...] = ()


def count_molecules(movie: Movie, size: PixelSize, found: Conditions, camera: Camera | None, knows_depth: bool) -> Count:
    """Count with the shipped 2D model, and say why where the statistics of the pixels stay.

    Args:
        movie: counts.
        size: (y, x) nm.
        found: conditions by the statistics of the pixels.
        camera: of the whole field, where it was given.
        knows_depth: a PSF was given whose spots change with depth.
    """
    if found.width_nm.source == "assumed" or found.photons.source == "assumed" or found.density_per_um2.value <= 0:
        return Count(found)
    if knows_depth or movie.n_planes > 1:
        return _kept(found, "it knows no spots that change with depth" if knows_depth else "it sees one plane")
    model = find_model(GENERAL)
    if movie.n_frames <= 2 * model.localizer.context:
        return _kept(found, "it needs frames with neighbours")
    pixels = found.density_per_um2
    if reason := _outside(replace(found, density_per_um2=replace(pixels, value=pixels.low)), model.experiment, size):
        return _kept(found, reason)
    view = _View.of(movie, size, found, camera)
    seen = view.count(movie, size, model.localizer)
    if seen is None:
        return Count(found)
    mine, how = seen.density_per_um2, f"as counted {seen.density_per_um2.how} with the model {model.name}"
    told = f"it counts {mine.value:.3g} ({mine.low:.3g} to {mine.high:.3g})"
    photons = found.photons if seen.photons is None else _unsure(replace(seen.photons, how=how), found.excess)
    counted = replace(found, density_per_um2=replace(mine, how=how), photons=photons)
    if reason := _outside(counted, model.experiment, size):
        return _kept(found, f"{told}; {reason}")
    if mine.low > pixels.high or mine.high < pixels.low:
        return _kept(found, f"{told}, which is too far from them")
    if mine.value > SPLIT * pixels.value and view.misfits(movie, size, found, model.localizer, model.experiment, camera):
        return _kept(found, f"{told}, but the picture of them does not fit; spots of another shape count as several emitters each")
    return Count(counted, pixels)


def _kept(found: Conditions, reason: str) -> Count:
    """Leave the statistics of the pixels and say why."""
    return Count(found, notes=(f"the density is from statistics of the pixels, not counted by the model {GENERAL}: {reason}",))


def _unsure(photons: Estimate, excess: Estimate) -> Estimate:
    """Widen the interval where the excess noise is only assumed: with 1 in place of 2 photons halve, or the reverse."""
    low, high = excess.low / excess.value, excess.high / excess.value
    return replace(photons, low=low * photons.low, high=high * photons.high)


def _outside(found: Conditions, experiment: Experiment, size: PixelSize) -> str:
    """Say where a movie leaves what the model was trained on, or its count was measured on; nothing where it does not."""
    if warnings := judge_conditions(found, experiment, size):
        return warnings[0].partition(":")[0]
    law = experiment.specimen.photons
    low, high = getattr(law, "low", 0.0), getattr(law, "high", math.inf)
    if not low <= found.photons.value <= high:
        return f"emitters have about {found.photons.value:.3g} photons, the model was trained on {low:g} to {high:g}"
    density, area_um2 = found.density_per_um2.value, math.pi * (2e-3 * found.width_nm.value) ** 2
    if density * area_um2 > MOST_CROWDED:
        most = MOST_CROWDED / area_um2
        return f"{density:.3g} emitters per um^2 of this width are more than its count was measured for ({most:.2g})"
    return ""


@dataclass(frozen=True, eq=False)
class _View:
    """How a movie is shown to the model.

    Args:
        camera: of the movie's region, turns counts into detected photons.
        told: conditions.
        background: (y, x) uneven background of the region in photons, or None.
    """

    camera: Camera
    told: InputConditions
    background: np.ndarray | None

    @staticmethod
    def of(movie: Movie, size: PixelSize, found: Conditions, given: Camera | None) -> _View:
        """Show it under the conditions found, with the camera given or else that of the conditions."""
        gain, noise = found.counts_per_photon.value, max(found.noise_variance.value, 0.0)
        values = torch.tensor([found.offset_counts.value, 1 / gain, noise * gain**2])
        camera = SCMOS(values[0], values[1], values[2], quantum_efficiency=1.0) if given is None else given.crop(*movie.roi_px)
        width_px = found.width_nm.value / math.sqrt(size[0] * size[1])
        told = InputConditions(max(0.05, found.background.value), found.excess.value, noise, width_px)
        return _View(camera, told, background_to_follow(movie, camera, told, found))

    def count(self, movie: Movie, size: PixelSize, localizer: Localizer) -> Survey | None:
        """Sum the probabilities in frames all over the movie, as many as take a few seconds."""
        height, width = (min(side, SIDE_PX) for side in movie.shape_px)
        frames = int(np.clip(MOST_PIXELS // (3 * height * width), FRAMES, MOST_FRAMES))
        return survey(movie, localizer, self.camera, self.told, self.background, size, frames=frames, least=LEAST_PROBABILITY)

    @torch.inference_mode()
    def misfits(
        self, movie: Movie, size: PixelSize, found: Conditions, localizer: Localizer, experiment: Experiment, given: Camera | None
    ) -> bool:
        """Whether frames halfway through, in the middle of the field, differ from the model's picture by more than their noise."""
        (rows, columns), (top, left) = movie.shape_px, movie.origin_px
        height, width = min(rows, SIDE_PX), min(columns, SIDE_PX)
        y, x = (rows - height) // 2, (columns - width) // 2
        middle, (first, last) = sum(movie.frames) // 2, movie.frames
        start, stop = max(first, middle - COMPARED_FRAMES // 2), min(last, middle + COMPARED_FRAMES // 2)
        part = movie.crop((start, stop), (top + y, left + x, height, width))
        photons = self.camera.crop(y, x, height, width).to_photons(torch.from_numpy(part.read(start, stop).astype(np.float32)))
        level = None if self.background is None else torch.from_numpy(self.background[y : y + height, x : x + width])
        localizer.conditions, localizer.threshold = self.told, None
        table = localizer(Frames(photons, size, background=level, first_frame=start, origin_px=part.origin_px))
        offset, gain = found.offset_counts.value, found.counts_per_photon.value
        exposure = Exposure(experiment, self.told, offset, gain, level is not None, given)
        agreements = compare_all(sample_frames(table.with_provenance(pixel_size_nm=size), part, exposure))
        on_molecules = [one.chi2_molecules for one in agreements if one.chi2_molecules is not None]
        return _median([one.chi2 for one in agreements]) > CHI2_LIMIT or _median(on_molecules) > CHI2_MOLECULES_LIMIT


def _median(values: list[float]) -> float:
    """Give the median, 0 where there is nothing to compare."""
    return float(np.median(values)) if values else 0.0
