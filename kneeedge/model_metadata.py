"""A model file's spec without a session: some choices must be made before ONNX Runtime opens the file."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from kneeedge.errors import ModelFileError, SpecError
from kneeedge.spec import SPEC_KEY, ModelSpec

METADATA_PROPS = 14
"its field number in ModelProto (onnx.proto)"
KEY, VALUE = 1, 2
"the field numbers of one entry"
VARINT, LENGTH_DELIMITED = 0, 2
FIXED = {1: 8, 5: 4}
"bytes of the wire types of fixed size"


def read_spec(path: Path) -> ModelSpec:
    """The spec in an `.onnx` file; raises ModelFileError or SpecError where there is none."""
    return spec_in(read_metadata(path), path)


def spec_in(metadata: Mapping[str, str], path: Path) -> ModelSpec:
    """The spec among the metadata of the file `path`; raises SpecError where there is none."""
    if SPEC_KEY not in metadata:
        raise SpecError(path, "this ONNX file carries no kneeedge spec, so its classes and pixels are unknown")
    return ModelSpec.from_json(metadata[SPEC_KEY], str(path))


def read_metadata(path: Path) -> dict[str, str]:
    """The file's `metadata_props`; the network itself is passed over, not read.

    Raises ModelFileError where the file is no protobuf message.
    """
    try:
        with path.open("rb") as file:
            entries = [dict(_fields(io.BytesIO(entry), (KEY, VALUE))) for _, entry in _fields(file, (METADATA_PROPS,))]
        return {entry[KEY].decode("utf-8"): entry[VALUE].decode("utf-8") for entry in entries}
    except (ValueError, KeyError) as error:
        raise ModelFileError(path, "it is no ONNX file") from error


def _fields(file: BinaryIO, wanted: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """Number and content of the wanted fields; all of them are length-delimited.

    The encoding: https://protobuf.dev/programming-guides/encoding. Raises ValueError where it is not kept.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    while file.tell() < size:
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _varint(file)
            continue
        length = _varint(file) if kind == LENGTH_DELIMITED else FIXED.get(kind, size)
        if file.tell() + length > size:
            raise ValueError("a field is longer than the file")
        if number in wanted:
            yield number, file.read(length)
        else:
            file.seek(length, io.SEEK_CUR)


def _varint(file: BinaryIO) -> int:
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
