"""What each command prints, as plain text: the verdict first, then the figures with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.metrics import Evaluation, classification_report
from kneeedge.scorecard import decision_line, figure_lines, probability_line, score_figures
from kneeedge.spec import DISCLAIMER, Calibration, HalfRange, ModelSpec, Score, Slimmed

if TYPE_CHECKING:  # what a command prints must not bring in what other commands run
    from kneeedge.evaluation import EvaluationReport
    from kneeedge.gate import ExportReport, VerifyReport
    from kneeedge.golden import GoldenReport
    from kneeedge.infer import FolderResult, FolderSummary
    from kneeedge.model_file import ModelFile

N_LISTED = 5
SHOWN = 12
"digits of a model's hash where people read it"


def run_text(folder: Path, evaluations: dict[str, Evaluation], caveat: str = "") -> str:
    """The end of `kneeedge train`; `caveat` says why its figures are too good, where they are."""
    lines = []
    for split, evaluation in evaluations.items():
        lines += [f"{split}: {evaluation.n} images", "", classification_report(evaluation), ""]
        lines += [*figure_lines(evaluation), decision_line(evaluation, split), probability_line(evaluation), ""]
    if caveat:
        lines.append(caveat)
    return "\n".join([*lines, f"run: {folder}   next: kneeedge export {folder}", DISCLAIMER])


def gate_text(report: "ExportReport") -> str:
    """The gate's verdict on each variant, and the images whose answer changed."""
    lines = [report.caveat, ""] if report.caveat else []
    for file in report.files:
        lines += [f"{file.report.verdict.upper()}  {file.path}  {file.size_mb:.1f} MB", *variant_lines(file.report)]
        lines += half_lines(file.half_range) if file.half_range else []
        lines += [*(trial_lines(file.calibration) if file.calibration else []), ""]
    return "\n".join([*lines, DISCLAIMER])


def variant_lines(report: "VerifyReport") -> list[str]:
    """One variant beside the original."""
    change = report.changes["accuracy"]
    beside = f", against {report.against}, which it was slimmed from" if report.against else ""
    lines = [
        f"  {report.reason}",
        (
            f"  {report.n} {report.split} images on {report.provider}{beside}: "
            f"accuracy {report.original.accuracy:.4f} → {report.variant.accuracy:.4f}, "
            f"change {change.delta:+.4f} [{change.interval.low:+.4f}, {change.interval.high:+.4f}], "
            f"McNemar p {change.mcnemar_p:.3f}"
        ),
    ]
    for name in ("sensitivity", "specificity"):
        if name in report.changes:
            part = report.changes[name]
            span = f"[{part.interval.low:+.4f}, {part.interval.high:+.4f}]"
            lines.append(f"  {name} change {part.delta:+.4f} {span} on {part.n} images")
    if report.auroc_change is not None:
        area = report.auroc_interval
        span = f" [{area.low:+.5f}, {area.high:+.5f}]" if area else ""
        lines.append(f"  AUROC change {report.auroc_change:+.5f}{span}")
    ece = report.ece_interval
    lines.append(f"  ECE change {report.ece_change:+.5f} [{ece.low:+.5f}, {ece.high:+.5f}]")
    lines.append(f"  logit change: mean {report.mean_abs_logit_change:.4g}, largest {report.max_abs_logit_change:.4g}")
    if report.own_logit_change is not None:
        lines.append(f"  largest logit change from its own PyTorch network: {report.own_logit_change:.4g}")
    if report.refusals:
        refused = report.refusals
        lines.append(
            f"  unlike the training images: {refused.original} → {refused.variant} of {report.n} refused, "
            f"{refused.changed} changed; distance change: mean {refused.mean_change:+.3g}, "
            f"largest {refused.largest_change:.3g}"
        )
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


def half_lines(found: HalfRange) -> list[str]:
    """Overflow and underflow as fp16 would have met them."""
    lines = [
        (
            f"  largest activation on {found.n_images} training images: {found.largest:,.4g} in {found.largest_layer} "
            f"(fp16 ends at 65,504)"
        ),
        (
            f"  underflow: at most {found.flushed:.2g} of a layer's activations and {found.flushed_weights:.2g} "
            f"of its weights become zero; {found.subnormal:.2g} lose digits ({found.subnormal_layer})"
        ),
    ]
    return [*lines, f"  layers in fp32: {', '.join(found.float_layers) or 'none'}"]


def trial_lines(found: Calibration) -> list[str]:
    """Every int8 recipe that was tried, the least logit error first; * marks the chosen one."""
    if not found.trials:
        return [f"  int8 ranges: {found.method} over {found.n_images} training images; no other recipe was tried"]
    rows = [("  recipe", "layers in float", "logit error", "× fp32 time", "flips", "verdict")]
    for trial in sorted(found.trials, key=lambda one: one.logit_error):
        latency = "" if trial.latency is None else f"{trial.latency:.2f}"
        flips = "" if trial.flips is None else str(trial.flips)
        layers = " ".join(trial.float_layers) or "none"
        mark = "*" if trial.chosen else " "
        rows.append((f"{mark} {trial.method}", layers, f"{trial.logit_error:.4f}", latency, flips, trial.verdict or ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, *(f"    no time for: {recipe}" for recipe in found.untried)]


def infer_text(result: "FolderResult") -> str:
    """The end of `kneeedge infer`."""
    summary = result.summary
    counts = ", ".join(f"{count:,} {name}" for name, count in summary.counts.items())
    refused = f"; {summary.n_abstained:,} unlike the training images" if summary.n_abstained else ""
    lines = [f"{summary.n:,} images: {counts}{refused}; {summary.n_errors:,} errors"]
    lines.append(
        f"{summary.images_per_second:.1f} images/s on {result.provider}, {summary.seconds:.1f} s, {summary.out}; "
        f"model {result.model_sha256[:SHOWN]}"
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
    """How DICOM images were brought to the grey levels that the model knows; none without such images."""
    if not summary.grey_scales:
        return []
    ways = "; ".join(f"{n:,} by {way}" for way, n in summary.grey_scales.items())
    return [f"DICOM brought to 8-bit grey as the training images are, bone bright: {ways}"]


def stage_line(summary: "FolderSummary") -> str:
    """Which stage limits a folder run, and what each took."""
    names = {"running": "the network", "reading": "reading the images", "writing": "writing the results"}
    shares = ", ".join(
        f"{getattr(summary.stages, stage) / max(summary.seconds, 1e-9):.0%} {what}"
        for stage, what in (("reading", "waiting for images"), ("running", "in the network"), ("writing", "writing"))
    )
    decoding = f"decoding took {summary.stages.decoding_cpu:.1f} s of processor time"
    return f"limited by {names[summary.limited_by]}: {shares}; {decoding}"


def evaluation_text(report: "EvaluationReport") -> str:
    """The figures with their intervals, the classification report and the confusion matrix."""
    evaluation = report.evaluation
    model = f"{report.model} ({report.model_sha256[:SHOWN]})" if report.model_sha256 else report.model
    lines = [f"{model} on {report.split} ({report.provider}): {evaluation.n} images"]
    split = report.split if report.n_seen else ""  # a val that the model never saw did not choose its threshold
    lines += [*figure_lines(evaluation), decision_line(evaluation, split), probability_line(evaluation), ""]
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
        f"{word}  {report.model} ({report.sha256[:SHOWN]}): {report.n} golden inputs on {report.provider} "
        f"({report.cpu}); largest logit change {report.max_change_from_file:.3g} to the exporting machine "
        f"(allowed {report.device_tolerance:.3g}), "
        f"{report.max_change_from_original:.3g} to its PyTorch network (allowed {report.original_tolerance:.3g})"
    )
    if report.wrong_cases:
        text += "; this device does not answer as the original did: use another provider or precision"
    if report.placement:
        text += f"; {report.placement}"
        if report.placement.n_astray:
            text += ", so that part of it ran elsewhere: use --provider cpu"
    return f"{text}; {report.concern}" if report.concern else text


def info_text(spec: ModelSpec, model: "ModelFile", providers: list[str]) -> str:
    """What `kneeedge info` prints."""
    pixels, arch, training, file = spec.pixel_path, spec.architecture, spec.training, spec.file
    widths = width_text(arch.channels)
    rows = [
        ("model", f"{spec.name}, {model.n_bytes / 1e6:.1f} MB, {file.precision if file else 'checkpoint'}"),
        ("sha256", model.sha256),
        *([("signed by", f"the key {model.signed_by[:SHOWN]}")] if model.signed_by else []),
        ("classes", ", ".join(spec.classes)),
        ("positive", f"{spec.positive}, {_answer_rule(spec)}"),
        ("temperature", f"{spec.temperature:g}"),
        *_novelty_rows(spec),
        ("input", f"uint8 [N, 1, {pixels.size}, {pixels.size}], grey, {pixels.fit}"),
        ("network", f"VGG {widths}, {arch.head} head{', batch norm folded' if arch.batch_norm else ''}"),
        ("trained on", ", ".join(f"{count:,} {split}" for split, count in training.n_images.items())),
        ("data hash", training.data_sha256),
        ("recipe", f"{training.recipe}, weights {training.weights}, seed {training.seed}"),
    ]
    rows += _slimmed_rows(training.slimmed)
    rows += _score_rows("slimmed" if training.slimmed else "original", training.scores)
    rows.append(("splits", training.protocol))
    if training.caveat:
        rows.append(("LEAKY", training.caveat.removeprefix("LEAKY: ")))
    rows += _file_rows(spec)
    rows.append(("providers here", ", ".join(providers)))
    return "\n".join([*(f"{name:>16}  {value}" for name, value in rows), "", DISCLAIMER])


def width_text(channels: Sequence[Sequence[int]]) -> str:
    """The output channels of each convolution, a bar between blocks."""
    return " | ".join(" ".join(map(str, block)) for block in channels)


def _slimmed_rows(found: Slimmed | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    origin = f"{found.original} ({found.sha256[:SHOWN]}), VGG {width_text(found.channels)}"
    return [("slimmed from", origin), *_score_rows("original", found.scores)]


def _score_rows(whose: str, scores: dict[str, Score]) -> list[tuple[str, str]]:
    """What the PyTorch model, or the one it was slimmed from, scored on each held-out split."""
    figures = ("accuracy", "auroc")
    return [
        (f"{whose}, {split}", f"{score_figures(score, figures)} ({score.n} images)") for split, score in scores.items()
    ]


def _answer_rule(spec: ModelSpec) -> str:
    if len(spec.classes) > 2:
        return "answer: the most probable class"
    return f"threshold {spec.threshold:g} (rule: {spec.threshold_rule})"


def _novelty_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    found = spec.novelty
    if found is None:
        return [("abstains", "never")]
    text = f"beyond distance {found.limit:.4g}, set on {found.n:,} {found.split} images to refuse {found.refused:.0%}"
    return [("abstains", text), ("distance", found.method)]


def _file_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    file = spec.file
    if file is None:
        return []
    rows = [("operators", ", ".join(f"{count} {name}" for name, count in file.operators.items()))]
    rows.append(("opset", str(file.opset)))
    if file.calibration:
        part = file.calibration
        kept = f", {' and '.join(part.float_layers)} in float" if part.float_layers else ""
        rows.append(("int8", f"{file.int8_target}, {part.method} over {part.n_images} training images{kept}"))
    if file.verification:
        part2, slimmed = file.verification, spec.training.slimmed
        beside = f" against {slimmed.original}" if slimmed else ""
        rows.append(
            (
                "verification",
                (
                    f"{part2.verdict}{beside}: {part2.flips} flips in {part2.n} {part2.split} images, accuracy "
                    f"{part2.original.accuracy:.4f} → {part2.variant.accuracy:.4f}"
                ),
            )
        )
    rows.append(("made with", ", ".join(f"{name} {version}" for name, version in file.versions.items())))
    return rows
