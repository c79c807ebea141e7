"""The figures of a model card as tables: of the original, the slimmed model, files, and speed."""

from collections.abc import Sequence

from kneeedge.inference.metrics import Evaluation, OneVersusRest
from kneeedge.model.provenance import Score, Slimmed
from kneeedge.model.spec import ModelSpec
from kneeedge.model.verdict import INCONCLUSIVE
from kneeedge.report.info import width_text
from kneeedge.report.markdown import table
from kneeedge.report.scorecard import OF_CLASS, TITLES, figure_title, with_interval
from kneeedge.runs.benchmark import BenchResult, Row, model_name, single_rows, times_as_fast
from kneeedge.runs.export_report import RefusalChange, VerifyReport
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

SCORES = ("accuracy", "auroc", "sensitivity", "specificity")
FILE_COLUMNS = (
    "file", "verdict", "flips", "accuracy change [95 %]", "McNemar p", "largest logit change",
    "refused beyond the limit",
)  # fmt: skip
SPEED_COLUMNS = ("model", "precision", "provider", "ms an image", "×")


def slimmed_lines(spec: ModelSpec, slimmed: Slimmed, source: str) -> list[str]:
    """Which network it was slimmed from, the widths of both, and what both score on the source."""
    widths = [
        ["original", width_text(slimmed.channels)],
        ["this model", width_text(spec.architecture.channels)],
    ]
    rows = []
    for split, score in slimmed.scores.items():
        own = spec.training.scores.get(split)
        for name in SCORES:
            images = images_of(source, split, score.n)
            title = TITLES.get(name, name)
            rows.append([images, title, _score_cell(score, name), _score_cell(own, name)])
    origin = f"`{slimmed.original}` (weights of sha256 `{slimmed.sha256[:SHOWN_DIGITS]}`)"
    return [
        (
            f"This is a slimmed model: a narrower network, made from {origin} "
            "by leaving out channels and training on the original's answers. "
            "Its temperature, threshold and limit to abstain are its own; "
            "its files are held against that original."
        ),
        "",
        *table(["network", "output channels of each 3×3 convolution"], widths),
        "",
        *table(["source", "figure", "original [95 %]", "this model [95 %]"], rows),
    ]


def images_of(source: str, split: str, n: int) -> str:
    """Which images a figure is of: `knee-kl` val, 315 images."""
    return f"{source} {split}, {counted(n, 'image')}"


def metric_lines(evaluations: dict[str, Evaluation], source: str) -> list[str]:
    """Every figure of the original with its 95 % interval, by which method and of which images."""
    lines: list[str] = []
    for split, evaluation in evaluations.items():
        prevalence = f"prevalence {evaluation.prevalence:.3f}"
        images = images_of(source, split, evaluation.n)
        lines += [f"### {images}, {prevalence}", ""]
        figures = [*estimate_rows(evaluation), *error_rows(evaluation)]
        rows = [[*row, images] for row in figures]
        lines += [*table(["figure", "value", "95 % interval", "method", "source"], rows), ""]
        if evaluation.uncalibrated:
            lines += ["ECE and Brier score: before → after the fitted temperature.", ""]
        if evaluation.one_versus_rest:
            titles = [TITLES.get(name, name) for name in OF_CLASS]
            rows = [class_row(*item) for item in evaluation.one_versus_rest.items()]
            lines += [*table(["class against the rest", *titles], rows), ""]
        lines += [*table(["truth \\ answer", *evaluation.classes], confusion_rows(evaluation)), ""]
    return lines[:-1]


def estimate_rows(evaluation: Evaluation) -> list[list[str]]:
    """Title, value, interval and the interval's method."""
    rows = []
    for name, figure in evaluation.estimates.items():
        span = f"{figure.interval.low:.4f} to {figure.interval.high:.4f}"
        title = figure_title(name, evaluation)
        rows.append([title, f"{figure.value:.4f}", span, figure.method])
    return rows


def error_rows(evaluation: Evaluation) -> list[list[str]]:
    """Calibration error and Brier score, and where the temperature was fitted also those before."""
    before = evaluation.uncalibrated
    rows = []
    for title, name in (("ECE", "ece"), ("Brier score", "brier")):
        value = f"{getattr(evaluation, name):.4f}"
        if before:
            value = f"{getattr(before, name):.4f} → {value}"
        rows.append([title, value, "", ""])
    return rows


def class_row(name: str, one_versus_rest: OneVersusRest) -> list[str]:
    """A class's figures against the rest; only with more than two classes."""
    cells = [name]
    for figure in OF_CLASS:
        estimate = getattr(one_versus_rest, figure)
        cells.append(with_interval(estimate.value, estimate.interval) if estimate else "none")
    return cells


def confusion_rows(evaluation: Evaluation) -> list[list[object]]:
    """A row for each true class."""
    rows = zip(evaluation.classes, evaluation.confusion, strict=True)
    return [[name, *counts] for name, counts in rows]


def variant_lines(variants: Sequence[VerifyReport], source: str) -> list[str]:
    """Each exported file beside the original on the same images."""
    if not variants:
        return ["None yet: run `kneeedge export`."]
    first = variants[0]
    original = f"the original, `{first.against}`," if first.against else "the original"
    tolerance = f"tolerance {first.tolerance:.2%} of accuracy"
    line = f"Against {original} on the {first.split} images of {source}; {tolerance}."
    line += "".join(f" {text}" for text in map(gate_data_text, variants) if text)
    slimmed = [report for report in variants if report.own_logit_change is not None]
    if slimmed:
        changes = [f"{report.precision} {report.own_logit_change:.3g}" for report in slimmed]
        whose = "this model's own PyTorch network"
        line += f" Largest logit change from {whose}: {', '.join(changes)}."
    own = [report.precision for report in variants if report.refusals and report.refusals.own_limit]
    if own:
        line += f" The limit of {' and '.join(own)} is set by the file's own distances."
    same = [report.precision for report in variants if report.passed_by_logits]
    if same:
        line += f" {', '.join(same)} passed as the same network: logits are alike up to rounding."
    if any(report.verdict == INCONCLUSIVE for report in variants):
        line += " Inconclusive: too few images to exclude such a loss, however few flips."
    return [*table(FILE_COLUMNS, map(variant_row, variants)), "", line]


def gate_data_text(report: VerifyReport) -> str:
    """Which further images a file's verdict rests on, and what they tell; "" without any."""
    data = report.gate_data
    if data is None:
        return ""
    text = f"The verdict on {report.precision} rests on {report.images}"
    if not data.is_labelled:
        text += f", accuracy on the {report.split} images alone"
    if data.left_out:
        why = ", ".join(f"{count:,} {reason}" for reason, count in data.left_out.items())
        text += f"; left out of {data.folder}: {why}"
    return f"{text}."


def variant_row(report: VerifyReport) -> list[str]:
    """What FILE_COLUMNS name, of one file."""
    change = report.changes["accuracy"]
    return [
        report.precision,
        report.verdict,
        f"{len(report.flips)} of {report.deciding.n}",
        f"{change.delta:+.4f} [{change.interval.low:+.4f}, {change.interval.high:+.4f}]",
        f"{change.mcnemar_p:.3f}",
        f"{report.max_abs_logit_change:.3g}",
        refused_text(report.refusals),
    ]


def refused_text(refusals: RefusalChange | None) -> str:
    """How many images the original and the file refuse, and beyond which limit of the distance."""
    if refusals is None:
        return "none"
    counts = f"{refusals.original} → {refusals.variant}"
    if refusals.original_limit is None:
        return counts
    limits = f"{refusals.original_limit:.4g}"
    if refusals.own_limit is not None:
        limits += f" → {refusals.own_limit:.4g}"
    return f"{counts} beyond {limits}"


def speed_lines(speed: BenchResult | None, stale: Sequence[str] = ()) -> list[str]:
    """One image at a time, as `kneeedge bench` measured it in one session.

    `stale` are the names of what it measured beside, which is no file of the run as it is now.
    """
    others = f" Left out, since they are not this run's files as they are: {', '.join(stale)}."
    if speed is None:
        note = "Not measured yet: run `kneeedge bench`, which adds it to the run's MODEL_CARD.md."
        return [note + (others if stale else "")]
    single = single_rows(speed)
    first = single[0]
    where = f"{first.threads} threads, {speed.environment.cpu}"
    if speed.measured:
        where += f", {speed.measured}"
    note = f"Median of single images (× the first row's speed), {where}."
    note += others if stale else ""
    if any(row.unstable is None for row in single):
        note += " Too few rounds to tell whether the machine was steady."
    if speed.warnings:
        note += f" Measured with warnings: {'; '.join(speed.warnings)}."
    return [*table(SPEED_COLUMNS, [speed_row(row, first) for row in single]), "", note]


def speed_row(row: Row, first: Row) -> list[str]:
    """What SPEED_COLUMNS name, of one file beside the first."""
    return [
        model_name(row.model),
        row.precision,
        row.provider,
        f"{row.latency_ms.p50 or row.latency_ms.mean:.3g}",
        f"{times_as_fast(row, first):.2f}",
    ]


def _score_cell(score: Score | None, name: str) -> str:
    value = getattr(score, name, None)
    if score is None or value is None:
        return "none"
    interval = score.intervals.get(name)
    return with_interval(value, interval) if interval else f"{value:.4f}"
