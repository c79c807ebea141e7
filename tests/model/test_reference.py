"""What validation images looked like, in a model file and out of it."""

import json
from pathlib import Path

import pytest

from kneeedge.errors import SpecError
from kneeedge.model.reference import ImageFigures, Reference, Sample, reference_in, to_metadata
from kneeedge.model.spec import REFERENCE_KEY
from tests.inference.drift_images import images

PATH = Path("m.onnx")
SAMPLE = Sample.of(each.figures for each in images(5, seed=0))
REFERENCE = Reference(split="val", n=5, images=SAMPLE)


def test_a_reference_is_read_as_it_was_written() -> None:
    assert reference_in({REFERENCE_KEY: to_metadata(REFERENCE)}, PATH) == REFERENCE


def test_a_file_without_one_has_none() -> None:
    assert reference_in({}, PATH) is None


def test_images_come_back_from_their_columns() -> None:
    assert Sample.of(SAMPLE) == SAMPLE


def test_an_image_comes_back_from_a_journal() -> None:
    (first, *_) = SAMPLE
    assert ImageFigures.of_cells(json.loads(json.dumps(first.cells()))) == first


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda record: record["images"]["answers"].pop(), "different numbers of images"),
        (lambda record: record["images"]["numbers"].pop("tone"), "its figures are not"),
        (lambda record: record.update(format=2), "format 2"),
        (lambda record: record.pop("split"), "lacks the field 'split'"),
    ],
)
def test_a_damaged_reference_is_said(change, problem: str) -> None:
    record = json.loads(to_metadata(REFERENCE))
    change(record)
    with pytest.raises(SpecError, match=problem):
        reference_in({REFERENCE_KEY: json.dumps(record)}, PATH)


def test_a_reference_without_end_is_refused() -> None:
    with pytest.raises(SpecError, match="are the most"):
        reference_in({REFERENCE_KEY: " " * (2**20 + 1)}, PATH)
