"""A model file that a session may load: looked through, and verified where that is asked for."""

import hashlib
import io
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from kneeedge.errors import ModelFileError, NotFoundError
from kneeedge.model.contents import check_model
from kneeedge.model.metadata import metadata_in, spec_in
from kneeedge.model.spec import ModelSpec
from kneeedge.system.files import copy_file, file_sha256, write_bytes

MAX_SIZE = 2**31 - 1
"bytes; a Protocol Buffers message ends there"
Stamp = tuple[int, int, int, int]
"device, number, size and time of last change of a file"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """An `.onnx` file that holds nothing a session must not load."""

    path: Path
    metadata: dict[str, str] = field(repr=False)
    data: bytes | None = field(repr=False)
    """its bytes where a signature was asked for, so that those verified are those that run; else
    absent, and ONNX Runtime reads the file
    """
    signed_by: str
    "fingerprint of the public key that verified `data`; empty where none was asked for"
    stamp: Stamp
    "of the file as it was looked through"

    @property
    def source(self) -> str | bytes:
        """What ONNX Runtime loads: the path, where it takes that, else the bytes."""
        if self.data is not None:
            return self.data
        path = str(self.path)
        is_utf8 = not any("\udc80" <= char <= "\udcff" for char in path)
        return path if is_utf8 else self.path.read_bytes()

    @property
    def n_bytes(self) -> int:
        return self.stamp[2]

    @cached_property
    def sha256(self) -> str:
        """Of the bytes that run. Raises ModelFileError where the file was replaced meanwhile."""
        if self.data is not None:
            return hashlib.sha256(self.data).hexdigest()
        digest = file_sha256(self.path)
        self.check_same()
        return digest

    @cached_property
    def spec(self) -> ModelSpec:
        """What the file says of itself; raises SpecError where that is missing or damaged."""
        return spec_in(self.metadata, self.path)

    def copy_to(self, path: Path) -> None:
        """Write the very bytes that were looked through, and verified where that was asked for."""
        if self.data is not None:
            write_bytes(path, self.data)
        else:
            copy_file(self.path, path)

    def check_same(self) -> None:
        """Raise ModelFileError where the file is no longer the one that was looked through."""
        if self.data is None and _stamp(self.path.stat()) != self.stamp:
            problem = "it was replaced while it was being loaded"
            raise ModelFileError(self.path, problem, "run the command again")


def open_model(path: Path | str, public_key: Path | None = None) -> ModelFile:
    """Look through the model file, and with `public_key` (PEM) verify its signature.

    Raises NotFoundError where there is no such file, ModelFileError where it holds what kneeedge
    never writes, SpecError for metadata without end, and SignatureError where the file is not
    signed with the key's other half.
    """
    path = Path(path)
    if not path.is_file():
        problem = "it is no file" if path.exists() else "no such model file"
        remedy = "give the path of an .onnx file from `kneeedge export`"
        raise NotFoundError(f"{path}: {problem}", remedy)
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        stamp = _stamp(facts)
        if facts.st_size > MAX_SIZE:
            problem = f"it has {facts.st_size:,} bytes, and an ONNX file has {MAX_SIZE:,} at most"
            raise ModelFileError(path, problem)
        if public_key is None:
            metadata = _look_through(file, path)
            return ModelFile(path=path, metadata=metadata, data=None, signed_by="", stamp=stamp)
        data = file.read()
    from kneeedge.model.signature import check_signature

    signed_by = check_signature(data, path, public_key)
    metadata = _look_through(io.BytesIO(data), path)
    return ModelFile(path=path, metadata=metadata, data=data, signed_by=signed_by, stamp=stamp)


def model_of_bytes(data: bytes, path: Path) -> ModelFile:
    """Look through a model that came without its file, as `open_model` does; `path` names it.

    Whoever sent the bytes has verified their signature, where one was asked for.
    """
    metadata = _look_through(io.BytesIO(data), path)
    stamp = (0, 0, len(data), 0)
    return ModelFile(path=path, metadata=metadata, data=data, signed_by="", stamp=stamp)


def _stamp(facts: os.stat_result) -> Stamp:
    """What changes where a file is replaced or written to."""
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _look_through(file: BinaryIO, path: Path) -> dict[str, str]:
    """The metadata of a file that holds nothing a session must not load."""
    size = file.seek(0, io.SEEK_END)
    metadata = metadata_in(file, size, path)
    check_model(file, size, path)
    return metadata
