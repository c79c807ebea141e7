"""An evaluation as lines of text: every figure with its 95 % interval, and how the intervals were
computed.
"""

from collections.abc import Sequence

from kneeedge.inference.metrics import FIGURES, Evaluation, OneVersusRest
from kneeedge.model.decision import chosen_on
from kneeedge.model.provenance import Score
from kneeedge.statistics.intervals import Estimate, Interval
from kneeedge.statistics.prevalence import PredictiveValues

TITLES = {"ppv": "PPV", "npv": "NPV", "auroc": "AUROC"}
OF_CLASS = ("sensitivity", "specificity", "ppv", "npv", "auroc")


def figure_lines(evaluation: Evaluation) -> list[str]:
    """Accuracy, sensitivity, specificity, PPV, NPV and AUROC; with more than two classes each
    against the rest too.
    """
    lines = []
    for name in FIGURES:
        title = figure_title(name, evaluation)
        shown = estimate_text(evaluation.estimates.get(name))
        lines.append(f"  {title:<12} {shown}{_of_positive(name, evaluation)}")
    if evaluation.at_prevalence:
        lines += prevalence_lines(evaluation.at_prevalence)
    for name, one in evaluation.one_versus_rest.items():
        lines += class_lines(name, one)
    return [*lines, f"  intervals: 95 %; {methods(evaluation)}"]


def figure_title(name: str, evaluation: Evaluation) -> str:
    """What to call one of FIGURES: the AUROC of more than two classes is the mean of theirs."""
    mean = "mean " if name == "auroc" and len(evaluation.classes) > 2 else ""
    return mean + TITLES.get(name, name)


def prevalence_lines(found: PredictiveValues) -> list[str]:
    """PPV and NPV at a prevalence that was asked for."""
    lines = []
    for title, estimate in (("PPV", found.ppv), ("NPV", found.npv)):
        shown = estimate_text(estimate)
        lines.append(f"  {title:<12} {shown} at a prevalence of {found.prevalence:g}")
    return lines


def class_lines(name: str, one: OneVersusRest) -> list[str]:
    """One class against the rest, in one line a class."""
    found: list[tuple[str, Estimate | None]] = [(key, getattr(one, key)) for key in OF_CLASS]
    shown = (
        f"{TITLES.get(key, key)} {with_interval(e.value, e.interval)}" for key, e in found if e
    )
    return [f"  {name} against the rest: {', '.join(shown)}"]


def probability_line(evaluation: Evaluation) -> str:
    """Calibration error and Brier score, and where the temperature was fitted also those before."""
    before = evaluation.uncalibrated
    if before is None:
        return f"  ECE {evaluation.ece:.4f}, Brier score {evaluation.brier:.4f}, log loss {evaluation.log_loss:.4f}"
    return (
        f"  ECE {before.ece:.4f} → {evaluation.ece:.4f}, Brier score {before.brier:.4f} → {evaluation.brier:.4f}, "
        f"log loss {before.log_loss:.4f} → {evaluation.log_loss:.4f} by the fitted temperature"
    )


def decision_line(evaluation: Evaluation, split: str) -> str:
    """How an answer is made, and where the same images decided that."""
    if len(evaluation.classes) > 2:
        return "  answer: the most probable class"
    line = f"  answer: {evaluation.positive} from a probability of {evaluation.threshold:.6g} on"
    if chosen_on(evaluation.threshold_rule, split):
        return f"{line} (rule: {evaluation.threshold_rule}: chosen on these images, so their figures are optimistic)"
    return f"{line} (rule: {evaluation.threshold_rule})"


def methods(evaluation: Evaluation) -> str:
    """How the intervals were computed, each method once."""
    of: dict[str, list[str]] = {}
    for name, figure in evaluation.estimates.items():
        of.setdefault(figure.method, []).append(TITLES.get(name, name))
    asked = evaluation.at_prevalence
    for title, estimate in (("PPV", asked.ppv), ("NPV", asked.npv)) if asked else ():
        if asked and estimate:
            of.setdefault(estimate.method, []).append(f"{title} at {asked.prevalence:g}")
    return "; ".join(f"{', '.join(names)} by {method}" for method, names in of.items())


def estimate_text(estimate: Estimate | None) -> str:
    """0.9725 [0.953, 0.984], or that there is none."""
    if estimate is None:
        return "none: no image could tell"
    return with_interval(estimate.value, estimate.interval)


def with_interval(value: float, interval: Interval) -> str:
    """0.9725 [0.953, 0.984]."""
    return f"{value:.4f} [{interval.low:.3f}, {interval.high:.3f}]"


def score_figures(score: Score, names: Sequence[str]) -> str:
    """Those of its figures that a score has, each with its interval where it carries one."""
    shown = []
    for name in names:
        value = getattr(score, name)
        interval = score.intervals.get(name)
        if value is not None:
            figure = with_interval(value, interval) if interval else f"{value:.4f}"
            shown.append(f"{TITLES.get(name, name)} {figure}")
    return ", ".join(shown)


def _of_positive(name: str, evaluation: Evaluation) -> str:
    if name in ("ppv", "npv"):
        return f" at these images' prevalence of {evaluation.prevalence:.3f}"
    return f" ({evaluation.positive})" if name in ("sensitivity", "specificity") else ""
