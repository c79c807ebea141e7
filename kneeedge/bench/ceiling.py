"""The physical ceiling: the fastest matrix product that this machine's cores are measured to make.

`python -m kneeedge.bench.ceiling THREADS SECONDS` in a process of its own, since a BLAS reads its number of threads
when it is loaded. A ceiling is measured, not looked up: the best of all runs of the best of the products tried.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.bench.crew import last_words
from kneeedge.bench.product_model import product_model
from kneeedge.child import command, environment
from kneeedge.errors import WorkerError
from kneeedge.session import CPU_PROVIDERS, load_runtime

SIDE = 1024
"a product is 2 · 1024³ = 2.1 · 10⁹ operations on 4 MB a matrix: long for a clock, short enough for a small device"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
ARITHMETIC = {"int8": "int8", "fp32": "fp32", "fp16": "fp32", "pytorch-fp32": "fp32"}
"in which a CPU computes a precision: ONNX Runtime and PyTorch run fp16 files in fp32 there"
Product = Callable[[], object]


@dataclass(frozen=True)
class Ceiling:
    """One arithmetic's fastest product."""

    arithmetic: str
    "fp32, or int8: 8-bit factors, 32-bit sums"
    gops: float
    "10⁹ multiplications and additions a second"
    product: str
    "what was multiplied, and by what"
    n_runs: int


def measure_ceilings(threads: int, seconds: float) -> tuple[Ceiling, ...]:
    """The fastest product of each arithmetic, `seconds` a product, in a process with so many threads."""
    env = environment(**dict.fromkeys(THREAD_VARIABLES, str(threads)))
    done = subprocess.run(
        command("kneeedge.bench.ceiling", str(threads), str(seconds)), capture_output=True, check=False, env=env
    )
    if done.returncode != 0:
        raise WorkerError("the probe of this machine's ceiling", last_words(done.returncode, done.stderr))
    return fastest([Ceiling(**found) for found in json.loads(done.stdout)])


def fastest(found: list[Ceiling]) -> tuple[Ceiling, ...]:
    """The best of each arithmetic."""
    names = dict.fromkeys(one.arithmetic for one in found)
    return tuple(max((one for one in found if one.arithmetic == name), key=lambda one: one.gops) for name in names)


def share(gops: float, precision: str, provider: str, ceilings: tuple[Ceiling, ...]) -> float | None:
    """The share of its arithmetic's ceiling that a row reaches; None off the CPU, where none is measured."""
    if provider not in CPU_PROVIDERS:
        return None
    return next((round(gops / c.gops, 4) for c in ceilings if c.arithmetic == ARITHMETIC.get(precision)), None)


def products(threads: int) -> Iterator[tuple[str, str, Product]]:
    """Arithmetic, description and one run of each product to try."""
    rng = np.random.default_rng(0)
    left, right = (rng.random((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    bytes_left = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    bytes_right = rng.integers(-127, 128, (SIDE, SIDE), dtype=np.int8)
    yield "fp32", f"numpy {np.__version__}", lambda: left @ right
    name = f"ONNX Runtime {load_runtime().__version__}"
    yield "fp32", f"{name} MatMul", session_product(product_model("MatMul", "float32", right, "float32"), left, threads)
    model = product_model("MatMulInteger", "uint8", bytes_right, "int32")
    yield "int8", f"{name} MatMulInteger u8·s8", session_product(model, bytes_left, threads)


def best_run(run: Product, seconds: float) -> tuple[float, int]:
    """Seconds of the fastest run, and how many there were; the first, which allocates, is left out."""
    run()
    best, n_runs, start = float("inf"), 0, time.perf_counter()
    while n_runs < 3 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        best, n_runs = min(best, time.perf_counter() - begin), n_runs + 1
    return best, n_runs


def main() -> None:
    """Print the ceilings of all products as JSON."""
    threads, seconds, found = int(sys.argv[1]), float(sys.argv[2]), []
    for arithmetic, what, run in products(threads):
        best, n_runs = best_run(run, seconds)
        product = f"{what}, {SIDE}×{SIDE} by {SIDE}×{SIDE}, {threads} threads"
        found.append({"arithmetic": arithmetic, "gops": round(2 * SIDE**3 / best / 1e9, 1), "product": product,
                      "n_runs": n_runs})  # fmt: skip
    sys.stdout.write(json.dumps(found))


def session_product(model: bytes, left: NDArray[Any], threads: int) -> Product:
    """One run of a model of one product, with `left` as its first factor."""
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": left})


if __name__ == "__main__":
    main()
