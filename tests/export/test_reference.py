"""A variant's reference is made of what the gate read: no image is opened again for it."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

import export.reference as reference_module
from export.reference import ReferenceMaker
from kneeedge.data.dataset import Sample
from kneeedge.inference.evaluation import answer_samples, evaluation_samples
from kneeedge.inference.image_figures import image_figures
from kneeedge.model.reference import reference_in
from kneeedge.model.spec import REFERENCE_KEY
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.pixel_path import load_with_facts
from kneeedge.runtime.session import Outputs, Session
from kneeedge.system.progress import Progress
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(write_tiny_model(tmp_path / "m.onnx"), "cpu")


@pytest.fixture
def samples(tmp_path: Path, session: Session) -> list[Sample]:
    write_dataset(tmp_path / "data", {"val": 12}, size=96)
    return evaluation_samples(tmp_path / "data", session.spec.classes, "val")[1]


def gated(session: Session, samples: list[Sample], maker: ReferenceMaker) -> Outputs:
    """The answers of one pass, whose files are gone when it is over."""
    outputs = answer_samples(session, samples, 4, QUIET, maker.note)
    for sample in samples:
        sample.path.unlink()
    return outputs


def expected(session: Session, sample: Sample, outputs: Outputs, row: int) -> list[object]:
    read = load_with_facts(sample.path, session.spec.pixel_path)
    distance = None if outputs.distance is None else float(outputs.distance[row])
    logits = outputs.logits[row]
    figures = image_figures(read.pixels, logits, distance, read.n_pixels, read.study, session.spec)
    return figures.cells()


def test_no_file_is_opened_again_and_the_figures_are_those_of_the_files(
    session: Session, samples: list[Sample]
) -> None:
    maker = ReferenceMaker(samples)
    alone = answer_samples(session, samples, 4, QUIET)
    by_file = {
        sample.sha256: expected(session, sample, alone, i) for i, sample in enumerate(samples)
    }
    text = maker.metadata(gated(session, samples, maker), session.spec)
    reference = reference_in({REFERENCE_KEY: text}, Path("m.onnx"))
    assert reference is not None
    assert (reference.split, reference.n) == ("val", len(samples))
    cells = [image.cells() for image in reference.images]
    assert cells == [by_file[sha256] for sha256 in sorted(by_file)]


def test_of_many_images_the_first_by_their_hashes_are_kept(
    session: Session, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_module, "MOST_IMAGES", 5)
    maker = ReferenceMaker(samples)
    outputs = gated(session, samples, maker)
    reference = reference_in({REFERENCE_KEY: maker.metadata(outputs, session.spec)}, Path("m.onnx"))
    assert reference is not None
    assert (reference.n, len(reference.images)) == (len(samples), 5)
    rows = np.argsort([sample.sha256 for sample in samples])[:5]
    positive = session.spec.positive_index
    told = [image.probability for image in reference.images]
    np.testing.assert_allclose(told, outputs.probabilities[rows, positive], rtol=1e-4)


def test_a_picture_that_nobody_read_is_no_part_of_a_reference(
    session: Session, samples: list[Sample]
) -> None:
    maker = ReferenceMaker(samples)
    outputs = answer_samples(session, samples, 4, QUIET)
    with pytest.raises(KeyError):
        maker.metadata(outputs, session.spec)
