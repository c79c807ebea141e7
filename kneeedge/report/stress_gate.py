"""Under corruption: what `export --stress` prints of its gate, and the card's section."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kneeedge.report.markdown import table
from kneeedge.report.stress import kind_lines
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.report.card_facts import CardFacts
    from kneeedge.runs.export_report import VerifyReport
    from kneeedge.stress.record import KindChange, StressGate

NOT_ASKED = (
    "Not measured: ask with `kneeedge export --stress`, or measure with "
    "`kneeedge stress MODEL… DATA`."
)


def gate_lines(gate: "StressGate") -> list[str]:
    """The verdict under corruption, its reason, and where answers flipped."""
    images = counted(gate.n, f"{gate.split} image")
    where = f"{images} in {len(gate.kinds)} ways at severity {gate.severity}"
    lines = [f"  under corruption, {where}: {gate.verdict}; {gate.reason}"]
    flips = {kind.kind: kind.change.flips for kind in gate.kinds if kind.change.flips}
    if flips:
        listed = ", ".join(f"{name} {count}" for name, count in flips.items())
        n_without = len(gate.kinds) - len(flips)
        lines.append(f"    flips: {listed}; none under the other {n_without}")
    costly = sorted(gate.kinds, key=lambda kind: kind.original)[:3]
    named = ", ".join(
        f"{kind.kind} {kind.original:.3f} → {kind.variant:.3f} "
        f"({kind.original_refused:.0%} refused)"
        for kind in costly
    )
    lines.append(f"    lowest accuracies, original → this: {named}")
    if gate.images_to_settle:
        n = f"{gate.images_to_settle:,} {gate.split} images"
        lines.append(f"    about {n} would settle the worst kind alone, at its rate of flips")
    return lines


def under_corruption(facts: "CardFacts") -> list[str]:
    """The section of the card: what the gate saw, and the last stress test of the run's files."""
    gate = gate_rows(facts.variants, facts.source)
    test = kind_lines(facts.stress, facts.hashes)
    between = [""] if gate and test else []
    return [*gate, *between, *test] or [NOT_ASKED]


def gate_rows(variants: Sequence["VerifyReport"], source: str) -> list[str]:
    """A row for each kind: the original's accuracy and refusals, and each variant's change.

    None where the export did not ask for it.
    """
    gates = {report.precision: report.stress for report in variants if report.stress}
    if not gates:
        return []
    first = next(iter(gates.values()))
    heads = ["kind", "original", "refused"]
    for precision in gates:
        heads += [f"{precision}: change [95 %]", "flips"]
    rows = []
    for i, kind in enumerate(first.kinds):
        row = [kind.kind, f"{kind.original:.3f}", f"{kind.original_refused:.0%}"]
        for gate in gates.values():
            row += _change_cells(gate.kinds[i])
        rows.append(row)
    images = f"{first.n:,} {first.split} images of {source}, severity {first.severity} of 5"
    verdicts = [
        f"- {precision}: {gate.verdict}; {gate.reason}" for precision, gate in gates.items()
    ]
    return [
        (
            f"Accuracy on {images} where a kind has several, as if none were refused; changes in "
            f"points against the original on the same corrupted images; tolerance "
            f"{first.tolerance:.2%} under each."
        ),
        "",
        *table(heads, rows),
        "",
        *verdicts,
    ]


def _change_cells(kind: "KindChange") -> list[str]:
    change = kind.change
    span = f"[{100 * change.interval.low:+.1f}, {100 * change.interval.high:+.1f}]"
    return [f"{100 * change.delta:+.1f} {span}", str(change.flips)]
