"""The rows of the benchmark of heat maps: medians of turns, and ratios of those that met."""

import dataclasses

from benchmarks.heatmaps import Turn, rows_of

TURN = Turn(
    bare_per_second=200.0, per_second=50.0, cpu_ms=8.0, map_kb=80.0, pixels_sha256="the same"
)


def turns(*speeds: float, sha256: str = "the same") -> list[Turn]:
    return [dataclasses.replace(TURN, per_second=speed, pixels_sha256=sha256) for speed in speeds]


def test_a_checkout_is_compared_with_the_first_turn_by_turn() -> None:
    """A busy moment falls on both: the ratio of the medians would be 2 here."""
    before, now = rows_of(224, {"before": turns(50, 10, 60), "now": turns(100, 30, 180)})
    assert (before.per_second, before.ratio) == (50.0, None)
    assert (now.per_second, now.ratio) == (100.0, 3.0)
    assert now.samples == [100.0, 30.0, 180.0]


def test_other_pixels_are_told() -> None:
    rows = rows_of(224, {"before": turns(50), "now": turns(90), "other": turns(9, sha256="x")})
    assert [row.same_pixels for row in rows] == [True, True, False]
