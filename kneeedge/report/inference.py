"""What `kneeedge infer`, `evaluate` and `verify` print."""

from typing import TYPE_CHECKING

from kneeedge.inference.metrics import Evaluation, classification_report
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.scorecard import decision_line, figure_lines, probability_line
from kneeedge.system.files import SHOWN_DIGITS

if TYPE_CHECKING:
    from kneeedge.inference.evaluation import EvaluationReport
    from kneeedge.inference.folder import FolderResult, FolderSummary
    from kneeedge.runtime.golden import GoldenReport


N_LISTED = 5
"files named, of those that are left out"
STAGES = {
    "running": "the network",
    "reading": "reading the images",
    "writing": "writing the results",
}


def infer_text(result: "FolderResult") -> str:
    """The end of `kneeedge infer`."""
    summary = result.summary
    counts = ", ".join(f"{count:,} {name}" for name, count in summary.counts.items())
    refused = f"; {summary.n_abstained:,} unlike the training images" if summary.n_abstained else ""
    speed = f"{summary.images_per_second:.1f} images/s on {result.provider}"
    model = f"model {result.model_sha256[:SHOWN_DIGITS]}"
    lines = [
        f"{summary.n:,} images: {counts}{refused}; {summary.n_errors:,} errors",
        f"{speed}, {summary.seconds:.1f} s, {summary.out}; {model}",
        stage_line(summary),
        *grey_scale_lines(summary),
    ]
    if result.others:
        lines.append(f"left out, since they are no images: {len(result.others):,} files")
        lines += [f"  {path}" for path in result.others[:N_LISTED]]
        lines += ["  …"] if len(result.others) > N_LISTED else []
    if summary.n_errors:
        lines.append("the rows with status=error say what is wrong with each file")
    return "\n".join([*lines, DISCLAIMER])


def grey_scale_lines(summary: "FolderSummary") -> list[str]:
    """How DICOM images, where there are any, were brought to the grey levels of the training."""
    if not summary.grey_scales:
        return []
    ways = "; ".join(f"{n:,} by {way}" for way, n in summary.grey_scales.items())
    return [f"DICOM brought to 8-bit grey as the training images are, bone bright: {ways}"]


def stage_line(summary: "FolderSummary") -> str:
    """Which stage limits a folder run, and what each took."""
    stages = summary.stages
    seconds = max(summary.seconds, 1e-9)
    shares = (
        f"{stages.reading / seconds:.0%} waiting for images, "
        f"{stages.running / seconds:.0%} in the network, {stages.writing / seconds:.0%} writing"
    )
    decoding = f"decoding took {stages.decoding_cpu:.1f} s of processor time"
    return f"limited by {STAGES[summary.limited_by]}: {shares}; {decoding}"


def evaluation_text(report: "EvaluationReport") -> str:
    """The figures with their intervals, the classification report and the confusion matrix."""
    evaluation = report.evaluation
    model = report.model
    if report.model_sha256:
        model += f" ({report.model_sha256[:SHOWN_DIGITS]})"
    # A val that the model never saw did not choose its threshold.
    split = report.split if report.n_seen else ""
    lines = [
        f"{model} on {report.split} ({report.provider}): {evaluation.n} images",
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
    lines.append(leak_line(report.n_seen))
    return "\n".join([*lines, DISCLAIMER])


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


def golden_text(report: "GoldenReport") -> str:
    """One line on a model that `kneeedge verify` ran."""
    verdict = "PASS" if report.passed else "FAIL"
    model = f"{report.model} ({report.sha256[:SHOWN_DIGITS]})"
    device = f"{report.provider} ({report.cpu})"
    from_file = (
        f"{report.max_change_from_file:.3g} to the exporting machine "
        f"(allowed {report.device_tolerance:.3g})"
    )
    from_original = (
        f"{report.max_change_from_original:.3g} to its PyTorch network "
        f"(allowed {report.original_tolerance:.3g})"
    )
    parts = [
        f"{verdict}  {model}: {report.n} golden inputs on {device}",
        f"largest logit change {from_file}, {from_original}",
    ]
    if report.wrong_cases:
        remedy = "use another provider or precision"
        parts.append(f"this device does not answer as the original did: {remedy}")
    if report.placement and report.placement.n_astray:
        remedy = "use --provider cpu"
        parts.append(f"{report.placement}, so that part of it ran elsewhere: {remedy}")
    elif report.placement:
        parts.append(str(report.placement))
    if report.concern:
        parts.append(report.concern)
    return "; ".join(parts)
