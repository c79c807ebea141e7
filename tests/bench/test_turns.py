"""The time that a benchmark says is left includes the answers, which come last and take longest."""

import pytest

from kneeedge.bench import turns as turns_module
from kneeedge.bench.messages import FileRun, Window
from kneeedge.bench.run import bench
from kneeedge.bench.turns import Measurement, Plan, answer_jobs
from kneeedge.bench.windows import scenarios
from kneeedge.system.progress import Progress
from tests.bench.small import measurement_of, small_request

FILE_RUN = FileRun(
    read=1.0, preprocess=9.0, copy_in=None, compute=50.0, copy_out=None, end_to_end=60.0
)


def timed(model: str, data: str, plan: Plan, milliseconds: dict[int, float]) -> Measurement:
    """A model whose runs took so long at each batch size, and whose images take 10 ms to read."""
    measurement = measurement_of(model, data)
    for scenario in plan.scenarios:
        window = Window(
            samples=(milliseconds[scenario.batch_size],) * 3,
            n_warmup=0,
            peak_memory_mb=None,
            joules=None,
            idle_cpu=0.0,
        )
        measurement.windows[scenario] = [window]
    measurement.file_runs = [FILE_RUN]
    return measurement


def test_the_answers_take_what_the_turns_measured(models: tuple[str, ...], data: str) -> None:
    plan = Plan(scenarios((8,)), 1, 1.0)
    measurement = timed(models[0], data, plan, {1: 50.0, 8: 320.0})
    jobs = answer_jobs(plan, [measurement], 100)
    assert [(job.batch_size, job.first, job.end) for job in jobs] == [(1, 0, 100), (8, 0, 100)]
    assert [job.seconds for job in jobs] == pytest.approx([6.0, 5.0])


def test_many_images_are_answered_in_parts_of_whole_batches(
    models: tuple[str, ...], data: str
) -> None:
    plan = Plan(scenarios((100,)), 1, 1.0)
    measurement = timed(models[0], data, plan, {1: 1.0, 8: 8.0, 100: 100.0})
    jobs = [job for job in answer_jobs(plan, [measurement], 650) if job.batch_size == 100]
    assert [(job.first, job.end) for job in jobs] == [(0, 300), (300, 600), (600, 650)]
    assert answer_jobs(plan, [measurement], 0) == []


class Lines(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.slow
def test_the_time_left_is_told_until_the_last_answer(
    models: tuple[str, ...], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "IMAGES_AT_ONCE", 4)
    said = Lines()
    request = small_request(models[:1], data=data, n_rounds=2, batch_sizes=(8,), ceiling=False)
    result = bench(request, said)
    rounds = [line for line in said.lines if "round" in line]
    assert all(line.endswith("left, the answers to 8 images included") for line in rounds)
    answers = [line for line in said.lines if "answers of" in line]
    assert [line.split(" to ", 1)[1].split(";")[0] for line in answers] == [
        "images 1 to 4, batch 1",
        "images 5 to 8, batch 1",
        "images 1 to 8, batch 8",
    ]
    assert all("; about " in line and line.endswith(" left") for line in answers)
    assert {row.accuracy.n for row in result.results} == {8}


@pytest.mark.slow
def test_without_labelled_images_no_answers_are_spoken_of(models: tuple[str, ...]) -> None:
    said = Lines()
    bench(small_request(models[:1], n_rounds=1, batch_sizes=(2,), ceiling=False), said)
    (line,) = [line for line in said.lines if "round" in line]
    assert line == "bench: round 1 of 1"
    assert not any("answers" in line for line in said.lines)
