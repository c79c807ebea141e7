"""The ceiling: real products in a process of their own, and the share of the right one."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from kneeedge.bench import ceiling as ceiling_module
from kneeedge.bench.ceiling import (
    best_run,
    ceiling_share,
    fastest,
    macs,
    measure_ceilings,
    product_model,
    products,
)
from kneeedge.errors import WorkerError
from kneeedge.model.spec import Architecture
from kneeedge.runs.benchmark import Ceiling

CEILINGS = (Ceiling("fp32", 200.0, "", 1), Ceiling("int8", 1000.0, "", 1))
PUBLISHED = 19.632
"10⁹ multiply-accumulates of VGG19, by torchvision (VGG19_Weights.IMAGENET1K_V1.meta)"


def test_each_arithmetic_is_measured_in_another_process() -> None:
    fp32, int8 = measure_ceilings(1, 0.02)
    assert (fp32.arithmetic, int8.arithmetic) == ("fp32", "int8")
    assert min(fp32.gops, int8.gops) > 0.1
    assert min(fp32.n_runs, int8.n_runs) >= 3
    assert "1024×1024 by 1024×1024, 1 threads" in int8.product


def test_the_products_are_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling_module, "SIDE", 8)
    arithmetics, _, runs = zip(*products(1), strict=True)
    by_numpy, by_runtime, of_bytes = (np.asarray(run()).reshape(8, 8) for run in runs)
    rng = np.random.default_rng(0)
    left = rng.random((8, 8), dtype=np.float32)
    right = rng.random((8, 8), dtype=np.float32)
    bytes_left = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    bytes_right = rng.integers(-64, 65, (8, 8), dtype=np.int8)
    assert arithmetics == ("fp32", "fp32", "int8")
    np.testing.assert_allclose(by_numpy, left @ right, rtol=1e-5)
    np.testing.assert_allclose(by_runtime, left @ right, rtol=1e-5)
    assert (of_bytes == bytes_left.astype(int) @ bytes_right.astype(int)).all()


def test_the_hand_written_model_is_what_onnx_reads() -> None:
    right = np.arange(16, dtype=np.int8).reshape(4, 4)
    model = onnx.load_from_string(product_model("MatMulInteger", "uint8", right, "int32"))
    onnx.checker.check_model(model, full_check=True)
    assert (numpy_helper.to_array(model.graph.initializer[0]) == right).all()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    left = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert (session.run(None, {"a": left})[0] == left.astype(int) @ right.astype(int)).all()


def test_the_best_of_all_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    times = iter((9.0, 0.5, 0.2, 0.4, 0.3))

    def run() -> None:
        clock[0] += next(times)

    monkeypatch.setattr(ceiling_module.time, "perf_counter", lambda: clock[0])
    best, n_runs = best_run(run, 1.2)
    # the first, which allocates, is left out
    assert (round(best, 6), n_runs) == (0.2, 4)


def test_the_fastest_product_of_each_arithmetic_is_its_ceiling() -> None:
    slow = Ceiling("fp32", 100.0, "slow", 1)
    assert fastest([slow, *CEILINGS]) == CEILINGS


@pytest.mark.parametrize(
    ("precision", "provider", "expected"),
    [
        ("int8", "cpu", 0.5),
        ("fp32", "cpu", 2.5),
        ("fp16", "cpu", 2.5),
        ("int8", "openvino", 0.5),
        ("fp32", "cuda", None),
        ("other", "cpu", None),
    ],
)
def test_a_row_is_held_against_the_arithmetic_that_its_provider_uses(
    precision: str, provider: str, expected: float | None
) -> None:
    assert ceiling_share(500.0, precision, provider, CEILINGS) == expected
    assert ceiling_share(500.0, precision, provider, ()) is None


def test_a_probe_that_dies_gives_its_reason() -> None:
    message = "the probe of this machine's ceiling ended without a result: ValueError"
    with pytest.raises(WorkerError, match=message):
        measure_ceilings("x", 0.01)


def test_vgg19_costs_what_is_published() -> None:
    """For 1,000 classes; in 10⁹, by torchvision."""
    cost = macs(Architecture(head="classifier"), 224, 1000) / 1e9
    assert cost == pytest.approx(PUBLISHED, abs=0.001)


@pytest.mark.torch
@pytest.mark.slow
def test_the_published_cost_is_torchvisions() -> None:
    from torchvision.models import VGG19_Weights

    assert VGG19_Weights.IMAGENET1K_V1.meta["_ops"] == pytest.approx(PUBLISHED, abs=0.001)


@pytest.mark.torch
@pytest.mark.parametrize("head", ["gap", "classifier"])
def test_the_cost_is_what_a_run_multiplies(head: str) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from kneeedge.training.model import KneeVGG

    architecture = Architecture(((4,), (8, 8), (8,), (8,), (16,)), head=head)
    model = KneeVGG(architecture, 3).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 1, 224, 224, dtype=torch.uint8))
    assert 2 * macs(architecture, 224, 3) == counter.get_total_flops()
