"""Which epoch's weights to keep: by AUROC or log loss on val, or simply the last.

    python -m benchmarks.kept_epoch RUN FOLDER [--halves 200] [--json FILE]

FOLDER holds trainings of `benchmarks.cached_training`, each with the logits of val at every epoch;
RUN is a run on the same data, whose split.csv says which images are of one patient. Val is cut in
halves by patient many times; a rule chooses an epoch on one half, and that epoch answers the other.
What is reported is the mean over cuts and trainings, and how much better each rule is than the
first, with the deviation over trainings. The test split has no part in it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.seeds import spread
from kneeedge.data.dataset import read_split
from kneeedge.model.decision import fit_temperature
from kneeedge.model.spec import softmax
from kneeedge.runs.folder import open_run
from kneeedge.statistics.auroc import auroc
from kneeedge.statistics.reliability import log_loss
from kneeedge.system.strict_json import to_json

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]
Score = Callable[[Logits, Labels], float]


def area(logits: Logits, labels: Labels) -> float:
    value = auroc(labels == 1, softmax(logits)[:, 1])
    return np.nan if value is None else value


def loss(logits: Logits, labels: Labels) -> float:
    return log_loss(labels, softmax(logits).astype(np.float64))


def accuracy(logits: Logits, labels: Labels) -> float:
    return float((logits.argmax(1) == labels).mean())


RULES: dict[str, Callable[[Logits, Labels], int]] = {
    "highest AUROC": lambda epochs, labels: int(np.argmax([area(e, labels) for e in epochs])),
    "least log loss": lambda epochs, labels: int(np.argmin([loss(e, labels) for e in epochs])),
    "the last": lambda epochs, _: len(epochs) - 1,
}
"an epoch's place, from logits (epochs, N, K) and labels (N,) of one half"


def judged(chosen: Logits, fitted_on: tuple[Logits, Labels], labels: Labels) -> dict[str, float]:
    """AUROC, accuracy, and the log loss at the temperature of the other half."""
    temperature = fit_temperature(*fitted_on)
    return {
        "auroc": area(chosen, labels),
        "accuracy": accuracy(chosen, labels),
        "log_loss": log_loss(labels, softmax(chosen, temperature)),
    }


def one_training(
    epochs: Logits, labels: Labels, groups: NDArray[np.intp], n_halves: int
) -> dict[str, dict[str, float]]:
    """Each rule's mean figures over cuts of val by patient."""
    rng = np.random.default_rng(0)
    found: dict[str, list[dict[str, float]]] = {rule: [] for rule in RULES}
    for _ in range(n_halves):
        in_first = rng.permutation(groups.max() + 1)[groups] % 2 == 0
        for half in (in_first, ~in_first):
            for rule, choose in RULES.items():
                epoch = choose(epochs[:, half], labels[half])
                fitted_on = (epochs[epoch][half], labels[half])
                found[rule].append(judged(epochs[epoch][~half], fitted_on, labels[~half]))
    return {
        rule: {name: mean(each[name] for each in figures) for name in figures[0]}
        for rule, figures in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--halves", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    run = open_run(given.run)
    dataset = read_split(run.split, Path(), run.read_config().classes)
    _, groups = np.unique([s.group for s in dataset.split("val")], return_inverse=True)
    trainings = {}
    for path in sorted(given.folder.glob("*/epochs.npz")):
        with np.load(path) as kept:
            trainings[path.parent.name] = one_training(
                kept["val"], kept["labels"], groups, given.halves
            )
    first = next(iter(RULES))
    summary: dict[str, Any] = {}
    for rule in RULES:
        for name in ("auroc", "accuracy", "log_loss"):
            values = [figures[rule][name] for figures in trainings.values()]
            change = [
                value - figures[first][name]
                for value, figures in zip(values, trainings.values(), strict=True)
            ]
            summary.setdefault(rule, {})[name] = {**spread(values), "change": spread(change)}
            print(f"{rule:16} {name:9} {mean(values):.4f}   change {mean(change):+.4f}")
    if given.json:
        record = {"halves": given.halves, "trainings": trainings, "summary": summary}
        given.json.write_text(to_json(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
