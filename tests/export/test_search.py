"""The int8 search: its rule, its budget, and layers that really stay in float."""

import dataclasses
import gc
import weakref
from itertools import combinations

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

import onnx
import onnxruntime

from export.gate import Dropped, Gated, gate_report
from export.graph import layers
from export.ranges import METHODS, choose_ranges, collect, open_session
from export.search import MOST_GATED, search, settle, timed
from export.to_int8 import to_int8
from export.trials import Material, Recipe, Trials, compute_logits, preference
from kneeedge.data.dataset import scan
from kneeedge.model.file_record import Trial
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runtime.session import Outputs
from kneeedge.system.progress import Progress

QUIET = Progress(quiet=True)
ANSWERS = Outputs(np.zeros((1, 2)), np.zeros((1, 2)), None)
"to which no test here looks"


@pytest.fixture(scope="module")
def material(original, graph, phantoms) -> Material:
    spec = original[1]
    samples = scan(phantoms).split("train")
    images = [load_input(sample.path, spec.pixel_path)[None, None] for sample in samples[20:28]]
    return Material(graph, collect(graph, samples[:20], spec.pixel_path, QUIET), images, "any")


@pytest.fixture(scope="module")
def report(original, phantoms):
    """The gate's report on a variant that answers one image otherwise than the original."""
    spec = original[1]
    samples = scan(phantoms).split("val")
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])[[sample.label for sample in samples]]
    flipped = logits.copy()
    flipped[0] = flipped[0, ::-1]
    return gate_report(
        samples, Answers(ORIGINAL, spec, logits), Answers("int8", spec, flipped), "cpu", 0.5
    )


def gate_of(report, *verdicts: str):
    """A gate that gives these verdicts in turn, the last for ever, and keeps the graphs it saw."""
    seen: list[onnx.ModelProto] = []

    def gate(graph, _):
        seen.append(graph)
        verdict = verdicts[min(len(seen), len(verdicts)) - 1]
        return Gated(dataclasses.replace(report, verdict=verdict), ANSWERS)

    return gate, seen


def trial(error: float) -> Trial:
    return Trial(
        method="",
        float_layers=(),
        logit_error=error,
        flips=None,
        verdict=None,
        latency=None,
        chosen=False,
    )


def test_an_error_close_to_the_lowest_goes_to_the_fewest_float_layers():
    none_float = Recipe("a")
    one_float = Recipe("a", ("x",))
    two_float = Recipe("a", ("x", "y"))
    order = preference({two_float: trial(1.0), one_float: trial(1.1), none_float: trial(1.2)})
    assert order == [none_float, one_float, two_float]


def test_an_error_far_from_the_lowest_comes_last_in_order_of_error():
    none_float = Recipe("a")
    other_method = Recipe("b")
    one_float = Recipe("a", ("x",))
    order = preference({none_float: trial(3.0), other_method: trial(2.0), one_float: trial(1.0)})
    assert order == [one_float, other_method, none_float]


@pytest.fixture
def measured(material) -> Trials:
    """The recipes of all methods, with time without end."""
    trials = Trials(material, 1.0, QUIET, lambda: 0.0)
    trials.measure([Recipe(method) for method in METHODS])
    return trials


def test_the_first_recipe_that_passes_is_taken(measured, report):
    gate, seen = gate_of(report, FAIL, INCONCLUSIVE, PASS, FAIL)
    result = settle(measured, gate)
    assert len(seen) == 3
    assert result.gated.report.verdict == PASS
    assert result.graph is seen[2]
    (chosen,) = [trial for trial in result.trials if trial.chosen]
    assert Recipe(chosen.method, chosen.float_layers) == result.recipe
    verdicts = [trial.verdict for trial in result.trials if trial.verdict]
    assert sorted(verdicts) == [FAIL, INCONCLUSIVE, PASS]
    assert not result.untried


def with_times(trials: Trials, monkeypatch: pytest.MonkeyPatch, *latencies: float) -> list[Recipe]:
    """The recipes in the order of the gate, each given one of these latencies."""
    order = trials.preferred(len(latencies))

    def time(recipes: list[Recipe]) -> None:
        for recipe, latency in zip(order, latencies, strict=True):
            trial = trials.by_recipe[recipe]
            trials.by_recipe[recipe] = dataclasses.replace(trial, latency=latency)

    monkeypatch.setattr(trials, "time", time)
    return order


def gate_of_flips(report, *counts: int):
    """A gate that is never sure and finds these numbers of flips in turn."""
    seen: list[onnx.ModelProto] = []

    def gate(graph, _):
        seen.append(graph)
        flips = report.flips * counts[len(seen) - 1]
        inconclusive = dataclasses.replace(report, verdict=INCONCLUSIVE, flips=flips)
        return Gated(inconclusive, ANSWERS)

    return gate, seen


def test_where_none_passes_an_inconclusive_one_goes_before_one_that_fails(measured, report):
    gate, seen = gate_of(report, FAIL, INCONCLUSIVE, FAIL)
    result = settle(measured, gate)
    assert len(seen) == MOST_GATED
    assert result.gated.report.verdict == INCONCLUSIVE
    assert result.graph is seen[1]


def test_where_none_passes_the_fewest_flips_then_the_least_time_decide(
    measured, report, monkeypatch
):
    order = with_times(measured, monkeypatch, 0.5, 0.9, 0.71, 0.8, 0.6, 0.4)
    gate, seen = gate_of_flips(report, 3, 1, 1, 2, 2)
    result = settle(measured, gate)
    assert len(seen) == MOST_GATED
    assert result.recipe == order[2]


def test_only_the_best_answers_so_far_are_held_beside_those_that_the_gate_looks_at(
    measured, report, monkeypatch
):
    with_times(measured, monkeypatch, *[0.8] * len(METHODS))
    given = []
    n_held = []

    def held() -> list[Outputs]:
        gc.collect()
        return [answers for reference in given if (answers := reference()) is not None]

    def gate(graph, _):
        n_held.append(len(held()))
        flips = report.flips * (2 + len(n_held) % 2)  # three, two, three, two, three
        answers = dataclasses.replace(ANSWERS)
        given.append(weakref.ref(answers))
        return Gated(dataclasses.replace(report, verdict=INCONCLUSIVE, flips=flips), answers)

    result = settle(measured, gate)
    assert n_held == [0, 1, 1, 1, 1]
    assert len(result.gated.report.flips) == 2
    (answers,) = held()
    assert answers is result.gated.answers


@pytest.mark.usefixtures("without_networks")
def test_after_one_without_a_flip_only_faster_recipes_are_looked_at(material, report, monkeypatch):
    recipes = [Recipe("minmax", ("a",)), *map(Recipe, METHODS[1:])]
    changes = {recipe: np.full(len(material.images), 100.0 * i) for i, recipe in enumerate(recipes)}
    measured = DrawnTrials(material, changes)
    measured.measure(recipes)
    order = with_times(measured, monkeypatch, 0.97, 0.99, 0.75, 0.85, 0.97, 0.1)
    assert order == recipes
    gate, seen = gate_of_flips(report, 0, 0)
    result = settle(measured, gate)
    assert len(seen) == 2
    assert result.recipe == order[2]
    assert [trial.flips for trial in result.trials if trial.flips is not None] == [0, 0]


def test_times_that_differ_by_noise_leave_the_preference(measured, report, monkeypatch):
    order = with_times(measured, monkeypatch, 0.84, 0.82, 0.81, 0.83, 0.8, 0.8)
    gate, seen = gate_of_flips(report, 1, 1, 1, 1, 1)
    assert settle(measured, gate).recipe == order[0]
    assert len(seen) == MOST_GATED


def test_a_dropped_recipe_is_no_candidate_and_its_trial_says_when(measured, report, monkeypatch):
    """The second flips more than the first, which is there already; the third flips fewer."""
    order = with_times(measured, monkeypatch, *[0.8] * len(METHODS))
    asked = []

    def gate(_, is_behind):
        asked.append([flips for flips in range(6) if is_behind(flips)])
        if len(asked) == 2:
            return Dropped(24, 4)
        flips = report.flips * (3 if len(asked) == 1 else 2)
        return Gated(dataclasses.replace(report, verdict=INCONCLUSIVE, flips=flips), ANSWERS)

    result = settle(measured, gate)
    assert asked == [[], [3, 4, 5], [3, 4, 5], [2, 3, 4, 5], [2, 3, 4, 5]]
    assert result.recipe == order[2]
    trials = {Recipe(t.method, t.float_layers): t for t in result.trials}
    dropped = trials[order[1]]
    assert (dropped.flips, dropped.verdict, dropped.dropped_after) == (4, None, 24)
    assert trials[order[2]].dropped_after is None


def test_too_few_images_end_the_search_where_nothing_flips_and_nothing_is_faster(
    measured, report, monkeypatch
):
    with_times(measured, monkeypatch, *[0.8] * len(METHODS))
    gate, seen = gate_of_flips(report, 0)
    settle(measured, gate)
    assert len(seen) == 1


def test_every_recipe_that_the_gate_may_see_is_timed(measured):
    order = preference(measured.by_recipe)
    one = [Recipe("minmax", (name,)) for name in "abcd"]
    two = Recipe("minmax", ("a", "b"))
    assert timed(order, MOST_GATED) == order[:1], "they differ in ranges alone"
    assert timed([*one, *order, two], MOST_GATED) == [*one, order[0], two]
    assert timed([*one, *order, two], 1) == [one[0], order[0], two]


def test_every_method_and_every_layer_alone_is_tried(material, report):
    gate, _ = gate_of(report, PASS)
    trials = search(material, gate, 60, QUIET).trials
    assert [trial.method for trial in trials if not trial.float_layers] == list(METHODS)
    alone = [trial.float_layers[0] for trial in trials if len(trial.float_layers) == 1]
    assert alone == [layer.name for layer in layers(material.fp32)]
    assert [len(trial.float_layers) for trial in trials].count(2) == 1
    assert all(trial.logit_error > 0 for trial in trials)
    assert all(trial.latency is None or trial.latency > 0 for trial in trials)


def test_layers_in_float_are_tried_only_where_a_file_without_them_does_not_pass(material, report):
    """Where time is the goal: by the errors alone, a layer in float goes first."""
    gate, _ = gate_of(report, PASS)
    assert search(material, gate, 60, QUIET).recipe.float_layers
    gate, seen = gate_of(report, PASS)
    result = search(material, gate, 60, QUIET, all_int8_first=True)
    assert [trial.method for trial in result.trials] == list(METHODS)
    assert not result.recipe.float_layers
    assert len(seen) == 1
    least = min(result.trials, key=lambda trial: trial.logit_error)
    assert (least.chosen, least.verdict) == (True, PASS)
    gate, seen = gate_of(report, FAIL, PASS)
    whole = search(material, gate, 60, QUIET, all_int8_first=True)
    assert whole.recipe != result.recipe
    assert whole.graph is seen[1]
    n_layers = len(layers(material.fp32))
    assert len(whole.trials) == len(METHODS) + n_layers + 1
    (first,) = [trial for trial in whole.trials if trial.verdict == FAIL]
    assert (first.method, first.float_layers) == (result.recipe.method, ())


def test_the_ranges_of_a_method_are_chosen_once_for_all_its_recipes(material, monkeypatch):
    methods = []

    def noted(histograms, method, is_symmetric):
        methods.append(method)
        return choose_ranges(histograms, method, is_symmetric)

    monkeypatch.setattr("export.trials.choose_ranges", noted)
    anew = dataclasses.replace(material)
    names = [layer.name for layer in layers(material.fp32)][:2]
    recipes = [Recipe("entropy"), Recipe("mse"), *(Recipe("entropy", (name,)) for name in names)]
    graphs = [anew.build(recipe) for recipe in recipes]
    assert methods == ["entropy", "mse"]
    assert graphs == [material.build(recipe) for recipe in recipes]


def test_a_recipe_has_the_same_error_again(measured, material):
    again = Trials(material, 1.0, QUIET, lambda: 0.0)
    again.measure(list(measured.by_recipe)[::-1])
    for trials in (measured, again):
        trials.preferred(len(METHODS))
    assert again.by_recipe == measured.by_recipe


@pytest.fixture
def without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph is made, and none is run."""
    monkeypatch.setattr(Material, "build", lambda *_: onnx.ModelProto())
    monkeypatch.setattr("export.trials.open_session", lambda _: None)
    monkeypatch.setattr("export.trials.compute_logits", lambda *_: np.zeros(2))


class DrawnTrials(Trials):
    """Recipes whose squared changes are given and not computed; none stops where `stops` is off."""

    def __init__(
        self, material: Material, changes: dict[Recipe, np.ndarray], stops: bool = True
    ) -> None:
        super().__init__(material, 1.0, QUIET, lambda: 0.0)
        self.changes = changes
        self.stops = stops
        self.n_run = 0

    def run(self, recipe: Recipe, limit: float = np.inf) -> None:
        super().run(recipe, limit if self.stops else np.inf)

    def squared_changes(self, recipe: Recipe):
        def change(i: int) -> float:
            self.n_run += 1
            return float(self.changes[recipe][i])

        return change

    def time(self, _: list[Recipe]) -> None:
        """None is faster."""
        for recipe, trial in self.by_recipe.items():
            self.by_recipe[recipe] = dataclasses.replace(trial, latency=1.0)


def drawn_changes(material: Material, seed: int) -> dict[Recipe, np.ndarray]:
    """Squared changes of every recipe of the search, some of them close to each other."""
    rng = np.random.default_rng(seed)
    hardness = rng.exponential(1.0, len(material.images))
    names = [layer.name for layer in layers(material.fp32)]
    recipes = [Recipe(method) for method in METHODS]
    for method in METHODS:
        recipes += [Recipe(method, (name,)) for name in names]
        recipes += [Recipe(method, tuple(sorted(pair))) for pair in combinations(names, 2)]
    spread = rng.choice([0.05, 1.0])
    return {
        recipe: hardness * rng.lognormal(0, spread) * rng.lognormal(0, 0.3, len(hardness))
        for recipe in recipes
    }


@pytest.mark.usefixtures("without_networks")
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n_gated", [1, 3, MOST_GATED])
def test_what_is_stopped_would_not_have_been_chosen(material, report, monkeypatch, seed, n_gated):
    changes = drawn_changes(material, seed)
    found = []
    for stops in (True, False):
        trials = DrawnTrials(material, changes, stops)
        monkeypatch.setattr("export.search.Trials", lambda *_, t=trials: t)
        gate, seen = gate_of(report, *[FAIL] * (n_gated - 1), PASS)
        result = search(material, gate, 60, QUIET)
        in_order = [(t.method, t.float_layers) for t in result.trials if t.verdict]
        found.append((result.recipe, len(seen), sorted(in_order), trials.n_run))
    stopping, full = found
    assert stopping[:3] == full[:3]
    assert stopping[3] <= full[3]


@pytest.mark.usefixtures("without_networks")
def test_a_stopped_recipe_says_after_how_many_images_and_is_at_least_so_wrong(material):
    n = len(material.images)
    first, good, bad = (Recipe(method) for method in METHODS[:3])
    changes = {first: np.arange(n) + 1.0, good: np.full(n, 0.1), bad: np.arange(n) * 1.0}
    trials = DrawnTrials(material, changes)
    trials.measure([first, good, bad])
    stopped = trials.by_recipe[bad]
    assert stopped.stopped_after == 1, "the hardest image of the first recipe is run first"
    assert stopped.logit_error == np.sqrt((n - 1) / trials.expected.size)
    assert trials.by_recipe[first].stopped_after is None
    assert trials.preferred(3) == [good, bad, first]
    assert trials.by_recipe[bad].stopped_after is None
    assert trials.by_recipe[bad].logit_error == np.sqrt(changes[bad].sum() / trials.expected.size)


@pytest.mark.usefixtures("without_networks")
def test_all_in_8_bits_without_a_flip_ends_the_search_before_others_are_finished(
    material, report, monkeypatch
):
    trials = DrawnTrials(material, drawn_changes(material, 0))
    trials.measure([Recipe(method) for method in METHODS])
    n_run = trials.n_run
    gate, seen = gate_of_flips(report, 0)
    result = settle(trials, gate)
    assert len(seen) == 1
    assert trials.n_run == n_run
    assert result.recipe == trials.best()


def test_what_the_time_does_not_allow_is_named(material, report):
    gate, _ = gate_of(report, FAIL)
    ticks = iter(range(1000))
    result = search(material, gate, 3 / 60, QUIET, clock=lambda: float(next(ticks)))
    assert [trial.method for trial in result.trials] == list(METHODS[:3])
    assert result.untried[0] == f"{METHODS[3]}, no layer in float"
    assert result.untried[-1].startswith("the gate of ")
    assert result.gated.report.verdict == FAIL


def test_without_minutes_minmax_is_taken_and_nothing_tried(material, report):
    gate, seen = gate_of(report, PASS)
    result = search(material, gate, 0, QUIET)
    assert result.recipe == Recipe("minmax")
    assert (result.gated, result.trials, seen) == (None, (), [])


def optimised(graph: onnx.ModelProto, tmp_path) -> list[str]:
    """Operators of the graph as ONNX Runtime runs it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    providers = ["CPUExecutionProvider"]
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=providers)
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


@pytest.mark.parametrize("numbers", [(), (0,), (7,), (15,), (0, 1), (3, 8), tuple(range(16))])
def test_all_but_the_float_layers_run_in_8_bits(material, tmp_path, numbers):
    kept = tuple(layers(material.fp32)[i].name for i in numbers)
    graph = material.build(Recipe("minmax", kept))
    assert optimised(graph, tmp_path).count("QLinearConv") == 16 - len(kept)
    weights = [tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4]
    in_float = {t.name for t in weights if t.data_type == onnx.TensorProto.FLOAT}
    assert {f"{name}.weight" for name in kept} <= in_float


def test_all_layers_in_float_give_the_originals_answers(material):
    ranges = dict.fromkeys(material.histograms, (0.0, 1e-3))  # hopeless, and not used
    names = tuple(layer.name for layer in layers(material.fp32))
    graph = to_int8(material.fp32, ranges, "any", names)
    before = open_session(material.fp32)
    after = open_session(graph)
    for image in material.images:
        logits = compute_logits(before, image)
        np.testing.assert_allclose(compute_logits(after, image), logits, atol=1e-5)
