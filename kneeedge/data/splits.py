"""Which images train, choose and test: joined groups, splits and folds drawn by group, and the
paper's leaky draw.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kneeedge.data.dataset import SPLITS, Dataset, Sample
from kneeedge.data.groups import connected
from kneeedge.errors import DataError


def join_groups(dataset: Dataset, others: Mapping[str, str]) -> Dataset:
    """The dataset with each sample's group joined to the other group that `others` names for its
    image.

    Groups that share an image, however many steps apart, become one, which bears the first of their
    names in order. Images that `others` lacks keep their group.
    """
    first: dict[str, str] = {}
    links = [
        (s.group, first.setdefault(others[s.name], s.group))
        for s in dataset.samples
        if s.name in others
    ]
    joined = connected((sample.group for sample in dataset.samples), links)
    return replace(
        dataset, samples=tuple(replace(s, group=joined[s.group]) for s in dataset.samples)
    )


def named_groups(dataset: Dataset, table: Mapping[str, str], where: Path) -> Dataset:
    """The dataset with the groups that the table in the file `where` names, joined to those known
    before.

    Raises DataError where an image of the dataset has no row.
    """
    if missing := [sample.name for sample in dataset.samples if sample.name not in table]:
        more = f" (nor for {len(missing) - 1} more)" if len(missing) > 1 else ""
        remedy = "write it anew with `kneeedge audit DATA --write-groups FILE`"
        raise DataError(where, f"it has no row for {missing[0]}{more}", remedy)
    named = replace(
        dataset, samples=tuple(replace(s, group=table[s.name]) for s in dataset.samples)
    )
    return join_groups(named, {sample.name: sample.group for sample in dataset.samples})


def pool(dataset: Dataset) -> Dataset:
    """All images as one pool, whatever split folder they stand in: every sample carries the split
    `train`.
    """
    return replace(
        dataset, samples=tuple(replace(sample, split="train") for sample in dataset.samples)
    )


def assign_splits(
    dataset: Dataset, val_fraction: float, test_fraction: float, seed: int
) -> Dataset:
    """The dataset with missing splits drawn from train: stratified by class, a group always on one
    side.

    Both `val` and `test` are drawn where the data has no split folders; only `val` where it alone
    is missing.
    """
    present = set(dataset.counts())
    wanted = (
        {"test": test_fraction, "val": val_fraction}
        if present == {"train"}
        else {"val": val_fraction}
    )
    wanted = {name: share for name, share in wanted.items() if name not in present and share > 0}
    if not wanted:
        return dataset
    shares = {"train": 1.0 - sum(wanted.values())} | wanted
    split_of = draw_by_group(dataset.split("train"), shares, np.random.default_rng(seed))
    samples = [
        replace(s, split=split_of[s.group]) if s.split == "train" else s for s in dataset.samples
    ]
    return replace(dataset, samples=tuple(samples))


def paper_sizes(n: int) -> tuple[int, int, int]:
    """Images in train, val and test of the reference paper's protocol on a pool of `n`.

    Its 1,258 / 315 / 472 are 80 % of 1,573, the other 20 %, and 30 % of all 1,573, rounded up: a
    second draw.
    """
    n_train = (8 * n + 5) // 10
    return n_train, n - n_train, -(-3 * n // 10)


def paper_split(dataset: Dataset, seed: int) -> Dataset:
    """The paper's protocol on all images: **leaky by design**, for a test image is drawn from those
    trained on too.

    Drawn image by image, with no regard to patients, copies or classes, as the paper's supports
    (231 / 241, not the 234 / 238 of a stratified draw) suggest. An image in the test is a sample of
    its own beside that of train or val.
    """
    samples = pool(dataset).samples
    n_train, _, n_test = paper_sizes(len(samples))
    rng = np.random.default_rng([seed, 4])
    order = rng.permutation(len(samples))
    again = rng.permutation(len(samples))
    drawn = [
        replace(samples[i], split="train" if rank < n_train else "val")
        for rank, i in enumerate(order)
    ]
    drawn += [replace(samples[i], split="test") for i in again[:n_test]]
    return replace(
        dataset, samples=tuple(sorted(drawn, key=lambda s: (s.name, SPLITS.index(s.split))))
    )


def make_folds(
    dataset: Dataset, n_folds: int, val_fraction: float, seed: int
) -> tuple[Dataset, ...]:
    """K datasets of all images, each with another K-th as its test; groups stay together, classes
    in proportion.

    `val_fraction` of what is left is drawn, by group too, for validation. Raises DataError with
    fewer groups than K, or where a fold would have nothing to test.
    """
    samples = pool(dataset).samples
    n_groups = len({sample.group for sample in samples})
    if n_groups < n_folds:
        raise DataError(
            dataset.root, f"its {n_groups} groups do not make {n_folds} folds", "lower --folds"
        )
    shares = {str(k): 1.0 / n_folds for k in range(n_folds)}
    fold_of = draw_by_group(samples, shares, np.random.default_rng(seed))
    folds = []
    for k in range(n_folds):
        rest = [sample for sample in samples if fold_of[sample.group] != str(k)]
        rng = np.random.default_rng([seed, k])
        split_of = draw_by_group(rest, {"train": 1.0 - val_fraction, "val": val_fraction}, rng)
        placed = (replace(sample, split=split_of.get(sample.group, "test")) for sample in samples)
        if len(rest) == len(samples):
            raise DataError(
                dataset.root, f"fold {k + 1} of {n_folds} has no image to test", "lower --folds"
            )
        folds.append(replace(dataset, samples=tuple(placed)))
    return tuple(folds)


def draw_by_group(
    samples: Sequence[Sample], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, str]:
    """Split of each group, so that every split gets nearly its share of each class.

    Large groups come first, equal ones in random order; each goes where it least raises the squared
    deviation of the class counts from those due, over those due. For single images that is
    Sainte-Laguë's apportionment of seats.
    """
    members: dict[str, Counter[int]] = {}
    for sample in samples:
        members.setdefault(sample.group, Counter())[sample.label] += 1
    total = Counter(sample.label for sample in samples)
    open_shares = {name: share for name, share in shares.items() if share > 0}
    counts: dict[str, Counter[int]] = {name: Counter() for name in open_shares}

    def rise(name: str, group: Counter[int]) -> float:
        due = open_shares[name]
        return sum(
            n * (2 * counts[name][label] + n) / (due * total[label]) for label, n in group.items()
        )

    names = sorted(members)
    shuffled = [names[i] for i in rng.permutation(len(names))]
    split_of: dict[str, str] = {}
    for group in sorted(shuffled, key=lambda name: -members[name].total()):
        chosen = min(open_shares, key=lambda name: rise(name, members[group]))
        split_of[group] = chosen
        counts[chosen] += members[group]
    return split_of


def check_splits(dataset: Dataset) -> None:
    """Raise DataError unless train and val both hold every class."""
    for split in ("train", "val"):
        labels = {sample.label for sample in dataset.split(split)}
        missing = [name for i, name in enumerate(dataset.classes) if i not in labels]
        if missing:
            raise DataError(
                dataset.root,
                f"{split} has no image of {missing[0]!r}",
                "add images, or change the fractions",
            )
