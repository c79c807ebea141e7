"""A model file's metadata without a session: it is looked at before ONNX Runtime opens the file."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from kneeedge.errors import ModelFileError, SpecError
from kneeedge.model.protobuf import Field, fields, length_delimited, read_content
from kneeedge.model.spec import SPEC_KEY, ModelSpec

METADATA_PROPS = 14
"its field number in ModelProto (onnx.proto)"
KEY, VALUE = 1, 2
"the field numbers of one entry"
MAX_METADATA = 32 * 2**20
"bytes of all entries: the short hashes of 1.5 million training images, at 20 bytes each"
MAX_SPEC = 2**20
"bytes; a spec has some tens of thousands"


def read_model_spec(path: Path) -> ModelSpec:
    """The spec in an `.onnx` file; raises ModelFileError or SpecError where there is none."""
    return spec_in(read_metadata(path), path)


def spec_in(metadata: Mapping[str, str], path: Path) -> ModelSpec:
    """The spec in the metadata of the file `path`; raises SpecError where it is none, or unfit."""
    text = metadata.get(SPEC_KEY)
    if text is None:
        problem = "this ONNX file carries no kneeedge spec, so its classes and pixels are unknown"
        raise SpecError(path, problem)
    if len(text) > MAX_SPEC:
        problem = f"its spec has {len(text):,} characters, and {MAX_SPEC:,} are the most"
        raise SpecError(path, problem)
    return ModelSpec.from_json(text, str(path))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an `.onnx` file; raises ModelFileError or SpecError as `metadata_in` does."""
    with path.open("rb") as file:
        return metadata_in(file, path.stat().st_size, path)


def metadata_in(file: BinaryIO, size: int, path: Path) -> dict[str, str]:
    """The `metadata_props` of a file of `size` bytes; the network itself is passed over, not read.

    Raises ModelFileError where the file is no protobuf message, and SpecError for more metadata
    than MAX_METADATA or two entries of one name.
    """
    metadata: dict[str, str] = {}
    try:
        entries = [field for field in fields(file, 0, size) if field.number == METADATA_PROPS]
        n_bytes = sum(entry.size for entry in entries)
        if n_bytes > MAX_METADATA:
            problem = f"its metadata has {n_bytes:,} bytes, and {MAX_METADATA:,} are the most"
            raise SpecError(path, problem)
        for entry in entries:
            key, value = _key_and_value(file, entry)
            if key in metadata:
                problem = f"its metadata has two entries {key!r}, which contradict each other"
                raise SpecError(path, problem)
            metadata[key] = value
    except SpecError:
        raise
    except (ValueError, KeyError) as error:
        raise ModelFileError(path, "it is no ONNX file") from error
    return metadata


def with_metadata(data: bytes, changes: Mapping[str, str], path: Path) -> bytes:
    """The file with other values for entries of its `metadata_props`; every other byte is kept.

    Raises ModelFileError where the file is no protobuf message, and SpecError where it lacks one of
    the entries.
    """
    file = io.BytesIO(data)
    parts: list[bytes] = []
    missing = set(changes)
    begin = 0  # of the field, whose tag and length stand before its content
    try:
        for field in fields(file, 0, len(data)):
            part = data[begin : field.end]
            if field.number == METADATA_PROPS:
                key, _ = _key_and_value(file, field)
                if key in changes:
                    missing.discard(key)
                    part = _entry(key, changes[key])
            parts.append(part)
            begin = field.end
    except (ValueError, KeyError) as error:
        raise ModelFileError(path, "it is no ONNX file") from error
    if missing:
        raise SpecError(path, f"its metadata has no entry {min(missing)!r}")
    return b"".join(parts)


def _entry(key: str, value: str) -> bytes:
    content = length_delimited(KEY, key.encode()) + length_delimited(VALUE, value.encode())
    return length_delimited(METADATA_PROPS, content)


def _key_and_value(file: BinaryIO, entry: Field) -> tuple[str, str]:
    """Raises KeyError where the entry lacks one of the two, and ValueError where it is no UTF-8."""
    parts = fields(file, entry.start, entry.end)
    contents = {part.number: read_content(file, part) for part in parts}
    return contents[KEY].decode("utf-8"), contents[VALUE].decode("utf-8")
