"""benchmarks.gpu without a GPU: arithmetic, budget, refusal, and a run on a pretended GPU."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import __main__ as benchmark
from benchmarks.gpu import sections
from benchmarks.gpu.measure import (
    Candidate,
    Cells,
    Deadline,
    Outcome,
    Section,
    Speed,
    agreement,
    by_field,
    fastest,
    flops_of,
    interleave,
    overlapped,
    run_sections,
    speed_of,
    speeds,
)
from kneeedge.errors import ProviderError
from kneeedge.model.spec import Architecture
from kneeedge.pixels.phantom import phantoms
from kneeedge.runtime import providers
from kneeedge.runtime.session import Outputs
from tests.fake_gpu import FakeRuntime, fake_gpu
from tests.tiny_onnx import tiny_spec, write_tiny_model

__all__ = ["fake_gpu"]
pytestmark = pytest.mark.torch


class FakeClock:
    """Seconds that pass only where a run says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: float, result: object = None):
        def run(*_):
            self.now += seconds
            return result

        return run


def test_sections_that_the_budget_has_no_room_for_are_skipped_and_named():
    clock = FakeClock()
    parts = [Section(name, 10, clock.taking(18, Cells(["row"]))) for name in "abc"]
    outcomes = run_sections(parts, 38, (), lambda _: None, clock)
    assert [outcome.state for outcome in outcomes] == ["done", "done", "skipped"]
    assert outcomes[2].why == "2 s of the budget left"


def test_a_section_is_given_twice_its_share_at_most():
    given = []
    clock = FakeClock()

    def run(deadline: Deadline) -> Cells:
        given.append(deadline.left)
        return Cells()

    run_sections([Section("a", 10, run)], 100, (), lambda _: None, clock)
    run_sections([Section("a", 10, run)], 15, (), lambda _: None, clock)
    assert given == [20, 15]


def test_a_section_that_fails_is_reported_and_the_next_goes_on():
    def fail(_: Deadline) -> Cells:
        raise ProviderError("cuda", "out of memory", "buy more")

    saved: list[int] = []
    parts = [Section("a", 1, fail), Section("b", 1, lambda _: Cells([1]))]
    outcomes = run_sections(parts, 100, (), lambda outcomes: saved.append(len(outcomes)))
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert "out of memory" in outcomes[0].why
    assert saved == [1, 2]


def test_candidates_take_turns(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.measure.SLICE", 0.25)
    clock = FakeClock()
    order = []

    def candidate(name: str, seconds: float) -> Candidate:
        def run():
            order.append(name)
            clock.now += seconds

        return Candidate(name, 1, run)

    samples = interleave([candidate("a", 0.25), candidate("b", 0.125)], 0.5, clock)
    assert "".join(order) == "abb" * 3
    assert samples["a"] == [250, 250]
    assert samples["b"] == [125] * 4


def test_speed_is_of_the_median_run_and_the_tail_needs_enough_runs():
    row = speed_of(Candidate("a", 8, lambda: None), 8, [1.0, 2.0, 100.0], 1e9, 1e13)
    assert (row.images_per_second, row.p50_ms) == (4000.0, 2.0)
    assert (row.p99_ms, row.ceiling_share) == (None, 0.4)
    assert speed_of(Candidate("a", 1, lambda: None), 1, [1.0] * 500, 1e9, None).p99_ms == 1.0


def test_overlapped_runs_every_batch():
    batches = []
    with ThreadPoolExecutor(2) as pool:
        overlapped(batches.append, [1, 2, 3], pool)()
    assert sorted(batches) == [1, 2, 3]


def test_vgg19_takes_39_gflop_an_image():
    tiny = tiny_spec(size=224)
    assert flops_of(tiny) < 1e9
    vgg19 = dataclasses.replace(tiny, architecture=Architecture())
    assert flops_of(vgg19) == pytest.approx(39.04e9, rel=1e-3)


def test_flips_are_decisions_that_changed():
    spec = tiny_spec()
    two = np.array([[0.9, 0.1], [0.4, 0.6]], np.float32)
    other = np.array([[0.9, 0.1], [0.6, 0.4]], np.float32)
    row = agreement("a", Outputs(two, two * 2, None), Outputs(other, other * 2, None), spec)
    assert (row.n, row.flips) == (2, 1)
    assert row.max_logit_change == pytest.approx(0.4)


def test_fields_that_the_driver_does_not_give_are_absent():
    cells = [
        "NVIDIA H200", "590.1", "143771 MiB", "1 MiB", "1980 MHz", "1980 MHz", "3201 MHz",
        "76.1 W", "[N/A]", "31", "P0",
    ]  # fmt: skip
    (gpu,) = by_field([cells])
    assert (gpu["name"], gpu["clocks.sm"]) == ("NVIDIA H200", "1980 MHz")
    assert "power.limit" not in gpu


def test_the_fastest_layout_is_that_of_the_largest_batch():
    rows = [
        Speed(
            name=name,
            batch=batch,
            n_runs=3,
            images_per_second=rate,
            p50_ms=1,
            p90_ms=1,
            p99_ms=None,
            ceiling_share=None,
        )
        for name, batch, rate in (("a", 1, 9.0), ("b", 8, 5.0), ("c", 8, 7.0))
    ]
    assert fastest(rows).name == "c"


def test_without_a_gpu_it_refuses_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(providers, "require_gpu", _no_gpu)
    monkeypatch.setattr(benchmark, "load_runtime", FakeRuntime)
    assert benchmark.main(["--model-folder", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: provider cuda cannot run this model: no NVIDIA driver")
    assert captured.err.count("\n") == 1


def _no_gpu(runtime: object, provider: str) -> None:
    remedy = "install the driver, or use --provider cpu"
    raise ProviderError(provider, "no NVIDIA driver here", remedy)


@pytest.fixture
def pretended(fake_gpu, tmp_path: Path, monkeypatch) -> Path:
    """A folder of models, and a benchmark so small that it takes seconds."""
    for name in ("fp32", "fp16"):
        write_tiny_model(tmp_path / f"tiny.{name}.onnx", name)
    monkeypatch.setattr(benchmark, "load_runtime", lambda: fake_gpu)
    monkeypatch.setattr(sections, "BATCHES", (1, 2))
    monkeypatch.setattr(sections, "N_FILES", 70)
    monkeypatch.setattr("benchmarks.gpu.measure.SLICE", 0.002)
    monkeypatch.setattr(
        sections,
        "speeds",
        lambda candidates, batch, _, *others: speeds(candidates, batch, 0.002, *others),
    )
    return tmp_path


def run(folder: Path, *options: str) -> tuple[int, dict[str, dict]]:
    """The exit code and the sections of the JSON by their names."""
    out = folder / "figures.json"
    code = benchmark.main(["--model-folder", str(folder), "--json", str(out), *options])
    sections = json.loads(out.read_text())["sections"]
    return code, {section["name"]: section for section in sections}


@pytest.mark.slow
def test_a_whole_run_holds_every_section(pretended):
    """On a pretended GPU the sections of torch cannot run, which is said; all the others do."""
    code, sections = run(pretended)
    failed = {name for name, section in sections.items() if section["state"] == "failed"}
    assert code == int(bool(failed))
    assert failed <= {"ceiling", "against torch"}
    assert [row["flips"] for row in sections["answers"]["rows"]] == [0] * 6
    assert {row["share_of_time"] for row in sections["placement"]["rows"]} == {1.0}
    assert len(sections["single image"]["rows"]) == 12
    assert len(sections["offline fp16"]["rows"]) == 2 * 9
    assert len(sections["offline fp32"]["rows"]) == 2 * 6
    assert sections["folder"]["rows"][0]["n"] == 70
    assert len(sections["tensorrt"]["left_out"]) == 2


def test_a_run_without_time_names_what_it_left_out(pretended):
    code, sections = run(pretended, "--budget", "0")
    assert code == 0
    assert {section["state"] for section in sections.values()} == {"skipped"}


def test_answers_that_are_not_the_cpus_fail_the_run():
    reference = Outputs(np.eye(2), np.eye(2), None)
    moved = Outputs(np.eye(2), np.eye(2) + 1, None)
    right = agreement("fp32 nchw", reference, reference, tiny_spec())
    wrong = agreement("fp32 nhwc", moved, reference, tiny_spec())
    rows = [right, wrong]
    outcome = Outcome(name="answers", state="done", why="", seconds=1.0, rows=rows, left_out=[])
    assert benchmark.wrong_answers([outcome]) == [wrong]


def test_the_original_in_fp16_answers_as_in_fp32():
    import torch

    from benchmarks.gpu.in_torch import Network, original
    from kneeedge.training.checkpoint import predict_logits

    model, trained = original(Path("nowhere/models"), tiny_spec())
    images = phantoms(2, 64)
    expected = predict_logits(model, images)
    logits = Network(model, "cpu").eager(images)()
    assert not trained
    torch.testing.assert_close(logits.float().numpy(), expected, rtol=0.02, atol=0.02)


def test_the_ceiling_is_of_the_fastest_product():
    import torch

    from benchmarks.gpu.in_torch import ceiling

    assert ceiling(torch.float32, 0.01, "cpu", 64) > 0
