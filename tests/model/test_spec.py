import dataclasses

import numpy as np
import pytest

from kneeedge.errors import SpecError
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import (
    Architecture,
    ModelSpec,
    Novelty,
    PixelPath,
    default_positive,
    softmax,
)

TRAINING = TrainingRecord(
    recipe="default",
    weights="none",
    seed=0,
    data_sha256="0" * 64,
    n_images={"train": 2},
    versions={},
)


def make_spec(**changes) -> ModelSpec:
    spec = ModelSpec(
        name="knee",
        classes=("Healthy", "Osteoporosis"),
        positive="Osteoporosis",
        architecture=Architecture(),
        pixel_path=PixelPath(),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        training=TRAINING,
    )
    return dataclasses.replace(spec, **changes)


def test_a_spec_survives_the_round_trip():
    spec = make_spec(threshold=0.25, classes=("Gesund", "Osteoporose ü"), positive="Osteoporose ü")
    assert ModelSpec.from_json(spec.to_json(), "here") == spec


def test_the_threshold_itself_counts_as_positive():
    spec = make_spec(threshold=0.25)
    assert spec.decide(np.array([[0.76, 0.24], [0.75, 0.25], [0.1, 0.9]])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_a_threshold_and_a_limit_are_not_rounded_to_single_precision(threshold):
    nearest = np.float32(threshold)
    spec = make_spec(threshold=threshold)
    answer = spec.decide(np.array([[1 - nearest, nearest]], dtype=np.float32))
    is_above = float(nearest) > threshold
    assert answer.tolist() == [is_above]
    novelty = Novelty(limit=threshold, refused=0.05, split="val", n=1, method="")
    assert novelty.refuses(np.array([nearest])).tolist() == [is_above]


def test_the_threshold_belongs_to_the_positive_class_wherever_it_stands():
    spec = make_spec(positive="Healthy", threshold=0.8)
    assert spec.decide(np.array([[0.79, 0.21], [0.81, 0.19]])).tolist() == [1, 0]


def test_more_than_two_classes_are_decided_by_argmax():
    spec = make_spec(classes=("a", "b", "c"), positive="c", threshold=0.9)
    assert spec.decide(np.array([[0.4, 0.35, 0.25], [0.3, 0.3, 0.4]])).tolist() == [0, 2]


def test_softmax_divides_by_the_temperature_and_does_not_overflow():
    assert softmax(np.array([[2000.0, 0.0]])).tolist() == [[1.0, 0.0]]
    expected = [[np.e / (1 + np.e), 1 / (1 + np.e)]]
    np.testing.assert_allclose(softmax(np.array([[2.0, 0.0]]), 2.0), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("one",)},
        {"classes": ("same", "same")},
        {"positive": "nobody"},
        {"threshold": 0.0},
        {"threshold": float("nan")},
        {"temperature": 0.0},
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes):
    with pytest.raises(ValueError, match=r"must|least|none of"):
        make_spec(**changes)


def test_a_spec_of_another_format_says_so():
    with pytest.raises(SpecError, match=r"here: the spec has format 9.*export the model again"):
        ModelSpec.from_json(make_spec(format=9).to_json(), "here")


def test_a_damaged_spec_says_where():
    with pytest.raises(SpecError, match=r"model\.onnx: .*lacks the field"):
        ModelSpec.from_json("{}", "model.onnx")


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (("Healthy", "Osteoarthritis"), "Osteoarthritis"),
        (("a", "normal"), "a"),
        (("a", "b"), "b"),
        (("0", "1", "2"), "2"),
    ],
)
def test_the_positive_class_is_the_one_that_is_not_health(classes, positive):
    assert default_positive(classes) == positive


def test_a_depth_that_is_not_told_leaves_the_spec_as_earlier_versions_read_it():
    assert "grey_bits" not in make_spec().to_json()


def test_a_spec_keeps_the_depth_of_the_training_images():
    spec = make_spec(pixel_path=PixelPath(64, "pad", grey_bits=12))
    assert ModelSpec.from_json(spec.to_json(), "here").pixel_path.grey_bits == 12


@pytest.mark.parametrize("bits", [-1, 1, 7, 17])
def test_a_depth_that_no_pixels_of_16_bits_have_is_refused(bits):
    with pytest.raises(ValueError, match="grey_bits must be 0 or 8 to 16"):
        PixelPath(grey_bits=bits)
