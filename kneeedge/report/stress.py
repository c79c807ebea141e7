"""What `kneeedge stress` prints, and the same as Markdown."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.model.spec import DISCLAIMER
from kneeedge.pixels.corruptions import kind_named
from kneeedge.report.markdown import table
from kneeedge.report.scorecard import leak_line
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.statistics.intervals import Estimate, Interval
    from kneeedge.stress.record import CellPairing, CellScore, StressedModel, StressReport

HEADS = (
    "kind", "severity", "accuracy [95 %]", "AUROC [95 %]", "sensitivity [95 %]",
    "specificity [95 %]", "ECE", "refused [95 %]",
)  # fmt: skip
PAIRED_HEADS = ("flips", "change [95 %]", "loses more [95 %]")
LARGE_LOSS = 0.05
"of accuracy, from which a kind is named"
FEW_REFUSED = 0.5
"share of the images, below which the refusal does not catch a corruption"
N_NAMED = 6


def stress_text(report: "StressReport") -> str:
    """Every model's table, and which kinds cost much and are not refused."""
    lines = [_head(report), ""]
    for model in report.models:
        lines += [model_line(model), *_aligned(_heads(model), rows_of(model)), ""]
        lines += [*conclusion_lines(model), ""]
    return "\n".join([*lines, *_notes(report), DISCLAIMER])


def stress_markdown(report: "StressReport") -> str:
    """The same, with a table of Markdown for each model."""
    lines = []
    for model in report.models:
        lines += [f"### {model_line(model)}", "", *table(_heads(model), rows_of(model)), ""]
        lines += [f"- {line.strip()}" for line in conclusion_lines(model)]
        lines += [""]
    lines += [f"- {_head(report)}", *(f"- {note}" for note in _notes(report))]
    lines += [f"- machine: {report.environment.cpu}, {report.threads} threads"]
    return "\n".join([*lines, "", DISCLAIMER, ""])


def _head(report: "StressReport") -> str:
    n_cells = report.n_pictures // report.n
    first = Path(report.models[0].model).name
    beside = f"; the others are held against {first}" if len(report.models) > 1 else ""
    images = counted(report.n, "image")
    return f"{report.data}, {report.split}: {images}, each in {n_cells} ways{beside}"


def model_line(model: "StressedModel") -> str:
    """Which file on what, and whether it knows the images."""
    file = f"{Path(model.model).name} ({model.model_sha256[:SHOWN_DIGITS]})"
    return f"{file}: {model.precision} on {model.provider}; {leak_line(model.n_seen)}"


def _heads(model: "StressedModel") -> tuple[str, ...]:
    return HEADS + PAIRED_HEADS if model.clean.paired else HEADS


def rows_of(model: "StressedModel") -> Iterator[list[str]]:
    """What `_heads` name, of each cell."""
    for row in model.rows:
        cells = [
            row.kind,
            severity_text(row),
            shown(row.accuracy),
            shown(row.auroc),
            shown(row.sensitivity),
            shown(row.specificity),
            f"{row.ece:.3f}",
            f"{row.refused.value:.0%} {percent_span(row.refused.interval)}",
        ]
        if row.paired:
            cells += paired_cells(row.paired)
        if row is model.clean and row.paired:
            cells[-1] = ""  # by definition none
        yield cells


def kind_lines(report: "StressReport | None", hashes: frozenset[str]) -> list[str]:
    """The section of a card in Markdown: a row for each kind, its severities beside one another.

    `hashes` are those of the run's files as they are now. None where nothing was measured.
    """
    if report is None:
        return []
    first, *others = report.models
    if first.model_sha256 not in hashes:
        return ["Measured with a file that the run no longer has: run `kneeedge stress` again."]
    heads = ["kind", "severities", "accuracy", "refused, %", "wrong and not refused, %"]
    heads += [f"flips of {Path(model.model).name}" for model in others]
    rows = [_kind_cells([model.of_kind(kind) for model in report.models]) for kind in first.kinds]
    clean = _kind_cells([(model.clean,) for model in report.models])
    source = (
        f"`{Path(first.model).name}` ({first.model_sha256[:SHOWN_DIGITS]}) on {report.split} of "
        f"`{Path(report.data).name}`, {report.n:,} images, as if none were refused."
    )
    remarks = [f"- {line.strip()}" for line in conclusion_lines(first)]
    return [source, "", *table(heads, [clean, *rows]), "", *remarks]


def _kind_cells(rows_of_models: Sequence[Sequence["CellScore"]]) -> list[str]:
    """One kind: the first model's figures at each severity, and the flips of the others."""
    rows, *others = rows_of_models
    columns = [
        [severity_text(row).partition(" ")[0] for row in rows],
        [f"{row.accuracy.value:.3f}" for row in rows],
        [f"{100 * row.refused.value:.0f}" for row in rows],
        [f"{100 * row.wrong_unrefused:.1f}" for row in rows],
    ]
    columns += [[str(row.paired.change.flips) for row in of if row.paired] for of in others]
    return [rows[0].kind, *(" · ".join(cells) for cells in columns)]


def severity_text(row: "CellScore") -> str:
    """3 (13), the level behind the severity; alone for a kind that is there or is not."""
    if row.level is None:
        return ""
    is_graded = len(kind_named(row.kind).levels) > 1
    return f"{row.severity} ({row.level:g})" if is_graded else "whole"


def shown(estimate: "Estimate | None") -> str:
    """0.972 [0.953, 0.984], or none."""
    if estimate is None:
        return "none"
    low, high = estimate.interval.low, estimate.interval.high
    return f"{estimate.value:.3f} [{low:.3f}, {high:.3f}]"


def percent_span(interval: "Interval") -> str:
    """[3, 12]: percent."""
    return f"[{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def paired_cells(paired: "CellPairing") -> list[str]:
    """Flips, change of the accuracy, and how much more is lost than on clean images: in points."""
    change = paired.change
    low, high = change.interval.low, change.interval.high
    extra = paired.extra_interval
    return [
        f"{change.flips}",
        f"{100 * change.delta:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
        f"{100 * paired.extra_loss:+.1f} [{100 * extra.low:+.1f}, {100 * extra.high:+.1f}]",
    ]


def conclusion_lines(model: "StressedModel") -> list[str]:
    """From which severity each kind costs much, and where that is not refused."""
    costly = [row for row in model.rows if is_costly(row)]
    first: dict[str, CellScore] = {}
    for row in costly:
        first.setdefault(row.kind, row)
    limit = f"{LARGE_LOSS:.0%} of accuracy or more"
    if not first:
        return [f"  no kind costs {limit}"]
    lines = [f"  {limit} lost: {'; '.join(map(costly_text, first.values()))}"]
    unrefused = [row for row in costly if row.refused.value < FEW_REFUSED]
    unrefused.sort(key=lambda row: -row.wrong_unrefused)
    if unrefused:
        named = [
            f"{row.kind} {severity_text(row)}: {row.wrong_unrefused:.1%} wrong and not refused"
            for row in unrefused[:N_NAMED]
        ]
        more = len(unrefused) - len(named)
        lines.append(
            f"  of these, mostly not refused: {'; '.join(named)}{f'; {more} more' * (more > 0)}"
        )
    return lines


def is_costly(row: "CellScore") -> bool:
    return row.loss >= LARGE_LOSS


def costly_text(row: "CellScore") -> str:
    """Blur from 3 (0.75) on, −7.6 points, refused 51%."""
    words = severity_text(row)
    since = f" from {words} on" if words != "whole" else ""
    points = f"{100 * row.loss:.1f} points"
    return f"{row.kind}{since}, {points} there, {row.refused.value:.0%} refused"


def _notes(report: "StressReport") -> list[str]:
    whose = f"accuracy, sensitivity (of {report.positive}) and the like are of all images"
    notes = [f"{whose}, at the locked threshold, as if none were refused"]
    if len(report.models) > 1:
        notes.append(
            "change: accuracy less the first model's on the same corrupted images (Tango 1998); "
            "loses more: its loss from clean to corrupted less the first model's; both in points"
        )
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in report.seconds.items())
    return [*notes, f"time: {seconds} on {report.environment.cpu}, {report.threads} threads"]


def _aligned(heads: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    """A table whose columns are as wide as their widest cell."""
    cells = [list(heads), *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
