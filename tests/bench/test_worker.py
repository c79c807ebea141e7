"""One model in one process: what it times, by a clock that ticks, and what it answers."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kneeedge.bench.messages import AnswerImages, Command, FileTurn, Reply, Turn, WorkRequest
from kneeedge.bench.models import Loaded, start_cold
from kneeedge.bench.worker import Worker
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.runtime.session import Session
from kneeedge.system.strict_json import from_json, to_json
from tests.bench.small import small_work
from tests.fake_gpu import FakeRuntime, fake_gpu

__all__ = ["fake_gpu"]


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
    _, cold = start_cold(small_work(models[0], data), images, lambda: next(ticks))
    assert (cold.import_ms, cold.load_ms, cold.first_run_ms) == (1000.0, 2000.0, 500.0)


def test_a_first_turn_warms_up_and_a_later_one_runs_once_before_it(
    models: tuple[str, ...], data: str
) -> None:
    worker = Worker(small_work(models[0], data), Ticking())
    turn = Turn(batch_size=2, seconds=2.0, n_least=3)
    first = worker.take_turn(turn)
    second = worker.take_turn(turn)
    # two looks at the clock fill the half second
    assert (first.n_warmup, second.n_warmup) == (2, 1)
    assert len(first.samples) >= 3
    assert set(first.samples) == {250.0}


def test_a_run_as_long_as_its_turn_is_not_repeated_to_warm_caches(
    models: tuple[str, ...], data: str
) -> None:
    worker = Worker(small_work(models[0], data), Ticking())
    turn = Turn(batch_size=2, seconds=0.1, n_least=1)
    first = worker.take_turn(turn)
    second = worker.take_turn(turn)
    assert (first.n_warmup, second.n_warmup) == (1, 0)


def test_an_image_is_timed_from_its_file_to_its_answer(models: tuple[str, ...], data: str) -> None:
    worker = Worker(small_work(models[0], data), Ticking())
    (run, *_) = worker.time_files(FileTurn(0.1, 1))
    assert (run.read, run.preprocess, run.compute) == (250.0, 0.0, 250.0)
    # reading alone is no part of it: the pixel path reads again
    assert run.end_to_end == 500.0
    worker.loaded = dataclasses.replace(worker.loaded, parts=lambda _: (0.001, 0.002, 0.003))
    (run, *_) = worker.time_files(FileTurn(0.1, 1))
    assert (run.copy_in, run.compute, run.copy_out) == (1.0, 2.0, 3.0)


def test_a_worker_answers_as_a_session_does(models: tuple[str, ...], data: str) -> None:
    request = small_work(models[0], data)
    reply = Worker(request).obey(Command(answer=AnswerImages(2)))
    images = [load_input(Path(path), request.pixel_path) for path in request.labelled]
    outputs = Session(models[0], "cpu", 1).run(np.stack(images)[:, None])
    np.testing.assert_allclose(reply.logits, outputs.logits, atol=1e-5)


def test_a_worker_answers_the_part_that_it_is_asked_for(models: tuple[str, ...], data: str) -> None:
    worker = Worker(small_work(models[0], data))
    whole = worker.obey(Command(answer=AnswerImages(2))).logits
    parts = [worker.obey(Command(answer=AnswerImages(2, k, k + 2))).logits for k in (0, 2, 4)]
    assert tuple(row for part in parts for row in part) == whole


def test_a_command_for_nothing_is_an_error(models: tuple[str, ...], data: str) -> None:
    with pytest.raises(ValueError, match="asks for one thing"):
        Worker(small_work(models[0], data)).obey(Command())


def test_a_gpus_model_shows_its_parts_and_where_its_nodes_run(
    models: tuple[str, ...], data: str, fake_gpu: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kneeedge.bench.models.load_runtime", lambda: fake_gpu)
    worker = Worker(small_work(models[0], data, provider="cuda", gpu=GpuOptions(memory_gb=1.0)))
    assert fake_gpu.sessions[0].providers[0][1]["gpu_mem_limit"] == str(1 << 30)
    (run, *_) = worker.time_files(FileTurn(0.01, 1))
    assert min(run.copy_in, run.compute, run.copy_out) > 0
    assert "of the time on cuda" in worker.obey(Command(placement=True)).placement


def test_a_model_without_a_placement_gives_none(models: tuple[str, ...], data: str) -> None:
    worker = Worker(small_work(models[0], data))
    worker.loaded = Loaded(logits=worker.loaded.logits, provider="cuda", notice="")
    assert worker.obey(Command(placement=True)).placement is None


def test_a_model_that_spins_while_it_waits_is_seen(models: tuple[str, ...], data: str) -> None:
    worker = Worker(small_work(models[0], data))
    worker.slept_at = (worker.slept_at[0] - 10.0, worker.slept_at[1] - 5.0)
    assert 0.4 < worker.idle_cpu() < 0.6


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
    done = worker_process(noisy, small_work(models[0], data))
    reply = from_json(Reply, done.stdout)
    assert reply.started is not None
    assert reply.failure is None
    assert done.stderr.count(b"noise") == 2


def test_the_worker_of_a_file_never_imports_torch(models: tuple[str, ...], data: str) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import kneeedge.bench.run, kneeedge.bench.worker as w; w.main()"
    )
    done = worker_process(code, small_work(models[0], data))
    assert from_json(Reply, done.stdout).started is not None
