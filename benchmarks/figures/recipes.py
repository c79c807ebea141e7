"""Tables of what recipes of training are worth."""

from typing import Any

from benchmarks.figures.markdown import signed, span, table
from benchmarks.figures.results import read_result

SCORES = ("val accuracy", "val auroc", "test accuracy", "test auroc", "test ece")
POINTS = ("accuracy", "refused", "wrong_unrefused")


def corrupted_views() -> str:
    """What training on corrupted views changes."""
    return scores(read_result("recipes"))


def paper_recipe() -> str:
    """What the reference paper's recipe changes on a small set."""
    return scores(read_result("recipes-osteoporosis-372"))


def scores(result: dict[str, Any]) -> str:
    """Each recipe's scores, and the change from the first by seed."""
    first, *others = result["recipes"]
    lines = []
    for name in SCORES:
        cells = [f"{first['compared'][name]['mean']:.4f}"]
        for row in others:
            figures = row["compared"][name]
            cells += [f"{figures['mean']:.4f}", between(figures["change"], 4)]
        lines.append([name, *cells])
    heads = [f"of {result['seeds']} seeds", first["name"]]
    for row in others:
        heads += [row["name"], change_head(row["compared"][SCORES[0]]["change"])]
    return table(heads, lines)


def change_head(change: dict[str, float]) -> str:
    """Over a column of what `between` says."""
    return "change, 95 %" if "low" in change else "change ± deviation"


def between(change: dict[str, float], decimals: int, factor: float = 1) -> str:
    """A mean change over seeds with its interval; of older results with its deviation."""
    mean = signed(factor * change["mean"], decimals)
    if "low" in change:
        return f"{mean} {span(change, decimals, factor)}"
    return f"{mean} ± {factor * change['sd']:.{decimals}f}"


def corrupted_kinds() -> str:
    """The same under corruption of severity three: means, in percent."""
    recipes = read_result("recipes")["recipes"]
    first, second = (row["compared"] for row in recipes)
    lines = []
    for row in recipes[0]["runs"][0]["stress"]:
        cell = f"{row['kind']} {row['severity']}"
        cells = []
        for name in POINTS:
            before, after = (100 * one[f"{cell} {name}"]["mean"] for one in (first, second))
            cells.append(f"{before:.1f} → {after:.1f}")
        cells.append(between(second[f"{cell} wrong_unrefused"]["change"], 1, 100))
        lines.append([row["kind"], *cells])
    changed = change_head(second[SCORES[0]]["change"])
    return table(("kind", "right", "refused", "wrong and not refused", changed), lines)


LEARNT = {
    "val accuracy": ("val accuracy", 100, 2),
    "val AUROC": ("val auroc", 1, 4),
    "val log loss": ("val log_loss", 1, 4),
    "test accuracy": ("test accuracy", 100, 2),
    "test AUROC": ("test auroc", 1, 4),
    "test ECE": ("test ece", 1, 4),
}
"figures of a training above frozen blocks: key, factor and digits"


def frozen_blocks() -> str:
    """Each precision of the frozen blocks, and the change from the first by seed."""
    return learnt(read_result("frozen-blocks"))


def frozen_bits() -> str:
    """How far the frozen blocks' activations move by the bits that they are computed in."""
    rows = [
        [row["name"], f"{100 * row['moved']:.1f}", f"{100 * row['most']:.1f}"]
        for row in read_result("frozen-bits")["rows"]
    ]
    return table(("computed in", "moved by, %: median image", "most"), rows)


def rounding() -> str:
    """int8 files' logits with the first layer's weights rounded alone and together."""
    rows = [
        [
            f"{result['run']}, {row['weights']}",
            f"{100 * row['logit_error']:.2f}",
            f"{100 * row['largest']:.1f}",
            f"{row['flips']} of {result['n_images']}",
        ]
        for result in read_result("rounding")["runs"]
        for row in result["rows"]
    ]
    return table(("network, weights rounded", "logits off by, %", "at most", "flips"), rows)


def trained_blocks() -> str:
    """What training block 4 too brings."""
    return learnt(read_result("trained-blocks"))


def more_views() -> str:
    """Twice as many views of an image, so that each is seen once."""
    return learnt(read_result("more-views"))


def default_blocks() -> str:
    """The default, and two trained blocks in what time an AMD CPU has for them."""
    return learnt(read_result("default-blocks"))


def learnt(result: dict[str, Any]) -> str:
    """Each variant's figures, and the change from the first by seed with its interval."""
    variants = result["variants"]
    rows = []
    for title, (key, factor, digits) in LEARNT.items():
        cells = [mean_of(variants[0]["compared"][f"kept epoch {key}"], factor, digits)]
        for variant in variants[1:]:
            figures = variant["compared"][f"kept epoch {key}"]
            changed = between(figures["change"], digits, factor)
            cells += [mean_of(figures, factor, digits), changed]
        rows.append([title, *cells])
    heads = [f"of {result['seeds']} seeds", variants[0]["name"]]
    for variant in variants[1:]:
        heads += [variant["name"], "change, 95 %"]
    return table(heads, rows)


def members() -> str:
    """One seed, and what several made one network, or kept together, come to."""
    summary = read_result("members")["summary"]
    rows = []
    for name, row in summary.items():
        for kind, title in (("plain", name), ("with mirror", f"{name}, with mirror")):
            figures = [
                mean_of(row[f"{kind} {key}"], factor, digits)
                for key, factor, digits in LEARNT.values()
            ]
            rows.append([title, *figures])
    return table(("network", *LEARNT), rows)


def mean_of(figures: dict[str, float], factor: float, digits: int) -> str:
    """A mean with its deviation over seeds, where there are several."""
    mean = f"{factor * figures['mean']:.{digits}f}".replace("-", "−")
    return f"{mean} ± {factor * figures['sd']:.{digits}f}" if figures["sd"] else mean


def training_time() -> str:
    """Where the time of a training of the default recipe goes: seconds of each step, by run."""
    runs = [*read_result("training-time")["runs"], *read_result("training-time-amd")["runs"]]
    rows = [[step, *(f"{run['seconds'][step]:.0f}" for run in runs)] for step in runs[0]["seconds"]]
    rows.append(["together", *(f"{sum(run['seconds'].values()):.0f}" for run in runs)])
    return table(("seconds", *(run["name"] for run in runs)), rows)


SEEN = ("half of a fold's epochs", "three quarters of them", "a fold", "two folds")
"by step of what a trial reports"


def tune_study() -> str:
    """Each recipe that a study tried and gave up, and the default's loss on the same images."""
    result = read_result("tune-study")
    default, *others = result["trials"]
    rows = []
    for trial in others:
        changed = {
            name: value
            for name, value in trial["fields"].items()
            if name in result["space"] and value != default["fields"][name]
        }
        words = ", ".join(f"`{name}` {value:.2g}" for name, value in changed.items())
        step = max(trial["reports"])
        losses = [f"{one['reports'][step]:.4f}" for one in (trial, default)]
        rows.append([words, SEEN[int(step)], *losses, f"{trial['seconds']:.0f}"])
    return table(("recipe", "given up after", "log loss", "the default's", "seconds"), rows, left=2)
