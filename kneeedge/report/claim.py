"""CLAIM 2024: which items of the reporting checklist a training run answers by itself."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kneeedge.report.card_facts import CardFacts


@dataclass(frozen=True)
class ClaimRow:
    """One item."""

    item: int
    "its number in the 2024 update"
    topic: str
    answer: str
    "empty where only a person can give it"


TOPICS = (
    "title: names the AI method", "structured abstract", "background and intended role",
    "aims and hypotheses", "prospective or retrospective", "goal of the study",
    "sources of the data", "inclusion and exclusion criteria", "preprocessing",
    "selection of parts of the data", "de-identification", "missing data", "image acquisition",
    "how the reference standard was obtained", "why this reference standard", "who annotated",
    "annotation of the test set", "variability between and within annotators",
    "how data was assigned to partitions", "level at which partitions are disjoint",
    "intended sample size", "model", "software", "initial parameters", "training",
    "choice of the final model", "ensembling", "metrics", "uncertainty and significance",
    "robustness and sensitivity", "explainability", "evaluation on internal data",
    "testing on external data", "registration of the trial",
    "patients and images included and excluded", "demographic and clinical data",
    "performance with its uncertainty", "diagnostic performance and its precision",
    "analysis of failures", "limitations", "implications for practice",
    "protocol or further details", "availability of software, model and data", "funding",
)  # fmt: skip
"the 44 items in order, each in a few words of ours"


def claim_rows(facts: "CardFacts") -> list[ClaimRow]:
    """All items in order; those that the run's own records answer carry an answer."""
    answers = data_answers(facts) | model_answers(facts) | result_answers(facts)
    return [ClaimRow(item, topic, answers.get(item, "")) for item, topic in enumerate(TOPICS, 1)]


def data_answers(facts: "CardFacts") -> dict[int, str]:
    """Items on data and partitions."""
    pixels = facts.spec.pixel_path
    training = facts.spec.training
    n_groups = len({sample.group for sample in facts.dataset.samples})
    n_images = len({sample.name for sample in facts.dataset.samples})
    counts = ", ".join(f"{count:,} {split}" for split, count in facts.dataset.counts().items())
    drops = facts.choices.get("drop_conflicts")
    left_out = "copies with two labels are left out" if drops else "none is left out"
    if training.dropped_labels:
        wrong = f"{training.dropped_labels:,} whose labels a person found wrong"
        copies = "copies with two labels and " if drops else ""
        left_out = f"{copies}{wrong} are left out"
    scale = "ImageNet mean and standard deviation, in the graph"
    level = f"{n_groups:,} groups (patient where known, else copies of one image)"
    if training.leaked:
        level += f"; broken by {training.leaked} held-out images"
    return {
        9: f"8-bit grey, {pixels.size}×{pixels.size}, {pixels.fit}; {scale}",
        12: f"an unreadable image stops training; {left_out}",
        19: f"{training.protocol}, seed {training.seed}",
        20: level,
        35: f"{n_images:,} images: {counts}; what was excluded before is not known",
    }


def model_answers(facts: "CardFacts") -> dict[int, str]:
    """Items on the model and its training."""
    training = facts.spec.training
    choices = facts.choices
    head = facts.spec.architecture.head
    n_convolutions = sum(map(len, facts.spec.architecture.channels))
    epochs = f"{choices['epochs']} epochs at most, batch {choices['batch_size']}"
    return {
        22: f"VGG of {n_convolutions} convolutions, {head} head",
        23: ", ".join(f"{name} {version}" for name, version in training.versions.items()),
        24: f"weights: {training.weights}",
        25: f"{choices['optimizer']}, {epochs}; options above",
        26: "the epoch with the best validation AUROC",
        27: "averaged weights of one run (EMA)" if choices["ema"] else "none",
        31: "class activation map in the graph" if head == "gap" else "none with this head",
    }


def result_answers(facts: "CardFacts") -> dict[int, str]:
    """Items on evaluation and results."""
    splits = [f"{name} ({item.n} images)" for name, item in facts.evaluations.items()]
    internal = f"{', '.join(splits)} of {facts.source}"
    answers = {
        28: "accuracy, sensitivity, specificity, PPV, NPV, AUROC, ECE, Brier score",
        29: "95 % intervals, methods in the tables; variants paired, exact McNemar",
        32: internal,
        37: "see How well it answers",
        38: "see How well it answers",
        39: "answers.csv of the run lists every answer; causes are for a person",
        40: "see Limits",
        42: "config.json, split.csv and spec.json of the run",
    }
    if facts.variants:
        verdicts = [f"{variant.precision} {variant.verdict}" for variant in facts.variants]
        answers[30] = f"numeric precision only: {', '.join(verdicts)}"
    return answers
