"""From samples to statistics, and rows held against each other."""

import pytest

from kneeedge.bench.messages import FileRun, Window
from kneeedge.bench.rows import (
    images_per_second,
    joules_per_image,
    latency_of,
    middle_start,
    stages_of,
)
from kneeedge.bench.windows import Scenario, scenarios
from kneeedge.runs.benchmark import (
    OFFLINE,
    ColdStart,
    Stages,
    baseline,
    speedup,
    times_as_fast,
)
from tests.bench_rows import OFFLINE_8, result, row


@pytest.mark.parametrize(
    ("n", "given"),
    [
        (5, set()),
        (6, {"p50"}),
        (35, {"p50"}),
        (36, {"p50", "p90"}),
        (367, {"p50", "p90"}),
        (368, {"p50", "p90", "p99"}),
    ],
)
def test_a_percentile_is_withheld_where_the_runs_are_too_few_for_its_interval(
    n: int, given: set[str]
) -> None:
    latency = latency_of([float(i) for i in range(n)])
    assert {name for name in ("p50", "p90", "p99") if getattr(latency, name) is not None} == given
    assert set(latency.intervals) == given
    assert set(latency.runs_needed) == {"p50", "p90", "p99"} - given


def test_percentiles_are_of_all_runs_outliers_included() -> None:
    latency = latency_of([1.0] * 899 + [1000.0] * 101)
    assert (latency.p50, latency.p90, latency.p99) == (1.0, 1000.0, 1000.0)
    assert latency.max == 1000.0
    assert latency.mean == pytest.approx((899 + 101_000) / 1000)


def test_the_scenarios_are_mlperfs_smallest_batch_first() -> None:
    assert scenarios((32, 2, 32)) == (
        Scenario("SingleStream", 1),
        Scenario("Offline", 2),
        Scenario("MultiStream", 8),
        Scenario("Offline", 32),
    )


def test_the_middle_start_is_the_median_and_one_that_happened() -> None:
    starts = [ColdStart(total, 0.0, 0.0) for total in (30.0, 10.0, 20.0)]
    assert middle_start(starts).total_ms == 20.0


def window(*samples: float, joules: float | None = None) -> Window:
    return Window(samples=samples, n_warmup=1, peak_memory_mb=None, joules=joules, idle_cpu=0.0)


def test_throughput_is_all_images_over_all_time() -> None:
    assert images_per_second((10.0, 30.0), Scenario(OFFLINE, 8)) == 400.0


def test_energy_is_absent_where_a_window_was_not_metered() -> None:
    single = Scenario("SingleStream", 1)
    assert joules_per_image([window(1.0, 1.0, joules=3.0), window(1.0, joules=3.0)], single) == 2.0
    assert joules_per_image([window(1.0, joules=3.0), window(1.0)], single) is None


def test_stages_are_medians_and_what_is_not_copied_is_absent() -> None:
    parts = {"read": 1.0, "preprocess": 2.0, "copy_in": None, "copy_out": None}
    runs = [FileRun(**parts, compute=ms, end_to_end=3.0 + ms) for ms in (5.0, 7.0, 90.0)]
    assert stages_of(runs) == Stages(**parts, compute=7.0, end_to_end=10.0, n_runs=3)
    assert stages_of([]) is None


def test_the_speed_up_is_against_the_original_in_the_same_scenario() -> None:
    rows = [row("int8", 25.0), row("pytorch-fp32", 100.0), row("int8", 9.0, **OFFLINE_8)]
    assert [speedup(measured, result(*rows)) for measured in rows] == [4.0, 1.0, None]


def test_without_the_original_the_first_fp32_file_is_the_baseline_whatever_the_order() -> None:
    rows = [row("fp16", 3.0), row("fp32", 2.0), row("fp32", 1.0)]
    assert baseline(rows) is rows[1]
    assert baseline(rows[:1]) is rows[0]


def test_medians_are_never_compared_with_means() -> None:
    skewed = [10.0] * 20 + [190.0]
    int8 = row("int8", 10.0, latency_ms=latency_of(skewed), images_per_second=53.8)
    few = row("fp32", 10.0, latency_ms=latency_of([40.0, 60.0]), images_per_second=20.0)
    many = row("fp32", 10.0, latency_ms=latency_of([40.0] * 20), images_per_second=25.0)
    assert times_as_fast(int8, few) == pytest.approx(2.69)
    assert times_as_fast(int8, many) == 4.0


def test_offline_rows_are_compared_by_throughput() -> None:
    base = row("fp32", 10.0, images_per_second=20.0, **OFFLINE_8)
    other = row("fp32", 10.0, images_per_second=50.0, **OFFLINE_8)
    assert times_as_fast(other, base) == 2.5
