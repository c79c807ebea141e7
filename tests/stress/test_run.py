"""`kneeedge stress` from end to end, on tiny models and phantoms."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ConfigError, MissingExtraError
from kneeedge.pixels.corruptions import KINDS
from kneeedge.pixels.phantom import write_dataset
from kneeedge.report.stress import stress_markdown, stress_text
from kneeedge.stress import figure as figure_module
from kneeedge.stress.figure import check_figure
from kneeedge.stress.record import StressReport
from kneeedge.stress.run import StressRequest, stress
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json, to_json
from tests.tiny_onnx import write_tiny_model

QUIET = Progress(quiet=True)
N = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stress") / "data"
    write_dataset(folder, {"val": N}, size=80)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    first = write_tiny_model(folder / "first.onnx", limit=140.0)
    return first, write_tiny_model(folder / "second.onnx", "int8", seed=1, limit=140.0)


@pytest.fixture(scope="module")
def report(models, data) -> StressReport:
    return stress(StressRequest(models=models, data=data), QUIET)


def run(*words: object):
    return CliRunner().invoke(app, ["stress", *map(str, words)])


def refused(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 2, result.output
    return result.stderr.strip().splitlines()[-1]


def test_every_kind_and_severity_has_a_row_of_each_model(report) -> None:
    wanted = [("clean", 0)]
    for kind in KINDS:
        wanted += [(kind.name, severity) for severity in kind.severities]
    for model in report.models:
        assert [(row.kind, row.severity) for row in model.rows] == wanted
        assert {row.n for row in model.rows} == {N}


def test_the_clean_row_is_what_evaluate_says(report, models, data) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(models[1]), str(data), "--json", "-"])
    expected = json.loads(result.stdout)
    clean = report.models[1].clean
    assert clean.accuracy.value == expected["accuracy"]
    assert clean.ece == pytest.approx(expected["ece"], abs=1e-6)
    assert round(clean.refused.value * N) == expected["n_abstained"]


def test_a_model_beside_itself_flips_nothing_and_loses_nothing_more(models, data) -> None:
    request = StressRequest(models=(models[0],) * 2, data=data, kinds=("noise",), severities=(5,))
    twin = stress(request, QUIET).models[1]
    for row in twin.rows:
        assert (row.paired.change.flips, row.paired.extra_loss) == (0, 0.0)
    assert all(row.paired is None for row in stress(request, QUIET).models[0].rows)


def test_two_runs_give_the_same_rows(report, models, data) -> None:
    again = stress(StressRequest(models=models, data=data), QUIET)
    assert again.models == report.models


def test_more_than_two_classes_work_too(tmp_path) -> None:
    classes = ("a", "b", "c")
    write_dataset(tmp_path / "data", {"test": 9}, size=64, classes=classes)
    model = write_tiny_model(tmp_path / "m.onnx", classes=classes)
    request = StressRequest(models=(model,), data=tmp_path / "data", severities=(3,))
    (of_model,) = stress(request, QUIET).models
    assert len(of_model.rows) == 1 + len(KINDS)
    assert of_model.clean.auroc is not None


def test_models_of_other_classes_are_refused(models, data, tmp_path) -> None:
    other = write_tiny_model(tmp_path / "m.onnx", classes=("Healthy", "Osteopenia"))
    with pytest.raises(ConfigError, match="answers another question"):
        stress(StressRequest(models=(models[0], other), data=data), QUIET)


def test_the_report_survives_json(report) -> None:
    assert from_json(StressReport, to_json(report)) == report


def test_text_has_a_table_for_each_model_and_pairs_the_second(report) -> None:
    text = stress_text(report)
    assert text.count("accuracy [95 %]") == 2
    assert text.count("loses more [95 %]") == 1
    assert "first.onnx" in text
    assert "second.onnx" in text


def test_markdown_is_a_table_for_each_model(report) -> None:
    text = stress_markdown(report)
    n_rows = 1 + sum(len(kind.levels) for kind in KINDS)
    assert sum(line.startswith("| ") for line in text.splitlines()) == 2 * (2 + n_rows)


def test_the_command_writes_json_and_markdown(models, data, tmp_path) -> None:
    out = tmp_path / "s.json"
    page = tmp_path / "s.md"
    words = [*models, data, "--kinds", "blur,inverted", "--severities", "1,3"]
    result = run(*words, "--json", out, "--markdown", page)
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert record["format"] == "kneeedge-stress/1"
    assert [row["kind"] for row in record["models"][0]["rows"]] == [
        "clean",
        "blur",
        "blur",
        "inverted",
    ]
    assert "| inverted | whole |" in page.read_text()
    assert run(*words, "--markdown", page, "-q").exit_code == 0  # it knows its own file again


@pytest.mark.torch
def test_the_figure_has_a_panel_for_each_kind(models, data, tmp_path) -> None:
    picture = tmp_path / "s.png"
    words = [*models, data, "--kinds", "blur,inverted,text", "--severities", "1,5"]
    assert run(*words, "--out", picture).exit_code == 0
    with Image.open(picture) as image:
        assert image.width > 3 * 200


def test_the_figure_needs_matplotlib_and_says_so_before_the_work(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"--out needs matplotlib.*kneeedge\[train\]"):
        check_figure(tmp_path / "s.png")


def test_no_picture_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no kind of picture.*\.png"):
        figure_module.check_figure(tmp_path / "s.txt")


def test_options_that_mean_nothing_are_refused_in_a_line(models, data) -> None:
    assert "stands alone" in refused(data)
    assert "kind 'fog'" in refused(models[0], data, "--kinds", "fog")
    assert "--kinds ',' names no kind" in refused(models[0], data, "--kinds", ",")
    assert "holds what is no number" in refused(models[0], data, "--severities", "high")
    assert "severity 7 is unknown" in refused(models[0], data, "--severities", "7")


@pytest.mark.torch
@pytest.mark.slow
def test_the_run_of_the_first_file_keeps_the_test_and_its_card_shows_it(
    trained_run, exported, data, tmp_path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
    model = folder / "models" / exported["int8"].name
    result = run(model, data, "--kinds", "noise,inverted", "--severities", "1,3")
    assert result.exit_code == 0, result.output
    assert "stress.json" in result.output
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| noise | 1 · 3 |" in card
    assert "| inverted | whole |" in card
