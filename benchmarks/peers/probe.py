"""The physical ceiling: multiplications with addition a second in these cores' matrix products.

Nothing that multiplies in the same arithmetic can be much faster on the same cores, but for a
convolution by Winograd's algorithm, which needs fewer multiplications than are counted. Each
arithmetic is tried through PyTorch (oneDNN) and, in 8 bits, through ONNX Runtime (MLAS) as well;
the faster counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.jobs import serve
from kneeedge.bench.ceiling import best_run, product_model, session_product

SIDES = (256, 1024, 2048)
SECONDS = 1.0
HOPELESS = 8.0
"times as slow as fp32 a product may be on one side before it is not tried on longer ones"
MakeProduct = Callable[[int], Callable[[], object]]
"of a side"


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
    for name, make in products(request.threads):
        for side in SIDES:
            with torch.inference_mode():
                seconds, _ = best_run(make(side), request.seconds)
            rate = side**3 / seconds / 1e9
            rates[name] = max(rates[name], rate)
            if HOPELESS * rate < rates["fp32"]:  # emulated here: a longer side takes minutes
                break
    return Ceiling(**{name: round(rate, 1) for name, rate in rates.items()})


def products(threads: int) -> list[tuple[str, MakeProduct]]:
    """Arithmetic, fp32 first, and what gives one run of a product of (side, side) matrices."""
    import torch

    def floats(side: int) -> Callable[[], object]:
        factor = torch.randn(side, side)
        return lambda: factor @ factor

    def halves(side: int) -> Callable[[], object]:
        factor = torch.randn(side, side).bfloat16()
        return lambda: factor @ factor

    def integers(side: int) -> Callable[[], object]:
        factor = torch.randint(-127, 128, (side, side), dtype=torch.int8)
        return lambda: torch._int_mm(factor, factor)

    return [
        ("fp32", floats),
        ("bf16", halves),
        ("int8", integers),
        ("int8", lambda side: onnx_product(side, threads)),
    ]


def best_of(ceilings: Sequence[Ceiling]) -> Ceiling:
    """The highest rate of each arithmetic."""
    return Ceiling(
        fp32=max(ceiling.fp32 for ceiling in ceilings),
        bf16=max(ceiling.bf16 for ceiling in ceilings),
        int8=max(ceiling.int8 for ceiling in ceilings),
    )


def onnx_product(side: int, threads: int) -> Callable[[], object]:
    """A (side, side) product of u8 with constant s8 on ONNX Runtime."""
    rng = np.random.default_rng(0)
    right = rng.integers(-127, 128, (side, side), np.int8)
    left = rng.integers(0, 256, (side, side), np.uint8)
    return session_product(product_model("MatMulInteger", "uint8", right, "int32"), left, threads)


if __name__ == "__main__":
    serve(ProbeRequest, probe)
