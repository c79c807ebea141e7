"""The shortcut test: do facts of the file, without a look at the bone, tell the classes apart?"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.facts import Facts
from kneeedge.model.spec import default_positive
from kneeedge.statistics.auroc import auroc
from kneeedge.statistics.intervals import LEVEL, Interval
from kneeedge.system.progress import Progress

Floats = NDArray[np.float64]
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
"images to learn from, and those held out"

FOLDS = 5
REPEATS = 5
TREES = 50
DRAWS = 2000
MIN_GROUPS = 20
"of each class; below it an interval would reach from chance to certainty"
MIN_AUROC = 0.6
"from which a separation that is surely above chance is called a shortcut"
SHORTCUT, WEAK, NONE, TOO_FEW = "shortcut", "weak", "none", "too few"
METHOD = (
    f"extremely randomised trees, {FOLDS}-fold cross-validation by group, {REPEATS} times; "
    f"out-of-fold scores averaged; interval: bootstrap over groups ({DRAWS:,} resamples)"
)


@dataclass(frozen=True)
class FactWeight:
    """What one fact does for the separation."""

    fact: str
    lost: float
    "AUROC lost when it is shuffled among the held-out images; other facts may stand in for it"
    alone: float
    "0.5 to 1; AUROC of this fact by itself"
    by_class: str
    "its mean in the class and in the rest, or how many have the value most frequent in the class"


@dataclass(frozen=True)
class Separation:
    """How well facts tell one class from the rest."""

    positive: str
    auroc: float
    "0 to 1, out of fold"
    interval: Interval
    facts: tuple[FactWeight, ...]
    "those that differ between images, the one that matters most first"


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """The result of the shortcut test."""

    verdict: str
    "shortcut, weak, none or too few: of the strongest separation"
    n: int
    "images"
    n_groups: int
    header: tuple[Separation, ...]
    "by size, format, depth and bytes a pixel alone; one a class, or one for two; none if all alike"
    all_facts: tuple[Separation, ...]
    "by these and by brightness, contrast, border and bars"
    method: str = METHOD


@dataclass(frozen=True)
class _Column:
    """One fact, as a column of the table that the trees learn from."""

    fact: str
    value: Callable[[Facts], Any]
    header: bool = False
    "told by the file's header, or by its size"
    digits: str = ",.0f"
    "how a mean of it is written"


_COLUMNS = (
    _Column("width", lambda facts: facts.width, header=True),
    _Column("height", lambda facts: facts.height, header=True),
    _Column("width over height", lambda facts: facts.aspect, header=True, digits=".2f"),
    _Column("bytes a pixel", lambda facts: facts.bytes_per_pixel, header=True, digits=".3f"),
    _Column("file format", lambda facts: facts.format, header=True),
    _Column("pixel layout", lambda facts: facts.mode, header=True),
    _Column("bit depth", lambda facts: facts.bit_depth, header=True),
    _Column("border brightness", lambda facts: facts.border),
    _Column("mean brightness", lambda facts: facts.mean),
    _Column("contrast", lambda facts: facts.contrast),
    _Column("share of pure white", lambda facts: facts.white, digits=".3f"),
    _Column("share of pure black", lambda facts: facts.black, digits=".3f"),
    _Column("white bar", lambda facts: facts.white_bar, digits=".2f"),
    _Column("black bar", lambda facts: facts.black_bar, digits=".2f"),
)


def shortcut_test(
    facts: Sequence[Facts],
    labels: Sequence[str],
    groups: Sequence[str],
    classes: Sequence[str],
    progress: Progress,
) -> Shortcut:
    """Cross-validate the classes against the facts; images of one group are never on both sides.

    With more than two classes each is held against the rest, and the strongest separation decides
    the verdict.
    """
    label = np.array(labels)
    group = np.unique(np.array(groups), return_inverse=True)[1]
    n_groups = int(group.max()) + 1 if len(group) else 0
    if min(len(set(group[label == name].tolist())) for name in classes) < MIN_GROUPS:
        return Shortcut(verdict=TOO_FEW, n=len(facts), n_groups=n_groups, header=(), all_facts=())
    positives = [default_positive(classes)] if len(classes) == 2 else list(classes)
    columns = [column for column in _COLUMNS if len(set(map(column.value, facts))) > 1]
    header_columns = [column for column in columns if column.header]
    header: tuple[Separation, ...] = ()
    all_facts: tuple[Separation, ...] = ()
    with progress.stage("shortcut test", 2 * len(positives)) as stage:
        for name in positives:
            folds = _folds(label == name, group)
            header += _separations(header_columns, facts, label == name, name, group, folds)
            stage.advance()
            all_facts += _separations(columns, facts, label == name, name, group, folds)
            stage.advance()
    return Shortcut(
        verdict=_verdict((*header, *all_facts)),
        n=len(facts),
        n_groups=n_groups,
        header=header,
        all_facts=all_facts,
    )


def is_shortcut(separation: Separation) -> bool:
    """Whether the separation is surely above chance, and large enough to matter."""
    return separation.interval.low > 0.5 and separation.auroc >= MIN_AUROC


def group_bootstrap(
    positive: NDArray[np.bool_], scores: Floats, group: NDArray[np.intp], seed: int = 0
) -> Interval:
    """Percentile interval of the AUROC when whole groups are drawn with replacement.

    `positive`, `scores` and `group` (0…G−1) are (N,); the scores stay as they are. Draws without
    both classes are left out.
    """
    rng = np.random.default_rng(seed)
    n_groups = int(group.max()) + 1
    level = np.unique(scores, return_inverse=True)[1]
    areas = []
    for _ in range(DRAWS):
        n_drawn = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
        weight = n_drawn[group].astype(np.float64)
        above = np.bincount(level, weight * positive)
        below = np.bincount(level, weight * ~positive)
        if above.any() and below.any():
            # Mann and Whitney 1947: of all pairs, those in the right order, ties half
            in_order = above @ (np.cumsum(below) - below / 2)
            areas.append(in_order / (above.sum() * below.sum()))
    low, high = np.quantile(areas, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low), float(high))


def _folds(positive: NDArray[np.bool_], group: NDArray[np.intp]) -> list[list[Fold]]:
    """The folds of each repeat: images of one group stand on one side, and classes are even."""
    from sklearn.model_selection import StratifiedGroupKFold

    drawn = [StratifiedGroupKFold(FOLDS, shuffle=True, random_state=k) for k in range(REPEATS)]
    return [list(folds.split(positive, positive, group)) for folds in drawn]


def _separations(
    columns: Sequence[_Column],
    facts: Sequence[Facts],
    positive: NDArray[np.bool_],
    name: str,
    group: NDArray[np.intp],
    folds: Sequence[Sequence[Fold]],
) -> tuple[Separation, ...]:
    """The class `name` against the rest; none where no fact varies."""
    if not columns:
        return ()
    values = [[column.value(image) for image in facts] for column in columns]
    return (_separate(columns, values, positive, name, group, folds),)


def _separate(
    columns: Sequence[_Column],
    values: Sequence[Sequence[Any]],
    positive: NDArray[np.bool_],
    name: str,
    group: NDArray[np.intp],
    folds: Sequence[Sequence[Fold]],
) -> Separation:
    """How well the columns, whose values are C lists of N, tell the class `name` from the rest."""
    table = np.column_stack([_numbers(column_values) for column_values in values])
    scores, lost = _out_of_fold(table, positive, folds)
    weights = []
    for i, column in enumerate(columns):
        weight = FactWeight(
            fact=column.fact,
            lost=float(lost[i]),
            alone=_alone(table[:, i], positive, isinstance(values[i][0], str)),
            by_class=_by_class(values[i], positive, name, column.digits),
        )
        weights.append(weight)
    ranked = tuple(sorted(weights, key=lambda weight: -max(weight.lost, weight.alone - 0.5)))
    interval = group_bootstrap(positive, scores, group)
    return Separation(name, _area(positive, scores), interval, ranked)


def _out_of_fold(
    table: Floats, positive: NDArray[np.bool_], folds: Sequence[Sequence[Fold]]
) -> tuple[Floats, Floats]:
    """Scores (N,) of images held out, mean of the repeats; AUROC (C,) lost as a column is shuffled.

    The table is (N, C).
    """
    n, n_columns = table.shape
    scores = np.zeros((REPEATS, n))
    lost = np.zeros((REPEATS, n_columns))
    for repeat in range(REPEATS):
        shuffled = np.zeros((n, n_columns))
        for train, test in folds[repeat]:
            fold_scores = _scores(table[train], positive[train], table[test], repeat)
            scores[repeat, test] = fold_scores[:, 0]
            shuffled[test] = fold_scores[:, 1:]
        area = _area(positive, scores[repeat])
        lost[repeat] = [area - _area(positive, column) for column in shuffled.T]
    return scores.mean(axis=0), lost.mean(axis=0)


def _scores(known: Floats, positive: NDArray[np.bool_], held_out: Floats, seed: int) -> Floats:
    """Scores (M, 1 + C) of held-out rows: as they are, then with each column shuffled in turn."""
    from sklearn.ensemble import ExtraTreesClassifier

    model = ExtraTreesClassifier(
        TREES,
        min_samples_leaf=max(3, len(known) // 100),
        random_state=seed,
        n_jobs=1,  # scikit-learn's threads race for the warning filters, and then warn of it
    )
    model.fit(known, positive)
    rng = np.random.default_rng(seed)
    tables = [held_out]
    for i in range(held_out.shape[1]):
        shuffled = held_out.copy()
        shuffled[:, i] = rng.permutation(shuffled[:, i])
        tables.append(shuffled)
    scores = model.predict_proba(np.concatenate(tables))[:, -1]
    return np.asarray(scores.reshape(len(tables), -1).T, dtype=np.float64)


def _numbers(values: Sequence[Any]) -> Floats:
    """Numbers as they are; names by their order, which is enough for trees."""
    if isinstance(values[0], str):
        return np.unique(values, return_inverse=True)[1].astype(np.float64)
    return np.array(values, dtype=np.float64)


def _alone(values: Floats, positive: NDArray[np.bool_], by_name: bool) -> float:
    """AUROC of one fact: of the value itself, or of the class's share under each name."""
    if by_name:
        code = values.astype(np.intp)
        values = (np.bincount(code, positive) / np.maximum(np.bincount(code), 1))[code]
    area = _area(positive, values)
    return max(area, 1 - area)


def _area(positive: NDArray[np.bool_], scores: Floats) -> float:
    """AUROC, 0.5 where one class is missing."""
    area = auroc(positive, scores)
    return 0.5 if area is None else area


def _by_class(values: Sequence[Any], positive: NDArray[np.bool_], name: str, digits: str) -> str:
    """The means of numbers, or the shares of the class's most frequent name, in words."""
    inside = [value for value, is_inside in zip(values, positive, strict=True) if is_inside]
    outside = [value for value, is_inside in zip(values, positive, strict=True) if not is_inside]
    if not isinstance(values[0], str):
        return f"{np.mean(inside):{digits}} in {name}, {np.mean(outside):{digits}} in the rest"
    usual = Counter(inside).most_common(1)[0][0]
    share = inside.count(usual) / len(inside)
    share_outside = outside.count(usual) / len(outside)
    return f"{usual} in {share:.0%} of {name}, {share_outside:.0%} of the rest"


def _verdict(separations: Sequence[Separation]) -> str:
    if any(map(is_shortcut, separations)):
        return SHORTCUT
    return WEAK if any(separation.interval.low > 0.5 for separation in separations) else NONE
