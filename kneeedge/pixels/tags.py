"""The directories of TIFF files, and of the EXIF and multi-picture blocks that are built alike."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
"of a value by its type code: TIFF 6.0 and BigTIFF"
_WHOLE_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"numpy's names for the type codes of whole numbers without a sign"
_FORMATS = ("H", "HHI4s", "I")
"how a TIFF directory's count of entries, an entry and an offset are packed"
_BIG_FORMATS = ("Q", "HHQ8s", "Q")
"how BigTIFF (version 43) packs them"


@dataclass(frozen=True)
class Entry:
    """One entry of a directory."""

    code: int
    "of the type of its values"
    data: memoryview
    "its values, as they are packed"
    order: str
    "of their bytes: < or >"

    @property
    def numbers(self) -> NDArray[np.unsignedinteger]:
        """The values (N,) where they are whole numbers without a sign, else none."""
        kind = _WHOLE_NUMBERS.get(self.code)
        if kind is None:
            return np.zeros(0, dtype=np.uint64)
        return np.frombuffer(self.data, dtype=f"{self.order}{kind}")


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF file or block."""

    entries: dict[int, Entry]
    "by tag; the first where there are several"
    next_offset: int
    "of the directory that follows, in bytes; 0 where none does"

    def numbers(self, tag: int) -> list[int]:
        """The whole numbers of a tag; none where it is not there."""
        entry = self.entries.get(tag)
        return [] if entry is None else [int(number) for number in entry.numbers]

    def number(self, tag: int, default: int) -> int:
        """The first whole number of a tag, or `default`."""
        entry = self.entries.get(tag)
        if entry is None or not len(entry.numbers):
            return default
        return int(entry.numbers[0])


def first_offset(block: bytes) -> int:
    """Where the first directory of a TIFF file or block is; raises ValueError where it is cut."""
    order, is_big = _order(block)
    try:
        (begin,) = struct.unpack_from(order + ("Q" if is_big else "I"), block, 8 if is_big else 4)
    except struct.error as error:
        raise ValueError("truncated TIFF") from error
    return int(begin)


def directory_at(block: bytes, begin: int) -> Directory:
    """The directory at an offset (TIFF 6.0, section 2).

    Raises ValueError where it, or a value that it points to, is cut off, or where the values
    overlap so much that together they are larger than the file.
    """
    order, is_big = _order(block)
    formats = _BIG_FORMATS if is_big else _FORMATS
    count_format = order + formats[0]
    entry_format = order + formats[1]
    offset_format = order + formats[2]
    try:
        (n_entries,) = struct.unpack_from(count_format, block, begin)
        begin += struct.calcsize(count_format)
        end = begin + n_entries * struct.calcsize(entry_format)
        (next_offset,) = struct.unpack_from(offset_format, block, end)
    except (struct.error, OverflowError) as error:
        raise ValueError("truncated TIFF") from error
    view = memoryview(block)
    entries: dict[int, Entry] = {}
    outside_bytes = 0
    for tag, code, count, value in struct.iter_unpack(entry_format, view[begin:end]):
        size = count * (_TYPE_BYTES[code] if code < len(_TYPE_BYTES) else 0)
        values = memoryview(value)[:size]
        if size > len(value):
            outside_bytes += size
            (offset,) = struct.unpack(offset_format, value)
            if max(outside_bytes, offset + size) > len(block):
                raise ValueError("truncated TIFF")
            values = view[offset : offset + size]
        entries.setdefault(tag, Entry(code, values, order))
    return Directory(entries, next_offset)


def embedded_directory(block: bytes) -> Directory:
    """The first directory of an EXIF or multi-picture block; an empty one if it is damaged."""
    # cameras leave out the offset that closes a directory
    block += bytes(8)
    try:
        return directory_at(block, first_offset(block))
    except ValueError:
        return Directory({}, 0)


def embedded_tags(block: bytes) -> dict[int, int]:
    """Single whole numbers by tag of an EXIF or multi-picture block; none if it is damaged."""
    entries = embedded_directory(block).entries
    numbers = ((tag, entry.numbers) for tag, entry in entries.items())
    return {tag: int(values[0]) for tag, values in numbers if len(values) == 1}


def _order(block: bytes) -> tuple[str, bool]:
    """The byte order, < or >, and whether it is BigTIFF."""
    return "<" if block[:2] == b"II" else ">", block[2:4] in (b"+\0", b"\0+")
