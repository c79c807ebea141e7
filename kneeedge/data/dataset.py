"""A labelled data folder → samples with class, group and split; and the `split.csv` that fixes
them.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.errors import DataError, ImageError, NotFoundError
from kneeedge.pixels.listing import find_images
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
    """patient, or the file's hash where no patient is known, joined with its copies': on one side
    of a split
    """

    @property
    def short_hash(self) -> str:
        """What a model file keeps of an image that it was trained or chosen on."""
        return self.sha256[:SHORT_HASH]


@dataclass(frozen=True)
class Dataset:
    """All samples of a data folder, in the order of their names; under the paper's protocol an
    image may be two.
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
        found = Counter(sample.split for sample in self.samples)
        return {name: found[name] for name in SPLITS if found[name]}

    def sha256(self) -> str:
        """One hash over all rows: the same files, split and classes give the same hash on any
        machine.
        """
        rows = sorted(
            f"{s.name}\0{s.sha256}\0{s.split}\0{self.classes[s.label]}" for s in self.samples
        )
        return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()

    def leaked(self) -> tuple[Sample, ...]:
        """Samples of val and test whose very bytes, or another image of whose group, also stand in
        another split.
        """
        splits: dict[str, set[str]] = {}
        for sample in self.samples:
            for key in (sample.sha256, sample.group):
                splits.setdefault(key, set()).add(sample.split)
        held_out = (sample for sample in self.samples if sample.split != "train")
        return tuple(s for s in held_out if len(splits[s.sha256]) > 1 or len(splits[s.group]) > 1)


def scan(root: Path, group_regex: str | None = None) -> Dataset:
    """Every image below `root`, hashed and decoded once, with its class and, from the folders, its
    split.

    Samples of a folder without {train,val,test} all carry the split `train`. Raises DataError where
    the layout is neither of the two, or where images cannot be read.
    """
    if not root.is_dir():
        raise NotFoundError(
            f"{root}: no such data folder", "give a folder with one sub-folder a class"
        )
    split_folders = [name for name in SPLITS if (root / name).is_dir()]
    if split_folders and "train" not in split_folders:
        raise DataError(
            root,
            f"it has {split_folders[0]}/ but no train/",
            "add train/, or give the folder of classes",
        )
    classes = _class_folders(root / "train" if split_folders else root)
    samples: list[Sample] = []
    others = _beside(root, split_folders or classes)
    for split in split_folders or [""]:
        found, rest = labelled_images(root / split, classes, split or "train", group_regex)
        samples += [
            replace(sample, name=f"{split}/{sample.name}" if split else sample.name)
            for sample in found
        ]
        others += [*(_beside(root / split, classes) if split else ()), *rest]
    return Dataset(root, classes, tuple(sorted(samples, key=lambda s: s.name)), tuple(others))


def labelled_images(
    folder: Path, classes: Sequence[str], split: str, group_regex: str | None = None
) -> tuple[list[Sample], list[Path]]:
    """The samples of `folder`/<Class>/… in the order of their names, and the files there that are
    no images.
    """
    if unknown := sorted(set(_class_folders(folder)) - set(classes)):
        raise DataError(
            folder,
            f"{unknown[0]!r} is none of the classes {', '.join(classes)}",
            "rename or remove it",
        )
    samples: list[Sample] = []
    others: list[Path] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise DataError(
                folder, f"it has no folder {name!r}", f"add one for each of {', '.join(classes)}"
            )
        listing = find_images([folder / name])
        others += listing.others
        samples += [
            Sample(
                path=image.path,
                name=f"{name}/{image.name}",
                sha256="",
                split=split,
                label=label,
                group="",
            )
            for image in listing.images
        ]
    with ThreadPoolExecutor(available_cpus()) as pool:
        read = list(pool.map(_hash_and_decode, samples))
    if broken := [error for error in read if isinstance(error, ImageError)]:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise DataError(
            broken[0].path,
            f"{broken[0].reason}{more}",
            "repair or remove the file; none is left out unsaid",
        )
    hashed = [
        replace(s, sha256=str(h), group=patient_of(s.name, group_regex) or str(h))
        for s, h in zip(samples, read, strict=True)
    ]
    return hashed, others


def write_split(dataset: Dataset, path: Path) -> None:
    """Write `split.csv`: path, sha256, split, class, group."""
    rows = ((s.name, s.sha256, s.split, dataset.classes[s.label], s.group) for s in dataset.samples)
    write_csv(path, COLUMNS, rows)


def read_split(path: Path, root: Path, classes: Sequence[str]) -> Dataset:
    """The dataset that `write_split` wrote, with its files looked for below `root`."""
    if not path.is_file():
        raise NotFoundError(
            f"{path}: no such split file", "give a run folder that `kneeedge train` made"
        )
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(path, f"its columns are not {','.join(COLUMNS)}", "train the run again")
        rows = list(reader)
    index = {name: i for i, name in enumerate(classes)}
    samples = (
        Sample(
            path=root / row["path"],
            name=row["path"],
            sha256=row["sha256"],
            split=row["split"],
            label=index[row["class"]],
            group=row["group"],
        )
        for row in rows
    )
    return Dataset(root, tuple(classes), tuple(samples))


def check_unchanged(samples: Iterable[Sample]) -> None:
    """Raise DataError unless every file is there with the bytes that it had when the split was
    made.
    """
    for sample in samples:
        if not sample.path.is_file():
            raise DataError(sample.path, "the image is gone", "give the data folder with --data")
        if file_sha256(sample.path) != sample.sha256:
            raise DataError(
                sample.path, "the image has changed since training", "restore it or train again"
            )


def _class_folders(folder: Path) -> tuple[str, ...]:
    names = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if len(names) < 2:
        raise DataError(
            folder,
            f"it holds {len(names)} class folders",
            "put each class's images in a folder of its own",
        )
    return tuple(names)


def _beside(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """What `folder` holds beside the folders that are wanted, but for hidden entries."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.name not in wanted and not entry.name.startswith(".")
    )


def _hash_and_decode(sample: Sample) -> str | ImageError:
    try:
        read_grey(sample.path, 32)
        return file_sha256(sample.path)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(sample.path, error.strerror or str(error))


def patient_of(name: str, pattern: str | None) -> str:
    """What the regular expression finds in <Class>/<file>: its first group, else all of it; ""
    without one.
    """
    if pattern is None:
        return ""
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise DataError(
            name, f"--group-regex {pattern!r} is no regular expression ({error})", "correct it"
        ) from error
    patient = match and (match.group(1) if match.re.groups else match.group())
    if not patient:  # a group that may be empty would leave patients apart in silence
        raise DataError(
            name,
            f"--group-regex {pattern!r} finds no patient in this path",
            "make it match every file",
        )
    return patient
