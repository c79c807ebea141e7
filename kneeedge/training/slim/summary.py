"""The end of `kneeedge slim`, in text."""

from pathlib import Path

from kneeedge.spec import DISCLAIMER
from kneeedge.summaries import width_text
from kneeedge.training.slim.curve import CURVE, FIGURE
from kneeedge.training.slim.report import SlimReport, Step

SLOWER = 1.05
"a measured latency beyond this share of the one asked for is said"


def slim_text(report: SlimReport, folder: Path) -> str:
    """Each width that was tried, the gate's word on it, and which was taken."""
    lines = [f"original: {report.original.original}   int8 files against it on the validation images", ""]
    lines += [line for step in report.steps for line in step_lines(step, step.name == report.chosen)]
    if report.config.curve:
        lines += ["", f"accuracy against latency: {folder / FIGURE}, {folder / CURVE}"]
    return "\n".join([*lines, "", f"run: {folder}   next: kneeedge bench --run {folder}", DISCLAIMER])


def step_lines(step: Step, taken: bool) -> list[str]:
    """One width."""
    lines = [
        f"{step.verdict.upper()}  {step.name}{'  ← taken' if taken else ''}",
        f"  {step.reason}",
        (
            f"  {step.measured_ms:.3g} ms an image (expected {step.expected_ms:.3g}, {step.expected_speedup:.1f}× the "
            f"original's int8); {step.size_mb:.1f} MB; {step.flips} of {step.n} answers changed, accuracy "
            f"{step.accuracy_change:+.4f}"
        ),
        f"  channels {width_text(step.channels)}",
    ]
    if step.measured_ms > SLOWER * step.asked_ms:
        lines.append(f"  slower than the {step.asked_ms:.3g} ms asked for; ask for less to have it, on a quiet machine")
    return lines
