"""The benchmark: a fake clock for what is timed, real worker processes for what crosses them."""

import dataclasses
import inspect
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kneeedge import bench as bench_module
from kneeedge import bench_worker, errors
from kneeedge.bench import BenchRequest, BenchResult, as_raised, bench, open_original, read_reply
from kneeedge.bench_worker import Reply, WorkRequest, make_batches, peak_memory_mb, time_runs, warm_up
from kneeedge.dataset import file_sha256
from kneeedge.errors import ConfigError, KneeEdgeError, ModelFileError, NotFoundError, ProviderError, WorkerError
from kneeedge.phantom import write_dataset
from kneeedge.progress import Progress
from kneeedge.records import from_json, to_json
from kneeedge.report import bench_json
from kneeedge.spec import PixelPath
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)


class FakeClock:
    """Seconds that pass only where a run says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def running(self, *seconds: float) -> Callable[[np.ndarray], None]:
        """A run that takes these times in turn, and the last one from then on."""
        times = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def run(images: np.ndarray) -> None:
            self.now += next(times)

        return run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("models")
    return tuple(str(write_tiny_model(folder / f"tiny.{name}.onnx", name)) for name in ("fp32", "int8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bench") / "data"
    write_dataset(folder, {"train": 2, "test": 8}, size=64)
    return str(folder)


@pytest.fixture(scope="module")
def measured(models: tuple[str, ...], data: str) -> BenchResult:
    return bench(small(models, data=data), QUIET)


def small(models: tuple[str, ...], **changes: object) -> BenchRequest:
    options = {"provider": "cpu", "threads": 1, "batch_sizes": (4, 2), "seconds": 0.02, "min_runs": 12}
    return BenchRequest(**options | {"models": models} | changes)


def work(model: str, **changes: object) -> WorkRequest:
    request = WorkRequest(model, False, "cpu", 1, (2,), 0.02, 12, PixelPath(64), (), 0, (), ())
    return dataclasses.replace(request, **changes)


IMAGES = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)


def test_runs_go_on_until_the_time_is_up() -> None:
    clock = FakeClock()
    assert time_runs(clock.running(0.25), [IMAGES], 2.0, 1, clock) == (250.0,) * 8


def test_the_least_number_of_runs_outlasts_the_time() -> None:
    clock = FakeClock()
    assert len(time_runs(clock.running(5.0), [IMAGES], 2.0, 30, clock)) == 30


def test_an_outlier_stays_among_the_samples_in_its_place() -> None:
    clock = FakeClock()
    samples = time_runs(clock.running(0.01, 0.01, 0.01, 0.9, 0.01), [IMAGES], 1.0, 10, clock)
    assert samples[3] == 900.0
    assert samples[4] == 10.0


def test_warming_up_counts_its_runs_and_makes_one_at_least() -> None:
    clock = FakeClock()
    assert warm_up(clock.running(0.125), IMAGES, 0.5, clock) == 4
    assert warm_up(clock.running(60.0), IMAGES, 0.5, clock) == 1
    assert warm_up(clock.running(1.0), IMAGES, 0.0, clock) == 1


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_batches_are_full_and_hold_every_image(size: int) -> None:
    batches = make_batches(IMAGES, size)
    assert {batch.shape for batch in batches} == {(size, 1, 1, 1)}
    assert set(np.concatenate(batches).ravel().tolist()) == set(range(5))


def test_the_runs_take_the_batches_in_turn() -> None:
    clock, seen = FakeClock(), []

    def run(images: np.ndarray) -> None:
        seen.append(int(images[0, 0, 0, 0]))
        clock.now += 1.0

    time_runs(run, make_batches(IMAGES, 1), 7.0, 1, clock)
    assert seen == [0, 1, 2, 3, 4, 0, 1]


def test_a_cold_start_is_split_at_the_import_and_the_load(models: tuple[str, ...]) -> None:
    ticks = iter((0.0, 1.0, 3.0, 3.5))
    images = np.zeros((1, 1, 64, 64), dtype=np.uint8)
    _, cold = bench_worker.start_cold(work(models[0]), images, lambda: next(ticks))
    assert (cold.import_ms, cold.load_ms, cold.first_run_ms) == (1000.0, 2000.0, 500.0)


def test_the_inputs_are_phantoms_of_the_seed_not_noise(models: tuple[str, ...]) -> None:
    first, again, other = (bench_worker.read_inputs(work(models[0], seed=seed)) for seed in (0, 0, 1))
    assert first.shape == (bench_worker.N_PHANTOMS, 1, 64, 64)
    assert (first == again).all()
    assert (first != other).any()
    assert len({image.tobytes() for image in first}) == len(first)


def test_the_peak_of_memory_sees_an_array_come() -> None:
    before = bench_worker.restart_peak_mb()
    if before is None:
        pytest.skip("this system does not tell")
    block = np.ones(8_000_000)
    assert 50 < peak_memory_mb() - before < 200
    del block


def test_each_model_has_a_row_for_each_scenario_and_batch_size(measured: BenchResult, models: tuple[str, ...]) -> None:
    found = [(row.model, row.scenario, row.batch_size) for row in measured.results]
    assert found == [(m, s, b) for m in models for s, b in (("single", 1), ("offline", 2), ("offline", 4))]


def test_a_row_says_what_was_measured(measured: BenchResult, models: tuple[str, ...]) -> None:
    row = measured.results[0]
    assert (row.precision, row.provider, row.threads) == ("fp32", "cpu", 1)
    assert row.n_runs == len(row.samples) >= 12
    assert row.n_warmup >= 1
    assert row.size_mb == round(Path(models[0]).stat().st_size / 1e6, 2)
    parts = (row.cold_start.import_ms, row.cold_start.load_ms, row.cold_start.first_run_ms)
    assert min(parts) > 0
    assert row.cold_start_ms == pytest.approx(sum(parts), abs=0.01)
    assert row.images_per_second == pytest.approx(1000 * row.n_runs / sum(row.samples), rel=0.01)
    assert row.inputs.startswith("8 of ")
    assert (row.latency_ms.p50 is None, row.latency_ms.min > 0) == (False, True)


def test_memory_never_shrinks_from_one_scenario_to_the_next(measured: BenchResult) -> None:
    peaks = [row.peak_memory_mb for row in measured.results if row.precision == "fp32"]
    assert None in peaks or (peaks == sorted(peaks) and peaks[0] > 0)


def test_flips_are_counted_against_the_fp32_row_where_there_is_no_original(measured: BenchResult) -> None:
    fp32, int8 = (next(row for row in measured.results if row.precision == name) for name in ("fp32", "int8"))
    assert (fp32.accuracy.reference, fp32.accuracy.flips) == (None, None)
    assert int8.accuracy.reference == "fp32"
    assert 0 <= int8.accuracy.flips <= int8.accuracy.n == 8
    assert fp32.accuracy.split == "test"
    assert (fp32.accuracy.n_seen, fp32.accuracy.interval.low >= 0) == (0, True)


def test_every_row_of_a_model_carries_its_accuracy(measured: BenchResult) -> None:
    assert len({row.accuracy for row in measured.results if row.precision == "int8"}) == 1


def test_a_measured_result_is_valid_json(measured: BenchResult) -> None:
    assert len(json.loads(bench_json(measured))["results"]) == 6


def test_images_given_are_those_it_is_timed_on(models: tuple[str, ...], data: str) -> None:
    images = tuple(str(path) for path in sorted(Path(data).rglob("*.png"))[:3])
    found = bench(small(models[:1], images=images, batch_sizes=(2,)), QUIET)
    assert found.results[0].inputs == "3 of the images given, seed 0"
    assert found.results[0].accuracy is None


def test_a_model_that_saw_the_images_is_called_leaky(tmp_path: Path, data: str) -> None:
    seen = tuple(file_sha256(path)[:16] for path in Path(data, "test").rglob("*.png"))
    model = str(write_tiny_model(tmp_path / "m.onnx", seen=seen))
    found = bench(small((model,), data=data, batch_sizes=(2,)), QUIET)
    assert any("LEAKY, the model was trained or chosen on 8 of 8 images" in text for text in found.warnings)


def test_a_provider_that_is_not_there_is_one_clear_line(models: tuple[str, ...]) -> None:
    with pytest.raises(ProviderError, match=r"provider coreml cannot run this model.*use --provider cpu") as caught:
        bench(small(models, provider="coreml"), QUIET)
    assert "\n" not in str(caught.value)


def test_models_of_different_classes_are_refused_before_anything_is_timed(
    models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = str(write_tiny_model(tmp_path / "other.onnx", classes=("Healthy", "Osteopenia", "Osteoporosis")))
    monkeypatch.setattr(bench_module, "run_worker", None)
    with pytest.raises(ConfigError, match="bench models of the same classes"):
        bench(small((*models, other)), QUIET)


def test_a_missing_or_damaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model file"):
        bench(small((str(tmp_path / "none.onnx"),)), QUIET)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"bad\.onnx"):
        bench(small((str(tmp_path / "bad.onnx"),)), QUIET)


def test_a_worker_that_dies_is_a_worker_error_with_its_last_line(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 1, b"", b"Traceback\n  boom\nMemoryError: too much\n\n")

    monkeypatch.setattr(subprocess, "run", die)
    with pytest.raises(WorkerError, match=r"tiny\.fp32\.onnx ended without a result: MemoryError: too much;"):
        bench(small(models), QUIET)


@pytest.mark.parametrize(
    ("status", "stderr", "words"),
    [(-9, b"", "signal 9 ended it, as when memory runs out"), (3, b"\n", "exit code 3"), (-6, b"abort\n", "abort")],
)
def test_the_last_words_of_a_worker(status: int, stderr: bytes, words: str) -> None:
    assert bench_module._last_words(status, stderr) == words


@pytest.mark.parametrize("output", [b"", b"{}", b"noise{}", b'{"result": 1}', b"\xff"])
def test_a_damaged_reply_is_a_worker_error(output: bytes) -> None:
    with pytest.raises(WorkerError, match="its reply is"):
        read_reply(output, "the benchmark of m.onnx")


ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, KneeEdgeError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_crosses_the_process_with_its_class_and_message(kind: type[KneeEdgeError]) -> None:
    error = as_raised(kind.__name__, "a reason; a remedy")
    assert type(error) is kind
    assert str(error) == "a reason; a remedy"


def test_the_worker_answers_on_stdout_alone_whatever_libraries_print(models: tuple[str, ...]) -> None:
    noisy = (
        "import os, kneeedge.bench_worker as w; real = w.load_runtime\n"
        "w.load_runtime = lambda: (os.system('echo noise'), print('noise'), real())[2]; w.main()"
    )
    text = to_json(work(models[0])).encode()
    done = subprocess.run([sys.executable, "-c", noisy], input=text, capture_output=True, check=True)
    reply = from_json(Reply, done.stdout)
    assert reply.result is not None
    assert reply.failure is None
    assert done.stderr.count(b"noise") == 2


def test_the_worker_of_a_file_never_imports_torch(models: tuple[str, ...]) -> None:
    code = "import sys; sys.modules['torch'] = None; import kneeedge.bench, kneeedge.bench_worker as w; w.main()"
    text = to_json(work(models[0])).encode()
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, check=True)
    assert from_json(Reply, done.stdout).result is not None


def test_file_names_that_are_no_text_reach_the_worker(tmp_path: Path, models: tuple[str, ...], data: str) -> None:
    odd = tmp_path / os.fsdecode(b"kn\xffee.png")
    try:
        odd.write_bytes(next(Path(data).rglob("*.png")).read_bytes())
    except OSError:
        pytest.skip("this file system takes text alone")
    assert bench(small(models[:1], images=(str(odd),), batch_sizes=(2,)), QUIET).results


def test_without_torch_the_original_has_no_row_but_a_warning(
    models: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "find_spec", {}.get)
    found = bench(small(models[:1], run=str(tmp_path), batch_sizes=(2,)), QUIET)
    assert {row.precision for row in found.results} == {"fp32"}
    assert any("PyTorch is not installed, so the original has no row" in text for text in found.warnings)
    with pytest.raises(errors.MissingExtraError, match=r"kneeedge\[train,cpu\]"):
        bench(small((), run=str(tmp_path)), QUIET)


def test_int8_on_cuda_is_warned_of(measured: BenchResult, models: tuple[str, ...]) -> None:
    subject = bench_module.open_file(models[1])
    cold = measured.results[0].cold_start
    result = bench_worker.WorkResult("cuda", "", cold, (), None)
    found = bench_module.model_warnings(bench_module.Measured(subject, result), measured.results[:1])
    assert any("runs QDQ int8 in float and slowly" in text for text in found)


def test_an_unstable_row_is_warned_of(measured: BenchResult, models: tuple[str, ...]) -> None:
    row = dataclasses.replace(measured.results[0], unstable=True, window_spread=0.23)
    one = bench_module.Measured(
        bench_module.open_file(models[0]), bench_worker.WorkResult("cpu", "", row.cold_start, (), None)
    )
    (text,) = bench_module.model_warnings(one, [row])
    assert text == "tiny.fp32.onnx, single, batch 1: unstable, the median moved by 23%; quiet the machine, run again"


@pytest.mark.parametrize(
    "changes",
    [
        {"models": ()},
        {"batch_sizes": ()},
        {"batch_sizes": (0,)},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"min_runs": 0},
        {"threads": 0},
    ],
)
def test_a_request_that_cannot_be_measured_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BenchRequest(**{"models": ("m.onnx",)} | changes)


@pytest.mark.torch
def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no finished training run here"):
        open_original(BenchRequest(run=str(tmp_path)))


@pytest.mark.torch
def test_the_original_is_the_first_row_and_what_flips_are_counted_against(
    trained_run: Path, exported: dict[str, Path], phantoms: Path
) -> None:
    request = small((str(exported["fp32"]), str(exported["int8"])), run=str(trained_run), data=str(phantoms))
    found = bench(request, QUIET)
    original, fp32, int8 = (
        next(r for r in found.results if r.precision == p) for p in ("pytorch-fp32", "fp32", "int8")
    )
    assert found.results[0] is original
    assert original.accuracy.flips is None
    assert {fp32.accuracy.reference, int8.accuracy.reference} == {"pytorch-fp32"}
    assert fp32.accuracy.flips == 0
    assert fp32.accuracy.accuracy == original.accuracy.accuracy
    assert (original.provider, original.accuracy.n_seen) == ("cpu", 0)
    assert original.size_mb == round((trained_run / "model.safetensors").stat().st_size / 1e6, 2)
    assert found.results[0].inputs == fp32.inputs


@pytest.mark.torch
def test_the_parent_never_imports_torch(trained_run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from kneeedge.bench import *; from kneeedge.progress import Progress\n"
        f"request = BenchRequest(run={str(trained_run)!r}, provider='cpu', batch_sizes=(2,), seconds=0.02)\n"
        "bench(request, Progress(quiet=True))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
