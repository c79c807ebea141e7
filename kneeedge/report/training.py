"""The end of `kneeedge train`, with folds and without, and of `kneeedge slim`, in text."""

from pathlib import Path

from kneeedge.inference.metrics import Evaluation, classification_report
from kneeedge.model.certify import certified_text
from kneeedge.model.spec import DISCLAIMER
from kneeedge.model.verdict import PASS
from kneeedge.report.info import width_text
from kneeedge.report.scorecard import (
    TITLES,
    decision_line,
    figure_lines,
    figure_title,
    probability_line,
    score_figures,
    with_interval,
)
from kneeedge.runs.folder import Run
from kneeedge.runs.folds import FIGURES, FoldsReport
from kneeedge.runs.slim_report import SlimReport, Step
from kneeedge.system.plural import counted
from kneeedge.system.progress import duration

NONE_PASSED = (
    "the gate passed none of these: of those that seem within the tolerance the one with the "
    "fewest flips is taken, of equals the fastest, and where there is none, the one that loses "
    "least; `infer` takes its files only where they are named"
)
SLOWER = 1.05
"a measured latency beyond this share of the one asked for is said"


def run_text(run: Run, evaluations: dict[str, Evaluation], caveat: str = "") -> str:
    """The end of `kneeedge train`; `caveat` says why its figures are too good, where they are."""
    lines = []
    for split, evaluation in evaluations.items():
        images = counted(evaluation.n, "image")
        lines += [f"{split}: {images}", "", classification_report(evaluation), ""]
        lines += figure_lines(evaluation)
        lines += [decision_line(evaluation, split), probability_line(evaluation), ""]
    lines += filter(None, (certified_line(run), caveat, time_line(run.read_seconds())))
    next_step = f"run: {run.folder}   next: kneeedge export {run.folder}"
    return "\n".join([*lines, next_step, DISCLAIMER])


def time_line(seconds: dict[str, float]) -> str:
    """Where the time of a training went; empty where it is not known, as after a stop."""
    if not seconds:
        return ""
    steps = ", ".join(f"{step} {duration(value)}" for step, value in seconds.items())
    return f"training took {duration(sum(seconds.values()))}: {steps}"


def certified_line(run: Run) -> str:
    """What became of the certified limits that a run was asked for; empty where none were."""
    asked = run.read_config().config.certify
    certified = run.read_spec().certified
    if asked is None:
        return ""
    if certified is None:
        return f"NOT CERTIFIED: val does not show {asked}, and {run.report} says why"
    return f"certified: {certified_text(certified)}"


def folds_text(report: FoldsReport, folder: Path) -> str:
    """The end of `kneeedge train --folds K`."""
    n_folds = len(report.folds)
    pooled = report.pooled
    size = f"{counted(report.n_images, 'image')}, {counted(report.n_groups, 'group')}"
    lines = [f"{n_folds} folds by group: {size}, each tested once", ""]
    for name, score in report.folds.items():
        lines.append(f"{name}: {counted(score.n, 'image')}, {score_figures(score, FIGURES)}")
    lines.append("")
    for key, spread in report.spread.items():
        lines.append(
            f"{TITLES.get(key, key)}: mean {spread.mean:.4f}, standard deviation {spread.sd:.4f}, "
            f"{spread.lowest:.4f} to {spread.highest:.4f}"
        )
    lines += ["", f"all {pooled.n:,} out-of-fold answers as one set, 95 % intervals:"]
    for key in FIGURES:
        if key in pooled.estimates:
            estimate = pooled.estimates[key]
            figure = with_interval(estimate.value, estimate.interval)
            lines.append(f"  {figure_title(key, pooled)} {figure} ({estimate.method})")
    caution = (
        "folds share training images: the spread understates what other data would change "
        "(Bengio and Grandvalet 2004)"
    )
    remedy = "a model to export is trained without --folds, on all the data"
    place = f"folds: {folder}   {remedy}; runs/latest is unchanged"
    return "\n".join([*lines, "", caution, place, DISCLAIMER])


def slim_text(report: SlimReport, folder: Path) -> str:
    """Each width that was tried, the gate's word on it, and which was taken."""
    original = report.original.original
    images = next((step.images for step in report.steps), "") or "the validation images"
    lines = [f"original: {original}   int8 files against it on {images}", ""]
    for step in report.steps:
        lines += step_lines(step, step.name == report.chosen)
    taken = [step for step in report.steps if step.name == report.chosen]
    if any(step.verdict != PASS for step in taken):
        lines += ["", NONE_PASSED]
    if report.config.curve:
        run = Run(folder)
        lines += ["", f"accuracy against latency: {run.curve_figure}, {run.curve}"]
    lines += ["", f"run: {folder}   next: kneeedge bench --run {folder}", DISCLAIMER]
    return "\n".join(lines)


def step_lines(step: Step, is_taken: bool) -> list[str]:
    """One width that was tried."""
    mark = "  ← taken" if is_taken else ""
    lines = [
        f"{step.verdict.upper()}  {step.name}{mark}",
        f"  {step.reason}",
        (
            f"  {step.measured_ms:.3g} ms an image (expected {step.expected_ms:.3g}, "
            f"{step.expected_speedup:.1f}× the original's int8); {step.size_mb:.1f} MB; "
            f"{step.flips} of {step.n} answers changed, accuracy {step.accuracy_change:+.4f}"
        ),
        f"  channels {width_text(step.channels)}",
    ]
    if step.measured_ms > SLOWER * step.asked_ms:
        lines.append(
            f"  slower than the {step.asked_ms:.3g} ms asked for; "
            "ask for less to have it, on a quiet machine"
        )
    return lines
