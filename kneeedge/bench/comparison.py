"""Two benchmarks of the same models: is a row slower now, how much, and is that more than noise?

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

from kneeedge.bench.page import FittingTable
from kneeedge.bench.sheets import NONE, Sheet, short
from kneeedge.bench.windows import window_times
from kneeedge.errors import ConfigError
from kneeedge.runs.answers import ORIGINAL
from kneeedge.runs.benchmark import BenchResult, Row
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.percentiles import TAIL
from kneeedge.system.plural import counted

SAME = "no change"
FASTER = "faster"
SLOWER = "slower"
REGRESSION = "REGRESSION"
UNKNOWN = "cannot tell"
MAX_SLOWDOWN = 1.10
ENOUGH_ROUNDS = 4
"fewer windows than this in both results give no 95 % interval"
Key = tuple[str, str, str, str, int]
"file name (empty for the original), precision, provider, scenario and batch size"


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
        """Whether a row is surely slower than allowed."""
        return any(change.verdict == REGRESSION for change in self.changes)

    @property
    def n_unknown(self) -> int:
        """Rows of too few windows: no regression could show in them."""
        return sum(change.verdict == UNKNOWN for change in self.changes)


def compare_results(
    old: BenchResult, new: BenchResult, max_slowdown: float = MAX_SLOWDOWN
) -> Comparison:
    """Each row of one result beside its like in the other.

    Raises ConfigError where no row has its like, two rows of a result are alike, or `max_slowdown`
    is below 1.
    """
    if not max_slowdown >= 1.0:
        problem = f"--max-slowdown {max_slowdown} forbids what is no slower"
        raise ConfigError(problem, "give 1 or more, as 1.10")
    old_rows = rows_by_key(old)
    new_rows = rows_by_key(new)
    common = [key for key in old_rows if key in new_rows]
    if not common:
        problem = "the two results have no row in common"
        raise ConfigError(problem, "bench the same files, providers and batch sizes")
    return Comparison(
        max_slowdown=max_slowdown,
        changes=tuple(change_of(old_rows[key], new_rows[key], max_slowdown) for key in common),
        only_old=tuple(_text(key).strip() for key in old_rows if key not in new_rows),
        only_new=tuple(_text(key).strip() for key in new_rows if key not in old_rows),
        warnings=tuple(differences(old, new)),
    )


def changes_table(comparison: Comparison) -> Group:
    """A line for each row of both results, then what is in one of them alone, and the verdict."""
    lines = [f"only in the old result: {name}" for name in comparison.only_old]
    lines += [f"only in the new result: {name}" for name in comparison.only_new]
    if comparison.warnings:
        lines.append(f"warning: not the same {'; '.join(comparison.warnings)}")
    lines.append(closing_line(comparison))
    return Group(FittingTable(changes_sheet(comparison)), "", *map(Text, lines))


def changes_sheet(comparison: Comparison) -> Sheet:
    """Old and new time of a run, and their ratio."""
    rows = []
    for change in comparison.changes:
        interval = NONE
        if change.interval is not None:
            interval = f"[{change.interval.low:.3f}, {change.interval.high:.3f}]"
        cells = (
            change.model,
            change.precision,
            change.provider,
            change.scenario,
            str(change.batch_size),
            short(change.old_ms),
            short(change.new_ms),
            f"{change.slowdown:.3f}",
            interval,
            change.verdict,
        )
        rows.append(cells)
    names = ("model", "precision", "provider", "scenario")
    heads = ("batch", "old ms", "new ms", "new/old", "[95 %]", "verdict")
    return Sheet(title="", names=names, figures=heads, rows=tuple(rows))


def closing_line(comparison: Comparison) -> str:
    """The verdict on all rows."""
    limit = f"{comparison.max_slowdown:g}× as slow as before"
    if comparison.regressed:
        return f"regression: a row is surely more than {limit}"
    if comparison.n_unknown:
        remedy = f"bench both with --rounds {ENOUGH_ROUNDS} or more"
        return f"{counted(comparison.n_unknown, 'row')} with too few windows to tell: {remedy}"
    largest = max(change.slowdown for change in comparison.changes)
    return f"no row is surely more than {limit} (largest ratio {largest:.2f})"


def rows_by_key(result: BenchResult) -> dict[Key, Row]:
    """Rows by what makes them the same in two results; a model is known by its file's name."""
    rows: dict[Key, Row] = {}
    for row in result.results:
        name = "" if row.precision == ORIGINAL else Path(row.model).name
        key = (name, row.precision, row.provider, row.scenario, row.batch_size)
        if key in rows:
            raise ConfigError(f"two rows are {_text(key)}", "bench files of different names")
        rows[key] = row
    return rows


def change_of(old: Row, new: Row, max_slowdown: float) -> Change:
    """How the time of a row changed."""
    before = window_times(old.samples, old.windows, old.scenario)
    after = window_times(new.samples, new.windows, new.scenario)
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
    """What the interval of the ratio says.

    A regression only where the whole interval lies beyond the limit: noise alone is to fail
    nobody's build.
    """
    if interval is None:
        return UNKNOWN
    if interval.low > max_slowdown:
        return REGRESSION
    if interval.low > 1:
        return SLOWER
    return FASTER if interval.high < 1 else SAME


def ratio_of(before: Sequence[float], after: Sequence[float]) -> tuple[float, Interval | None]:
    """The level of the times after over that before, and its 95 % interval.

    No interval where the windows are too few for one.
    """
    logs = np.subtract.outer(np.log(after), np.log(before)).ravel()
    logs.sort()
    ratio = round(math.exp(float(np.median(logs))), 4)
    rank = lower_rank(len(before), len(after))
    if rank == 0:
        return ratio, None
    low = math.exp(logs[rank - 1])
    high = math.exp(logs[-rank])
    return ratio, Interval(round(low, 4), round(high, 4))


def lower_rank(m: int, n: int) -> int:
    """The largest c with P(U < c) ≤ 2.5 %, of the rank-sum statistic U of m and n alike values.

    0 where the values are too few for such a c.
    """
    # orderings with U = u, by Gauss's product for the binomial coefficient
    counts = np.zeros(m * n + 1)
    counts[0] = 1.0
    for i in range(1, m + 1):
        counts = _multiply(counts, n + i, i)
    chances = np.cumsum(counts) / math.comb(m + n, m)
    return int(np.searchsorted(chances, TAIL, side="right"))


def _multiply(counts: np.ndarray, up: int, down: int) -> np.ndarray:
    """The polynomial `counts` times (1 - x^up) / (1 - x^down)."""
    product = counts.copy()
    if up < len(counts):
        product[up:] -= counts[:-up]
    for u in range(down, len(product)):
        product[u] += product[u - down]
    return product


def differences(old: BenchResult, new: BenchResult) -> list[str]:
    """What differs between the two beside the models, so that a ratio may come from it."""
    before = _circumstances(old)
    after = _circumstances(new)
    changed = []
    for name in {**before, **after}:
        first = before.get(name)
        second = after.get(name)
        if first != second:
            changed.append(f"{name}: {_plain(first)} → {_plain(second)}")
    return changed


def _circumstances(result: BenchResult) -> dict[str, object]:
    """What beside its model may make a row fast or slow."""
    environment = result.environment
    first = result.results[0]
    return {
        "CPU": environment.cpu,
        "cores": environment.n_cpus,
        "instruction sets": environment.isa,
        "GPU": [gpu.name for gpu in environment.gpus],
        "threads": first.threads,
        "inputs": first.inputs,
        "processes": result.processes.partition(",")[0],
        **environment.versions,
    }


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _text(key: Key) -> str:
    return " ".join(map(str, key))
