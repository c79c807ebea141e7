"""`recipe.json` of `kneeedge tune`: fields of TrainConfig, and what searching them was worth."""

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneeedge.errors import ConfigError, DataError, NotFoundError
from kneeedge.model.provenance import SearchWorth, Tuned
from kneeedge.runs.config import TUNED, TrainConfig
from kneeedge.system.files import file_sha256, write_text
from kneeedge.system.strict_json import from_json, to_json

if TYPE_CHECKING:
    from kneeedge.data.dataset import Dataset

FORMAT = "kneeedge-recipe/1"


@dataclass(frozen=True, kw_only=True)
class RecipeFields:
    """Fields of TrainConfig, which see; one that is absent is not touched."""

    epochs: int | None = None
    batch_size: int | None = None
    head_lr: float | None = None
    lr: float | None = None
    lr_decay: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    dropout: float | None = None
    mixup: float | None = None
    cutmix: float | None = None
    ema: float | None = None
    views: int | None = None
    rotation: float | None = None
    corruptions: str | None = None
    freeze_blocks: int | None = None

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """Its JSON: the fields that are there."""
        return {name: value for name, value in record.items() if value is not None}

    @classmethod
    def unflatten(cls, record: dict[str, Any]) -> dict[str, Any]:
        return record

    @property
    def values(self) -> dict[str, Any]:
        """The fields that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def applied(self, config: TrainConfig) -> TrainConfig:
        """The config with these fields; raises ConfigError where one is out of range."""
        return replace(config, **self.values)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`recipe.json`."""

    format: str
    fields: RecipeFields
    study: str
    "name of the study folder"
    n_trials: int
    "tried, those that were pruned too"
    worth: SearchWorth
    data_sha256: str
    "hash over the sorted (path, file hash, part, class) rows of the images searched on"
    searched: tuple[str, ...]
    "of each of these the first 16 hex digits of its file's SHA-256, sorted"


def read_recipe(path: Path) -> Recipe:
    """A recipe file; raises NotFoundError without it, DataError where it does not fit."""
    remedy = "give recipe.json of a folder that `kneeedge tune` wrote"
    if not path.is_file():
        raise NotFoundError(f"{path}: no such recipe", remedy)
    try:
        recipe = from_json(Recipe, path.read_bytes())
        if recipe.format != FORMAT:
            raise ValueError(f"its format is {recipe.format!r}, and this kneeedge reads {FORMAT}")
        recipe.fields.applied(TrainConfig(data=""))
    except ConfigError as error:
        raise DataError(path, f"no recipe that can be trained by ({error})", remedy) from error
    except ValueError as error:
        raise DataError(path, f"no recipe of `kneeedge tune` ({error})", remedy) from error
    return recipe


def write_recipe(recipe: Recipe, path: Path) -> None:
    write_text(path, to_json(recipe) + "\n")


def tuned_config(path: Path, config: TrainConfig) -> TrainConfig:
    """The config with the fields of a recipe file; raises what `read_recipe` does."""
    return replace(read_recipe(path).fields.applied(config), recipe=TUNED, recipe_file=str(path))


def tuned_by(config: TrainConfig, dataset: "Dataset") -> Tuned | None:
    """What a record says of the recipe file that a run follows; None without one.

    Test images are known again by their bytes. Raises what `read_recipe` does.
    """
    if config.recipe_file is None:
        return None
    path = Path(config.recipe_file)
    recipe = read_recipe(path)
    searched = set(recipe.searched)
    fields = recipe.fields.values
    return Tuned(
        study=recipe.study,
        sha256=file_sha256(path),
        n_trials=recipe.n_trials,
        worth=recipe.worth,
        changed=tuple(name for name, value in fields.items() if getattr(config, name) != value),
        n_test_searched=sum(sample.short_hash in searched for sample in dataset.split("test")),
    )
