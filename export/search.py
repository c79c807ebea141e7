"""int8 by search: which ranges, and which layers stay in float.

Recipes are scored on training images and judged by the gate.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.gate import Dropped, Gated
from export.graph import layers
from export.ranges import METHODS, Histogram, choose_ranges, open_session
from export.to_int8 import SYMMETRIC, to_int8
from kneeedge.model.file_record import Trial
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.system.progress import Progress

SLACK = 1.25
"within this factor of the lowest logit error recipes are equals: the fewest float layers decide"
MOST_FLOAT_LAYERS = 2
MOST_GATED = 5
"recipes that the gate sees: each look at the validation images makes a chance pass likelier"
N_TIMED = 9
"interleaved runs of each graph, of which the median counts"

IsBehind = Callable[[int], bool]
"whether a recipe that does not pass, and has so many flips at least, comes behind a better one"
Gate = Callable[[onnx.ModelProto, IsBehind], Gated | Dropped]


Rank = tuple[int, int, float]
"what `by_evidence` orders recipes by, the least first"


@dataclass(frozen=True)
class Recipe:
    """One way to make the int8 graph."""

    method: str
    "of the ranges, one of METHODS"
    float_layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        layers_text = " and ".join(self.float_layers) or "no layer"
        return f"{self.method}, {layers_text} in float"


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


@dataclass(frozen=True)
class Material:
    """What the recipes are made from and measured on."""

    fp32: onnx.ModelProto
    histograms: dict[str, Histogram]
    "of the calibration images"
    images: Sequence[NDArray[np.uint8]]
    "inputs (1, 1, S, S) of the training images on which the recipes are compared"
    target: str

    def build(self, recipe: Recipe) -> onnx.ModelProto:
        """The int8 graph of a recipe."""
        ranges = choose_ranges(self.histograms, recipe.method, self.target in SYMMETRIC)
        return to_int8(self.fp32, ranges, self.target, recipe.float_layers)


def search(
    material: Material,
    gate: Gate,
    minutes: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """The int8 graph by `preference` and `settle`; without minutes, minmax and nothing tried.

    1. Every method of METHODS for the ranges, all layers in 8 bits. 2. With the best method, each
    layer alone in float, then the layers that gain most, together. 3. The gate. What the time does
    not allow is left untried and named; with time enough the result does not depend on it, but
    where nothing passes: of recipes that flip alike the fastest here is taken.
    """
    if not minutes:
        recipe = Recipe(METHODS[0])
        return SearchResult(recipe=recipe, graph=material.build(recipe), gated=None)
    trials = Trials(material, clock() + 60 * minutes, progress, clock)
    trials.measure([Recipe(method) for method in METHODS])
    best = trials.best()
    trials.measure([Recipe(best.method, (layer.name,)) for layer in layers(material.fp32)])
    for n_layers in range(2, MOST_FLOAT_LAYERS + 1):
        together = sorted(trials.most_helpful(best.method)[:n_layers])
        if len(together) == n_layers:
            trials.measure([Recipe(best.method, tuple(together))])
    return settle(trials, gate)


class Trials:
    """The recipes measured so far."""

    def __init__(
        self, material: Material, deadline: float, progress: Progress, clock: Callable[[], float]
    ) -> None:
        self.material = material
        self.deadline = deadline
        self.progress = progress
        self.clock = clock
        self.by_recipe: dict[Recipe, Trial] = {}
        self.untried: list[str] = []
        self.expected = compute_logits(open_session(material.fp32), material.images)

    @property
    def in_time(self) -> bool:
        return self.clock() < self.deadline

    def measure(self, recipes: Sequence[Recipe]) -> None:
        """The logit error of each recipe; the very first is measured whatever the time."""
        with self.progress.stage("int8 recipes", len(recipes)) as stage:
            for recipe in recipes:
                if self.by_recipe and not self.in_time:
                    self.untried.append(str(recipe))
                else:
                    self.by_recipe[recipe] = self._trial(recipe)
                stage.advance()

    def _trial(self, recipe: Recipe) -> Trial:
        session = open_session(self.material.build(recipe))
        logits = compute_logits(session, self.material.images)
        error = float(np.sqrt(np.mean((logits - self.expected) ** 2)))
        return Trial(
            method=recipe.method,
            float_layers=recipe.float_layers,
            logit_error=error,
            flips=None,
            verdict=None,
            latency=None,
            chosen=False,
        )

    def best(self) -> Recipe:
        """The recipe of the lowest logit error."""
        return min(self.by_recipe, key=self._error)

    def most_helpful(self, method: str) -> list[str]:
        """The layers that were tried alone in float, the one that leaves the least error first."""
        recipes = [recipe for recipe in self.by_recipe if recipe.method == method]
        alone = [recipe for recipe in recipes if len(recipe.float_layers) == 1]
        return [recipe.float_layers[0] for recipe in sorted(alone, key=self._error)]

    def _error(self, recipe: Recipe) -> float:
        return self.by_recipe[recipe].logit_error

    def time(self, recipes: Sequence[Recipe]) -> None:
        """Add the latency relative to the fp32 graph, from interleaved runs of all on one image.

        Recipes that keep the same layers in float differ in constants alone, and share it.
        """
        # A session has a copy of its own: no graph stays beside it.
        sessions = [open_session(self.material.fp32)]
        sessions.extend(open_session(self.material.build(recipe)) for recipe in recipes)
        fp32_seconds, *seconds = interleaved(sessions, self.material.images[0])
        relative = {
            recipe.float_layers: recipe_seconds / fp32_seconds
            for recipe, recipe_seconds in zip(recipes, seconds, strict=True)
        }
        for recipe, trial in self.by_recipe.items():
            self.by_recipe[recipe] = replace(trial, latency=relative.get(recipe.float_layers))


def compute_logits(
    session: onnxruntime.InferenceSession, images: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Logits (N, K), one image at a time."""
    logits = [session.run(["logits"], {"image": image})[0] for image in images]
    return np.concatenate(logits).astype(np.float64)


def interleaved(
    sessions: Sequence[onnxruntime.InferenceSession], image: NDArray[np.uint8]
) -> list[float]:
    """The median seconds of each session, run in turns: a busy moment falls on all."""
    seconds = np.empty((N_TIMED + 1, len(sessions)))
    for row in seconds:
        for i, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(["logits"], {"image": image})
            row[i] = time.perf_counter() - start
    return [float(value) for value in np.median(seconds[1:], axis=0)]  # the first round warms up


def preference(trials: dict[Recipe, Trial]) -> list[Recipe]:
    """Recipes in the order in which the gate tries them.

    First those whose logit error is within SLACK of the lowest, the fewest float layers before the
    lowest error; then the others by their error.
    """
    limit = SLACK * min(trial.logit_error for trial in trials.values())

    def rank(recipe: Recipe) -> tuple[bool, int, float]:
        error = trials[recipe].logit_error
        if error > limit:
            return (True, 0, error)
        return (False, len(recipe.float_layers), error)

    return sorted(trials, key=rank)


def settle(trials: Trials, gate: Gate) -> SearchResult:
    """The first of MOST_GATED recipes, in the order of `preference`, whose verdict is `pass`.

    Where none passes, the best by `by_evidence`, the earlier of equals.
    """
    order = preference(trials.by_recipe)
    trials.time(timed(order))
    candidates = seen_by_gate(order, trials, gate)
    best = min(candidates, key=lambda candidate: by_evidence(trials.by_recipe[candidate.recipe]))
    trials.by_recipe[best.recipe] = replace(trials.by_recipe[best.recipe], chosen=True)
    return SearchResult(
        recipe=best.recipe,
        graph=best.graph,
        gated=best.gated,
        trials=tuple(trials.by_recipe.values()),
        untried=tuple(trials.untried),
    )


def seen_by_gate(order: Sequence[Recipe], trials: Trials, gate: Gate) -> Iterator[Candidate]:
    """What the gate says of one recipe after the other, up to the first that passes.

    After one that is inconclusive without a flip only faster ones are looked at: no recipe can flip
    less. One that can no longer pass, nor come before the best so far, is dropped on the way.
    Nothing is kept here of what was handed over: a graph of VGG19 has up to 140 MB.
    """
    slowest = np.inf
    n_seen = 0
    best: Rank | None = None
    for recipe in order[:MOST_GATED]:
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


def timed(order: Sequence[Recipe]) -> list[Recipe]:
    """The recipes that the gate may see, and the first of each number of float layers.

    Of those with the same float layers, which share a latency, the most preferred.
    """
    first: dict[tuple[str, ...], Recipe] = {}
    counts: set[int] = set()
    for i, recipe in enumerate(order):
        if i < MOST_GATED or len(recipe.float_layers) not in counts:
            first.setdefault(recipe.float_layers, recipe)
        counts.add(len(recipe.float_layers))
    return list(first.values())
