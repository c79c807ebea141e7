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


def infer_text(result: "FolderResult") -> str:
    """The end of `kneeedge infer`."""
    summary = result.summary
    counts = ", ".join(f"{count:,} {name}" for name, count in summary.counts.items())
    refused = f"; {summary.n_abstained:,} unlike the training images" if summary.n_abstained else ""
    lines = [f"{summary.n:,} images: {counts}{refused}; {summary.n_errors:,} errors"]
    lines.append(
        f"{summary.images_per_second:.1f} images/s on {result.provider}, {summary.seconds:.1f} s, {summary.out}; "
        f"model {result.model_sha256[:SHOWN_DIGITS]}"
    )
    lines.append(stage_line(summary))
    lines += grey_scale_lines(summary)
    if result.others:
        lines.append(f"left out, since they are no images: {len(result.others):,} files")
        lines += [f"  {path}" for path in result.others[:N_LISTED]]
        lines += ["  …"] if len(result.others) > N_LISTED else []
    if summary.n_errors:
        lines.append("the rows with status=error say what is wrong with each file")
    return "\n".join([*lines, DISCLAIMER])


def grey_scale_lines(summary: "FolderSummary") -> list[str]:
    """How DICOM images were brought to the grey levels that the model knows; none without such
    images.
    """
    if not summary.grey_scales:
        return []
    ways = "; ".join(f"{n:,} by {way}" for way, n in summary.grey_scales.items())
    return [f"DICOM brought to 8-bit grey as the training images are, bone bright: {ways}"]


def stage_line(summary: "FolderSummary") -> str:
    """Which stage limits a folder run, and what each took."""
    names = {
        "running": "the network",
        "reading": "reading the images",
        "writing": "writing the results",
    }
    shares = ", ".join(
        f"{getattr(summary.stages, stage) / max(summary.seconds, 1e-9):.0%} {what}"
        for stage, what in (
            ("reading", "waiting for images"),
            ("running", "in the network"),
            ("writing", "writing"),
        )
    )
    decoding = f"decoding took {summary.stages.decoding_cpu:.1f} s of processor time"
    return f"limited by {names[summary.limited_by]}: {shares}; {decoding}"


def evaluation_text(report: "EvaluationReport") -> str:
    """The figures with their intervals, the classification report and the confusion matrix."""
    evaluation = report.evaluation
    model = (
        f"{report.model} ({report.model_sha256[:SHOWN_DIGITS]})" if report.model_sha256 else report.model
    )
    lines = [f"{model} on {report.split} ({report.provider}): {evaluation.n} images"]
    split = (
        report.split if report.n_seen else ""
    )  # a val that the model never saw did not choose its threshold
    lines += [
        *figure_lines(evaluation),
        decision_line(evaluation, split),
        probability_line(evaluation),
        "",
    ]
    lines += [classification_report(evaluation), "", *confusion_lines(evaluation), ""]
    if report.n_abstained:
        lines.append(
            f"unlike the training images: {report.n_abstained} of {evaluation.n}, which `infer` does not answer "
            f"(coverage {1 - report.n_abstained / evaluation.n:.4f}); all figures above count them"
        )
    if report.answered:
        lines += [f"the {report.answered.n} others alone:", *figure_lines(report.answered)]
    if report.n_seen:
        lines.append(
            f"LEAKY: the model was trained or chosen on {report.n_seen} of these images; all figures are too good"
        )
    else:
        lines.append("none of these images, byte for byte, was used to train or choose the model")
    return "\n".join([*lines, DISCLAIMER])


def confusion_lines(evaluation: Evaluation) -> list[str]:
    """Rows are the truth, columns the prediction."""
    width = max(len(name) for name in (*evaluation.classes, "true \\ predicted"))
    columns = [max(len(name), 6) for name in evaluation.classes]
    head = "  ".join(f"{name:>{w}}" for name, w in zip(evaluation.classes, columns, strict=True))
    lines = [f"{'true ' + chr(92) + ' predicted':>{width}}  {head}"]
    for name, row in zip(evaluation.classes, evaluation.confusion, strict=True):
        cells = "  ".join(f"{count:>{w}}" for count, w in zip(row, columns, strict=True))
        lines.append(f"{name:>{width}}  {cells}")
    return lines


def golden_text(report: "GoldenReport") -> str:
    """One line for each model that `kneeedge verify` ran."""
    word = "PASS" if report.passed else "FAIL"
    text = (
        f"{word}  {report.model} ({report.sha256[:SHOWN_DIGITS]}): {report.n} golden inputs on {report.provider} "
        f"({report.cpu}); largest logit change {report.max_change_from_file:.3g} to the exporting machine "
        f"(allowed {report.device_tolerance:.3g}), "
        f"{report.max_change_from_original:.3g} to its PyTorch network (allowed {report.original_tolerance:.3g})"
    )
    if report.wrong_cases:
        text += (
            "; this device does not answer as the original did: use another provider or precision"
        )
    if report.placement:
        text += f"; {report.placement}"
        if report.placement.n_astray:
            text += ", so that part of it ran elsewhere: use --provider cpu"
    return f"{text}; {report.concern}" if report.concern else text
