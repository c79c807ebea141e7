"""What `kneeedge export` prints: each variant's verdict and evidence."""

from typing import TYPE_CHECKING

from kneeedge.model.file_record import Calibration, HalfRange
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.inference import N_LISTED

if TYPE_CHECKING:
    from kneeedge.runs.export_report import ExportReport, VerifyReport


def gate_text(report: "ExportReport") -> str:
    """The gate's verdict on each variant, and the images whose answer changed."""
    lines = [report.caveat, ""] if report.caveat else []
    for file in report.files:
        lines += [
            f"{file.report.verdict.upper()}  {file.path}  {file.size_mb:.1f} MB",
            *variant_lines(file.report),
        ]
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
    lines.append(
        f"  logit change: mean {report.mean_abs_logit_change:.4g}, largest {report.max_abs_logit_change:.4g}"
    )
    if report.own_logit_change is not None:
        lines.append(
            f"  largest logit change from its own PyTorch network: {report.own_logit_change:.4g}"
        )
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
        lines.append(
            f"  about {report.images_to_settle:,} images would settle it at this rate of flips"
        )
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
        return [
            f"  int8 ranges: {found.method} over {found.n_images} training images; no other recipe was tried"
        ]
    rows = [("  recipe", "layers in float", "logit error", "× fp32 time", "flips", "verdict")]
    for trial in sorted(found.trials, key=lambda one: one.logit_error):
        latency = "" if trial.latency is None else f"{trial.latency:.2f}"
        flips = "" if trial.flips is None else str(trial.flips)
        layers = " ".join(trial.float_layers) or "none"
        mark = "*" if trial.chosen else " "
        rows.append(
            (
                f"{mark} {trial.method}",
                layers,
                f"{trial.logit_error:.4f}",
                latency,
                flips,
                trial.verdict or "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*lines, *(f"    no time for: {recipe}" for recipe in found.untried)]
