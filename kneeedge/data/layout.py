"""How a data folder is laid out: {train,val,test}/<Class>/… or <Class>/…, by many a name."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.listing import Listing, find_images, is_clutter
from kneeedge.system.own import is_run_folder

SPLITS = ("train", "val", "test")
_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "development": "val",
    "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test",
    "holdout": "test", "heldout": "test",
}  # fmt: skip
"what people call a split, in lower case"
_NEUTRAL = frozenset((
    "set", "sets", "split", "data", "dataset", "folder", "image", "images", "img", "imgs",
    "radiographs", "xray", "xrays",
))  # fmt: skip
"words beside it that change nothing, as in Test_images or trainset"
_GLUED = re.compile(r"(set|data|split|images)$")
_RENAME = "rename them to train, val and test"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The folders that a data folder's images stand in."""

    root: Path
    splits: dict[str, Path]
    "the folder of each split; none where the root holds the classes"
    beside: tuple[Path, ...]
    "what stands beside the folders of splits"
    clutter: tuple[Path, ...]
    "what the system left beside them"

    def remarks(self) -> list[str]:
        """A line for each folder that is taken for a split of another name."""
        return [
            f"{folder.name}/ is taken for {split}"
            for split, folder in self.splits.items()
            if folder.name != split
        ]


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """The images of each class below one folder, and what else it holds."""

    folder: Path
    listings: dict[str, Listing]
    "by class, in order"
    others: tuple[Path, ...]
    "what is no image in a class folder"
    own: tuple[Path, ...]
    "what kneeedge wrote there"
    clutter: tuple[Path, ...]
    "what the system left there"


def split_named(name: str) -> str:
    """The split that a name stands for, in any case and with a neutral affix; "" for none."""
    kept = _words(name)
    whole = "".join(kept)
    if whole in _WORDS:
        return _WORDS[whole]
    return _WORDS.get(kept[0], "") if len(kept) == 1 else ""


def _words(name: str) -> list[str]:
    """The words of a name but for the neutral ones."""
    words = [_GLUED.sub("", word) or word for word in re.findall(r"[^\W\d_]+", name.casefold())]
    return [word for word in words if word not in _NEUTRAL]


def read_layout(root: Path) -> Layout:
    """Which folders of `root` are splits.

    Raises NotFoundError where there is no such folder. Raises DataError where two folders name one
    split, where a name says a split and something else, where a folder beside the splits holds the
    same classes, or is one, and where a class holds splits.
    """
    if not root.is_dir():
        remedy = "give a folder with one sub-folder a class, or a CSV file path,label"
        raise NotFoundError(f"{root}: no such data folder", remedy)
    folders = _folders(root)
    splits: dict[str, Path] = {}
    for folder in folders:
        split = split_named(folder.name)
        if not split or is_run_folder(folder):
            continue
        if split in splits:
            problem = f"{splits[split].name}/ and {folder.name}/ both name the split {split}"
            raise DataError(root, problem, "keep one of the two, or rename it")
        splits[split] = folder
    others = [folder for folder in folders if folder not in splits.values()]
    if splits:
        _check_beside(root, splits, others)
    else:
        _check_no_split(root, others)
    for folder in splits.values() or [root]:
        _check_within(folder)
    beside = tuple(entry for entry in _visible(root) if entry not in splits.values())
    ordered = {split: splits[split] for split in SPLITS if split in splits}
    return Layout(
        root=root,
        splits=ordered,
        beside=beside if splits else (),
        clutter=_clutter(root) if splits else (),
    )


def _check_beside(root: Path, splits: dict[str, Path], others: Iterable[Path]) -> None:
    """Raise DataError where a folder beside the splits holds classes of theirs, or is one."""
    classes = {entry.name.casefold() for folder in splits.values() for entry in _folders(folder)}
    for other in others:
        same = [entry.name for entry in _folders(other) if entry.name.casefold() in classes]
        problem = ""
        if other.name.casefold() in classes:
            problem = f"the class {other.name}/ stands beside the splits"
        elif same:
            problem = f"{other.name}/ holds the class {same[0]!r} too, and names no split"
        if problem and _holds_images(other):
            raise DataError(root, problem, "move it out of there, or into a split, or rename it")


def _check_no_split(root: Path, folders: Iterable[Path]) -> None:
    """Raise DataError where class folders look like splits."""
    for folder in folders:
        if set(_words(folder.name)) & set(_WORDS) and _holds_images(folder):
            problem = f"{folder.name}/ names a split and something else"
            raise DataError(root, problem, f"{_RENAME}, or give another name to the class")


def _check_within(folder: Path) -> None:
    """Raise DataError where a class folder of `folder` holds a split."""
    for class_folder in _folders(folder):
        for entry in _folders(class_folder):
            if split_named(entry.name) and _holds_images(entry):
                problem = f"{class_folder.name}/{entry.name}/ is a split within a class"
                raise DataError(folder, problem, "give DATA/{train,val,test}/CLASS/…, or rename it")


def list_classes(folder: Path, classes: Sequence[str] | None = None) -> ClassFolders:
    """The class folders of `folder` with their images.

    With `classes` just these are there, each with an image. A folder that holds nothing but what
    kneeedge wrote is no class. Raises DataError for fewer than two classes, for a folder of none,
    and where all are named as splits are.
    """
    found = {entry.name: find_images([entry], least=0) for entry in _folders(folder)}
    names = [name for name, listing in found.items() if listing.images or not listing.own]
    _check_names(folder, names, classes)
    for name in names:
        if not found[name].images:
            raise DataError(folder / name, "no images found", "add some, or remove the folder")
    beside = [entry for entry in _visible(folder) if entry.name not in found]
    return ClassFolders(
        folder=folder,
        listings={name: found[name] for name in classes or sorted(names)},
        others=(*beside, *(path for name in names for path in found[name].others)),
        own=tuple(path for listing in found.values() for path in listing.own),
        clutter=(*_clutter(folder), *(path for name in names for path in found[name].clutter)),
    )


def _check_names(folder: Path, names: Sequence[str], classes: Sequence[str] | None) -> None:
    """Raise DataError where these folders are not two classes or more, or not `classes`."""
    if len(names) < 2:
        problem = f"it holds {len(names)} class folders"
        raise DataError(folder, problem, "put each class's images in a folder of its own")
    if all(map(split_named, names)):
        problem = f"all its folders, as {min(names)}/, are named as splits"
        raise DataError(folder, problem, "give DATA/{train,val,test}/CLASS/…")
    if classes is None:
        return
    listed = ", ".join(classes)
    unknown = sorted(set(names) - set(classes))
    if unknown:
        problem = f"{unknown[0]!r} is none of the classes {listed}"
        raise DataError(folder, problem, "rename or remove it")
    missing = [name for name in classes if name not in names]
    if missing:
        problem = f"it has no folder {missing[0]!r}"
        raise DataError(folder, problem, f"add one for each of {listed}")


def _holds_images(folder: Path) -> bool:
    """Whether it holds any but those that kneeedge wrote."""
    return bool(find_images([folder], least=0).images)


def _folders(folder: Path) -> list[Path]:
    """The folders in order, linked ones too, without those that are hidden or clutter."""
    with os.scandir(folder) as entries:  # 100,000 images of a class need no look at each
        names = [entry.name for entry in entries if entry.is_dir() and _is_visible(entry.name)]
    return [folder / name for name in sorted(names)]


def _clutter(folder: Path) -> tuple[Path, ...]:
    return tuple(entry for entry in sorted(folder.iterdir()) if is_clutter(entry.name))


def _visible(folder: Path) -> list[Path]:
    """The entries in order, without those that are hidden or clutter."""
    return [entry for entry in sorted(folder.iterdir()) if _is_visible(entry.name)]


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and not is_clutter(name)
