"""The chain of page directories in a TIFF: whether it is whole, and whether all pages are of one kind."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import tifffile

_MOST_TAGS = 4096
_KIND_TAGS = (256, 257, 258, 259, 277, 317)  # width, height, bits, compression, samples, predictor
_ORDER: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}


@dataclass(frozen=True)
class Chain:
    """The chain of page directories in a file.

    Args:
        n_pages: number of whole directories.
        next_page: where the next one should lie; 0 in a whole file.
        uniform: whether all pages have the size and coding of the first.
    """

    n_pages: int
    next_page: int
    uniform: bool


def walk(tif: tifffile.TiffFile) -> Chain:
    """Walk the chain of an open file.

    tifffile walks too, but goes on with whatever it finds where a directory is cut, takes a few pages for all, and may walk in a
    circle for hours.

    Raises:
        ValueError: the chain runs in a circle, or its directories take more bytes than the file has, so that they overlap.
    """
    file, kind = tif.filehandle, tif.tiff
    seen: set[int] = set()
    kinds: set[bytes] = set()
    room = file.size
    file.seek(8 if tif.is_bigtiff else 4)
    (offset,) = struct.unpack(kind.offsetformat, file.read(kind.offsetsize))
    while offset and offset < file.size:
        if offset in seen:
            raise ValueError(f"the chain of its pages runs in a circle after {len(seen)} pages")
        file.seek(offset)
        head = file.read(kind.tagnosize)
        n_tags = struct.unpack(kind.tagnoformat, head)[0] if len(head) == kind.tagnosize else 0
        size = n_tags * kind.tagsize
        body = file.read(size + kind.offsetsize) if n_tags <= _MOST_TAGS else b""
        if n_tags == 0 or len(body) < size + kind.offsetsize:
            break
        seen.add(offset)
        room -= len(head) + len(body)
        if room < 0:
            raise ValueError(f"its pages overlap, {len(seen)} of them do not fit into the file")
        entries = (body[start : start + kind.tagsize] for start in range(0, size, kind.tagsize))
        kinds.add(b"".join(entry for entry in entries if int.from_bytes(entry[:2], _ORDER[tif.byteorder]) in _KIND_TAGS))
        (offset,) = struct.unpack(kind.offsetformat, body[size:])
    return Chain(len(seen), offset, len(kinds) <= 1)
