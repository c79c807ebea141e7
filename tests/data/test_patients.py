"""Whom a pattern finds, where it looks, and when it is to be doubted."""

from pathlib import Path

import pytest

from kneeedge.data.dataset import scan
from kneeedge.data.patients import patient_doubts, patient_of, patients_line
from kneeedge.errors import DataError
from tests.data.test_dataset import make_images


def groups(folder: Path, pattern: str) -> dict[str, str]:
    return {sample.name: sample.group for sample in scan(folder, pattern).samples}


@pytest.mark.parametrize("above", ["", "train/", "Train 2026/"])
def test_a_pattern_looks_below_the_class_folder(tmp_path: Path, above: str) -> None:
    names = [f"KL{grade}/900312{n}{side}.png" for grade in (0, 4) for n in (5, 6) for side in "LR"]
    make_images(tmp_path, [above + name for name in names])
    found = groups(tmp_path, r"(\d+)")
    assert set(found.values()) == {"9003125", "9003126"}


def test_a_folder_of_each_patient_is_found(tmp_path: Path) -> None:
    make_images(tmp_path, ["KL0/P1/L.png", "KL0/P1/R.png", "KL4/P2/L.png"])
    found = groups(tmp_path, r"P\d")
    assert found == {"KL0/P1/L.png": "P1", "KL0/P1/R.png": "P1", "KL4/P2/L.png": "P2"}


def test_the_first_group_counts_else_the_whole_match() -> None:
    assert patient_of("9003126R.png", r"(\d+)[LR]") == "9003126"
    assert patient_of("9003126R.png", r"\d+R") == "9003126R"
    assert patient_of("9003126R.png", None) == ""


def test_a_file_without_a_patient_is_named_whole(tmp_path: Path) -> None:
    make_images(tmp_path, ["KL0/P1.png", "KL4/other.png"])
    with pytest.raises(DataError, match=r"KL4/other\.png: .* finds no patient in other\.png; make"):
        scan(tmp_path, r"\d")


def test_the_number_of_patients_is_said_with_an_example(tmp_path: Path) -> None:
    make_images(tmp_path, ["a/12L.png", "a/12R.png", "b/34L.png"])
    (line,) = scan(tmp_path, r"\d+").remarks
    assert line == "2 patients, as a/12L.png → 12"
    assert patients_line([("a/12L.png", "12")]) == "1 patient, as a/12L.png → 12"
    assert patients_line([("x.png", "")]) == ""
    assert scan(tmp_path).remarks == ()


@pytest.mark.parametrize(
    ("patients", "doubt"),
    [
        (["kl0", "P1", "P1"], "the patient 'kl0' has the name of a class"),
        (["0", "0", "0"], "all 3 images are of one patient"),
        (["1", "2", "3"], "each of the 3 images is of another patient"),
    ],
)
def test_a_pattern_that_finds_no_patients_is_doubted(patients: list[str], doubt: str) -> None:
    owners = [(f"{i}.png", patient) for i, patient in enumerate(patients)]
    assert patient_doubts(owners, ("KL0", "KL4")) == [doubt]


def test_patients_of_several_images_are_not_doubted() -> None:
    owners = [("1L", "1"), ("1R", "1"), ("2L", "2"), ("3L", "")]
    assert patient_doubts(owners, ("KL0", "KL4")) == []
    assert patient_doubts([("1L", "1")], ("a", "b")) == []
    assert patient_doubts([("1L", "")], ("a", "b")) == []
