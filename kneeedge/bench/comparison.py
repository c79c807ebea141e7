"""Two benchmarks of the same models: how many times as slow is each row now, and is that more than
noise?

The unit is the window, one turn of a row, since runs within a turn share the moment's clocks and
neighbours. The estimate is Hodges and Lehmann's on the logarithms of the windows' times, its
interval that of the Wilcoxon rank sum (Hollander & Wolfe 1999, Nonparametric Statistical Methods,
section 4.3): exact whatever the distribution, if only the level moved. It does not know what moves
between two starts of the command, so a limit on a slow-down is to be some percent above 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.text import Text

from kneeedge.bench.page import rich_table
from kneeedge.bench.sheets import NONE, Sheet, short
from kneeedge.bench.windows import window_times
from kneeedge.errors import ConfigError
from kneeedge.runs.answers import ORIGINAL
from kneeedge.runs.benchmark import BenchResult, Row
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.percentiles import TAIL

SAME, FASTER, SLOWER, REGRESSION, UNKNOWN = (
    "no change",
    "faster",
    "slower",
    "REGRESSION",
    "cannot tell",
)
MAX_SLOWDOWN = 1.10
ENOUGH_ROUNDS = 4
"fewer windows than this in both results give no 95 % interval"
Key = tuple[str, str, str, str, int]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row in both results."""

    model: str
    precision: str
    provider: str
    scenario: str
    batch_size: int
    old_ms: float
    "time of a run in the median window"
    new_ms: float
    slowdown: float
    "new time over old; below 1 is faster"
    interval: Interval | None
    "95 %; absent with too few windows"
    verdict: str
    "no change, faster, slower, REGRESSION (surely slower than allowed) or cannot tell"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows of both results."""

    max_slowdown: float
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    "rows that the new result lacks"
    only_new: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        return any(change.verdict == REGRESSION for change in self.changes)

    @property
    def n_unknown(self) -> int:
        """Rows of too few windows: no regression could show in them."""
        return sum(change.verdict == UNKNOWN for change in self.changes)


def compare_results(
    old: BenchResult, new: BenchResult, max_slowdown: float = MAX_SLOWDOWN
) -> Comparison:
    """Each row of one beside its like in the other. Raises ConfigError where there is no such pair."""
    if not max_slowdown >= 1.0:
        raise ConfigError(
            f"--max-slowdown {max_slowdown} forbids what is no slower", "give 1 or more, as 1.10"
        )
    before = by_key(old)
    after = by_key(new)
    both = [key for key in before if key in after]
    if not both:
        raise ConfigError(
            "the two results have no row in common",
            "bench the same files, providers and batch sizes",
        )
    changes = tuple(change_of(before[key], after[key], max_slowdown) for key in both)
    only_old, only_new = (
        tuple(" ".join(map(str, key)).strip() for key in here if key not in there)
        for here, there in ((before, after), (after, before))
    )
    return Comparison(
        max_slowdown=max_slowdown,
        changes=changes,
        only_old=only_old,
        only_new=only_new,
        warnings=tuple(differences(old, new)),
    )


def by_key(result: BenchResult) -> dict[Key, Row]:
    """Rows by what makes them the same in two results; a model is known by its file's name."""
    found: dict[Key, Row] = {}
    for row in result.results:
        name = "" if row.precision == ORIGINAL else Path(row.model).name
        key = (name, row.precision, row.provider, row.scenario, row.batch_size)
        if key in found:
            raise ConfigError(
                f"two rows are {' '.join(map(str, key))}", "bench files of different names"
            )
        found[key] = row
    return found


def change_of(old: Row, new: Row, max_slowdown: float) -> Change:
    """How the time of a row changed."""
    before, after = (window_times(row.samples, row.windows, row.scenario) for row in (old, new))
    ratio, interval = ratio_of(before, after)
    return Change(
        model=Path(new.model).name,
        precision=new.precision,
        provider=new.provider,
        scenario=new.scenario,
        batch_size=new.batch_size,
        old_ms=round(float(np.median(before)), 4),
        new_ms=round(float(np.median(after)), 4),
        slowdown=ratio,
        interval=interval,
        verdict=verdict_of(interval, max_slowdown),
    )


def verdict_of(interval: Interval | None, max_slowdown: float) -> str:
    """A regression only where the whole interval lies beyond the limit: noise alone is to fail
    nobody's build.
    """
    if interval is None:
        return UNKNOWN
    if interval.low > max_slowdown:
        return REGRESSION
    return SLOWER if interval.low > 1 else FASTER if interval.high < 1 else SAME


def ratio_of(before: Sequence[float], after: Sequence[float]) -> tuple[float, Interval | None]:
    """The second's level over the first's, and its 95 % interval; None where the windows are too
    few for one.
    """
    logs = np.subtract.outer(np.log(after), np.log(before)).ravel()
    logs.sort()
    ratio = round(math.exp(float(np.median(logs))), 4)
    rank = lower_rank(len(before), len(after))
    if rank == 0:
        return ratio, None
    return ratio, Interval(round(math.exp(logs[rank - 1]), 4), round(math.exp(logs[-rank]), 4))


def lower_rank(m: int, n: int) -> int:
    """The largest c with P(U < c) ≤ 2.5 %, where U is the rank-sum statistic of m and n alike
    values; 0 without one.
    """
    counts = np.zeros(
        m * n + 1
    )  # orderings with U = u, by Gauss's product for the binomial coefficient
    counts[0] = 1.0
    for i in range(1, m + 1):
        counts = _times(counts, n + i, i)
    return int(np.searchsorted(np.cumsum(counts) / math.comb(m + n, m), TAIL, side="right"))


def _times(counts: np.ndarray, up: int, down: int) -> np.ndarray:
    """The polynomial `counts` times (1 - x^up) / (1 - x^down)."""
    found = counts.copy()
    found[up:] -= counts[:-up] if up < len(counts) else 0
    for u in range(down, len(found)):
        found[u] += found[u - down]
    return found


def differences(old: BenchResult, new: BenchResult) -> list[str]:
    """What differs between the two beside the models, so that a ratio may come from it."""
    a = old.environment
    b = new.environment
    found = []
    pairs = [
        ("CPU", a.cpu, b.cpu),
        ("cores", a.n_cpus, b.n_cpus),
        ("instruction sets", a.isa, b.isa),
        ("GPU", [gpu.name for gpu in a.gpus], [gpu.name for gpu in b.gpus]),
        ("threads", old.results[0].threads, new.results[0].threads),
        ("inputs", old.results[0].inputs, new.results[0].inputs),
        ("processes", old.processes.partition(",")[0], new.processes.partition(",")[0]),
    ]
    pairs += [
        (name, a.versions.get(name), b.versions.get(name)) for name in {**a.versions, **b.versions}
    ]
    for what, first, second in pairs:
        if first != second:
            found.append(f"{what}: {_plain(first)} → {_plain(second)}")
    return found


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def changes_table(found: Comparison) -> Group:
    """A line for each row of both results, then what is in one of them alone, and the verdict."""
    lines = [f"only in the old result: {name}" for name in found.only_old]
    lines += [f"only in the new result: {name}" for name in found.only_new]
    if found.warnings:
        lines.append(f"warning: not the same {'; '.join(found.warnings)}")
    return Group(rich_table(changes_sheet(found)), "", *map(Text, [*lines, closing_line(found)]))


def changes_sheet(found: Comparison) -> Sheet:
    """Old and new time of a run, and their ratio."""
    rows = []
    for one in found.changes:
        span = (
            NONE if one.interval is None else f"[{one.interval.low:.3f}, {one.interval.high:.3f}]"
        )
        names = (one.model, one.precision, one.provider, one.scenario)
        figures = (
            str(one.batch_size),
            short(one.old_ms),
            short(one.new_ms),
            f"{one.slowdown:.3f}",
            span,
            one.verdict,
        )
        rows.append((*names, *figures))
    heads = ("batch", "old ms", "new ms", "new/old", "[95 %]", "verdict")
    return Sheet(
        title="",
        names=("model", "precision", "provider", "scenario"),
        figures=heads,
        rows=tuple(rows),
    )


def closing_line(found: Comparison) -> str:
    """The verdict on all rows."""
    worst = max(found.changes, key=lambda change: change.slowdown)
    if found.regressed:
        return f"regression: a row is surely more than {found.max_slowdown:g}× as slow as before"
    if found.n_unknown:
        return f"{found.n_unknown} rows have too few windows to tell: bench both with --rounds {ENOUGH_ROUNDS} or more"
    return f"no row is surely more than {found.max_slowdown:g}× as slow as before (largest ratio {worst.slowdown:.2f})"
