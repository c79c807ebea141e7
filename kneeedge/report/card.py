"""`MODEL_CARD.md`: what a run made, on what, how well, and what only a person can answer."""

from collections import Counter
from pathlib import Path

from kneeedge.data.dataset import Dataset
from kneeedge.errors import DataError, SpecError
from kneeedge.inference.joint import JointReport
from kneeedge.model.certify import certified_line
from kneeedge.model.file import ModelFile
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import CARD_KEY, DISCLAIMER, ModelSpec, TemperatureFit
from kneeedge.report.card_facts import CardFacts, read_facts
from kneeedge.report.card_figures import (
    images_of,
    metric_lines,
    slimmed_lines,
    speed_lines,
    variant_lines,
)
from kneeedge.report.claim import claim_rows
from kneeedge.report.info import width_text
from kneeedge.report.joint import joint_lines
from kneeedge.report.markdown import table
from kneeedge.report.stress_gate import under_corruption
from kneeedge.report.training import time_line
from kneeedge.runs.benchmark import BenchResult, lacking
from kneeedge.runs.findings import JOINT, STRESS, Finding, Report, run_of_file
from kneeedge.runs.folder import Run
from kneeedge.stress.record import StressReport
from kneeedge.system.plural import counted

FEW = 100
"held-out images of a class, under which an interval is wide enough to say so"
VAL_AND_TEST = (
    "Val chose weights, temperature, threshold and limit: its figures are too good. "
    "Test chose nothing."
)
VAL_ALONE = (
    "There is no test split: what val chose (weights, temperature, threshold) is scored on val."
)
WIDTHS = (
    "Where several widths were tried, which `slim.json` lists, val chose among them by the gate."
)
ONE_SOURCE = (
    "Every figure is of one data source, {source}, and one seed: none is of a source that the "
    "model was not trained on, where such models are known to do worse. "
    "`kneeedge evaluate MODEL DATA` gives the figures of another, which stay apart from these. "
    "No subgroup (age, sex, device) is known."
)
HEAT_MAP = (
    "A class activation map shows where the network looked, not why, "
    "and is no localisation of disease."
)


def write_card(run: Run) -> Path:
    """Write the card of a run from what the run holds now; its path."""
    run.write_card(card(read_facts(run)))
    return run.card


def add_speed(run: Run, result: BenchResult, bench_json: str) -> str:
    """Keep what `kneeedge bench` measured with the run; returns where it is, in words.

    It becomes the run's record, which the card shows, unless that would lose models, scenarios or
    accuracy; then it is kept beside the record. A record that cannot be read is replaced.
    """
    try:
        old = run.read_benchmark()
    except DataError:
        old = None
    missing = lacking(result, old, run.exported_hashes()) if old else []
    if missing:
        apart = run.benchmark_apart(result.measured)
        run.write_benchmark(bench_json, apart)
        return (
            f"kept in {apart}: {run.benchmark} and the card stay as they are, since they also have "
            f"{', '.join(missing)}, and figures of two sessions do not mix; measure those too, "
            f"or remove {run.benchmark}, to replace them"
        )
    run.write_benchmark(bench_json)
    replaced = f", in place of those of {old.measured or 'an earlier session'}" if old else ""
    return f"the figures are in {write_card(run)} now{replaced}"


def add_joint(model: Path, report: JointReport) -> str:
    """Keep what a file sees of the joint with its run; where it is, in words, or "" without one."""
    return _add(JOINT, report, run_of_file(model, report.model_sha256))


def add_stress(model: Path, report: StressReport) -> str:
    """Keep when a file breaks with its run; where it is, in words, or "" without one.

    `model` is the first of the report, which the others are held against.
    """
    return _add(STRESS, report, run_of_file(model, report.models[0].model_sha256))


def _add(finding: Finding[Report], report: Report, run: Run | None) -> str:
    if run is None:
        return ""
    finding.write(run, report)
    return f"the {finding.name} test is in {finding.path(run)} and in {write_card(run)} now"


def card_in(model: ModelFile) -> str:
    """The card that a model file carries; raises SpecError where it has none."""
    if CARD_KEY not in model.metadata:
        raise SpecError(model.path, "the file carries no model card")
    return model.metadata[CARD_KEY]


def card(facts: CardFacts) -> str:
    """The card as Markdown."""
    spec = facts.spec
    source = facts.source
    sections = [("Intended use", use_lines(spec))]
    if spec.training.slimmed:
        sections.append(("A slimmed model", slimmed_lines(spec, spec.training.slimmed, source)))
    sections += [
        ("Data", data_lines(facts)),
        ("How well it answers", metric_lines(facts.evaluations, source)),
        ("Threshold, probabilities and abstaining", decision_lines(spec, source)),
        ("Does it look at the joint?", joint_lines(facts.joint, facts.hashes)),
        ("Exported files", variant_lines(facts.variants, source)),
        ("Under corruption", under_corruption(facts)),
        ("Speed", speed_lines(facts.speed, facts.stale)),
        ("Limits", limit_lines(facts)),
        ("How it was made", made_lines(facts)),
        ("CLAIM 2024", claim_lines(facts)),
    ]
    lines = [f"# Model card: {spec.name}", "", f"**{DISCLAIMER}**", ""]
    for title, body in sections:
        lines += [f"## {title}", "", *body, ""]
    return "\n".join(lines)


def use_lines(spec: ModelSpec) -> list[str]:
    """What the model is for, and what it is not for."""
    return [
        (
            f"Sorts single radiographs of one knee into {', '.join(spec.classes)}; "
            f"the positive class is {spec.positive}. For research on such images: "
            "comparing methods, studying data sets, preparing a clinical study."
        ),
        "",
        (
            "Not for diagnosis, screening or triage of patients, "
            "and not for other body parts, views or imaging methods. "
            "It has not been tested on data of another hospital than that of its own split."
        ),
    ]


def data_lines(facts: CardFacts) -> list[str]:
    """Counts by split and class, how the splits came about, and what the audit found."""
    training = facts.spec.training
    audit = training.data_report
    copy = "a copy of one" if audit else "one with the same bytes"
    honest = f"nor {copy}, nor its patient as far as known, stands in another split."
    if audit:
        audited = (
            f"Audit of {counted(audit.n_images, 'image')}: "
            f"{counted(audit.exact_pairs, 'pair')} of identical images, "
            f"{counted(audit.near_pairs, 'pair')} of altered copies; "
            f"{audit.conflicts} carry different labels, {audit.leaks} stand in two splits."
        )
    else:
        audited = "The data was not audited for altered copies and label conflicts."
    data_hash = f"Hash of files, splits and classes: `{training.data_sha256}`."
    return [
        *table(["split", *facts.dataset.classes, "images", "groups"], split_rows(facts.dataset)),
        "",
        "A group is a patient where the patient is known, else an image with its copies.",
        "",
        f"Source: {facts.source}. Splits: {training.protocol}. {data_hash}",
        "",
        f"**{training.caveat}.**" if training.caveat else f"No held-out image, {honest}",
        "",
        audited,
        *dropped_lines(training),
    ]


def dropped_lines(training: TrainingRecord) -> list[str]:
    """How many images were left out for their labels; nothing where none was."""
    n = training.dropped_labels
    if not n:
        return []
    return ["", f"Left out, since a person found their labels wrong: {counted(n, 'image')}."]


def split_rows(dataset: Dataset) -> list[list[object]]:
    """Of each split the images of each class, all its images, and its groups."""
    rows: list[list[object]] = []
    for split in dataset.counts():
        samples = dataset.split(split)
        n_of_class = Counter(sample.label for sample in samples)
        counts = [n_of_class[label] for label in range(len(dataset.classes))]
        n_groups = len({sample.group for sample in samples})
        rows.append([split, *counts, len(samples), n_groups])
    return rows


def decision_lines(spec: ModelSpec, source: str) -> list[str]:
    """How an answer comes from the network's outputs, and which images chose that."""
    answer = "The class of the largest probability."
    if len(spec.classes) == 2:
        threshold = f"a probability of {spec.threshold:.6g} on (rule: {spec.threshold_rule})"
        answer = f"{spec.positive} from {threshold}."
    probabilities = "Probabilities are the network's own; no temperature was fitted."
    if spec.temperature_fit:
        probabilities = temperature_text(spec.temperature, spec.temperature_fit, source)
    abstaining = "It answers every image, whatever it shows."
    novelty = spec.novelty
    if novelty:
        limit = f"{novelty.limit:.6g} ({novelty.method})"
        abstaining = (
            f"It abstains where the distance to the training images is over {limit}; "
            f"the limit is to refuse {novelty.refused:.0%} of genuine images, "
            f"by {images_of(source, novelty.split, novelty.n)}."
        )
    seen = "The network sees every image as it is, inverted or not."
    if spec.polarity:
        known = f"{spec.polarity.n:,} training images, of which it calls {spec.polarity.n_inverted}"
        seen = f"An inverted image is turned around first, in the graph; by {known} inverted."
    lines = [f"- Answer: {answer}", f"- {probabilities}", f"- {abstaining}", f"- {seen}"]
    return [*lines, *([certified_line(spec.certified)] if spec.certified else [])]


def temperature_text(temperature: float, fit: TemperatureFit, source: str) -> str:
    """What the temperature was fitted on, and the errors before and after."""
    return (
        f"Temperature {temperature:.4g}, fitted on {images_of(source, fit.split, fit.n)}. "
        f"There: expected calibration error {fit.ece_before:.4f} → {fit.ece_after:.4f}, "
        f"Brier score {fit.brier_before:.4f} → {fit.brier_after:.4f}, "
        f"log loss {fit.log_loss_before:.4f} → {fit.log_loss_after:.4f}."
    )


def limit_lines(facts: CardFacts) -> list[str]:
    """What the figures above cannot carry."""
    training = facts.spec.training
    pixels = facts.spec.pixel_path
    depth = f"; 16-bit files as of {pixels.grey_bits} bits" if pixels.grey_bits else ""
    limits = []
    if training.caveat:
        limits.append(f"{training.caveat}.")
    rare = rare_classes(facts)
    if rare:
        few = f"Fewer than {FEW} held-out images of {', '.join(rare)}"
        limits.append(f"{few}: the intervals are wide.")
    limits.append(VAL_AND_TEST if "test" in facts.evaluations else VAL_ALONE)
    if training.slimmed:
        limits.append(WIDTHS)
    limits += [
        ONE_SOURCE.format(source=facts.source),
        f"It sees {pixels.size}×{pixels.size} grey pixels ({pixels.fit}{depth}), and no more.",
        HEAT_MAP,
    ]
    return [f"- {limit}" for limit in limits]


def rare_classes(facts: CardFacts) -> list[str]:
    """Classes with fewer than FEW images in the last split that was evaluated, test if any."""
    if not facts.evaluations:
        return []
    evaluation = list(facts.evaluations.values())[-1]
    return [name for name, score in evaluation.per_class.items() if score.support < FEW]


def made_lines(facts: CardFacts) -> list[str]:
    """Weights, recipe and versions: every choice of the run."""
    training = facts.spec.training
    architecture = facts.spec.architecture
    network = f"VGG {width_text(architecture.channels)}, {architecture.head} head"
    versions = ", ".join(f"{name} {version}" for name, version in training.versions.items())
    team = f"by {facts.n_processes} processes " if facts.n_processes > 1 else ""
    options = [[f"`{name}`", value] for name, value in facts.choices.items() if name != "data"]
    return [
        f"{network}; weights: {training.weights}; recipe: {training.recipe}.",
        "",
        *([f"{training.tuned.line}.", ""] if training.tuned else []),
        f"Trained {team}on {facts.cpu} with {versions}.",
        *took_lines(facts.seconds),
        "",
        *table(["option", "value"], options),
    ]


def took_lines(seconds: dict[str, float]) -> list[str]:
    """Where the time of the training went; nothing where it is not known."""
    line = time_line(seconds)
    return ["", f"{line[0].upper()}{line[1:]}."] if line else []


def claim_lines(facts: CardFacts) -> list[str]:
    """The checklist: what the run answers, and what a person must."""
    claims = claim_rows(facts)
    rows = [[row.item, row.topic, row.answer or "**for a person to answer**"] for row in claims]
    n_answered = sum(bool(row.answer) for row in claims)
    checklist = "the Checklist for Artificial Intelligence in Medical Imaging"
    source = "Tejani et al. 2024, Radiology: Artificial Intelligence 6:e240300"
    return [
        (
            f"The items of {checklist} ({source}), in short. "
            f"This run answers {n_answered} of {len(rows)}; "
            "hold the text against the published list before it is submitted."
        ),
        "",
        *table(["item", "topic", "answer"], rows),
    ]
