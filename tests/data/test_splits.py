from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kneeedge.data.dataset import Dataset, Sample, read_split, write_split
from kneeedge.data.splits import (
    assign_splits,
    join_groups,
    make_folds,
    named_groups,
    paper_sizes,
    paper_split,
    pooled,
)
from kneeedge.errors import DataError

ROOT = Path("data")


def make(groups: list[tuple[str, int]], split: str = "train") -> Dataset:
    """One sample for each (group, label)."""
    samples = [
        Sample(
            path=ROOT / f"{i:04d}.png",
            name=f"{i:04d}.png",
            sha256=f"{i:064x}",
            split=split,
            label=label,
            group=group,
        )
        for i, (group, label) in enumerate(groups)
    ]
    return Dataset(ROOT, ("a", "b"), tuple(samples))


def mixed(seed: int, n_groups: int = 60) -> Dataset:
    """Groups of one to five images, some of which hold both classes."""
    rng = np.random.default_rng(seed)
    images = []
    for g in range(n_groups):
        images += [(f"g{g}", int(rng.integers(2))) for _ in range(rng.integers(1, 6))]
    return make(images)


def splits_of_groups(dataset: Dataset) -> dict[str, set[str]]:
    splits_of: dict[str, set[str]] = {}
    for sample in dataset.samples:
        splits_of.setdefault(sample.group, set()).add(sample.split)
    return splits_of


@pytest.mark.parametrize("seed", range(5))
def test_a_group_of_any_mix_is_never_split(seed):
    dataset = assign_splits(mixed(seed), 0.15, 0.2, seed)
    assert all(len(splits) == 1 for splits in splits_of_groups(dataset).values())


@pytest.mark.parametrize("seed", range(5))
def test_mixed_groups_are_stratified_to_within_half_a_large_group(seed):
    dataset = assign_splits(mixed(seed), 0.15, 0.2, seed)
    totals = Counter(sample.label for sample in dataset.samples)
    for split, share in (("train", 0.65), ("val", 0.15), ("test", 0.2)):
        counts = Counter(sample.label for sample in dataset.split(split))
        assert all(abs(counts[label] - share * total) <= 2.5 for label, total in totals.items())


def test_single_images_are_apportioned_to_within_one():
    dataset = assign_splits(make([(f"g{i}", i % 2) for i in range(374)]), 0.15, 0.2, 0)
    for split, share in (("val", 0.15), ("test", 0.2)):
        counts = Counter(sample.label for sample in dataset.split(split))
        assert all(abs(counts[label] - share * 187) <= 1 for label in (0, 1))


def test_every_image_can_come_into_the_test():
    tested: set[str] = set()
    for seed in range(60):
        dataset = assign_splits(make([(f"g{i}", i % 2) for i in range(20)]), 0.2, 0.2, seed)
        tested |= {sample.name for sample in dataset.split("test")}
    assert len(tested) == 20


def test_the_papers_sizes_come_out_of_its_pool():
    assert paper_sizes(1573) == (1258, 315, 472)


def test_the_paper_draws_its_test_from_what_it_trained_on():
    dataset = paper_split(make([(f"g{i}", i % 2) for i in range(1573)]), seed=0)
    assert dataset.counts() == {"train": 1258, "val": 315, "test": 472}
    train = {sample.name for sample in dataset.split("train")}
    val = {sample.name for sample in dataset.split("val")}
    test = {sample.name for sample in dataset.split("test")}
    assert not train & val
    assert 0.75 < len(test & train) / 472 < 0.85
    assert len(dataset.leaked()) == 472 + len(test & val)


def test_an_image_in_two_splits_survives_the_split_file(tmp_path):
    dataset = paper_split(make([(f"g{i}", i % 2) for i in range(40)]), seed=0)
    write_split(dataset, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", ROOT, dataset.classes).samples == dataset.samples


def test_groups_that_share_an_image_become_one():
    dataset = make([("P1", 0), ("P1", 0), ("P2", 0), ("P3", 1)])
    joined = join_groups(dataset, {"0001.png": "x", "0002.png": "x"})
    assert [sample.group for sample in joined.samples] == ["P1", "P1", "P1", "P3"]


def test_groups_are_joined_however_many_steps_apart():
    dataset = make([(f"P{i}", 0) for i in range(50)])
    joined = dataset
    for start in (0, 1):  # pairs 0-1, 2-3, … and then 1-2, 3-4, …
        pairs = {f"{i:04d}.png": f"pair{(i - start) // 2}" for i in range(start, 50)}
        joined = join_groups(joined, pairs)
    assert len({sample.group for sample in joined.samples}) == 1


def test_a_table_of_groups_joins_those_known_before():
    dataset = make([("P1", 0), ("P1", 0), ("P2", 0), ("P3", 1)])
    table = {"0000.png": "A", "0001.png": "B", "0002.png": "B", "0003.png": "C"}
    joined = named_groups(dataset, table, Path("groups.csv"))
    assert [sample.group for sample in joined.samples] == ["A", "A", "A", "C"]


def test_a_table_that_lacks_an_image_is_refused():
    message = r"groups\.csv: it has no row for 0001\.png \(nor for 1 more\); write it anew"
    with pytest.raises(DataError, match=message):
        named_groups(make([("g", 0)] * 3), {"0000.png": "A"}, Path("groups.csv"))


@pytest.mark.parametrize("n_folds", [2, 5])
def test_folds_test_every_image_once(n_folds):
    dataset = mixed(0)
    tested: list[str] = []
    for fold in make_folds(dataset, n_folds, 0.15, 0):
        tested += [sample.name for sample in fold.split("test")]
    assert sorted(tested) == [sample.name for sample in dataset.samples]


def test_no_fold_has_a_group_on_two_sides():
    for fold in make_folds(mixed(1), 5, 0.15, 0):
        assert set(fold.counts()) == {"train", "val", "test"}
        assert all(len(splits) == 1 for splits in splits_of_groups(fold).values())


def test_folds_hold_the_classes_in_proportion():
    dataset = mixed(2, 200)
    share = np.mean([sample.label for sample in dataset.samples])
    for fold in make_folds(dataset, 5, 0.15, 0):
        share_of_fold = np.mean([sample.label for sample in fold.split("test")])
        assert share_of_fold == pytest.approx(share, abs=0.03)


def test_more_folds_than_groups_are_refused():
    with pytest.raises(DataError, match="its 2 groups do not make 3 folds; lower --folds"):
        make_folds(make([("g", 0), ("g", 1), ("h", 0)]), 3, 0.15, 0)


def test_a_fold_without_a_test_is_refused():
    with pytest.raises(DataError, match="fold 6 of 6 has no image to test; lower --folds"):
        make_folds(make([(f"g{i}", i % 2) for i in range(10)]), 6, 0.15, 0)


def test_a_pool_forgets_the_split_folders():
    assert pooled(make([("g", 0), ("h", 1)], split="test")).counts() == {"train": 2}
