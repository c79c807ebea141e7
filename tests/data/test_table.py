"""Labels in a CSV file: the same data as in folders, and a line for whatever does not fit."""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from kneeedge.audit import findings as kinds
from kneeedge.audit.findings import list_findings
from kneeedge.audit.run import audit
from kneeedge.data.dataset import check_unchanged, read_split, scan, write_split
from kneeedge.data.splits import assign_splits
from kneeedge.data.table import read_labels
from kneeedge.errors import ConfigError, DataError
from kneeedge.inference.evaluation import evaluation_samples
from kneeedge.report.audit_page import audit_page
from kneeedge.system.progress import Progress
from tests.data.test_dataset import make_images

QUIET = Progress(quiet=True)
FLAT = [
    f"{name}/{p}{side}.png" for name, ps in (("a", "12"), ("b", "34")) for p in ps for side in "LR"
]
SPLIT = [f"{split}/{name}" for split in ("train", "val", "test") for name in ("a/1.png", "b/2.png")]


def write(folder: Path, rows: Iterable[Iterable[str]], columns: str = "path,label") -> Path:
    table = folder / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return table


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    make_images(tmp_path, FLAT)
    return tmp_path


def label_of(name: str) -> str:
    return name.split("/")[-2]


def test_a_table_is_the_data_that_its_folders_are(flat: Path) -> None:
    by_folder = scan(flat)
    by_table = scan(write(flat, [(name, label_of(name)) for name in reversed(FLAT)]))
    assert by_table.samples == by_folder.samples
    assert (by_table.classes, by_table.root) == (by_folder.classes, by_folder.root)
    assert by_table.sha256() == by_folder.sha256()
    assert (
        assign_splits(by_table, 0.25, 0.25, 0).samples
        == assign_splits(by_folder, 0.25, 0.25, 0).samples
    )


def test_a_table_with_splits_is_the_data_that_split_folders_are(tmp_path: Path) -> None:
    make_images(tmp_path, SPLIT)
    by_folder = scan(tmp_path)
    words = {"train": "Training", "val": "DEV", "test": "testing"}
    rows = [(name, label_of(name), words[name.split("/")[0]]) for name in SPLIT]
    by_table = scan(write(tmp_path, rows, "path,label,split"))
    assert by_table.samples == by_folder.samples
    assert by_table.sha256() == by_folder.sha256()


def test_a_patient_of_the_table_stays_on_one_side(flat: Path) -> None:
    rows = [(name, label_of(name), name[2]) for name in FLAT]
    dataset = scan(write(flat, rows, "path,label,patient"))
    assert {sample.name: sample.group for sample in dataset.samples} == {n: n[2] for n in FLAT}
    assert dataset.remarks == ("4 patients, as a/1L.png → 1",)


def test_a_pattern_looks_below_the_folder_of_the_label(tmp_path: Path) -> None:
    names = ["train/KL0/7L.png", "train/KL0/7R.png", "KL4/8L.png", "9L.png"]
    make_images(tmp_path, names)
    labels = ["KL0", "KL0", "KL4", "KL4"]
    dataset = scan(write(tmp_path, zip(names, labels, strict=True)), r"(\d+)")
    assert {sample.name: sample.group for sample in dataset.samples} == {
        "train/KL0/7L.png": "7",
        "train/KL0/7R.png": "7",
        "KL4/8L.png": "8",
        "9L.png": "9",
    }


def test_the_split_file_of_a_table_is_found_again(flat: Path, tmp_path_factory) -> None:
    table = write(flat, [(f"./{name}", label_of(name)) for name in FLAT])
    dataset = assign_splits(scan(table), 0.25, 0.25, seed=0)
    split = tmp_path_factory.mktemp("run") / "split.csv"
    write_split(dataset, split)
    moved = tmp_path_factory.mktemp("moved") / "data"
    shutil.copytree(flat, moved)
    for data in (flat, table, moved, moved / "labels.csv"):
        restored = read_split(split, data, dataset.classes)
        check_unchanged(restored.samples)
        assert restored.sha256() == dataset.sha256()


def test_rows_may_name_part_of_a_folder_in_any_way(flat: Path) -> None:
    odd = ["./a/1L.png", "a//1R.png", str(flat / "b/3L.png"), "b/./3R.png"]
    rows = [(name, label) for name, label in zip(odd, (" a", "a ", "b", "b"), strict=True)]
    assert [s.name for s in scan(write(flat, rows)).samples] == [
        "a/1L.png", "a/1R.png", "b/3L.png", "b/3R.png",
    ]  # fmt: skip


@pytest.mark.parametrize("start", ["\ufeff", ""])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_byte_order_mark_and_either_end_of_line_are_read(
    flat: Path, start: str, end: str
) -> None:
    lines = ["path,label", "a/1L.png,a", "", "b/3L.png,b"]
    (flat / "t.csv").write_bytes((start + end.join(lines)).encode())
    table = read_labels(flat / "t.csv")
    assert [(row.name, row.label) for row in table.rows] == [("a/1L.png", "a"), ("b/3L.png", "b")]
    assert [row.line for row in table.rows] == [2, 4]


GOOD = "a/1L.png,a\nb/3L.png,b\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"path,label\n{GOOD}a/9L.png,a\n", r"line 4: a/9L\.png is no file there; give the path"),
        (f"path,label\n{GOOD}a,a\n", "line 4: a is no file there"),
        (f"path,label\n{GOOD}a\\2L.png,a\n", r"line 4: .* is no file there; write / in place of"),
        (f"path,label\n{GOOD}./a/1L.png,a\n", r"line 4: a/1L\.png stands on line 2 too; keep one"),
        (f"path,label\n{GOOD}../x.png,a\n", r"line 4: \.\./x\.png is outside .*; put the table"),
        (f"path,label\n{GOOD}/etc/passwd,a\n", "line 4: /etc/passwd is outside"),
        (f"path,label\n{GOOD}a/2L.png,\n", "line 4: it has no label; write one"),
        (f"path,label\n{GOOD}a/2L.png,  \n", "line 4: it has no label; write one"),
        (f"path,label\n{GOOD},a\n", "line 4: it has no path; write one"),
        (f"path,label\n{GOOD}a/2L.png\n", "line 4: it has 1 cells, not 2; write one for each"),
        (f"path,label\n{GOOD}a/2L.png,a,x\n", "line 4: it has 3 cells, not 2"),
        (f"path,label\n{GOOD}a/2L.png,A\n", "line 4: the labels 'A' and 'a' differ in their case"),
        ("path,label\na/1L.png,a\na/2L.png,a\n", "it has 1 labels, 'a'; give two classes or more"),
        ("path,label\n", "it has 0 labels; give two classes or more"),
        ("path,label,split\na/1L.png,a,train\nb/3L.png,b,fold1\n", "line 3: 'fold1' is no split"),
        ("path,label,split\na/1L.png,a,train\nb/3L.png,b,\n", "line 3: it has no split; fill it"),
        ("path,label,patient\na/1L.png,a,P\nb/3L.png,b,\n", "line 3: it has no patient; fill"),
        ("path,label,sex\na/1L.png,a,f\n", "it has an unknown column 'sex'; name the columns"),
        ("path,class\na/1L.png,a\n", "it has no column 'label'; name the columns path,label"),
        ("path,label,label\na/1L.png,a,a\n", "it has two columns of one name"),
        ("path;label\na/1L.png;a\n", "its columns are separated by ';'; save it as CSV in UTF-8"),
        ("path\tlabel\na/1L.png\ta\n", "its columns are separated by '.t'; save it as CSV"),
        ("", "it has no column 'path'"),
        ('path,label\n"a/1L.png,a\n', "it is no CSV file .unexpected end of data.; save it"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_that_names_its_own(
    flat: Path, text: str, complaint: str
) -> None:
    (flat / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=complaint) as caught:
        scan(flat / "t.csv")
    assert str(caught.value).startswith(f"{flat / 't.csv'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "complaint"),
    [
        ("utf-16", "it is in UTF-16; save it as CSV in UTF-8"),
        ("latin-1", "line 2: its label is no t"),
    ],
)
def test_another_encoding_is_refused(flat: Path, encoding: str, complaint: str) -> None:
    (flat / "t.csv").write_bytes("path,label\na/1L.png,müde\nb/3L.png,b\n".encode(encoding))
    with pytest.raises(DataError, match=complaint):
        scan(flat / "t.csv")


def test_another_file_is_no_table(flat: Path) -> None:
    with pytest.raises(DataError, match=r"1L\.png: it (has no column|is no CSV)"):
        scan(flat / "a/1L.png")


def test_a_pattern_beside_a_column_of_patients_is_refused(flat: Path) -> None:
    table = write(flat, [(name, label_of(name), "1") for name in FLAT], "path,label,patient")
    with pytest.raises(ConfigError, match="both say whose an image is; leave one of them out"):
        scan(table, r"\d")


def test_splits_of_a_table_hold_every_class_and_train(tmp_path: Path) -> None:
    make_images(tmp_path, SPLIT)
    rows = [(name, label_of(name), name.split("/")[0]) for name in SPLIT]
    with pytest.raises(DataError, match="test has no image of 'b'; add some"):
        scan(write(tmp_path, rows[:-1], "path,label,split"))
    with pytest.raises(DataError, match="it has test but no train"):
        scan(write(tmp_path, rows[2:], "path,label,split"))


def test_evaluate_takes_a_table(tmp_path: Path) -> None:
    make_images(tmp_path, SPLIT)
    rows = [(name, label_of(name), name.split("/")[0]) for name in SPLIT]
    table = write(tmp_path, rows, "path,label,split")
    for data in (tmp_path, table):
        name, samples = evaluation_samples(data, ("b", "a"))
        assert (name, [(s.name, s.label) for s in sorted(samples, key=lambda s: s.name)]) == (
            "test",
            [("test/a/1.png", 1), ("test/b/2.png", 0)],
        )
        assert evaluation_samples(data, ("a", "b"), "validation")[0] == "val"
    with pytest.raises(DataError, match=r"labels\.csv: line 7: 'b' is none of the classes a, c"):
        evaluation_samples(table, ("a", "c"))
    with pytest.raises(DataError, match="test has no image of 'c'"):
        evaluation_samples(table, ("a", "b", "c"))


def test_a_table_without_splits_is_one_split_of_its_own_name(flat: Path) -> None:
    table = write(flat, [(name, label_of(name)) for name in FLAT])
    name, samples = evaluation_samples(table, ("a", "b"))
    assert (name, len(samples)) == ("labels", 8)
    with pytest.raises(DataError, match="it has no split 'test'; leave out --split"):
        evaluation_samples(table, ("a", "b"), "test")


def test_the_audit_of_a_table_is_that_of_its_folders(flat: Path) -> None:
    shutil.copy(flat / "a/1L.png", flat / "b/again.png")
    names = [*FLAT, "b/again.png"]
    by_folder = audit(flat, None, None, QUIET)
    (flat / "b/again.png").rename(flat / "again.png")
    rows = [(name if name in FLAT else "again.png", label_of(name), "1") for name in names]
    table = write(flat, [row[:2] for row in rows])
    by_table = audit(table, None, None, QUIET)
    assert by_table.counts == by_folder.counts == {"": {"a": 4, "b": 5}}
    (conflict,) = (f for f in list_findings(by_table) if f.kind == kinds.CONFLICT)
    assert conflict.cases == ("a/1L.png = again.png (b): same bytes",)
    assert audit_page(by_table, list_findings(by_table)).count("data:image/jpeg;base64,") == 2
    with_patients = audit(write(flat, rows, "path,label,patient"), None, None, QUIET)
    assert {image.patient for image in with_patients.images} == {"1"}
