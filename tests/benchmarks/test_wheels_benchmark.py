"""The comparison of wheels of ONNX Runtime: what counts as a change, and what it writes."""

import json
import sys
from dataclasses import replace

import pytest

from benchmarks.wheels import __main__ as wheels
from benchmarks.wheels.child import Answers, Wheel
from tests.tiny_onnx import write_tiny_model

HERE = Answers(
    precision="int8",
    n_hard=1,
    logits=[[1.0, -1.0], [0.1, 0.0]],
    distances=[3.0, 4.0],
    answers=[0, 0],
    verified=True,
)


def wheel(name: str, answers: Answers) -> Wheel:
    return Wheel("3.11.7", {"numpy": "2.4", name: "9.9"}, [answers])


def test_the_largest_change_and_every_flip_or_refusal_count() -> None:
    there = replace(HERE, logits=[[1.0, -1.5], [0.0, 0.1]], distances=[3.0, 6.0], answers=[-1, 1])
    (row,) = wheels.changes(wheel("onnxruntime", HERE), wheel("onnxruntime-gpu", there))
    assert row.wheel == "onnxruntime-gpu 9.9"
    assert (row.n, row.n_hard, row.flips) == (2, 1, 2)
    assert (row.max_logit_change, row.max_distance_change) == (0.5, 2.0)


def test_a_model_that_never_abstains_has_no_distance_to_compare() -> None:
    plain = replace(HERE, distances=[])
    (row,) = wheels.changes(wheel("onnxruntime", plain), wheel("onnxruntime", plain))
    assert row.max_distance_change is None


@pytest.mark.slow
def test_a_wheel_answers_as_itself(tmp_path) -> None:
    model = write_tiny_model(tmp_path / "tiny.fp32.onnx")
    out = tmp_path / "wheels.json"
    assert wheels.main(["--python", sys.executable, str(model), "--json", str(out)]) == 0
    record = json.loads(out.read_text())
    (row,) = record["changes"]
    assert record["reference"] == row["wheel"]
    assert (row["flips"], row["max_logit_change"]) == (0, 0.0)
    assert [each["python"] for each in record["wheels"]] == [record["environment"]["python"]] * 2
