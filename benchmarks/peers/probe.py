"""The physical ceiling: how many multiplications with addition a second these cores manage in a
large matrix product.

Nothing that multiplies in the same arithmetic can be much faster on the same cores, but for a
convolution by Winograd's algorithm, which needs fewer multiplications than are counted. Each
arithmetic is tried through PyTorch (oneDNN) and, in 8 bits, through ONNX Runtime (MLAS) as well;
the faster counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from benchmarks.peers.jobs import serve
from kneeedge.bench.ceiling import best_run, product_model, session_product

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
        half = a.bfloat16()
        bytes_ = torch.randint(-127, 128, (side, side), dtype=torch.int8)
        with torch.inference_mode():
            products: list[tuple[str, Callable[[], object]]] = [
                ("fp32", lambda a=a: a @ a),
                ("bf16", lambda half=half: half @ half),
                ("int8", lambda bytes_=bytes_: torch._int_mm(bytes_, bytes_)),
                ("int8", onnx_product(side, request.threads)),
            ]
            for name, product in products:
                rates[name] = max(
                    rates[name], side**3 / best_run(product, request.seconds)[0] / 1e9
                )
    return Ceiling(**{name: round(rate, 1) for name, rate in rates.items()})


def best_of(found: Sequence[Ceiling]) -> Ceiling:
    """The highest rate of each arithmetic."""
    return Ceiling(*(max(rates) for rates in zip(*map(astuple, found), strict=True)))


def onnx_product(side: int, threads: int) -> Callable[[], object]:
    """A (side, side) product of u8 with constant s8 on ONNX Runtime."""
    rng = np.random.default_rng(0)
    right = rng.integers(-127, 128, (side, side), np.int8)
    left = rng.integers(0, 256, (side, side), np.uint8)
    return session_product(product_model("MatMulInteger", "uint8", right, "int32"), left, threads)


if __name__ == "__main__":
    serve(ProbeRequest, probe)
