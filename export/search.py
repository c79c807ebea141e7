"""int8 by search: which ranges, and which layers stay in float, scored on training images and
judged by the gate.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.graph import layers
from export.ranges import METHODS, Histogram, choose_ranges, open_session
from export.to_int8 import SYMMETRIC, to_int8
from kneeedge.model.file_record import Trial
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.runs.export_report import VerifyReport
from kneeedge.system.progress import Progress

SLACK = 1.25
"""a recipe within this factor of the lowest logit error is as good as the best; the fewest float
layers decide
"""
MOST_FLOAT_LAYERS = 2
MOST_GATED = 5
"""recipes that the gate sees at most: each look at the validation images makes a chance pass
likelier
"""
N_TIMED = 9
"interleaved runs of each graph, of which the median counts"

Gate = Callable[[onnx.ModelProto], VerifyReport]


@dataclass(frozen=True)
class Recipe:
    """One way to make the int8 graph."""

    method: str
    "of the ranges, one of METHODS"
    float_layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method}, {' and '.join(self.float_layers) or 'no layer'} in float"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search came to."""

    recipe: Recipe
    graph: onnx.ModelProto
    report: VerifyReport | None
    "of the gate, where the recipe got so far"
    trials: tuple[Trial, ...] = ()
    untried: tuple[str, ...] = ()
    "recipes that there was no time for"


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
) -> Found:
    """The int8 graph by the rule of `preference` and `settle`; without minutes, minmax and nothing
    tried.

    1. Every method of METHODS for the ranges, all layers in 8 bits. 2. With the best method, each
    layer alone in float, then the layers that gain most, together. 3. The gate. What the time does
    not allow is left untried and named; with time enough the result does not depend on it.
    """
    if not minutes:
        recipe = Recipe(METHODS[0])
        return Found(recipe=recipe, graph=material.build(recipe), report=None)
    trial = Trials(material, clock() + 60 * minutes, progress, clock)
    trial.measure([Recipe(method) for method in METHODS])
    best = trial.best()
    trial.measure([Recipe(best.method, (layer.name,)) for layer in layers(material.fp32)])
    for n_layers in range(2, MOST_FLOAT_LAYERS + 1):
        together = sorted(trial.most_helpful(best.method)[:n_layers])
        trial.measure([Recipe(best.method, tuple(together))] if len(together) == n_layers else [])
    return settle(trial, gate)


class Trials:
    """The recipes measured so far."""

    def __init__(
        self, material: Material, deadline: float, progress: Progress, clock: Callable[[], float]
    ) -> None:
        self.material = material
        self.deadline = deadline
        self.progress = progress
        self.clock = clock
        self.found: dict[Recipe, Trial] = {}
        self.untried: list[str] = []
        self.expected = answers(open_session(material.fp32), material.images)

    @property
    def in_time(self) -> bool:
        return self.clock() < self.deadline

    def measure(self, recipes: Sequence[Recipe]) -> None:
        """The logit error of each recipe; the very first is measured whatever the time."""
        with self.progress.stage("int8 recipes", len(recipes)) as stage:
            for recipe in recipes:
                if self.found and not self.in_time:
                    self.untried.append(str(recipe))
                else:
                    self.found[recipe] = self._trial(recipe)
                stage.advance()

    def _trial(self, recipe: Recipe) -> Trial:
        given = answers(open_session(self.material.build(recipe)), self.material.images)
        error = float(np.sqrt(np.mean((given - self.expected) ** 2)))
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
        return min(self.found, key=lambda recipe: self.found[recipe].logit_error)

    def most_helpful(self, method: str) -> list[str]:
        """The layers that were tried alone in float, the one that leaves the least error first."""
        alone = [
            recipe
            for recipe in self.found
            if recipe.method == method and len(recipe.float_layers) == 1
        ]
        return [
            recipe.float_layers[0]
            for recipe in sorted(alone, key=lambda r: self.found[r].logit_error)
        ]

    def time(self, recipes: Sequence[Recipe]) -> None:
        """Add the latency relative to the fp32 graph, from interleaved runs of all on one image.

        Recipes that keep the same layers in float differ in constants alone, and share it.
        """
        sessions = [open_session(self.material.build(recipe)) for recipe in recipes]
        seconds = interleaved(
            [open_session(self.material.fp32), *sessions], self.material.images[0]
        )
        relative = {
            one.float_layers: taken / seconds[0]
            for one, taken in zip(recipes, seconds[1:], strict=True)
        }
        for recipe, trial in self.found.items():
            self.found[recipe] = replace(trial, latency=relative.get(recipe.float_layers))


def answers(
    session: onnxruntime.InferenceSession, images: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Logits (N, K), one image at a time."""
    return np.concatenate(
        [session.run(["logits"], {"image": image})[0] for image in images]
    ).astype(np.float64)


def interleaved(
    sessions: Sequence[onnxruntime.InferenceSession], image: NDArray[np.uint8]
) -> list[float]:
    """The median seconds of each session, run in turns, so that a busy moment of the machine falls
    on all.
    """
    seconds = np.empty((N_TIMED + 1, len(sessions)))
    for row in seconds:
        for i, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(["logits"], {"image": image})
            row[i] = time.perf_counter() - start
    return [float(value) for value in np.median(seconds[1:], axis=0)]  # the first round warms up


def preference(trials: dict[Recipe, Trial]) -> list[Recipe]:
    """Recipes in the order in which the gate tries them: first those whose logit error is within
    SLACK of the lowest, the fewest float layers before the lowest error; then the rest by their
    error.
    """
    limit = SLACK * min(trial.logit_error for trial in trials.values())

    def rank(recipe: Recipe) -> tuple[bool, int, float]:
        error = trials[recipe].logit_error
        return (error > limit, len(recipe.float_layers) if error <= limit else 0, error)

    return sorted(trials, key=rank)


def settle(trial: Trials, gate: Gate) -> Found:
    """The first of MOST_GATED recipes, in the order of `preference`, whose verdict is `pass`, else
    the first `inconclusive`, else the first; inconclusive without a single flip ends the search: no
    recipe can do better.
    """
    order = preference(trial.found)
    trial.time(timed(order))
    graphs: dict[Recipe, onnx.ModelProto] = {}
    reports: dict[Recipe, VerifyReport] = {}
    for recipe in order[:MOST_GATED]:
        if reports and not trial.in_time:
            trial.untried.append(f"the gate of {recipe}")
            continue
        graph = trial.material.build(recipe)
        report = gate(graph)
        graphs[recipe] = graph
        reports[recipe] = report
        trial.found[recipe] = replace(
            trial.found[recipe], flips=len(report.flips), verdict=report.verdict
        )
        if report.verdict == PASS or (report.verdict == INCONCLUSIVE and not report.flips):
            break
    rank = (PASS, INCONCLUSIVE, FAIL)
    chosen = min(reports, key=lambda recipe: rank.index(reports[recipe].verdict))
    trials = (replace(one, chosen=recipe == chosen) for recipe, one in trial.found.items())
    return Found(
        recipe=chosen,
        graph=graphs[chosen],
        report=reports[chosen],
        trials=tuple(trials),
        untried=tuple(trial.untried),
    )


def timed(order: Sequence[Recipe]) -> list[Recipe]:
    """The most preferred recipe of each number of float layers: what a float layer costs in time."""
    first: dict[int, Recipe] = {}
    for recipe in order:
        first.setdefault(len(recipe.float_layers), recipe)
    return list(first.values())
