"""Two runs are paired image by image on the same test, or said not to pair."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.report.runs import comparison_text
from kneeedge.runs.compare import VAL_CHOSE, compare_runs, groups_of_either
from kneeedge.runs.folder import Run
from kneeedge.statistics.paired import paired_auroc_change, paired_changes
from kneeedge.system.strict_json import from_json, to_json
from tests.kept_runs import write_kept_run
from tests.tiny_onnx import tiny_spec

LABELS = [0, 1, 0, 1, 0, 1, 0, 1]
FIRST = [0, 1, 0, 1, 1, 0, 0, 1]
SECOND = [0, 1, 1, 1, 0, 1, 0, 1]


def compare(first: Run, second: Run):
    return compare_runs(first.folder, second.folder)


def test_answers_are_paired_by_the_images_bytes_whatever_their_names_and_order(tmp_path: Path):
    hashes = [f"{i:064}" for i in range(8)]
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    first = write_kept_run(tmp_path / "a", LABELS, FIRST, hashes=hashes)
    second = write_kept_run(
        tmp_path / "b",
        [LABELS[i] for i in order],
        [SECOND[i] for i in order],
        hashes=[hashes[i] for i in order],
    )
    comparison = compare(first, second)
    expected = paired_changes(np.array(LABELS), np.array(FIRST), np.array(SECOND), 1)
    assert (comparison.reason, comparison.split, comparison.n) == ("", "test", 8)
    assert comparison.changes == expected
    assert comparison.changes["accuracy"].gained == 2
    assert comparison.changes["accuracy"].lost == 1
    assert [score.accuracy for score in comparison.scores] == [0.75, 0.875]
    assert comparison.cautions == ()


def test_the_change_of_auroc_is_delongs_of_the_pairs(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST)
    second = write_kept_run(tmp_path / "b", LABELS, SECOND)
    comparison = compare(first, second)
    size = 1.0 + 0.01 * np.arange(8)
    before, after = (np.where(np.array(given), size, -size) for given in (FIRST, SECOND))
    delta, interval = paired_auroc_change(np.array(LABELS) == 1, before, after)
    assert comparison.auroc_change == pytest.approx(delta)
    assert comparison.auroc_interval.low == pytest.approx(interval.low)


def test_a_run_beside_itself_changes_nothing(tmp_path: Path):
    run = write_kept_run(tmp_path / "a", LABELS, FIRST)
    comparison = compare(run, run)
    assert comparison.changes["accuracy"].flips == 0
    assert (comparison.auroc_change, comparison.auroc_interval.high) == (0.0, 0.0)


def test_other_images_are_not_paired_and_the_reason_counts_them(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST)
    others = [f"{i:064}" for i in range(3, 11)]
    second = write_kept_run(tmp_path / "b", LABELS, SECOND, hashes=others)
    comparison = compare(first, second)
    assert comparison.reason == "their test images are not the same: 8 and 8, 5 in common"
    assert (comparison.changes, comparison.scores) == ({}, ())


def test_images_of_another_class_in_each_are_not_paired(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST)
    second = write_kept_run(tmp_path / "b", [1, *LABELS[1:]], SECOND)
    assert compare(first, second).reason == "1 test images have another class in each"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ("Healthy", "Sick"), "positive": "Sick"}, "their classes are Healthy, Osteo"),
        ({"positive": "Healthy"}, "their positive classes are Osteoporosis and Healthy"),
    ],
)
def test_answers_that_mean_something_else_are_not_paired(changes, reason, tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST)
    spec = dataclasses.replace(tiny_spec(), **changes)
    second = write_kept_run(tmp_path / "b", LABELS, SECOND, spec=spec)
    assert compare(first, second).reason.startswith(reason)


def test_without_a_test_val_is_paired_with_a_caution(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST, split="val")
    second = write_kept_run(tmp_path / "b", LABELS, SECOND, split="val")
    comparison = compare(first, second)
    assert (comparison.split, comparison.cautions) == ("val", (VAL_CHOSE,))


def test_a_test_of_one_alone_is_not_paired_with_the_others_val(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST)
    second = write_kept_run(tmp_path / "b", LABELS, SECOND, split="val")
    assert "8 and 0, 0 in common" in compare(first, second).reason


def test_leaks_are_cautioned_of(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST)
    training = dataclasses.replace(tiny_spec().training, leaked=3)
    leaky = dataclasses.replace(tiny_spec(), training=training)
    second = write_kept_run(tmp_path / "b", LABELS, SECOND, spec=leaky)
    (leak,) = compare(first, second).cautions
    assert leak.startswith(f"{second.folder}: LEAKY")


@pytest.mark.parametrize("whose", ["a", "b"])
def test_intervals_allow_for_the_images_of_a_patient_whichever_run_knows_them(
    whose: str, tmp_path: Path
):
    """Forty knees of twenty patients, both of whom move together."""
    patients = [f"P{i // 2}" for i in range(40)]
    labels = [i // 2 % 2 for i in range(40)]
    before = [label ^ (i // 2 < 3) for i, label in enumerate(labels)]
    after = [label ^ (i // 2 > 17) for i, label in enumerate(labels)]
    groups = {whose: patients}
    runs = {
        name: write_kept_run(tmp_path / name, labels, answers, groups=groups.get(name))
        for name, answers in (("a", before), ("b", after))
    }
    comparison = compare(runs["a"], runs["b"])
    clusters = np.arange(40) // 2
    expected = paired_changes(np.array(labels), np.array(before), np.array(after), 1, clusters)
    assert comparison.n_groups == 20
    for name, change in expected.items():
        found = comparison.changes[name]
        assert found.interval.low == pytest.approx(change.interval.low)
        assert found.interval.high == pytest.approx(change.interval.high)
        assert (found.mcnemar_p, found.n_groups) == (change.mcnemar_p, change.n_groups)
    assert comparison.cautions == ()
    assert "over 20 groups of images of one patient" in comparison_text(comparison)
    alone = paired_changes(np.array(labels), np.array(before), np.array(after), 1)["accuracy"]
    accuracy = comparison.changes["accuracy"]
    assert (accuracy.delta, accuracy.flips) == (alone.delta, alone.flips)
    assert accuracy.interval.low < alone.interval.low < alone.interval.high < accuracy.interval.high
    assert accuracy.mcnemar_p > alone.mcnemar_p


def test_runs_whose_images_each_stand_alone_name_no_groups(tmp_path: Path):
    comparison = compare(*(write_kept_run(tmp_path / name, LABELS, FIRST) for name in "ab"))
    assert comparison.n_groups is None
    assert comparison_text(comparison).count("Tango 1998; AUROC by DeLong 1988") == 1


def test_images_belong_together_that_do_so_in_either_run():
    first = ["p", "p", "q", "r", "s", "t"]
    second = ["1", "2", "2", "3", "p", "3"]
    assert groups_of_either(first, second) == ["0", "0", "0", "3", "4", "3"]


def test_images_of_the_same_bytes_are_paired_each(tmp_path: Path):
    hashes = ["a" * 64, "b" * 64] * 4
    first = write_kept_run(tmp_path / "a", LABELS, FIRST, hashes=hashes)
    second = write_kept_run(tmp_path / "b", LABELS, SECOND, hashes=hashes)
    assert compare(first, second).n == 8


def test_each_at_its_own_threshold(tmp_path: Path):
    first = write_kept_run(tmp_path / "a", LABELS, FIRST)
    never = dataclasses.replace(tiny_spec(), threshold=0.99)
    second = write_kept_run(tmp_path / "b", LABELS, FIRST, spec=never)
    assert compare(first, second).changes["sensitivity"].delta == -0.75


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path):
    run = write_kept_run(tmp_path / "a", LABELS, FIRST)
    (tmp_path / "b").mkdir()
    with pytest.raises(NotFoundError, match="no training run here"):
        compare_runs(run.folder, tmp_path / "b")


def test_answers_that_are_damaged_are_refused(tmp_path: Path):
    run = write_kept_run(tmp_path / "a", LABELS, FIRST)
    run.answers.write_text("path,split\nx,test\n")
    with pytest.raises(CheckpointError, match="its answers do not fit"):
        compare(run, run)


def test_the_comparison_survives_json(tmp_path: Path):
    comparison = compare(*(write_kept_run(tmp_path / name, LABELS, FIRST) for name in "ab"))
    assert from_json(type(comparison), to_json(comparison)) == comparison
