"""Strict sections, shelves of kinds, arrays inside documents."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import Field, ValidationError

from denseloc.description import Array, Section, Shelf, nearest, ordered, parse
from denseloc.errors import DenselocError, DocumentError


class Round(Section):
    kind: Literal["round"] = "round"
    radius_nm: float = Field(gt=0)


class Square(Section):
    kind: Literal["square"] = "square"
    side_nm: float = 10.0


SHAPES: Shelf[Any] = Shelf("shape", Round, Square)
ONLY: Shelf[Any] = Shelf("shape", Round)


class Drawing(Section):
    shape: SHAPES.field()  # type: ignore[valid-type]
    title: str = "drawing"
    inner: Round = Round(radius_nm=1.0)


class Lonely(Section):
    shape: ONLY.field()  # type: ignore[valid-type]


class Holder(Section):
    map: Array


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shape": {"kind": "round", "radius_nm": 5}, "titel": "x"}, r"doc: unknown key 'titel' \(did you mean 'title'\?\)$"),
        (
            {"shape": {"kind": "round", "radus_nm": 5}},
            r"unknown key '.*radus_nm' \(did you mean 'radius_nm'\?\) \(and 1 more mistake\)$",
        ),
        ({"shape": {"kind": "round", "radius_nm": 5}, "inner": {"radius": 2}}, r"'inner.radius' \(did you mean 'radius_nm'\?\)"),
        ({"shape": {"kind": "round"}}, r"'shape.round.radius_nm' is missing$"),
        ({"shape": {"kind": "ruond"}}, r"unknown shape 'ruond' \(did you mean 'round'\?\); known: round, square"),
        ({"shape": {"radius_nm": 5}}, r"'kind' is missing; one of: round, square"),
        ({"shape": 5}, r"expected a section with a 'kind', found 5"),
        ({}, r"'shape' is missing$"),
        ({"shape": {"kind": "round", "radius_nm": -5}}, r"greater than 0 \(found -5\)$"),
        ({"shape": {"kind": "round", "radius_nm": "wide"}}, r"valid number.*\(found 'wide'\)$"),
        ({"shape": {"kind": "round", "radius_nm": float("nan")}}, r"finite number"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(values: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError, match=words) as error:
        parse(Drawing, values, "doc")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("doc: ")


def test_a_shelf_of_one_kind_reads_and_refuses() -> None:
    assert parse(Lonely, {"shape": {"kind": "round", "radius_nm": 2}}, "doc").shape.radius_nm == 2
    with pytest.raises(DocumentError, match="unknown shape 'square'"):
        parse(Lonely, {"shape": {"kind": "square"}}, "doc")


def test_sections_are_frozen_and_go_through_json() -> None:
    drawing = parse(Drawing, {"shape": {"kind": "square", "side_nm": 3}}, "doc")
    assert isinstance(drawing.shape, Square)
    assert Drawing.model_validate(json.loads(drawing.model_dump_json())) == drawing
    with pytest.raises(ValidationError):
        drawing.title = "other"


def test_a_shelf_lists_its_kinds() -> None:
    assert SHAPES.names() == ["round", "square"]
    assert list(SHAPES) == [Round, Square]
    assert SHAPES.get("square") is Square
    with pytest.raises(DenselocError, match="unknown shape 'triangle'; known: round, square"):
        SHAPES.get("triangle")


def test_nearest() -> None:
    assert nearest("camra", ["camera", "psf"]) == " (did you mean 'camera'?)"
    assert nearest("zzz", ["camera", "psf"]) == ""


def test_ordered() -> None:
    assert ordered((1.0, 1.0), "it") == (1.0, 1.0)
    with pytest.raises(ValueError, match="it must run from low to high"):
        ordered((2.0, 1.0), "it")


# ------------------------------------------------------------------------------------------------------------------------ arrays


def test_an_array_travels_packed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.save(tmp_path / "map.npy", values)
    for form in (values, values.astype(np.float64), values.tolist(), tmp_path / "map.npy", str(tmp_path / "map.npy")):
        holder = parse(Holder, {"map": form}, "doc")
        assert holder.map.dtype == np.float32
        np.testing.assert_array_equal(holder.map, values)
    text = holder.model_dump_json()
    assert '"f32:2x3x4:' in text
    np.testing.assert_array_equal(Holder.model_validate_json(text).map, values)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_damaged_arrays_are_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    for value, words in (
        (str(tmp_path / "none.npy"), "cannot read the array file"),
        (write(tmp_path / "empty.npy", b""), "cannot read the array file"),
        (write(tmp_path / "text.npy", b"hello world, no array"), r"cannot read the array file .*holds no array of numbers\); save"),
        (str(tmp_path / "objects.npy"), "cannot read the array file"),
        ("f32:2x3:AAAA", "packed array is damaged"),
        ("f32:nonsense", "packed array is damaged"),
        ("f32:2:!", "packed array is damaged"),
        (5, "expected numbers, nested lists or the path of a .npy file"),
        ([[1, 2], [3]], "map"),
        (["a"], "map"),
    ):
        with pytest.raises(DocumentError, match=words) as error:
            parse(Holder, {"map": value}, "doc")
        assert "\n" not in str(error.value)


def npy_header(shape: tuple[int, ...], fortran: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": fortran, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("shape", [(3, 10**6, 10**6), (2**40, 2**40, 2**40), (10**12,), (-3, 4)])
def test_array_files_that_claim_more_than_they_hold(tmp_path: Path, shape: tuple[int, ...], fortran: bool) -> None:
    refused_in_little_memory(write(tmp_path / "a.npy", npy_header(shape, fortran) + bytes(100)), "cannot read the array file")


def test_array_files_that_are_too_large(tmp_path: Path) -> None:
    with open(tmp_path / "a.npy", "wb") as file:
        file.write(npy_header((3, 20_000, 20_000)))
        file.truncate(file.tell() + 3 * 20_000 * 20_000 * 4)
    refused_in_little_memory(str(tmp_path / "a.npy"), "an array of 1200000000 numbers, expected at most 134217728")


@pytest.mark.parametrize("version", [1, 2, 9])
def test_array_files_with_a_damaged_header(tmp_path: Path, version: int) -> None:
    length = struct.pack("<H" if version == 1 else "<I", 60_000)
    for content in (b"{" * 60_000, b"(" * 60_000, b"1" * 60_000, b"{'descr': '<f4', 'fortran_order': False, 'shape': (3" * 1000):
        path = write(tmp_path / "a.npy", b"\x93NUMPY" + bytes([version, 0]) + length + content)
        refused_in_little_memory(path, "cannot read the array file")


def test_what_is_no_array_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    refused_in_little_memory(str(tmp_path / "a.npy"), "it is an archive")
    os.mkfifo(tmp_path / "pipe.npy")
    refused_in_little_memory(str(tmp_path / "pipe.npy"), "not an ordinary file")
    refused_in_little_memory("a\0.npy", "cannot read the array file")
    np.save(tmp_path / "c.npy", np.zeros(3, complex))
    refused_in_little_memory(str(tmp_path / "c.npy"), "found an array of type complex128")


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ("2", "need 8 bytes, it holds more"),
        ("100000x100000", "expected at most"),
        ("9" * 40, "expected at most"),
        ("-4x-2", "expected at most"),
        ("100000000", "need 400000000 bytes, it holds 31457280"),
    ],
)
def test_a_packed_array_is_unpacked_no_further_than_its_shape(sides: str, words: str) -> None:
    text = base64.b64encode(zlib.compress(bytes(30 << 20))).decode()
    limit = 100e6 if sides == "100000000" else 10e6  # what the file holds is unpacked, what it claims is not
    refused_in_little_memory(f"f32:{sides}:{text}", f"packed array is damaged.*{words}", limit)


def test_a_file_may_change_after_it_was_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 2), np.float32))
    held = parse(Holder, {"map": str(tmp_path / "a.npy")}, "doc").map
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.float32))
    assert held.min() == 1
    assert not isinstance(held, np.memmap)


def test_an_array_in_a_message_is_one_short_line() -> None:
    with pytest.raises(DocumentError) as error:
        parse(Holder, {"map": np.full((30, 30), "a")}, "doc")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def refused_in_little_memory(value: Any, words: str, limit: float = 20e6) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DocumentError, match=words) as error:
            parse(Holder, {"map": value}, "doc")
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
