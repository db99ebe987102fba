"""Known cameras: what their data sheets say, found by the names that stand in metadata. Proposals only; users add their own.

A user's file is TOML, one ``[[camera]]`` for each::

    [[camera]]
    name = "our second camera"
    patterns = ["S/N: 720701"]
    kind = "scmos"
    offset_counts = 100.4
    electrons_per_count = 0.47
    read_noise_electrons = 1.5
    source = "measured in May"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ..description import Section, parse
from ..errors import CameraError

MOST_CAMERAS = 1000


class KnownCamera(Section):
    """One camera model, or one camera; what its data sheet leaves open is absent.

    Args:
        name: for people.
        patterns: texts one of which stands in the metadata; small and capital letters are alike.
        kind: "emccd" or "scmos".
        offset_counts: level of a dark frame.
        electrons_per_count: conversion (of an EMCCD, after multiplication).
        read_noise_electrons: standard deviation (of an EMCCD, after multiplication).
        quantum_efficiency: at its peak.
        source: where the numbers come from.
    """

    name: str = Field(min_length=1)
    patterns: tuple[Annotated[str, Field(min_length=3)], ...] = Field(min_length=1)
    kind: Literal["emccd", "scmos"]
    offset_counts: Annotated[float, Field(ge=0)] | None = None
    electrons_per_count: Annotated[float, Field(gt=0)] | None = None
    read_noise_electrons: Annotated[float, Field(ge=0)] | None = None
    quantum_efficiency: Annotated[float, Field(gt=0, le=1)] | None = None
    source: str = Field(min_length=1)

    @field_validator("patterns", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


KNOWN_CAMERAS: tuple[KnownCamera, ...] = (
    KnownCamera(
        name="Hamamatsu ORCA-Flash4.0",
        patterns=("C11440-22C", "C13440-20C", "ORCA-Flash4.0", "ORCA-Flash 4.0"),
        kind="scmos",
        offset_counts=100.0,
        electrons_per_count=0.46,
        read_noise_electrons=1.6,
        quantum_efficiency=0.82,
        source="Hamamatsu, data sheet of the ORCA-Flash4.0 V3 (C13440-20CU), standard scan, typical values",
    ),
    KnownCamera(
        name="Hamamatsu ORCA-Fusion BT",
        patterns=("C15440-20UP", "ORCA-Fusion BT", "ORCA-FusionBT"),
        kind="scmos",
        offset_counts=100.0,
        electrons_per_count=0.24,
        quantum_efficiency=0.95,
        source="Hamamatsu, technical note ORCA-Fusion / ORCA-Fusion BT, August 2021, typical values; its read noise depends on the scan",
    ),
    KnownCamera(
        name="Andor iXon Ultra 897",
        patterns=("iXon Ultra",),
        kind="emccd",
        offset_counts=200.0,
        read_noise_electrons=50.0,
        source="Andor, hardware guide of the iXon Ultra 1.1, 2013, sections 3.1.2 (at 10 MHz) and 3.7; electrons per count stand on the "
        "performance sheet of each camera",
    ),
    KnownCamera(
        name="Andor iXon 897",
        patterns=("DU897", "DU-897"),
        kind="emccd",
        source="Andor, user manual of the iXon3; offset and electrons per count stand on the performance sheet of each camera",
    ),
    KnownCamera(
        name="Photometrics Evolve 512",
        patterns=("Evolve512", "Evolve 512", "Evolve-512"),
        kind="emccd",
        source="Photometrics, data sheet of the Evolve 512; electrons per count depend on the gain state",
    ),
    KnownCamera(
        name="Andor Neo",
        patterns=("DC-152Q",),
        kind="scmos",
        source="Andor, product code of the Neo; electrons per count and read noise depend on the mode",
    ),
    KnownCamera(
        name="Andor Zyla",
        patterns=("Zyla",),
        kind="scmos",
        offset_counts=100.0,
        source="Andor, hardware guide of the Zyla; electrons per count and read noise depend on the mode",
    ),
)
"""Only what data sheets say of every camera of the model."""


def read_known_cameras(values: Mapping[str, Any], source: str) -> tuple[KnownCamera, ...]:
    """Read the cameras of a user's file.

    Args:
        values: its content, ``{"camera": [{...}, ...]}``.
        source: its name, for messages.

    Raises:
        CameraError: no ``[[camera]]`` in it, or too many.
        DocumentError: an unknown key or an impossible value.
    """
    entries = values.get("camera")
    if set(values) != {"camera"} or not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        found = ", ".join(list(values)[:5]) or "nothing"
        raise CameraError(f"{source}: found {found}, expected one [[camera]] or several and nothing else; write each camera so")
    if not 1 <= len(entries) <= MOST_CAMERAS:
        raise CameraError(f"{source}: {len(entries)} cameras, expected 1 to {MOST_CAMERAS}; split the file")
    return tuple(parse(KnownCamera, one, f"{source}, camera {i + 1}") for i, one in enumerate(entries))


def find_camera(texts: Sequence[str], cameras: Sequence[KnownCamera] = KNOWN_CAMERAS) -> KnownCamera | None:
    """Find the first camera of which a pattern stands in one of the texts; None where none does."""
    joined = "\n".join(texts).lower()
    return next((one for one in cameras if any(pattern.lower() in joined for pattern in one.patterns)), None)
