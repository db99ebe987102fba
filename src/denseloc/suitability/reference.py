"""References: scenes drawn from the model's own document, as dense, bright and lit as the movie, with molecules where the movie shows them.

What the model finds in them is what it would find in the movie, were the document right. Density, brightness and background are unknown,
as a model misses molecules and mistakes their light: they are set so that the model finds as much in the reference as in the movie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..data import Emitters, Localizations
from ..specimen import Specimen
from ..specimen.structures import Structure
from ..specimen.volume import Volume
from .scenes import Scene, Setup, with_photons
from .views import View, form, look

BRIGHT = 0.8  # quantile of the photons that stands for a movie's brightness: the dim ones are missed at will
ROUNDS = 2
JITTER_NM = 30.0  # by which places are known
LEAST_PLACES = 30
MOST_PER_UM2 = 40.0


@dataclass(frozen=True, eq=False)
class Circumstances:
    """How dense, bright and lit a movie is.

    Args:
        density_per_um2: emitters per um^2 and frame.
        photons: the `BRIGHT` quantile of their photons; 0 where the model tells none, and the document's own brightness is taken.
        background: (regions, planes, y, x) photons per pixel.
    """

    density_per_um2: float
    photons: float
    background: np.ndarray


class Places(Structure):
    """Molecules where some were found, or anywhere where those are few; anywhere in the margin.

    Args:
        found_nm: (3, n) x, y, z.
        volume: the frame with its margin.
    """

    def __init__(self, found_nm: Tensor, volume: Volume) -> None:
        self.found_nm, self.volume, self.inside_fraction = found_nm, volume, volume.inside_fraction

    def places(self, movie: Tensor, n_movies: int, generator: torch.Generator) -> Tensor:
        """Draw a place for each molecule."""
        places = self.volume.uniform(len(movie), generator)
        if self.found_nm.shape[1] < LEAST_PLACES:
            return places
        height, width = self.volume.grid.size_nm
        inside = (places[0] >= 0) & (places[0] < width) & (places[1] >= 0) & (places[1] < height)
        which = torch.randint(self.found_nm.shape[1], (int(inside.sum()),), generator=generator)
        jitter = JITTER_NM * torch.randn(3, len(which), generator=generator)
        places[:, inside] = self.volume.wrap(self.found_nm[:, which] + jitter)
        return places


def bright_end(photons: np.ndarray) -> float:
    """Give the photons that stand for a brightness; 0 for none."""
    return float(np.quantile(photons, BRIGHT)) if len(photons) else 0.0


def first_level(view: View) -> Circumstances:
    """Take what was found as it is."""
    return Circumstances(max(view.density_per_um2, 1e-3), _brightness(view), _background(view))


def _brightness(view: View) -> float:
    return bright_end(np.nan_to_num(view.counted.photons)) if "photons" in view.counted else 0.0


def _background(view: View) -> np.ndarray:
    """Average the smooth levels of each region."""
    place = view.scene.place
    return np.stack(
        [np.maximum(view.background[place == p].mean(0), 0.0) for p in range(len(view.scene.regions)) if (place == p).any()]
    )


def matched(view: View, setup: Setup, generator: torch.Generator, windows: int) -> Circumstances:
    """Find the level at which the model finds as much in drawn scenes as in the movie."""
    level = first_level(view)
    if not len(view.counted):
        return level
    pilot_scene = _fewer(view.scene, windows)
    wanted_density, wanted_photons, wanted = view.density_per_um2, _brightness(view), _background(view)
    for _ in range(ROUNDS):
        pilot = look(drawn(view, pilot_scene, level, setup, generator), setup)
        denser = np.clip(wanted_density / max(pilot.density_per_um2, 1e-3), 0.5, 3.0)
        brighter = np.clip(wanted_photons / max(_brightness(pilot), 1.0), 0.4, 2.5) if wanted_photons else 1.0
        more = wanted - _background(pilot)
        level = Circumstances(
            min(level.density_per_um2 * float(denser), MOST_PER_UM2),
            level.photons * float(brighter),
            np.maximum(level.background + more.mean((-2, -1), keepdims=True), 0.02),
        )
    return level


def _fewer(scene: Scene, windows: int) -> Scene:
    """Keep some windows, of every region one at least."""
    n = min(len(scene.place), max(windows, len(scene.regions)))
    return replace(scene, photons=scene.photons[:n], place=scene.place[:n])


def drawn(view: View, like: Scene, level: Circumstances, setup: Setup, generator: torch.Generator) -> Scene:
    """Draw a scene from the document at a level, with molecules where a view shows them, in windows as those of another scene."""
    photons = np.empty_like(like.photons)
    overall = max(len(view.counted), 1)
    for place, region in enumerate(like.regions):
        windows = np.flatnonzero(like.place == place)
        if not len(windows):
            continue
        of_region = view.table.select(view.scene.place[view.window] == place)
        share = len(view.counted.select(view.scene.place[view.counted.frame // view.scene.inner.shape[1]] == place)) / overall
        crowd = share * len(view.scene.place) / max(1, int((view.scene.place == place).sum()))
        specimen = _specimen(of_region, like, level.density_per_um2 * max(crowd, 1e-3), setup)
        frames = len(windows) * like.photons.shape[1]
        emitters = _brightened(specimen.draw(frames, generator), level.photons)
        background = torch.from_numpy(level.background[place]).expand(frames, -1, -1, -1)
        one = replace(like, regions=(region,), place=np.zeros(len(windows), int))
        expected = form(emitters, background.contiguous(), one, setup)
        camera = setup.camera_of(region, like.shape_px)
        photons[windows] = camera.to_photons(camera.sample(expected, generator)).numpy().reshape(photons[windows].shape)
    return with_photons(like, photons)


def _specimen(table: Localizations, like: Scene, density: float, setup: Setup) -> Specimen:
    experiment = setup.experiment.model_copy(update={"pixel_size_nm": setup.pixel_size_nm})
    specimen = experiment.build_specimen(like.shape_px)
    z = table.z_nm if table.is_3d else np.zeros(len(table))
    found = torch.from_numpy(np.stack([table.x_nm, table.y_nm, z])).float()
    return replace(specimen, density_per_um2=density, structure=Places(found, specimen.volume))


def _brightened(emitters: Emitters, photons: float) -> Emitters:
    """Scale the photons so that their bright end is as asked, if anything is."""
    now = bright_end(emitters.photons.numpy())
    return emitters if now <= 0 or photons <= 0 else replace(emitters, photons=emitters.photons * (photons / now))
