"""Strict documents and shelves of kinds.

A `Section` is a frozen pydantic model that refuses unknown keys and names the nearest known one. A `Shelf` holds the kinds of one
noun (PSFs, cameras, ...); each kind is a Section with a ``kind`` literal and a ``build`` method, standing in the file of the class
that it describes.
"""

from __future__ import annotations

import base64
import difflib
import functools
import math
import zlib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from tokenize import TokenError
from typing import Annotated, Any, Generic, TypeVar, Union

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from .errors import DenselocError, DocumentError


class Section(BaseModel):
    """One section of a document: frozen, strict, refusing unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


SectionType = TypeVar("SectionType", bound=Section)


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word is nearest, as `` (did you mean 'x'?)``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


class Shelf(Generic[SectionType]):
    """The kinds of one noun, in the order in which they are shown."""

    def __init__(self, noun: str, *sections: type[SectionType]) -> None:
        self.noun = noun
        self.sections: dict[str, type[SectionType]] = {}
        for section in sections:
            self.add(section)

    def add(self, section: type[SectionType]) -> type[SectionType]:
        """Put a kind on the shelf; usable as a class decorator from outside the package."""
        self.sections[section.model_fields["kind"].default] = section
        return section

    def __iter__(self) -> Iterable[type[SectionType]]:  # type: ignore[override]
        return iter(self.sections.values())

    def names(self) -> list[str]:
        """List the kinds' names."""
        return list(self.sections)

    def get(self, kind: str) -> type[SectionType]:
        """Find a kind by name; the error offers the nearest one."""
        if kind not in self.sections:
            load_plugins()
        if kind not in self.sections:
            known = ", ".join(self.sections)
            raise DocumentError(f"unknown {self.noun} '{kind}'{nearest(kind, self.sections)}; known: {known}")
        return self.sections[kind]

    def _chosen(self, kind: str) -> type[SectionType]:
        try:
            return self.get(kind)
        except DocumentError as error:
            raise ValueError(str(error)) from None

    def field(self) -> Any:
        """Give the type of a document field that takes any kind on this shelf, told apart by its ``kind``."""
        known = tuple(self.sections.values())

        def choose(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
            if isinstance(value, Section):
                return value if type(value) in self.sections.values() else read(value)
            if not isinstance(value, Mapping):
                raise ValueError(f"expected a section with a 'kind', found {value!r}")
            if "kind" not in value:
                raise ValueError(f"'kind' is missing; one of: {', '.join(self.sections)}")
            section = self._chosen(str(value["kind"]))
            if section in known:
                return read(value)
            try:  # a kind that came later, from outside: the union does not know its keys
                return section.model_validate(value)
            except ValidationError as error:
                raise ValueError(explain(error, section)) from None

        union: Any = Union[known]  # noqa: UP007 (built at run time)
        if len(known) > 1:
            union = Annotated[union, Field(discriminator="kind")]
        return Annotated[union, SerializeAsAny(), WrapValidator(choose)]


@functools.cache
def load_plugins() -> None:
    """Import what other installed packages add: the modules that they name as entry points of the group ``denseloc``."""
    for entry in entry_points(group="denseloc"):
        entry.load()


def parse(section: type[SectionType], values: Mapping[str, Any], source: str) -> SectionType:
    """Read ``values`` as ``section``; a mistake becomes one line that names the key, the nearest known one and the source."""
    try:
        return section.model_validate(dict(values), strict=False)
    except ValidationError as error:
        raise DocumentError(f"{source}: {explain(error, section)}") from None


def explain(error: ValidationError, section: type[Section]) -> str:
    """Say a validation error in one line: the first mistake, with the nearest known key, and how many more there are."""
    details = error.errors()
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        text = f"unknown key '{where}'{nearest(key, _keys_at(section, first['loc'][:-1]))}"
    elif first["type"] == "missing":
        text = f"'{where}' is missing"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        reason = reason[:1].lower() + reason[1:]
        text = f"'{where}': {reason}" if where else reason
        if not isinstance(first.get("input"), (Mapping, Section)) and where:
            found = " ".join(repr(first["input"]).split())
            text += f" (found {found if len(found) <= 60 else found[:57] + '...'})"
    more = len(details) - 1
    return text + (f" (and {more} more mistake{'s' if more > 1 else ''})" if more else "")


def _keys_at(section: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """List the keys known at a place of the document, descending through unions by their kind."""
    models: list[type[BaseModel]] = [section]
    for part in path:
        inner: list[type[BaseModel]] = []
        for model in models:
            if isinstance(part, str) and part in model.model_fields:
                inner += _models_in(model.model_fields[part].annotation)
            elif "kind" in model.model_fields and model.model_fields["kind"].default == part:
                inner.append(model)
        models = inner or models
    return [key for model in models for key in model.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


MOST_VALUES = 1 << 27
"""Numbers that an array inside a document may have: 512 MiB, three maps of a sensor of 6000 x 6000 pixels and more."""


_NO_ARRAY = (OSError, EOFError, ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError, TokenError)
"""What numpy raises on files that hold no array, or whose header is damaged."""


def _read_array(value: Any) -> np.ndarray:
    """Accept an array, nested lists, a ``.npy`` path or the text form ``f32:2x3:base64`` that travels inside documents."""
    if isinstance(value, np.ndarray):
        return _as_float32(value)
    if isinstance(value, (list, tuple)):
        return _as_float32(np.asarray(value))
    if isinstance(value, (str, Path)) and str(value).startswith("f32:"):
        try:
            return _unpack_array(str(value))
        except (ValueError, OverflowError, zlib.error) as error:
            raise ValueError(f"the packed array is damaged ({error})") from None
    if isinstance(value, (str, Path)):
        try:
            return _load_array(value)
        except _NO_ARRAY as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            reason = "it holds no array of numbers" if "pickle" in reason else reason  # numpy would have it run its code
            raise ValueError(f"cannot read the array file {value} ({reason}); save it again with numpy.save") from None
    raise ValueError("expected numbers, nested lists or the path of a .npy file")


def _load_array(path: str | Path) -> np.ndarray:
    """Read a ``.npy`` file; it is mapped first, so that a header that claims more than the file holds costs nothing."""
    if not Path(path).is_file() and Path(path).exists():
        raise ValueError("it is not an ordinary file")
    with np.errstate(over="ignore"):
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        raise ValueError("it is an archive, expected one array")
    return np.array(_as_float32(mapped))  # no view: the file may change


def _as_float32(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers, found an array of type {values.dtype}")
    if values.size > MOST_VALUES:
        raise ValueError(f"an array of {values.size} numbers, expected at most {MOST_VALUES}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which its owner judges
        return np.ascontiguousarray(values, dtype=np.float32)


def _unpack_array(text: str) -> np.ndarray:
    """Read what `_pack_array` wrote; no more is unpacked than the shape says."""
    _, sides, payload = text.split(":", 2)
    shape = [int(side) for side in sides.split("x")]
    size = math.prod(shape)
    if min(shape) < 0 or size > MOST_VALUES:
        raise ValueError(f"{sides[:60]} numbers, expected at most {MOST_VALUES}")
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(base64.b64decode(payload), 4 * size + 1)
    if len(content) != 4 * size:
        raise ValueError(f"{sides} numbers need {4 * size} bytes, it holds {'more' if len(content) > 4 * size else len(content)}")
    return np.frombuffer(content, dtype="<f4").reshape(shape)


def _pack_array(array: np.ndarray) -> str:
    payload = base64.b64encode(zlib.compress(np.ascontiguousarray(array, dtype="<f4").tobytes(), 6)).decode()
    return f"f32:{'x'.join(str(n) for n in array.shape)}:{payload}"


Array = Annotated[
    np.ndarray,
    BeforeValidator(_read_array),
    PlainSerializer(_pack_array, return_type=str),
    WithJsonSchema({"type": ["string", "array"], "description": "path of a .npy file, nested lists, or a packed array"}),
]
"""A float32 array inside a document; it always travels whole, packed as text."""

Range = tuple[float, float]


def ordered(value: Range, name: str) -> Range:
    """Check that a (low, high) range is in order."""
    if value[0] > value[1]:
        raise ValueError(f"{name} must run from low to high")
    return value


__all__ = ["Array", "DenselocError", "Range", "Section", "Shelf", "explain", "nearest", "ordered", "parse"]
