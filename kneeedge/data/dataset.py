"""A labelled data folder as samples with class, group and split, and the `split.csv` of them."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kneeedge.data.layout import SPLITS, ClassFolders, Layout, list_classes, read_layout
from kneeedge.data.patients import patient_doubts, patient_of, patients_line
from kneeedge.data.table import Row, Table, read_labels
from kneeedge.errors import DataError, ImageError, NotFoundError
from kneeedge.pixels.depth import depth_warning
from kneeedge.pixels.listing import Listing
from kneeedge.pixels.picture import read_picture
from kneeedge.system.files import file_sha256, write_csv
from kneeedge.system.machine import available_cpus
from kneeedge.system.plural import counted
from kneeedge.system.spreadsheet import original_text

COLUMNS = ("path", "sha256", "split", "class", "group")
SHORT_HASH = 16
"hex digits of `Sample.short_hash`"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled image."""

    path: Path
    name: str
    "POSIX path relative to the data folder"
    sha256: str
    "of the file's bytes"
    split: str
    "train, val or test"
    label: int
    "index into the classes"
    group: str
    """patient, or the file's hash where no patient is known, joined with those of copies; stands on
    one side of a split
    """
    depth_suspect: int = 0
    "bits that 16-bit pixels fit, 8 to 14, where so few and nobody said so; else 0"

    @property
    def short_hash(self) -> str:
        """What a model file keeps of an image that it was trained or chosen on."""
        return self.sha256[:SHORT_HASH]


@dataclass(frozen=True)
class Dataset:
    """All samples of a data folder or a table, in the order of their names.

    Under the paper's protocol an image may be two samples.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    others: tuple[Path, ...] = ()
    "files that are no images, and what stands beside the folders of splits and classes"
    remarks: tuple[str, ...] = ()
    "lines on what else is left out, on folders of other names that are splits, and on patients"

    def split(self, name: str) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.split == name)

    def counts(self) -> dict[str, int]:
        """Images in each split that has any."""
        counts = Counter(sample.split for sample in self.samples)
        return {name: counts[name] for name in SPLITS if counts[name]}

    def sha256(self) -> str:
        """One hash, hex, that the same files, split and classes have on any machine."""
        rows = sorted(
            f"{s.name}\0{s.sha256}\0{s.split}\0{self.classes[s.label]}" for s in self.samples
        )
        text = "\n".join(rows)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def leaked(self) -> tuple[Sample, ...]:
        """Samples of val and test whose bytes, or whose group, also stand in another split."""
        splits_of: dict[str, set[str]] = {}
        for sample in self.samples:
            for key in (sample.sha256, sample.group):
                splits_of.setdefault(key, set()).add(sample.split)
        shared = {key for key, splits in splits_of.items() if len(splits) > 1}
        held_out = (sample for sample in self.samples if sample.split != "train")
        return tuple(s for s in held_out if s.sha256 in shared or s.group in shared)


def some_of_each_class(dataset: Dataset, seed: int, n: int) -> list[list[Sample]]:
    """Of each class up to `n` training images, drawn with the seed."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label in range(len(dataset.classes)):
        samples = [sample for sample in dataset.split("train") if sample.label == label]
        chosen.append([samples[i] for i in rng.permutation(len(samples))[:n]])
    return chosen


def say_depths(samples: Sequence[Sample], say: Callable[[str], None]) -> None:
    """Say which samples of 16 bits seem to use fewer."""
    suspects = [(sample.name, sample.depth_suspect) for sample in samples if sample.depth_suspect]
    if suspects:
        say(depth_warning(suspects))


def scan(
    root: Path,
    group_regex: str | None = None,
    grey_bits: int = 0,
    splits: Collection[str] = SPLITS,
) -> Dataset:
    """Every image below `root`, hashed and decoded once, with its class and its folders' split.

    `root` may be a CSV file of labels too. Of data with splits no file is opened but those of
    `splits`, which train is one of; samples of data without splits all carry the split `train`.
    Raises NotFoundError where there is no such folder, and DataError where the layout is none of
    these, or where images cannot be read.
    """
    if root.is_file():
        return _scan_table(read_labels(root, group_regex), grey_bits, splits)
    layout = read_layout(root)
    if not layout.splits:
        return _dataset(layout, {"train": list_classes(root)}, group_regex, grey_bits)
    if "train" not in layout.splits:
        (folder, *_) = layout.splits.values()
        problem = f"it has {folder.name}/ but no train/"
        raise DataError(root, problem, "add train/, or give the folder of classes")
    of_train = list_classes(layout.splits["train"])
    found = {"train": of_train}
    for split, folder in layout.splits.items():
        if split != "train" and split in splits:
            found[split] = list_classes(folder, tuple(of_train.listings))
    return _dataset(layout, found, group_regex, grey_bits)


def _dataset(
    layout: Layout, found: Mapping[str, ClassFolders], group_regex: str | None, grey_bits: int
) -> Dataset:
    classes = tuple(found["train"].listings)
    samples: list[Sample] = []
    for split, folders in found.items():
        samples += labelled_samples(layout.root, folders, split, group_regex, grey_bits)
    samples.sort(key=lambda sample: sample.name)
    others = [*layout.beside, *(path for folders in found.values() for path in folders.others)]
    left_out = left_out_remarks(*found.values(), clutter=layout.clutter)
    remarks = (*layout.remarks(), *left_out, *patient_remarks(samples, classes))
    return Dataset(layout.root, classes, tuple(samples), tuple(others), remarks)


def _scan_table(table: Table, grey_bits: int, splits: Collection[str]) -> Dataset:
    classes = table.classes
    by_split = table.by_split()
    if "train" not in by_split and "" not in by_split:
        raise DataError(table.path, f"it has {min(by_split)} but no train", "add training images")
    samples: list[Sample] = []
    for split, rows in by_split.items():
        if split and split not in splits:
            continue
        table.check_classes(rows, classes, split)
        samples += table_samples(rows, classes, split or "train", grey_bits)
    samples.sort(key=lambda sample: sample.name)
    remarks = patient_remarks(samples, classes)
    return Dataset(table.root, classes, tuple(samples), remarks=tuple(remarks))


def table_samples(
    rows: Iterable[Row], classes: Sequence[str], split: str, grey_bits: int = 0
) -> list[Sample]:
    """The samples of a table's rows; raises DataError where an image cannot be read."""
    found = [(row.path, row.name, classes.index(row.label), row.patient) for row in rows]
    return make_samples(found, split, grey_bits)


def labelled_samples(
    root: Path,
    folders: ClassFolders,
    split: str,
    group_regex: str | None = None,
    grey_bits: int = 0,
) -> list[Sample]:
    """The samples of class folders by class and name, their names relative to `root`.

    Raises DataError where images cannot be read, or the pattern finds no patient.
    """
    above = folders.folder.relative_to(root).as_posix()
    prefix = "" if above == "." else f"{above}/"
    rows = []
    for label, (name, listing) in enumerate(folders.listings.items()):
        for image in listing.images:
            whole = f"{prefix}{name}/{image.name}"
            patient = patient_of(image.name, group_regex, whole)
            rows.append((image.path, whole, label, patient))
    return make_samples(rows, split, grey_bits)


def make_samples(
    rows: Sequence[tuple[Path, str, int, str]], split: str, grey_bits: int = 0
) -> list[Sample]:
    """Samples of (path, name, label, patient), hashed; "" is a patient who is not known.

    Raises DataError where an image cannot be read.
    """
    files = _read_all([path for path, *_ in rows], grey_bits)
    return [
        Sample(
            path=path,
            name=name,
            sha256=sha256,
            split=split,
            label=label,
            group=patient or sha256,
            depth_suspect=depth_suspect,
        )
        for (path, name, label, patient), (sha256, depth_suspect) in zip(rows, files, strict=True)
    ]


def _read_all(paths: Sequence[Path], grey_bits: int) -> list[tuple[str, int]]:
    """The SHA-256 of every file, and the depth that its pixels seem to have.

    Raises DataError where a file gives no pixels.
    """
    files = []
    errors = []
    with ThreadPoolExecutor(available_cpus()) as pool:
        for result in pool.map(partial(_hash_and_decode, grey_bits=grey_bits), paths):
            if isinstance(result, ImageError):
                errors.append(result)
            else:
                files.append(result)
    if errors:
        also = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        remedy = "repair or remove the file; none is left out unsaid"
        raise DataError(errors[0].path, f"{errors[0].reason}{also}", remedy)
    return files


def write_split(dataset: Dataset, path: Path) -> None:
    """Write `split.csv`: path, sha256, split, class, group."""
    rows = ((s.name, s.sha256, s.split, dataset.classes[s.label], s.group) for s in dataset.samples)
    write_csv(path, COLUMNS, rows)


def read_split(path: Path, root: Path, classes: Sequence[str]) -> Dataset:
    """The dataset that `write_split` wrote, with its files looked for below `root`.

    `root` may be a CSV file of labels, whose folder is meant. Raises NotFoundError without the
    file, DataError where its columns or its classes are others.
    """
    if root.is_file():
        root = root.parent
    if not path.is_file():
        remedy = "give a run folder that `kneeedge train` made"
        raise NotFoundError(f"{path}: no such split file", remedy)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(path, f"its columns are not {','.join(COLUMNS)}", "train the run again")
        rows = [{name: original_text(cell) for name, cell in row.items()} for row in reader]
    label_of = {name: i for i, name in enumerate(classes)}
    samples = []
    for row in rows:
        if row["class"] not in label_of:
            problem = f"its class {row['class']!r} is none of {', '.join(classes)}"
            raise DataError(path, problem, "train the run again")
        sample = Sample(
            path=root / row["path"],
            name=row["path"],
            sha256=row["sha256"],
            split=row["split"],
            label=label_of[row["class"]],
            group=row["group"],
        )
        samples.append(sample)
    return Dataset(root, tuple(classes), tuple(samples))


def check_unchanged(samples: Iterable[Sample]) -> None:
    """Raise DataError unless every file has the bytes that it had when the split was made."""
    for sample in samples:
        if not sample.path.is_file():
            raise DataError(sample.path, "the image is gone", "give the data folder with --data")
        if file_sha256(sample.path) != sample.sha256:
            problem = "the image has changed since training"
            raise DataError(sample.path, problem, "restore it or train again")


def others_line(others: Sequence[Path]) -> str:
    """What is left out as no image of a class; "" where nothing is."""
    if not others:
        return ""
    left_out = f"{counted(len(others), 'item')}, {others[0]} the first"
    return f"left out, since they are no images in a class folder: {left_out}"


def left_out_remarks(*found: ClassFolders, clutter: Sequence[Path] = ()) -> list[str]:
    """A line on each kind of thing that is left out beside files that are no images."""
    own = tuple(path for folders in found for path in folders.own)
    in_folders = tuple(path for folders in found for path in folders.clutter)
    return Listing(images=(), own=own, clutter=(*clutter, *in_folders)).remarks()


def patient_remarks(samples: Sequence[Sample], classes: Sequence[str]) -> list[str]:
    """How many patients the samples are of, and what makes that doubtful; none without patients."""
    owners = [(sample.name, sample.group) for sample in samples if sample.group != sample.sha256]
    doubts = [f"PATIENTS: {doubt}; check the pattern" for doubt in patient_doubts(owners, classes)]
    return [*filter(None, [patients_line(owners)]), *doubts]


def _hash_and_decode(path: Path, grey_bits: int) -> tuple[str, int] | ImageError:
    try:
        picture = read_picture(path, 32, grey_bits=grey_bits)
        return file_sha256(path), picture.depth_suspect
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(path, error.strerror or str(error))
