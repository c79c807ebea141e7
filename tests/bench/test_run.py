"""The benchmark end to end: real worker processes that take turns on tiny models."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kneeedge import errors
from kneeedge.bench import crew as crew_module
from kneeedge.bench import run as run_module
from kneeedge.bench import subjects as subjects_module
from kneeedge.bench.crew import Crew
from kneeedge.bench.messages import Command, Reply, WorkRequest
from kneeedge.bench.page import bench_json
from kneeedge.bench.run import BenchRequest, bench, reference_of, share_memory
from kneeedge.bench.subjects import (
    N_PHANTOMS,
    choose_material,
    open_file,
    open_original,
)
from kneeedge.bench.turns import Measurement, Plan, in_turn, locate_all
from kneeedge.bench.windows import scenarios
from kneeedge.bench.worker import Worker
from kneeedge.errors import (
    ConfigError,
    ModelFileError,
    NotFoundError,
    ProviderError,
)
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.benchmark import BenchResult, Row
from kneeedge.system.files import file_sha256
from tests.bench.small import QUIET, measurement_of, small_request
from tests.tiny_onnx import CLASSES, tiny_spec, write_tiny_model


@pytest.fixture(scope="module")
def measured(models: tuple[str, ...], data: str) -> BenchResult:
    return bench(small_request(models, data=data), QUIET)


def bench_once(models: tuple[str, ...], **changes: object) -> BenchResult:
    """One cold start and one round without a ceiling, or what the changes make of it."""
    options = {"batch_sizes": (2,), "n_rounds": 1, "ceiling": False} | changes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kneeedge.bench.turns.N_COLD_STARTS", 1)
        return bench(small_request(models, **options), QUIET)


def first_of(result: BenchResult, precision: str) -> Row:
    return next(row for row in result.results if row.precision == precision)


@pytest.mark.slow
def test_each_model_has_a_row_for_each_scenario_and_batch_size(
    measured: BenchResult, models: tuple[str, ...]
) -> None:
    keys = [(row.model, row.scenario, row.batch_size) for row in measured.results]
    expected = (("SingleStream", 1), ("Offline", 2), ("Offline", 4), ("MultiStream", 8))
    assert keys == [(model, *scenario) for model in models for scenario in expected]


@pytest.mark.slow
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
    interval = row.latency_ms.intervals["p90"]
    assert interval.low <= row.latency_ms.p90 <= interval.high
    assert (row.gpu_memory_mb, row.placement) == (None, None)
    assert 0 < row.ceiling_share < 1


@pytest.mark.slow
def test_the_time_of_an_image_is_parted_in_the_single_stream_alone(measured: BenchResult) -> None:
    for row in measured.results:
        assert (row.stages is not None) == (row.scenario == "SingleStream")
    stages = measured.results[0].stages
    assert stages.n_runs >= 18
    assert (stages.copy_in, stages.copy_out) == (None, None)
    assert min(stages.read, stages.preprocess, stages.compute) > 0
    assert stages.end_to_end >= max(stages.preprocess, stages.compute)


@pytest.mark.slow
def test_both_arithmetics_have_a_ceiling(measured: BenchResult) -> None:
    assert {ceiling.arithmetic for ceiling in measured.ceilings} == {"fp32", "int8"}
    assert all(ceiling.gops > 0 and "1 threads" in ceiling.product for ceiling in measured.ceilings)


@pytest.mark.slow
def test_memory_never_shrinks_from_one_scenario_to_the_next(measured: BenchResult) -> None:
    peaks = [row.peak_memory_mb for row in measured.results if row.precision == "fp32"]
    assert None in peaks or (peaks == sorted(peaks) and peaks[0] > 0)


@pytest.mark.slow
def test_flips_and_verdict_are_against_the_fp32_row_where_there_is_no_original(
    measured: BenchResult,
) -> None:
    fp32 = first_of(measured, "fp32").accuracy
    int8 = first_of(measured, "int8").accuracy
    assert (fp32.reference, fp32.flips, fp32.verdict) == (None, None, None)
    assert (fp32.split, fp32.n_seen) == ("test", 0)
    assert fp32.interval.low >= 0
    assert int8.reference == "fp32"
    assert 0 <= int8.flips <= int8.n == 8
    assert int8.verdict == "inconclusive"


@pytest.mark.slow
def test_every_row_carries_the_accuracy_of_its_own_batch_size(
    models: tuple[str, ...], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of another batch size may round otherwise; here batches of 4 swap the classes."""
    real = crew_module.Crew.ask

    def swapped(self: Crew, request: WorkRequest, command: Command) -> tuple[Reply, int]:
        reply, pid = real(self, request, command)
        if command.answer and command.answer.batch_size == 4:
            reply = dataclasses.replace(reply, logits=tuple(row[::-1] for row in reply.logits))
        return reply, pid

    monkeypatch.setattr(crew_module.Crew, "ask", swapped)
    result = bench(small_request(models[:1], data=data, ceiling=False), QUIET)
    by_size = {row.batch_size: row.accuracy.accuracy for row in result.results}
    assert by_size[4] == 1 - by_size[1]
    assert by_size[1] == by_size[2] == by_size[8]


@pytest.mark.slow
def test_a_measured_result_is_valid_json(measured: BenchResult) -> None:
    assert len(json.loads(bench_json(measured))["results"]) == 8


@pytest.mark.slow
def test_images_given_are_those_it_is_timed_on(models: tuple[str, ...], data: str) -> None:
    images = tuple(str(path) for path in sorted(Path(data).rglob("*.png"))[:3])
    result = bench_once(models[:1], images=images)
    row = result.results[0]
    assert row.inputs == "3 of the images given, seed 0"
    assert result.ceilings == ()
    assert (row.accuracy, row.ceiling_share, row.unstable) == (None, None, None)


def test_a_pattern_finds_the_patients_of_the_images(data: str, tmp_path: Path) -> None:
    material = choose_material(data, (), CLASSES, 0, tmp_path, r"(\d)[LR]\.")
    assert {sample.group for sample in material.samples} == {
        sample.path.stem[-2] for sample in material.samples
    }
    with pytest.raises(ConfigError, match="--group-regex is about images"):
        BenchRequest(models=("m.onnx",), group_regex="x")


def test_without_images_it_is_timed_on_phantoms_of_the_seed(tmp_path: Path) -> None:
    material = choose_material(None, (), ("a", "b"), 3, tmp_path)
    assert material.description == f"{N_PHANTOMS} phantoms, seed 3"
    pixels = [load_input(Path(path), tiny_spec().pixel_path) for path in material.inputs]
    assert len({image.tobytes() for image in pixels}) == N_PHANTOMS


@pytest.mark.slow
def test_a_model_that_saw_the_images_is_called_leaky(tmp_path: Path, data: str) -> None:
    seen = tuple(file_sha256(path)[:16] for path in Path(data, "test").rglob("*.png"))
    model = str(write_tiny_model(tmp_path / "m.onnx", seen=seen))
    warnings = bench_once((model,), data=data).warnings
    leaky = "LEAKY, the model was trained or chosen on 8 of 8 images"
    assert any(leaky in text for text in warnings)


def test_a_provider_that_is_not_there_is_one_clear_line(models: tuple[str, ...]) -> None:
    message = r"provider coreml cannot run this model.*use --provider cpu"
    with pytest.raises(ProviderError, match=message) as caught:
        bench(small_request(models, provider="coreml", ceiling=False), QUIET)
    assert "\n" not in str(caught.value)


def test_models_of_different_classes_are_refused_before_anything_is_timed(
    models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = ("Healthy", "Osteopenia", "Osteoporosis")
    other = write_tiny_model(tmp_path / "other.onnx", classes=classes)
    monkeypatch.setattr(run_module, "Crew", None)
    with pytest.raises(ConfigError, match="bench models of the same classes"):
        bench(small_request((*models, str(other))), QUIET)


def test_a_missing_or_damaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model file"):
        bench(small_request((str(tmp_path / "none.onnx"),)), QUIET)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"bad\.onnx"):
        bench(small_request((str(tmp_path / "bad.onnx"),)), QUIET)


def test_turns_go_there_and_back_so_that_a_steady_drift_cancels() -> None:
    there = in_turn("abc", 0)
    back = in_turn("abc", 1)
    assert [there.index(model) + back.index(model) for model in "abc"] == [2, 2, 2]


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


def test_models_that_do_not_fit_together_take_fresh_processes(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = [open_file(model, "cpu") for model in models]
    plan = Plan(scenarios((8,)), 6, 1.0)
    monkeypatch.setattr(run_module, "free_memory_mb", lambda: 100.0)
    fresh, processes = share_memory(subjects, plan)
    assert fresh
    assert processes.startswith("a fresh process for each turn, since 2 models need about 0.")
    monkeypatch.setattr(run_module, "free_memory_mb", lambda: 1e6)
    fresh, processes = share_memory(subjects, plan)
    assert not fresh
    assert processes == "one process a model, all loaded, taking turns; 6 rounds"


@pytest.mark.slow
def test_fresh_processes_give_the_same_rows(
    models: tuple[str, ...], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "free_memory_mb", lambda: 1.0)
    result = bench_once(models[:1], data=data, n_rounds=2)
    assert result.processes.startswith("a fresh process for each turn")
    assert [row.scenario for row in result.results] == ["SingleStream", "Offline", "MultiStream"]
    assert all(row.accuracy.n == 8 for row in result.results)


@pytest.mark.slow
def test_file_names_that_are_no_text_reach_the_worker(
    tmp_path: Path, models: tuple[str, ...], data: str
) -> None:
    odd = tmp_path / os.fsdecode(b"kn\xffee.png")
    try:
        odd.write_bytes(next(Path(data).rglob("*.png")).read_bytes())
    except OSError:
        pytest.skip("this file system takes text alone")
    assert bench_once(models[:1], images=(str(odd),)).results


@pytest.mark.slow
def test_without_torch_the_original_has_no_row_but_a_warning(
    models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects_module, "find_spec", {}.get)
    result = bench_once(models[:1], run=str(tmp_path))
    assert {row.precision for row in result.results} == {"fp32"}
    missing = "PyTorch is not installed, so the original has no row"
    assert any(missing in text for text in result.warnings)
    with pytest.raises(errors.MissingExtraError, match=r"kneeedge\[train,cpu\]"):
        bench(small_request((), run=str(tmp_path)), QUIET)


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


@pytest.mark.torch
def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no finished training run here"):
        open_original(str(tmp_path), "cpu")


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.usefixtures("one_cold_start")
def test_the_original_is_the_first_row_and_what_flips_are_counted_against(
    trained_run: Path, exported: dict[str, Path], phantoms: Path
) -> None:
    files = (str(exported["fp32"]), str(exported["int8"]))
    request = small_request(files, run=str(trained_run), data=str(phantoms), n_rounds=2)
    result = bench(request, QUIET)
    original = first_of(result, "pytorch-fp32")
    fp32 = first_of(result, "fp32")
    int8 = first_of(result, "int8")
    assert result.results[0] is original
    assert original.accuracy.flips is None
    assert {fp32.accuracy.reference, int8.accuracy.reference} == {"pytorch-fp32"}
    assert (fp32.accuracy.flips, fp32.accuracy.verdict) == (0, "pass")
    assert fp32.accuracy.accuracy == original.accuracy.accuracy
    assert (original.provider, original.accuracy.n_seen) == ("cpu", 0)
    assert original.size_mb == round((trained_run / "model.safetensors").stat().st_size / 1e6, 2)
    assert original.inputs == fp32.inputs


@pytest.mark.torch
@pytest.mark.slow
def test_the_parent_never_imports_torch(trained_run: Path) -> None:
    code = (
        "import sys\n"
        "from kneeedge.bench import turns\n"
        "from kneeedge.bench.run import BenchRequest, bench\n"
        "turns.N_COLD_STARTS = 1\n"
        "from kneeedge.system.progress import Progress\n"
        "options = dict(batch_sizes=(2,), seconds=0.02, n_rounds=1, ceiling=False)\n"
        f"request = BenchRequest(run={str(trained_run)!r}, provider='cpu', **options)\n"
        "bench(request, Progress(quiet=True))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.torch
@pytest.mark.slow
def test_a_slim_run_is_measured_beside_its_original_and_its_card_says_so(
    slim_run: Path, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    from kneeedge.report.card import add_speed
    from kneeedge.runs.folder import Run

    run = Path(shutil.copytree(slim_run, tmp_path / "slim"))
    result = bench_once((), run=str(run), data=str(phantoms), batch_sizes=(1,))
    row = result.results[0]
    metrics = json.loads((trained_run / "metrics.json").read_text())
    add_speed(Run(run), result, bench_json(result))
    card = Run(run).card.read_text(encoding="utf-8")
    assert (row.model, row.precision) == (str(trained_run), "pytorch-fp32")
    assert row.accuracy.accuracy == metrics["test"]["accuracy"]
    assert "| narrow | pytorch-fp32 |" in card


@pytest.mark.torch
@pytest.mark.slow
def test_a_slim_run_whose_original_is_gone_is_measured_beside_itself_with_a_warning(
    slim_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(slim_run, tmp_path / "slim"))
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(record | {"original": str(tmp_path / "gone")}))
    result = bench_once((), run=str(run), batch_sizes=(1,))
    assert result.results[0].model == str(run)
    assert any("the PyTorch row is the slimmed network's own" in text for text in result.warnings)
