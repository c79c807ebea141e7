"""The physical ceiling: the fastest matrix product that this machine's cores are measured to make.

`python -m kneeedge.bench.ceiling THREADS SECONDS` in a process of its own, since a BLAS reads its
number of threads when it is loaded. A ceiling is measured, not looked up: the best of all runs of
the best of the products tried. What a network multiplies (`macs`), over the time it takes, is held
against it.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import WorkerError
from kneeedge.model.spec import Architecture
from kneeedge.runs.benchmark import Ceiling
from kneeedge.runtime.providers import CPU_PROVIDERS, load_runtime
from kneeedge.system.processes import command, end_with_parent, environment, last_words

SIDE = 1024
"of a matrix of 4 MB; 2 · 1024³ = 2.1 · 10⁹ operations: long for a clock, short on a small device"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
ARITHMETIC = {"int8": "int8", "fp32": "fp32", "fp16": "fp32", "pytorch-fp32": "fp32"}
"in which a CPU computes a precision: ONNX Runtime and PyTorch run fp16 files in fp32 there"
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
"TensorProto.DataType"
IR_VERSION = 8
OPSET = 13
Product = Callable[[], object]


def measure_ceilings(threads: int, seconds: float) -> tuple[Ceiling, ...]:
    """The fastest product of each arithmetic, with so many threads and `seconds` a product.

    Measured in a process of its own; raises WorkerError where that fails.
    """
    done = subprocess.run(
        command("kneeedge.bench.ceiling", str(threads), str(seconds)),
        capture_output=True,
        check=False,
        env=environment(**dict.fromkeys(THREAD_VARIABLES, str(threads))),
    )
    if done.returncode != 0:
        reason = last_words(done.returncode, done.stderr)
        raise WorkerError("the probe of this machine's ceiling", reason)
    return fastest([Ceiling(**fields) for fields in json.loads(done.stdout)])


def fastest(ceilings: Sequence[Ceiling]) -> tuple[Ceiling, ...]:
    """The best of each arithmetic, in the order in which the arithmetics come."""
    best: dict[str, Ceiling] = {}
    for ceiling in ceilings:
        rival = best.get(ceiling.arithmetic)
        if rival is None or ceiling.gops > rival.gops:
            best[ceiling.arithmetic] = ceiling
    return tuple(best.values())


def ceiling_share(
    gops: float, precision: str, provider: str, ceilings: tuple[Ceiling, ...]
) -> float | None:
    """The share of its arithmetic's ceiling that a row reaches.

    None off the CPU and for an arithmetic without a measured ceiling.
    """
    if provider not in CPU_PROVIDERS:
        return None
    for ceiling in ceilings:
        if ceiling.arithmetic == ARITHMETIC.get(precision):
            return round(gops / ceiling.gops, 4)
    return None


def macs(architecture: Architecture, size: int, n_classes: int) -> int:
    """Multiply-accumulates of one image of size × size pixels, by the layers' definition.

    A 3×3 convolution of an s × s map costs s² · 9 · C_in · C_out; each block ends in a pool that
    halves s. Three input channels count, as VGG has them. VGG19's convolutions at 224²: 19.5 · 10⁹.
    An implementation that gets by with less (Winograd) may show more than the ceiling.
    """
    total = 0
    side = size
    n_in = 3
    for block in architecture.channels:
        for n_out in block:
            total += side * side * 9 * n_in * n_out
            n_in = n_out
        side //= 2
    if architecture.head == "gap":
        return total + n_in * n_classes
    hidden = 8 * n_in
    pooled = 7 * 7 * n_in
    return total + pooled * hidden + hidden * hidden + hidden * n_classes


def main() -> None:
    """Print the ceilings of all products as JSON."""
    end_with_parent()
    threads = int(sys.argv[1])
    seconds = float(sys.argv[2])
    ceilings = []
    for arithmetic, factors, run in products(threads):
        best, n_runs = best_run(run, seconds)
        ceiling = {
            "arithmetic": arithmetic,
            "gops": round(2 * SIDE**3 / best / 1e9, 1),
            "product": f"{factors}, {SIDE}×{SIDE} by {SIDE}×{SIDE}, {threads} threads",
            "n_runs": n_runs,
        }
        ceilings.append(ceiling)
    sys.stdout.write(json.dumps(ceilings))


def products(threads: int) -> Iterator[tuple[str, str, Product]]:
    """Arithmetic, description and one run of each product to try."""
    rng = np.random.default_rng(0)
    left = rng.random((SIDE, SIDE), dtype=np.float32)
    right = rng.random((SIDE, SIDE), dtype=np.float32)
    bytes_left = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    bytes_right = rng.integers(-64, 65, (SIDE, SIDE), dtype=np.int8)  # right without VNNI too
    yield "fp32", f"numpy {np.__version__}", lambda: left @ right
    name = f"ONNX Runtime {load_runtime().__version__}"
    model = product_model("MatMul", "float32", right, "float32")
    yield "fp32", f"{name} MatMul", session_product(model, left, threads)
    model = product_model("MatMulInteger", "uint8", bytes_right, "int32")
    yield "int8", f"{name} MatMulInteger u8·s8", session_product(model, bytes_left, threads)


def best_run(run: Product, seconds: float) -> tuple[float, int]:
    """Seconds of the fastest run and how many were timed; the first, which allocates, is not."""
    run()
    best = math.inf
    n_runs = 0
    start = time.perf_counter()
    while n_runs < 3 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
        n_runs += 1
    return best, n_runs


def session_product(model: bytes, left: NDArray[Any], threads: int) -> Product:
    """One run of a model of one product, with `left` as its first factor."""
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": left})


def product_model(op: str, left: str, right: NDArray[np.generic], out: str) -> bytes:
    """An ONNX model of one product, written by hand so that the probe does not need `onnx`.

    Its input `a` (n, n) of type `left` times the constant `right` (n, n), by the operator `op`, is
    its output `y` (n, n) of type `out`.
    """
    n = len(right)
    tensor = _number(1, n) + _number(1, n) + _number(2, TYPES[str(right.dtype)]) + _text(8, "b")
    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, op)
    graph = (
        _bytes(1, node)
        + _text(2, "product")
        + _bytes(5, tensor + _bytes(9, right.tobytes()))
        + _bytes(11, _value("a", left, n))
        + _bytes(12, _value("y", out, n))
    )
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
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


if __name__ == "__main__":
    main()
