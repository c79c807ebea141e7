"""Which images `kneeedge verify --data` answers, and their classes where the folder tells them.

No image is opened for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.data.dataset import left_out_remarks, others_line
from kneeedge.data.layout import ClassFolders, list_classes, read_layout
from kneeedge.data.patients import patient_of
from kneeedge.data.table import below_class, read_labels
from kneeedge.errors import DataError
from kneeedge.inference.evaluation import choose_split
from kneeedge.pixels.listing import FoundImage, find_images
from kneeedge.system.plural import counted


@dataclass(frozen=True, kw_only=True)
class VerifyImages:
    """Images to be answered, in the order of their names."""

    images: tuple[FoundImage, ...]
    split: str = ""
    "as of `evaluate`; empty without labels"
    truth: dict[str, str] | None = None
    "the class of each by name; absent without labels"
    patients: dict[str, str] | None = None
    "the patient of each by name, where a table or a pattern says so"
    remarks: tuple[str, ...] = ()
    "lines on what is left out, and on why there are no labels"


def images_to_verify(
    data: Path,
    classes: Sequence[str],
    split: str | None = None,
    group_regex: str | None = None,
) -> VerifyImages:
    """The images of what `evaluate` takes, else all that `infer` finds below `data`.

    `group_regex` finds the patient in a path below the class folder. A data set of other classes,
    or of another layout, is a folder without labels and says why; with `split` it raises DataError.
    Raises NotFoundError where there is no such folder, DataError where it holds no image or the
    pattern finds no patient of one, and ConfigError for a pattern beside a column of patients.
    """
    if data.is_file() and data.suffix.lower() == ".csv":
        return _of_table(data, classes, split, group_regex)
    return _with_patients(_of_folder(data, classes, split), group_regex)


def _with_patients(images: VerifyImages, pattern: str | None) -> VerifyImages:
    if pattern is None:
        return images
    truth = images.truth or {}
    names = [image.name for image in images.images]
    below = [below_class(name, truth.get(name, "")) for name in names]
    patients = {
        name: patient_of(path, pattern, name) for name, path in zip(names, below, strict=True)
    }
    return replace(images, patients=patients)


def _of_folder(data: Path, classes: Sequence[str], split: str | None) -> VerifyImages:
    if not data.is_dir():
        return _unlabelled(data, ())
    try:
        return _of_class_folders(data, classes, split)
    except DataError as error:
        if split is not None:
            raise
        return _unlabelled(data, (f"without labels ({error})",))


def _of_table(
    data: Path, classes: Sequence[str], split: str | None, group_regex: str | None
) -> VerifyImages:
    table = read_labels(data, group_regex)
    by_split = table.by_split()
    name = choose_split(data, [known for known in by_split if known], split)
    rows = sorted(by_split.get(name, table.rows), key=lambda row: row.name)
    table.check_classes(rows, classes, name if name in by_split else "")
    return VerifyImages(
        images=tuple(FoundImage(str(table.root), row.name) for row in rows),
        split=name,
        truth={row.name: row.label for row in rows},
        patients={row.name: row.patient for row in rows if row.patient},
    )


def _of_class_folders(data: Path, classes: Sequence[str], split: str | None) -> VerifyImages:
    layout = read_layout(data)
    name = choose_split(data, layout.splits, split)
    folders = list_classes(layout.splits.get(name, data), classes)
    labelled = _labelled(data, folders)
    left_out = [others_line(folders.others), *left_out_remarks(folders)]
    return VerifyImages(
        images=tuple(image for image, _ in labelled),
        split=name,
        truth={image.name: label for image, label in labelled},
        remarks=tuple(filter(None, [*layout.remarks(), *left_out])),
    )


def _labelled(data: Path, folders: ClassFolders) -> list[tuple[FoundImage, str]]:
    """The images by name, relative to the data folder, each with its class."""
    above = folders.folder.relative_to(data).as_posix()
    prefix = "" if above == "." else f"{above}/"
    labelled = [
        (replace(image, prefix=f"{prefix}{label}/"), label)
        for label, listing in folders.listings.items()
        for image in listing.images
    ]
    return sorted(labelled, key=lambda both: both[0].name)


def _unlabelled(data: Path, remarks: tuple[str, ...]) -> VerifyImages:
    listing = find_images([data])
    left_out = listing.remarks()
    if listing.others:
        others = counted(len(listing.others), "file")
        left_out.append(f"left out, since no images: {others}, {listing.others[0]} the first")
    return VerifyImages(images=listing.images, remarks=(*remarks, *left_out))
