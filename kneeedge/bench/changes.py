"""What `kneeedge bench --compare` prints."""

from rich.console import Group
from rich.text import Text

from kneeedge.bench.compare import ENOUGH_ROUNDS, Comparison
from kneeedge.bench.page import rich_table
from kneeedge.bench.sheets import NONE, Sheet, short


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
        span = NONE if one.interval is None else f"[{one.interval.low:.3f}, {one.interval.high:.3f}]"
        names = (one.model, one.precision, one.provider, one.scenario)
        figures = (str(one.batch_size), short(one.old_ms), short(one.new_ms), f"{one.slowdown:.3f}", span, one.verdict)
        rows.append((*names, *figures))
    heads = ("batch", "old ms", "new ms", "new/old", "[95 %]", "verdict")
    return Sheet("", ("model", "precision", "provider", "scenario"), heads, tuple(rows))


def closing_line(found: Comparison) -> str:
    """The verdict on all rows."""
    worst = max(found.changes, key=lambda change: change.slowdown)
    if found.regressed:
        return f"regression: a row is surely more than {found.max_slowdown:g}× as slow as before"
    if found.n_unknown:
        return f"{found.n_unknown} rows have too few windows to tell: bench both with --rounds {ENOUGH_ROUNDS} or more"
    return f"no row is surely more than {found.max_slowdown:g}× as slow as before (largest ratio {worst.slowdown:.2f})"
