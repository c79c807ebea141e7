"""`MODEL_CARD.md`: what a run made, on what, how well, and what only a person can answer."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kneeedge.errors import SpecError
from kneeedge.inference.metrics import Evaluation
from kneeedge.model.file import ModelFile
from kneeedge.model.provenance import Score, Slimmed
from kneeedge.model.spec import CARD_KEY, DISCLAIMER, ModelSpec
from kneeedge.report.card_facts import CardFacts, read_facts
from kneeedge.report.claim import claim_rows
from kneeedge.report.info import width_text
from kneeedge.report.markdown import table
from kneeedge.report.scorecard import OF_CLASS, TITLES, figure_title, with_interval
from kneeedge.runs.benchmark import BenchResult, model_name, single_rows, times_as_fast
from kneeedge.runs.export_report import VerifyReport
from kneeedge.runs.folder import Run
from kneeedge.system.files import SHOWN_DIGITS

SCORES = ("accuracy", "auroc", "sensitivity", "specificity")
FEW = 100
"held-out images of a class, under which an interval is wide enough to say so"


def write_card(run: Run) -> Path:
    """Write the card of a run from what the run holds now; its path."""
    run.write_card(card(read_facts(run)))
    return run.card


def add_speed(run: Run, bench_json: str) -> Path:
    """Keep what `kneeedge bench` measured with the run, and write its card anew; its path."""
    run.write_benchmark(bench_json)
    return write_card(run)


def card_in(model: ModelFile) -> str:
    """The card that a model file carries; raises SpecError where it has none."""
    if CARD_KEY not in model.metadata:
        raise SpecError(model.path, "the file carries no model card")
    return model.metadata[CARD_KEY]


def card(facts: CardFacts) -> str:
    """The card as Markdown."""
    slimmed = facts.spec.training.slimmed
    sections = (
        ("Intended use", use_lines(facts)),
        *([("A slimmed model", slimmed_lines(facts.spec, slimmed))] if slimmed else []),
        ("Data", data_lines(facts)),
        ("How well it answers", metric_lines(facts)),
        ("Threshold, probabilities and abstaining", decision_lines(facts.spec)),
        ("Exported files", variant_lines(facts.variants)),
        ("Speed", speed_lines(facts.speed)),
        ("Limits", limit_lines(facts)),
        ("How it was made", made_lines(facts)),
        ("CLAIM 2024", claim_lines(facts)),
    )
    lines = [f"# Model card: {facts.spec.name}", "", f"**{DISCLAIMER}**", ""]
    for title, body in sections:
        lines += [f"## {title}", "", *body, ""]
    return "\n".join(lines)


def use_lines(facts: CardFacts) -> list[str]:
    """What the model is for, and what it is not for."""
    spec = facts.spec
    return [
        (
            f"Sorts single radiographs of one knee into {', '.join(spec.classes)}; the positive class is "
            f"{spec.positive}. For research on such images: comparing methods, studying data sets, "
            "preparing a clinical study."
        ),
        "",
        (
            "Not for diagnosis, screening or triage of patients, and not for other body parts, views or imaging "
            "methods. It has not been tested on data of another hospital than that of its own split."
        ),
    ]


def slimmed_lines(spec: ModelSpec, slimmed: Slimmed) -> list[str]:
    """Which network it was slimmed from, the widths of both, and what both score."""
    widths = [
        ["original", width_text(slimmed.channels)],
        ["this model", width_text(spec.architecture.channels)],
    ]
    rows = []
    for split, score in slimmed.scores.items():
        own = spec.training.scores.get(split)
        for name in SCORES:
            figures = [_score_cell(one, name) for one in (score, own)]
            rows.append([f"{split}, {score.n:,} images", TITLES.get(name, name), *figures])
    return [
        (
            f"This is a slimmed model: a narrower network, made from `{slimmed.original}` (weights of sha256 "
            f"`{slimmed.sha256[:SHOWN_DIGITS]}`) by leaving out channels and training on the original's answers. Its "
            "temperature, threshold and limit to abstain are its own; its files are held against that original."
        ),
        "",
        *table(["network", "output channels of each 3×3 convolution"], widths),
        "",
        *table(["split", "figure", "original [95 %]", "this model [95 %]"], rows),
    ]


def _score_cell(score: Score | None, name: str) -> str:
    value = getattr(score, name, None)
    if score is None or value is None:
        return "none"
    interval = score.intervals.get(name)
    return with_interval(value, interval) if interval else f"{value:.4f}"


def data_lines(facts: CardFacts) -> list[str]:
    """Counts by split and class, how the splits came about, and what the audit found."""
    dataset = facts.dataset
    training = facts.spec.training
    rows = []
    for split in dataset.counts():
        samples = dataset.split(split)
        of_class = Counter(sample.label for sample in samples)
        n_groups = len({sample.group for sample in samples})
        counts = [of_class[k] for k in range(len(dataset.classes))]
        rows.append([split, *counts, len(samples), n_groups])
    lines = table(["split", *dataset.classes, "images", "groups"], rows)
    lines += [
        "",
        "A group is a patient where the patient is known, else an image with its copies.",
        "",
    ]
    lines += [
        f"Splits: {training.protocol}. Hash of files, splits and classes: `{training.data_sha256}`.",
        "",
    ]
    found = training.data_report
    copy = "a copy of one" if found else "one with the same bytes"
    honest = (
        f"No held-out image, nor {copy}, nor its patient as far as known, stands in another split."
    )
    lines.append(f"**{training.caveat}.**" if training.caveat else honest)
    if found is None:
        return [*lines, "", "The data was not audited for altered copies and label conflicts."]
    return [
        *lines,
        "",
        (
            f"Audit of {found.n_images:,} images: {found.exact_pairs} pairs of identical images, {found.near_pairs} "
            f"pairs of altered copies; {found.conflicts} carry different labels, {found.leaks} stand in two splits."
        ),
    ]


def metric_lines(facts: CardFacts) -> list[str]:
    """Every figure of the original with its 95 % interval and the interval's method."""
    lines: list[str] = []
    for split, found in facts.evaluations.items():
        rows = []
        for name, figure in found.estimates.items():
            span = f"{figure.interval.low:.4f} to {figure.interval.high:.4f}"
            rows.append([figure_title(name, found), f"{figure.value:.4f}", span, figure.method])
        rows += error_rows(found)
        lines += [f"### {split}, {found.n:,} images, prevalence {found.prevalence:.3f}", ""]
        lines += [*table(["figure", "value", "95 % interval", "method"], rows), ""]
        if found.one_versus_rest:
            lines += [
                *table(
                    ["class against the rest", *(TITLES.get(n, n) for n in OF_CLASS)],
                    class_rows(found),
                ),
                "",
            ]
        lines += [*table(["truth \\ answer", *found.classes], confusion_rows(found)), ""]
    return lines[:-1]


def error_rows(found: Evaluation) -> list[list[str]]:
    """Calibration error and Brier score, and where the temperature was fitted also those before."""
    before = found.uncalibrated
    rows = []
    for title, name in (("ECE", "ece"), ("Brier score", "brier")):
        value = f"{getattr(found, name):.4f}"
        rows.append([title, f"{getattr(before, name):.4f} → {value}" if before else value, "", ""])
    return rows


def class_rows(found: Evaluation) -> list[list[str]]:
    """A row for each class against the rest, with more than two classes."""
    estimates = {
        name: [getattr(one, key) for key in OF_CLASS] for name, one in found.one_versus_rest.items()
    }
    return [
        [name, *(with_interval(e.value, e.interval) if e else "none" for e in row)]
        for name, row in estimates.items()
    ]


def confusion_rows(found: Evaluation) -> list[list[object]]:
    """A row for each true class."""
    return [[name, *counts] for name, counts in zip(found.classes, found.confusion, strict=True)]


def decision_lines(spec: ModelSpec) -> list[str]:
    """How an answer comes from the network's outputs."""
    if len(spec.classes) == 2:
        rule = f"{spec.positive} from a probability of {spec.threshold:.6g} on (rule: {spec.threshold_rule})."
    else:
        rule = "The class of the largest probability."
    lines = [f"- Answer: {rule}"]
    fit = spec.temperature_fit
    if fit is None:
        lines.append("- Probabilities are the network's own; no temperature was fitted.")
    else:
        lines.append(
            f"- Temperature {spec.temperature:.4g}, fitted on {fit.n} {fit.split} images. There: expected calibration "
            f"error {fit.ece_before:.4f} → {fit.ece_after:.4f}, Brier score {fit.brier_before:.4f} → "
            f"{fit.brier_after:.4f}, log loss {fit.log_loss_before:.4f} → {fit.log_loss_after:.4f}."
        )
    novelty = spec.novelty
    if novelty is None:
        return [*lines, "- It answers every image, whatever it shows."]
    return [
        *lines,
        (
            f"- It abstains where the distance to the training images is over {novelty.limit:.6g} ({novelty.method}); "
            f"the limit is to refuse {novelty.refused:.0%} of genuine images, by {novelty.n} {novelty.split} images."
        ),
    ]


def variant_lines(variants: Sequence[VerifyReport]) -> list[str]:
    """Each exported file beside the original on the same images."""
    if not variants:
        return ["None yet: run `kneeedge export`."]
    rows = []
    for report in variants:
        change = report.changes["accuracy"]
        span = f"{change.delta:+.4f} [{change.interval.low:+.4f}, {change.interval.high:+.4f}]"
        flips = f"{len(report.flips)} of {report.n}"
        rows.append(
            [
                report.precision,
                report.verdict,
                flips,
                span,
                f"{change.mcnemar_p:.3f}",
                f"{report.max_abs_logit_change:.3g}",
            ]
        )
    heads = [
        "file",
        "verdict",
        "flips",
        "accuracy change [95 %]",
        "McNemar p",
        "largest logit change",
    ]
    first = variants[0]
    name = f", `{first.against}`," if first.against else ""
    line = f"Against the original{name} on the {first.split} images; tolerance {first.tolerance:.2%} of accuracy."
    moved = [
        f"{r.precision} {r.own_logit_change:.3g}"
        for r in variants
        if r.own_logit_change is not None
    ]
    if moved:
        line += f" Largest logit change from this model's own PyTorch network: {', '.join(moved)}."
    return [*table(heads, rows), "", line]


def speed_lines(speed: BenchResult | None) -> list[str]:
    """One image at a time, as `kneeedge bench` measured it."""
    if speed is None:
        return ["Not measured yet: run `kneeedge bench`, which adds it here."]
    single = single_rows(speed)
    rows = [
        [
            model_name(row.model),
            row.precision,
            row.provider,
            f"{row.latency_ms.p50 or row.latency_ms.mean:.3g}",
            f"{times_as_fast(row, single[0]):.2f}",
        ]
        for row in single
    ]
    lines = table(["model", "precision", "provider", "ms an image", "×"], rows)
    where = f"{single[0].threads} threads, {speed.environment.cpu}"
    return [*lines, "", f"Median of single images (× the first row's speed), {where}."]


def limit_lines(facts: CardFacts) -> list[str]:
    """What the figures above cannot carry."""
    spec = facts.spec
    lines = []
    if spec.training.caveat:
        lines.append(f"{spec.training.caveat}.")
    last = list(facts.evaluations.values())[-1:]
    if last and (
        rare := [name for name, score in last[0].per_class.items() if score.support < FEW]
    ):
        lines.append(
            f"Fewer than {FEW} held-out images of {', '.join(rare)}: the intervals are wide."
        )
    if "test" not in facts.evaluations:
        lines.append(
            "There is no test split: what val chose (weights, temperature, threshold) is scored on val."
        )
    else:
        lines.append(
            "Val chose weights, temperature, threshold and limit: its figures are too good. Test chose nothing."
        )
    if spec.training.slimmed:
        lines.append(
            "Where several widths were tried, which `slim.json` lists, val chose among them by the gate."
        )
    lines += [
        "One data source and one seed; there is no external validation, and no subgroup (age, sex, device) is known.",
        f"It sees {spec.pixel_path.size}×{spec.pixel_path.size} grey pixels ({spec.pixel_path.fit}), and no more.",
        "A class activation map shows where the network looked, not why, and is no localisation of disease.",
    ]
    return [f"- {line}" for line in lines]


def made_lines(facts: CardFacts) -> list[str]:
    """Weights, recipe and versions: every choice of the run."""
    training = facts.spec.training
    versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
    widths = width_text(facts.spec.architecture.channels)
    kept = [[f"`{name}`", value] for name, value in facts.choices.items() if name != "data"]
    return [
        f"VGG {widths}, {facts.spec.architecture.head} head; weights: {training.weights}; recipe: {training.recipe}.",
        "",
        f"Trained on {facts.cpu} with {versions}.",
        "",
        *table(["option", "value"], kept),
    ]


def claim_lines(facts: CardFacts) -> list[str]:
    """The checklist: what the run answers, and what a person must."""
    claims = claim_rows(facts)
    rows = [[row.item, row.topic, row.answer or "**for a person to answer**"] for row in claims]
    n_answered = sum(bool(row.answer) for row in claims)
    return [
        (
            "The items of the Checklist for Artificial Intelligence in Medical Imaging (Tejani et al. 2024, Radiology: "
            f"Artificial Intelligence 6:e240300), in short. This run answers {n_answered} of {len(rows)}; hold "
            "the text against the published list before it is submitted."
        ),
        "",
        *table(["item", "topic", "answer"], rows),
    ]
