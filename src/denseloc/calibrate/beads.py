"""Find the beads of a stack, and say of each one that cannot be used why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from ..errors import CalibrationError
from .stack import BeadStack

DIM = 0.2  # share of the median light below which a bead is left out
BRIGHT = 4.0  # multiple of the median light above which it is taken for several beads
APART = 0.8  # least distance of two beads, in widths of the patch
GROUPS = 6  # parts of a stack in which two spots are looked for
SHARP = 0.6  # share of the highest peak from which on a part of the stack is near to focus
SATURATED = "saturated"


@dataclass(frozen=True)
class Bead:
    """One bead of a stack.

    Args:
        stack: index of its stack.
        row, column: its middle pixel.
        reason: why it is not used, or None.
    """

    stack: int
    row: int
    column: int
    reason: str | None = None


def find_beads(stacks: Sequence[BeadStack], roi_px: int) -> list[Bead]:
    """Find beads in the mean over each stack.

    Args:
        stacks: one or several.
        roi_px: odd width of the patch that each bead needs for itself.

    Raises:
        CalibrationError: none can be used; says how many were found and what was wrong with them.
    """
    beads = [bead for index, stack in enumerate(stacks) for bead in _in_stack(stack, index, roi_px)]
    beads = _without_pairs(beads, stacks, roi_px)
    if all(bead.reason for bead in beads):
        raise CalibrationError(_none_usable(beads, stacks, roi_px))
    return beads


def _none_usable(beads: list[Bead], stacks: Sequence[BeadStack], roi_px: int) -> str:
    names = ", ".join(stack.name for stack in stacks)
    if not beads:
        return f"{names}: no bead found; expected bright spots that stay in place through the stack"
    reasons = [(bead.reason or "").split(":")[0] for bead in beads]
    told = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    mend = f"give a stack with lone beads {roi_px // 2} px from the edge, or a smaller roi_px (--roi-px)"
    if set(reasons) == {SATURATED}:
        mend = "lower the exposure or the light, and record the stack again"
    return f"{names}: no usable bead: {len(beads)} found, {told}; {mend}"


def _in_stack(stack: BeadStack, index: int, roi_px: int) -> list[Bead]:
    mean = stack.photons.mean((0, 1)).numpy()
    blur = roi_px / 5  # two lobes become one
    smooth = ndimage.gaussian_filter(mean, blur, mode="nearest")
    low = np.quantile(smooth, 0.2)
    grain = 1.48 * np.median(np.abs(np.diff(mean, axis=0))) / np.sqrt(2)
    limit = low + max(0.1 * (smooth.max() - low), 8 * grain / (2 * np.sqrt(np.pi) * blur))
    is_peak = (smooth == ndimage.maximum_filter(smooth, roi_px // 2 | 1)) & (smooth > limit)
    rows, columns = np.nonzero(is_peak)
    height = smooth[rows, columns] - low
    usual = np.median(height) if len(height) else 0.0
    half = roi_px // 2
    found = []
    for i, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        others = np.delete(np.hypot(rows - row, columns - column), i)
        patch = np.s_[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
        saturated = int(stack.saturated[patch].sum())
        reason = None
        if not (half <= row < mean.shape[0] - half and half <= column < mean.shape[1] - half):
            reason = "too near to the edge"
        elif others.min(initial=np.inf) < APART * roi_px:
            reason = f"too near to another: {others.min():.0f} px"
        elif saturated:
            reason = f"{SATURATED}: {saturated} pixels"
        elif height[i] < DIM * usual:
            reason = f"too dim: {100 * height[i] / usual:.0f} % of the usual light"
        elif height[i] > BRIGHT * usual:
            reason = f"too bright for one bead: {height[i] / usual:.1f} times the usual light"
        found.append(Bead(index, row, column, reason))
    return found


def _without_pairs(beads: list[Bead], stacks: Sequence[BeadStack], roi_px: int) -> list[Bead]:
    """Leave out what is two beads side by side; where most look so, the PSF has two lobes, and none is left out for it."""
    usable = [bead for bead in beads if bead.reason is None]
    apart = {bead: px for bead in usable if (px := _two_spots(stacks[bead.stack], bead, roi_px)) is not None}
    if len(apart) > 2 and len(apart) > len(usable) / 2:
        return beads
    return [replace(bead, reason=f"two side by side: {apart[bead]:.0f} px apart") if bead in apart else bead for bead in beads]


def _two_spots(stack: BeadStack, bead: Bead, roi_px: int) -> float | None:
    """Give the distance in px of two spots that stand side by side, in the same way, wherever in the stack they can be told apart.

    A PSF of several lobes turns or spreads them with depth, and one of a single lobe splits only out of focus.
    """
    half = roi_px // 2
    light = stack.photons[:, :, bead.row - half : bead.row + half + 1, bead.column - half : bead.column + half + 1].sum(1)
    parts = [part.mean(0).numpy() for part in torch.tensor_split(light, min(GROUPS, len(light))) if len(part)]
    smooth = [ndimage.gaussian_filter(part, 1.0, mode="nearest") for part in parts]
    peaks = np.array([part.max() for part in smooth])
    grain = np.sqrt(stack.excess * max(float(light.mean()), 0.0) / (4 * np.pi) * len(parts) / len(light))
    between = [_two_highest(part, 6 * grain) for part in smooth]
    told = [vector for vector in between if vector is not None]
    # an astigmatic PSF is sharp at two depths, and may hide the pair at one of them
    first = next((between[i] for i in np.argsort(-peaks) if between[i] is not None and peaks[i] > SHARP * peaks.max()), None)
    if first is None or len(told) < min(2, len(parts)):
        return None
    turned = [min(np.hypot(*(first - other)), np.hypot(*(first + other))) for other in told]
    distance = float(np.hypot(*first))
    return distance if max(turned) < max(1.5, 0.2 * distance) else None


def _two_highest(image: np.ndarray, least: float) -> np.ndarray | None:
    """Give the way in px from the highest to the second highest maximum, or None where there is no other or no valley between."""
    level = np.median(np.concatenate((image[0], image[-1], image[:, 0], image[:, -1])))
    rows, columns = np.nonzero((image == ndimage.maximum_filter(image, 3)) & (image - level > 0.4 * (image.max() - level)))
    inside = np.hypot(rows - len(image) // 2, columns - len(image) // 2) < len(image) / 2
    order = np.argsort(-image[rows[inside], columns[inside]])[:2]
    if len(order) < 2:
        return None
    (y0, y1), (x0, x1) = rows[inside][order], columns[inside][order]
    way = np.linspace(0, 1, 2 * len(image))
    line = ndimage.map_coordinates(image, (y0 + way * (y1 - y0), x0 + way * (x1 - x0)), order=1)
    lower = float(image[y1, x1])
    if lower - line.min() < max(0.15 * (lower - level), least):
        return None
    return np.array((y1 - y0, x1 - x0), float)
