"""Which images train, choose and test: splits and folds by group, and the paper's leaky draw."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kneeedge.data.dataset import Dataset, Sample
from kneeedge.data.groups import connected
from kneeedge.data.layout import SPLITS
from kneeedge.errors import DataError


def join_groups(dataset: Dataset, other_groups: Mapping[str, str]) -> Dataset:
    """The dataset with each sample's group joined to the one that `other_groups` has for its name.

    Groups that share an image, however many steps apart, become one, which bears the first of their
    names in order. Images that `other_groups` lacks keep their group.
    """
    first_of: dict[str, str] = {}
    links = []
    for sample in dataset.samples:
        if sample.name in other_groups:
            first = first_of.setdefault(other_groups[sample.name], sample.group)
            links.append((sample.group, first))
    joined = connected((sample.group for sample in dataset.samples), links)
    return _with_samples(dataset, (replace(s, group=joined[s.group]) for s in dataset.samples))


def named_groups(dataset: Dataset, table: Mapping[str, str], where: Path) -> Dataset:
    """The dataset with the groups of the table in the file `where`, joined to those known before.

    Raises DataError where an image of the dataset has no row.
    """
    missing = [sample.name for sample in dataset.samples if sample.name not in table]
    if missing:
        also = f" (nor for {len(missing) - 1} more)" if len(missing) > 1 else ""
        remedy = "write it anew with `kneeedge audit DATA --write-groups FILE`"
        raise DataError(where, f"it has no row for {missing[0]}{also}", remedy)
    named = _with_samples(dataset, (replace(s, group=table[s.name]) for s in dataset.samples))
    return join_groups(named, {sample.name: sample.group for sample in dataset.samples})


def pooled(dataset: Dataset) -> Dataset:
    """All images as one pool: every sample carries `train`, whatever split folder it stands in."""
    return _with_samples(dataset, (replace(s, split="train") for s in dataset.samples))


def assign_splits(
    dataset: Dataset, val_fraction: float, test_fraction: float, seed: int
) -> Dataset:
    """The dataset with missing splits drawn from train by group, the classes in proportion.

    Both `val` and `test` are drawn where the data has no split folders; only `val` where it alone
    is missing.
    """
    present = set(dataset.counts())
    wanted: dict[str, float] = {}
    if present == {"train"} and test_fraction > 0:
        wanted["test"] = test_fraction
    if "val" not in present and val_fraction > 0:
        wanted["val"] = val_fraction
    if not wanted:
        return dataset
    shares = {"train": 1.0 - sum(wanted.values())} | wanted
    split_of = draw_by_group(dataset.split("train"), shares, np.random.default_rng(seed))
    samples = []
    for sample in dataset.samples:
        split = split_of[sample.group] if sample.split == "train" else sample.split
        samples.append(replace(sample, split=split))
    return _with_samples(dataset, samples)


def paper_sizes(n: int) -> tuple[int, int, int]:
    """Images in train, val and test of the reference paper's protocol on a pool of `n`.

    Its 1,258 / 315 / 472 are 80 % of 1,573, the other 20 %, and, in a second draw, 30 % of all
    1,573, rounded up.
    """
    n_train = (8 * n + 5) // 10
    return n_train, n - n_train, -(-3 * n // 10)


def paper_split(dataset: Dataset, seed: int) -> Dataset:
    """The paper's protocol on all images: **leaky by design**, since images trained on also test.

    Drawn image by image, with no regard to patients, copies or classes, as the paper's supports
    (231 / 241, not the 234 / 238 of a stratified draw) suggest. An image in the test is a sample of
    its own beside that of train or val.
    """
    samples = dataset.samples
    n_train, _, n_test = paper_sizes(len(samples))
    rng = np.random.default_rng([seed, 4])
    first_draw = rng.permutation(len(samples))
    second_draw = rng.permutation(len(samples))
    drawn = [replace(samples[i], split="train") for i in first_draw[:n_train]]
    drawn += [replace(samples[i], split="val") for i in first_draw[n_train:]]
    drawn += [replace(samples[i], split="test") for i in second_draw[:n_test]]
    drawn.sort(key=lambda sample: (sample.name, SPLITS.index(sample.split)))
    return _with_samples(dataset, drawn)


def make_folds(
    dataset: Dataset, n_folds: int, val_fraction: float, seed: int
) -> tuple[Dataset, ...]:
    """K datasets of all images, each with another K-th as its test, drawn by group.

    `val_fraction` of what is left is drawn, by group too, for validation; the classes stay in
    proportion. Raises DataError with fewer groups than K, or where a fold has nothing to test.
    """
    samples = dataset.samples
    n_groups = len({sample.group for sample in samples})
    if n_groups < n_folds:
        problem = f"its {n_groups} groups do not make {n_folds} folds"
        raise DataError(dataset.root, problem, "lower --folds")
    shares = {str(k): 1.0 / n_folds for k in range(n_folds)}
    fold_of = draw_by_group(samples, shares, np.random.default_rng(seed))
    folds = []
    for k in range(n_folds):
        untested = [sample for sample in samples if fold_of[sample.group] != str(k)]
        if len(untested) == len(samples):
            problem = f"fold {k + 1} of {n_folds} has no image to test"
            raise DataError(dataset.root, problem, "lower --folds")
        rng = np.random.default_rng([seed, k])
        split_of = draw_by_group(untested, {"train": 1.0 - val_fraction, "val": val_fraction}, rng)
        placed = (replace(sample, split=split_of.get(sample.group, "test")) for sample in samples)
        folds.append(_with_samples(dataset, placed))
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
        share = open_shares[name]
        placed = counts[name]
        return sum(
            n * (2 * placed[label] + n) / (share * total[label]) for label, n in group.items()
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
            problem = f"{split} has no image of {missing[0]!r}"
            raise DataError(dataset.root, problem, "add images, or change the fractions")


def _with_samples(dataset: Dataset, samples: Iterable[Sample]) -> Dataset:
    return replace(dataset, samples=tuple(samples))
