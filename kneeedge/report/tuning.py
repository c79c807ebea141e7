"""The end of `kneeedge tune` in text."""

from pathlib import Path

from kneeedge.model.spec import DISCLAIMER
from kneeedge.runs.tuning import BETTER, PRUNED, Change, Study, Trial, TuneReport

TITLES = {
    "log_loss": "log loss (less is better)", "auroc": "AUROC", "accuracy": "accuracy"
}  # fmt: skip
N_IMPORTANT = 5
"fields that are named for their importance"


def tune_text(report: TuneReport, folder: Path) -> str:
    """What was tried, the best recipe beside the default's, what that is worth, what to do."""
    best = trial_of(report, report.best)
    default = trial_of(report, 0)
    n_complete = sum(trial.value is not None for trial in report.trials)
    n_pruned = sum(trial.state == PRUNED for trial in report.trials)
    n_failed = len(report.trials) - n_complete - n_pruned
    failed = f", {n_failed} failed" if n_failed else ""
    lines = [
        (
            f"{len(report.trials)} trials: {n_complete} complete, {n_pruned} pruned{failed}; "
            f"{report.config.folds} folds by group"
        ),
        (
            f"log loss of the folds: default {default.value:.4f}, best {best.value:.4f} "
            f"(trial {best.number}), which flatters the best: it was chosen by it"
        ),
        "",
        *recipe_lines(report, default, best),
        "",
        *worth_lines(report),
    ]
    if report.importance:
        shown = list(report.importance.items())[:N_IMPORTANT]
        text = ", ".join(f"{name} {share:.0%}" for name, share in shown)
        lines += ["", f"what mattered in the search: {text}"]
    return "\n".join([*lines, "", next_line(report, folder), DISCLAIMER])


def trial_of(report: TuneReport, number: int) -> Trial:
    (trial,) = [trial for trial in report.trials if trial.number == number]
    return trial


def recipe_lines(report: TuneReport, default: Trial, best: Trial) -> list[str]:
    """Each searched field of the best recipe beside the default's."""
    if len(report.trials) == 1:
        return ["the default alone was tried: nothing was searched"]
    if best.number == default.number:
        return ["no recipe that was tried did better than the default"]
    before = default.fields.values
    after = best.fields.values
    width = max(map(len, report.space))
    return [
        f"  {name:<{width}}  {number_text(before[name]):>9} → {number_text(after[name])}"
        for name in report.space
    ]


def number_text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "none"


def worth_lines(report: TuneReport) -> list[str]:
    """The verdict, and each figure of both recipes on the images that the search did not see."""
    confirmation = report.confirmation
    lines = [f"what the search was worth: {confirmation.worth.line}"]
    for name, change in confirmation.changes.items():
        lines.append(f"  {TITLES[name]}: {change_text(change)}")
    if confirmation.changes:
        gain = confirmation.searched_gain
        lines.append(f"  on the search's own folds the same difference of log loss was {gain:+.4f}")
    return lines


def change_text(change: Change) -> str:
    """A figure of both, the change with its interval, and what each seed had."""
    seeds = ", ".join(f"{value:+.4f}" for value in change.by_seed)
    interval = f"[{change.interval.low:+.4f}, {change.interval.high:+.4f}]"
    return (
        f"default {change.default:.4f}, best {change.best:.4f}: {change.delta:+.4f} {interval}; "
        f"by seed {seeds}"
    )


def next_line(report: TuneReport, folder: Path) -> str:
    """What to do with the recipe."""
    recipe = Study(folder).recipe
    if report.confirmation.worth.verdict == BETTER:
        return f"study: {folder}   next: kneeedge train DATA --recipe {recipe}"
    return (
        f"study: {folder}   next: train with the default; {recipe} is written all the same, "
        "and says that it is not shown to be better"
    )
