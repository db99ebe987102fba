"""A PSF from beads: find them, fit places and PSF together, leave out beads that do not fit, fit again.

The same again with one half of beads or planes, to judge the PSF on the other half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import CalibrationError
from ..optics import PSF, PSFSettings, PupilSettings, ResidualMaps
from ..units import PixelSize
from .bead_fit import BeadFit, BeadPatches
from .beads import Bead, find_beads
from .first_guess import FORMULAS, begin, mean_bead
from .pupil_fit import fit_pupil
from .stack import BeadStack

PARAMETRIC = ("gaussian", "astigmatic", "double_helix")
ODD_ONE_OUT = 3.0  # chi2 of a bead, in units of the median, from which on it is not like the others
LEAST_TO_SPLIT = 4  # beads of which one half can be held out
LEAST_PLANES = 5  # of a stack through focus
MARGIN_PX = 2  # by how much the patch of a spline's nodes is wider than the PSF


@dataclass(frozen=True)
class FitOptions:
    """How a PSF is fitted; see `fit_psf`."""

    kind: str
    pixel_size_nm: PixelSize
    roi_px: int
    map_step_nm: float
    nodes_per_px: int
    steps: int
    pupil: PupilSettings | None
    free_phase: bool
    progress: Callable[[str], None]

    @property
    def bead_px(self) -> int:
        """Width of the patch that each bead needs for itself."""
        return self.roi_px + (MARGIN_PX if self.kind == "spline" else 0)


@dataclass(frozen=True, eq=False)
class PSFFit:
    """A PSF and how well it describes its beads.

    Args:
        psf: the document section.
        stacks: those that the beads are in.
        beads: all that were found, with the reason of those not used.
        fit: places, heights, photons and patches of the used beads; its patches are as wide as the PSF.
        chi2: mean squared residual in units of the expected variance; 1 is perfect.
        chi2_formula: the same without maps, or before the refinement of a spline.
        chi2_of_beads: (used beads,).
        residual: (depths, planes, k, k) mean residual over the beads, as a fraction of the photons.
        options: how it was fitted.
    """

    psf: PSFSettings
    stacks: tuple[BeadStack, ...]
    beads: tuple[Bead, ...]
    fit: BeadFit
    chi2: float
    chi2_formula: float
    chi2_of_beads: np.ndarray
    residual: np.ndarray
    options: FitOptions

    @property
    def pixel_size_nm(self) -> PixelSize:
        """(y, x)."""
        return self.options.pixel_size_nm

    @property
    def used(self) -> list[Bead]:
        """The beads that the PSF was fitted to."""
        return [bead for bead in self.beads if bead.reason is None]

    @property
    def x_nm(self) -> np.ndarray:
        """(used beads,) places in their fields, corner origin."""
        columns = np.array([bead.column for bead in self.used])
        return np.asarray((columns + self.fit.offset_px[:, 0].numpy() + 0.5) * self.pixel_size_nm[1])

    @property
    def y_nm(self) -> np.ndarray:
        """(used beads,) places in their fields, corner origin."""
        rows = np.array([bead.row for bead in self.used])
        return np.asarray((rows + self.fit.offset_px[:, 1].numpy() + 0.5) * self.pixel_size_nm[0])

    @property
    def photons(self) -> np.ndarray:
        """(used beads,) photons of each."""
        return np.asarray(self.fit.log_photons.exp().numpy())

    def build(self) -> PSF:
        """Make the PSF."""
        return self.psf.build(self.pixel_size_nm)


def fit_psf(
    stacks: Sequence[BeadStack],
    pixel_size_nm: PixelSize,
    kind: str = "parametric",
    *,
    roi_px: int = 21,
    map_step_nm: float = 100.0,
    nodes_per_px: int = 2,
    steps: int = 300,
    pupil: PupilSettings | None = None,
    free_phase: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> PSFFit:
    """Fit a PSF to the beads of one or several stacks.

    Args:
        stacks: of the same microscope.
        pixel_size_nm: (y, x).
        kind: "spline", "pupil", a formula ("gaussian", "astigmatic", "double_helix", "multiplane"), or "parametric" for the formula that
            describes the beads best.
        roi_px: odd width of the patch.
        map_step_nm: distance of a formula's residual maps in z; 0 for no maps.
        nodes_per_px: nodes of the maps per pixel.
        steps: gradient steps of each stage.
        pupil: what is known of the optics, for kind "pupil".
        free_phase: fit the phase in the pupil freely, after its polynomials.
        progress: told what is going on.

    Raises:
        CalibrationError: no usable bead, or an unknown kind.
    """
    known = ("parametric", "spline", "pupil", *FORMULAS)
    if kind not in known:
        raise CalibrationError(f"no fit for a PSF of kind '{kind}'; known: {', '.join(known)}")
    if len({stack.photons.shape[1] for stack in stacks}) != 1:
        raise CalibrationError("the stacks differ in their number of focal planes; calibrate them one by one")
    if kind == "pupil" and pupil is None:
        raise CalibrationError(
            "a pupil needs to know the optics: give pupil=PupilSettings(...), on the command line --wavelength-nm, --na and --immersion-index"
        )
    planes = stacks[0].photons.shape[1]
    if planes > 1 and kind in (*PARAMETRIC, "pupil"):
        raise CalibrationError(f"a PSF of kind '{kind}' has one focal plane, the stacks have {planes}; say spline or multiplane")
    options = FitOptions(kind, pixel_size_nm, roi_px, map_step_nm, nodes_per_px, steps, pupil, free_phase, progress)
    beads = _centred(find_beads(stacks, options.bead_px), stacks, options.bead_px)
    used = [bead for bead in beads if bead.reason is None]
    progress(f"{len(used)} of {len(beads)} beads can be used, {sum(len(s.z_nm) for s in stacks)} planes")
    psf, fit, before = _fit_kind(options, BeadPatches(stacks, used, options.bead_px))
    chi2 = fit.chi2_of_beads(psf).numpy()
    odd = chi2 > ODD_ONE_OUT * max(1.0, float(np.median(chi2)))
    if odd.any() and len(used) > 2:
        reasons = {used[i]: f"unlike the others: chi2 {chi2[i]:.1f} against {np.median(chi2):.1f}" for i in np.nonzero(odd)[0]}
        beads = [replace(bead, reason=reasons[bead]) if bead in reasons else bead for bead in beads]
        used = [bead for bead in used if bead not in reasons]
        progress(f"{len(reasons)} {'bead' if len(reasons) == 1 else 'beads'} unlike the others left out; fitting again")
        psf, fit, before = _fit_kind(options, BeadPatches(stacks, used, options.bead_px))
    return _described(psf, tuple(stacks), tuple(beads), fit, before, options)


def _centred(beads: list[Bead], stacks: Sequence[BeadStack], roi_px: int) -> list[Bead]:
    """Put the middle pixel of each usable bead where the centre of its light is, where the patch stays inside of the field."""
    half, moved = roi_px // 2, []
    for bead in beads:
        if bead.reason is None:
            rows, columns = stacks[bead.stack].photons.shape[-2:]
            x, y = BeadFit(BeadPatches(stacks, [bead], roi_px)).offset_px[0].round().int().tolist()
            row, column = min(max(bead.row + y, half), rows - half - 1), min(max(bead.column + x, half), columns - half - 1)
            bead = replace(bead, row=row, column=column)
        moved.append(bead)
    return moved


def fit_half(found: PSFFit) -> tuple[PSFFit, str]:
    """Fit the same kind of PSF to one half of the beads (of the planes, where there are fewer than 4 beads), and give it with the other half.

    Returns:
        the PSF of the first half with places, photons and heights of the second half fitted to it, and what was held out in words.

    Raises:
        CalibrationError: too few planes.
    """
    used, options = found.used, found.options
    if len(used) >= LEAST_TO_SPLIT:
        halves = [(found.stacks, used[::2]), (found.stacks, used[1::2])]
        words = f"fitted to {len(used[::2])} beads and judged on the other {len(used[1::2])}"
    else:
        if min(len(stack.z_nm) for stack in found.stacks) < 2 * LEAST_PLANES:
            raise CalibrationError(
                f"{len(used)} beads in few planes cannot be divided; to hold one half out, expected {LEAST_TO_SPLIT} beads or "
                f"{2 * LEAST_PLANES} planes"
            )
        halves = [(tuple(stack.every_other(begin) for stack in found.stacks), used) for begin in (0, 1)]
        words = "fitted to the first, third, fifth ... plane and judged on the others"
    options.progress(f"held out: {words}")
    psf, _, before = _fit_kind(options, BeadPatches(*halves[0], options.bead_px))
    rest = BeadFit(BeadPatches(*halves[1], options.bead_px).crop(psf.roi_px), defines_zero=False)
    rest.run(psf, options.steps, 0.02, shape=False, heights=bool(psf.settings.tells_depth))
    return _described(psf, *halves[1], rest, before, options), words


def _described(
    psf: PSF, stacks: tuple[BeadStack, ...], beads: Sequence[Bead], fit: BeadFit, before: float, options: FitOptions
) -> PSFFit:
    chi2 = fit.chi2_of_beads(psf).numpy()
    return PSFFit(psf.described(), stacks, tuple(beads), fit, float(chi2.mean()), before, chi2, fit.residual(psf), options)


def _fit_kind(how: FitOptions, patches: BeadPatches) -> tuple[PSF, BeadFit, float]:
    """Fit one kind, or the best formula of "parametric"; gives the PSF, the beads, and chi2 before maps or refinement."""
    if how.kind == "spline":
        return _fit_spline(how, patches)
    if how.kind == "pupil":
        assert how.pupil is not None
        fit = BeadFit(patches)
        psf, before = fit_pupil(how.pupil, fit, how.pixel_size_nm, how.steps, how.progress, free_phase=how.free_phase)
        return psf, fit, before
    kinds = (how.kind,) if how.kind in FORMULAS else PARAMETRIC if patches.values.shape[1] == 1 else ("multiplane",)
    psf, fit, before = min((_fit_formula(how, kind, patches) for kind in kinds), key=lambda found: found[2])
    if how.map_step_nm > 0:
        psf = _with_maps(psf, fit.depths(), how.map_step_nm, how.nodes_per_px)
        chi2 = fit.run(psf, 2 * how.steps, 0.004, heights=patches.n_beads > 1 and psf.settings.tells_depth)
        how.progress(f"with maps of what the formula misses: chi2 {chi2:.2f}")
    return psf, fit, before


def _fit_formula(how: FitOptions, kind: str, patches: BeadPatches) -> tuple[PSF, BeadFit, float]:
    fit = BeadFit(patches)
    psf = begin(kind, mean_bead(fit, how.pixel_size_nm))
    chi2 = fit.run(psf, how.steps, 0.02, heights=patches.n_beads > 1 and psf.settings.tells_depth)
    how.progress(f"{kind}: chi2 {chi2:.2f}")
    return psf, fit, chi2


def _fit_spline(how: FitOptions, patches: BeadPatches) -> tuple[PSF, BeadFit, float]:
    """Average the registered beads to a spline, with the light in focus at its centre; let beads and spline find each other, and refine."""
    fit, before = BeadFit(patches), float("nan")
    psf = begin("spline", mean_bead(fit, how.pixel_size_nm))
    for _ in range(3):
        fit.offset_px = fit.offset_px + centre_px(psf, np.zeros(1))[0]
        psf = begin("spline", mean_bead(fit, how.pixel_size_nm))
        fit.patches = patches.crop(psf.roi_px)
        before = fit.run(psf, how.steps // 3, 0.01, shape=False, heights=patches.n_beads > 1)
        fit.patches = patches
        if patches.n_beads == 1:  # it fits itself
            break
    fit.patches = patches.crop(psf.roi_px)
    how.progress(f"averaged beads: chi2 {before:.2f}")
    how.progress(f"refined spline: chi2 {fit.run(psf, how.steps, 0.003, heights=patches.n_beads > 1):.2f}")
    return psf, fit, before


@torch.no_grad()
def centre_px(psf: PSF, z_nm: np.ndarray) -> Tensor:
    """Centre of the PSF's light in px from the middle, (depths, 2) x and y; that of the first plane where there are several."""
    z = torch.from_numpy(np.asarray(z_nm, np.float32))
    light = psf(torch.zeros(len(z), 2), z)[:, 0].clamp(min=0)
    k = light.shape[-1]
    at = torch.arange(k, dtype=torch.float32) - k // 2
    light = light * (at**2 + at[:, None] ** 2 <= (k / 3) ** 2)
    total = light.sum((1, 2)).clamp(min=1e-9)
    return torch.stack(((light.sum(1) * at).sum(1) / total, (light.sum(2) * at).sum(1) / total), 1)


def _with_maps(psf: PSF, depths: np.ndarray, step_nm: float, nodes_per_px: int) -> PSF:
    """Give the PSF empty residual maps over the depths of the stack."""
    low, high = float(depths.min()), float(depths.max())
    levels = max(1, round((high - low) / step_nm)) + 1
    side = nodes_per_px * psf.roi_px + 1
    shape = (levels, side, side) if psf.planes == 1 else (psf.planes, levels, side, side)
    maps = ResidualMaps(
        values=np.zeros(shape, np.float32),
        z_min_nm=low,
        z_step_nm=max((high - low) / max(1, levels - 1), 1.0),
        nodes_per_px=nodes_per_px,
    )
    return psf.described().model_copy(update={"residual_maps": maps}).build(psf.pixel_size_nm)
