"""int8 by search: which ranges, and which layers stay in float.

Recipes are scored on training images and judged by the gate.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from export.gate import Dropped, Gated
from export.graph import layers
from export.ranges import METHODS
from export.trials import Material, Recipe, Trials
from kneeedge.model.file_record import Trial
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.system.progress import Progress

MOST_FLOAT_LAYERS = 2
MOST_GATED = 5
"recipes that the gate sees: each look at the validation images makes a chance pass likelier"

IsBehind = Callable[[int], bool]
"whether a recipe that does not pass, and has so many flips at least, comes behind a better one"
Gate = Callable[[onnx.ModelProto, IsBehind], Gated | Dropped]
Try = Callable[[Trials], None]
"what measures more recipes"

Rank = tuple[int, int, float]
"what `by_evidence` orders recipes by, the least first"


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What the search came to."""

    recipe: Recipe
    graph: onnx.ModelProto
    gated: Gated | None
    "what the gate said, where the recipe got so far"
    trials: tuple[Trial, ...] = ()
    untried: tuple[str, ...] = ()
    "recipes that there was no time for"


@dataclass(frozen=True)
class Candidate:
    """A recipe that the gate has seen."""

    recipe: Recipe
    graph: onnx.ModelProto
    gated: Gated


def search(
    material: Material,
    gate: Gate,
    minutes: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
    all_int8_first: bool = False,
) -> SearchResult:
    """The int8 graph by `preference` and `settle`; without minutes, minmax and nothing tried.

    1. Every method of METHODS for the ranges, all layers in 8 bits; with `all_int8_first` the gate
    is asked for the best of these now, and the rest is tried only where it does not pass. 2. With
    the best method, each layer alone in float, then the layers that gain most, together. 3. The
    gate. What cannot win is stopped, and what the time does not allow is left untried and named;
    with time enough the result does not depend on it, but where nothing passes: of recipes that
    flip alike the fastest here is taken.
    """
    if not minutes:
        recipe = Recipe(METHODS[0])
        return SearchResult(recipe=recipe, graph=material.build(recipe), gated=None)
    trials = Trials(material, clock() + 60 * minutes, progress, clock)
    trials.measure([Recipe(method) for method in METHODS])
    if all_int8_first:
        return settle(trials, gate, try_float_layers)
    try_float_layers(trials)
    return settle(trials, gate)


def try_float_layers(trials: Trials) -> None:
    """With the best method so far, each layer alone in float, then the most helpful together."""
    best = trials.best()
    alone = [Recipe(best.method, (layer.name,)) for layer in layers(trials.material.fp32)]
    trials.measure(alone, n_best=MOST_FLOAT_LAYERS)
    for n_layers in range(2, MOST_FLOAT_LAYERS + 1):
        together = sorted(trials.most_helpful(best.method)[:n_layers])
        if len(together) == n_layers:
            trials.measure([Recipe(best.method, tuple(together))])


def settle(trials: Trials, gate: Gate, try_more: Try | None = None) -> SearchResult:
    """The first of MOST_GATED recipes, in the order of `preference`, whose verdict is `pass`.

    Where the first does not, `try_more` adds recipes to those that follow it. Where none passes,
    the best by `by_evidence`, the earlier of equals.
    """
    candidates = seen_by_gate(gate_order(trials, try_more), trials, gate)
    best = min(candidates, key=lambda candidate: by_evidence(trials.by_recipe[candidate.recipe]))
    trials.by_recipe[best.recipe] = replace(trials.by_recipe[best.recipe], chosen=True)
    return SearchResult(
        recipe=best.recipe,
        graph=best.graph,
        gated=best.gated,
        trials=tuple(trials.by_recipe.values()),
        untried=tuple(trials.untried),
    )


def gate_order(trials: Trials, try_more: Try | None = None) -> Iterator[Recipe]:
    """The first MOST_GATED recipes in the order of `preference`, timed.

    The first is known before the others, which may have to be finished, or tried. They are given
    only where they can do better: without a flip and without a layer in float, nothing flips less
    or is faster.
    """
    order = trials.preferred(1)
    trials.time(timed(order, 1))
    first = order[0]
    yield first
    trial = trials.by_recipe[first]
    if trial.verdict == INCONCLUSIVE and not trial.flips and not trial.float_layers:
        return
    if try_more:
        try_more(trials)
    order = trials.preferred(MOST_GATED)
    trials.time(timed(order, MOST_GATED))
    others = [recipe for recipe in order[:MOST_GATED] if recipe != first]
    yield from others[: MOST_GATED - 1]


def seen_by_gate(order: Iterable[Recipe], trials: Trials, gate: Gate) -> Iterator[Candidate]:
    """What the gate says of one recipe after the other, up to the first that passes.

    After one that is inconclusive without a flip only faster ones are looked at: no recipe can flip
    less. One that can no longer pass, nor come before the best so far, is dropped on the way.
    Nothing is kept here of what was handed over: a graph of VGG19 has up to 140 MB.
    """
    slowest = np.inf
    n_seen = 0
    best: Rank | None = None
    for recipe in order:
        if pace(trials.by_recipe[recipe]) >= slowest:
            continue
        if n_seen and not trials.in_time:
            trials.untried.append(f"the gate of {recipe}")
            continue
        candidate = gated_recipe(recipe, trials, gate, best)
        n_seen += 1
        if candidate is None:
            continue
        rank = by_evidence(trials.by_recipe[recipe])
        best = rank if best is None else min(best, rank)
        report = candidate.gated.report
        if report.verdict == INCONCLUSIVE and not report.flips:
            slowest = pace(trials.by_recipe[recipe])
        yield candidate
        del candidate
        if report.verdict == PASS:
            return


def gated_recipe(recipe: Recipe, trials: Trials, gate: Gate, best: Rank | None) -> Candidate | None:
    """The recipe's graph and what the gate says of it, which its trial notes.

    None for one that was dropped, since it cannot pass and comes behind the `best` so far.
    """
    trial = trials.by_recipe[recipe]

    def is_behind(flips: int) -> bool:
        at_best = replace(trial, flips=flips, verdict=INCONCLUSIVE)
        return best is not None and by_evidence(at_best) >= best

    graph = trials.material.build(recipe)
    gated = gate(graph, is_behind)
    if isinstance(gated, Dropped):
        trials.by_recipe[recipe] = replace(trial, flips=gated.flips, dropped_after=gated.n)
        return None
    report = gated.report
    trials.by_recipe[recipe] = replace(trial, flips=len(report.flips), verdict=report.verdict)
    return Candidate(recipe, graph, gated)


def by_evidence(trial: Trial) -> Rank:
    """What orders recipes that the gate has seen: verdict, then fewest flips, then least time."""
    rank = (PASS, INCONCLUSIVE, FAIL).index(trial.verdict or FAIL)
    return rank, trial.flips or 0, pace(trial)


def pace(trial: Trial) -> float:
    """The latency to a tenth of the fp32 graph's, for less is noise; infinite where not timed."""
    return np.inf if trial.latency is None else round(trial.latency, 1)


def timed(order: Sequence[Recipe], n: int) -> list[Recipe]:
    """The first `n` recipes, and the first of each number of float layers.

    Of those with the same float layers, which share a latency, the most preferred.
    """
    first: dict[tuple[str, ...], Recipe] = {}
    counts: set[int] = set()
    for i, recipe in enumerate(order):
        if i < n or len(recipe.float_layers) not in counts:
            first.setdefault(recipe.float_layers, recipe)
        counts.add(len(recipe.float_layers))
    return list(first.values())
