"""What `kneeedge export` prints: each variant's verdict and evidence."""

from typing import TYPE_CHECKING

from kneeedge.model.file_record import Calibration, HalfRange
from kneeedge.model.spec import DISCLAIMER
from kneeedge.model.verdict import PASS
from kneeedge.report.inference import N_LISTED

if TYPE_CHECKING:
    from kneeedge.runs.export_report import CaseChange, ExportReport, VerifyReport


def gate_text(report: "ExportReport") -> str:
    """The gate's verdict on each variant, and the images whose answer changed."""
    lines = [report.caveat, ""] if report.caveat else []
    for file in report.files:
        lines.append(f"{file.report.verdict.upper()}  {file.path}  {file.size_mb:.1f} MB")
        lines += comparison_lines(file.report)
        if file.half_range:
            lines += half_range_lines(file.half_range)
        if file.calibration:
            lines += trial_lines(file.calibration)
        lines.append("")
    return "\n".join([*lines, DISCLAIMER])


def comparison_lines(report: "VerifyReport") -> list[str]:
    """One variant beside the original."""
    change = report.changes["accuracy"]
    span = f"[{change.interval.low:+.4f}, {change.interval.high:+.4f}]"
    against = f", against {report.against}, which it was slimmed from" if report.against else ""
    lines = [
        f"  {report.reason}",
        (
            f"  {report.n} {report.split} images on {report.provider}{against}: "
            f"accuracy {report.original.accuracy:.4f} → {report.variant.accuracy:.4f}, "
            f"change {change.delta:+.4f} {span}, McNemar p {change.mcnemar_p:.3f}"
        ),
    ]
    for name in ("sensitivity", "specificity"):
        if name in report.changes:
            change = report.changes[name]
            span = f"[{change.interval.low:+.4f}, {change.interval.high:+.4f}]"
            lines.append(f"  {name} change {change.delta:+.4f} {span} on {change.n} images")
    if report.auroc_change is not None:
        area = report.auroc_interval
        span = f" [{area.low:+.5f}, {area.high:+.5f}]" if area else ""
        lines.append(f"  AUROC change {report.auroc_change:+.5f}{span}")
    ece = report.ece_interval
    lines.append(f"  ECE change {report.ece_change:+.5f} [{ece.low:+.5f}, {ece.high:+.5f}]")
    return [*lines, *logit_lines(report), *case_lines(report)]


def logit_lines(report: "VerifyReport") -> list[str]:
    """How far logits and distances moved."""
    mean = report.mean_abs_logit_change
    largest = report.max_abs_logit_change
    lines = [f"  logit change: mean {mean:.4g}, largest {largest:.4g}"]
    if report.own_logit_change is not None:
        own = f"{report.own_logit_change:.4g}"
        lines.append(f"  largest logit change from its own PyTorch network: {own}")
    if report.refusals:
        refusals = report.refusals
        lines.append(
            f"  unlike the training images: {refusals.original} → {refusals.variant} "
            f"of {report.n} refused, {refusals.changed} changed; distance change: "
            f"mean {refusals.mean_change:+.3g}, largest {refusals.largest_change:.3g}"
        )
    return lines


def case_lines(report: "VerifyReport") -> list[str]:
    """The images whose answer changed; without any and without a pass, those that moved most."""
    cases = report.flips
    if not cases and report.verdict != PASS:
        cases = report.largest[:N_LISTED]
    lines = [f"  flips: {len(report.flips)}", *map(case_line, cases)]
    if report.images_to_settle:
        n = f"{report.images_to_settle:,}"
        lines.append(f"  about {n} images would settle it at this rate of flips")
    return lines


def case_line(case: "CaseChange") -> str:
    """One image as the original and the variant answer it."""
    return (
        f"    {case.path}: {case.original} {case.original_probability:.3f} → "
        f"{case.variant} {case.variant_probability:.3f} "
        f"(truth {case.truth}, logit change {case.max_logit_change:.3g})"
    )


def half_range_lines(limits: HalfRange) -> list[str]:
    """Overflow and underflow as fp16 would have met them."""
    return [
        (
            f"  largest activation on {limits.n_images} training images: "
            f"{limits.largest:,.4g} in {limits.largest_layer} (fp16 ends at 65,504)"
        ),
        (
            f"  underflow: at most {limits.flushed:.2g} of a layer's activations and "
            f"{limits.flushed_weights:.2g} of its weights become zero; "
            f"{limits.subnormal:.2g} lose digits ({limits.subnormal_layer})"
        ),
        f"  layers in fp32: {', '.join(limits.float_layers) or 'none'}",
    ]


def trial_lines(calibration: Calibration) -> list[str]:
    """Every int8 recipe that was tried, the least logit error first; * marks the chosen one."""
    if not calibration.trials:
        n = calibration.n_images
        ranges = f"{calibration.method} over {n} training images"
        return [f"  int8 ranges: {ranges}; no other recipe was tried"]
    rows = [("  recipe", "layers in float", "logit error", "× fp32 time", "flips", "verdict")]
    for trial in sorted(calibration.trials, key=lambda t: t.logit_error):
        mark = "*" if trial.chosen else " "
        recipe = f"{mark} {trial.method}"
        layers = " ".join(trial.float_layers) or "none"
        error = f"{trial.logit_error:.4f}"
        latency = "" if trial.latency is None else f"{trial.latency:.2f}"
        flips = "" if trial.flips is None else str(trial.flips)
        rows.append((recipe, layers, error, latency, flips, trial.verdict or ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return [*lines, *(f"    no time for: {recipe}" for recipe in calibration.untried)]
