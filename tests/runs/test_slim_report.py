"""Goals of `kneeedge slim` that make no sense, and which of the widths that were tried is taken."""

import pytest

from kneeedge.errors import ConfigError
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.runs.slim_report import SlimConfig, Step, choose


def step(name: str, milliseconds: float, verdict: str, change: float = 0.0, flips: int = 0) -> Step:
    return Step(
        name=name,
        asked_ms=milliseconds,
        expected_ms=milliseconds,
        expected_speedup=4.0,
        measured_ms=milliseconds,
        channels=((8,),),
        size_mb=1.0,
        verdict=verdict,
        reason="",
        flips=flips,
        n=100,
        accuracy_change=change,
        model="",
    )


def test_the_fastest_that_passes_is_taken():
    steps = [step("a", 9, PASS), step("b", 7, PASS), step("c", 5, INCONCLUSIVE), step("d", 3, FAIL)]
    assert choose(steps, 0.01).name == "b"


def test_without_a_pass_the_fastest_of_those_with_the_fewest_flips_is_taken():
    steps = [
        step("a", 9, INCONCLUSIVE, flips=2),
        step("b", 7, INCONCLUSIVE, -0.01, flips=2),
        step("c", 5, INCONCLUSIVE, -0.01, flips=3),
        step("d", 3, FAIL, flips=0),
    ]
    assert choose(steps, 0.01).name == "b"


def test_without_a_pass_one_that_seems_to_lose_more_than_the_tolerance_is_left():
    steps = [step("a", 9, INCONCLUSIVE, -0.01, 4), step("b", 5, INCONCLUSIVE, -0.02, 2)]
    assert choose(steps, 0.01).name == "a"


def test_where_all_lose_too_much_the_one_that_loses_least_is_taken():
    assert choose([step("a", 9, FAIL, -0.05), step("b", 7, FAIL, -0.1)], 0.01).name == "a"


def test_of_two_that_lose_too_much_alike_the_faster_is_taken():
    assert choose([step("a", 9, FAIL, -0.05, 5), step("b", 7, FAIL, -0.05, 5)], 0.01).name == "b"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"speedup": 4.0, "keep": 0.5}, "two goals"),
        ({"speedup": 1.0}, "no speedup"),
        ({"keep": 1.5}, "no share"),
        ({"max_latency_ms": 0.0}, "above 0"),
        ({"speedup": 4.0, "curve": True}, "widths of its own"),
        ({"epochs": 0}, "at least 1"),
        ({"stress_tolerance": 0.1}, "corrupted images"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(changes, problem):
    with pytest.raises(ConfigError, match=problem):
        SlimConfig(original="run", **changes)
