"""Certified limits of a run on real knees: what is answered, what is kept, and how often not.

    python -m benchmarks.certified RUN… [--json FILE]

From the logits in each run's `answers.csv`, so that nothing is answered anew. What is measured:

- the limits that val shows, for several promises, and what they come to on test;
- how many patients a promise takes: val and test together stand for a population, of which patients
  are drawn with replacement; how often limits are found, what they answer, and how often a promise
  is broken in the population;
- the calibration error on test: what a perfectly calibrated model of these probabilities would
  have, and how far a prior shift or another temperature explains it. These are fitted to test to
  tell what is wrong there, and choose nothing.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import PromiseError
from kneeedge.inference.certification import certified_of
from kneeedge.inference.three_answers import three_answers
from kneeedge.model.certify import LabelledAnswers, Promise, certify
from kneeedge.model.decision import fit_temperature
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.runs.folder import Run
from kneeedge.statistics.auroc import auroc_estimate
from kneeedge.statistics.reliability import expected_calibration_error
from kneeedge.system.files import write_text
from kneeedge.system.strict_json import plain, to_json

TARGETS = (0.9, 0.93, 0.95)
"PPV and NPV that are tried, at 95 % confidence"
RESAMPLED_TARGETS = (0.9, 0.95)
N_PATIENTS = (150, 236, 400, 613, 1000)
"drawn of the population; 236 are in val, 613 in val and test"
N_DRAWS = 1000
N_RESAMPLED = 2000
"draws for the calibration error"
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Part:
    """Labelled answers of one split, those that the model abstains from left out."""

    logits: NDArray[np.float64]
    "(N, 2)"
    labels: NDArray[np.intp]
    groups: NDArray[np.str_]
    n_abstained: int

    def rows(self, index: NDArray[np.intp]) -> "Part":
        return replace(
            self, logits=self.logits[index], labels=self.labels[index], groups=self.groups[index]
        )

    def answers(self, spec: ModelSpec, split: str) -> LabelledAnswers:
        return LabelledAnswers(
            probabilities=softmax(self.logits, spec.temperature),
            labels=self.labels,
            groups=self.groups.tolist(),
            split=split,
        )


def read_part(run: Run, spec: ModelSpec, split: str | None, whole: bool = False) -> Part:
    """The answers of a split, or of both, as `train` wrote them.

    Those that the model abstains from are left out, unless the `whole` split is asked for.
    """
    with (run.folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if split in (None, row["split"])]
    logits = [[float(row[f"logit_{name}"]) for name in spec.classes] for row in rows]
    labels = np.array([spec.classes.index(row["class"]) for row in rows], dtype=np.intp)
    kept = np.ones(len(rows), dtype=bool)
    if spec.novelty and not whole:
        kept = ~spec.novelty.refuses(np.array([float(row["distance"]) for row in rows]))
    part = Part(
        logits=np.array(logits),
        labels=labels,
        groups=np.array([row["group"] for row in rows]),
        n_abstained=int((~kept).sum()),
    )
    return part.rows(np.flatnonzero(kept))


def certified_rows(spec: ModelSpec, parts: dict[str, Part]) -> list[dict[str, Any]]:
    """Of each promise the limits that val shows, and what they come to on every split.

    Beside them the limits that test would show as a site's own images: they are held against val.
    """
    rows: list[dict[str, Any]] = []
    for found_on, labelled in parts.items():
        for target in TARGETS:
            promise = Promise(ppv=target, npv=target)
            row: dict[str, Any] = {"found_on": found_on, "target": target, "why": ""}
            try:
                fitted = certify(spec, labelled.answers(spec, found_on), promise)
            except PromiseError as error:
                row["why"] = str(error)
                rows.append(row)
                continue
            row["certified"] = plain(fitted.certified)
            for name, part in parts.items():
                answers = part.answers(fitted, name)
                row[name] = plain(
                    three_answers(fitted, part.labels, answers.probabilities, answers.groups)
                )
            rows.append(row)
    return rows


def resampled_rows(spec: ModelSpec, both: Part) -> list[dict[str, Any]]:
    """How often limits are found by so many patients of the population, and broken in it."""
    rng = np.random.default_rng(SEED)
    names, of_patient = np.unique(both.groups, return_inverse=True)
    images = [np.flatnonzero(of_patient == i) for i in range(len(names))]
    truths = both.labels == spec.positive_index
    scores = softmax(both.logits, spec.temperature)[:, spec.positive_index]
    rows = []
    for target in RESAMPLED_TARGETS:
        for n in N_PATIENTS:
            shares = []
            n_broken = 0
            for _ in range(N_DRAWS):
                drawn = rng.integers(0, len(names), n)
                index = np.concatenate([images[i] for i in drawn])
                sizes = [len(images[i]) for i in drawn]
                patients = np.repeat(np.arange(n), sizes).astype(str)
                part = replace(both.rows(index), groups=patients)
                try:
                    promise = Promise(ppv=target, npv=target)
                    found = certified_of(certify(spec, part.answers(spec, "drawn"), promise))
                except PromiseError:
                    continue
                above = scores >= found.high
                below = scores < found.low
                shares.append(float((above | below).mean()))
                n_broken += truths[above].mean() < target or (~truths[below]).mean() < target
            rows.append(
                {
                    "target": target,
                    "patients": n,
                    "draws": N_DRAWS,
                    "found": len(shares),
                    "answered": float(np.mean(shares)) if shares else None,
                    "broken": int(n_broken),
                }
            )
            print(rows[-1], file=sys.stderr)
    return rows


def shifted(logits: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """The logits moved until their mean probability is the share of the labels: a prior's shift."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if softmax(logits + np.array([0.0, middle]))[:, 1].mean() < labels.mean():
            low = middle
        else:
            high = middle
    return logits + np.array([0.0, (low + high) / 2])


def ece_record(spec: ModelSpec, part: Part) -> dict[str, Any]:
    """The calibration error of one split as it is, by chance, and after each possible cure."""
    rng = np.random.default_rng(SEED)
    scaled = part.logits / spec.temperature
    probabilities = softmax(scaled)
    labels = part.labels
    n = len(labels)
    bootstrapped = []
    for _ in range(N_RESAMPLED):
        index = rng.integers(0, n, n)
        bootstrapped.append(expected_calibration_error(labels[index], probabilities[index]))
    ece = expected_calibration_error(labels, probabilities)
    chance = [
        expected_calibration_error(
            (rng.random(n) < probabilities[:, 1]).astype(np.intp), probabilities
        )
        for _ in range(N_RESAMPLED)
    ]
    names, of_patient = np.unique(part.groups, return_inverse=True)
    images = [np.flatnonzero(of_patient == i) for i in range(len(names))]
    temperatures = []
    for _ in range(N_RESAMPLED // 4):
        drawn = rng.integers(0, len(names), len(names))
        index = np.concatenate([images[i] for i in drawn])
        temperatures.append(fit_temperature(part.logits[index], labels[index]))
    temperature = fit_temperature(scaled, labels)
    prior = shifted(scaled, labels)
    prior_temperature = fit_temperature(prior, labels)
    observed = labels.mean()
    right = probabilities.argmax(axis=1) == labels
    positive = labels == spec.positive_index
    auroc = auroc_estimate(positive, probabilities[:, spec.positive_index], None)
    return {
        "n": n,
        "positive": float(observed),
        "mean_probability": float(probabilities[:, 1].mean()),
        "accuracy": float(right.mean()),
        "mean_confidence": float(probabilities.max(axis=1).mean()),
        "auroc": auroc.value if auroc else None,
        "ece": ece,
        "bootstrap": np.quantile(bootstrapped, [0.025, 0.975]).tolist(),
        "by_chance": {
            "mean": float(np.mean(chance)),
            "range": np.quantile(chance, [0.025, 0.975]).tolist(),
            "as_much": float(np.mean(np.array(chance) >= ece)),
        },
        "at_own_temperature": {
            "temperature": temperature * spec.temperature,
            "interval": np.quantile(temperatures, [0.025, 0.975]).tolist(),
            "ece": expected_calibration_error(labels, softmax(scaled / temperature)),
        },
        "at_own_prior": {"ece": expected_calibration_error(labels, softmax(prior))},
        "at_own_prior_and_temperature": {
            "temperature": prior_temperature * spec.temperature,
            "ece": expected_calibration_error(labels, softmax(prior / prior_temperature)),
        },
    }


def run_record(run: Run) -> dict[str, Any]:
    """The images, the calibration and the limits of one run."""
    spec = run.read_spec()
    parts = {split: read_part(run, spec, split) for split in ("val", "test")}
    images = {
        name: {
            "n": len(part.labels),
            "patients": len(set(part.groups.tolist())),
            "positive": int((part.labels == spec.positive_index).sum()),
            "abstained": part.n_abstained,
        }
        for name, part in parts.items()
    }
    return {
        "run": spec.name,
        "images": images,
        "calibration": {name: ece_record(spec, read_part(run, spec, name, True)) for name in parts},
        "certified": certified_rows(spec, parts),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="the first is the one that is resampled")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    runs = [Run(path) for path in options.runs]
    first = runs[0]
    spec = first.read_spec()
    record = {
        "runs": [run_record(run) for run in runs],
        "resampled": resampled_rows(spec, read_part(first, spec, None)),
    }
    text = to_json(record) + "\n"
    if options.json:
        write_text(options.json, text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
