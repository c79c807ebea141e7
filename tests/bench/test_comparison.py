"""Two benchmarks held against each other: noise fails nobody's build, a slow-down does."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kneeedge.bench.comparison import closing_line, compare_results, lower_rank, ratio_of
from kneeedge.bench.page import bench_json
from kneeedge.bench.rows import latency_of
from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, DataError
from kneeedge.runs.benchmark import BenchResult, Row, read_benchmark
from tests.bench_rows import OFFLINE_8, result, row

STEADY = (10.0, 10.1, 9.9, 10.2, 9.8, 10.0)
OLD_FORMAT = '{"environment": {}, "results": [], "warnings": []}'


def timed(precision: str, *windows: float, **changes: object) -> Row:
    """A row of one run a window."""
    measured = {
        "latency_ms": latency_of(windows),
        "samples": windows,
        "windows": (1,) * len(windows),
    }
    return row(precision, 1.0, **measured, **changes)


def scaled(factor: float) -> tuple[float, ...]:
    return tuple(factor * value for value in STEADY)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, "no change"), (0.8, "faster"), (1.06, "slower"), (1.2, "REGRESSION")],
)
def test_the_verdict_follows_the_interval(factor: float, verdict: str) -> None:
    old = result(timed("int8", *STEADY))
    new = result(timed("int8", *scaled(factor)))
    (change,) = compare_results(old, new).changes
    assert change.verdict == verdict
    assert change.slowdown == pytest.approx(factor, rel=0.01)
    assert change.interval.low <= factor <= change.interval.high


def test_a_slow_down_within_the_noise_is_no_change() -> None:
    noisy = (10.0, 14.0, 9.0, 12.0, 11.0, 15.0)
    slower = [1.1 * value for value in reversed(noisy)]
    comparison = compare_results(result(timed("int8", *noisy)), result(timed("int8", *slower)))
    assert comparison.changes[0].verdict == "no change"
    assert not comparison.regressed


def test_the_limit_is_the_users() -> None:
    old = result(timed("int8", *STEADY))
    new = result(timed("int8", *scaled(1.2)))
    assert compare_results(old, new, 1.1).regressed
    assert not compare_results(old, new, 1.5).regressed
    with pytest.raises(ConfigError, match=r"--max-slowdown 0\.9"):
        compare_results(old, new, 0.9)


def test_too_few_windows_tell_nothing_and_say_how_many_would() -> None:
    old = result(timed("int8", *STEADY[:3]))
    new = result(timed("int8", *scaled(2.0)[:3]))
    comparison = compare_results(old, new)
    (change,) = comparison.changes
    assert (change.verdict, change.interval, comparison.n_unknown) == ("cannot tell", None, 1)
    remedy = "bench both with --rounds 4 or more"
    assert closing_line(comparison) == f"1 row with too few windows to tell: {remedy}"


@pytest.mark.parametrize(("m", "n"), [(3, 3), (4, 4), (6, 6), (5, 7)])
def test_the_rank_is_that_of_all_orderings(m: int, n: int) -> None:
    chances = np.zeros(m * n + 1)
    for places in itertools.combinations(range(m + n), m):
        chances[sum(place - i for i, place in enumerate(places))] += 1 / math.comb(m + n, m)
    rank = lower_rank(m, n)
    assert chances[:rank].sum() <= 0.025 < chances[: rank + 1].sum()


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        before = rng.lognormal(0.0, 0.1, 6)
        after = rng.lognormal(math.log(1.3), 0.1, 6)
        _, interval = ratio_of(before, after)
        held += interval.low <= 1.3 <= interval.high
    assert held >= 930


def test_a_throughput_is_compared_by_its_windows_means() -> None:
    old = row("int8", 1.0, samples=(1.0, 1.0, 10.0) * 4, windows=(3,) * 4, **OFFLINE_8)
    new = row("int8", 1.0, samples=(1.0, 1.0, 1.0) * 4, windows=(3,) * 4, **OFFLINE_8)
    assert compare_results(result(old), result(new)).changes[0].slowdown == 0.25


def test_rows_of_one_result_alone_are_named() -> None:
    old = result(timed("int8", *STEADY), timed("fp16", *STEADY))
    new = result(timed("int8", *STEADY))
    assert compare_results(old, new).only_old == ("m.fp16.onnx fp16 cpu SingleStream 1",)


def test_results_without_a_common_row_are_refused() -> None:
    with pytest.raises(ConfigError, match="no row in common"):
        compare_results(result(row("int8", 1.0)), result(row("fp16", 1.0)))


def test_the_original_is_itself_whatever_the_folder_is_called() -> None:
    old = result(timed("pytorch-fp32", *STEADY, model="runs/a"))
    new = result(timed("pytorch-fp32", *STEADY, model="runs/b"))
    assert len(compare_results(old, new).changes) == 1


def test_two_rows_of_one_name_are_refused() -> None:
    twice = result(row("int8", 1.0, model="a/m.onnx"), row("int8", 1.0, model="b/m.onnx"))
    with pytest.raises(ConfigError, match="bench files of different names"):
        compare_results(twice, twice)


def test_another_machine_or_version_is_warned_of() -> None:
    old = result(timed("int8", *STEADY))
    other = dataclasses.replace(old.environment, cpu="Other", versions={"onnxruntime": "1.33.0"})
    comparison = compare_results(old, dataclasses.replace(old, environment=other))
    assert comparison.warnings == ("CPU: CPU → Other", "onnxruntime: 1.32.0 → 1.33.0")


def written(path: Path, measured: BenchResult) -> Path:
    path.write_text(bench_json(measured), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("factor", "n", "code", "verdict"),
    [
        (1.0, 6, 0, "no row is surely more than 1.1× as slow as before"),
        (1.3, 6, 3, "regression: a row is surely more than 1.1× as slow"),
        (1.0, 3, 3, "too few windows to tell"),
    ],
)
def test_the_exit_code_is_for_a_build(
    tmp_path: Path, factor: float, n: int, code: int, verdict: str
) -> None:
    old = written(tmp_path / "old.json", result(timed("int8", *STEADY[:n])))
    new = written(tmp_path / "new.json", result(timed("int8", *scaled(factor)[:n])))
    out = tmp_path / "c.json"
    command = ["bench", "--compare", str(old), str(new), "--json", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == code, done.output
    assert verdict in done.stdout
    document = json.loads(out.read_text())
    assert document["regressed"] is (factor > 1.1)
    assert document["comparison"]["changes"][0]["slowdown"] == pytest.approx(factor, rel=0.01)


def test_comparing_measures_nothing_and_says_so(tmp_path: Path) -> None:
    old = str(written(tmp_path / "old.json", result(timed("int8", *STEADY))))
    done = CliRunner().invoke(app, ["bench", "m.onnx", "--compare", old, old])
    assert done.exit_code == 2
    assert "--compare measures nothing" in done.output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "no result of `kneeedge bench`"),
        ("[]", "no result of `kneeedge bench`"),
        ("no", "no result of `kneeedge bench`"),
        (OLD_FORMAT, "a result of format 1, and this kneeedge reads 2"),
    ],
)
def test_what_is_no_result_is_one_line_with_the_remedy(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        read_benchmark(tmp_path / "x.json")
    assert "measure again with `kneeedge bench" in str(caught.value)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    measured = result(timed("fp32", *STEADY), row("int8", 3.0), warnings=("w",))
    assert read_benchmark(written(tmp_path / "r.json", measured)) == measured
