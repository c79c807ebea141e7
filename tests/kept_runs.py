"""Finished runs with recorded answers, that nobody trained."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.inference.metrics import evaluate
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.runs.folder import Run
from tests.run_records import run_record, write_finished_run
from tests.tiny_onnx import CLASSES, tiny_spec

COLUMNS = ("path", "split", "class", "group", "p_{0}", "p_{1}", "logit_{0}", "logit_{1}")


def write_kept_run(
    folder: Path,
    labels: Sequence[int],
    answers: Sequence[int],
    *,
    split: str = "test",
    hashes: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    spec: ModelSpec | None = None,
) -> Run:
    """A run that answered so to the images of one split; their names are the run's own."""
    n = len(labels)
    hashes = hashes or [f"{i:064}" for i in range(n)]
    groups = groups or hashes
    names = [f"{split}/{CLASSES[label]}/{folder.name}-{i}.png" for i, label in enumerate(labels)]
    logits = np.zeros((n, 2))
    logits[np.arange(n), answers] = 1.0 + 0.01 * np.arange(n)
    spec = spec or tiny_spec()
    probabilities = softmax(logits.astype(np.float32), spec.temperature)
    score = evaluate(np.array(labels), probabilities, spec).score()
    training = dataclasses.replace(spec.training, scores={split: score})
    run = write_finished_run(folder, dataclasses.replace(spec, training=training))
    run.write_config(run_record())
    samples = [
        Sample(path=folder / name, name=name, sha256=sha, split=split, label=label, group=group)
        for name, sha, label, group in zip(names, hashes, labels, groups, strict=True)
    ]
    run.write_dataset(Dataset(folder, spec.classes, tuple(samples)))
    columns = [column.format(*spec.classes) for column in COLUMNS]
    rows = []
    for sample, p, z in zip(samples, probabilities, logits.astype(np.float32), strict=True):
        numbers = [f"{value:.9g}" for value in (*p, *z)]
        rows.append([sample.name, split, spec.classes[sample.label], sample.group, *numbers])
    run.write_answers(columns, rows)
    return run
