"""Rows of a benchmark that nobody measured."""

import dataclasses

from kneeedge.bench.rows import latency_of
from kneeedge.runs.answers import ORIGINAL
from kneeedge.runs.benchmark import (
    FORMAT,
    OFFLINE,
    SINGLE_STREAM,
    Accuracy,
    BenchResult,
    Ceiling,
    ColdStart,
    Row,
    Stages,
)
from kneeedge.statistics.intervals import Interval
from kneeedge.system.machine import Conditions, Environment

OFFLINE_8 = {"scenario": OFFLINE, "batch_size": 8}
VNNI = ("avx2", "avx512_vnni")
CONDITIONS = Conditions(load_average=0.1, cpu_mhz=2500.0, throttled=0)


def accuracy(
    flips: int | None = 2, n: int = 472, delta: float = 0.0, half: float = 0.01
) -> Accuracy:
    """0.9 and `delta` more than the fp32 reference, ± `half`; without flips the reference's own."""
    alone = Accuracy(
        split="test",
        n=n,
        accuracy=0.9,
        interval=Interval(0.87, 0.92),
        sensitivity=0.9,
        specificity=0.9,
        auroc=0.95,
        n_seen=0,
    )
    if flips is None:
        return alone
    return dataclasses.replace(
        alone,
        reference="fp32",
        flips=flips,
        delta_accuracy=delta,
        delta_interval=Interval(delta - half, delta + half),
        accuracy=0.9 + delta,
        verdict="pass",
        reason="made up",
    )


def row(
    precision: str, ms: float, measured: Accuracy | None = None, model: str = "", **changes: object
) -> Row:
    """Six windows of six runs that all take `ms`."""
    samples = (ms,) * 36
    stages = Stages(
        read=0.1,
        preprocess=2.0,
        copy_in=None,
        compute=ms,
        copy_out=None,
        end_to_end=2.1 + ms,
        n_runs=18,
    )
    base = Row(
        model=model or f"m.{precision}.onnx",
        precision=precision,
        provider="cpu",
        batch_size=1,
        threads=2,
        scenario=SINGLE_STREAM,
        latency_ms=latency_of(samples),
        n_runs=36,
        n_warmup=2,
        images_per_second=1000 / ms,
        throughput_interval=Interval(1000 / ms, 1000 / ms),
        cold_start_ms=120.0,
        cold_start=ColdStart(50.0, 60.0, 10.0),
        cold_starts_ms=(120.0,) * 3,
        peak_memory_mb=200.0,
        gpu_memory_mb=None,
        size_mb=80.1,
        joules_per_image=None,
        accuracy=measured,
        unstable=False,
        window_spread=0.01,
        drift=1.0,
        stages=stages,
        placement=None,
        gops=100.0,
        ceiling_share=0.5,
        inputs="16 phantoms, seed 0",
        windows=(6,) * 6,
        samples=samples,
        model_sha256="ab" * 32,
        gate=None if precision == ORIGINAL else "pass",
    )
    return dataclasses.replace(base, **changes)


def result(*rows: Row, isa: tuple[str, ...] = VNNI, warnings: tuple[str, ...] = ()) -> BenchResult:
    """The rows as measured on a machine with these instruction sets."""
    fp32 = Ceiling("fp32", 200.0, "a product", 5)
    int8 = Ceiling("int8", 1000.0, "a product of bytes", 5)
    environment = Environment(
        cpu="CPU",
        isa=isa,
        n_cpus=2,
        memory_gb=8.0,
        system="Linux",
        python="3.11",
        versions={"onnxruntime": "1.32.0"},
        load_average=0.1,
    )
    return BenchResult(
        format=FORMAT,
        environment=environment,
        before=CONDITIONS,
        after=CONDITIONS,
        processes="in turn",
        ceilings=(fp32, int8),
        results=rows,
        warnings=warnings,
    )
