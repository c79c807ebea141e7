"""`kneeedge report OLD NEW`: what was changed, by which protocol, and what moved, as one page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kneeedge.model.provenance import Score
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.charts import CHART_STYLE, span_svg
from kneeedge.report.export import auroc_text, change_text
from kneeedge.report.page import (
    Record,
    Section,
    contents,
    field_name,
    page,
    plain_table,
    record_html,
    section_html,
    source,
    table,
    verdict_tag,
    words,
)
from kneeedge.report.run_facts import RunFacts
from kneeedge.report.run_page import RUN_STYLE, caveat_html
from kneeedge.report.runs import methods_text
from kneeedge.report.scorecard import TITLES, with_interval
from kneeedge.runs.benchmark import model_name, single_rows
from kneeedge.runs.compare import RunAnswers, RunComparison, answers_of
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.strict_json import plain

OLD, NEW = "old", "new"
GROUPS = (
    ("Options", "config", ("config",)),
    ("Data", "spec", ("training",)),
    ("Network and pixels", "spec", ("architecture",)),
    ("Network and pixels", "spec", ("pixel_path",)),
    ("Decision", "spec", ()),
    ("Machine and versions", "config", ("environment",)),
)
"title, record and the fields below which a change is looked for"
NOT_COMPARED = frozenset({
    "name", "training", "architecture", "pixel_path", "file", "format", "scores", "load_average",
    "classes", "temperature_fit",
})  # fmt: skip
"fields that tell of the outcome, or have a row of their own"
MOST_FLIPS = 100
"images whose answer changed that are named"
WHOLE_HASH = re.compile(r"[0-9a-f]{64}")
FIGURES = ("accuracy", "sensitivity", "specificity")


@dataclass(frozen=True)
class Difference:
    """A field that two records give otherwise."""

    record: str
    "spec or config"
    fields: tuple[str, ...]
    old: Any
    new: Any


def change_page(old: RunFacts, new: RunFacts, comparison: RunComparison) -> str:
    """The page as HTML, the same bytes for the same two runs."""
    sections = [
        Section("changed", "What was changed", tuple(_changed(old, new))),
        Section("protocol", "By which protocol", tuple(_protocol(old, new, comparison))),
        Section("moved", "What moved", tuple(_moved(old, new, comparison))),
        Section("files", "Exported files", tuple(_files(old, new))),
        Section("records", "Records", tuple(map(record_html, _records(old, new, comparison)))),
    ]
    parts = [
        f"<h1>{words(old.name)} → {words(new.name)}</h1>",
        f'<p class="soft">{words(DISCLAIMER)} Without pictures of patients.</p>',
        *(caveat_html(facts.card.spec.training.caveat) for facts in (old, new)),
        contents(sections),
        *map(section_html, sections),
    ]
    title = f"change: {old.name} to {new.name}"
    return page(title, parts, CHART_STYLE + RUN_STYLE)


def _records(old: RunFacts, new: RunFacts, comparison: RunComparison) -> Iterator[Record]:
    named = replace(comparison, first=old.name, second=new.name)
    yield Record("comparison", "the comparison", plain(named))
    for which, facts in ((OLD, old), (NEW, new)):
        for key, record in facts.records.items():
            yield replace(record, key=f"{which}-{key}", name=f"{facts.name}: {record.name}")


def _changed(old: RunFacts, new: RunFacts) -> Iterator[str]:
    n_same = 0
    rows: dict[str, list[list[str]]] = {title: [] for title, *_ in GROUPS}
    for title, record, below in GROUPS:
        differences, same = differing(old, new, record, below)
        rows[title] += map(_difference_row, differences)
        n_same += same
    for title, changed in rows.items():
        if changed:
            yield table(("field", "old", "new", "record"), changed, title, is_text=True)
    if not any(rows.values()):
        yield "<p>Nothing that the records of the two tell of.</p>"
    yield f'<p class="soft">{n_same:,} other fields are the same in both.</p>'


def differing(
    old: RunFacts, new: RunFacts, record: str, below: tuple[str, ...]
) -> tuple[list[Difference], int]:
    """The fields of a record that differ, and how many do not."""
    before = dict(_leaves(_within(old.records[record].value, below), below))
    after = dict(_leaves(_within(new.records[record].value, below), below))
    names = dict.fromkeys([*before, *after])
    differences = [
        Difference(record, name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]
    return differences, len(names) - len(differences)


def _within(value: Any, fields: tuple[str, ...]) -> Any:
    for name in fields:
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field that is no object, with its path; a list is one field."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, item in value.items():
        if key not in NOT_COMPARED:
            yield from _leaves(item, (*path, key))


def _difference_row(difference: Difference) -> list[str]:
    links = " ".join(
        source(f"{which}-{difference.record}", *difference.fields[:2], text=which)
        for which in (OLD, NEW)
    )
    values = (_shown(difference.old), _shown(difference.new))
    return [field_name(difference.fields), *map(words, values), links]


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return WHOLE_HASH.sub(lambda found: found[0][:SHOWN_DIGITS], str(value))


def _protocol(old: RunFacts, new: RunFacts, comparison: RunComparison) -> Iterator[str]:
    heads = ("split", "old", "new", "the same in both", "old alone", "new alone")
    yield plain_table(heads, _split_rows(old, new), "images, by the hash of their bytes")
    for line in crossings(old, new):
        yield f'<p class="verdict failed">{words(line)}</p>'
    facts = [
        ("how the splits came about", [each.card.spec.training.protocol for each in (old, new)]),
        ("seed", [str(each.card.spec.training.seed) for each in (old, new)]),
        ("threshold", [each.card.spec.threshold_rule for each in (old, new)]),
        ("weights and threshold chosen on", [chosen_on(old), chosen_on(new)]),
    ]
    yield plain_table(("", "old", "new"), [(name, *both) for name, both in facts], is_text=True)
    if comparison.reason:
        yield f"<p>Not paired: {words(comparison.reason)}.</p>"
        return
    yield (
        f"<p>Paired on the same {comparison.n:,} {words(comparison.split)} images, each with "
        "itself, as the PyTorch networks answered; intervals are of 95 %, "
        f"{words(methods_text(comparison.n_groups))}.</p>"
    )
    for caution in comparison.cautions:
        yield f"<p>Caution: {words(caution)}.</p>"


def chosen_on(facts: RunFacts) -> str:
    """On what the weights were chosen."""
    return "val" if facts.card.dataset.split("val") else "nothing: there is no val"


def _split_rows(old: RunFacts, new: RunFacts) -> list[tuple[str, ...]]:
    before = hashes_by_split(old)
    after = hashes_by_split(new)
    rows = []
    for split in dict.fromkeys([*before, *after]):
        ours = before.get(split, frozenset())
        theirs = after.get(split, frozenset())
        counts = (
            len(ours),
            len(theirs),
            len(ours & theirs),
            len(ours - theirs),
            len(theirs - ours),
        )
        rows.append((split, *(f"{n:,}" for n in counts)))
    return rows


def hashes_by_split(facts: RunFacts) -> Mapping[str, frozenset[str]]:
    """The hashes of the images of each split."""
    dataset = facts.card.dataset
    return {
        split: frozenset(sample.sha256 for sample in dataset.split(split))
        for split in dataset.counts()
    }


def crossings(old: RunFacts, new: RunFacts) -> list[str]:
    """What makes the test of one a part of what the other was made with, a line each."""
    before = hashes_by_split(old)
    after = hashes_by_split(new)
    lines = []
    for whose, tested, made in (("new", before, after), ("old", after, before)):
        for split in ("train", "val"):
            n = len(tested.get("test", frozenset()) & made.get(split, frozenset()))
            if n:
                other = "old" if whose == "new" else "new"
                lines.append(f"{n:,} test images of the {other} run are {split} of the {whose}")
    return lines


def _moved(old: RunFacts, new: RunFacts, comparison: RunComparison) -> Iterator[str]:
    if comparison.reason:
        yield (
            "<p>Each run's own figures are of its own images: their difference would mix the "
            "two.</p>"
        )
        yield table(
            ("figure", "old, its own images", "new, its own images", "records"),
            _own_rows(old, new),
            is_text=True,
        )
        return
    yield table(
        ("figure", "change", "in words", "−0.1 to 0.1", "old", "new"),
        [*_paired_rows(comparison)],
        f"paired, {comparison.n:,} {comparison.split} images",
    )
    yield from _flips(old, new, comparison)


def _own_rows(old: RunFacts, new: RunFacts) -> list[list[str]]:
    rows = []
    splits = dict.fromkeys([*old.card.evaluations, *new.card.evaluations])
    for split in splits:
        for name in ("accuracy", "auroc"):
            cells = []
            for facts in (old, new):
                evaluation = facts.card.evaluations.get(split)
                estimate = evaluation.estimates.get(name) if evaluation else None
                shown = with_interval(estimate.value, estimate.interval) if estimate else "none"
                cells.append(words(shown))
            links = f"{source('old-metrics', split, name, text=OLD)} "
            links += source("new-metrics", split, name, text=NEW)
            rows.append([words(f"{TITLES.get(name, name)}, {split}"), *cells, links])
    return rows


def _paired_rows(comparison: RunComparison) -> Iterator[list[str]]:
    for name in FIGURES:
        change = comparison.changes.get(name)
        if change:
            ends = (change.interval.low, change.interval.high)
            yield [
                source("comparison", "changes", name, text=name),
                words(change_text(change).removeprefix("change ")),
                words(verdict_of(*ends)),
                span_svg(change.delta, *ends, (-0.1, 0.1)),
                *(words(_score(score, name)) for score in comparison.scores),
            ]
    if comparison.auroc_change is not None:
        interval = comparison.auroc_interval
        ends = (interval.low, interval.high) if interval else (comparison.auroc_change,) * 2
        yield [
            source("comparison", "auroc_change", text="AUROC"),
            words(auroc_text(comparison.auroc_change, interval).removeprefix("AUROC change ")),
            words(verdict_of(*ends)),
            span_svg(comparison.auroc_change, *ends, (-0.1, 0.1)),
            *(words(_score(score, "auroc")) for score in comparison.scores),
        ]


def _score(score: Score, name: str) -> str:
    value = getattr(score, name)
    if value is None:
        return "none"
    interval = score.intervals.get(name)
    return with_interval(value, interval) if interval else f"{value:.4f}"


def verdict_of(low: float, high: float) -> str:
    """What a change's interval shows."""
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "no change is shown"


def _flips(old: RunFacts, new: RunFacts, comparison: RunComparison) -> Iterator[str]:
    """The images whose answer is another one, those that went wrong first."""
    split = comparison.split or ""
    change = comparison.changes["accuracy"]
    yield (
        f"<p>Answers that differ: {change.flips:,}; {change.lost:,} right to wrong, "
        f"{change.gained:,} wrong to right ({source('comparison', 'changes', 'accuracy')}).</p>"
    )
    before = answers_of(old.run, old.card.spec, split)
    after = answers_of(new.run, new.card.spec, split)
    rows = _flip_rows(before, after, new.card.spec.classes)
    if rows:
        heads = ("image", "truth", "old", "new", "")
        more = len(rows) - MOST_FLIPS
        caption = f"{more:,} more are not named" if more > 0 else ""
        yield plain_table(heads, rows[:MOST_FLIPS], caption, is_text=True)


def _flip_rows(
    before: RunAnswers, after: RunAnswers, classes: Sequence[str]
) -> list[tuple[str, ...]]:
    rows = []
    for i in np.flatnonzero(before.predictions != after.predictions).tolist():
        truth = before.labels[i]
        kind = "wrong, and now otherwise"
        if before.predictions[i] == truth:
            kind = "went wrong"
        elif after.predictions[i] == truth:
            kind = "went right"
        answers = (truth, before.predictions[i], after.predictions[i])
        rows.append((after.names[i], *(classes[k] for k in answers), kind))
    order = ("went wrong", "wrong, and now otherwise", "went right")
    return sorted(rows, key=lambda row: (order.index(row[-1]), row[0]))


def _files(old: RunFacts, new: RunFacts) -> Iterator[str]:
    """The files of both, each by what its own export and its own benchmark say."""
    rows = [*_file_rows(OLD, old), *_file_rows(NEW, new)]
    if not rows:
        yield "<p>Neither run has an exported file.</p>"
        return
    heads = ("file", "gate", "flips", "MB", "ms an image", "records")
    yield table(heads, rows)
    yield (
        '<p class="soft">Each file is held against its own run\'s original. Times of two sessions '
        "are not paired: measure both files in one session to compare them.</p>"
    )


def _file_rows(which: str, facts: RunFacts) -> Iterator[list[str]]:
    speed = facts.card.speed
    rows = single_rows(speed) if speed else []
    times = {model_name(row.model): row.latency_ms.p50 or row.latency_ms.mean for row in rows}
    for file in facts.exported.files if facts.exported else ():
        report = file.report
        milliseconds = times.get(file.path)
        yield [
            words(f"{which}: {report.precision}"),
            verdict_tag(report.verdict),
            words(f"{len(report.flips)} of {report.images}"),
            f"{file.size_mb:.1f}",
            "" if milliseconds is None else f"{milliseconds:.3g}",
            source(f"{which}-export", "files", text="gate"),
        ]
