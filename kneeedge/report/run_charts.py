"""The charts of a run's page: curves, ROC, calibration, and what corruption costs."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kneeedge.inference.metrics import Evaluation
from kneeedge.report.charts import N_COLOURS, Axis, Chart, Series, axis, chart_svg, share_axis
from kneeedge.runs.answers import RecordedAnswers
from kneeedge.statistics.auroc import roc_points
from kneeedge.statistics.curves import loss_top
from kneeedge.statistics.reliability import FIGURE_BINS, ReliabilityBin, reliability_bins
from kneeedge.stress.record import CellScore, StressedModel

Row = Mapping[str, float]
DIAGONAL = ((0.0, 0.0), (1.0, 1.0))
MANY = 40
"epochs from which on a line has no dots"


def curve_charts(history: Sequence[Row], kept: int | None, by_auroc: bool) -> list[str]:
    """Loss, accuracy and, where it chose the epoch, validation AUROC, as SVG."""
    charts = [_loss(history, kept), _accuracy(history, kept)]
    if by_auroc:
        charts.append(_auroc(history, kept))
    return [chart_svg(chart) for chart in charts]


def _loss(history: Sequence[Row], kept: int | None) -> Chart:
    pairs = [(row["loss"], row["val_loss"]) for row in history]
    top = loss_top(pairs)
    shown = [value for pair in pairs for value in pair if top is None or value <= top]
    y = axis("loss", shown, least=0.0)
    cut = [
        f"{name} {value:.3g} in epoch {row['epoch']:.0f} is above"
        for row, pair in zip(history, pairs, strict=True)
        for name, value in zip(("training", "validation"), pair, strict=True)
        if value > y.high
    ]
    last = history[-1]
    alt = (
        f"Loss by epoch: training ends at {last['loss']:.3g}, validation at {last['val_loss']:.3g}"
    )
    return _by_epoch("Loss", y, history, ("loss", "val_loss"), kept, alt, tuple(cut[:3]))


def _accuracy(history: Sequence[Row], kept: int | None) -> Chart:
    values = [row[name] for row in history for name in ("accuracy", "val_accuracy")]
    last = history[-1]
    alt = (
        f"Accuracy by epoch: training ends at {last['accuracy']:.3f}, "
        f"validation at {last['val_accuracy']:.3f}"
    )
    y = axis("accuracy", values)
    return _by_epoch("Accuracy", y, history, ("accuracy", "val_accuracy"), kept, alt)


def _auroc(history: Sequence[Row], kept: int | None) -> Chart:
    values = [row["val_auroc"] for row in history]
    of_kept = [row["val_auroc"] for row in history if row["epoch"] == kept]
    title = "Validation AUROC, which chose the epoch"
    alt = f"{title}: {of_kept[0]:.4f} in epoch {kept}" if of_kept else title
    return _by_epoch(title, axis("AUROC", values), history, ("", "val_auroc"), kept, alt)


def _by_epoch(
    title: str,
    y: Axis,
    history: Sequence[Row],
    columns: tuple[str, str],
    kept: int | None,
    alt: str,
    notes: tuple[str, ...] = (),
) -> Chart:
    """A line for each column that has a name: training, then validation."""
    epochs = [row["epoch"] for row in history]
    labels = ("training (augmented views)", "validation")
    series = []
    for colour, (column, label) in enumerate(zip(columns, labels, strict=True)):
        if column:
            points = tuple((row["epoch"], row[column]) for row in history)
            dots = len(history) < MANY
            series.append(Series(points=points, colour=colour, label=label, dots=dots))
    first = min(epochs)
    x = epoch_axis(first, max(*epochs, first + 1))
    lines = (((kept, y.low), (kept, y.high)),) if kept else ()
    note = (f"kept: epoch {kept}",) if kept else ()
    return Chart(
        title=title, x=x, y=y, series=tuple(series), lines=lines, notes=(*note, *notes), alt=alt
    )


def epoch_axis(first: float, last: float) -> Axis:
    """Whole epochs alone."""
    step = max(1, round((last - first) / 6))
    ticks = tuple(float(k) for k in range(int(first), int(last) + 1, step))
    return Axis("epoch", first, last, ticks)


def roc_chart(answers: RecordedAnswers, evaluation: Evaluation) -> str:
    """ROC of the positive class with its operating point; of more, of each against the rest."""
    classes = evaluation.classes
    positive = classes.index(evaluation.positive)
    two = len(classes) == 2
    series = []
    for colour, k in enumerate([positive] if two else range(len(classes))):
        across, up = roc_points(answers.labels == k, answers.probabilities[:, k])
        points = tuple(zip(across.tolist(), up.tolist(), strict=True))
        label = auroc_label(evaluation, classes[k])
        series.append(Series(points=points, colour=colour, label=label, dots=False))
    if two and evaluation.sensitivity and evaluation.specificity:
        series.append(_operating_point(evaluation))
    chart = Chart(
        title="ROC",
        x=share_axis("1 − specificity"),
        y=share_axis("sensitivity"),
        series=tuple(series),
        lines=(DIAGONAL,),
        alt=f"ROC: {'; '.join(each.label for each in series)}",
    )
    return chart_svg(chart)


def auroc_label(evaluation: Evaluation, name: str) -> str:
    """A class with its AUROC and its interval."""
    of_class = evaluation.one_versus_rest.get(name)
    estimate = of_class.auroc if of_class else evaluation.auroc
    if estimate is None:
        return f"{name}: one class alone, no AUROC"
    low = estimate.interval.low
    return f"{name}: AUROC {estimate.value:.3f} [{low:.3f}, {estimate.interval.high:.3f}]"


def _operating_point(evaluation: Evaluation) -> Series:
    sensitivity = evaluation.sensitivity
    specificity = evaluation.specificity
    if sensitivity is None or specificity is None:
        raise ValueError("no operating point without both classes")
    of_sensitivity = sensitivity.interval
    of_specificity = specificity.interval
    return Series(
        points=((1 - specificity.value, sensitivity.value),),
        bars=((of_sensitivity.low, of_sensitivity.high),),
        across=((1 - of_specificity.high, 1 - of_specificity.low),),
        colour=1,
        label=f"threshold {evaluation.threshold:.3g}, 95 % intervals",
        lone=True,
    )


def calibration_charts(answers: RecordedAnswers, evaluation: Evaluation) -> list[str]:
    """Observed share against mean probability, with Wilson's intervals; and images of each bin."""
    positive = evaluation.classes.index(evaluation.positive)
    scores = answers.probabilities[:, positive]
    bins = reliability_bins(answers.labels == positive, scores)
    probability = share_axis(f"probability of {evaluation.positive}")
    observed = Chart(
        title="Calibration",
        x=probability,
        y=share_axis(f"share that is {evaluation.positive}"),
        series=(_observed(bins, f"ECE {evaluation.ece:.4f}, 95 % intervals"),),
        lines=(DIAGONAL,),
        alt=f"Calibration: expected calibration error {evaluation.ece:.4f}",
    )
    counts, edges = np.histogram(scores, np.linspace(0, 1, FIGURE_BINS + 1))
    columns = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    images = Chart(
        title="Images by probability",
        x=probability,
        y=axis("images", counts.tolist(), least=0.0),
        series=(),
        boxes=tuple((left, right, float(n)) for left, right, n in columns),
        alt=f"Images by probability: {', '.join(map(str, counts.tolist()))} in ten bins",
    )
    return [chart_svg(observed), chart_svg(images)]


def _observed(bins: Sequence[ReliabilityBin], label: str) -> Series:
    return Series(
        points=tuple((each.mean, each.observed) for each in bins),
        bars=tuple((each.interval.low, each.interval.high) for each in bins),
        colour=0,
        label=label,
        lone=True,
    )


def damage_charts(model: StressedModel) -> list[str]:
    """Accuracy, and what is wrong and not refused, by severity, of the kinds that cost most.

    None where no kind was tried at three severities or more.
    """
    graded = [kind for kind in model.kinds if len(model.of_kind(kind)) > 2]
    graded.sort(key=lambda kind: min(row.accuracy.value for row in model.of_kind(kind)))
    kinds = graded[:N_COLOURS]
    if not kinds:
        return []
    severities = [row.severity for row in model.of_kind(kinds[0])]
    x = Axis("severity; 0: clean", 0, max(severities), (0, *severities))
    charts = []
    shares: tuple[tuple[str, Callable[[CellScore], float]], ...] = (
        ("Accuracy", lambda row: row.accuracy.value),
        ("Wrong and not refused", lambda row: row.wrong_unrefused),
    )
    for title, share in shares:
        points = {
            kind: tuple((row.severity, share(row)) for row in (model.clean, *model.of_kind(kind)))
            for kind in kinds
        }
        y = axis("share of the images", [value for line in points.values() for _, value in line])
        lines = [
            Series(points=line, colour=i, label=kind)
            for i, (kind, line) in enumerate(points.items())
        ]
        alt = f"{title} by severity, of {', '.join(kinds)}"
        charts.append(chart_svg(Chart(title=title, x=x, y=y, series=tuple(lines), alt=alt)))
    return [f'<div class="charts">{"".join(charts)}</div>']
