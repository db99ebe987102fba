"""What a file says of its camera: proposals, each with the place where it stands. Nothing here is used unless a person says so.

The tags of a movie are flat; keys of Micro-Manager are ``<device>-<property>``, as in ``Andor-Gain`` or ``Evolve-MultiplierGain``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.movie import Movie
from .sources import plain_tags

LONGEST_METADATA = 1 << 20
"""Bytes of a metadata file that are read; the summary and the first frames stand at its beginning."""
MOST_LINES = 5000
DEEPEST = 8


@dataclass(frozen=True)
class Proposal:
    """A fact of the camera as a file says it.

    Args:
        quantity: "camera", "amplifier", "em_gain", "electrons_per_count", "offset_counts", "read_noise_electrons", "exposure_ms",
            "binning", "bit_depth", "pre_amplifier", "readout", "temperature_C", "pixel_size_nm".
        value: number or text.
        unit: of a number.
        where: the place, such as "tag Andor-Gain".
    """

    quantity: str
    value: float | str
    unit: str
    where: str

    def __str__(self) -> str:
        number = f"{self.value:g} {self.unit}".strip() if isinstance(self.value, float) else f"'{self.value}'"
        name = self.quantity.removesuffix(f"_{self.unit}").replace("_", " ")
        return f"{name} {number} ({self.where})"


Rule = tuple[str, str, str, Callable[[str], "float | str | None"]]


def _number(text: str) -> float | None:
    """Read the number that a text begins with, such as ``200``, ``5.1x`` or ``30 ms``."""
    found = re.match(r"\s*(-?\d{1,15}(?:\.\d{1,15})?(?:[eE][-+]?\d{1,3})?)", text)
    value = float(found[1]) if found else math.nan
    return value if math.isfinite(value) else None


def _positive(text: str) -> float | None:
    value = _number(text)
    return value if value is not None and value > 0 else None


def _text(text: str) -> str | None:
    return text.strip()[:120] or None


def _seconds(text: str) -> float | None:
    value = _positive(text)
    return None if value is None else 1e3 * value


RULES: tuple[Rule, ...] = (
    (
        "camera",
        "",
        r"(.*-)?(camera|cameraname|cameraid|cameratype|camera ?model|chipname|detectortype)|model|cameratypename",
        _text,
    ),
    ("amplifier", "", r"(.*-)?(output_?amplifier|port|emswitch)", _text),
    ("em_gain", "", r"(.*-)?(multipliergain|em[ _-]?gain|emgain|gainem|amplificationgain)|gain_dac", _positive),
    ("em_gain", "", r"(andor|ixon)[^-]*-gain", _positive),
    (
        "electrons_per_count",
        "e-/count",
        r"(.*-)?(conversionfactorcoeff|conversion ?factor|electronspercount|sensitivity|e_per_adu)",
        _positive,
    ),
    ("offset_counts", "counts", r"(.*-)?(conversionfactoroffset|baseline|camera ?offset|darkoffset|bias)|offset", _number),
    ("read_noise_electrons", "e-", r"(.*-)?(read ?noise)", _positive),
    ("exposure_ms", "ms", r"(.*-)?(exposure|exposure-ms|exposurems)", _positive),
    ("exposure_ms", "ms", r"exposure_s|exposuretime", _seconds),
    ("binning", "", r"(.*-)?binning", _text),
    ("bit_depth", "", r"(.*-)?(bitdepth|significantbits)", _positive),
    ("pre_amplifier", "", r"(.*-)?pre-?amp-?gain", _text),
    ("readout", "", r"(.*-)?(readoutmode|readoutrate|pixelreadoutrate|readoutspeed|sensitivity/dynamicrange|scan mode)", _text),
    ("temperature_C", "C", r"(.*-)?(ccdtemperature|temperature|sensortemperature)|temperature_c", _number),
)
"""Quantity, unit, pattern of the whole key without regard to capitals, and how its value is read. The order is that of the answer."""


def camera_tags(movie: Movie) -> tuple[Proposal, ...]:
    """Collect what a movie and the ``*_metadata.txt`` of Micro-Manager beside it say of the camera; the first of equal ones is kept."""
    found: dict[tuple[str, float | str], Proposal] = {}
    sources = [("tag", movie.tags), *_beside(movie.path)]
    for quantity, unit, pattern, read in RULES:
        for place, tags in sources:
            for key, raw in tags.items():
                if isinstance(raw, bool) or not re.fullmatch(pattern, str(key).strip().lower()):
                    continue
                value = read(str(raw))
                if value is not None:
                    found.setdefault((quantity, value), Proposal(quantity, value, unit, f"{place} {str(key)[:60]}"))
    if movie.pixel_size_nm is not None:
        size = movie.pixel_size_nm[1]
        found[("pixel_size_nm", size)] = Proposal("pixel_size_nm", size, "nm", "the file's resolution")
    return tuple(found.values())


def texts(movie: Movie) -> list[str]:
    """List all texts among the tags, in which the name of a camera may stand."""
    return [str(value) for _, tags in [("", movie.tags), *_beside(movie.path)] for value in tags.values() if isinstance(value, str)]


def info_tags(text: object) -> dict[str, str]:
    """Read lines ``key = value`` or ``key: value``, as ImageJ and Bio-Formats keep them in ``Info``; a JSON text gives its values."""
    if not isinstance(text, str) or len(text) > LONGEST_METADATA:
        return {}
    if text.lstrip().startswith("{"):
        return {key: str(value) for key, value in _from_json(text).items()}
    pairs = (re.match(r"\s*([^=:]{1,80}?)\s*(?:=|:\s)\s*(.{1,200})$", line) for line in text.splitlines()[:MOST_LINES])
    return {pair[1].strip('" '): pair[2].strip().rstrip(",").strip('"') for pair in pairs if pair}


def _beside(path: Path | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Read the metadata file of Micro-Manager: ``name_metadata.txt`` for ``name.ome.tif``, ``metadata.txt`` in a folder of frames."""
    if path is None:
        return
    stem = re.sub(r"(\.ome)?\.[^.]*$", "", path.name)
    names = [path.parent / f"{stem}_metadata.txt", (path if path.is_dir() else path.parent) / "metadata.txt"]
    for name in names:
        try:
            with open(name, encoding="utf-8", errors="replace") as file:
                text = file.read(LONGEST_METADATA)
        except (OSError, ValueError):
            continue
        yield f"{name.name},", _from_json(text) or info_tags(text)
        return


def _from_json(text: str) -> dict[str, Any]:
    """Flatten a JSON text; of a long one that was cut, the lines ``"key": value`` that are whole."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        lines = (
            re.match(r'\s*"([^"]{1,80})":\s*(?:\{\s*"PropVal":\s*)?"?([^"{}\[\]]{1,200}?)"?\s*,?$', line)
            for line in text.splitlines()
        )
        return {pair[1]: pair[2] for pair in lines if pair}
    return plain_tags(dict(_flat(values))) if isinstance(values, Mapping) else {}


def _flat(values: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if not isinstance(value, Mapping):
            yield str(key), value
        elif "PropVal" in value:
            yield str(key), value["PropVal"]
        elif depth < DEEPEST:
            yield from _flat(value, depth + 1)
