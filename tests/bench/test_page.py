"""A benchmark on the terminal, as Markdown, JSON and CSV: tables that keep the losing rows."""

import csv
import dataclasses
import io
import json

import pytest
from rich.console import Console

from kneeedge.bench.page import bench_csv, bench_json, bench_markdown, bench_table
from kneeedge.bench.rows import latency_of
from kneeedge.bench.sheets import headline
from kneeedge.runs.benchmark import MULTI_STREAM, Row, Stages
from kneeedge.system.nvidia import Gpu
from tests.bench_rows import OFFLINE_8, accuracy, result, row


def printed(*rows: Row, warnings: tuple[str, ...] = ()) -> str:
    """The table on a terminal of 160 columns."""
    console = Console(width=160, file=io.StringIO(), highlight=False)
    console.print(bench_table(result(*rows, warnings=warnings)))
    return console.file.getvalue()


def line_with(text: str, words: str) -> str:
    return next(line for line in text.splitlines() if words in line)


def csv_lines(*rows: Row) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(bench_csv(result(*rows)))))


def test_a_scenario_reports_mlperfs_percentile_with_its_interval_or_the_runs_it_needs() -> None:
    assert headline(row("int8", 5.0)) == "p90 5 [5, 5] ms"
    assert headline(row("int8", 5.0, scenario=MULTI_STREAM, batch_size=8)) == "p99 needs 368 runs"
    assert headline(row("int8", 5.0, **OFFLINE_8)) == "200 [200, 200] img/s"
    assert headline(row("int8", 5.0, throughput_interval=None, **OFFLINE_8)) == "200 img/s"


def test_the_table_keeps_the_losing_rows_with_their_answers() -> None:
    fp32 = row("fp32", 100.0, accuracy(None))
    fp16 = row("fp16", 125.0, accuracy(0))
    text = printed(fp32, fp16, warnings=("[/red] x",))
    losing = " ".join(line_with(text, "m.fp16.onnx").split())
    speed = "125 p90 125 [125, 125] ms 36 8 0.80 50%"
    assert losing == f"m.fp16.onnx fp16 cpu SingleStream {speed} 0.900 0/472 pass"
    assert "0.900 [0.870, 0.920]" in text
    assert "+0.000 [-0.010, +0.010]" in text
    assert "×: times as fast as fp32" in text
    assert "int8 1,000 GOP/s (a product of bytes)" in text
    assert "warning: [/red] x" in text
    assert "advice: fp16 is slower" in text
    assert "machine: CPU, 2 cores, load 0.1 before the start, onnxruntime 1.32.0" in text
    assert "Not a medical device" in text


def test_marks_behind_a_figure_are_explained_where_they_stand() -> None:
    steady = printed(row("fp32", 100.0))
    assert "~:" not in steady
    assert "?:" not in steady
    assert "~: unstable" in printed(row("fp32", 100.0, unstable=True))
    assert "?: too few rounds to tell whether it was steady" in printed(
        row("fp32", 100.0, unstable=None)
    )


def test_what_this_machine_cannot_measure_has_no_column() -> None:
    text = printed(row("fp32", 100.0))
    assert not any(name in text for name in ("J an image", "GPU MB", "copy in", "flips"))
    text = printed(row("fp32", 100.0, joules_per_image=1.5, gpu_memory_mb=300.0))
    assert "J an image" in text
    assert "GPU MB" in text


@pytest.mark.parametrize(("unstable", "cell"), [(True, "10~"), (False, "10"), (None, "10?")])
def test_the_table_marks_a_row_that_is_not_known_to_be_stable(
    unstable: bool | None, cell: str
) -> None:
    text = printed(row("fp32", 100.0, unstable=unstable))
    assert cell in line_with(text, "SingleStream").split()


def test_long_names_cost_no_figure() -> None:
    model = "runs/knee/models/vgg19-gap-osteoporosis-224.int8.onnx"
    text = printed(row("pytorch-fp32", 1234.5, accuracy(300), provider="tensorrt", model=model))
    assert "…" not in text
    assert "p90 1,234 [1,234, 1,234] ms" in text


def test_files_of_the_same_name_are_shown_by_path() -> None:
    text = printed(row("fp32", 1.0, model="a/m.onnx"), row("fp32", 2.0, model="b/m.onnx"))
    assert "a/m.onnx" in text
    assert "b/m.onnx" in text


def test_where_the_nodes_ran_is_said_once_a_model() -> None:
    placed = {"provider": "cuda", "placement": "60 of 60 nodes on cuda", "ceiling_share": None}
    text = printed(row("fp16", 1.0, **placed), row("fp16", 1.0, **placed, **OFFLINE_8))
    assert text.count("m.fp16.onnx: 60 of 60 nodes on cuda") == 1


def test_the_markdown_holds_the_same_rows() -> None:
    text = bench_markdown(result(row("fp32", 100.0, accuracy(None)), row("int8", 25.0, accuracy())))
    speed = "25 | p90 25 [25, 25] ms | 36 | 40 | 4.00 | 50%"
    assert f"| m.int8.onnx | int8 | cpu | SingleStream | {speed} | 0.900 | 2/472 | pass |" in text
    assert "\n- advice: use int8" in text


def test_the_json_has_the_agreed_fields() -> None:
    measured = result(row("fp32", 10.0, accuracy()), row("int8", 3.0), warnings=("w",))
    document = json.loads(bench_json(measured))
    assert set(document) >= {
        "format", "environment", "before", "after", "ceilings", "results", "advice", "warnings",
    }  # fmt: skip
    first, second = document["results"]
    assert set(first) >= {
        "model", "precision", "provider", "batch_size", "threads", "scenario", "latency_ms",
        "n_runs", "images_per_second", "cold_start_ms", "peak_memory_mb", "size_mb", "accuracy",
        "samples", "unstable",
    }  # fmt: skip
    assert (first["latency_ms"]["p50"], first["latency_ms"]["p99"]) == (10.0, None)
    assert first["latency_ms"]["runs_needed"] == {"p99": 368}
    assert len(first["samples"]) == first["n_runs"] == sum(first["windows"])
    assert (first["accuracy"]["flips"], first["accuracy"]["verdict"]) == (2, "pass")
    assert second["accuracy"] is None
    assert second["joules_per_image"] is None
    assert document["warnings"] == ["w"]


def test_the_csv_has_one_line_a_row_and_no_samples() -> None:
    first, second = csv_lines(row("fp32", 10.0), row("int8", 2.5, accuracy()))
    assert (first["precision"], second["precision"]) == ("fp32", "int8")
    assert (first["speedup"], second["speedup"]) == ("1.0", "4.0")
    assert (first["accuracy.flips"], second["accuracy.flips"]) == ("", "2")
    assert (first["latency_ms.p50"], first["latency_ms.p99"]) == ("10.0", "")
    assert "samples" not in first


def test_every_csv_column_is_a_field_of_a_full_row() -> None:
    stages = Stages(
        read=1.0,
        preprocess=1.0,
        copy_in=1.0,
        compute=1.0,
        copy_out=1.0,
        end_to_end=5.0,
        n_runs=3,
    )
    measured = {"gpu_memory_mb": 1.0, "joules_per_image": 1.0, "stages": stages}
    full = row("int8", 2.5, accuracy(), latency_ms=latency_of([2.5] * 368), **measured)
    (line,) = csv_lines(full)
    assert [name for name, cell in line.items() if cell == ""] == []


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
    measured = result(row("fp32", 1.0))
    environment = dataclasses.replace(
        measured.environment, cpu_quota=1.5, governor="powersave", gpus=(gpu,)
    )
    text = bench_markdown(dataclasses.replace(measured, environment=environment))
    bounds = "quota of 1.5 cores, governor powersave, NVIDIA H200 (driver 570.1)"
    assert f"machine: CPU, 2 cores, {bounds}, load" in text
