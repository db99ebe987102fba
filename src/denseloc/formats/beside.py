"""The YAML file beside a movie or a table of Picasso: read within bounds, whatever it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DenselocError

LONGEST = 1 << 28
"""Bytes that the file may have; an experiment with maps of a whole sensor takes tens of MB in it."""
MOST_NODES = 200_000
"""Entries that it may have once all its aliases are written out."""
DEEPEST = 100
_DAMAGE = (ValueError, IndexError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)
"""What PyYAML raises on impossible numbers and dates, besides YAMLError."""


def read_yaml_documents(path: Path, error_type: type[DenselocError]) -> list[dict[str, Any]]:
    """Read the documents of the YAML file beside ``path``, oldest first.

    Raises:
        DenselocError: of ``error_type``; the file is missing, is not YAML, or is larger than any such file.
    """
    import yaml

    beside = path.with_suffix(".yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if beside.exists() and not beside.is_file():
        raise error_type(f"{beside}: not an ordinary file, expected the YAML of {path.name}; copy it there")
    try:
        if beside.stat().st_size > LONGEST:
            raise error_type(
                f"{beside}: more than {LONGEST >> 20} MiB, expected a short text about {path.name}; copy the right one"
            )
        text = beside.read_text(encoding="utf-8")
        problem = _excess(yaml.parse(text, Loader=loader))
        if problem is not None:
            raise error_type(f"{beside}: {problem}; copy or write it again")
        documents = list(yaml.load_all(text, Loader=loader))
    except FileNotFoundError:
        raise error_type(f"{path}: {beside.name} is not beside it; copy the .yaml that belongs to it to {beside}") from None
    except OSError as error:
        raise error_type(f"{beside}: cannot be read ({error.strerror}); check its permissions") from error
    except (yaml.YAMLError, *_DAMAGE) as error:
        raise error_type(f"{beside}: not YAML ({' '.join(str(error).split())[:120]}); copy it again") from error
    return [document for document in documents if isinstance(document, dict)]


def _excess(events: Any) -> str | None:
    """Say what is too much in a stream of YAML events, before anything is built from them; None if nothing is.

    An alias counts as many entries as what it stands for, so that a few lines cannot stand for a whole memory.
    """
    import yaml

    sizes, names, known = [0], [""], dict[str, int]()
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            known.clear()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in names:
                return f"the entry '{event.anchor[:40]}' holds itself, expected plain entries"
            sizes[-1] += known.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            sizes[-1] += 1
            known[event.anchor or ""] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            sizes.append(1)
            names.append(event.anchor or "")
        elif isinstance(event, yaml.CollectionEndEvent):
            size = sizes.pop()
            known[names.pop()] = size
            sizes[-1] += size
        if sizes[-1] > MOST_NODES:
            return f"more than {MOST_NODES} entries once its aliases are written out, expected a few"
        if len(sizes) > DEEPEST:
            return f"entries nested more than {DEEPEST} deep, expected a few levels"
    return None


def pixel_size(info: dict[str, Any]) -> float | None:
    """Find the pixel size in nm that a Picasso document gives, or None."""
    for key in ("Pixelsize", "Camera.Pixelsize"):
        value = info.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9:
            return float(value)
    return None
