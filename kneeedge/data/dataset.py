"""A labelled data folder as samples with class, group and split, and the `split.csv` of them."""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.errors import DataError, ImageError, NotFoundError
from kneeedge.pixels.listing import FoundImage, find_images
from kneeedge.pixels.picture import read_grey
from kneeedge.system.files import file_sha256, write_csv
from kneeedge.system.machine import available_cpus

SPLITS = ("train", "val", "test")
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

    @property
    def short_hash(self) -> str:
        """What a model file keeps of an image that it was trained or chosen on."""
        return self.sha256[:SHORT_HASH]


@dataclass(frozen=True)
class Dataset:
    """All samples of a data folder, in the order of their names.

    Under the paper's protocol an image may be two samples.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    others: tuple[Path, ...] = ()
    "files that are no images, and what stands beside the folders of splits and classes"

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


def scan(root: Path, group_regex: str | None = None) -> Dataset:
    """Every image below `root`, hashed and decoded once, with its class and its folders' split.

    Samples of a folder without {train,val,test} all carry the split `train`. Raises NotFoundError
    where there is no such folder, and DataError where the layout is neither of the two, or where
    images cannot be read.
    """
    if not root.is_dir():
        remedy = "give a folder with one sub-folder a class"
        raise NotFoundError(f"{root}: no such data folder", remedy)
    split_folders = [name for name in SPLITS if (root / name).is_dir()]
    if not split_folders:
        classes = _class_folders(root)
        samples, no_images = labelled_images(root, classes, "train", group_regex)
        return _dataset(root, classes, samples, [*_beside(root, classes), *no_images])
    if "train" not in split_folders:
        problem = f"it has {split_folders[0]}/ but no train/"
        raise DataError(root, problem, "add train/, or give the folder of classes")
    classes = _class_folders(root / "train")
    samples = []
    others = _beside(root, split_folders)
    for split in split_folders:
        of_split, no_images = labelled_images(root / split, classes, split, group_regex)
        samples += [replace(sample, name=f"{split}/{sample.name}") for sample in of_split]
        others += [*_beside(root / split, classes), *no_images]
    return _dataset(root, classes, samples, others)


def _dataset(
    root: Path, classes: tuple[str, ...], samples: Sequence[Sample], others: Sequence[Path]
) -> Dataset:
    in_order = sorted(samples, key=lambda sample: sample.name)
    return Dataset(root, classes, tuple(in_order), tuple(others))


def labelled_images(
    folder: Path, classes: Sequence[str], split: str, group_regex: str | None = None
) -> tuple[list[Sample], list[Path]]:
    """The samples of `folder`/<Class>/… by class and name, and the files there that are no images.

    Raises DataError where the folder's classes are others, or where images cannot be read.
    """
    images, others = _list_classes(folder, classes)
    hashes = _hashes([image.path for _, image in images])
    samples = []
    for (label, image), sha256 in zip(images, hashes, strict=True):
        name = f"{classes[label]}/{image.name}"
        sample = Sample(
            path=image.path,
            name=name,
            sha256=sha256,
            split=split,
            label=label,
            group=patient_of(name, group_regex) or sha256,
        )
        samples.append(sample)
    return samples, others


def _list_classes(
    folder: Path, classes: Sequence[str]
) -> tuple[list[tuple[int, FoundImage]], list[Path]]:
    """Label and file of every image in the class folders, and what is no image."""
    names = ", ".join(classes)
    unknown = sorted(set(_class_folders(folder)) - set(classes))
    if unknown:
        problem = f"{unknown[0]!r} is none of the classes {names}"
        raise DataError(folder, problem, "rename or remove it")
    images: list[tuple[int, FoundImage]] = []
    others: list[Path] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise DataError(folder, f"it has no folder {name!r}", f"add one for each of {names}")
        listing = find_images([folder / name])
        others += listing.others
        images += [(label, image) for image in listing.images]
    return images, others


def _hashes(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of every file; raises DataError where one of them gives no pixels."""
    hashes = []
    errors = []
    with ThreadPoolExecutor(available_cpus()) as pool:
        for result in pool.map(_hash_and_decode, paths):
            if isinstance(result, ImageError):
                errors.append(result)
            else:
                hashes.append(result)
    if errors:
        also = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        remedy = "repair or remove the file; none is left out unsaid"
        raise DataError(errors[0].path, f"{errors[0].reason}{also}", remedy)
    return hashes


def write_split(dataset: Dataset, path: Path) -> None:
    """Write `split.csv`: path, sha256, split, class, group."""
    rows = ((s.name, s.sha256, s.split, dataset.classes[s.label], s.group) for s in dataset.samples)
    write_csv(path, COLUMNS, rows)


def read_split(path: Path, root: Path, classes: Sequence[str]) -> Dataset:
    """The dataset that `write_split` wrote, with its files looked for below `root`."""
    if not path.is_file():
        remedy = "give a run folder that `kneeedge train` made"
        raise NotFoundError(f"{path}: no such split file", remedy)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(path, f"its columns are not {','.join(COLUMNS)}", "train the run again")
        rows = list(reader)
    label_of = {name: i for i, name in enumerate(classes)}
    samples = (
        Sample(
            path=root / row["path"],
            name=row["path"],
            sha256=row["sha256"],
            split=row["split"],
            label=label_of[row["class"]],
            group=row["group"],
        )
        for row in rows
    )
    return Dataset(root, tuple(classes), tuple(samples))


def check_unchanged(samples: Iterable[Sample]) -> None:
    """Raise DataError unless every file has the bytes that it had when the split was made."""
    for sample in samples:
        if not sample.path.is_file():
            raise DataError(sample.path, "the image is gone", "give the data folder with --data")
        if file_sha256(sample.path) != sample.sha256:
            problem = "the image has changed since training"
            raise DataError(sample.path, problem, "restore it or train again")


def _class_folders(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir())
    if len(names) < 2:
        problem = f"it holds {len(names)} class folders"
        raise DataError(folder, problem, "put each class's images in a folder of its own")
    return tuple(names)


def _beside(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """What `folder` holds beside the folders that are wanted."""
    return sorted(entry for entry in _entries(folder) if entry.name not in wanted)


def _entries(folder: Path) -> list[Path]:
    """All but the hidden ones."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _hash_and_decode(path: Path) -> str | ImageError:
    try:
        read_grey(path, 32)
        return file_sha256(path)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(path, error.strerror or str(error))


def patient_of(name: str, pattern: str | None) -> str:
    """The regular expression's first group, else all that it finds, in <Class>/<file>; "" for None.

    Raises DataError where it is no regular expression, or finds no patient.
    """
    if pattern is None:
        return ""
    try:
        match = re.search(pattern, name)
    except re.error as error:
        problem = f"--group-regex {pattern!r} is no regular expression ({error})"
        raise DataError(name, problem, "correct it") from error
    patient = ""
    if match:
        patient = match.group(1) if match.re.groups else match.group()
    if not patient:  # a group that may be empty would leave patients apart in silence
        problem = f"--group-regex {pattern!r} finds no patient in this path"
        raise DataError(name, problem, "make it match every file")
    return patient
