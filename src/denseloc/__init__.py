"""denseloc: from a dense single-molecule movie to localizations and a super-resolved picture.

The verbs load on first use, so that importing the package touches no GPU, no file and no GUI toolkit.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_VERBS: dict[str, str] = {}

__all__ = ["__version__", *_VERBS]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(import_module(_VERBS[name], __name__), name)
    raise AttributeError(f"module 'denseloc' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
