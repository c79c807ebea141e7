"""What each command prints, as plain text: the verdict first, then the figures with their intervals."""

from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.metrics import Evaluation, classification_report
from kneeedge.spec import DISCLAIMER, ModelSpec

if TYPE_CHECKING:  # what a command prints must not bring in what other commands run
    from kneeedge.evaluation import EvaluationReport
    from kneeedge.gate import ExportReport, VerifyReport
    from kneeedge.golden import GoldenReport
    from kneeedge.infer import FolderResult

N_LISTED = 5


def run_text(folder: Path, evaluations: dict[str, Evaluation], leaked: int) -> str:
    """The end of `kneeedge train`."""
    lines = []
    for split, evaluation in evaluations.items():
        lines += [f"{split}: {headline(evaluation)}", "", classification_report(evaluation), ""]
    if leaked:
        lines.append(f"LEAKY: {leaked} held-out images also stand in another split; all figures are too good")
    return "\n".join([*lines, f"run: {folder}   next: kneeedge export {folder}", DISCLAIMER])


def headline(evaluation: Evaluation) -> str:
    """Accuracy, sensitivity, specificity and AUROC, each with its 95 % interval."""
    parts = [f"{evaluation.n} images"]
    for name in ("accuracy", "sensitivity", "specificity", "auroc"):
        value = getattr(evaluation, name)
        if value is None:
            continue
        interval = evaluation.intervals.get(name)
        span = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else ""
        parts.append(f"{'AUROC' if name == 'auroc' else name} {value:.4f}{span}")
    return ", ".join(parts)


def gate_text(report: "ExportReport") -> str:
    """The gate's verdict on each variant, and the images whose answer changed."""
    lines = []
    for file in report.files:
        lines += [f"{file.report.verdict.upper()}  {file.path}  {file.size_mb:.1f} MB", *variant_lines(file.report), ""]
    return "\n".join([*lines, DISCLAIMER])


def variant_lines(report: "VerifyReport") -> list[str]:
    """One variant beside the original."""
    change = report.changes["accuracy"]
    lines = [
        f"  {report.reason}",
        (
            f"  {report.n} {report.split} images on {report.provider}: accuracy {report.original.accuracy:.4f} → "
            f"{report.variant.accuracy:.4f}, change {change.delta:+.4f} [{change.interval.low:+.4f}, "
            f"{change.interval.high:+.4f}], McNemar p {change.mcnemar_p:.3f}"
        ),
    ]
    for name in ("sensitivity", "specificity"):
        if name in report.changes:
            part = report.changes[name]
            span = f"[{part.interval.low:+.4f}, {part.interval.high:+.4f}]"
            lines.append(f"  {name} change {part.delta:+.4f} {span} on {part.n} images")
    if report.auroc_change is not None:
        lines.append(f"  AUROC change {report.auroc_change:+.5f}")
    lines.append(f"  logit change: mean {report.mean_abs_logit_change:.4g}, largest {report.max_abs_logit_change:.4g}")
    lines.append(f"  flips: {len(report.flips)}")
    cases = report.flips if report.flips or report.verdict == "pass" else report.largest[:N_LISTED]
    lines += [
        f"    {case.path}: {case.original} {case.original_probability:.3f} → {case.variant} "
        f"{case.variant_probability:.3f} (truth {case.truth}, logit change {case.max_logit_change:.3g})"
        for case in cases
    ]
    if report.images_to_settle:
        lines.append(f"  about {report.images_to_settle:,} images would settle it at this rate of flips")
    return lines


def infer_text(result: "FolderResult") -> str:
    """The end of `kneeedge infer`."""
    summary = result.summary
    counts = ", ".join(f"{count:,} {name}" for name, count in summary.counts.items())
    lines = [f"{summary.n:,} images: {counts}; {summary.n_errors:,} errors"]
    lines.append(
        f"{summary.images_per_second:.1f} images/s on {result.provider}, {summary.seconds:.1f} s, {summary.out}"
    )
    if result.others:
        lines.append(f"left out, since they are no images: {len(result.others):,} files")
        lines += [f"  {path}" for path in result.others[:N_LISTED]]
        lines += ["  …"] if len(result.others) > N_LISTED else []
    if summary.n_errors:
        lines.append("the rows with status=error say what is wrong with each file")
    return "\n".join([*lines, DISCLAIMER])


def evaluation_text(report: "EvaluationReport") -> str:
    """The classification report, the confusion matrix and the headline figures."""
    evaluation = report.evaluation
    lines = [f"{report.model} on {report.split} ({report.provider})", headline(evaluation), ""]
    lines += [classification_report(evaluation), "", *confusion_lines(evaluation), ""]
    threshold = (
        f"threshold {evaluation.threshold:g} on {evaluation.positive}" if len(evaluation.classes) == 2 else "argmax"
    )
    lines.append(f"{threshold}; ECE {evaluation.ece:.3f}, Brier {evaluation.brier:.3f}")
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
        f"{word}  {report.model}: {report.n} golden inputs on {report.provider} ({report.cpu}); largest logit change "
        f"{report.max_change_from_file:.3g} to the exporting machine (allowed {report.device_tolerance:.3g}), "
        f"{report.max_change_from_original:.3g} to the original (allowed {report.original_tolerance:.3g})"
    )
    if report.passed:
        return text
    return f"{text}; this device does not answer as the original did: use another provider or precision"


def info_text(spec: ModelSpec, path: Path, providers: list[str]) -> str:
    """What `kneeedge info` prints."""
    pixels, arch, training, file = spec.pixel_path, spec.architecture, spec.training, spec.file
    widths = " | ".join(" ".join(map(str, block)) for block in arch.channels)
    rows = [
        ("model", f"{spec.name}, {path.stat().st_size / 1e6:.1f} MB, {file.precision if file else 'checkpoint'}"),
        ("classes", ", ".join(spec.classes)),
        ("positive", f"{spec.positive}, threshold {spec.threshold:g} (rule: {spec.threshold_rule})"),
        ("temperature", f"{spec.temperature:g}"),
        ("input", f"uint8 [N, 1, {pixels.size}, {pixels.size}], grey, {pixels.fit}"),
        ("network", f"VGG {widths}, {arch.head} head{', batch norm folded' if arch.batch_norm else ''}"),
        ("trained on", ", ".join(f"{count:,} {split}" for split, count in training.n_images.items())),
        ("data hash", training.data_sha256),
        ("recipe", f"{training.recipe}, weights {training.weights}, seed {training.seed}"),
    ]
    for split, score in training.scores.items():
        area = "n/a" if score.auroc is None else f"{score.auroc:.4f}"
        rows.append((f"original, {split}", f"accuracy {score.accuracy:.4f}, AUROC {area} ({score.n} images)"))
    if training.leaked:
        rows.append(("LEAKY", f"{training.leaked} held-out images also stand in another split"))
    rows += _file_rows(spec)
    rows.append(("providers here", ", ".join(providers)))
    return "\n".join([*(f"{name:>16}  {value}" for name, value in rows), "", DISCLAIMER])


def _file_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    file = spec.file
    if file is None:
        return []
    rows = [("operators", ", ".join(f"{count} {name}" for name, count in file.operators.items()))]
    rows.append(("opset", str(file.opset)))
    if file.calibration:
        part = file.calibration
        rows.append(("int8", f"{file.int8_target}, {part.method} over {part.n_images} training images"))
    if file.verification:
        part2 = file.verification
        rows.append(
            (
                "verification",
                (
                    f"{part2.verdict}: {part2.flips} flips in {part2.n} {part2.split} images, accuracy "
                    f"{part2.original.accuracy:.4f} → {part2.variant.accuracy:.4f}"
                ),
            )
        )
    rows.append(("made with", ", ".join(f"{name} {version}" for name, version in file.versions.items())))
    return rows
