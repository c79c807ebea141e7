"""int8 recipes on training images: how far the logits move, and what that costs or saves in time.

A recipe is stopped as soon as it cannot win, and finished where the gate asks for more than the
winner: the choice is that of all recipes on all images.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.ranges import Histogram, Range, choose_ranges, open_session
from export.to_int8 import SYMMETRIC, to_int8
from kneeedge.model.file_record import Trial
from kneeedge.system.progress import Progress

SLACK = 1.25
"within this factor of the lowest logit error recipes are equals: the fewest float layers decide"
N_TIMED = 9
"interleaved runs of each graph, of which the median counts"


@dataclass(frozen=True)
class Recipe:
    """One way to make the int8 graph."""

    method: str
    "of the ranges, one of METHODS"
    float_layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        layers_text = " and ".join(self.float_layers) or "no layer"
        return f"{self.method}, {layers_text} in float"


@dataclass(frozen=True)
class Material:
    """What the recipes are made from and measured on."""

    fp32: onnx.ModelProto
    histograms: dict[str, Histogram]
    "of the calibration images"
    images: Sequence[NDArray[np.uint8]]
    "inputs (1, 1, S, S) of the training images on which the recipes are compared"
    target: str
    ranges: dict[str, dict[str, Range]] = field(default_factory=dict, init=False)
    "of the methods that recipes had so far"

    def build(self, recipe: Recipe) -> onnx.ModelProto:
        """The int8 graph of a recipe."""
        method = recipe.method
        if method not in self.ranges:
            is_symmetric = self.target in SYMMETRIC
            self.ranges[method] = choose_ranges(self.histograms, method, is_symmetric)
        return to_int8(self.fp32, self.ranges[method], self.target, recipe.float_layers)


class Trials:
    """The recipes measured so far.

    The error is the root of a mean of squares. Those of the images that were run are its least, the
    sooner the harder the images are: so those come first on which the first recipe errs most, and
    most of them are hard for all.
    """

    def __init__(
        self, material: Material, deadline: float, progress: Progress, clock: Callable[[], float]
    ) -> None:
        self.material = material
        self.deadline = deadline
        self.progress = progress
        self.clock = clock
        self.by_recipe: dict[Recipe, Trial] = {}
        self.untried: list[str] = []
        session = open_session(material.fp32)
        self.expected = np.stack([compute_logits(session, image) for image in material.images])
        self.order = np.arange(len(material.images))
        "in which images are run"
        self.squares: dict[Recipe, NDArray[np.float64]] = {}
        "(N,) squared changes, summed over the logits, of each image; 0 where it was not run"

    @property
    def in_time(self) -> bool:
        return self.clock() < self.deadline

    def measure(self, recipes: Sequence[Recipe], n_best: int = 1) -> None:
        """The logit error of each recipe; the very first is measured whatever the time.

        One that is surely none of the `n_best` among these is stopped.
        """
        finished: list[float] = []
        with self.progress.stage("int8 recipes", len(recipes)) as stage:
            for recipe in recipes:
                if self.by_recipe and not self.in_time:
                    self.untried.append(str(recipe))
                else:
                    limit = sorted(finished)[n_best - 1] if len(finished) >= n_best else np.inf
                    self.run(recipe, limit)
                    if self.is_finished(recipe):
                        finished.append(self.squares[recipe].sum())
                stage.advance()

    def run(self, recipe: Recipe, limit: float = np.inf) -> None:
        """Run the images that are left, until the sum of squared changes is beyond the limit."""
        n_images = len(self.material.images)
        is_first = not self.squares
        squares = self.squares.setdefault(recipe, np.zeros(n_images))
        n_done = (self.by_recipe[recipe].stopped_after or 0) if recipe in self.by_recipe else 0
        change = self.squared_changes(recipe)
        while n_done < n_images and squares.sum() <= limit:
            i = self.order[n_done]
            squares[i] = change(i)
            n_done += 1
        self.by_recipe[recipe] = Trial(
            method=recipe.method,
            float_layers=recipe.float_layers,
            logit_error=float(np.sqrt(squares.sum() / self.expected.size)),
            flips=None,
            verdict=None,
            latency=None,
            chosen=False,
            stopped_after=n_done if n_done < n_images else None,
        )
        if is_first:
            self.order = np.argsort(-squares, kind="stable")

    def squared_changes(self, recipe: Recipe) -> Callable[[int], float]:
        """What gives the squared change of an image's logits, summed, by the image's number."""
        session = open_session(self.material.build(recipe))

        def change(i: int) -> float:
            logits = compute_logits(session, self.material.images[i])
            return float(np.sum((logits - self.expected[i]) ** 2))

        return change

    def is_finished(self, recipe: Recipe) -> bool:
        """Whether all images were run, so that the error is exact and not its least."""
        return self.by_recipe[recipe].stopped_after is None

    def best(self) -> Recipe:
        """The recipe of the lowest logit error."""
        return min(self.by_recipe, key=self._error)

    def most_helpful(self, method: str) -> list[str]:
        """The layers that were tried alone in float, the one that leaves the least error first.

        They are in order as far as they were asked for by `n_best`.
        """
        recipes = [recipe for recipe in self.by_recipe if recipe.method == method]
        alone = [recipe for recipe in recipes if len(recipe.float_layers) == 1]
        return [recipe.float_layers[0] for recipe in sorted(alone, key=self._error)]

    def preferred(self, n: int) -> list[Recipe]:
        """All recipes by `preference`, of which the first `n` are in their places.

        A stopped one comes no later by its least error than by its own, so it is finished where it
        stands among them. What there is no time for is left as it is.
        """
        while True:
            order = preference(self.by_recipe)
            stopped = [recipe for recipe in order[:n] if not self.is_finished(recipe)]
            if not stopped or not self.in_time:
                return order
            self.run(stopped[0])

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
    session: onnxruntime.InferenceSession, image: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Logits (K,) of an input (1, 1, S, S)."""
    logits: NDArray[np.float64] = session.run(["logits"], {"image": image})[0][0].astype(np.float64)
    return logits


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
