"""What is written beside the rows, by several threads at once."""

import threading
from pathlib import Path

import numpy as np
from PIL import Image

from kneeedge.inference.heatmap import heatmap_path
from kneeedge.inference.predictions import OK, PredictedImage, Prediction
from kneeedge.inference.side_files import SideFiles, SideOptions
from kneeedge.pixels.dicom_facts import DicomStudy
from tests.tiny_onnx import tiny_spec

SPEC = tiny_spec()


def answer(name: str, level: int = 0, study: DicomStudy | None = None) -> PredictedImage:
    """An answer to a grey image, with a class activation map."""
    prediction = Prediction(path=name, status=OK, prediction=SPEC.classes[0], probability=0.1)
    image = np.full((64, 64), level, dtype=np.uint8)
    return PredictedImage(prediction, image, np.ones((2, 2), dtype=np.float32), study)


def test_an_answer_is_given_in_its_turn_and_once_its_map_is_there(tmp_path: Path) -> None:
    names = [f"{i:03d}.png" for i in range(60)]
    beside = SideFiles(SideOptions(heatmaps=tmp_path), SPEC, "")
    given = []
    for written in beside.written(map(answer, names)):
        given.append(written.prediction.path)
        assert heatmap_path(tmp_path, given[-1]).is_file()
    assert given == names


def test_two_names_of_one_map_are_not_written_at_once(tmp_path: Path) -> None:
    """`../a.png` and `_/a.png` have one map; no writer takes the other's half-written file."""
    names = ["../a.png", "_/a.png"] * 40
    assert len({heatmap_path(tmp_path, name) for name in names}) == 1
    beside = SideFiles(SideOptions(heatmaps=tmp_path), SPEC, "")
    answers = [answer(name, level=i) for i, name in enumerate(names)]
    assert len(list(beside.written(iter(answers)))) == len(names)
    (path,) = (tmp_path / "_").iterdir()
    with Image.open(path) as image:
        image.load()


class OneAtATime:
    """Stands for what writes DICOM objects; notices two threads in it."""

    def __init__(self) -> None:
        self.inside = threading.Lock()
        self.n_together = 0
        self.n_written = 0

    def write(self, _: PredictedImage) -> None:
        if not self.inside.acquire(blocking=False):
            self.n_together += 1
            return
        threading.Event().wait(0.01)  # time enough for another thread to come
        self.n_written += 1
        self.inside.release()


def test_dicom_objects_are_written_one_at_a_time() -> None:
    """highdicom does not say what threads may share, and the writers count what they wrote."""
    beside = SideFiles(SideOptions(), SPEC, "")
    writer = OneAtATime()
    beside.reports = beside.captures = writer  # type: ignore[assignment]
    study = DicomStudy()
    answers = (answer(f"{i}.dcm", study=study) for i in range(8))
    assert len(list(beside.written(answers))) == 8
    assert writer.n_together == 0
    assert writer.n_written == 16
