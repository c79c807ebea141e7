"""Which images `evaluate` and `bench --data` take; the answers to them are the session's."""

import json
from pathlib import Path

import numpy as np
import pytest

from kneeedge.errors import DataError, NotFoundError, SpecError
from kneeedge.inference.evaluation import (
    answer_samples,
    count_seen,
    evaluate_model,
    evaluation_samples,
    read_seen_hashes,
)
from kneeedge.model.spec import SEEN_KEY
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from tests.tiny_onnx import CLASSES, write_tiny_model

QUIET = Progress(quiet=True)


def dataset(folder: Path, *splits: str) -> Path:
    write_dataset(folder, dict.fromkeys(splits, 6), size=64)
    return folder


def test_test_is_taken_before_val_and_train(tmp_path: Path) -> None:
    split, samples = evaluation_samples(dataset(tmp_path, "train", "val", "test"), CLASSES)
    assert split == "test"
    assert len(samples) == 6
    assert {sample.split for sample in samples} == {"test"}
    assert all(sample.name.startswith("test/") for sample in samples)


def test_val_is_taken_where_there_is_no_test(tmp_path: Path) -> None:
    assert evaluation_samples(dataset(tmp_path, "train", "val"), CLASSES)[0] == "val"


def test_the_training_images_are_taken_only_by_name(tmp_path: Path) -> None:
    dataset(tmp_path, "train")
    with pytest.raises(DataError, match=r"neither test/ nor val/.*--split train"):
        evaluation_samples(tmp_path, CLASSES)
    assert evaluation_samples(tmp_path, CLASSES, "train")[0] == "train"


def test_a_folder_of_classes_is_one_split_under_its_own_name(tmp_path: Path) -> None:
    split, samples = evaluation_samples(dataset(tmp_path / "clinic", ""), CLASSES)
    assert split == "clinic"
    assert [sample.name for sample in samples] == sorted(sample.name for sample in samples)
    assert [CLASSES[s.label] for s in samples] == [s.path.parent.name for s in samples]


@pytest.mark.parametrize(
    ("splits", "remedy"), [(("train", "val"), "name one of these"), (("",), "leave out --split")]
)
def test_a_missing_split_says_what_there_is(
    tmp_path: Path, splits: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(DataError, match=remedy):
        evaluation_samples(dataset(tmp_path, *splits), CLASSES, "test")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such data folder"):
        evaluation_samples(tmp_path / "none", CLASSES)


def test_classes_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Osteoporosis"):
        evaluation_samples(dataset(tmp_path, "test"), ("Healthy", "Osteopenia"))


def test_answers_are_those_of_the_session_one_by_one(tmp_path: Path) -> None:
    session = Session(write_tiny_model(tmp_path / "m.onnx"), "cpu")
    _, samples = evaluation_samples(dataset(tmp_path / "data", ""), CLASSES)
    outputs = answer_samples(session, samples, 4, QUIET)
    assert outputs.probabilities.shape == outputs.logits.shape == (6, 2)
    for i, sample in enumerate(samples):
        alone = session.run(load_input(sample.path, session.spec.pixel_path)[None, None])
        np.testing.assert_allclose(outputs.probabilities[i], alone.probabilities[0], atol=1e-6)
        np.testing.assert_allclose(outputs.logits[i], alone.logits[0], atol=1e-5)


def test_images_that_the_model_was_trained_on_are_counted(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", "")
    seen = tuple(file_sha256(path)[:16] for path in sorted(data.rglob("*.png"))[:2])
    trained_on_two = Session(write_tiny_model(tmp_path / "m.onnx", seen=seen), "cpu")
    assert evaluate_model(trained_on_two, data, None, None, QUIET).n_seen == 2
    trained_on_none = Session(write_tiny_model(tmp_path / "n.onnx"), "cpu")
    assert evaluate_model(trained_on_none, data, None, 1, QUIET).n_seen == 0


def test_the_record_of_a_report_holds_the_evaluation_and_what_was_evaluated(tmp_path: Path) -> None:
    session = Session(write_tiny_model(tmp_path / "m.onnx"), "cpu")
    data = dataset(tmp_path / "data", "test")
    record = evaluate_model(session, data, "test", None, QUIET).as_record()
    fields = {
        "n", "classes", "positive", "threshold", "accuracy", "confusion", "per_class", "auroc",
        "intervals",
    }  # fmt: skip
    assert fields <= set(record)
    assert (record["split"], record["provider"], record["n"]) == ("test", "cpu", 6)
    json.dumps(record, allow_nan=False)


def test_a_file_without_a_list_of_training_images_has_seen_none() -> None:
    assert read_seen_hashes({}, "m.onnx") == frozenset()
    assert count_seen([], frozenset({"ab"})) == 0


@pytest.mark.parametrize("text", ["{", "[]", '{"train": 3}', '{"train": [[]]}'])
def test_a_damaged_list_of_training_images_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"m\.onnx.*damaged"):
        read_seen_hashes({SEEN_KEY: text}, "m.onnx")


def test_an_image_that_is_replaced_meanwhile_is_never_answered_under_the_label_of_another(
    tmp_path: Path,
) -> None:
    session = Session(write_tiny_model(tmp_path / "m.onnx"), "cpu")
    _, samples = evaluation_samples(dataset(tmp_path / "knees", ""), CLASSES)
    samples[1].path.write_bytes(samples[4].path.read_bytes())
    with pytest.raises(DataError, match="the image has changed meanwhile"):
        answer_samples(session, samples, 4, QUIET)
