"""Views: what a localizer finds in a scene, the frames that its document expects of that, and what is left over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from ..data import Emitters, Frames, Grid, Localizations
from ..microscope import Microscope
from .scenes import Scene, Setup

RIM_PX = 4
"""Rim that does not count: molecules beyond the edge shine into it."""
TILE_PX = 4
SEEN = 1.0  # light over the noise from which on a pixel shows a molecule
UNSEEN = 0.2
FAR_PX = 6.0  # distance from which on molecules do not disturb each other
LEAST_CLEAR = 20


@dataclass(frozen=True, eq=False)
class View:
    """A scene as the model sees it. Inner frames of all windows count 0 .. n - 1; positions count from the corner of the window.

    Args:
        scene: the frames.
        table: what was found.
        light: (n, planes, y, x) expected photons of what was found.
        background: (windows, planes, y, x) smooth background that fits what is left: a map of the region, and a level for each window.
        variance: (n, planes, y, x) of the photons, as camera and expectation say.
    """

    scene: Scene
    table: Localizations
    light: np.ndarray
    background: np.ndarray
    variance: np.ndarray

    @cached_property
    def photons(self) -> np.ndarray:
        """(n, planes, y, x) the frames that count."""
        return self.scene.inner.reshape(-1, *self.scene.inner.shape[2:])

    @cached_property
    def expected(self) -> np.ndarray:
        """(n, planes, y, x) light and background."""
        return self.light + np.repeat(self.background, self.scene.inner.shape[1], 0)

    @cached_property
    def residual(self) -> np.ndarray:
        """(n, planes, y, x) frames minus expectation, in standard deviations."""
        return (self.photons - self.expected) / np.sqrt(self.variance)

    @property
    def window(self) -> np.ndarray:
        """(rows of the table,) number of the window."""
        return self.table.frame // self.scene.inner.shape[1]

    @cached_property
    def rim_px(self) -> int:
        """Rim that does not count; none in windows that are hardly wider."""
        return RIM_PX if min(self.scene.shape_px) >= 6 * RIM_PX else 0

    @cached_property
    def counted(self) -> Localizations:
        """What was found inside of the rim."""
        return self.table.select(self.is_counted)

    @cached_property
    def clear(self) -> Localizations:
        """Those inside of the rim that most likely are single molecules: far from others, and known as well as their photons allow.

        In a crowd two that are taken for one look like a wider PSF.
        """
        table = self.counted
        if len(table) < LEAST_CLEAR:
            return table
        apart = _distance_px(table, self.pixel_size_nm)
        table = table.select(apart >= min(FAR_PX, float(np.quantile(apart, 0.6))))
        if "sigma_x_nm" not in table or "sigma_y_nm" not in table or "photons" not in table:
            return table
        unsure = np.hypot(table.sigma_x_nm, table.sigma_y_nm) * np.sqrt(np.maximum(table.photons, 1.0))
        return table.select(unsure <= np.quantile(unsure, 0.6))

    @cached_property
    def is_counted(self) -> np.ndarray:
        """(rows of the table,) whether they lie inside of the rim."""
        y_nm, x_nm = self.pixel_size_nm
        rows, columns = self.scene.shape_px
        y, x, rim = self.table.y_nm / y_nm, self.table.x_nm / x_nm, self.rim_px
        return np.asarray((y >= rim) & (y < rows - rim) & (x >= rim) & (x < columns - rim))

    @property
    def pixel_size_nm(self) -> tuple[float, float]:
        """(y, x)."""
        size = self.table.provenance.pixel_size_nm
        assert size is not None
        return size

    @property
    def area_um2(self) -> float:
        """Area of the pixels that count in a frame."""
        rows, columns = (side - 2 * self.rim_px for side in self.scene.shape_px)
        return rows * columns * self.pixel_size_nm[0] * self.pixel_size_nm[1] * 1e-6

    @property
    def density_per_um2(self) -> float:
        """What was found per um^2 and frame."""
        return len(self.counted) / (self.area_um2 * len(self.photons))

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Cut the rim off frames (..., y, x)."""
        rim = self.rim_px
        return values[..., rim : values.shape[-2] - rim, rim : values.shape[-1] - rim]


@torch.inference_mode()
def look(scene: Scene, setup: Setup) -> View:
    """Localize a scene and form what its document expects."""
    table = _localized(scene, setup)
    light = render(table, scene, setup)
    inner = scene.inner
    left = inner - light.reshape(inner.shape)
    background = _backgrounds(left, scene)
    expected = light + np.repeat(background, inner.shape[1], 0)
    variance = np.empty_like(expected)
    for window, place in enumerate(scene.place):
        camera = setup.camera_of(scene.regions[place], scene.shape_px)
        rows = slice(window * inner.shape[1], (window + 1) * inner.shape[1])
        excess = torch.as_tensor(camera.excess, dtype=torch.float32).numpy()
        variance[rows] = excess * np.maximum(expected[rows], 0.02) + camera.noise_variance(scene.shape_px).numpy()
    return View(scene, table, light, background, np.maximum(variance, 1e-3))


def _distance_px(table: Localizations, pixel_size_nm: tuple[float, float]) -> np.ndarray:
    """Give the distance to the next localization of the same frame, in pixels."""
    places = np.stack([table.x_nm / pixel_size_nm[1], table.y_nm / pixel_size_nm[0], table.frame * 1e4], 1)
    return np.asarray(cKDTree(np.nan_to_num(places)).query(np.nan_to_num(places), k=2)[0][:, 1])


def _localized(scene: Scene, setup: Setup) -> Localizations:
    """Localize the inner frames of all windows, those of one region at once."""
    localizer, context = setup.localizer, scene.context
    before, length = (localizer.conditions, localizer.threshold), scene.photons.shape[1]
    localizer.conditions, localizer.threshold = setup.conditions, None
    device = next((weight.device for weight in localizer.parameters()), torch.device("cpu"))
    parts = []
    try:
        for place, region in enumerate(scene.regions):
            windows = np.flatnonzero(scene.place == place)
            if not len(windows):
                continue
            stack = torch.from_numpy(scene.photons[windows].reshape(-1, *scene.photons.shape[2:])).to(device)
            field = setup.field_of(region, scene.shape_px)
            top, left = scene.corner_px(place)
            background = None if field is None else torch.from_numpy(field).to(device)
            found = localizer(Frames(stack, setup.pixel_size_nm, background=background, origin_px=(top, left)))
            step = found.frame % length
            found = found.select((step >= context) & (step < length - context))
            frame = windows[found.frame // length] * (length - 2 * context) + found.frame % length - context
            y_nm, x_nm = found.y_nm - top * setup.pixel_size_nm[0], found.x_nm - left * setup.pixel_size_nm[1]
            parts.append(found.with_columns(frame=frame, x_nm=x_nm, y_nm=y_nm))
    finally:
        localizer.conditions, localizer.threshold = before
    return Localizations.concat(parts).with_provenance(pixel_size_nm=setup.pixel_size_nm)


def render(table: Localizations, scene: Scene, setup: Setup) -> np.ndarray:
    """Form the light of localizations without background, (inner frames, planes, y, x) photons; none where photons are not told."""
    n, planes = scene.inner.shape[0] * scene.inner.shape[1], scene.inner.shape[2]
    if "photons" not in table or not len(table):
        return np.zeros((n, planes, *scene.shape_px), np.float32)
    z = table.z_nm if table.is_3d else np.zeros(len(table))
    emitters = Emitters.of(
        frame=torch.from_numpy(table.frame.astype(np.int64)),
        x_nm=torch.from_numpy(np.nan_to_num(table.x_nm)).float(),
        y_nm=torch.from_numpy(np.nan_to_num(table.y_nm)).float(),
        photons=torch.from_numpy(np.nan_to_num(table.photons).clip(min=0)).float(),
        z_nm=torch.from_numpy(np.nan_to_num(z)).float(),
        channel=torch.from_numpy(table.channel) if "channel" in table else None,
    )
    return form(emitters, torch.zeros(n, 1, *scene.shape_px), scene, setup).numpy()


@torch.inference_mode()
def form(emitters: Emitters, background: torch.Tensor, scene: Scene, setup: Setup) -> torch.Tensor:
    """Form frames of emitters with the document's PSF; frames count over the windows, as many in each as in ``background``."""
    experiment = setup.experiment
    psf = experiment.psf.build(experiment.pixel_size_nm)
    microscope = Microscope(psf, setup.camera, Grid(scene.shape_px, setup.pixel_size_nm))
    scale = None if setup.scale == 1.0 else torch.full((len(emitters),), setup.scale)
    origin = None
    if psf.varies_in_field:
        window = emitters.frame // (len(background) // len(scene.place))
        origin = torch.from_numpy(corners_nm(scene, setup)).float()[window]
    return microscope.expected(emitters, background, scale, origin)


def corners_nm(scene: Scene, setup: Setup) -> np.ndarray:
    """Give the outer corner (x, y) of each window in the whole field, (windows, 2)."""
    corners = np.array([scene.corner_px(int(place)) for place in scene.place], float).reshape(-1, 2)
    return np.ascontiguousarray((corners * setup.pixel_size_nm)[:, ::-1])


def _backgrounds(left: np.ndarray, scene: Scene) -> np.ndarray:
    """Give the background of each window (windows, planes, y, x): the smooth map of its region, shifted to its own level."""
    background = np.empty((len(left), *left.shape[2:]), np.float32)
    for place in np.unique(scene.place):
        windows = scene.place == place
        level = smooth_level(left[windows].reshape(-1, *left.shape[2:]))
        shift = np.median(left[windows] - level, axis=(1, 3, 4))
        background[windows] = level + shift[:, :, None, None]
    return background


def smooth_level(frames: np.ndarray) -> np.ndarray:
    """Give the smooth level (planes, y, x) of what is left of frames (n, planes, y, x): medians of tiles, joined by straight lines."""
    rows, columns = frames.shape[-2:]
    n = max(1, rows // TILE_PX), max(1, columns // TILE_PX)
    edges = [np.linspace(0, side, k + 1).round().astype(int) for side, k in zip((rows, columns), n, strict=True)]
    tiles = np.array(
        [
            [
                np.median(frames[:, :, top:bottom, left:right], axis=(0, 2, 3))
                for left, right in zip(edges[1], edges[1][1:], strict=False)
            ]
            for top, bottom in zip(edges[0], edges[0][1:], strict=False)
        ]
    )
    smoothed = ndimage.gaussian_filter(tiles, (0.6, 0.6, 0), mode="nearest")
    at = np.stack(
        np.meshgrid(
            *[
                np.interp(np.arange(side) + 0.5, (e[1:] + e[:-1]) / 2, np.arange(len(e) - 1))
                for side, e in zip((rows, columns), edges, strict=True)
            ],
            indexing="ij",
        )
    )
    return np.stack(
        [ndimage.map_coordinates(smoothed[..., plane], at, order=1, mode="nearest") for plane in range(frames.shape[1])]
    ).astype(np.float32)
