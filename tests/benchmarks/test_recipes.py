"""What several seeds of recipes come to."""

from pathlib import Path

import pytest

from benchmarks.recipes import compared, flat, named_recipe


def record(auroc: float, wrong: float) -> dict[str, object]:
    row = {"kind": "blur", "severity": 3, "accuracy": 0.9, "auroc": 0.95, "refused": 0.1}
    return {"val": {"auroc": auroc}, "stress": [{**row, "wrong_unrefused": wrong}]}


def test_a_recipe_is_a_name_and_options() -> None:
    recipe = named_recipe("more views=--views 16 --group-regex '(p\\d+)'")
    assert recipe.options == ("--views", "16", "--group-regex", "(p\\d+)")
    assert recipe.folder(Path("runs"), 2) == Path("runs/more-views-2")


def test_every_figure_has_a_name() -> None:
    assert flat(record(0.98, 0.05)) == {
        "val auroc": 0.98,
        "blur 3 accuracy": 0.9,
        "blur 3 auroc": 0.95,
        "blur 3 refused": 0.1,
        "blur 3 wrong_unrefused": 0.05,
        "stress mean accuracy": 0.9,
        "stress mean auroc": 0.95,
        "stress mean refused": 0.1,
        "stress mean wrong_unrefused": 0.05,
    }


def test_differences_are_paired_by_seed() -> None:
    first = [record(0.97, 0.06), record(0.99, 0.05)]
    other = [record(0.98, 0.06), record(1.0, 0.02)]
    figures = compared(first, other)["val auroc"]
    assert figures["mean"] == pytest.approx(0.99)
    assert figures["sd"] == pytest.approx(0.014142)
    assert figures["change"] == pytest.approx({"mean": 0.01, "sd": 0.0, "low": 0.01, "high": 0.01})
    assert compared(first, other)["blur 3 wrong_unrefused"]["change"]["mean"] == -0.015


def test_a_run_that_is_not_stressed_has_its_scores_alone() -> None:
    assert flat({"val": {"auroc": 0.98}, "stress": []}) == {"val auroc": 0.98}
