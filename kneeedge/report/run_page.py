"""`kneeedge report RUN`: all that a run folder holds, as one page that needs nothing else."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from kneeedge.inference.metrics import Evaluation
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.card import decision_lines, limit_lines, split_rows, use_lines
from kneeedge.report.card_figures import slimmed_lines
from kneeedge.report.charts import CHART_STYLE, span_svg
from kneeedge.report.claim import claim_rows
from kneeedge.report.info import width_text
from kneeedge.report.joint import joint_lines
from kneeedge.report.other_records import other_sections
from kneeedge.report.page import (
    Section,
    contents,
    page,
    plain_table,
    record_html,
    section_html,
    source,
    table,
    verdict_tag,
    words,
)
from kneeedge.report.prose import prose
from kneeedge.report.run_charts import (
    calibration_charts,
    curve_charts,
    damage_charts,
    roc_chart,
)
from kneeedge.report.run_facts import RunFacts
from kneeedge.report.run_pictures import sample_figures, wrong_figures
from kneeedge.report.scorecard import (
    TITLES,
    cell_interval,
    figure_title,
    methods,
    span_text,
)
from kneeedge.report.stress_gate import under_corruption
from kneeedge.report.variants import speed_parts, variant_parts
from kneeedge.runs.answers import RecordedAnswers
from kneeedge.runs.config import SLIM
from kneeedge.system.plural import counted

N_WRONG = 12
"of the wrong answers that are shown, the surest first"
NO_PICTURES = "Without pictures of patients; <code>--with-images</code> adds them."
PRIVATE = "This page holds pictures of patients: keep it where the images are."
RUN_STYLE = """
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0; font-size: .92rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr));
  gap: 1rem; }
.tag { display: inline-block; border-radius: 1rem; padding: 0 .6rem; font-size: .82rem;
  border: 1px solid currentColor; }
.tag.pass { color: var(--good); } .tag.fail { color: var(--fault); }
.tag.inconclusive { color: var(--warning); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr));
  gap: .8rem; margin: 1rem 0; }
.fact { background: var(--soft); border-radius: .5rem; padding: .6rem .9rem; }
.fact b { display: block; font-size: 1.35rem; }
.fact span { font-size: .86rem; opacity: .8; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
  gap: 1rem; margin: .8rem 0; }
figure { margin: 0; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; }
.row { display: grid; grid-template-columns: repeat(5, minmax(0, 10rem)); gap: .4rem; }
@media (max-width: 40rem) { .row { grid-template-columns: repeat(3, 1fr); } }
.frame { background: #000; color: #bbb; border-radius: .3rem; display: flex; min-height: 6rem;
  align-items: center; justify-content: center; font-size: .8rem; text-align: center; }
.frame img { display: block; }
figcaption { font-size: .84rem; overflow-wrap: anywhere; margin-top: .2rem; }
pre { white-space: pre-wrap; background: var(--soft); border-radius: .3rem; padding: .6rem;
  max-height: 30rem; overflow: auto; }
pre b { font-weight: 400; }
:target { outline: 2px solid var(--warning); outline-offset: 2px; }
.source { font-size: .84rem; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
"""


def run_page(facts: RunFacts, with_images: bool = False) -> str:
    """The page as HTML, the same bytes for the same run.

    `with_images` adds samples of the training images, and the wrong answers with their class maps.
    """
    sections = [*_sections(facts, with_images)]
    spec = facts.card.spec
    classes = f"{', '.join(spec.classes)}; the positive class is {spec.positive}"
    parts = [
        f"<h1>Run {words(facts.name)}</h1>",
        f"<p>{words(classes)}.</p>",
        f'<p class="soft">{words(DISCLAIMER)} {PRIVATE if with_images else NO_PICTURES}</p>',
        caveat_html(spec.training.caveat),
        contents(sections),
        *map(section_html, sections),
    ]
    return page(f"run: {facts.name}", parts, CHART_STYLE + RUN_STYLE)


def caveat_html(caveat: str) -> str:
    """Why the figures are too good; nothing where they are not."""
    return f'<p class="verdict failed">{words(caveat)}</p>' if caveat else ""


def _sections(facts: RunFacts, with_images: bool) -> Iterator[Section]:
    yield Section("summary", "In short", tuple(_summary(facts)))
    yield Section("data", "Data, splits and leaks", tuple(_data(facts, with_images)))
    if facts.history:
        yield Section("training", "Training", tuple(_training(facts)))
    if facts.slim or facts.card.spec.training.slimmed:
        yield Section("slimmed", "A slimmed network", tuple(_slimmed(facts)))
    for split, evaluation in facts.card.evaluations.items():
        parts = tuple(_answers(split, evaluation, facts.answers[split]))
        yield Section(f"on-{split}", f"How well it answers: {split}", parts)
    yield Section("wrong", "The wrongest answers", tuple(_wrong(facts, with_images)))
    yield Section("files", "Exported files", tuple(variant_parts(facts.exported)))
    yield Section("speed", "Speed", tuple(speed_parts(facts.card)))
    yield Section("corruption", "Under corruption", tuple(_stress(facts)))
    yield Section("looks", "Does it look at the joint?", tuple(_joint(facts)))
    yield from other_sections(facts.records)
    yield Section("limits", "Use and limits", tuple(_limits(facts)))
    yield Section("claim", "CLAIM 2024", tuple(_claim(facts)))
    yield Section("made", "How it was made", tuple(_made(facts)))
    records = tuple(map(record_html, facts.records.values()))
    yield Section("records", "Records", records)


def _summary(facts: RunFacts) -> Iterator[str]:
    """The figures of the last held-out split, and each file's verdict."""
    cells = []
    for split, evaluation in list(facts.card.evaluations.items())[-1:]:
        for name in ("accuracy", "auroc", "sensitivity", "specificity"):
            estimate = evaluation.estimates.get(name)
            if estimate:
                title = f"{figure_title(name, evaluation)} on {split}"
                interval = f"[{estimate.interval.low:.3f}, {estimate.interval.high:.3f}]"
                cells.append(_fact(title, f"{estimate.value:.3f}", interval))
    for file in facts.exported.files if facts.exported else ():
        report = file.report
        flips = f"{len(report.flips)} answers flipped on {report.images}"
        cells.append(_fact(f"{report.precision} file: {flips}", report.verdict, ""))
    yield f'<div class="facts">{"".join(cells)}</div>'


def _fact(title: str, value: str, interval: str) -> str:
    below = f"<span>{words(interval)} {words(title)}</span>"
    return f'<div class="fact"><b>{words(value)}</b>{below}</div>'


def _data(facts: RunFacts, with_images: bool) -> Iterator[str]:
    card = facts.card
    training = card.spec.training
    heads = ["split", *card.dataset.classes, "images", "groups"]
    yield plain_table(heads, split_rows(card.dataset), "images of each class")
    yield (
        '<p class="soft">A group is a patient where the patient is known, '
        "else an image with its copies.</p>"
    )
    leak = "No held-out image is known to stand in another split, nor its patient."
    yield f"<p>Splits: {words(training.protocol)}. {'' if training.caveat else leak}</p>"
    audit = training.data_report
    if audit:
        rows = [
            ("pairs of identical images", f"{audit.exact_pairs:,}"),
            ("pairs of altered copies", f"{audit.near_pairs:,}"),
            ("pairs with different labels", f"{audit.conflicts:,}"),
            ("pairs in two splits", f"{audit.leaks:,}"),
        ]
        yield plain_table(("audit", f"of {counted(audit.n_images, 'image')}"), rows)
    else:
        yield "<p>The data was not audited for altered copies and label conflicts.</p>"
    digest = f"<code>{words(training.data_sha256)}</code>"
    yield f"<p>Hash of files, splits and classes: {digest} ({source('spec', 'training')}).</p>"
    if with_images:
        yield "<h3>Samples of the training images</h3>"
        yield from sample_figures(card.dataset, card.spec)


def _training(facts: RunFacts) -> Iterator[str]:
    by_auroc = facts.card.spec.training.recipe != SLIM
    charts = curve_charts(facts.history, facts.kept_epoch, by_auroc)
    yield f'<div class="charts">{"".join(charts)}</div>'
    if not by_auroc:
        yield '<p class="soft">A slimmed network keeps its last epoch; nothing chose it.</p>'
    columns = list(facts.history[0])
    rows = [[f"{row[name]:.4g}" for name in columns] for row in facts.history]
    yield f"<details><summary>every epoch</summary>{plain_table(columns, rows)}</details>"


def _slimmed(facts: RunFacts) -> Iterator[str]:
    spec = facts.card.spec
    if spec.training.slimmed:
        yield from prose(slimmed_lines(spec, spec.training.slimmed, facts.card.source))
    if facts.slim:
        rows = [
            (
                words(step.name + (" (taken)" if step.name == facts.slim.chosen else "")),
                verdict_tag(step.verdict),
                f"{step.measured_ms:.3g}",
                f"{step.expected_speedup:.1f}",
                f"{step.flips} of {step.n}",
                f"{step.accuracy_change:+.4f}",
                f"{step.size_mb:.1f}",
            )
            for step in facts.slim.steps
        ]
        heads = ("width", "gate", "ms an image", "× int8", "flips", "accuracy change", "MB")
        images = facts.slim.steps[0].images if facts.slim.steps else ""
        yield table(heads, rows, f"widths that were tried, on {words(images or 'val')}")


def _answers(split: str, evaluation: Evaluation, answers: RecordedAnswers) -> Iterator[str]:
    prevalence = f"prevalence of {evaluation.positive} {evaluation.prevalence:.3f}"
    yield f"<p>{counted(evaluation.n, 'image')}, {words(prevalence)}.</p>"
    ends = ends_of(evaluation)
    yield table(
        ("figure", "value", "95 % interval", f"{ends[0]:g} to 1", "record"),
        [*_figure_rows(split, evaluation, ends)],
    )
    yield f'<p class="soft">Intervals: {words(methods(evaluation))}.</p>'
    if evaluation.uncalibrated:
        yield '<p class="soft">ECE, Brier score, log loss: before → after the temperature.</p>'
    yield confusion_table(evaluation)
    charts = [roc_chart(answers, evaluation), *calibration_charts(answers, evaluation)]
    yield f'<div class="charts">{"".join(charts)}</div>'


def ends_of(evaluation: Evaluation) -> tuple[float, float]:
    """A scale on which all intervals can be told apart: from a tenth below the lowest to 1."""
    lowest = min(estimate.interval.low for estimate in evaluation.estimates.values())
    return math.floor(10 * lowest) / 10, 1.0


def _figure_rows(
    split: str, evaluation: Evaluation, ends: tuple[float, float]
) -> Iterator[Sequence[str]]:
    for name, estimate in evaluation.estimates.items():
        low, high = estimate.interval.low, estimate.interval.high
        yield (
            words(figure_title(name, evaluation)),
            f"{estimate.value:.4f}",
            f"{low:.3f} to {high:.3f}",
            span_svg(estimate.value, low, high, ends),
            source("metrics", split, name),
        )
    before = evaluation.uncalibrated
    for title, name in (("ECE", "ece"), ("Brier score", "brier"), ("log loss", "log_loss")):
        value = f"{getattr(evaluation, name):.4f}"
        change = f"{getattr(before, name):.4f} → {value}" if before else ""
        yield title, value, change, "", source("metrics", split, name)
    for name, one in evaluation.one_versus_rest.items():
        for figure in ("sensitivity", "specificity", "auroc"):
            estimate = getattr(one, figure)
            if estimate:
                title = f"{name} against the rest: {TITLES.get(figure, figure)}"
                span = f"{estimate.interval.low:.3f} to {estimate.interval.high:.3f}"
                yield words(title), f"{estimate.value:.4f}", span, "", ""


def confusion_table(evaluation: Evaluation) -> str:
    """Counts, shares of each row and their intervals; rows are the truth."""
    rows = []
    for i, (name, counts) in enumerate(zip(evaluation.classes, evaluation.confusion, strict=True)):
        total = max(sum(counts), 1)
        cells = []
        for k, count in enumerate(counts):
            interval = cell_interval(evaluation, i, k)
            span = f'<br><span class="soft">{span_text(interval)}</span>' if interval else ""
            value = f"<strong>{count:,}</strong>" if i == k else f"{count:,}"
            cells.append(f"{value} ({count / total:.1%}){span}")
        rows.append([words(name), *cells])
    heads = ["truth", *(f"answered {name}" for name in evaluation.classes)]
    return table(heads, rows, "confusion: images, share of the row, 95 % interval")


def _wrong(facts: RunFacts, with_images: bool) -> Iterator[str]:
    """Of the last held-out split the wrong answers, the surest first."""
    card = facts.card
    for split, answers in list(facts.answers.items())[-1:]:
        order = wrong_answers(facts, split)
        shown = order[:N_WRONG]
        counts = f"{len(order):,} of {len(answers.labels):,}"
        yield f"<p>{counts} answers on {words(split)} are wrong.</p>"
        if not shown:
            continue
        rows = [_wrong_row(facts, answers, i) for i in shown]
        heads = ("image", "truth", "answer", "probability of the answer", "distance")
        more = len(order) - len(shown)
        caption = f"the surest first; {more:,} more in answers.csv" if more else "the surest first"
        yield plain_table(heads, rows, caption, is_text=True)
        if with_images:
            samples = {sample.name: sample for sample in card.dataset.split(split)}
            chosen = [samples[answers.names[i]] for i in shown]
            yield from wrong_figures(facts, chosen, rows)


def wrong_answers(facts: RunFacts, split: str) -> list[int]:
    """Rows of the split's answers that are wrong, by the answer's probability, then by name."""
    answers = facts.answers[split]
    decided = facts.card.spec.decide(answers.probabilities)
    wrong = np.flatnonzero(decided != answers.labels).tolist()
    return sorted(wrong, key=lambda i: (-answers.probabilities[i, decided[i]], answers.names[i]))


def _wrong_row(facts: RunFacts, answers: RecordedAnswers, i: int) -> tuple[str, ...]:
    spec = facts.card.spec
    decided = int(spec.decide(answers.probabilities[i : i + 1])[0])
    distance = ""
    if answers.distances is not None:
        distance = f"{answers.distances[i]:.4g}"
        if spec.novelty and spec.novelty.refuses(answers.distances[i : i + 1])[0]:
            distance += ", not answered by infer"
    return (
        answers.names[i],
        spec.classes[answers.labels[i]],
        spec.classes[decided],
        f"{answers.probabilities[i, decided]:.4f}",
        distance,
    )


def _stress(facts: RunFacts) -> Iterator[str]:
    yield from prose(under_corruption(facts.card))
    if facts.card.stress:
        yield from damage_charts(facts.card.stress.models[0])
        yield f"<p>{source('stress')}</p>"


def _joint(facts: RunFacts) -> Iterator[str]:
    yield from prose(joint_lines(facts.card.joint, facts.card.hashes))
    if facts.card.joint:
        yield f"<p>{source('joint')}</p>"


def _limits(facts: RunFacts) -> Iterator[str]:
    yield from prose(use_lines(facts.card.spec))
    yield "<h3>Threshold, probabilities and abstaining</h3>"
    yield from prose(decision_lines(facts.card.spec, facts.card.source))
    yield "<h3>Limits</h3>"
    yield from prose(limit_lines(facts.card))


def _claim(facts: RunFacts) -> Iterator[str]:
    claims = claim_rows(facts.card)
    n_answered = sum(bool(row.answer) for row in claims)
    rows = [(str(row.item), row.topic, row.answer or "for a person to answer") for row in claims]
    yield (
        f"<p>The run answers {n_answered} of {len(rows)} items of the Checklist for Artificial "
        "Intelligence in Medical Imaging (Tejani et al. 2024), here in short.</p>"
    )
    listed = plain_table(("item", "topic", "answer"), rows, is_text=True)
    yield f"<details><summary>all items</summary>{listed}</details>"


def _made(facts: RunFacts) -> Iterator[str]:
    card = facts.card
    training = card.spec.training
    architecture = card.spec.architecture
    network = f"VGG {width_text(architecture.channels)}, {architecture.head} head"
    versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
    yield f"<p>{words(network)}; weights: {words(training.weights)}; "
    yield f"recipe: {words(training.recipe)}; seed {training.seed}.</p>"
    if training.tuned:
        yield f"<p>{words(training.tuned.line)}.</p>"
    yield f"<p>Trained on {words(card.cpu)} with {words(versions)}.</p>"
    rows = [(words(name), words(value)) for name, value in card.choices.items()]
    listed = table(("option", "value"), rows, is_text=True)
    yield f"<details><summary>every option</summary>{listed}</details>"
