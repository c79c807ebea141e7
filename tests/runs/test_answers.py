"""Recorded answers are read back as they were, or there is one clear error."""

import csv
from pathlib import Path

import numpy as np
import pytest

from kneeedge.data.dataset import Sample
from kneeedge.errors import CheckpointError
from kneeedge.model.spec import softmax
from kneeedge.runs.answers import ORIGINAL, read_answers, read_original_answers
from tests.run_records import slim_spec, slimmed
from tests.tiny_onnx import CLASSES

TEMPERATURE = slimmed().temperature
THRESHOLD = slimmed().threshold
LOGITS = np.random.default_rng(0).normal(0, 3, (6, 2)).astype(np.float32)
SAMPLES = tuple(
    Sample(
        path=Path(f"{i}.png"), name=f"val/{i}.png", sha256="", split="val", label=i % 2, group=""
    )
    for i in range(6)
)


def rows() -> list[dict[str, str]]:
    """What the original's `answers.csv` says of SAMPLES, backwards, and of one test image."""
    table = []
    for sample, logits in zip(reversed(SAMPLES), reversed(LOGITS), strict=True):
        probabilities = softmax(logits[None], TEMPERATURE)[0]
        row = {"path": sample.name, "split": "val", "class": CLASSES[sample.label], "group": "g"}
        for k, name in enumerate(CLASSES):
            row[f"p_{name}"] = f"{probabilities[k]:.9g}"
            row[f"logit_{name}"] = f"{logits[k]:.9g}"
        table.append(row)
    return [*table, {**table[0], "path": "test/0.png", "split": "test"}]


def write(path: Path, table: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def test_the_logits_are_those_that_were_written_in_the_order_of_the_samples(tmp_path: Path) -> None:
    answers = read_original_answers(write(tmp_path / "original.csv", rows()), SAMPLES, slim_spec())
    assert np.array_equal(answers.logits, LOGITS)
    assert answers.logits.dtype == np.float32


def test_the_originals_answers_are_decided_by_its_own_temperature_and_threshold(
    tmp_path: Path,
) -> None:
    answers = read_original_answers(write(tmp_path / "original.csv", rows()), SAMPLES, slim_spec())
    assert (answers.precision, answers.spec.name, answers.sha256) == (ORIGINAL, "wide", "a" * 64)
    assert (answers.spec.temperature, answers.spec.threshold) == (TEMPERATURE, THRESHOLD)
    positive = softmax(LOGITS, TEMPERATURE)[:, 1]
    assert np.array_equal(answers.predictions, (positive >= THRESHOLD).astype(int))


def test_an_image_without_the_originals_answer_is_named(tmp_path: Path) -> None:
    table = [row for row in rows() if row["path"] != "val/3.png"]
    words = r"original\.csv: .* val/3\.png is missing; slim the original again"
    with pytest.raises(CheckpointError, match=words):
        read_original_answers(write(tmp_path / "original.csv", table), SAMPLES, slim_spec())


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read .*; slim the original again"):
        read_original_answers(tmp_path / "original.csv", SAMPLES, slim_spec())


def test_the_answers_of_another_network_are_refused(tmp_path: Path) -> None:
    """Their probabilities are not those of their logits at the temperature that the spec gives."""
    spec = slim_spec(temperature=1.0)
    words = "its probabilities are not those of wide at temperature 1"
    with pytest.raises(CheckpointError, match=words):
        read_original_answers(write(tmp_path / "original.csv", rows()), SAMPLES, spec)


def test_an_image_of_another_class_is_refused(tmp_path: Path) -> None:
    table = rows()
    table[0]["class"] = CLASSES[0]  # of val/5.png, which is positive
    with pytest.raises(CheckpointError, match=r"it gives val/5\.png another class than split\.csv"):
        read_original_answers(write(tmp_path / "original.csv", table), SAMPLES, slim_spec())


@pytest.mark.parametrize("value", ["", "x", "nan", "1e999"])
def test_what_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    table = rows()
    table[2]["logit_Healthy"] = value
    with pytest.raises(CheckpointError, match="its answers do not fit"):
        read_answers(write(tmp_path / "answers.csv", table), CLASSES, "val", "train it again")


def test_a_file_of_other_columns_names_the_first_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("path,split,class\nval/0.png,val,Healthy\n")
    with pytest.raises(CheckpointError, match=r"do not fit \('p_Healthy'\); train it again"):
        read_answers(path, CLASSES, "val", "train it again")


def test_a_row_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "answers.csv", rows())
    path.write_text(path.read_text().rstrip()[:-30])
    with pytest.raises(CheckpointError, match="its answers do not fit"):
        read_answers(path, CLASSES, "test", "train it again")


def test_a_split_without_answers_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "answers.csv", rows())
    recorded = read_answers(path, CLASSES, "train", "train it again")
    assert (recorded.names, recorded.logits.shape) == ((), (0, 2))
