"""What a trained network sees of the joint: masked pictures, class maps, and the run's record."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from kneeedge.data.dataset import Sample
from kneeedge.inference.joint import AREA, joint_report, mean_interval, point
from kneeedge.pixels.joint import MASKED, VIEWS, WHOLE
from kneeedge.pixels.phantom import write_dataset
from kneeedge.report.joint import joint_lines, joint_text
from kneeedge.runtime.session import Session
from kneeedge.system.progress import Progress
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_dataset(folder, {"test": 8}, size=64)
    return folder


@pytest.fixture
def report(data, tmp_path):
    session = Session(write_tiny_model(tmp_path / "tiny.onnx"), "cpu", 1)
    return joint_report(session, data, None, 3, QUIET)


def test_every_view_is_answered_and_the_whole_one_is_the_measure(report):
    assert [view.view for view in report.views] == list(VIEWS)
    views = {view.view: view for view in report.views}
    assert views[WHOLE].changed == 0.0
    assert views[MASKED].auroc is not None
    assert (report.n, report.split) == (8, "test")


def test_class_maps_are_weighed_apart_for_right_and_wrong_answers(report):
    right, wrong = report.pointing
    assert (right.answers, wrong.answers) == ("right", "wrong")
    assert right.n + wrong.n <= 8
    for pointing in report.pointing:
        assert len(pointing.furthest) == min(3, pointing.n)
        assert pointing.mass is None or 0.0 <= pointing.mass <= 1.0


def sample(name: str, label: int) -> Sample:
    return Sample(path=Path(name), name=name, sha256=name, split="test", label=label, group=name)


def test_a_map_on_the_joint_counts_whole_and_one_beside_it_is_named_first():
    cam = np.zeros((3, 2, 7, 7), dtype=np.float32)
    cam[0, 1, 3] = 1.0
    cam[1, 1, 0] = 1.0
    cam[2, 0, 3] = 1.0
    samples = [sample("on", 1), sample("beside", 1), sample("wrong", 1)]
    right, wrong = point(cam, np.array([1, 1, 0]), samples)
    assert (right.n, right.mass) == (2, pytest.approx(0.5))
    assert [case.name for case in right.furthest] == ["beside", "on"]
    assert (wrong.n, wrong.mass) == (1, pytest.approx(1.0))
    assert wrong.interval is None


def test_the_interval_of_a_mean_is_wider_where_images_share_patients():
    values = np.repeat(np.linspace(0.2, 0.9, 12), 3)
    alone = mean_interval(values, [str(i) for i in range(36)])
    together = mean_interval(values, [str(i // 3) for i in range(36)])
    assert together.high - together.low > 1.4 * (alone.high - alone.low)


def test_the_text_has_each_view_and_the_band_that_maps_are_held_against(report):
    text = joint_text(report)
    for view in VIEWS:
        assert view in text
    assert f"which is {AREA:.0%} of the picture" in text


def test_the_card_names_no_image_and_trusts_no_file_that_is_gone(report):
    section = "\n".join(joint_lines(report, frozenset({report.model_sha256})))
    assert "| joint masked |" in section
    assert ".png" not in section
    assert "no longer has" in joint_lines(report, frozenset())[0]
    assert "--joint" in joint_lines(None, frozenset())[0]


@pytest.mark.torch
@pytest.mark.slow
def test_the_run_of_a_file_keeps_the_test_and_its_card_shows_it(trained_run, exported, tmp_path):
    from kneeedge.report.card import add_joint
    from kneeedge.runs.findings import JOINT
    from kneeedge.runs.folder import Run

    run = Run(tmp_path / "run")
    shutil.copytree(trained_run, run.folder)
    model = run.models / exported["int8"].name
    write_dataset(tmp_path / "more", {"": 6}, size=64)
    found = joint_report(Session(model, "cpu", 1), tmp_path / "more", None, None, QUIET)
    assert "joint.json" in add_joint(model, found)
    assert JOINT.read(run) == found
    assert "| joint alone |" in run.card.read_text(encoding="utf-8")
    elsewhere = shutil.copy(model, tmp_path / "model.onnx")
    assert add_joint(Path(elsewhere), found) == ""
