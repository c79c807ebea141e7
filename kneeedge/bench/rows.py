"""A model's windows as rows."""

import statistics
from collections.abc import Sequence

import numpy as np

from kneeedge.bench.ceiling import ceiling_share, macs
from kneeedge.bench.messages import FileRun, Window
from kneeedge.bench.turns import Measurement
from kneeedge.bench.windows import (
    STEADY,
    Scenario,
    drift,
    spread,
    throughput_interval,
    window_times,
)
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.benchmark import SINGLE_STREAM, Ceiling, ColdStart, Latency, Row, Stages
from kneeedge.statistics.percentiles import percentile_interval, runs_needed

PERCENTILES = (50, 90, 99)


def make_rows(
    measurement: Measurement, threads: int, ceilings: tuple[Ceiling, ...], inputs: str
) -> list[Row]:
    """One row for each scenario of one model."""
    return [
        make_row(measurement, scenario, threads, ceilings, inputs)
        for scenario in measurement.windows
    ]


def make_row(
    measurement: Measurement,
    scenario: Scenario,
    threads: int,
    ceilings: tuple[Ceiling, ...],
    inputs: str,
) -> Row:
    """What all windows of one scenario say together."""
    subject = measurement.subject
    provider = measurement.provider
    windows = measurement.windows[scenario]
    samples = samples_of(windows)
    counts = tuple(len(window.samples) for window in windows)
    times = window_times(samples, counts, scenario.name)
    window_spread = spread(times)
    speed = images_per_second(samples, scenario)
    gops = round(operations_an_image(subject.spec) * speed / 1e9, 2)
    starts = [start.cold_start for start in measurement.starts]
    cold_start = middle_start(starts)
    is_single = scenario.name == SINGLE_STREAM
    return Row(
        model=subject.path,
        precision=subject.precision,
        provider=provider,
        batch_size=scenario.batch_size,
        threads=threads,
        scenario=scenario.name,
        latency_ms=latency_of(samples),
        n_runs=len(samples),
        n_warmup=sum(window.n_warmup for window in windows),
        images_per_second=round(speed, 2),
        throughput_interval=throughput_interval(samples, counts, scenario.batch_size),
        cold_start_ms=cold_start.total_ms,
        cold_start=cold_start,
        cold_starts_ms=tuple(start.total_ms for start in starts),
        peak_memory_mb=windows[0].peak_memory_mb,
        gpu_memory_mb=measurement.gpu_memory_mb.get(scenario),
        size_mb=subject.size_mb,
        joules_per_image=joules_per_image(windows, scenario),
        accuracy=measurement.accuracies.get(scenario.batch_size),
        unstable=None if window_spread is None else window_spread > STEADY,
        window_spread=window_spread,
        drift=drift(times),
        stages=stages_of(measurement.file_runs) if is_single else None,
        placement=measurement.placement,
        gops=gops,
        ceiling_share=ceiling_share(gops, subject.precision, provider, ceilings),
        inputs=inputs,
        windows=counts,
        samples=samples,
        model_sha256=subject.sha256,
        gate=gate_of(subject.spec),
    )


def gate_of(spec: ModelSpec) -> str | None:
    """The export gate's verdict that a file carries; None for a checkpoint, and without one."""
    verification = spec.file.verification if spec.file else None
    return verification.verdict if verification else None


def samples_of(windows: Sequence[Window]) -> tuple[float, ...]:
    """The samples of all windows in order, in milliseconds a run."""
    return tuple(sample for window in windows for sample in window.samples)


def images_per_second(samples: Sequence[float], scenario: Scenario) -> float:
    """All images over the time of all runs."""
    return 1e3 * len(samples) * scenario.batch_size / max(sum(samples), 1e-6)


def operations_an_image(spec: ModelSpec) -> int:
    """Multiplications and additions of one image, by the layers' definition."""
    return 2 * macs(spec.architecture, spec.pixel_path.size, len(spec.classes))


def middle_start(starts: Sequence[ColdStart]) -> ColdStart:
    """The start whose total is the median (the lower of two)."""
    return sorted(starts, key=lambda start: start.total_ms)[(len(starts) - 1) // 2]


def joules_per_image(windows: Sequence[Window], scenario: Scenario) -> float | None:
    """Over all windows; None where one of them was not metered."""
    joules = [window.joules for window in windows if window.joules is not None]
    if len(joules) < len(windows):
        return None
    return round(sum(joules) / (len(samples_of(windows)) * scenario.batch_size), 4)


def stages_of(runs: Sequence[FileRun]) -> Stages | None:
    """The median of each part; None without runs."""
    if not runs:
        return None
    medians = {
        name: median_of_known([getattr(run, name) for run in runs])
        for name in FileRun.__dataclass_fields__
    }
    return Stages(**medians, n_runs=len(runs))  # type: ignore[arg-type]


def median_of_known(values: Sequence[float | None]) -> float | None:
    """The median of those that are there; None where none is."""
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None


def latency_of(samples: Sequence[float]) -> Latency:
    """The statistics of all samples; outliers count as they are."""
    values = np.array(samples, dtype=np.float64)
    percentiles: dict[str, float | None] = {}
    intervals = {}
    n_needed = {}
    for p in PERCENTILES:
        name = f"p{p}"
        interval = percentile_interval(samples, p / 100)
        if interval is None:
            percentiles[name] = None
            n_needed[name] = runs_needed(p / 100)
        else:
            percentiles[name] = round(float(np.percentile(values, p)), 4)
            intervals[name] = interval
    return Latency(
        p50=percentiles["p50"],
        p90=percentiles["p90"],
        p99=percentiles["p99"],
        mean=round(float(values.mean()), 4),
        min=round(float(values.min()), 4),
        max=round(float(values.max()), 4),
        intervals=intervals,
        runs_needed=n_needed,
    )
