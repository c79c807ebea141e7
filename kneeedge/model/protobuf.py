"""Protocol Buffers' encoding, read in place and without the protobuf package.

A device does not have that package. The encoding: https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

VARINT, LENGTH_DELIMITED = 0, 2
FIXED = {1: 8, 5: 4}
"bytes of the wire types of fixed size"


class Field(NamedTuple):
    """One field of a message, its content left in the file."""

    number: int
    value: int
    "of a varint; else 0"
    start: int
    "where its content begins"
    size: int
    "bytes of its content"

    @property
    def end(self) -> int:
        return self.start + self.size


def fields(file: BinaryIO, start: int, end: int) -> Iterator[Field]:
    """The fields of the message that lies from byte `start` to `end`.

    Between two of them the caller may move about in the file. Raises ValueError where the encoding
    is not kept.
    """
    while start < end:
        file.seek(start)
        field = _field(file)
        if field.end > end:
            raise ValueError("a field is longer than what holds it")
        yield field
        start = field.end


def _field(file: BinaryIO) -> Field:
    tag = varint(file)
    # Other readers cut a tag to 32 bits, and so would see another field than this one.
    if tag >> 32:
        raise ValueError("a field's number is too large")
    number = tag >> 3
    wire_type = tag & 7
    start = file.tell()
    if wire_type == VARINT:
        value = varint(file)
        return Field(number, value, start, file.tell() - start)
    if wire_type == LENGTH_DELIMITED:
        size = varint(file)
        return Field(number, 0, file.tell(), size)
    if wire_type in FIXED:
        return Field(number, 0, start, FIXED[wire_type])
    raise ValueError(f"there is no wire type {wire_type} here")


def read_content(file: BinaryIO, field: Field) -> bytes:
    """The bytes of a field."""
    file.seek(field.start)
    return file.read(field.size)


def length_delimited(number: int, content: bytes) -> bytes:
    """A field of that number with bytes for its content."""
    tag = _varint_of(number << 3 | LENGTH_DELIMITED)
    return tag + _varint_of(len(content)) + content


def _varint_of(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def varint(file: BinaryIO) -> int:
    """A number of seven bits a byte, the lowest first; the last byte has its high bit clear."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number has more than 64 bits")
