"""Advice and cautions: from the measured rows alone."""

import dataclasses

import pytest

from kneeedge.bench.advice import advice, machine_cautions, row_cautions
from kneeedge.runs.benchmark import Accuracy, Row
from kneeedge.runtime.cuda import INT8_ON_CUDA
from tests.bench_rows import CONDITIONS, OFFLINE_8, VNNI, accuracy, result, row


def advised(*rows: Row, isa: tuple[str, ...] = VNNI) -> str:
    return advice(result(*rows, isa=isa))


def test_the_fastest_variant_is_advised_with_its_price() -> None:
    fp32 = row("fp32", 190.0, accuracy(None))
    fp16 = row("fp16", 237.5, accuracy(0))
    int8 = row("int8", 50.0, accuracy(2))
    assert advised(fp32, fp16, int8) == (
        "fp16 is slower than fp32 on this CPU (0.8×; it runs as fp32 with casts there): "
        "use int8 (3.8× fp32; 2 of 472 answers flipped)"
    )


def test_a_model_near_the_ceiling_is_told_what_alone_helps() -> None:
    text = advised(row("fp32", 190.0), row("int8", 50.0, ceiling_share=0.72))
    assert text.endswith("at 72% of this CPU's int8 ceiling, more speed means a narrower network")


def test_files_that_are_no_faster_than_pytorch_are_said_to_be_so() -> None:
    text = advised(row("pytorch-fp32", 50.0), row("fp32", 60.0), row("int8", 50.0))
    assert "it is no faster than PyTorch here (1.0×)" in text


def test_int8_that_is_slow_for_want_of_vnni_is_named_so() -> None:
    text = advised(row("fp32", 100.0), row("int8", 150.0), isa=("avx2",))
    assert text == "int8 is slower than fp32 on this CPU (0.7×; no VNNI): use fp32"


def test_slow_int8_is_not_blamed_on_vnni_where_that_is_there() -> None:
    rows = (row("fp32", 100.0), row("int8", 150.0))
    assert "VNNI" not in advised(*rows)
    assert "VNNI" not in advised(*rows, isa=("asimd",))


def test_int8_on_cuda_is_said_to_run_in_float() -> None:
    fp32 = row("fp32", 2.0, provider="cuda", ceiling_share=None)
    int8 = row("int8", 20.0, provider="cuda", ceiling_share=None)
    text = "int8 is slower than fp32 on cuda (0.1×; it runs in float there): use fp32"
    assert advised(fp32, int8) == text


@pytest.mark.parametrize(
    "lossy",
    [
        accuracy(60, delta=-0.1, half=0.03),
        dataclasses.replace(accuracy(60, delta=-0.1, half=0.2), verdict="fail"),
    ],
    ids=["surely lost", "failed the gate"],
)
def test_a_fast_variant_that_loses_accuracy_is_not_advised(lossy: Accuracy) -> None:
    assert advised(row("fp32", 100.0, accuracy(None)), row("int8", 25.0, lossy)) == (
        "int8 is 4.0× fp32 but loses accuracy (60 of 472 answers flipped, accuracy -0.100): "
        "use fp32"
    )


NOT_PASSED = {
    "too few images at the export": ({"gate": "inconclusive"}, "the gate did not pass it"),
    "failed at the export": ({"gate": "fail"}, "the gate did not pass it (fail)"),
    "no gate": ({"gate": None}, "no gate has judged it; export it, or give --data"),
}


@pytest.mark.parametrize(("changes", "why"), NOT_PASSED.values(), ids=NOT_PASSED)
def test_a_file_that_the_gate_did_not_pass_is_never_advised(
    changes: dict[str, object], why: str
) -> None:
    text = advised(row("fp32", 100.0), row("int8", 25.0, **changes))
    assert text.startswith(f"int8 is 4.0× fp32 but {why}")
    assert text.endswith(": use fp32")


def test_what_passed_only_here_does_not_outweigh_the_export() -> None:
    text = advised(row("fp32", 100.0, accuracy(None)), row("int8", 25.0, accuracy(0), gate="fail"))
    assert text.endswith(": use fp32")


def test_a_file_without_a_verdict_may_pass_here() -> None:
    text = advised(row("fp32", 100.0, accuracy(None)), row("int8", 25.0, accuracy(0), gate=None))
    assert text.startswith("use int8 (4.0× fp32;")


def test_where_no_file_has_passed_pytorch_is_advised() -> None:
    rows = [row(name, ms, gate="inconclusive") for name, ms in (("fp32", 50.0), ("int8", 25.0))]
    text = advised(row("pytorch-fp32", 100.0), *rows)
    assert text.startswith("fp32 is not advised, the gate did not pass it (inconclusive) and int8")
    assert ": use pytorch-fp32 (0.5× fp32; " in text
    assert advised(*rows).endswith(": use none of these")


def test_a_file_that_the_gate_did_not_pass_is_warned_of() -> None:
    (text,) = row_cautions([row("int8", 9.0, gate="inconclusive")], 0.0, "")
    assert text == "m.int8.onnx: the gate did not pass it at its export (inconclusive)"


def test_a_difference_within_noise_is_none() -> None:
    assert "no faster than fp32" in advised(row("fp32", 100.0), row("fp16", 98.0))


def test_advice_says_that_accuracy_was_not_measured() -> None:
    text = advised(row("fp32", 100.0), row("int8", 25.0))
    assert "accuracy was not measured, give --data" in text


def test_advice_does_without_an_fp32_file() -> None:
    text = advised(row("pytorch-fp32", 300.0), row("int8", 50.0))
    assert text.startswith("use int8 (6.0× pytorch-fp32;")


@pytest.mark.parametrize("rows", [(), (row("fp32", 1.0),), (row("fp32", 1.0, **OFFLINE_8),) * 2])
def test_advice_without_two_single_rows_asks_for_them(rows: tuple[Row, ...]) -> None:
    assert advised(*rows).startswith("there is no second model to compare")


def test_advice_from_unstable_rows_asks_for_another_run() -> None:
    text = advised(row("fp32", 100.0), row("int8", 25.0, unstable=True))
    assert text.endswith("; unstable, measure again")


def test_two_models_of_one_precision_are_told_apart_by_file() -> None:
    wide = row("int8", 50.0, model="a/wide.onnx")
    narrow = row("int8", 10.0, model="a/narrow.onnx")
    assert advised(wide, narrow).startswith("use narrow.onnx (5.0× wide.onnx;")


def test_one_file_on_two_providers_is_told_apart_by_provider() -> None:
    on_gpu = row("fp32", 10.0, provider="cuda", ceiling_share=None)
    text = advised(row("fp32", 50.0), on_gpu)
    assert text.startswith("use fp32 on cuda (5.0× fp32 on cpu;")


def test_int8_on_cuda_is_warned_of_once() -> None:
    cautions = row_cautions([row("int8", 9.0, provider="cuda")], 0.0, INT8_ON_CUDA)
    assert cautions == [f"m.int8.onnx: {INT8_ON_CUDA}"]


def test_unstable_rows_are_one_line_a_model() -> None:
    rows = [
        row("fp32", 9.0, unstable=True, window_spread=0.23),
        row("fp32", 9.0),
        row("fp32", 9.0, unstable=True, window_spread=0.4, **OFFLINE_8),
    ]
    (text,) = row_cautions(rows, 0.0, "")
    assert text == (
        "m.fp32.onnx: unstable, its windows lie apart in SingleStream (23%), Offline 8 (40%); "
        "quiet the machine, run again"
    )


def test_a_process_that_was_busy_in_the_others_turns_is_named() -> None:
    (text,) = row_cautions([row("fp32", 9.0)], 0.3, "")
    assert "its threads were 30% busy while the others had their turns" in text


def test_a_variant_that_fails_the_gate_is_named_with_the_reason() -> None:
    lossy = dataclasses.replace(accuracy(60, delta=-0.1), verdict="fail", reason="a loss")
    cautions = row_cautions([row("int8", 9.0, lossy)], 0.0, "")
    assert cautions == ["m.int8.onnx: the gate fails it: a loss"]


def test_a_quiet_machine_is_no_warning() -> None:
    assert machine_cautions(result().environment, CONDITIONS, CONDITIONS, 1.01) == []


def test_clocks_heat_load_and_speed_that_changed_are_warned_of() -> None:
    busy = dataclasses.replace(result().environment, load_average=1.5)
    before = dataclasses.replace(CONDITIONS, cpu_mhz=3000.0, throttled=4, gpu_mhz=(1980.0,))
    after = dataclasses.replace(CONDITIONS, cpu_mhz=2400.0, throttled=9, gpu_mhz=(1200.0,))
    assert machine_cautions(busy, before, after, 0.8) == [
        "the machine was busy before the start (load 1.5 on 2 cores)",
        "the CPU's clock went from 3000 to 2400 MHz",
        "the GPU's clock went from 1980 to 1200 MHz",
        "heat lowered a core's clock 5 times: cool it, run again",
        "the same matrix product ran at 0.80× its speed after the rounds: clocks or other work",
    ]
