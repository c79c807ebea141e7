"""A recipe file is read back, and one that does not fit is one line."""

import dataclasses
import json
from pathlib import Path

import pytest

from kneeedge.cli.train import make_config
from kneeedge.data.dataset import Dataset, Sample
from kneeedge.errors import ConfigError, DataError, NotFoundError
from kneeedge.model.provenance import SearchWorth, TrainingRecord
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.recipe import FORMAT, Recipe, RecipeFields, read_recipe, tuned_by, write_recipe
from kneeedge.statistics.intervals import Interval
from kneeedge.system.strict_json import from_json, to_json

WORTH = SearchWorth(
    verdict="better",
    log_loss=-0.02,
    interval=Interval(-0.03, -0.01),
    n_images=90,
    n_groups=45,
    n_seeds=3,
)
RECIPE = Recipe(
    format=FORMAT,
    fields=RecipeFields(lr=2e-4, epochs=12, mixup=0.3, freeze_blocks=4),
    study="study",
    n_trials=20,
    worth=WORTH,
    data_sha256="0" * 64,
    searched=("a" * 16, "b" * 16),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_recipe(RECIPE, tmp_path / "recipe.json")
    return tmp_path / "recipe.json"


def test_a_recipe_is_read_back_and_holds_what_it_has_alone(path):
    assert read_recipe(path) == RECIPE
    fields = json.loads(path.read_text())["fields"]
    assert fields == {"epochs": 12, "lr": 2e-4, "mixup": 0.3, "freeze_blocks": 4}


def test_its_fields_go_into_the_config_and_options_win(path):
    config = make_config("data", str(path), {"epochs": 3})
    assert config == TrainConfig(
        data="data", recipe="tuned", recipe_file=str(path), lr=2e-4, epochs=3, mixup=0.3,
        freeze_blocks=4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "kneeedge-recipe/9"}, "its format is 'kneeedge-recipe/9'"),
        ({"fields": {"lr": "fast"}}, "Recipe.fields.lr must be float"),
        ({"fields": {"epochs": 1.5}}, "Recipe.fields.epochs must be int"),
        ({"fields": {"data": "/etc"}}, "Recipe.fields has the unknown field 'data'"),
        ({"fields": {"dropout": 2.0}}, "--dropout 2.0 is out of range"),
        ({"other": 1}, "Recipe has the unknown field 'other'"),
        ({"study": None}, "Recipe.study must be str"),
    ],
)
def test_what_does_not_fit_is_one_line(path, change, problem):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError) as caught:
        read_recipe(path)
    assert problem in str(caught.value)
    assert str(caught.value).endswith("give recipe.json of a folder that `kneeedge tune` wrote")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_recipe_is_one_line(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match="no recipe of `kneeedge tune`"):
        read_recipe(path)


def test_a_file_that_is_not_there_and_a_name_that_is_none(tmp_path):
    with pytest.raises(NotFoundError, match=r"no such recipe; give recipe\.json"):
        make_config("data", str(tmp_path / "gone.json"), {})
    with pytest.raises(ConfigError, match=r"--recipe frobnicate is unknown; choose one of default"):
        make_config("data", "frobnicate", {})


def dataset(split: str, short_hash: str) -> Dataset:
    sample = Sample(
        path=Path("x.png"),
        name="x.png",
        sha256=short_hash + "0" * 48,
        split=split,
        label=0,
        group="x",
    )
    return Dataset(Path(), ("a", "b"), (sample,))


@pytest.mark.parametrize(
    ("split", "short_hash", "expected"),
    [("test", "a" * 16, 1), ("test", "c" * 16, 0), ("train", "a" * 16, 0)],
)
def test_test_images_that_were_searched_on_are_counted(path, split, short_hash, expected):
    config = make_config("data", str(path), {"lr": 1e-4})
    tuned = tuned_by(config, dataset(split, short_hash))
    assert tuned.n_test_searched == expected
    assert tuned.changed == ("lr",)
    assert "but for lr; better: log loss -0.0200 [-0.0300, -0.0100]" in tuned.line


def test_a_record_says_so_and_one_without_a_recipe_is_as_before(path):
    tuned = tuned_by(make_config("data", str(path), {}), dataset("test", "a" * 16))
    record = TrainingRecord(
        recipe="tuned", weights="none", seed=0, data_sha256="", n_images={}, versions={}
    )
    assert "tuned" not in json.loads(to_json(record)).keys() - {"recipe"}
    assert record.caveat == ""
    record = dataclasses.replace(record, tuned=tuned)
    assert from_json(TrainingRecord, to_json(record)) == record
    caveat = "LEAKY: the recipe was searched on 1 test images; all figures are too good"
    assert record.caveat == caveat
