"""What `kneeedge runs` prints: the runs of a folder, and two runs beside each other."""

from collections.abc import Sequence

from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.export import auroc_text, change_text
from kneeedge.report.scorecard import score_figures
from kneeedge.runs.compare import RunComparison
from kneeedge.runs.overview import FINISHED, FOLDS, STUDY, FileSummary, RunSummary, n_unusable
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

SHOWN = ("accuracy", "auroc")


def runs_text(summaries: Sequence[RunSummary]) -> str:
    """A few lines on each run, and how many cannot be used."""
    lines: list[str] = []
    for summary in summaries:
        lines += [*run_lines(summary), ""]
    folders = counted(len(summaries), "folder")
    counts = f"{folders}, {n_unusable(summaries)} of them unfinished or broken"
    hint = "two compared, paired: kneeedge runs RUN RUN"
    return "\n".join([*lines, f"{counts}   {hint}", DISCLAIMER])


def run_lines(summary: RunSummary) -> list[str]:
    """One run."""
    mark = "  ← latest" if summary.is_latest else ""
    if summary.state == STUDY:
        return [
            f"{summary.folder}  a study of `kneeedge tune`",
            f"  {summary.finished}; data {summary.data_sha256[:SHOWN_DIGITS]}; {summary.verdict}",
        ]
    if summary.state not in (FINISHED, FOLDS):
        return [f"{summary.folder}{mark}  {summary.state.upper()}: {summary.problem}"]
    facts = [summary.finished, f"{', '.join(summary.classes)}, positive {summary.positive}"]
    facts.append(f"splits: {summary.protocol}")
    if summary.data_sha256:
        facts.append(f"data {summary.data_sha256[:SHOWN_DIGITS]}")
    if summary.slimmed_from:
        facts.append(f"slimmed from {summary.slimmed_from}")
    lines = [f"{summary.folder}{mark}", f"  {'; '.join(facts)}"]
    if summary.caveat:
        lines.append(f"  {summary.caveat}")
    for split, score in summary.scores.items():
        lines.append(f"  {split}: {score_figures(score, SHOWN)} ({counted(score.n, 'image')})")
    lines += map(file_line, summary.files)
    if summary.state == FINISHED and not summary.files:
        lines.append(f"  nothing is exported: kneeedge export {summary.folder}")
    return lines


def file_line(file: FileSummary) -> str:
    """One exported file."""
    problem = f"  {file.problem.upper()}" if file.problem else ""
    verdict = f"{file.verdict} on {file.images}"
    return f"  {file.name}  {verdict}  {file.sha256[:SHOWN_DIGITS]}{problem}"


def comparison_text(comparison: RunComparison) -> str:
    """What the second run changes on the images of both, or why that cannot be said."""
    pair = f"{comparison.first} → {comparison.second}"
    if comparison.reason:
        lines = [
            f"{pair}: cannot be paired; {comparison.reason}",
            "each run's own figures are of its own images: their difference would mix the two",
        ]
        return "\n".join([*lines, DISCLAIMER])
    first, second = comparison.scores
    change = comparison.changes["accuracy"]
    lines = [
        f"{pair}, the same {comparison.n:,} {comparison.split} images, PyTorch, paired",
        f"  first   {score_figures(first, SHOWN)}",
        f"  second  {score_figures(second, SHOWN)}",
        f"  accuracy: {change_text(change)}, McNemar p {change.mcnemar_p:.3f}",
    ]
    for name in ("sensitivity", "specificity"):
        if name in comparison.changes:
            of_class = comparison.changes[name]
            lines.append(f"  {name}: {change_text(of_class)} on {counted(of_class.n, 'image')}")
    if comparison.auroc_change is not None:
        lines.append(f"  {auroc_text(comparison.auroc_change, comparison.auroc_interval)}")
    lines.append(
        f"  answers that differ: {change.flips:,}; {change.lost:,} right to wrong, "
        f"{change.gained:,} wrong to right"
    )
    lines += [f"  caution: {caution}" for caution in comparison.cautions]
    lines.append(f"  intervals: 95 %, {methods_text(comparison.n_groups)}")
    return "\n".join([*lines, DISCLAIMER])


def methods_text(n_groups: int | None) -> str:
    """By whom the intervals of paired changes are, over so many groups of images."""
    if n_groups is None:
        return "Tango 1998; AUROC by DeLong 1988"
    groups = f"over {n_groups:,} groups of images of one patient, or copies"
    how = "Tango 1998 at the effective number of images; AUROC by Obuchowski 1997"
    return f"{groups}: {how}"
