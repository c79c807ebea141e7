"""A model's windows as rows."""

import statistics
from collections.abc import Sequence

from kneeedge.bench.accuracy import Accuracy
from kneeedge.bench.ceiling import Ceiling, share
from kneeedge.bench.macs import macs
from kneeedge.bench.messages import ColdStart, FileRun, Window
from kneeedge.bench.result import Row, Stages, summarise
from kneeedge.bench.scenarios import SINGLE_STREAM, Scenario
from kneeedge.bench.subjects import Subject
from kneeedge.bench.turns import Found
from kneeedge.bench.windows import STEADY, drift, spread, throughput_interval, window_times


def make_rows(
    subject: Subject, found: Found, accuracies: dict[int, Accuracy], threads: int, ceilings: tuple[Ceiling, ...],
    inputs: str,
) -> list[Row]:  # fmt: skip
    """One row for each scenario of one subject; `accuracies` by batch size."""
    cold = middle_start([start.cold_start for start in found.starts])
    starts, provider = tuple(start.cold_start.total_ms for start in found.starts), found.provider
    rows = []
    for scenario, windows in found.windows.items():
        samples, counts = joined(windows), tuple(len(window.samples) for window in windows)
        times = window_times(samples, counts, scenario.name)
        apart, speed = spread(times), images_per_second(samples, scenario)
        gops = round(2 * macs(subject.spec.architecture, subject.spec.pixel_path.size, len(subject.spec.classes))
                     * speed / 1e9, 2)  # fmt: skip
        rows.append(Row(
            model=subject.path, precision=subject.precision, provider=provider, batch_size=scenario.batch_size,
            threads=threads, scenario=scenario.name, latency_ms=summarise(samples), n_runs=len(samples),
            n_warmup=sum(window.n_warmup for window in windows), images_per_second=round(speed, 2),
            throughput_interval=throughput_interval(samples, counts, scenario.batch_size),
            cold_start_ms=cold.total_ms, cold_start=cold, cold_starts_ms=starts,
            peak_memory_mb=windows[0].peak_memory_mb, gpu_memory_mb=found.gpu_memory_mb.get(scenario),
            size_mb=subject.size_mb, joules_per_image=joules_per_image(windows, scenario),
            accuracy=accuracies.get(scenario.batch_size), unstable=None if apart is None else apart > STEADY,
            window_spread=apart, drift=drift(times),
            stages=stages(found.file_runs) if scenario.name == SINGLE_STREAM else None,
            placement=found.placement, gops=gops, ceiling_share=share(gops, subject.precision, provider, ceilings),
            inputs=inputs, windows=counts, samples=samples, model_sha256=subject.sha256,
        ))  # fmt: skip
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
