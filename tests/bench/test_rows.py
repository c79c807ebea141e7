"""From samples to statistics, tables that keep the losing rows, and advice from the measured rows
alone.
"""

import csv
import dataclasses
import io
import json

import pytest
from rich.console import Console

from kneeedge.bench.advice import advice, machine_cautions, row_cautions
from kneeedge.bench.messages import FileRun, Window
from kneeedge.bench.page import bench_csv, bench_json, bench_markdown, bench_table
from kneeedge.bench.rows import (
    images_per_second,
    joules_per_image,
    latency_of,
    middle_start,
    stages_of,
)
from kneeedge.bench.sheets import headline
from kneeedge.bench.windows import Scenario, scenarios
from kneeedge.runs.benchmark import (
    MULTI_STREAM,
    OFFLINE,
    BenchResult,
    ColdStart,
    Row,
    Stages,
    baseline,
    speedup,
    times_as_fast,
)
from kneeedge.runtime.cuda import INT8_ON_CUDA
from kneeedge.system.nvidia import Gpu
from tests.bench_rows import CONDITIONS, accuracy, result, row

OFFLINE_8 = {"scenario": OFFLINE, "batch_size": 8}


def printed(found: BenchResult) -> str:
    console = Console(width=160, file=io.StringIO(), highlight=False)
    console.print(bench_table(found))
    return console.file.getvalue()


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
    assert [(one.name, one.batch_size) for one in scenarios((32, 2, 32))] == [
        ("SingleStream", 1),
        ("Offline", 2),
        ("MultiStream", 8),
        ("Offline", 32),
    ]


def test_a_scenario_reports_mlperfs_percentile_with_its_interval_or_the_runs_it_needs() -> None:
    assert headline(row("int8", 5.0)) == "p90 5 [5, 5] ms"
    assert headline(row("int8", 5.0, scenario=MULTI_STREAM, batch_size=8)) == "p99 needs 368 runs"
    assert headline(row("int8", 5.0, **OFFLINE_8)) == "200 [200, 200] img/s"
    assert headline(row("int8", 5.0, throughput_interval=None, **OFFLINE_8)) == "200 img/s"


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
    runs = [
        FileRun(
            read=1.0, preprocess=2.0, copy_in=None, compute=ms, copy_out=None, end_to_end=3.0 + ms
        )
        for ms in (5.0, 7.0, 90.0)
    ]
    assert stages_of(runs) == Stages(
        read=1.0,
        preprocess=2.0,
        copy_in=None,
        compute=7.0,
        copy_out=None,
        end_to_end=10.0,
        n_runs=3,
    )
    assert stages_of([]) is None


def test_the_speed_up_is_against_the_original_in_the_same_scenario() -> None:
    found = result(row("int8", 25.0), row("pytorch-fp32", 100.0), row("int8", 9.0, **OFFLINE_8))
    assert [speedup(one, found) for one in found.results] == [4.0, 1.0, None]


def test_without_the_original_the_first_fp32_file_is_the_baseline_whatever_the_order() -> None:
    rows = [row("fp16", 3.0), row("fp32", 2.0), row("fp32", 1.0)]
    assert baseline(rows) is rows[1]
    assert baseline(rows[:1]) is rows[0]


def test_medians_are_never_compared_with_means() -> None:
    skewed = [10.0] * 20 + [190.0]
    few, many = latency_of([40.0, 60.0]), latency_of(skewed)
    base = row("fp32", 10.0, latency_ms=few, images_per_second=20.0)
    assert times_as_fast(
        row("int8", 10.0, latency_ms=many, images_per_second=53.8), base
    ) == pytest.approx(2.69)
    steady = row("fp32", 10.0, latency_ms=latency_of([40.0] * 20), images_per_second=25.0)
    assert times_as_fast(row("int8", 10.0, latency_ms=many, images_per_second=53.8), steady) == 4.0


def test_offline_rows_are_compared_by_throughput() -> None:
    base, other = (
        row("fp32", 10.0, images_per_second=speed, **OFFLINE_8) for speed in (20.0, 50.0)
    )
    assert times_as_fast(other, base) == 2.5


def test_the_fastest_variant_is_advised_with_its_price() -> None:
    found = result(
        row("fp32", 190.0, accuracy(None)),
        row("fp16", 237.5, accuracy(0)),
        row("int8", 50.0, accuracy(2)),
    )
    assert advice(found) == (
        "fp16 is slower than fp32 on this CPU (0.8×; it runs as fp32 with casts there): "
        "use int8 (3.8× fp32; 2 of 472 answers flipped)"
    )


def test_a_model_near_the_ceiling_is_told_what_alone_helps() -> None:
    found = advice(result(row("fp32", 190.0), row("int8", 50.0, ceiling_share=0.72)))
    assert found.endswith("at 72% of this CPU's int8 ceiling, more speed means a narrower network")


def test_files_that_are_no_faster_than_pytorch_are_said_to_be_so() -> None:
    found = advice(result(row("pytorch-fp32", 50.0), row("fp32", 60.0), row("int8", 50.0)))
    assert "it is no faster than PyTorch here (1.0×)" in found


def test_int8_that_is_slow_for_want_of_vnni_is_named_so() -> None:
    found = result(row("fp32", 100.0), row("int8", 150.0), isa=("avx2",))
    assert advice(found) == "int8 is slower than fp32 on this CPU (0.7×; no VNNI): use fp32"


def test_slow_int8_is_not_blamed_on_vnni_where_that_is_there() -> None:
    assert "VNNI" not in advice(result(row("fp32", 100.0), row("int8", 150.0)))
    assert "VNNI" not in advice(result(row("fp32", 100.0), row("int8", 150.0), isa=("asimd",)))


def test_int8_on_cuda_is_said_to_run_in_float() -> None:
    rows = [
        row(name, ms, provider="cuda", ceiling_share=None)
        for name, ms in (("fp32", 2.0), ("int8", 20.0))
    ]
    assert (
        advice(result(*rows))
        == "int8 is slower than fp32 on cuda (0.1×; it runs in float there): use fp32"
    )


@pytest.mark.parametrize(
    "lossy",
    [
        accuracy(60, delta=-0.1, half=0.03),
        dataclasses.replace(accuracy(60, delta=-0.1, half=0.2), verdict="fail"),
    ],
    ids=["surely lost", "failed the gate"],
)
def test_a_fast_variant_that_loses_accuracy_is_not_advised(lossy: object) -> None:
    found = result(row("fp32", 100.0, accuracy(None)), row("int8", 25.0, lossy))
    assert advice(found) == (
        "int8 is 4.0× fp32 but loses accuracy (60 of 472 answers flipped, accuracy -0.100): use fp32"
    )


def test_a_difference_within_noise_is_none() -> None:
    assert "no faster than fp32" in advice(result(row("fp32", 100.0), row("fp16", 98.0)))


def test_advice_says_that_accuracy_was_not_measured() -> None:
    assert "accuracy was not measured, give --data" in advice(
        result(row("fp32", 100.0), row("int8", 25.0))
    )


def test_advice_does_without_an_fp32_file() -> None:
    found = result(row("pytorch-fp32", 300.0), row("int8", 50.0))
    assert advice(found).startswith("use int8 (6.0× pytorch-fp32;")


@pytest.mark.parametrize("rows", [(), (row("fp32", 1.0),), (row("fp32", 1.0, **OFFLINE_8),) * 2])
def test_advice_without_two_single_rows_asks_for_them(rows: tuple[Row, ...]) -> None:
    assert advice(result(*rows)).startswith("there is no second model to compare")


def test_advice_from_unstable_rows_asks_for_another_run() -> None:
    assert advice(result(row("fp32", 100.0), row("int8", 25.0, unstable=True))).endswith(
        "; unstable, measure again"
    )


def test_two_models_of_one_precision_are_told_apart_by_file() -> None:
    found = result(row("int8", 50.0, model="a/wide.onnx"), row("int8", 10.0, model="a/narrow.onnx"))
    assert advice(found).startswith("use narrow.onnx (5.0× wide.onnx;")


def test_one_file_on_two_providers_is_told_apart_by_provider() -> None:
    found = result(row("fp32", 50.0), row("fp32", 10.0, provider="cuda", ceiling_share=None))
    assert advice(found).startswith("use fp32 on cuda (5.0× fp32 on cpu;")


def test_the_table_keeps_the_losing_rows_with_their_answers() -> None:
    text = printed(
        result(
            row("fp32", 100.0, accuracy(None)),
            row("fp16", 125.0, accuracy(0)),
            warnings=("[/red] x",),
        )
    )
    losing = next(line for line in text.splitlines() if line.startswith("m.fp16.onnx"))
    assert losing.split() == [
        "m.fp16.onnx",
        "fp16",
        "cpu",
        "SingleStream",
        "125",
        "p90",
        "125",
        "[125,",
        "125]",
        "ms",
        "36",
        "8",
        "0.80",
        "50%",
        "0.900",
        "0/472",
        "pass",
    ]
    assert "0.900 [0.870, 0.920]" in text
    assert "+0.000 [-0.010, +0.010]" in text
    assert "×: times as fast as fp32" in text
    assert "int8 1,000 GOP/s (a product of bytes)" in text
    assert "warning: [/red] x" in text
    assert "advice: fp16 is slower" in text
    assert "machine: CPU, 2 cores, load 0.1 before the start, onnxruntime 1.32.0" in text
    assert "Not a medical device" in text


def test_what_this_machine_cannot_measure_has_no_column() -> None:
    text = printed(result(row("fp32", 100.0)))
    assert not any(name in text for name in ("J an image", "GPU MB", "copy in", "flips"))
    shown = printed(result(row("fp32", 100.0, joules_per_image=1.5, gpu_memory_mb=300.0)))
    assert "J an image" in shown
    assert "GPU MB" in shown


@pytest.mark.parametrize(("unstable", "cell"), [(True, "10~"), (False, "10"), (None, "10?")])
def test_the_table_marks_a_row_that_is_not_known_to_be_stable(
    unstable: bool | None, cell: str
) -> None:
    text = printed(result(row("fp32", 100.0, unstable=unstable)))
    assert cell in next(line for line in text.splitlines() if "SingleStream" in line).split()


def test_long_names_cost_no_figure() -> None:
    long = "runs/knee/models/vgg19-gap-osteoporosis-224.int8.onnx"
    text = printed(
        result(row("pytorch-fp32", 1234.5, accuracy(300), provider="tensorrt", model=long))
    )
    assert "…" not in text
    assert "p90 1,234 [1,234, 1,234] ms" in text


def test_files_of_the_same_name_are_shown_by_path() -> None:
    text = printed(result(row("fp32", 1.0, model="a/m.onnx"), row("fp32", 2.0, model="b/m.onnx")))
    assert "a/m.onnx" in text
    assert "b/m.onnx" in text


def test_where_the_nodes_ran_is_said_once_a_model() -> None:
    placed = {"provider": "cuda", "placement": "60 of 60 nodes on cuda", "ceiling_share": None}
    text = printed(result(row("fp16", 1.0, **placed), row("fp16", 1.0, **placed, **OFFLINE_8)))
    assert text.count("m.fp16.onnx: 60 of 60 nodes on cuda") == 1


def test_the_markdown_holds_the_same_rows() -> None:
    text = bench_markdown(result(row("fp32", 100.0, accuracy(None)), row("int8", 25.0, accuracy())))
    assert (
        "| m.int8.onnx | int8 | cpu | SingleStream | 25 | p90 25 [25, 25] ms | 36 | 40 | 4.00 | 50% | 0.900 | 2/472 | "
        "pass |" in text
    )
    assert "\n- advice: use int8" in text


def test_the_json_has_the_agreed_fields() -> None:
    document = json.loads(
        bench_json(result(row("fp32", 10.0, accuracy()), row("int8", 3.0), warnings=("w",)))
    )
    assert {
        "format",
        "environment",
        "before",
        "after",
        "ceilings",
        "results",
        "advice",
        "warnings",
    } <= set(document)
    first, second = document["results"]
    assert {
        "model",
        "precision",
        "provider",
        "batch_size",
        "threads",
        "scenario",
        "latency_ms",
        "n_runs",
        "images_per_second",
        "cold_start_ms",
        "peak_memory_mb",
        "size_mb",
        "accuracy",
        "samples",
        "unstable",
    } <= set(first)
    assert (first["latency_ms"]["p50"], first["latency_ms"]["p99"]) == (10.0, None)
    assert first["latency_ms"]["runs_needed"] == {"p99": 368}
    assert len(first["samples"]) == first["n_runs"] == sum(first["windows"])
    assert (first["accuracy"]["flips"], first["accuracy"]["verdict"]) == (2, "pass")
    assert second["accuracy"] is None
    assert second["joules_per_image"] is None
    assert document["warnings"] == ["w"]


def test_the_csv_has_one_line_a_row_and_no_samples() -> None:
    rows = list(
        csv.DictReader(
            io.StringIO(bench_csv(result(row("fp32", 10.0), row("int8", 2.5, accuracy()))))
        )
    )
    assert [one["precision"] for one in rows] == ["fp32", "int8"]
    assert [one["speedup"] for one in rows] == ["1.0", "4.0"]
    assert (rows[0]["accuracy.flips"], rows[1]["accuracy.flips"]) == ("", "2")
    assert (rows[0]["latency_ms.p50"], rows[0]["latency_ms.p99"]) == ("10.0", "")
    assert "samples" not in rows[0]


def test_every_csv_column_is_a_field_of_a_full_row() -> None:
    full = row(
        "int8",
        2.5,
        accuracy(),
        latency_ms=latency_of([2.5] * 368),
        gpu_memory_mb=1.0,
        joules_per_image=1.0,
        stages=Stages(
            read=1.0,
            preprocess=1.0,
            copy_in=1.0,
            compute=1.0,
            copy_out=1.0,
            end_to_end=5.0,
            n_runs=3,
        ),
    )
    (only,) = csv.DictReader(io.StringIO(bench_csv(result(full))))
    assert [name for name, cell in only.items() if cell == ""] == []


def test_int8_on_cuda_is_warned_of_once() -> None:
    found = row_cautions([row("int8", 9.0, provider="cuda")], 0.0, INT8_ON_CUDA)
    assert found == [f"m.int8.onnx: {INT8_ON_CUDA}"]


def test_unstable_rows_are_one_line_a_model() -> None:
    rows = [
        row("fp32", 9.0, unstable=True, window_spread=0.23),
        row("fp32", 9.0),
        row("fp32", 9.0, unstable=True, window_spread=0.4, **OFFLINE_8),
    ]
    (text,) = row_cautions(rows, 0.0, "")
    assert text == (
        "m.fp32.onnx: unstable, its windows lie apart in SingleStream (23%), Offline 8 (40%); quiet the machine, "
        "run again"
    )


def test_a_process_that_was_busy_in_the_others_turns_is_named() -> None:
    (text,) = row_cautions([row("fp32", 9.0)], 0.3, "")
    assert "its threads were 30% busy while the others had their turns" in text


def test_a_variant_that_fails_the_gate_is_named_with_the_reason() -> None:
    lossy = dataclasses.replace(accuracy(60, delta=-0.1), verdict="fail", reason="a loss")
    assert row_cautions([row("int8", 9.0, lossy)], 0.0, "") == [
        "m.int8.onnx: the gate fails it: a loss"
    ]


def test_a_quiet_machine_is_no_warning() -> None:
    assert machine_cautions(result().environment, CONDITIONS, CONDITIONS, 1.01) == []


def test_clocks_heat_load_and_speed_that_changed_are_warned_of() -> None:
    busy = dataclasses.replace(result().environment, load_average=1.5)
    before, after = (
        dataclasses.replace(CONDITIONS, cpu_mhz=cpu, throttled=heat, gpu_mhz=(gpu,))
        for cpu, heat, gpu in ((3000.0, 4, 1980.0), (2400.0, 9, 1200.0))
    )
    assert machine_cautions(busy, before, after, 0.8) == [
        "the machine was busy before the start (load 1.5 on 2 cores)",
        "the CPU's clock went from 3000 to 2400 MHz",
        "the GPU's clock went from 1980 to 1200 MHz",
        "heat lowered a core's clock 5 times: cool it, run again",
        "the same matrix product ran at 0.80× its speed after the rounds: clocks or other work",
    ]


def test_the_machine_line_names_what_bounds_it() -> None:
    gpu = Gpu(
        name="NVIDIA H200",
        driver="570.1",
        memory_mb=1.0,
        clock_mhz=1.0,
        max_clock_mhz=1.0,
        power_w=1.0,
        temperature_c=1.0,
    )
    here = dataclasses.replace(
        result().environment, cpu_quota=1.5, governor="powersave", gpus=(gpu,)
    )
    text = bench_markdown(dataclasses.replace(result(row("fp32", 1.0)), environment=here))
    assert (
        "machine: CPU, 2 cores, quota of 1.5 cores, governor powersave, NVIDIA H200 (driver 570.1), load"
        in text
    )
