"""The looks at the pixels: the probe, the joint test and the search for wrong labels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.audit import closer_findings as kinds
from kneeedge.audit.closer import look_closer
from kneeedge.audit.findings import list_findings
from kneeedge.audit.joint import BESIDE, FAIR
from kneeedge.audit.labels import rank, write_suspects
from kneeedge.audit.probe import labelled, out_of_fold
from kneeedge.audit.run import Audit, audit
from kneeedge.audit.shortcut import TOO_FEW
from kneeedge.data.dataset import scan
from kneeedge.data.labels import drop_labels
from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.joint import EDGE, JOINT, MASKED, WHOLE
from kneeedge.report.audit import audit_text
from kneeedge.report.audit_page import audit_page
from kneeedge.system.progress import Progress
from tests.audit.pixel_features import PixelFeatures

QUIET = Progress(quiet=True)
N = 40
"images of each class"
MIDDLE, TOP = slice(14, 18), slice(0, 4)
"rows of a picture"


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("kneeedge.audit.probe.REPEATS", 1)
    monkeypatch.setattr("kneeedge.audit.shortcut.DRAWS", 300)
    monkeypatch.setattr("kneeedge.audit.shortcut.TREES", 5)
    monkeypatch.setattr("kneeedge.audit.shortcut.REPEATS", 1)


def write_images(folder: Path, rows: slice | None, classes: tuple[str, ...] = ("a", "b")) -> Path:
    """Noise, in which the first class is lighter in some rows."""
    rng = np.random.default_rng(1)
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(N):
            pixels = rng.integers(60, 200, (32, 32), dtype=np.uint8)
            if rows and k == 0:
                pixels[rows] = np.minimum(pixels[rows].astype(int) + 50, 255)
            Image.fromarray(pixels).save(folder / name / f"{name}{i:02d}.png")
    return folder


def looked(folder: Path, joint: bool = False, labels: bool = False) -> Audit:
    found = audit(folder, None, None, QUIET)
    return look_closer(found, PixelFeatures(), joint, labels, QUIET)


@pytest.fixture(scope="module")
def in_joint(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("in") / "data", MIDDLE)


def test_no_image_is_held_out_from_the_others_of_its_group():
    """Features that name the group tell nothing where the group is held out."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 3)
    label = np.repeat(rng.permutation(np.arange(60) % 2), 3)
    features = np.eye(60)[group] * 100
    probabilities = out_of_fold(features, label, group)
    assert np.ptp(probabilities[:, 1]) < 0.1


def test_each_row_of_three_classes_is_a_distribution():
    rng = np.random.default_rng(0)
    label = np.arange(90) % 3
    features = np.eye(3)[label] + rng.normal(0, 0.2, (90, 3))
    probabilities = out_of_fold(features, label, np.arange(90))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert (probabilities.argmax(axis=1) == label).mean() > 0.9


def test_a_sign_in_the_joint_is_seen_by_the_views_that_show_it_and_is_no_fault(in_joint):
    result = looked(in_joint, joint=True)
    area = {separation.view: separation.auroc for separation in result.joint.separations}
    assert min(area[WHOLE], area[JOINT]) > 0.9
    assert max(area[MASKED], area[EDGE]) < 0.65
    assert result.joint.verdict == FAIR
    finding = next(f for f in list_findings(result) if f.kind == kinds.JOINT_TEST)
    assert (finding.severity, len(finding.cases) >= 4) == ("note", True)


def test_a_sign_in_the_border_is_a_warning_in_plain_words(tmp_path):
    result = looked(write_images(tmp_path / "data", TOP), joint=True)
    assert result.joint.verdict == BESIDE
    finding = next(f for f in list_findings(result) if f.kind == kinds.BESIDE_JOINT)
    assert finding.severity == "warning"
    assert "pictures without their joint still tell the classes apart" in finding.what
    text = audit_text(result, list_findings(result))
    assert "joint masked: AUROC" in text
    assert "With and without the joint" in audit_page(result, list_findings(result))


def test_of_three_classes_each_is_held_against_the_rest(tmp_path):
    result = looked(write_images(tmp_path / "data", TOP, ("a", "b", "c")), joint=True)
    beside = {s.positive for s in result.joint.separations if s.is_beside_the_joint}
    assert "a" in beside
    finding = next(f for f in list_findings(result) if f.kind == kinds.BESIDE_JOINT)
    assert "a from the rest" in finding.what


def test_a_handful_of_images_is_too_few_for_either(tmp_path):
    folder = write_images(tmp_path / "data", MIDDLE)
    for path in sorted(folder.glob("*/*[1-4]?.png")):
        path.unlink()
    result = looked(folder, joint=True, labels=True)
    assert result.joint.verdict == result.labels.verdict == TOO_FEW
    assert (result.joint.separations, result.labels.suspects) == ((), ())
    text = audit_text(result, list_findings(result))
    assert "too few images for the joint test" in text
    assert "too few images to search for wrong labels" in text


def test_images_without_classes_are_refused(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((32, 32), 9 * i, np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="no labels to look at"):
        looked(tmp_path, labels=True)


@pytest.fixture(scope="module")
def planted(in_joint, tmp_path_factory) -> tuple[Path, set[str]]:
    """The data with four images in the folder of the other class, and one in both; their names."""
    folder = tmp_path_factory.mktemp("planted") / "data"
    shutil.copytree(in_joint, folder)
    names = set()
    for i in (3, 17):
        for name, other in (("a", "b"), ("b", "a")):
            (folder / name / f"{name}{i:02d}.png").rename(folder / other / f"wrong-{name}{i}.png")
            names.add(f"{other}/wrong-{name}{i}.png")
    shutil.copy(folder / "a/a30.png", folder / "b/copy.png")
    return folder, names


@pytest.fixture(scope="module")
def searched(planted) -> Audit:
    return looked(planted[0], labels=True)


def test_planted_labels_and_copies_with_two_labels_are_in_the_first_tenth(searched, planted):
    suspects = searched.labels.suspects
    assert len(suspects) == 9  # a tenth of 81, rounded up
    assert {suspect.name for suspect in suspects[:2]} == {"a/a30.png", "b/copy.png"}
    assert "a/a30.png has another label" in next(s.why for s in suspects if s.name == "b/copy.png")
    assert planted[1] <= {suspect.name for suspect in suspects[:7]}
    assert [suspect.rank for suspect in suspects] == list(range(1, 10))
    wrong = [suspect for suspect in suspects if suspect.name in planted[1]]
    assert all(s.is_confident and s.probability < 0.5 and s.likelier != s.label for s in wrong)


def test_the_search_is_told_in_words_with_the_doubtful_labels(searched):
    findings = list_findings(searched)
    finding = next(f for f in findings if f.kind == kinds.LABELS)
    assert finding.severity == "warning"
    assert finding.what.startswith("9 of 81 images to look at first")
    assert "the probe agrees with" in finding.what
    assert "--drop-labels" in finding.remedy
    page = audit_page(searched, findings)
    assert "Labels to look at" in page
    assert page.count("looks as much like") >= 4


def test_the_list_is_what_train_leaves_out(searched, planted, tmp_path):
    listed = tmp_path / "labels.csv"
    write_suspects(searched.labels, listed)
    header, *rows = listed.read_text(encoding="utf-8").splitlines()
    assert header == "path,label,probability,rank,why"
    kept = [header, *(row for row in rows if "wrong-" in row)]
    listed.write_text("\n".join(kept), encoding="utf-8")
    lines: list[str] = []
    dataset, n_dropped = drop_labels(scan(planted[0]), listed, lines.append)
    assert n_dropped == 4
    assert not planted[1] & {sample.name for sample in dataset.samples}
    assert lines == [
        f"left out, since {listed} says that their labels are wrong (--drop-labels): 4 images"
    ]


def test_a_list_that_does_not_fit_the_data_is_refused(in_joint, tmp_path):
    dataset = scan(in_joint)
    listed = tmp_path / "labels.csv"
    for text, problem in (
        ("path,label\na/nowhere.png,a\n", r"a/nowhere\.png is no image of"),
        ("path,label\na/a00.png,b\n", "was b and is a now"),
        ("path\na/a00.png\n", "no column 'label'"),
    ):
        listed.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=problem):
            drop_labels(dataset, listed, lines_go_nowhere)
    with pytest.raises(NotFoundError, match="no such table"):
        drop_labels(dataset, tmp_path / "none.csv", lines_go_nowhere)


def lines_go_nowhere(line: str) -> None:
    """For what nobody is to hear."""


def test_the_ranking_is_that_of_confident_learning_written_out():
    """Northcutt et al. 2021, equations 1 and 2, image by image."""
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet((1.0, 1.5, 0.7), 60)
    label = np.arange(60) % 3
    found = rank(probabilities, label, [False] * 60)
    threshold = [
        np.mean([probabilities[i, k] for i in range(60) if label[i] == k]) for k in (0, 1, 2)
    ]
    for i in range(60):
        passed = [k for k in (0, 1, 2) if probabilities[i, k] >= threshold[k] and k != label[i]]
        gains = [probabilities[i, k] - threshold[k] for k in (0, 1, 2)]
        others = max(gains[k] for k in (0, 1, 2) if k != label[i])
        assert found.margin[i] == pytest.approx(gains[label[i]] - others)
        assert found.is_confident[i] == bool(passed and others > gains[label[i]])
    assert (np.diff(found.margin[found.order]) >= 0).all()


def test_copies_with_two_labels_come_before_any_doubt():
    probabilities = np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = rank(probabilities, np.array([0, 0, 1, 1]), [False, True, False, False])
    assert found.order.tolist() == [1, 0, 3, 2]


def test_groups_and_classes_become_indices():
    known = labelled(["b", "a", "b"], ["x", "y", "x"], ("a", "b"))
    assert (known.label.tolist(), known.n_groups, known.are_too_few) == ([1, 0, 1], 2, True)
