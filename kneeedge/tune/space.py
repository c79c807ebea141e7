"""What a study searches: each field's range, in which the default's value always lies."""

from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from kneeedge.runs.config import N_BLOCKS, TrainConfig
from kneeedge.runs.recipe import RecipeFields
from kneeedge.runs.tuning import CHEAP, COSTLY, StudyPlan

FLOATS = {
    "head_lr": (1e-4, 1e-2, True),
    "lr": (1e-5, 3e-4, True),  # VGG19 without batch norm falls back to chance from about 4e-4 on
    "lr_decay": (0.3, 1.0, False),
    "weight_decay": (1e-3, 0.5, True),
    "dropout": (0.0, 0.6, False),
    "label_smoothing": (0.0, 0.2, False),
}
"least and most, and whether the logarithm is drawn"
STEPS = {"mixup": (0.0, 1.0, 0.1), "cutmix": (0.0, 1.0, 0.1)}
"least, most and step: 0, which is none, is to be drawn"
CHOICES: dict[str, tuple[Any, ...]] = {
    "batch_size": (8, 16, 32),
    "ema": (0.0, 0.9, 0.968, 0.984, 0.992),
    "rotation": (0.0, 5.0, 10.0, 20.0),
    "corruptions": ("", "blur,resolution,contrast,gamma,noise"),
}
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Space = dict[str, Distribution]


def searched(plan: StudyPlan) -> list[str]:
    """Names of the fields that are searched.

    Views only where activations are cached, the learning rate of blocks only where one is trained,
    and its decay by block where more are.
    """
    also = [COSTLY[name] for name in plan.config.also]
    names = [name for name in (*CHEAP, *also) if name not in plan.config.fixed]
    if plan.record.n_views < 2:
        names.remove("views")
    fewest = min(frozen_choices(plan)) if "freeze_blocks" in also else plan.record.n_frozen_blocks
    if N_BLOCKS - fewest < 2:
        names.remove("lr_decay")
    if fewest == N_BLOCKS:
        names.remove("lr")
    return names


def build_space(plan: StudyPlan) -> Space:
    """What each searched field is drawn from."""
    config = plan.config.train
    space: Space = {}
    for name in searched(plan):
        if name == "epochs":
            space[name] = epochs_of(config.epochs)
        elif name == "views":
            space[name] = CategoricalDistribution(views_choices(plan.record.n_views))
        elif name == "freeze_blocks":
            space[name] = CategoricalDistribution(frozen_choices(plan))
        elif name in CHOICES:
            choices = {*CHOICES[name], getattr(config, name)}
            space[name] = CategoricalDistribution(sorted(choices))
        else:
            space[name] = float_of(name, getattr(config, name))
    return space


def float_of(name: str, default: float) -> FloatDistribution:
    """The field's range, widened to the default where that is beyond it."""
    if name in STEPS:
        low, high, step = STEPS[name]
        if round(default / step) * step != default:
            return FloatDistribution(min(low, default), max(high, default))
        return FloatDistribution(low, max(high, default), step=step)
    low, high, log = FLOATS[name]
    return FloatDistribution(min(low, default), max(high, default), log=log and default > 0)


def epochs_of(default: int) -> IntDistribution:
    """Half to twice the default, in quarters of it."""
    step = max(1, default // 4)
    low = default - (default - max(1, default // 2)) // step * step
    return IntDistribution(low, default + default // step * step, step=step)


def views_choices(n_views: int) -> list[int]:
    """1, 2, 4, … of the cached views, and all of them."""
    return [2**k for k in range(n_views.bit_length()) if 2**k < n_views] + [n_views]


def frozen_choices(plan: StudyPlan) -> list[int]:
    """As many frozen blocks as the default has, one fewer and one more."""
    n = plan.record.n_frozen_blocks
    return sorted({max(0, n - 1), n, min(N_BLOCKS, n + 1)})


def default_values(plan: StudyPlan, space: Space) -> dict[str, Any]:
    """The default recipe's values of the searched fields."""
    decided = {"views": plan.record.n_views, "freeze_blocks": plan.record.n_frozen_blocks}
    return {name: decided.get(name, getattr(plan.config.train, name)) for name in space}


def fields_of(plan: StudyPlan, values: dict[str, Any]) -> RecipeFields:
    """The recipe of drawn values: with the fields that were fixed, and the frozen blocks."""
    config: TrainConfig = plan.config.train
    fixed = {name: getattr(config, name) for name in plan.config.fixed}
    frozen = {"freeze_blocks": plan.record.n_frozen_blocks}
    drawn = {name: round(value, 6) if name in STEPS else value for name, value in values.items()}
    return RecipeFields(**(fixed | frozen | drawn))


def settings(plan: StudyPlan) -> list[tuple[float, str, int]]:
    """Rotation, corruptions and frozen blocks of every set of activations that may be needed."""
    config = plan.config.train
    also = [COSTLY[name] for name in plan.config.also]

    def values(name: str, default: Any) -> Sequence[Any]:
        if name not in also:
            return [default]
        return sorted({*CHOICES[name], default})

    rotations = values("rotation", config.rotation)
    corruptions = values("corruptions", config.corruptions)
    blocks = frozen_choices(plan) if "freeze_blocks" in also else [plan.record.n_frozen_blocks]
    return [(r, c, b) for r in rotations for c in corruptions for b in blocks if b > 0]


def in_words(space: Space) -> dict[str, str]:
    """What each field is drawn from, for people."""
    return {name: words(distribution) for name, distribution in space.items()}


def words(distribution: Distribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(str(choice) or "none" for choice in distribution.choices)
    text = f"{distribution.low:g} to {distribution.high:g}"
    if distribution.step not in (None, 1):
        text += f" by {distribution.step:g}"
    return f"{text}, logarithmic" if distribution.log else text
