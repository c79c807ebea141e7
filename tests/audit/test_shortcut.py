"""The shortcut test: planted facts are found and named, fair images and copies give none."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from kneeedge.audit.facts import Facts, facts_of
from kneeedge.audit.findings import shortcut_lines
from kneeedge.audit.shortcut import NONE, SHORTCUT, TOO_FEW, WEAK, group_bootstrap, shortcut_test
from kneeedge.pixels.headers import Header
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.picture import WholeFile
from kneeedge.system.progress import Progress

QUIET = Progress(quiet=True)
CLASSES = ("Healthy", "Osteoporosis")
N = 80


@pytest.fixture(scope="module")
def fair() -> list[Facts]:
    """Facts of phantoms of one severity, so that any two classes of them are alike."""
    header = Header("PNG", "L", 8, 1000)
    return [facts_of(WholeFile(header, "", phantom(seed, 0.5, 64))) for seed in range(N)]


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr("kneeedge.audit.shortcut.TREES", 20)
    monkeypatch.setattr("kneeedge.audit.shortcut.REPEATS", 2)
    monkeypatch.setattr("kneeedge.audit.shortcut.DRAWS", 500)


def labels(n_classes: int = 2) -> list[str]:
    names = CLASSES if n_classes == 2 else [f"class {k}" for k in range(n_classes)]
    return [names[i % n_classes] for i in range(N)]


def ask(facts, names=None, groups=None, classes=CLASSES):
    groups = groups or [str(i) for i in range(len(facts))]
    return shortcut_test(facts, names or labels(), groups, classes, QUIET)


def plant(fair, chosen, **changes):
    """The facts with `changes` made to the images whose number is chosen."""
    return [replace(facts, **changes) if chosen(i) else facts for i, facts in enumerate(fair)]


def test_fair_phantoms_have_no_shortcut(fair):
    result = ask(fair)
    assert result.verdict == NONE
    assert result.header == ()  # all headers are the same
    (separation,) = result.all_facts
    assert separation.interval.low < 0.5 < separation.interval.high
    assert "no evidence of a shortcut" in shortcut_lines(result)[-1]


def test_a_class_saved_in_another_format_is_found_and_named(fair):
    result = ask(plant(fair, lambda i: i % 2, format="JPEG"))
    assert result.verdict == SHORTCUT
    (separation,) = result.header
    assert separation.auroc == 1.0
    assert separation.facts[0].fact == "file format"
    assert separation.facts[0].by_class == "JPEG in 100% of Osteoporosis, 0% of the rest"
    assert "without learning anything about bone" in shortcut_lines(result)[0]


def test_a_brighter_class_is_found_by_lightness_and_not_by_the_header(fair):
    planted = [replace(facts, mean=facts.mean + 150 * (i % 2)) for i, facts in enumerate(fair)]
    result = ask(planted)
    assert result.header == ()
    (separation,) = result.all_facts
    assert separation.auroc > 0.99
    assert separation.facts[0].fact == "mean brightness"


def test_a_fact_in_a_part_of_the_images_gives_a_part_of_the_area(fair):
    planted = plant(fair, lambda i: i % 2 and i % 3 == 0, width=200)
    (separation,) = ask(planted).header
    assert 0.5 < separation.auroc < 0.9


@pytest.mark.slow
def test_each_of_three_classes_is_held_against_the_rest(fair):
    planted = plant(fair, lambda i: i % 3 == 2, format="BMP")
    result = ask(planted, labels(3), classes=("class 0", "class 1", "class 2"))
    assert result.verdict == SHORTCUT
    areas = {separation.positive: separation.auroc for separation in result.header}
    assert areas["class 2"] == max(areas.values()) == 1.0
    assert "tell class 2 from the rest" in shortcut_lines(result)[2]


def test_copies_on_both_sides_would_be_remembered_and_are_not(fair):
    """40 radiographs, each twice with a random label: trees without groups know the copy again."""
    rng = np.random.default_rng(0)
    source = [i // 2 for i in range(N)]
    names = [CLASSES[k] for k in np.repeat(rng.permutation(np.arange(N // 2) % 2), 2)]
    copies = [fair[i] for i in source]
    grouped = ask(copies, names, [str(i) for i in source]).all_facts[0].auroc
    assert ask(copies, names).all_facts[0].auroc > 0.8
    assert grouped < 0.65


def test_too_few_images_are_said(fair):
    result = ask(fair[:30], labels()[:30])
    assert result.verdict == TOO_FEW
    assert "too few images" in shortcut_lines(result)[0]


def test_the_same_data_give_the_same_figures(fair):
    assert ask(fair) == ask(fair)


def test_the_bootstrap_agrees_with_an_exact_area_and_widens_with_groups():
    rng = np.random.default_rng(1)
    positive = np.arange(200) % 2 == 0
    scores = np.round(rng.normal(positive * 0.8, 1.0), 1)  # with ties
    area = mannwhitneyu(scores[positive], scores[~positive]).statistic / 100**2
    alone = group_bootstrap(positive, scores, np.arange(200))
    assert alone.low < area < alone.high
    assert (alone.low + alone.high) / 2 == pytest.approx(area, abs=0.01)
    groups_of_four = np.repeat(np.arange(200), 4)
    fourfold = group_bootstrap(np.repeat(positive, 4), np.repeat(scores, 4), groups_of_four)
    assert fourfold.high - fourfold.low == pytest.approx(alone.high - alone.low, rel=0.1)


@pytest.mark.slow
def test_a_weak_separation_of_many_images_is_not_called_a_shortcut():
    rng = np.random.default_rng(2)
    flat = Facts(
        format="PNG",
        mode="L",
        bit_depth=8,
        width=64,
        height=64,
        n_bytes=1000,
        border=50.0,
        mean=60.0,
        contrast=30.0,
        white=0.0,
        black=0.0,
        white_bar=0.0,
        black_bar=0.0,
        text=False,
    )
    facts = [replace(flat, mean=float(rng.normal(60 + 3 * (i % 2), 10))) for i in range(2000)]
    result = ask(facts, [CLASSES[i % 2] for i in range(2000)])
    assert result.verdict == WEAK
    assert "weak" in shortcut_lines(result)[-1]
