"""onnxruntime-gpu, which is of another version, answers on the CPU as onnxruntime does."""

import sys

import pytest

from benchmarks.wheels import __main__ as wheels
from tests.gpu_wheel.wheel import gpu_python

pytestmark = pytest.mark.torch
FLOAT_TOLERANCE = 1e-4
"largest logit change of an fp32 file: versions may sum in another order"


@pytest.mark.slow
def test_both_wheels_give_the_same_answers_on_the_cpu(exported) -> None:
    python = gpu_python()
    files = [exported["fp32"], exported["int8"]]
    here, there = (wheels.ask(each, files) for each in (sys.executable, python))
    assert "onnxruntime-gpu" in there.versions
    fp32, int8 = wheels.changes(here, there)
    assert (fp32.flips, int8.flips) == (0, 0)
    assert fp32.max_logit_change <= FLOAT_TOLERANCE
    assert fp32.verified
    assert int8.verified, "its golden answers are outside the tolerance of a device"
