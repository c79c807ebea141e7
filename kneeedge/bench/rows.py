"""A model's windows as rows."""

import statistics
from collections.abc import Sequence

import numpy as np

from kneeedge.bench.ceiling import macs, share
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
from kneeedge.runs.benchmark import (
    SINGLE_STREAM,
    Ceiling,
    ColdStart,
    Latency,
    Row,
    Stages,
)
from kneeedge.statistics.percentiles import percentile_interval, runs_needed


def make_rows(
    measurement: Measurement, threads: int, ceilings: tuple[Ceiling, ...], inputs: str
) -> list[Row]:
    """One row for each scenario of one model."""
    subject = measurement.subject
    spec = subject.spec
    provider = measurement.provider
    cold = middle_start([start.cold_start for start in measurement.starts])
    starts = tuple(start.cold_start.total_ms for start in measurement.starts)
    products = macs(spec.architecture, spec.pixel_path.size, len(spec.classes))
    rows = []
    for scenario, windows in measurement.windows.items():
        samples = joined(windows)
        counts = tuple(len(window.samples) for window in windows)
        times = window_times(samples, counts, scenario.name)
        apart = spread(times)
        speed = images_per_second(samples, scenario)
        gops = round(2 * products * speed / 1e9, 2)
        rows.append(
            Row(
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
                cold_start_ms=cold.total_ms,
                cold_start=cold,
                cold_starts_ms=starts,
                peak_memory_mb=windows[0].peak_memory_mb,
                gpu_memory_mb=measurement.gpu_memory_mb.get(scenario),
                size_mb=subject.size_mb,
                joules_per_image=joules_per_image(windows, scenario),
                accuracy=measurement.accuracies.get(scenario.batch_size),
                unstable=None if apart is None else apart > STEADY,
                window_spread=apart,
                drift=drift(times),
                stages=stages(measurement.file_runs) if scenario.name == SINGLE_STREAM else None,
                placement=measurement.placement,
                gops=gops,
                ceiling_share=share(gops, subject.precision, provider, ceilings),
                inputs=inputs,
                windows=counts,
                samples=samples,
                model_sha256=subject.sha256,
            )
        )
    return rows


def middle_start(starts: Sequence[ColdStart]) -> ColdStart:
    """The start whose total is the median (the lower of two)."""
    return sorted(starts, key=lambda start: start.total_ms)[(len(starts) - 1) // 2]


def joined(windows: Sequence[Window]) -> tuple[float, ...]:
    """The samples of all windows in order."""
    return tuple(sample for window in windows for sample in window.samples)


def images_per_second(samples: Sequence[float], scenario: Scenario) -> float:
    """Images over the time of all runs."""
    return 1e3 * len(samples) * scenario.batch_size / max(sum(samples), 1e-6)


def joules_per_image(windows: Sequence[Window], scenario: Scenario) -> float | None:
    """Over all windows; None where one of them was not metered."""
    joules = [window.joules for window in windows if window.joules is not None]
    if len(joules) < len(windows):
        return None
    return round(sum(joules) / (len(joined(windows)) * scenario.batch_size), 4)


def stages(runs: Sequence[FileRun]) -> Stages | None:
    """Medians of each part; None without runs."""
    if not runs:
        return None

    def middle(name: str) -> float | None:
        values = [value for run in runs if (value := getattr(run, name)) is not None]
        return round(statistics.median(values), 4) if values else None

    parts = {name: middle(name) for name in FileRun.__dataclass_fields__}
    return Stages(**parts, n_runs=len(runs))  # type: ignore[arg-type]


PERCENTILES = (50, 90, 99)


def latency_of(samples: Sequence[float]) -> Latency:
    """The statistics of all samples; outliers count as they are."""
    values = np.array(samples, dtype=np.float64)
    shares = {}
    intervals = {}
    missing = {}
    for p in PERCENTILES:
        interval = percentile_interval(samples, p / 100)
        if interval is None:
            missing[f"p{p}"] = runs_needed(p / 100)
        else:
            intervals[f"p{p}"] = interval
        shares[p] = None if interval is None else round(float(np.percentile(values, p)), 4)
    mean, low, high = (
        round(float(value), 4) for value in (values.mean(), values.min(), values.max())
    )
    return Latency(
        p50=shares[50],
        p90=shares[90],
        p99=shares[99],
        mean=mean,
        min=low,
        max=high,
        intervals=intervals,
        runs_needed=missing,
    )
