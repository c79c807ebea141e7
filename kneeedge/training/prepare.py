"""A data folder → its copies, the groups that must stay together, and the splits of a run."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kneeedge.audit.quick import Copies, quick_audit
from kneeedge.data.dataset import Dataset, others_line, say_depths, scan
from kneeedge.data.groups import Pair, groups, read_groups
from kneeedge.data.labels import drop_labels
from kneeedge.data.layout import SPLITS
from kneeedge.data.splits import assign_splits, join_groups, named_groups, paper_split, pooled
from kneeedge.errors import DataError, NotFoundError
from kneeedge.model.provenance import FOLDERS, GROUPED, PAPER, DataReport
from kneeedge.runs.config import AUTO, TrainConfig
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress


@dataclass(frozen=True)
class GatheredImages:
    """A data folder with its groups joined and its splits as the folders have them."""

    dataset: Dataset
    pairs: tuple[Pair, ...] = ()
    "of copies"
    data_report: DataReport | None = None
    "absent where no audit was run"
    dropped_labels: int = 0
    "images that --drop-labels left out"

    def report_on(self, dataset: Dataset) -> DataReport | None:
        """What the audit found, with its leaks counted in the splits of `dataset`."""
        if self.data_report is None:
            return None
        return replace(self.data_report, leaks=len(leaks(self.pairs, dataset)))


def check_folders(config: TrainConfig) -> None:
    """Raise NotFoundError where data or a table is not there, before weights are downloaded."""
    if not Path(config.data).exists():
        remedy = "give a folder with one sub-folder a class, or a CSV file of labels"
        raise NotFoundError(f"{config.data}: no such data folder", remedy)
    if config.groups is not None and not Path(config.groups).is_file():
        remedy = "write it with `kneeedge audit DATA --write-groups FILE`"
        raise NotFoundError(f"{config.groups}: no such groups file", remedy)
    if config.drop_labels is not None and not Path(config.drop_labels).is_file():
        remedy = "write it with `kneeedge audit DATA --labels --write-labels FILE`"
        raise NotFoundError(f"{config.drop_labels}: no such list of labels", remedy)


def gather_images(
    config: TrainConfig, progress: Progress, splits: Collection[str] = SPLITS
) -> GatheredImages:
    """Scan the data and look for copies; where it has splits, in `splits` alone.

    A group is a patient, or what --groups says, joined with the groups of its images' copies.
    Raises DataError where a class has a name that no report can show.
    """
    data = Path(config.data)
    # a table stands where its name does, since paths are relative to that
    root = data.absolute() if data.is_file() else data.resolve()
    dataset = scan(root, config.group_regex, config.grey_bits, splits)
    check_class_names(dataset)
    n_dropped = 0
    if config.drop_labels is not None:
        dataset, n_dropped = drop_labels(dataset, Path(config.drop_labels), progress)
    say_depths(dataset.samples, progress)
    if config.groups is not None:
        dataset = named_groups(dataset, read_groups(Path(config.groups)), Path(config.groups))
    dataset = join_groups(dataset, {sample.name: sample.sha256 for sample in dataset.samples})
    if not config.audit:
        return GatheredImages(dataset, dropped_labels=n_dropped)
    copies = quick_audit(dataset, progress, config.grey_bits)
    dataset = join_groups(dataset, copies.groups)
    say_copies(copies, progress)
    if config.drop_conflicts:
        dataset = drop_conflicts(dataset, copies.pairs, progress)
    return GatheredImages(dataset, copies.pairs, copies.data_report, n_dropped)


def check_class_names(dataset: Dataset) -> None:
    """Raise DataError where a class is named with control characters, or with what is no UTF-8.

    The name goes into the model file, its card, figures and reports.
    """
    for name in dataset.classes:
        if not name.isprintable():
            problem = f"the class {name!a} has characters that no report can show"
            raise DataError(dataset.root, problem, "rename its folder")


def split_data(dataset: Dataset, config: TrainConfig) -> tuple[Dataset, str]:
    """The dataset with the splits that --split asks for, and the protocol that made them."""
    if config.split == PAPER:
        return paper_split(dataset, config.seed), PAPER
    if config.split == GROUPED:
        dataset = pooled(dataset)
    protocol = GROUPED if set(dataset.counts()) == {"train"} else FOLDERS
    return assign_splits(dataset, config.val_fraction, config.test_fraction, config.seed), protocol


def drop_conflicts(dataset: Dataset, pairs: Sequence[Pair], progress: Progress) -> Dataset:
    """The dataset without images of which a copy, however many steps away, has another label."""
    group_of = groups([sample.name for sample in dataset.samples], pairs)
    labels: dict[str, set[int]] = {}
    for sample in dataset.samples:
        labels.setdefault(group_of[sample.name], set()).add(sample.label)
    kept = tuple(sample for sample in dataset.samples if len(labels[group_of[sample.name]]) == 1)
    n_dropped = len(dataset.samples) - len(kept)
    progress(f"left out, since copies with another label contradict: {counted(n_dropped, 'image')}")
    return replace(dataset, samples=kept)


def leaks(pairs: Sequence[Pair], dataset: Dataset) -> list[Pair]:
    """The pairs of copies that stand in different splits."""
    splits: dict[str, set[str]] = {}
    for sample in dataset.samples:
        splits.setdefault(sample.name, set()).add(sample.split)
    known = (pair for pair in pairs if pair.first in splits and pair.second in splits)
    return [pair for pair in known if len(splits[pair.first] | splits[pair.second]) > 1]


def say_copies(copies: Copies, progress: Progress) -> None:
    """Say which copies the data holds, and which of them contradict each other."""
    report = copies.data_report
    if not copies.pairs:
        progress(f"audit: no copies among {counted(report.n_images, 'image')}")
        return
    progress(
        f"audit: {counted(len(copies.pairs), 'pair')} of copies among {report.n_images:,} images "
        f"({report.exact_pairs:,} identical, {report.near_pairs:,} altered), "
        f"{example(copies.pairs[0])} the first; a drawn split keeps them together; "
        "`kneeedge audit` shows all"
    )
    if copies.conflicts:
        pairs = counted(len(copies.conflicts), "pair")
        progress(
            f"LABEL CONFLICT: {pairs} of copies with different labels, "
            f"{example(copies.conflicts[0])} the first; correct the labels, "
            "or leave them out with --drop-conflicts"
        )


def say_splits(
    gathered: GatheredImages, dataset: Dataset, config: TrainConfig, progress: Progress
) -> None:
    """Say what each split holds, what was left out, and what leaks."""
    if set(gathered.dataset.counts()) != {"train"} and config.split != AUTO:
        progress(
            f"--split {config.split}: the split folders are not used; "
            "all images are drawn from as one pool"
        )
    for split in dataset.counts():
        labels = [sample.label for sample in dataset.split(split)]
        counts = ", ".join(f"{labels.count(k):,} {name}" for k, name in enumerate(dataset.classes))
        progress(f"{split}: {counted(len(labels), 'image')} ({counts})")
    for remark in dataset.remarks:
        progress(remark)
    if dataset.others:
        progress(others_line(dataset.others))
    pairs = leaks(gathered.pairs, dataset)
    if pairs:
        first = example(pairs[0])
        progress(f"LEAK: {counted(len(pairs), 'pair')} of copies in two splits, {first} the first")
    leaked = dataset.leaked()
    if leaked:
        images = counted(len(leaked), "image")
        progress(
            f"LEAKY: {images} of val and test, or copies or patients of them, in another split too "
            f"({leaked[0].name} the first); every held-out figure of this run is too good; "
            "an honest draw is --split grouped"
        )


def example(pair: Pair) -> str:
    """A pair of copies in words."""
    return f"{pair.first} and {pair.second} ({pair.how})"
