"""The benchmark end to end: real worker processes that take turns on tiny models."""

import dataclasses
import inspect
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kneeedge import errors
from kneeedge.bench import crew as crew_module
from kneeedge.bench import run as run_module
from kneeedge.bench import subjects as subjects_module
from kneeedge.bench.accuracy import make_accuracy, truth_of
from kneeedge.bench.crew import Crew, read_reply
from kneeedge.bench.messages import AnswerImages, Command, FileTurn, Reply, Turn, WorkRequest
from kneeedge.bench.meters import free_memory_mb, peak_memory_mb, restart_peak_mb
from kneeedge.bench.models import Loaded, start_cold
from kneeedge.bench.page import bench_json
from kneeedge.bench.run import BenchRequest, bench, reference_of, share_memory
from kneeedge.bench.subjects import (
    N_PHANTOMS,
    Material,
    choose_material,
    open_file,
    open_original,
    work_request,
)
from kneeedge.bench.turns import Measurement, Plan, in_turn, locate_all
from kneeedge.bench.windows import scenarios
from kneeedge.bench.worker import Worker
from kneeedge.data.dataset import Sample
from kneeedge.errors import (
    ConfigError,
    KneeEdgeError,
    ModelFileError,
    NotFoundError,
    ProviderError,
    WorkerError,
)
from kneeedge.model.provenance import Slimmed
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.answers import Answers
from kneeedge.runs.benchmark import BenchResult
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256
from kneeedge.system.processes import as_raised
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json, to_json
from tests.fake_gpu import FakeRuntime, fake_gpu
from tests.tiny_onnx import tiny_spec, write_tiny_model

__all__ = ["fake_gpu"]
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("models")
    return tuple(
        str(write_tiny_model(folder / f"tiny.{name}.onnx", name)) for name in ("fp32", "int8")
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bench") / "data"
    write_dataset(folder, {"train": 2, "test": 8}, size=64)
    return str(folder)


@pytest.fixture(scope="module")
def measured(models: tuple[str, ...], data: str) -> BenchResult:
    return bench(small(models, data=data), QUIET)


def small(models: tuple[str, ...], **changes: object) -> BenchRequest:
    options = {
        "provider": "cpu",
        "threads": 1,
        "batch_sizes": (4, 2),
        "seconds": 0.06,
        "n_rounds": 6,
    }
    return BenchRequest(**options | {"models": models} | changes)


def work(model: str, data: str, **changes: object) -> WorkRequest:
    images = tuple(map(str, sorted(Path(data).rglob("*.png"))))
    material = Material(
        "",
        images[:3],
        "test",
        tuple(
            Sample(path=Path(p), name=p, sha256="", split="", label=0, group="") for p in images[:5]
        ),
    )
    return dataclasses.replace(
        work_request(open_file(model, "cpu"), 1, material, GpuOptions()), **changes
    )


def measurement_of(model: str, data: str) -> Measurement:
    return Measurement(subject=open_file(model, "cpu"), request=work(model, data))


def test_each_model_has_a_row_for_each_scenario_and_batch_size(
    measured: BenchResult, models: tuple[str, ...]
) -> None:
    found = [(row.model, row.scenario, row.batch_size) for row in measured.results]
    expected = (("SingleStream", 1), ("Offline", 2), ("Offline", 4), ("MultiStream", 8))
    assert found == [(model, *scenario) for model in models for scenario in expected]


def test_a_row_says_what_was_measured(measured: BenchResult, models: tuple[str, ...]) -> None:
    row = measured.results[0]
    assert (row.precision, row.provider, row.threads) == ("fp32", "cpu", 1)
    assert row.n_runs == len(row.samples) == sum(row.windows) >= 36
    assert len(row.windows) == 6
    assert row.n_warmup >= 1
    assert row.size_mb == round(Path(models[0]).stat().st_size / 1e6, 2)
    parts = (row.cold_start.import_ms, row.cold_start.load_ms, row.cold_start.first_run_ms)
    assert min(parts) > 0
    assert row.cold_start_ms == sorted(row.cold_starts_ms)[1] == pytest.approx(sum(parts), abs=0.01)
    assert row.images_per_second == pytest.approx(1000 * row.n_runs / sum(row.samples), rel=0.01)
    assert row.throughput_interval.low <= row.throughput_interval.high
    assert row.inputs.startswith("8 of ")
    assert (
        row.latency_ms.intervals["p90"].low
        <= row.latency_ms.p90
        <= row.latency_ms.intervals["p90"].high
    )
    assert (row.gpu_memory_mb, row.placement) == (None, None)
    assert 0 < row.ceiling_share < 1


def test_the_time_of_an_image_is_parted_in_the_single_stream_alone(measured: BenchResult) -> None:
    for row in measured.results:
        assert (row.stages is not None) == (row.scenario == "SingleStream")
    stages = measured.results[0].stages
    assert stages.n_runs >= 18
    assert (stages.copy_in, stages.copy_out) == (None, None)
    assert min(stages.read, stages.preprocess, stages.compute) > 0
    assert stages.end_to_end >= max(stages.preprocess, stages.compute)


def test_both_arithmetics_have_a_ceiling(measured: BenchResult) -> None:
    assert {ceiling.arithmetic for ceiling in measured.ceilings} == {"fp32", "int8"}
    assert all(ceiling.gops > 0 and "1 threads" in ceiling.product for ceiling in measured.ceilings)


def test_memory_never_shrinks_from_one_scenario_to_the_next(measured: BenchResult) -> None:
    peaks = [row.peak_memory_mb for row in measured.results if row.precision == "fp32"]
    assert None in peaks or (peaks == sorted(peaks) and peaks[0] > 0)


def test_flips_and_verdict_are_against_the_fp32_row_where_there_is_no_original(
    measured: BenchResult,
) -> None:
    fp32, int8 = (
        next(row for row in measured.results if row.precision == name) for name in ("fp32", "int8")
    )
    assert (fp32.accuracy.reference, fp32.accuracy.flips, fp32.accuracy.verdict) == (
        None,
        None,
        None,
    )
    assert int8.accuracy.reference == "fp32"
    assert 0 <= int8.accuracy.flips <= int8.accuracy.n == 8
    assert int8.accuracy.verdict == "inconclusive"
    assert fp32.accuracy.split == "test"
    assert (fp32.accuracy.n_seen, fp32.accuracy.interval.low >= 0) == (0, True)


def test_every_row_carries_the_accuracy_of_its_own_batch_size(
    models: tuple[str, ...], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of another batch size may round otherwise; here batches of 4 answer with the classes
    swapped.
    """
    real = crew_module.Crew.ask

    def swapped(self: Crew, i: int, command: Command) -> tuple[Reply, int]:
        reply, pid = real(self, i, command)
        if command.answer and command.answer.batch_size == 4:
            reply = dataclasses.replace(reply, logits=tuple(row[::-1] for row in reply.logits))
        return reply, pid

    monkeypatch.setattr(crew_module.Crew, "ask", swapped)
    found = bench(small(models[:1], data=data, ceiling=False), QUIET)
    by_size = {row.batch_size: row.accuracy.accuracy for row in found.results}
    assert by_size[4] == 1 - by_size[1]
    assert by_size[1] == by_size[2] == by_size[8]


def test_a_measured_result_is_valid_json(measured: BenchResult) -> None:
    assert len(json.loads(bench_json(measured))["results"]) == 8


def test_images_given_are_those_it_is_timed_on(models: tuple[str, ...], data: str) -> None:
    images = tuple(str(path) for path in sorted(Path(data).rglob("*.png"))[:3])
    found = bench(
        small(models[:1], images=images, batch_sizes=(2,), n_rounds=1, ceiling=False), QUIET
    )
    assert found.results[0].inputs == "3 of the images given, seed 0"
    assert found.results[0].accuracy is None
    assert found.ceilings == ()
    assert found.results[0].ceiling_share is None
    assert found.results[0].unstable is None


def test_without_images_it_is_timed_on_phantoms_of_the_seed(tmp_path: Path) -> None:
    material = choose_material(None, (), ("a", "b"), 3, tmp_path)
    assert material.description == f"{N_PHANTOMS} phantoms, seed 3"
    pixels = [load_input(Path(path), tiny_spec().pixel_path) for path in material.inputs]
    assert len({image.tobytes() for image in pixels}) == N_PHANTOMS


def test_a_model_that_saw_the_images_is_called_leaky(tmp_path: Path, data: str) -> None:
    seen = tuple(file_sha256(path)[:16] for path in Path(data, "test").rglob("*.png"))
    model = str(write_tiny_model(tmp_path / "m.onnx", seen=seen))
    found = bench(small((model,), data=data, batch_sizes=(2,), n_rounds=1, ceiling=False), QUIET)
    assert any(
        "LEAKY, the model was trained or chosen on 8 of 8 images" in text for text in found.warnings
    )


def test_a_provider_that_is_not_there_is_one_clear_line(models: tuple[str, ...]) -> None:
    with pytest.raises(
        ProviderError, match=r"provider coreml cannot run this model.*use --provider cpu"
    ) as caught:
        bench(small(models, provider="coreml", ceiling=False), QUIET)
    assert "\n" not in str(caught.value)


def test_models_of_different_classes_are_refused_before_anything_is_timed(
    models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = str(
        write_tiny_model(tmp_path / "other.onnx", classes=("Healthy", "Osteopenia", "Osteoporosis"))
    )
    monkeypatch.setattr(run_module, "Crew", None)
    with pytest.raises(ConfigError, match="bench models of the same classes"):
        bench(small((*models, other)), QUIET)


def test_a_missing_or_damaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model file"):
        bench(small((str(tmp_path / "none.onnx"),)), QUIET)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"bad\.onnx"):
        bench(small((str(tmp_path / "bad.onnx"),)), QUIET)


def test_turns_go_there_and_back_so_that_a_steady_drift_cancels() -> None:
    places = [in_turn("abc", k).index(i) for i, k in itertools.product("abc", range(2))]
    assert [a + b for a, b in zip(places[::2], places[1::2], strict=True)] == [2, 2, 2]


class Ticking:
    """A clock that passes 0.25 s at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def test_a_cold_start_is_split_at_the_import_and_the_load(
    models: tuple[str, ...], data: str
) -> None:
    ticks = iter((0.0, 1.0, 3.0, 3.5))
    images = np.zeros((1, 1, 64, 64), dtype=np.uint8)
    _, cold = start_cold(work(models[0], data), images, lambda: next(ticks))
    assert (cold.import_ms, cold.load_ms, cold.first_run_ms) == (1000.0, 2000.0, 500.0)


def test_a_first_turn_warms_up_and_a_later_one_runs_once_before_it(
    models: tuple[str, ...], data: str
) -> None:
    worker = Worker(work(models[0], data), Ticking())
    turn = Turn(batch_size=2, seconds=2.0, n_least=3)
    first, second = worker.take_turn(turn), worker.take_turn(turn)
    assert first.n_warmup == 2  # two looks at the clock fill the half second
    assert second.n_warmup == 1
    assert len(first.samples) >= 3
    assert set(first.samples) == {250.0}


def test_a_run_as_long_as_its_turn_is_not_repeated_to_warm_caches(
    models: tuple[str, ...], data: str
) -> None:
    worker = Worker(work(models[0], data), Ticking())
    turn = Turn(batch_size=2, seconds=0.1, n_least=1)
    assert (worker.take_turn(turn).n_warmup, worker.take_turn(turn).n_warmup) == (1, 0)


def test_an_image_is_timed_from_its_file_to_its_answer(models: tuple[str, ...], data: str) -> None:
    worker = Worker(work(models[0], data), Ticking())
    (run, *_) = worker.time_files(FileTurn(0.1, 1))
    assert (run.read, run.preprocess, run.compute) == (250.0, 0.0, 250.0)
    assert run.end_to_end == 500.0  # reading alone is no part of it: the pixel path reads again
    worker.loaded = dataclasses.replace(worker.loaded, parts=lambda _: (0.001, 0.002, 0.003))
    (run, *_) = worker.time_files(FileTurn(0.1, 1))
    assert (run.copy_in, run.compute, run.copy_out) == (1.0, 2.0, 3.0)


def test_a_worker_answers_as_a_session_does(models: tuple[str, ...], data: str) -> None:
    request = work(models[0], data)
    reply = Worker(request).obey(Command(answer=AnswerImages(2)))
    images = np.stack([load_input(Path(path), request.pixel_path) for path in request.labelled])[
        :, None
    ]
    np.testing.assert_allclose(
        reply.logits, Session(models[0], "cpu", 1).run(images).logits, atol=1e-5
    )


def test_a_command_for_nothing_is_an_error(models: tuple[str, ...], data: str) -> None:
    with pytest.raises(ValueError, match="asks for one thing"):
        Worker(work(models[0], data)).obey(Command())


def test_a_gpus_model_shows_its_parts_and_where_its_nodes_run(
    models: tuple[str, ...], data: str, fake_gpu: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kneeedge.bench.models.load_runtime", lambda: fake_gpu)
    worker = Worker(work(models[0], data, provider="cuda", gpu=GpuOptions(memory_gb=1.0)))
    assert fake_gpu.sessions[0].providers[0][1]["gpu_mem_limit"] == str(1 << 30)
    (run, *_) = worker.time_files(FileTurn(0.01, 1))
    assert min(run.copy_in, run.compute, run.copy_out) > 0
    assert "of the time on cuda" in worker.obey(Command(placement=True)).placement


def test_only_models_off_the_cpu_are_asked_where_they_run(
    models: tuple[str, ...], data: str
) -> None:
    asked: list[WorkRequest] = []

    class Spy(Crew):
        def ask(self, request: WorkRequest, command: Command) -> tuple[Reply, int]:
            assert command.placement
            asked.append(request)
            return Reply(placement="all"), 0

    on_cpu = measurement_of(models[0], data)
    on_gpu = measurement_of(models[1], data)
    worker = Worker(on_cpu.request)
    on_cpu.starts.append(worker.started)
    on_gpu.starts.append(dataclasses.replace(worker.started, provider="cuda"))
    locate_all(Spy(1.0, False), [on_cpu, on_gpu])
    assert asked == [on_gpu.request]
    assert [on_cpu.placement, on_gpu.placement] == [None, "all"]


def test_a_model_that_spins_while_it_waits_is_seen(models: tuple[str, ...], data: str) -> None:
    worker = Worker(work(models[0], data))
    worker.slept_at = (worker.slept_at[0] - 10.0, worker.slept_at[1] - 5.0)
    assert 0.4 < worker.idle_cpu() < 0.6


def test_models_that_do_not_fit_together_take_fresh_processes(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = [open_file(model, "cpu") for model in models]
    plan = Plan(scenarios((8,)), 6, 1.0)
    monkeypatch.setattr(run_module, "free_memory_mb", lambda: 100.0)
    fresh, said = share_memory(subjects, plan)
    assert fresh
    assert said.startswith("a fresh process for each turn, since 2 models need about 0.")
    monkeypatch.setattr(run_module, "free_memory_mb", lambda: 1e6)
    assert share_memory(subjects, plan) == (
        False,
        "one process a model, all loaded, taking turns; 6 rounds",
    )


def test_fresh_processes_give_the_same_rows(
    models: tuple[str, ...], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "free_memory_mb", lambda: 1.0)
    found = bench(small(models[:1], data=data, batch_sizes=(2,), n_rounds=2, ceiling=False), QUIET)
    assert found.processes.startswith("a fresh process for each turn")
    assert [row.scenario for row in found.results] == ["SingleStream", "Offline", "MultiStream"]
    assert all(row.accuracy.n == 8 for row in found.results)


def test_free_memory_is_bounded_by_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 1000000 kB\n",
        "/sys/fs/cgroup/memory.current": "4000000",
    }
    monkeypatch.setattr("kneeedge.system.machine.read_text", lambda path: files.get(str(path), ""))
    monkeypatch.setattr("kneeedge.system.machine.memory_limit_bytes", lambda: None)
    assert free_memory_mb() == 1024.0
    monkeypatch.setattr("kneeedge.system.machine.memory_limit_bytes", lambda: 10_000_000)
    assert free_memory_mb() == 6.0


def test_the_peak_of_memory_sees_an_array_come() -> None:
    before = restart_peak_mb()
    if before is None:
        pytest.skip("this system does not tell")
    block = np.ones(8_000_000)
    assert 50 < peak_memory_mb() - before < 200
    del block


def test_a_worker_that_dies_is_a_worker_error_with_its_last_line(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dying.py").write_text(
        "import sys; input(); sys.exit('Traceback\\nMemoryError: too much')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(crew_module, "WORKER", "dying")
    with pytest.raises(
        WorkerError, match=r"tiny\.fp32\.onnx ended without a result: MemoryError: too much;"
    ):
        bench(small(models, ceiling=False), QUIET)


def test_a_worker_that_hangs_is_ended_with_the_remedy(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hanging.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(crew_module, "WORKER", "hanging")
    with pytest.raises(
        WorkerError, match=r"did not answer within 0\.5 s; give more time with --timeout"
    ):
        bench(small(models, timeout=0.5, ceiling=False), QUIET)


@pytest.mark.parametrize("line", [b"noise{}", b'{"result": 1}', b'{"window": 1}', b"\xff"])
def test_a_damaged_reply_is_a_worker_error(line: bytes) -> None:
    with pytest.raises(WorkerError, match="its reply is damaged"):
        read_reply(line, "the benchmark of m.onnx")


ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, KneeEdgeError)
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_crosses_the_process_with_its_class_and_message(
    kind: type[KneeEdgeError],
) -> None:
    error = as_raised(kind.__name__, "a reason; a remedy")
    assert type(error) is kind
    assert str(error) == "a reason; a remedy"


def worker_process(code: str, request: WorkRequest) -> subprocess.CompletedProcess[bytes]:
    text = to_json(request, indent=None).encode() + b"\n"
    return subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, check=True)


def test_the_worker_answers_on_stdout_alone_whatever_libraries_print(
    models: tuple[str, ...], data: str
) -> None:
    noisy = (
        "import os, kneeedge.bench.models as m, kneeedge.bench.worker as w; real = m.load_runtime\n"
        "m.load_runtime = lambda: (os.system('echo noise'), print('noise'), real())[2]; w.main()"
    )
    done = worker_process(noisy, work(models[0], data))
    reply = from_json(Reply, done.stdout)
    assert reply.started is not None
    assert reply.failure is None
    assert done.stderr.count(b"noise") == 2


def test_the_worker_of_a_file_never_imports_torch(models: tuple[str, ...], data: str) -> None:
    code = "import sys; sys.modules['torch'] = None; import kneeedge.bench.run, kneeedge.bench.worker as w; w.main()"
    assert from_json(Reply, worker_process(code, work(models[0], data)).stdout).started is not None


def test_file_names_that_are_no_text_reach_the_worker(
    tmp_path: Path, models: tuple[str, ...], data: str
) -> None:
    odd = tmp_path / os.fsdecode(b"kn\xffee.png")
    try:
        odd.write_bytes(next(Path(data).rglob("*.png")).read_bytes())
    except OSError:
        pytest.skip("this file system takes text alone")
    request = small(models[:1], images=(str(odd),), batch_sizes=(2,), n_rounds=1, ceiling=False)
    assert bench(request, QUIET).results


def test_without_torch_the_original_has_no_row_but_a_warning(
    models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects_module, "find_spec", {}.get)
    found = bench(
        small(models[:1], run=str(tmp_path), batch_sizes=(2,), n_rounds=1, ceiling=False), QUIET
    )
    assert {row.precision for row in found.results} == {"fp32"}
    assert any(
        "PyTorch is not installed, so the original has no row" in text for text in found.warnings
    )
    with pytest.raises(errors.MissingExtraError, match=r"kneeedge\[train,cpu\]"):
        bench(small((), run=str(tmp_path)), QUIET)


def samples_of(labels: tuple[int, ...]) -> list[Sample]:
    return [
        Sample(
            path=Path(f"{i}.png"), name=f"{i}.png", sha256="test", split="", label=label, group=""
        )
        for i, label in enumerate(labels)
    ]


def test_a_model_is_paired_with_the_reference_image_by_image() -> None:
    truth = truth_of(samples_of((0, 0, 1, 1)), "test")
    right = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    wrong = right.copy()
    wrong[1] = wrong[1][::-1]
    answers, reference = (
        Answers(name, tiny_spec(), logits) for name, logits in (("fp16", wrong), ("fp32", right))
    )
    found = make_accuracy(answers, truth, 0, reference)
    assert (found.reference, found.flips, found.delta_accuracy) == ("fp32", 1, -0.25)
    assert found.delta_interval.low < -0.25 < found.delta_interval.high
    assert found.cost() == "1 of 4 answers flipped, accuracy -0.250"
    assert (found.verdict, found.reason) == (
        "fail",
        "a logit moved by 2, and fp16 may move it by 0.5",
    )
    alone = make_accuracy(answers, truth, 0, None)
    assert (alone.flips, alone.delta_accuracy, alone.verdict) == (None, None, None)
    assert alone.interval.low < alone.accuracy < alone.interval.high


def test_another_network_is_compared_but_given_no_verdict() -> None:
    truth = truth_of(samples_of((0, 1) * 4), "test")
    logits = np.array([[1.0, 0.0], [0.0, 1.0]] * 4)
    spec = tiny_spec()
    other = dataclasses.replace(spec, training=dataclasses.replace(spec.training, seed=7))
    reference = Answers("pytorch-fp32", spec, logits)
    found = make_accuracy(Answers("int8", other, -logits), truth, 0, reference)
    assert (found.flips, found.verdict, found.reference) == (8, None, "pytorch-fp32")
    assert make_accuracy(Answers("int8", spec, -logits), truth, 0, reference).verdict == "fail"


def test_the_loss_alone_gives_a_slimmed_network_its_verdict_against_its_original() -> None:
    truth = truth_of(samples_of((0, 1) * 200), "test")
    logits = np.array([[1.0, 0.0], [0.0, 1.0]] * 200)
    spec = tiny_spec()
    slimmed = Slimmed(
        original="wide", sha256="a" * 64, channels=((8,),) * 5, temperature=1.0, threshold=0.5
    )
    slim = dataclasses.replace(spec, training=dataclasses.replace(spec.training, slimmed=slimmed))
    original, stranger = (Answers("pytorch-fp32", spec, logits, letter * 64) for letter in "ab")
    assert make_accuracy(Answers("fp32", slim, 3 * logits), truth, 0, original).verdict == "pass"
    assert make_accuracy(Answers("fp32", slim, -logits), truth, 0, original).verdict == "fail"
    assert make_accuracy(Answers("fp32", slim, 3 * logits), truth, 0, stranger).verdict is None


def test_the_reference_is_the_original_else_the_first_fp32_file(
    models: tuple[str, ...], data: str
) -> None:
    fp32, int8 = (measurement_of(model, data) for model in models)
    subject = dataclasses.replace(fp32.subject, precision="pytorch-fp32")
    original = Measurement(subject=subject, request=fp32.request)
    assert reference_of([int8, fp32, original]) is original
    assert reference_of([int8, fp32]) is fp32
    assert reference_of([int8]) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"models": ()},
        {"batch_sizes": ()},
        {"batch_sizes": (0,)},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"timeout": 0.0},
        {"n_rounds": 0},
        {"threads": 0},
        {"provider": "cpu,"},
    ],
)
def test_a_request_that_cannot_be_measured_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BenchRequest(**{"models": ("m.onnx",)} | changes)


def test_a_model_without_a_placement_gives_none(models: tuple[str, ...], data: str) -> None:
    worker = Worker(work(models[0], data))
    worker.loaded = Loaded(logits=worker.loaded.logits, provider="cuda", notice="")
    assert worker.obey(Command(placement=True)).placement is None


@pytest.mark.torch
def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no finished training run here"):
        open_original(str(tmp_path), "cpu")


@pytest.mark.torch
def test_the_original_is_the_first_row_and_what_flips_are_counted_against(
    trained_run: Path, exported: dict[str, Path], phantoms: Path
) -> None:
    request = small(
        (str(exported["fp32"]), str(exported["int8"])),
        run=str(trained_run),
        data=str(phantoms),
        n_rounds=2,
    )
    found = bench(request, QUIET)
    original, fp32, int8 = (
        next(r for r in found.results if r.precision == p) for p in ("pytorch-fp32", "fp32", "int8")
    )
    assert found.results[0] is original
    assert original.accuracy.flips is None
    assert {fp32.accuracy.reference, int8.accuracy.reference} == {"pytorch-fp32"}
    assert (fp32.accuracy.flips, fp32.accuracy.verdict) == (0, "pass")
    assert fp32.accuracy.accuracy == original.accuracy.accuracy
    assert (original.provider, original.accuracy.n_seen) == ("cpu", 0)
    assert original.size_mb == round((trained_run / "model.safetensors").stat().st_size / 1e6, 2)
    assert found.results[0].inputs == fp32.inputs


@pytest.mark.torch
def test_the_parent_never_imports_torch(trained_run: Path) -> None:
    code = (
        "import sys; from kneeedge.bench.run import *; from kneeedge.system.progress import Progress\n"
        f"request = BenchRequest(run={str(trained_run)!r}, provider='cpu', batch_sizes=(2,), seconds=0.02,"
        " n_rounds=1, ceiling=False)\n"
        "bench(request, Progress(quiet=True))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.torch
def test_a_slim_run_is_measured_beside_its_original_and_its_card_says_so(
    slim_run: Path, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    from kneeedge.report.card import add_speed
    from kneeedge.runs.folder import Run

    run = Path(shutil.copytree(slim_run, tmp_path / "slim"))
    found = bench(
        small((), run=str(run), data=str(phantoms), batch_sizes=(1,), n_rounds=1, ceiling=False),
        QUIET,
    )
    row = found.results[0]
    assert (row.model, row.precision) == (str(trained_run), "pytorch-fp32")
    assert (
        row.accuracy.accuracy
        == json.loads((trained_run / "metrics.json").read_text())["test"]["accuracy"]
    )
    assert "| narrow | pytorch-fp32 |" in add_speed(Run(run), bench_json(found)).read_text(
        encoding="utf-8"
    )


@pytest.mark.torch
def test_a_slim_run_whose_original_is_gone_is_measured_beside_itself_with_a_warning(
    slim_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(slim_run, tmp_path / "slim"))
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(record | {"original": str(tmp_path / "gone")}))
    found = bench(small((), run=str(run), batch_sizes=(1,), n_rounds=1, ceiling=False), QUIET)
    assert found.results[0].model == str(run)
    assert any("the PyTorch row is the slimmed network's own" in text for text in found.warnings)
