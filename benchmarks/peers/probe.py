"""The physical ceiling: how many multiplications with addition a second these cores manage in a large matrix product.

Nothing that multiplies in the same arithmetic can be much faster on the same cores, but for a convolution by Winograd's
algorithm, which needs fewer multiplications than are counted. Each arithmetic is tried through PyTorch (oneDNN) and, in
8 bits, through ONNX Runtime (MLAS) as well; the faster counts.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from benchmarks.peers.jobs import serve

SIDES = (1024, 2048)
SECONDS = 1.0


@dataclass(frozen=True)
class ProbeRequest:
    """How to probe."""

    threads: int
    seconds: float = SECONDS
    "for each product of each side"


@dataclass(frozen=True)
class Ceiling:
    """10⁹ multiplications with addition a second."""

    fp32: float
    bf16: float
    int8: float
    "of u8 or s8 by s8, accumulated in 32 bits"


def probe(request: ProbeRequest) -> Ceiling:
    """Measure this machine."""
    import torch

    torch.set_num_threads(request.threads)
    rates: dict[str, float] = {"fp32": 0.0, "bf16": 0.0, "int8": 0.0}
    for side in SIDES:
        a = torch.randn(side, side)
        half, bytes_ = a.bfloat16(), torch.randint(-127, 128, (side, side), dtype=torch.int8)
        with torch.inference_mode():
            products: list[tuple[str, Callable[[], object]]] = [
                ("fp32", lambda a=a: a @ a),
                ("bf16", lambda half=half: half @ half),
                ("int8", lambda bytes_=bytes_: torch._int_mm(bytes_, bytes_)),
                ("int8", onnx_product(side, request.threads)),
            ]
            for name, product in products:
                rates[name] = max(rates[name], side**3 / fastest(product, request.seconds) / 1e9)
    return Ceiling(**{name: round(rate, 1) for name, rate in rates.items()})


def best_of(found: Sequence[Ceiling]) -> Ceiling:
    """The highest rate of each arithmetic."""
    return Ceiling(*(max(rates) for rates in zip(*map(astuple, found), strict=True)))


def fastest(run: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest run within `seconds`, of two at least: other processes can only make a run slower."""
    best, n_runs, begin = float("inf"), 0, time.perf_counter()
    while n_runs < 2 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        n_runs += 1
    return best


def onnx_product(side: int, threads: int) -> Callable[[], object]:
    """A (side, side) product of u8 with constant s8 on ONNX Runtime."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).integers(-127, 128, (side, side), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [side, side])],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    a = np.random.default_rng(1).integers(0, 256, (side, side), dtype=np.uint8)
    return lambda: session.run(None, {"a": a})


if __name__ == "__main__":
    serve(ProbeRequest, probe)
