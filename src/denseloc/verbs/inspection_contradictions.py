"""Where metadata, the table of cameras, series or a given camera and the counts of a movie speak against each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..calibrate.cameras import KnownCamera
from ..calibrate.conditions import Conditions, Estimate
from ..calibrate.excess import Skewness
from ..calibrate.series import CameraMaps
from ..camera import Camera
from ..formats.camera_tags import Proposal

SHOT, MULTIPLIED = 1.0, 1.5
"""Skewness of the noise over that of shot noise."""
AGREES = 0.1
"""Relative difference of two gains that is not called a contradiction."""


def contradictions(
    alone: Conditions,
    skewness: Skewness | None,
    proposals: Sequence[Proposal],
    known: KnownCamera | None,
    camera: Camera | None,
    maps: CameraMaps | None,
    excess: Estimate | None = None,
) -> list[str]:
    """Compare what is said, or was assumed of the excess noise, with what the counts of the movie alone show."""
    said = {p.quantity: p for p in reversed(proposals) if isinstance(p.value, float)}
    told = []
    offsets = [(float(p.value), p.where) for p in (said.get("offset_counts"),) if p is not None]
    if known is not None and known.offset_counts is not None:
        offsets.append((known.offset_counts, f"the table for {known.name}"))
    if alone.offset_counts.source == "measured":
        told += [f"{line}" for value, where in offsets if (line := _offset_off(value, where, alone.offset_counts))]
    multiplies, where = _multiplies(said, known)
    seen = skewness.excess if skewness is not None else None
    if multiplies is not None and skewness is not None and seen is not None and multiplies != (seen == 2.0):
        says = "electrons are multiplied" if multiplies else "no electrons are multiplied"
        told.append(
            f"{where}: {says}, the skewness of the noise says the opposite ({skewness.ratio:.2f}; 1 is shot noise, 1.5 multiplied)"
        )
    told += _excess_off(skewness, excess)
    told += _gain_off(alone, said, known, multiplies)
    if camera is not None and alone.counts_per_photon.source == "measured":
        slope = float(torch.as_tensor(camera.counts_per_photon, dtype=torch.float32).mean()) * float(
            torch.as_tensor(camera.excess, dtype=torch.float32).mean()
        )
        told += _slope_off(alone, slope, "the camera given")
    if maps is not None and maps.gain_span is not None:
        told += _slope_off(alone, maps.gain_span.value, "the bright series")
    return told


def _excess_off(skewness: Skewness | None, excess: Estimate | None) -> list[str]:
    """Say where the skewness of the noise speaks against an excess that was assumed, or given."""
    if skewness is None or excess is None or excess.source == "measured":
        return []
    expected, other = (SHOT, MULTIPLIED) if excess.value < 1.5 else (MULTIPLIED, SHOT)
    margin = 2 * skewness.sigma
    low, high = skewness.ratio - margin, skewness.ratio + margin
    if low <= expected <= high or abs(skewness.ratio - expected) < abs(skewness.ratio - other):
        return []
    advice = "check kind and em_gain of the camera given" if excess.source == "given" else "give the camera if you know it"
    reading = (
        "light of molecules may look alike" if low <= other <= high else "light of molecules is in it, so that it decides nothing"
    )
    return [
        f"excess noise {excess.value:g} is {excess.source}, the skewness of the noise speaks against it: {skewness.ratio:.2f} ({low:.2f} to "
        f"{high:.2f}), expected {expected:g} (1 is shot noise, 1.5 multiplied electrons); {reading}: {advice}"
    ]


def _offset_off(value: float, where: str, measured: Estimate) -> str:
    margin = max(1.0, 0.01 * abs(measured.value))
    if measured.low - margin <= value <= measured.high + margin:
        return ""
    return f"{where} says offset {value:g} counts, the movie shows {measured.value:.4g} ({measured.low:.4g} to {measured.high:.4g})"


def _multiplies(said: dict[str, Proposal], known: KnownCamera | None) -> tuple[bool | None, str]:
    """Say whether metadata hold that electrons are multiplied, and where they say it."""
    gain = said.get("em_gain")
    if gain is not None and isinstance(gain.value, float) and (known is None or known.kind == "emccd"):
        return gain.value > 1, gain.where
    return (None, "") if known is None or known.kind == "emccd" else (False, f"the table for {known.name}")


def _gain_off(alone: Conditions, said: dict[str, Proposal], known: KnownCamera | None, multiplies: bool | None) -> list[str]:
    entry = said.get("electrons_per_count")
    value = float(entry.value) if entry is not None else known.electrons_per_count if known is not None else None
    where = entry.where if entry is not None else f"the table for {known.name}" if known is not None else ""
    if value is None:
        return []
    gain = said.get("em_gain")
    em_gain = float(gain.value) if multiplies and gain is not None else 1.0
    return _slope_off(alone, (2.0 if multiplies else 1.0) * em_gain / value, f"{where} with {value:g} electrons per count")


def _slope_off(alone: Conditions, slope: float, where: str) -> list[str]:
    """Compare slopes of variance against mean, gain and excess together, which one movie shows."""
    measured, factor = alone.counts_per_photon, alone.excess.value
    if measured.source != "measured" or (1 - AGREES) * factor * measured.low <= slope <= (1 + AGREES) * factor * measured.high:
        return []
    low, high = factor * measured.low, factor * measured.high
    return [
        f"{where} gives a variance of {slope:.4g} counts^2 per count of light, "
        f"the movie shows {factor * measured.value:.4g} ({low:.4g} to {high:.4g})"
    ]
