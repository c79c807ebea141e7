"""Each image is read once, corrupted in every way, and answered by every model as it were alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kneeedge.data.dataset import Sample
from kneeedge.errors import ConfigError, DataError
from kneeedge.inference.evaluation import evaluation_samples
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.corruptions import KINDS, corrupt, seed_of
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.picture import read_grey
from kneeedge.pixels.pixel_path import to_input
from kneeedge.runtime.session import Session
from kneeedge.stress import answers as answers_module
from kneeedge.stress.answers import Subject, answer_cells
from kneeedge.stress.cells import CLEAN, Cell, cells_of
from kneeedge.system.progress import Progress
from tests.tiny_onnx import CLASSES, write_tiny_model

QUIET = Progress(quiet=True)
CELLS = cells_of(["blur", "inverted"], [2, 4])


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    write_dataset(tmp_path / "data", {"test": 4}, size=80)
    return evaluation_samples(tmp_path / "data", CLASSES)[1]


def session_of(folder: Path, **options: object) -> Session:
    return Session(write_tiny_model(folder / f"m{len(options)}.onnx", **options), "cpu")


def subject(session: Session) -> Subject:
    return Subject(session.spec, session.run)


def test_cells_are_the_clean_one_and_each_kind_at_each_severity() -> None:
    assert (CLEAN, Cell("blur", 2), Cell("blur", 4), Cell("inverted", 1)) == CELLS
    n_levels = sum(len(kind.levels) for kind in KINDS)
    assert len(cells_of()) == 1 + n_levels


@pytest.mark.parametrize("severity", [0, 6])
def test_an_unknown_severity_is_refused(severity: int) -> None:
    with pytest.raises(ConfigError, match=rf"severity {severity} is unknown.*1,2,3,4,5"):
        cells_of([], [severity])


def test_answers_are_those_to_corrupted_pictures_by_the_one_pixel_path(samples, tmp_path) -> None:
    session = session_of(tmp_path)
    (answers,) = answer_cells([subject(session)], samples, CELLS, QUIET)
    for n, sample in enumerate(samples):
        grey = read_grey(sample.path, 64)
        for c, cell in enumerate(CELLS):
            corrupted = grey
            if cell != CLEAN:
                corrupted = corrupt(grey, cell.kind, cell.severity, seed_of(sample.sha256))
            alone = session.run(to_input(corrupted, PixelPath(64))[None, None])
            assert answers.logits[c, n] == pytest.approx(alone.logits[0], abs=1e-5)


def test_the_batch_size_and_other_models_change_no_answer(samples, tmp_path) -> None:
    first = session_of(tmp_path)
    padded = session_of(tmp_path, fit="pad", seed=1)
    together = answer_cells([subject(first), subject(padded)], samples, CELLS, QUIET, 1)
    for i, session in enumerate((first, padded)):
        (alone,) = answer_cells([subject(session)], samples, CELLS, QUIET, 64)
        assert together[i].logits == pytest.approx(alone.logits, abs=1e-5)
        assert alone.logits.shape == (len(CELLS), len(samples), 2)


def test_each_file_is_read_and_decoded_once(samples, tmp_path, monkeypatch) -> None:
    read = []
    decoded = []
    real_read = answers_module.read_bytes
    real_decode = answers_module.decode_picture

    def counted_read(path):
        read.append(path)
        return real_read(path)

    def counted_decode(data, path, *more, **options):
        decoded.append(path)
        return real_decode(data, path, *more, **options)

    monkeypatch.setattr(answers_module, "read_bytes", counted_read)
    monkeypatch.setattr(answers_module, "decode_picture", counted_decode)
    subjects = [subject(session_of(tmp_path)), subject(session_of(tmp_path, fit="pad"))]
    answer_cells(subjects, samples, CELLS, QUIET)
    assert sorted(read) == sorted(decoded) == sorted(sample.path for sample in samples)


def test_refusals_are_by_the_models_own_limit(samples, tmp_path) -> None:
    """The tiny model's distance is the mean grey level, which inversion turns over."""
    (clean,) = answer_cells([subject(session_of(tmp_path, limit=255.0))], samples, CELLS, QUIET)
    assert not clean.refused.any()
    level = float(np.median(clean.distances[0])) - 0.01
    spec = dataclasses.replace(
        clean.spec, novelty=dataclasses.replace(clean.spec.novelty, limit=level)
    )
    refused = dataclasses.replace(clean, spec=spec).refused
    assert 0 < refused[0].sum() < len(samples)
    assert np.array_equal(refused, clean.distances > level)


def test_a_model_that_never_abstains_refuses_nothing(samples, tmp_path) -> None:
    (answers,) = answer_cells([subject(session_of(tmp_path))], samples, CELLS, QUIET)
    assert answers.distances is None
    assert not answers.refused.any()


def test_an_image_that_changed_meanwhile_is_refused(samples, tmp_path) -> None:
    samples[2].path.write_bytes(samples[1].path.read_bytes())
    with pytest.raises(DataError, match="changed meanwhile"):
        answer_cells([subject(session_of(tmp_path))], samples, CELLS, QUIET)
