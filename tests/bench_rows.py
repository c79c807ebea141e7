"""Rows of a benchmark that nobody measured."""

import dataclasses

from kneeedge.bench.accuracy import Accuracy
from kneeedge.bench.ceiling import Ceiling
from kneeedge.bench.messages import ColdStart
from kneeedge.bench.result import FORMAT, BenchResult, Row, Stages, summarise
from kneeedge.bench.scenarios import SINGLE_STREAM
from kneeedge.intervals import Interval
from kneeedge.machine import Conditions, Environment

VNNI = ("avx2", "avx512_vnni")
CONDITIONS = Conditions(load_average=0.1, cpu_mhz=2500.0, throttled=0)


def accuracy(flips: int | None = 2, n: int = 472, delta: float = 0.0, half: float = 0.01) -> Accuracy:
    alone = Accuracy("test", n, 0.9, Interval(0.87, 0.92), 0.9, 0.9, 0.95, 0)
    if flips is None:
        return alone
    span = Interval(delta - half, delta + half)
    return dataclasses.replace(
        alone, reference="fp32", flips=flips, delta_accuracy=delta, delta_interval=span, accuracy=0.9 + delta,
        verdict="pass", reason="made up",
    )  # fmt: skip


def row(precision: str, ms: float, measured: Accuracy | None = None, model: str = "", **changes: object) -> Row:
    """Six windows of six runs that all take `ms`."""
    samples = (ms,) * 36
    base = Row(
        model=model or f"m.{precision}.onnx", precision=precision, provider="cpu", batch_size=1, threads=2,
        scenario=SINGLE_STREAM, latency_ms=summarise(samples), n_runs=36, n_warmup=2, images_per_second=1000 / ms,
        throughput_interval=Interval(1000 / ms, 1000 / ms), cold_start_ms=120.0, cold_start=ColdStart(50.0, 60.0, 10.0),
        cold_starts_ms=(120.0,) * 3, peak_memory_mb=200.0, gpu_memory_mb=None, size_mb=80.1, joules_per_image=None,
        accuracy=measured, unstable=False, window_spread=0.01, drift=1.0,
        stages=Stages(0.1, 2.0, None, ms, None, 2.1 + ms, 18), placement=None, gops=100.0, ceiling_share=0.5,
        inputs="16 phantoms, seed 0", windows=(6,) * 6, samples=samples, model_sha256="ab" * 32,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def result(*rows: Row, isa: tuple[str, ...] = VNNI, warnings: tuple[str, ...] = ()) -> BenchResult:
    ceilings = (Ceiling("fp32", 200.0, "a product", 5), Ceiling("int8", 1000.0, "a product of bytes", 5))
    environment = Environment("CPU", isa, 2, 8.0, "Linux", "3.11", {"onnxruntime": "1.32.0"}, 0.1)
    return BenchResult(FORMAT, environment, CONDITIONS, CONDITIONS, "in turn", ceilings, rows, warnings)
