"""The list of doubtful labels that `kneeedge audit` writes, and a dataset without its images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kneeedge.data.dataset import Dataset
from kneeedge.data.groups import read_table
from kneeedge.errors import DataError
from kneeedge.system.plural import counted

COLUMNS = ("path", "label", "probability", "rank", "why")
NEEDED = ("path", "label")


def drop_labels(dataset: Dataset, path: Path, say: Callable[[str], None]) -> tuple[Dataset, int]:
    """The dataset without the images that the list names, and how many those are.

    The list is what a person left of it: a CSV file with the columns path and label. Raises
    NotFoundError where it is not there, and DataError where it is no such file, names what is no
    image of the data, or an image whose label has been changed since.
    """
    listed = read_table(path, NEEDED)
    label_of = {sample.name: dataset.classes[sample.label] for sample in dataset.samples}
    for name, label in listed.items():
        if name not in label_of:
            problem = f"{name} is no image of {dataset.root}"
            raise DataError(
                path, problem, "write the path as `kneeedge audit` does, or leave it out"
            )
        if label != label_of[name]:
            problem = f"{name} was {label} and is {label_of[name]} now"
            raise DataError(path, problem, "take the line out if the label is right now")
    kept = tuple(sample for sample in dataset.samples if sample.name not in listed)
    n_dropped = len(dataset.samples) - len(kept)
    images = counted(n_dropped, "image")
    say(f"left out, since {path} says that their labels are wrong (--drop-labels): {images}")
    return replace(dataset, samples=kept), n_dropped
