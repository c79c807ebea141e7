"""An evaluation as lines of text: every figure with its 95 % interval and the interval's method."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kneeedge.inference.metrics import (
    FIGURES,
    Evaluation,
    OneVersusRest,
    classification_report,
)
from kneeedge.model.decision import chosen_on
from kneeedge.model.provenance import Score
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.inference import inverted_lines
from kneeedge.statistics.intervals import Estimate, Interval
from kneeedge.statistics.prevalence import PredictiveValues
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.inference.evaluation import EvaluationReport
    from kneeedge.inference.three_answers import ThreeAnswers

TITLES = {"ppv": "PPV", "npv": "NPV", "auroc": "AUROC"}
OF_CLASS = ("sensitivity", "specificity", "ppv", "npv", "auroc")
"figures of a class against the rest, in the order shown"


def evaluation_text(report: "EvaluationReport") -> str:
    """The figures with their intervals, the classification report and the confusion matrix."""
    evaluation = report.evaluation
    model = report.model
    if report.model_sha256:
        model += f" ({report.model_sha256[:SHOWN_DIGITS]})"
    # A val that the model never saw did not choose its threshold.
    split = report.split if report.n_seen else ""
    lines = [
        f"{model} on {report.split} ({report.provider}): {counted(evaluation.n, 'image')}",
        *figure_lines(evaluation),
        decision_line(evaluation, split),
        probability_line(evaluation),
        "",
        classification_report(evaluation),
        "",
        *confusion_lines(evaluation),
        "",
    ]
    if report.n_abstained:
        abstained = f"{report.n_abstained} of {evaluation.n}, which `infer` does not answer"
        coverage = f"coverage {1 - report.n_abstained / evaluation.n:.4f}"
        lines.append(
            f"unlike the training images: {abstained} ({coverage}); all figures above count them"
        )
    if report.answered:
        lines += [f"the {report.answered.n} others alone:", *figure_lines(report.answered)]
    if report.three_answers:
        lines += three_answer_lines(report.three_answers, evaluation.prevalence)
    lines += inverted_lines(report.n_inverted)
    lines.append(leak_line(report.n_seen))
    return "\n".join([*lines, DISCLAIMER])


def three_answer_lines(answers: "ThreeAnswers", prevalence: float) -> list[str]:
    """What is answered of images with this prevalence, how rightly, and what was promised."""
    referred = f"{answers.n_referred} of {answers.n} are left to a person"
    lines = [
        f"certified limits {answers.low:.6g} and {answers.high:.6g}: {referred}",
        f"  {'answered':<12} {estimate_text(answers.answered)}",
    ]
    for title, estimate, promised in (
        ("PPV", answers.ppv, answers.promised_ppv),
        ("NPV", answers.npv, answers.promised_npv),
    ):
        promise = f"{promised:g} was promised at {answers.confidence:.4g} confidence"
        lines.append(f"  {title:<12} {estimate_text(estimate)} of these answers; {promise}")
    there = f"a prevalence of {answers.prevalence:.3f}, and here it is {prevalence:.3f}"
    return [*lines, f"  the promise is for {there}; all other figures count every image"]


def leak_line(n_seen: int) -> str:
    """Whether the model was made with images that it is evaluated on."""
    if not n_seen:
        return "none of these images, byte for byte, was used to train or choose the model"
    made_with = f"the model was trained or chosen on {n_seen} of these images"
    return f"LEAKY: {made_with}; all figures are too good"


def confusion_lines(evaluation: Evaluation) -> list[str]:
    """The confusion matrix: rows are the truth, columns the prediction."""
    corner = "true \\ predicted"
    width = max(len(name) for name in (*evaluation.classes, corner))
    widths = [width, *(max(len(name), 6) for name in evaluation.classes)]
    rows: list[tuple[object, ...]] = [(corner, *evaluation.classes)]
    for name, counts in zip(evaluation.classes, evaluation.confusion, strict=True):
        rows.append((name, *counts))
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells))
    return lines


def cell_interval(evaluation: Evaluation, row: int, column: int) -> Interval | None:
    """The 95 % interval of a confusion matrix's cell as a share of its row; None where unknown.

    The share that is called right is the class's sensitivity against the rest. Of two classes the
    other cell of the row is what remains; of more only the diagonal has an interval.
    """
    right = _row_estimate(evaluation, row)
    if right is None:
        return None
    if row == column:
        return right.interval
    if len(evaluation.classes) > 2:
        return None
    return Interval(1 - right.interval.high, 1 - right.interval.low)


def _row_estimate(evaluation: Evaluation, row: int) -> Estimate | None:
    name = evaluation.classes[row]
    if len(evaluation.classes) > 2:
        return evaluation.one_versus_rest[name].sensitivity
    return evaluation.sensitivity if name == evaluation.positive else evaluation.specificity


def span_text(interval: Interval) -> str:
    """[91.5, 97.1] %."""
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}] %"


def figure_lines(evaluation: Evaluation) -> list[str]:
    """Every figure, those at a prevalence that was asked for, and each class against the rest."""
    lines = []
    for name in FIGURES:
        title = figure_title(name, evaluation)
        shown = estimate_text(evaluation.estimates.get(name))
        lines.append(f"  {title:<12} {shown}{_of_positive(name, evaluation)}")
    if evaluation.at_prevalence:
        lines += prevalence_lines(evaluation.at_prevalence)
    for name, one_versus_rest in evaluation.one_versus_rest.items():
        lines.append(class_line(name, one_versus_rest))
    return [*lines, f"  intervals: 95 %; {methods(evaluation)}"]


def figure_title(name: str, evaluation: Evaluation) -> str:
    """What to call one of FIGURES: the AUROC of more than two classes is the mean of theirs."""
    mean = "mean " if name == "auroc" and len(evaluation.classes) > 2 else ""
    return mean + TITLES.get(name, name)


def prevalence_lines(values: PredictiveValues) -> list[str]:
    """PPV and NPV at a prevalence that was asked for."""
    lines = []
    for title, estimate in (("PPV", values.ppv), ("NPV", values.npv)):
        shown = estimate_text(estimate)
        lines.append(f"  {title:<12} {shown} at a prevalence of {values.prevalence:g}")
    return lines


def class_line(name: str, one_versus_rest: OneVersusRest) -> str:
    """The figures of one class against the rest, where they exist."""
    figures = []
    for key in OF_CLASS:
        estimate: Estimate | None = getattr(one_versus_rest, key)
        if estimate:
            shown = with_interval(estimate.value, estimate.interval)
            figures.append(f"{TITLES.get(key, key)} {shown}")
    return f"  {name} against the rest: {', '.join(figures)}"


def probability_line(evaluation: Evaluation) -> str:
    """Calibration error and Brier score, and where the temperature was fitted also those before."""
    ece = f"{evaluation.ece:.4f}"
    brier = f"{evaluation.brier:.4f}"
    log_loss = f"{evaluation.log_loss:.4f}"
    before = evaluation.uncalibrated
    if before is None:
        return f"  ECE {ece}, Brier score {brier}, log loss {log_loss}"
    return (
        f"  ECE {before.ece:.4f} → {ece}, Brier score {before.brier:.4f} → {brier}, "
        f"log loss {before.log_loss:.4f} → {log_loss} by the fitted temperature"
    )


def decision_line(evaluation: Evaluation, split: str) -> str:
    """How an answer is made, and whether images of `split`, which these are, decided that."""
    if len(evaluation.classes) > 2:
        return "  answer: the most probable class"
    rule = evaluation.threshold_rule
    if chosen_on(rule, split):
        rule += ": chosen on these images, so their figures are optimistic"
    threshold = f"a probability of {evaluation.threshold:.6g} on"
    return f"  answer: {evaluation.positive} from {threshold} (rule: {rule})"


def methods(evaluation: Evaluation) -> str:
    """How the intervals were computed, each method once."""
    titles: dict[str, list[str]] = {}
    for name, figure in evaluation.estimates.items():
        titles.setdefault(figure.method, []).append(TITLES.get(name, name))
    values = evaluation.at_prevalence
    if values:
        for title, estimate in (("PPV", values.ppv), ("NPV", values.npv)):
            if estimate:
                title_there = f"{title} at {values.prevalence:g}"
                titles.setdefault(estimate.method, []).append(title_there)
    return "; ".join(f"{', '.join(names)} by {method}" for method, names in titles.items())


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
