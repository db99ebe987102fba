"""What a calibration is worth: its own beads localized plane by plane, and a plain word for each thing that spoils it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from ..errors import CalibrationError
from ..fit import fit_single
from ..optics import PSF
from .psf_fit import PSFFit, centre_px

FEW_BEADS = 3
CUT_LIGHT = 0.05  # share of the light in the two outermost rings of the patch from which on the patch is too small
WOBBLE_NM = 100.0
GOOD_NM = 20.0  # error in z that is called usable in any case
POOR_SHARE = 0.2  # systematic residual over the peak from which on a PSF does not describe its beads
MANY_ZEROS = 0.1  # share of the pixels
LEAST_CHI2 = 0.7  # below which there is less noise than light can have
WIDE_NM = (60.0, 600.0)  # Gaussian widths of spots of visible light, from the highest apertures to 0.25
DARK_PLANE = 0.1  # share of a bead's photons below which a plane does not show it
FAR_OFF = 5.0  # multiple of the bound from which on depths of the usable range are wrong, if by more than POOR_NM
POOR_NM = 50.0
DEEPEST = 6.0  # depth over which a PSF of any shape stays sharp, in depths of focus; masks reach 5
BLIND_NM = 250.0  # error in z from which on a PSF tells no depth
BLIND_SHARE = 0.2  # the same as a share of the recorded depths, of which a PSF without depth is wrong by 0.22 to 0.32


@dataclass(frozen=True, eq=False)
class BeadLocalizations:
    """Every bead in every plane, localized with the PSF; all arrays (n,).

    Args:
        bead: number of the used bead.
        stage_nm: position of the stage, with the bead's height.
        x_nm, y_nm: relative to the place that all planes share.
        z_nm: found depth, or None for a PSF that tells none.
        crlb_x_nm, crlb_y_nm, crlb_z_nm: bounds.
        converged: whether the fit did.
    """

    bead: np.ndarray
    stage_nm: np.ndarray
    x_nm: np.ndarray
    y_nm: np.ndarray
    z_nm: np.ndarray | None
    crlb_x_nm: np.ndarray
    crlb_y_nm: np.ndarray
    crlb_z_nm: np.ndarray | None
    converged: np.ndarray


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a calibration is worth.

    Args:
        localizations: of the beads.
        depths_nm: (depths,) rising.
        z_rmse_nm, z_bias_nm, z_crlb_nm: (depths,) over the beads, or None for a PSF that tells no depth.
        wobble_nm: (depths, 2) x and y of the PSF's centre of light relative to the focus.
        usable_nm: depths between which z (or, where the PSF tells none, x and y) can be trusted.
        chi2: of the beads that judge; 1 is perfect.
        warnings: in plain words.
        held_out: whether the PSF was not fitted to what judges it.
    """

    localizations: BeadLocalizations
    depths_nm: np.ndarray
    z_rmse_nm: np.ndarray | None
    z_bias_nm: np.ndarray | None
    z_crlb_nm: np.ndarray | None
    wobble_nm: np.ndarray
    usable_nm: tuple[float, float]
    chi2: float
    warnings: tuple[str, ...]
    held_out: bool = False

    @property
    def usable(self) -> np.ndarray:
        """(depths,) whether each lies in the usable range."""
        return np.asarray((self.depths_nm >= self.usable_nm[0]) & (self.depths_nm <= self.usable_nm[1]))

    @property
    def z_rmse_and_bound_nm(self) -> tuple[float, float] | None:
        """Error of z and its Cramer-Rao bound over the usable range, root mean squares; None for a PSF that tells no depth."""
        if self.z_rmse_nm is None or self.z_crlb_nm is None:
            return None
        error, bound = (
            np.sqrt(np.mean(v[self.usable & np.isfinite(v)] ** 2)) if (self.usable & np.isfinite(v)).any() else np.inf
            for v in (self.z_rmse_nm, self.z_crlb_nm)
        )
        return float(error), float(bound)


def localize_beads(found: PSFFit, psf: PSF | None = None) -> BeadLocalizations:
    """Localize the beads of a fit.

    Args:
        found: the fit.
        psf: another PSF than the fitted one.
    """
    psf = psf or found.build()
    fit = found.fit
    patches = fit.patches.crop(fit.patches.roi_px - 2)
    depths = found.fit.depths()
    reach = (float(depths[0]), float(depths[-1])) if len(depths) > 1 else None
    tells = psf.settings.tells_depth and reach is not None
    half = patches.roi_px // 2
    pixel = torch.tensor(found.pixel_size_nm[::-1])
    start = (fit.offset_px[patches.bead] + half + 0.5) * pixel
    results = fit_single(
        psf,
        patches.values,
        excess=float(patches.excess.mean()),
        noise_variance=patches.noise,
        depth=tells,
        z_range_nm=reach,
        start_nm=None if tells else start.double(),
    )
    x, y = (results["x_nm"], results["y_nm"])
    height = fit.heights[patches.bead]
    return BeadLocalizations(
        bead=patches.bead.numpy(),
        stage_nm=(patches.z_nm + height).numpy(),
        x_nm=(x - start[:, 0]).numpy(),
        y_nm=(y - start[:, 1]).numpy(),
        z_nm=results["z_nm"].numpy() if tells else None,
        crlb_x_nm=results.crlb("x_nm").numpy(),
        crlb_y_nm=results.crlb("y_nm").numpy(),
        crlb_z_nm=results.crlb("z_nm").numpy() if tells else None,
        converged=results.converged.numpy(),
    )


def judge(found: PSFFit, rest: PSFFit | None = None) -> Judgement:
    """Judge a fit.

    Args:
        found: the fit.
        rest: one half of its beads or planes under the PSF of the other half (`fit_half`); without it the beads judge the PSF that was
            fitted to them, which flatters it where they are few.

    Raises:
        CalibrationError: it cannot be trusted at all.
    """
    seen = rest or found
    spots, depths = localize_beads(seen), seen.fit.depths()
    plane = seen.fit.patches.z_nm.numpy()
    at = [(plane == depth) & spots.converged for depth in depths]
    wobble = _wobble(found.build(), depths)
    if spots.z_nm is None or spots.crlb_z_nm is None:
        error = np.hypot(spots.x_nm, spots.y_nm)
        usable = _usable(depths, _rms(error, at), _mean(np.hypot(spots.crlb_x_nm, spots.crlb_y_nm), at))
        result = Judgement(spots, depths, None, None, None, wobble, usable, seen.chi2, (), rest is not None)
    else:
        error = spots.z_nm - spots.stage_nm
        rmse, crlb = _rms(error, at), _mean(spots.crlb_z_nm, at)
        usable = _usable(depths, rmse, crlb)
        result = Judgement(spots, depths, rmse, _mean(error, at), crlb, wobble, usable, seen.chi2, (), rest is not None)
    _refuse(found, result)
    return replace(result, warnings=tuple(_warnings(found, result)))


def _rms(error: np.ndarray, at: list[np.ndarray]) -> np.ndarray:
    return np.array([np.sqrt(np.mean(error[rows] ** 2)) if rows.any() else np.inf for rows in at])


def _mean(value: np.ndarray, at: list[np.ndarray]) -> np.ndarray:
    return np.array([value[rows].mean() if rows.any() else np.inf for rows in at])


def _usable(depths: np.ndarray, rmse: np.ndarray, crlb: np.ndarray) -> tuple[float, float]:
    """Give the longest run of depths whose error is near its bound, or small."""
    smooth = ndimage.median_filter(rmse, min(5, len(rmse)), mode="nearest")
    good = (smooth < np.maximum(2 * crlb, GOOD_NM)) & (crlb < BLIND_NM)
    labels, n = ndimage.label(good)
    if not n:
        return float(depths[len(depths) // 2]), float(depths[len(depths) // 2])
    longest = 1 + int(np.argmax(ndimage.sum_labels(good, labels, range(1, n + 1))))
    inside = depths[labels == longest]
    return float(inside[0]), float(inside[-1])


def _wobble(psf: PSF, depths: np.ndarray) -> np.ndarray:
    """Centre of the PSF's light in nm, x and y, relative to that at the depth nearest to 0."""
    centre = centre_px(psf, depths).numpy() * np.array(psf.pixel_size_nm[::-1])
    return np.asarray(centre - centre[np.abs(depths).argmin()])


@torch.no_grad()
def rim_share(psf: PSF, depths: np.ndarray) -> float:
    """Give the largest share of the light in the two outermost rings of the patch, over the middle half of the depths."""
    quarter = len(depths) // 4
    z = torch.from_numpy(np.asarray(depths[quarter : len(depths) - quarter], np.float32))
    light = psf(torch.zeros(len(z), 2), z).sum(1).abs()
    return float((1 - light[:, 2:-2, 2:-2].sum((1, 2)) / light.sum((1, 2))).max())


@torch.no_grad()
def missed_share(found: PSFFit) -> float:
    """Give what the PSF misses of the beads' light beyond their noise: root of the ratio of squares, over all depths."""
    fit, patches = found.fit, found.fit.patches
    model = fit.model(found.build())
    photons = fit.log_photons.exp()[patches.bead][:, None, None, None]
    light = (model - fit.background[patches.bead][:, :, None, None]) / photons
    grain = (patches.excess[patches.bead][:, None, None, None] * model.clamp(min=0) + patches.noise) / photons**2
    per_plane = len(found.used)
    noise = float(grain.mean()) / per_plane
    return float(np.sqrt(max((found.residual**2).mean() - noise, 0.0) / float(light.square().mean().clamp(min=1e-12))))


def _refuse(found: PSFFit, result: Judgement) -> None:
    """Refuse a calibration that cannot be trusted.

    Raises:
        CalibrationError: with the reason.
    """
    if text := dark_planes(found):
        raise CalibrationError(text)
    share = missed_share(found)
    failed = 1 - float(result.localizations.converged.mean())
    if failed > 0.5:
        raise CalibrationError(
            f"the PSF does not find its own beads again: {100 * failed:.0f} % of the fits fail; wrong kind, camera or pixel size, or no stack of "
            "beads"
        )
    if found.chi2 > 5 and share > POOR_SHARE:
        raise CalibrationError(
            f"the PSF misses {100 * share:.0f} % of the beads' light (chi2 {found.chi2:.1f}): "
            + (
                "beads that differ or move, a z step far too small, or no stack of beads; check the stack and its z step"
                if found.options.kind == "spline"
                else "wrong kind, beads that differ, or no stack of beads; try kind 'spline' (--kind spline)"
            )
        )
    span = float(np.ptp(result.depths_nm))
    if result.z_rmse_nm is not None and float(np.median(result.z_rmse_nm)) > min(BLIND_NM, BLIND_SHARE * span):
        raise CalibrationError(
            f"depths cannot be told: the beads' own z is off by {np.median(result.z_rmse_nm):.0f} nm; wrong z step, or a PSF that is the same "
            "above and below focus: for a 2D microscope take kind 'gaussian' (--kind gaussian)"
        )
    known, rmse = result.z_rmse_and_bound_nm, result.z_rmse_nm
    if (
        known is not None
        and rmse is not None
        and (result.usable_nm[0] >= result.usable_nm[1] or known[0] > max(FAR_OFF * known[1], POOR_NM))
    ):
        raise CalibrationError(
            f"depths cannot be told: the beads' own z is off by {np.median(rmse):.0f} nm, the bound is {known[1]:.0f} nm"
            ": each depth must stand once in the stack (one pass, one frame a step), and beads must not move; check the stack"
        )


@torch.no_grad()
def dark_planes(found: PSFFit) -> str:
    """Say in which planes the beads are dark, as behind a shutter or once they have bleached; nothing where in none."""
    fit, patches = found.fit, found.fit.patches
    light = (patches.values - fit.background[patches.bead][:, :, None, None]).sum((1, 2, 3)) / fit.log_photons.exp()[patches.bead]
    for number, stack in enumerate(found.stacks):
        mine = [i for i, bead in enumerate(found.used) if bead.stack == number]
        if not mine:
            continue
        rows = torch.isin(patches.bead, torch.tensor(mine))
        shares = torch.stack([light[rows & (patches.z_nm == float(np.float32(z)))].median() for z in stack.z_nm])
        dark = torch.nonzero(shares < DARK_PLANE * shares.median()).flatten().tolist()
        if dark:
            planes = ", ".join(str(i) for i in dark[:3]) + (", ..." if len(dark) > 3 else "")
            return (
                f"{stack.name}: the beads are dark in {len(dark)} of {len(stack.z_nm)} planes ({planes}; counted from 0, depth rising): bleached, "
                "lost or without light; leave these planes out"
            )
    return ""


def _warnings(found: PSFFit, result: Judgement) -> list[str]:
    """Say what spoils the calibration."""
    text, depths = [], result.depths_nm
    n = len(found.used)
    if n < FEW_BEADS:
        text.append(f"{n} bead{'s' if n > 1 else ''} only: noise and neighbours of each go into the PSF; use {FEW_BEADS} or more")
    saturated = sum(1 for bead in found.beads if (bead.reason or "").startswith("saturated"))
    if saturated:
        text.append(f"{saturated} bead{'s are' if saturated > 1 else ' is'} saturated and left out: lower the exposure")
    for stack in found.stacks:
        if stack.zeros > MANY_ZEROS:
            text.append(
                f"{stack.name}: {100 * stack.zeros:.0f} % of the pixels are exactly 0: cut off below, or a background was taken away; photons and "
                "bounds are wrong then: give the stack as the camera recorded it"
            )
    psf = found.build()
    cut = rim_share(psf, depths)
    if cut > CUT_LIGHT:
        text.append(
            f"{100 * cut:.0f} % of the light lies in the outermost two pixels of the patch: enlarge roi_px (--roi-px), which is {psf.roi_px}"
        )
    reach = float(np.abs(result.wobble_nm).max())
    if reach > WOBBLE_NM:
        text.append(
            f"the beads move sideways by {reach:.0f} nm through the stack: drift while it was taken, or a tilted axis; z depends on x and y then"
        )
    if result.chi2 > 2:
        text.append(f"chi2 per pixel is {result.chi2:.1f}: the PSF misses part of the light, or the camera's gain is wrong")
    elif result.chi2 < LEAST_CHI2 * (1 - _fitted_share(found, result)):
        text.append(
            f"chi2 per pixel is {result.chi2:.2f}: less noise than the camera can have; electrons per count are too small, or em_gain too large"
        )
    text += _size_of_light(found)
    text += _depth_of_focus(found)
    low, high = result.usable_nm
    recorded = float(depths[-1] - depths[0])
    if len(depths) > 3 and high - low < 0.5 * recorded:
        what = "x and y" if result.z_rmse_nm is None else "z"
        text.append(f"{what} can be trusted from {low:.0f} to {high:.0f} nm only, of the {recorded:.0f} nm that were recorded")
    return text


def _fitted_share(found: PSFFit, result: Judgement) -> float:
    """Give the share of the noise that the PSF may have taken for light: its free values over the pixels it was fitted to."""
    if result.held_out:
        return 0.0
    free = sum(value.numel() for value in found.build().parameters())
    return min(1.0, free / found.fit.patches.values.numel())


def _size_of_light(found: PSFFit) -> list[str]:
    """Say that the spots are narrower or wider than those of microscopes."""
    width = found.psf.width_in_focus_nm()
    if WIDE_NM[0] <= width <= WIDE_NM[1]:
        return []
    return [
        f"the PSF is {width:.0f} nm wide in focus, expected {WIDE_NM[0]:.0f} to {WIDE_NM[1]:.0f} nm of visible light: is the pixel size right?"
    ]


@torch.no_grad()
def _depth_of_focus(found: PSFFit) -> list[str]:
    """Compare the depth over which the width grows with what diffraction allows for a spot of this size."""
    settings = found.psf
    depth, width = getattr(settings, "depth_nm", None), getattr(settings, "width_nm", None)
    kind = type(settings).model_fields["kind"].default
    if kind == "spline":
        width = settings.width_in_focus_nm()
        expected = 4 * np.pi * 1.4 * width**2 / 620
        z = found.fit.depths()
        sharp = (
            found.build()(torch.zeros(len(z), 2), torch.from_numpy(np.asarray(z, np.float32))).square().sum((2, 3)).amax(1).numpy()
        )
        inside = z[sharp > 0.5 * sharp.max()]
        depth = float(np.ptp(inside)) / 2
        if depth < DEEPEST * expected:
            return []
        return [
            f"the PSF stays sharp over {2 * depth:.0f} nm of depth, light of a spot of this size over about {2 * expected:.0f}: is the z step right?"
        ]
    if not isinstance(depth, float) or not isinstance(width, float) or kind == "pupil":
        return []
    expected = 4 * np.pi * 1.4 * width**2 / 620  # of a Gaussian beam, visible light, oil or water
    ratio = depth / expected
    if 0.2 < ratio < 2.5:
        return []
    return [
        f"the focus is {'deeper' if ratio > 1 else 'shallower'} than light allows for a spot of this size ({depth:.0f} nm, expected about "
        f"{0.7 * expected:.0f}): is the z step right?"
    ]
