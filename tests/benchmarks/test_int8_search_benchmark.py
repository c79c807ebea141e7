"""The benchmark of the int8 search: whether the choice is the same, and whose time is whose."""

import dataclasses

import pytest

pytest.importorskip("torch")

from benchmarks.int8_search import REST, Stopwatch, Turn, rows_of

TURN = Turn(
    seconds={"int8: recipes": 9.0},
    cpu_seconds={"int8: recipes": 8.0},
    recipe="mse, no layer in float",
    verdict="pass",
    n_recipes=23,
    n_stopped=0,
    tried={},
)


def turn(cpu: float, recipe: str = TURN.recipe) -> Turn:
    return dataclasses.replace(TURN, cpu_seconds={"int8: recipes": cpu}, recipe=recipe)


def test_a_version_is_compared_with_the_first_turn_by_turn() -> None:
    """A busy moment falls on both: the ratio of the medians would be 0.5 here."""
    before, now = rows_of("a", {"before": [turn(8), turn(40), turn(10)], "now": [turn(2)] * 3})
    assert (before.search_ratio, now.search_ratio) == (None, 0.2)
    assert now.same_choice


def test_another_choice_in_one_turn_is_told() -> None:
    turns = {"before": [turn(8)] * 2, "now": [turn(4), turn(4, "minmax, no layer in float")]}
    assert [row.same_choice for row in rows_of("a", turns)] == [True, False]


def test_a_stage_does_not_count_the_stage_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0, 1, 3, 7, 15, 31])
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    now = [float(next(ticks))]

    def work() -> None:
        now[0] = float(next(ticks))

    watch = Stopwatch()
    inner = watch.timed("inner", work)

    def outer() -> None:
        work()
        inner()
        work()

    work()
    watch.timed("outer", outer)()
    work()
    watch.note()
    assert dict(watch.seconds) == {REST: 1 + 16, "outer": 2 + 8, "inner": 4}
