"""What a model file may hold, seen before ONNX Runtime opens it.

A file that kneeedge wrote is one self-contained graph of standard operators. Whatever else ONNX
allows is refused here: it could read other files, run for ever, or claim memory that the file does
not fill. Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto,
TensorProto).
"""

import math
from pathlib import Path
from typing import BinaryIO

from kneeedge.errors import ModelFileError
from kneeedge.model.protobuf import Field, fields, read_content, varint

GRAPH, TRAINING, FUNCTION = 7, 20, 25
NODE, INITIALIZER, SPARSE_INITIALIZER = 1, 5, 15
ATTRIBUTE, DOMAIN = 5, 7
TENSOR, TENSORS, GRAPHS_WITHIN, SPARSE_TENSORS = 5, 10, (6, 11), (22, 23)
DIMS, DATA_TYPE, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 9, 13, 14

DOMAINS = (b"", b"ai.onnx")
"of the standard operators"
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
"of one element, by TensorProto.DataType: the plain numbers of 8 bits and more"
MAX_RANK = 16
"dimensions of a tensor; an image batch has 4"


def check_model(file: BinaryIO, size: int, path: Path) -> None:
    """Raise ModelFileError for a file that is no ONNX model, or holds what kneeedge never writes.

    `size` is the file's, in bytes.
    """
    try:
        parts = list(fields(file, 0, size))
        graphs = [part for part in parts if part.number == GRAPH]
        if not graphs:
            raise ValueError("there is no graph in it")
        for number, what in ((FUNCTION, "functions of its own"), (TRAINING, "training steps")):
            if any(part.number == number for part in parts):
                raise _never_written(path, what)
        for graph in graphs:
            _check_graph(file, graph, path)
    except ModelFileError:
        raise
    except ValueError as error:
        problem = f"it is no ONNX file, or only a part of one ({error})"
        raise ModelFileError(path, problem) from error


def _check_graph(file: BinaryIO, graph: Field, path: Path) -> None:
    for part in fields(file, graph.start, graph.end):
        if part.number == NODE:
            _check_node(file, part, path)
        elif part.number == INITIALIZER:
            _check_tensor(file, part, path)
        elif part.number == SPARSE_INITIALIZER:
            raise _never_written(path, "sparse tensors")


def _check_node(file: BinaryIO, node: Field, path: Path) -> None:
    for part in fields(file, node.start, node.end):
        if part.number == DOMAIN:
            _check_domain(read_content(file, part), path)
        elif part.number == ATTRIBUTE:
            _check_attribute(file, part, path)


def _check_domain(domain: bytes, path: Path) -> None:
    if domain not in DOMAINS:
        shown = domain[:40].decode("utf-8", "backslashreplace")
        problem = f"it has operators of the domain {shown!r}, and only ONNX's own are run"
        raise ModelFileError(path, problem)


def _check_attribute(file: BinaryIO, attribute: Field, path: Path) -> None:
    for part in fields(file, attribute.start, attribute.end):
        if part.number in (TENSOR, TENSORS):
            _check_tensor(file, part, path)
        elif part.number in GRAPHS_WITHIN:
            raise _never_written(path, "a graph within the graph (a loop or a branch)")
        elif part.number in SPARSE_TENSORS:
            raise _never_written(path, "sparse tensors")


def _check_tensor(file: BinaryIO, tensor: Field, path: Path) -> None:
    """Refuse a tensor whose data do not lie in the file, or not as many as its shape claims."""
    dims: list[int] = []
    data_type = 0
    raw_size = None
    for part in fields(file, tensor.start, tensor.end):
        if part.number == EXTERNAL_DATA or (part.number == DATA_LOCATION and part.value):
            raise ModelFileError(path, "it keeps weights in another file, and a model is one file")
        if part.number == DIMS:
            dims += _dims(file, part)
        elif part.number == DATA_TYPE:
            data_type = part.value
        elif part.number == RAW_DATA:
            raw_size = part.size
    if data_type not in BITS:
        raise _never_written(path, f"tensors of the type {data_type}")
    if len(dims) > MAX_RANK:
        raise _never_written(path, f"tensors of {len(dims):,} dimensions")
    n_elements = math.prod(dims)  # a negative size reads as one of 2⁶³ and more
    if raw_size is None:  # its elements are fields of the tensor, of a byte at least
        n_bytes = tensor.size
        fits = n_elements <= n_bytes
    else:
        n_bytes = raw_size
        fits = n_elements * BITS[data_type] == 8 * n_bytes
    if not fits:
        shape = " × ".join(f"{dim:,}" for dim in dims)
        problem = f"one of its tensors claims {shape} elements and has {n_bytes:,} bytes"
        raise ModelFileError(path, problem)


def _dims(file: BinaryIO, field: Field) -> list[int]:
    """The sizes in a field of `dims`: one, or several packed."""
    file.seek(field.start)
    sizes = []
    while file.tell() < field.end:
        sizes.append(varint(file))
    return sizes


def _never_written(path: Path, what: str) -> ModelFileError:
    return ModelFileError(path, f"it holds {what}, which no file of kneeedge's has")
