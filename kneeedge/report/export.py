"""What `kneeedge export` prints: each variant's verdict and evidence."""

from typing import TYPE_CHECKING

from kneeedge.model.file_record import INT8_TARGETS, Calibration, HalfRange
from kneeedge.model.spec import DISCLAIMER
from kneeedge.model.verdict import INCONCLUSIVE, PASS
from kneeedge.report.inference import N_LISTED
from kneeedge.report.stress_gate import gate_lines
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.runs.export_report import (
        AnySizeFile,
        CaseChange,
        ExportReport,
        RefusalChange,
        VerifyReport,
    )
    from kneeedge.statistics.intervals import Interval
    from kneeedge.statistics.paired import PairedChange

WHAT_DECIDES = (
    "inconclusive: the verdict follows from how much accuracy may be lost on other images, and "
    "how many more of them refused (Tango 1998), by the answers that went wrong or right here and "
    "by the number of images, not from the number of flips: few images leave room for a loss even "
    "where none flipped. Images of one patient tell less than as many of several. `infer` takes "
    "such a file only where it is named; more images would settle it: --gate-data FOLDER"
)


def gate_text(report: "ExportReport") -> str:
    """The gate's verdict on each variant, and the images whose answer changed."""
    lines = [report.caveat, ""] if report.caveat else []
    for file in report.files:
        lines.append(f"{file.report.verdict.upper()}  {file.path}  {file.size_mb:.1f} MB")
        lines += comparison_lines(file.report)
        if file.report.stress:
            lines += gate_lines(file.report.stress)
        if file.half_range:
            lines += half_range_lines(file.half_range)
        if file.int8_target:
            lines.append(f"  made for {INT8_TARGETS[file.int8_target]}")
        if file.calibration:
            lines += trial_lines(file.calibration)
        if file.any_size:
            lines.append(f"  {any_size_line(file.any_size)}")
        lines.append("")
    if any(file.report.verdict == INCONCLUSIVE for file in report.files):
        lines += [WHAT_DECIDES, ""]
    return "\n".join([*lines, DISCLAIMER])


def comparison_lines(report: "VerifyReport") -> list[str]:
    """One variant beside the original."""
    change = report.changes["accuracy"]
    against = f", against {report.against}, which it was slimmed from" if report.against else ""
    where = f"{report.images} on {report.provider}{against}"
    accuracy = f"accuracy {report.original.accuracy:.4f} → {report.variant.accuracy:.4f}"
    p = f", McNemar p {change.mcnemar_p:.3f}" if change.flips else ""
    told = "no answer changed" if report.passed_by_logits else change_text(change)
    lines = [f"  {report.reason}", f"  {where}: {accuracy}, {told}{p}", *gate_data_lines(report)]
    for name in ("sensitivity", "specificity"):
        if name in report.changes and change.flips:
            of_class = report.changes[name]
            lines.append(f"  {name}: {change_text(of_class)} on {counted(of_class.n, 'image')}")
    lines += auroc_lines(report)
    ece = report.ece_interval
    lines.append(f"  ECE change {report.ece_change:+.5f} [{ece.low:+.5f}, {ece.high:+.5f}]")
    return [*lines, *logit_lines(report), *case_lines(report)]


def gate_data_lines(report: "VerifyReport") -> list[str]:
    """What `--gate-data` adds to the verdict, and which of its images could not."""
    data = report.gate_data
    if data is None:
        return []
    lines = []
    share = report.agreement
    if share:
        span = f"[{1 - share.interval.high:.4f}, {1 - share.interval.low:.4f}]"
        lines.append(
            f"  accuracy is that of the {report.split} images: the {share.n:,} without labels say "
            f"only how often answers agree, {1 - share.share:.4f} {span}; each of their "
            f"{share.changed:,} flips counts as an answer lost"
        )
    if data.left_out:
        why = ", ".join(f"{count:,} {reason}" for reason, count in data.left_out.items())
        lines.append(f"  left out of {data.folder}: {why}")
    if data.n_refused:
        refused = f"{data.n_refused:,} of its {data.n:,} images are unlike the training images"
        lines.append(f"  {data.folder}: {refused}; they count all the same")
    return lines


def change_text(change: "PairedChange") -> str:
    """A change of answers with its paired interval; without a flip, what the images leave open."""
    if change.flips == 0:
        return f"no answer changed (on other images up to ±{change.interval.high:.4f} is possible)"
    span = f"[{change.interval.low:+.4f}, {change.interval.high:+.4f}]"
    return f"change {change.delta:+.4f} {span}"


def auroc_lines(report: "VerifyReport") -> list[str]:
    """The change of AUROC with its paired interval; none with one class only."""
    if report.auroc_change is None:
        return []
    return [f"  {auroc_text(report.auroc_change, report.auroc_interval)}"]


def auroc_text(change: float, interval: "Interval | None") -> str:
    """A change of AUROC with its paired interval; in words where the rankings are alike."""
    if interval is None:
        return f"AUROC change {change:+.5f}"
    if interval.low == interval.high:
        return "AUROC change 0: both rank these images alike"
    return f"AUROC change {change:+.5f} [{interval.low:+.5f}, {interval.high:+.5f}]"


def logit_lines(report: "VerifyReport") -> list[str]:
    """How far logits and distances moved."""
    mean = report.mean_abs_logit_change
    largest = report.max_abs_logit_change
    lines = [f"  logit change: mean {mean:.4g}, largest {largest:.4g}"]
    if report.own_logit_change is not None:
        own = f"{report.own_logit_change:.4g}"
        lines.append(f"  largest logit change from its own PyTorch network: {own}")
    if report.refusals:
        lines += refusal_lines(report.refusals, report.n)
    if report.referrals:
        referrals = report.referrals
        wrong = f"{referrals.original_wrong} → {referrals.variant_wrong}"
        lines.append(
            f"  left to a person by the certified limits: {referrals.original} → "
            f"{referrals.variant} of {report.n}, {referrals.changed} changed, "
            f"{referrals.crossed} answered otherwise; wrong among those answered: {wrong}"
        )
    return lines


def refusal_lines(refusals: "RefusalChange", n: int) -> list[str]:
    """How many of `n` images each of the two refuses, by which limit, and how distances moved."""
    counts = f"{refusals.original} → {refusals.variant} of {n} refused, {refusals.changed} changed"
    moved = f"mean {refusals.mean_change:+.3g}, largest {refusals.largest_change:.3g}"
    lines = [f"  unlike the training images: {counts}; distance change: {moved}"]
    if refusals.own_limit is not None:
        limits = f"{refusals.original_limit:.4g} → {refusals.own_limit:.4g}"
        at_first = f"at the original's it would refuse {refusals.at_original_limit}"
        lines.append(f"  limit: {limits}, set by this file's own distances; {at_first}")
    elif refusals.at_one_limit:
        lines.append(f"  limit: {refusals.original_limit:.4g}, the original's")
    return lines


def case_lines(report: "VerifyReport") -> list[str]:
    """The images whose answer changed; without any and without a pass, those that moved most."""
    lines = [f"  flips: {len(report.flips)}", *map(case_line, report.flips)]
    if not report.flips and report.verdict != PASS:
        lines.append("  the logits that moved most, no answer among them changed:")
        lines += map(case_line, report.largest[:N_LISTED])
    return [*lines, *settling_lines(report)]


def settling_lines(report: "VerifyReport") -> list[str]:
    """How many images would settle an inconclusive verdict, and how they are given."""
    if not report.images_to_settle:
        return []
    refusals = report.refusals
    if refusals and refusals.variant_alone and refusals.at_one_limit:
        n = f"{report.images_to_settle:,} {report.split} images"
        return [f"  about {n} would settle it at this rate of flips and refusals"]
    n_more = report.images_to_settle - report.deciding.n
    if n_more <= 0:
        return []
    more = f"about {n_more:,} more images would settle it"
    if not report.flips:
        return [f"  {more} if none of them flips: give them with --gate-data FOLDER, labels or not"]
    return [f"  {more} at this rate of flips: give them, labelled, with --gate-data FOLDER"]


def case_line(case: "CaseChange") -> str:
    """One image as the original and the variant answer it."""
    return (
        f"    {case.path}: {case.original} {case.original_probability:.3f} → "
        f"{case.variant} {case.variant_probability:.3f} "
        f"(truth {case.truth or 'unknown'}, logit change {case.max_logit_change:.3g})"
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
        at_least = ">" if trial.stopped_after else ""
        error = f"{at_least}{trial.logit_error:.4f}"
        latency = "" if trial.latency is None else f"{trial.latency:.2f}"
        flips = "" if trial.flips is None else str(trial.flips)
        verdict = trial.verdict or ""
        if trial.dropped_after is not None:
            flips = f"{flips} or more"
            verdict = f"dropped after {trial.dropped_after:,} images"
        rows.append((recipe, layers, error, latency, flips, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return [*lines, *(f"    no time for: {recipe}" for recipe in calibration.untried)]


def any_size_line(file: "AnySizeFile") -> str:
    """What became of a file that resizes pictures itself."""
    held = f"{file.n:,} val pictures of {file.n_sizes:,} sizes"
    if file.failed:
        problem = f"{file.n_changed:,} of {held} get another answer"
        return f"{file.path}: FAIL, and it is removed: {problem}"
    return f"{file.path}: the same answers to the last bit on {held}"
