"""Statistics that the runs support, tables that keep the losing rows, and advice from the measured rows alone."""

import csv
import dataclasses
import io
import json

import pytest
from rich.console import Console

from kneeedge.evaluation import Accuracy
from kneeedge.intervals import Interval
from kneeedge.machine import Environment
from kneeedge.report import (
    BenchResult,
    ColdStart,
    Row,
    advice,
    bench_csv,
    bench_json,
    bench_table,
    speedup,
    summarise,
    times_as_fast,
    window_spread,
)

VNNI = ("avx2", "avx512_vnni")


def accuracy(flips: int | None = 2, n: int = 472, delta: float = 0.0, half: float = 0.01) -> Accuracy:
    alone = Accuracy("test", n, 0.9, Interval(0.87, 0.92), 0.9, 0.9, 0.95, 0)
    if flips is None:
        return alone
    span = Interval(delta - half, delta + half)
    return dataclasses.replace(
        alone, reference="fp32", flips=flips, delta_accuracy=delta, delta_interval=span, accuracy=0.9 + delta
    )


def row(precision: str, ms: float, measured: Accuracy | None = None, model: str = "", **changes: object) -> Row:
    samples = (ms,) * 30
    base = Row(
        model=model or f"m.{precision}.onnx", precision=precision, provider="cpu", batch_size=1, threads=2,
        scenario="single", latency_ms=summarise(samples), n_runs=30, n_warmup=2, images_per_second=1000 / ms,
        cold_start_ms=120.0, cold_start=ColdStart(50.0, 60.0, 10.0), peak_memory_mb=200.0, size_mb=80.1,
        accuracy=measured, unstable=False, window_spread=0.01, inputs="16 phantoms, seed 0", samples=samples,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def result(*rows: Row, isa: tuple[str, ...] = VNNI, warnings: tuple[str, ...] = ()) -> BenchResult:
    return BenchResult(Environment("CPU", isa, 2, 8.0, "Linux", "3.11", {}, 0.1), rows, warnings)


def printed(found: BenchResult) -> str:
    console = Console(width=120, file=io.StringIO(), highlight=False)
    console.print(bench_table(found))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("n", "given"),
    [
        (9, set()),
        (10, {"p50"}),
        (99, {"p50"}),
        (100, {"p50", "p90"}),
        (999, {"p50", "p90"}),
        (1000, {"p50", "p90", "p99"}),
    ],
)
def test_a_percentile_is_withheld_where_the_runs_are_too_few(n: int, given: set[str]) -> None:
    latency = summarise([float(i) for i in range(n)])
    assert {name for name in ("p50", "p90", "p99") if getattr(latency, name) is not None} == given


def test_percentiles_are_of_all_runs_outliers_included() -> None:
    latency = summarise([1.0] * 899 + [1000.0] * 101)
    assert (latency.p50, latency.p90, latency.p99) == (1.0, 1000.0, 1000.0)
    assert latency.max == 1000.0
    assert latency.mean == pytest.approx((899 + 101_000) / 1000)


def test_the_spread_is_that_of_four_windows_medians() -> None:
    assert window_spread([10.0] * 40) == 0.0
    assert window_spread([10.0] * 30 + [12.0] * 10) == pytest.approx(0.2)
    assert window_spread([10.0, 10.0, 99.0] * 4) == 0.0  # outliers move no median
    assert window_spread([10.0] * 11) is None


def test_the_speed_up_is_against_the_first_model_in_the_same_scenario() -> None:
    found = result(row("pytorch-fp32", 100.0), row("int8", 25.0), row("int8", 9.0, scenario="offline", batch_size=8))
    assert [speedup(one, found) for one in found.results] == [1.0, 4.0, None]


def test_medians_are_never_compared_with_means() -> None:
    skewed = [10.0] * 20 + [190.0]
    few, many = summarise([40.0, 60.0]), summarise(skewed)
    base = row("fp32", 10.0, latency_ms=few, images_per_second=20.0)
    assert times_as_fast(row("int8", 10.0, latency_ms=many, images_per_second=53.8), base) == pytest.approx(2.69)
    steady = row("fp32", 10.0, latency_ms=summarise([40.0] * 20), images_per_second=25.0)
    assert times_as_fast(row("int8", 10.0, latency_ms=many, images_per_second=53.8), steady) == 4.0


def test_offline_rows_are_compared_by_throughput() -> None:
    offline = {"scenario": "offline", "batch_size": 8}
    base, other = (row("fp32", 10.0, images_per_second=speed, **offline) for speed in (20.0, 50.0))
    assert times_as_fast(other, base) == 2.5


def test_the_fastest_variant_is_advised_with_its_price() -> None:
    found = result(row("fp32", 190.0, accuracy(None)), row("fp16", 237.5, accuracy(0)), row("int8", 50.0, accuracy(2)))
    assert advice(found) == (
        "fp16 is slower than fp32 on this CPU (0.8×): use int8 (3.8× fp32; 2 of 472 answers flipped)"
    )


def test_int8_that_is_slow_for_want_of_vnni_is_named_so() -> None:
    found = result(row("fp32", 100.0), row("int8", 150.0), isa=("avx2",))
    assert advice(found) == "int8 is slower than fp32 on this CPU (0.7×; no VNNI): use fp32"


def test_slow_int8_is_not_blamed_on_vnni_where_that_is_there() -> None:
    assert "VNNI" not in advice(result(row("fp32", 100.0), row("int8", 150.0)))
    assert "VNNI" not in advice(result(row("fp32", 100.0), row("int8", 150.0), isa=("asimd",)))


def test_int8_on_cuda_is_said_to_run_in_float() -> None:
    found = result(row("fp32", 2.0, provider="cuda"), row("int8", 20.0, provider="cuda"))
    assert advice(found) == "int8 is slower than fp32 on cuda (0.1×; it runs in float there): use fp32"


def test_a_fast_variant_that_surely_loses_accuracy_is_not_advised() -> None:
    found = result(row("fp32", 100.0, accuracy(None)), row("int8", 25.0, accuracy(60, delta=-0.1, half=0.03)))
    assert advice(found) == (
        "int8 is 4.0× fp32 but loses accuracy (60 of 472 answers flipped, accuracy -0.100): use fp32"
    )


def test_a_difference_within_noise_is_none() -> None:
    assert "no faster than fp32" in advice(result(row("fp32", 100.0), row("fp16", 98.0)))


def test_advice_says_that_accuracy_was_not_measured() -> None:
    assert "accuracy was not measured, give --data" in advice(result(row("fp32", 100.0), row("int8", 25.0)))


def test_advice_does_without_an_fp32_file() -> None:
    found = result(row("pytorch-fp32", 300.0), row("int8", 50.0))
    assert advice(found).startswith("use int8 (6.0× pytorch-fp32;")


@pytest.mark.parametrize("rows", [(), (row("fp32", 1.0),), (row("fp32", 1.0, scenario="offline"),) * 2])
def test_advice_without_two_single_rows_asks_for_them(rows: tuple[Row, ...]) -> None:
    assert advice(result(*rows)).startswith("there is no second model to compare")


def test_advice_from_unstable_rows_asks_for_another_run() -> None:
    assert advice(result(row("fp32", 100.0), row("int8", 25.0, unstable=True))).endswith("; unstable, measure again")


def test_two_models_of_one_precision_are_told_apart_by_file() -> None:
    found = result(row("int8", 50.0, model="a/wide.onnx"), row("int8", 10.0, model="a/narrow.onnx"))
    assert advice(found).startswith("use narrow.onnx (5.0× wide.onnx;")


def test_the_table_keeps_the_losing_rows_and_dashes_for_withheld_percentiles() -> None:
    text = printed(result(row("fp32", 100.0, accuracy(None)), row("fp16", 125.0, accuracy(0)), warnings=("[/red] x",)))
    losing = next(line for line in text.splitlines() if line.startswith("m.fp16.onnx"))
    assert losing.split() == ["m.fp16.onnx", "fp16", "cpu", "single", "1", "125", "—", "—", "30", "8", "0.80"]
    assert "0.900 [0.870, 0.920]" in text
    assert "0/472" in text
    assert "warning: [/red] x" in text
    assert "advice: fp16 is slower" in text
    assert "Not a medical device" in text


@pytest.mark.parametrize(("unstable", "cell"), [(True, "10~"), (False, "10"), (None, "10?")])
def test_the_table_marks_a_row_that_is_not_known_to_be_stable(unstable: bool | None, cell: str) -> None:
    text = printed(result(row("fp32", 100.0, unstable=unstable)))
    assert cell in next(line for line in text.splitlines() if "single" in line).split()


def test_the_table_is_readable_in_120_columns() -> None:
    long = "runs/knee/models/vgg19-gap-osteoporosis-224.int8.onnx"
    text = printed(result(row("pytorch-fp32", 1234.5, accuracy(300), provider="tensorrt", model=long)))
    assert "…" not in text
    assert "+0.000 [-0.010, +0.010]" in text


def test_files_of_the_same_name_are_shown_by_path() -> None:
    text = printed(result(row("fp32", 1.0, model="a/m.onnx"), row("fp32", 2.0, model="b/m.onnx")))
    assert "a/m.onnx" in text
    assert "b/m.onnx" in text


def test_the_json_has_the_agreed_fields() -> None:
    document = json.loads(bench_json(result(row("fp32", 10.0, accuracy()), row("int8", 3.0), warnings=("w",))))
    assert list(document) == ["environment", "results", "advice", "warnings"]
    first, second = document["results"]
    assert {
        "model", "precision", "provider", "batch_size", "threads", "scenario", "latency_ms", "n_runs",
        "images_per_second", "cold_start_ms", "peak_memory_mb", "size_mb", "accuracy", "samples", "unstable",
    } <= set(first)  # fmt: skip
    assert set(first["latency_ms"]) == {"p50", "p90", "p99", "mean", "min", "max"}
    assert (first["latency_ms"]["p50"], first["latency_ms"]["p90"]) == (10.0, None)
    assert len(first["samples"]) == first["n_runs"]
    assert first["accuracy"]["flips"] == 2
    assert second["accuracy"] is None
    assert document["warnings"] == ["w"]


def test_the_csv_has_one_line_a_row_and_no_samples() -> None:
    rows = list(csv.DictReader(io.StringIO(bench_csv(result(row("fp32", 10.0), row("int8", 2.5, accuracy()))))))
    assert [one["precision"] for one in rows] == ["fp32", "int8"]
    assert [one["speedup"] for one in rows] == ["1.0", "4.0"]
    assert (rows[0]["accuracy.flips"], rows[1]["accuracy.flips"]) == ("", "2")
    assert (rows[0]["latency_ms.p50"], rows[0]["latency_ms.p99"]) == ("10.0", "")
    assert "samples" not in rows[0]


def test_every_csv_column_is_a_field_of_a_full_row() -> None:
    (only,) = csv.DictReader(io.StringIO(bench_csv(result(row("int8", 2.5, accuracy())))))
    assert [name for name, cell in only.items() if cell == ""] == ["latency_ms.p90", "latency_ms.p99"]
