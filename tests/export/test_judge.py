"""A recipe is dropped only where nothing that is to come could make it the chosen one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from export import judge as judge_module
from export.gate import Dropped, Gated
from export.judge import BATCH, Judge
from export.original import Original
from kneeedge.data.dataset import Sample
from kneeedge.model.verdict import PASS, cannot_pass, judge_loss
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runtime.session import Outputs
from kneeedge.statistics.paired import paired_change, worst_loss
from kneeedge.statistics.partly_labelled import NO_LABEL
from kneeedge.system.progress import Progress
from tests.tiny_onnx import tiny_spec

SPEC = tiny_spec()
QUIET = Progress(quiet=True)


class FakeSession:
    """Stands for a session; `answers` are looked up instead."""

    provider = "cpu"


class NoReferences:
    """Notes nothing."""

    def note(self, *_: object) -> None:
        pass


def case_of(rng: np.random.Generator, n: int, n_flips: int, n_unlabelled: int, patients: int):
    """A judge of random images, and the answers of a variant that flips some of them."""
    labels = rng.integers(0, 2, n)
    said = np.where(rng.random(n) < 0.2, 1 - labels, labels)
    sizes = rng.uniform(0.05, 3.0, n)
    before = np.where(said[:, None] == np.arange(2), sizes[:, None], -sizes[:, None])
    near = np.argsort(sizes * rng.uniform(0.3, 1.0, n))[:n_flips]
    after = before.copy()
    after[near] = -0.1 * before[near]
    labels[n - n_unlabelled :] = NO_LABEL
    samples = tuple(
        Sample(
            path=Path(f"{i}.png"),
            name=f"{i}.png",
            sha256=f"{i:064x}",
            split="val",
            label=int(labels[i]),
            group=str(rng.integers(patients)),
        )
        for i in range(n)
    )
    original = Original(
        samples=samples,
        n_val=n - n_unlabelled,
        answers=Answers(ORIGINAL, SPEC, before),
        own_logits=before,
        distances=None,
        is_slimmed=False,
    )
    judge = Judge(
        spec=SPEC,
        original=original,
        gate_data=None,
        tolerance=float(rng.choice([0.01, 0.03, 0.05])),
        references=NoReferences(),
        progress=QUIET,
    )
    return judge, after


def outputs_of(logits: np.ndarray) -> Outputs:
    return Outputs(np.zeros_like(logits), logits, None, None)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The answers that sessions give, by the name of the image, and how many were asked for."""
    state: dict[str, object] = {"logits": None, "n": 0}

    def answer_batches(_: object, samples: Sequence[Sample], size: int, *__: object) -> Iterator:
        for start in range(0, len(samples), size):
            rows = [int(sample.path.stem) for sample in samples[start : start + size]]
            state["n"] += len(rows)
            yield outputs_of(state["logits"][rows])

    monkeypatch.setattr(judge_module, "answer_batches", answer_batches)
    return state


@pytest.mark.parametrize("seed", range(150))
def test_nothing_is_dropped_that_the_search_would_choose(seed: int, read) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(40, 400))
    n_unlabelled = int(rng.choice([0, n // 3]))
    patients = int(rng.choice([10**6, max(4, n // 2)]))
    judge, after = case_of(rng, n, int(rng.integers(0, n // 4)), n_unlabelled, patients)
    read["logits"] = after
    best_flips = int(rng.integers(0, n // 4))

    def is_behind(flips: int) -> bool:
        return flips >= best_flips

    whole = judge.gated("int8", FakeSession(), outputs_of(after))
    found = judge.judge_in_turn("int8", FakeSession(), is_behind)
    if isinstance(found, Gated):
        assert found.report == whole.report
        assert (found.answers.logits == whole.answers.logits).all()
        return
    assert found.n == read["n"]
    assert whole.report.verdict != PASS
    assert found.flips <= len(whole.report.flips)
    assert is_behind(len(whole.report.flips))


def test_some_are_dropped_long_before_the_end(read) -> None:
    """The original's wrong answers come first, then those that are nearest to flip."""
    shares = []
    for seed in range(30):
        judge, after = case_of(np.random.default_rng(seed), 400, 20, 0, 10**6)
        read["logits"] = after
        found = judge.judge_in_turn("int8", FakeSession(), lambda flips: flips >= 3)
        shares.append(found.n / 400 if isinstance(found, Dropped) else 1.0)
    assert np.mean(shares) < 0.5


def test_without_a_better_one_all_images_are_looked_at(read) -> None:
    judge, after = case_of(np.random.default_rng(0), 200, 40, 0, 10**6)
    read["logits"] = after
    found = judge.judge_in_turn("int8", FakeSession(), lambda _: False)
    assert isinstance(found, Gated)
    assert read["n"] == 200
    assert found.report.verdict != PASS


def test_images_are_answered_in_batches_of_one_size_whoever_stops(read) -> None:
    judge, after = case_of(np.random.default_rng(1), 100, 30, 0, 10**6)
    read["logits"] = after
    found = judge.judge_in_turn("int8", FakeSession(), lambda _: True)
    assert isinstance(found, Dropped)
    assert found.n % BATCH == 0 or found.n == 100


def test_the_bound_falls_with_answers_gained_rises_with_those_lost_and_groups_widen_it() -> None:
    """What `cannot_pass` rests on."""
    for n in (20, 60, 315):
        for lost in range(min(n // 2, 25)):
            bounds = [worst_loss(gained, lost, n) for gained in range(min(n - lost, 40))]
            assert (np.diff(bounds) <= 1e-9).all(), (n, lost)
        for gained in range(0, min(n // 2, 25), 3):
            bounds = [worst_loss(gained, lost, n) for lost in range(min(n - gained, 40))]
            assert (np.diff(bounds) >= -1e-9).all(), (n, gained)
            for lost in (0, 1, 5):
                weighted = [
                    worst_loss(weight * gained, weight * lost, weight * n)
                    for weight in (1.0, 0.9, 0.7, 0.5, 0.2)
                ]
                assert (np.diff(weighted) >= -1e-9).all(), (n, gained, lost)


def test_what_cannot_pass_does_not() -> None:
    for lost in range(6):
        for gained in range(6):
            labels = np.zeros(315, dtype=int)
            before = np.array([0] * lost + [1] * gained + [0] * (315 - lost - gained))
            after = np.array([1] * lost + [0] * (315 - lost))
            passes = judge_loss(paired_change(labels, before, after), 0.01)[0] == PASS
            assert passes != cannot_pass(gained, lost, 315, 0.01)
