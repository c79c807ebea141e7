"""Where nodes ran, from profiles: one of the CPU provider, and events as a GPU's would be."""

import pytest

from kneeedge.errors import ProviderError
from kneeedge.runtime.placement import placement, read_profile
from kneeedge.runtime.session import Session
from tests.tiny_onnx import write_tiny_model

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def event(name: str, op: str, provider: str, dur: int = 10) -> dict:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": dur,
        "args": {"op_name": op, "provider": provider},
    }


def test_a_session_on_the_cpu_ran_there_in_full(tmp_path):
    session = Session(write_tiny_model(tmp_path / "tiny.onnx"), "cpu", threads=1)
    ran = placement(session)
    assert ran.provider == "cpu"
    assert (ran.share_of_nodes, ran.share_of_time, ran.n_copies) == (1.0, 1.0, 0)
    assert 0 < ran.n_nodes <= 10
    assert not ran.elsewhere


def test_nodes_elsewhere_are_counted_by_operator():
    events = [
        event("a", "Conv", CUDA, 30),
        event("b", "Resize", CPU, 10),
        event("c", "Resize", CPU, 0),
    ]
    ran = read_profile(events, "cuda")
    assert (ran.n_nodes, ran.n_on_provider, ran.share_of_time) == (3, 1, 0.75)
    assert ran.elsewhere == {"Resize on cpu": 2}


def test_copies_are_not_nodes_of_the_network():
    events = [
        event("a", "Conv", CUDA),
        event("m", "MemcpyToHost", CUDA),
        event("n", "MemcpyFromHost", CUDA),
    ]
    ran = read_profile(events, "cuda")
    assert (ran.n_nodes, ran.n_copies, ran.share_of_nodes) == (1, 2, 1.0)


def test_of_a_node_that_ran_twice_the_last_run_counts():
    events = [
        event("a", "Conv", CUDA, 1),
        event("b", "Relu", CPU, 99),
        event("a", "Conv", CUDA, 3),
        event("b", "Relu", CPU, 1),
    ]
    ran = read_profile(events, "cuda")
    assert (ran.n_nodes, ran.share_of_time) == (2, 0.75)


def test_nodes_that_took_no_measurable_time_count_alike():
    events = [event("a", "Conv", CUDA, 0), event("b", "Relu", CPU, 0)]
    assert read_profile(events, "cuda").share_of_time == 0.5


def test_events_that_are_no_kernels_are_passed_over():
    no_kernels = [
        {"cat": "Session", "name": "model_run", "dur": 5},
        {"cat": "Node", "name": "a_fence_before", "dur": 1},
    ]
    assert read_profile([*no_kernels, event("a", "Conv", CUDA)], "cuda").n_nodes == 1


def test_what_tensorrt_leaves_to_cuda_shows():
    events = [event("t", "TRTKernel", "TensorrtExecutionProvider"), event("a", "Cast", CUDA)]
    ran = read_profile(events, "tensorrt")
    assert ran.n_astray == 0
    assert str(ran) == (
        "1 of 2 nodes (50.0%) and 50.0% of the time on tensorrt, "
        "0 copies between host and device, 1 Cast on cuda"
    )


def test_a_profile_without_nodes_proves_nothing():
    with pytest.raises(ProviderError, match="names no node"):
        read_profile([{"cat": "Session", "name": "model_run", "dur": 5}], "cuda")
