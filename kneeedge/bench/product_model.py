"""A matrix product as an ONNX model, written without the onnx package, which a device does not have.

Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, TensorProto, ValueInfoProto); the encoding
is Protocol Buffers' own: a key of field number and wire type, then a varint or a length and its bytes.
"""

import numpy as np
from numpy.typing import NDArray

TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
"TensorProto.DataType"
IR_VERSION, OPSET = 8, 13


def product_model(op: str, left: str, right: NDArray[np.generic], out: str) -> bytes:
    """`a` (n, n) of type `left` times the constant `right` (n, n), by ONNX's operator `op`, as `y` of type `out`."""
    n = len(right)
    tensor = _number(1, n) + _number(1, n) + _number(2, TYPES[str(right.dtype)]) + _text(8, "b")
    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, op)
    graph = (
        _bytes(1, node) + _text(2, "product") + _bytes(5, tensor + _bytes(9, right.tobytes()))
        + _bytes(11, _value("a", left, n)) + _bytes(12, _value("y", out, n))
    )  # fmt: skip
    return _number(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, OPSET))


def _value(name: str, kind: str, n: int) -> bytes:
    side = _bytes(1, _number(1, n))
    tensor_type = _number(1, TYPES[kind]) + _bytes(2, side + side)
    return _text(1, name) + _bytes(2, _bytes(1, tensor_type))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the top bit says that more follow."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
