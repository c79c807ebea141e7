"""A model file's metadata without a session: it is looked at before ONNX Runtime opens the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from kneeedge.errors import ModelFileError, SpecError
from kneeedge.model.protobuf import Field, content, fields
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
    """The spec among the metadata of the file `path`; raises SpecError where there is none, or one
    without end.
    """
    if SPEC_KEY not in metadata:
        raise SpecError(
            path, "this ONNX file carries no kneeedge spec, so its classes and pixels are unknown"
        )
    if len(metadata[SPEC_KEY]) > MAX_SPEC:
        raise SpecError(
            path,
            f"its spec has {len(metadata[SPEC_KEY]):,} characters, and {MAX_SPEC:,} are the most",
        )
    return ModelSpec.from_json(metadata[SPEC_KEY], str(path))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of the file `path`; see `metadata_in`."""
    with path.open("rb") as file:
        return metadata_in(file, path.stat().st_size, path)


def metadata_in(file: BinaryIO, size: int, path: Path) -> dict[str, str]:
    """The `metadata_props` of a file of `size` bytes; the network itself is passed over, not read.

    Raises ModelFileError where the file is no protobuf message, and SpecError for more metadata
    than MAX_METADATA or two entries of one name.
    """
    found: dict[str, str] = {}
    try:
        entries = [field for field in fields(file, 0, size) if field.number == METADATA_PROPS]
        n_bytes = sum(entry.size for entry in entries)
        if n_bytes > MAX_METADATA:
            raise SpecError(
                path, f"its metadata has {n_bytes:,} bytes, and {MAX_METADATA:,} are the most"
            )
        for entry in entries:
            key, value = _pair(file, entry)
            if key in found:
                raise SpecError(
                    path, f"its metadata has two entries {key!r}, which contradict each other"
                )
            found[key] = value
    except SpecError:
        raise
    except (ValueError, KeyError) as error:
        raise ModelFileError(path, "it is no ONNX file") from error
    return found


def _pair(file: BinaryIO, entry: Field) -> tuple[str, str]:
    parts = {part.number: content(file, part) for part in fields(file, entry.start, entry.end)}
    return parts[KEY].decode("utf-8"), parts[VALUE].decode("utf-8")
