"""The model card says what the run's own files say, and leaves to a person what a run cannot know."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.model.provenance import DataReport
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.card import add_speed, card, write_card
from kneeedge.report.card_facts import read_facts
from kneeedge.report.claim import TOPICS, claim_rows
from kneeedge.report.markdown import table
from kneeedge.runs.folder import Run

pytestmark = pytest.mark.torch


def test_the_card_shows_every_figure_of_the_test_split_with_its_interval(trained_run: Path) -> None:
    facts = read_facts(Run(trained_run))
    text = card(facts)
    found = facts.evaluations["test"]
    for name in ("accuracy", "sensitivity", "specificity"):
        figure = found.estimates[name]
        span = f"{figure.interval.low:.4f} to {figure.interval.high:.4f}"
        assert f"| {name} | {figure.value:.4f} | {span} |" in text


def test_the_card_counts_the_images_of_each_class_and_split(trained_run: Path) -> None:
    facts = read_facts(Run(trained_run))
    train = facts.dataset.split("train")
    counts = [sum(sample.label == k for sample in train) for k in (0, 1)]
    assert f"| train | {counts[0]} | {counts[1]} | {len(train)} |" in card(facts)


def test_a_leaky_run_says_so_in_its_card(trained_run: Path) -> None:
    facts = read_facts(Run(trained_run))
    leaky = replace(
        facts, spec=replace(facts.spec, training=replace(facts.spec.training, leaked=7))
    )
    assert "LEAKY: 7 held-out images" in card(leaky)
    assert "LEAKY" not in card(facts)


def test_a_run_without_an_audit_claims_nothing_of_altered_copies(trained_run: Path) -> None:
    facts = read_facts(Run(trained_run))
    found = DataReport(n_images=1200, conflicts=0, leaks=0, exact_pairs=0, near_pairs=0)
    audited = replace(
        facts, spec=replace(facts.spec, training=replace(facts.spec.training, data_report=found))
    )
    assert "nor one with the same bytes, nor its patient" in card(facts)
    assert "nor a copy of one, nor its patient" in card(audited)


def test_the_card_shows_calibration_before_and_after_on_held_out_images(trained_run: Path) -> None:
    facts = read_facts(Run(trained_run))
    found = facts.evaluations["test"]
    assert f"| ECE | {found.uncalibrated.ece:.4f} → {found.ece:.4f} |" in card(facts)


def test_the_disclaimer_stands_before_everything_else(trained_run: Path) -> None:
    assert card(read_facts(Run(trained_run))).splitlines()[2] == f"**{DISCLAIMER}**"


def test_every_claim_item_is_there_once_and_only_a_person_answers_for_the_patients(
    trained_run: Path,
) -> None:
    rows = claim_rows(read_facts(Run(trained_run)))
    assert [row.item for row in rows] == list(range(1, 45)) == list(range(1, len(TOPICS) + 1))
    by_item = {row.item: row.answer for row in rows}
    assert [by_item[item] for item in (16, 33, 36)] == ["", "", ""]
    assert by_item[19] == "folders, seed 0"


def test_an_unfinished_run_has_no_card_and_says_what_to_do(
    trained_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(trained_run / "config.json", run)
    with pytest.raises(NotFoundError, match="finish it"):
        read_facts(Run(run))


def test_damaged_metrics_are_one_clear_error(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("models"))
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["test"]["accuracy"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(CheckpointError, match="accuracy"):
        read_facts(Run(run))


def test_the_card_is_written_in_the_run_folder(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("models", "MODEL_CARD.md"))
    assert write_card(Run(run)).read_text(encoding="utf-8").startswith("# Model card: ")


def test_only_a_slimmed_run_has_a_section_that_names_its_original(
    slim_run: Path, trained_run: Path
) -> None:
    assert "## A slimmed model\n\nThis is a slimmed model: " in (
        slim_run / "MODEL_CARD.md"
    ).read_text(encoding="utf-8")
    assert "slimmed" not in card(read_facts(Run(trained_run)))


def test_a_bar_in_a_cell_does_not_break_a_table() -> None:
    assert table(["a"], [["x|y\nz"]]) == ["| a |", "| --- |", "| x\\|y z |"]


def test_a_benchmark_puts_its_speed_into_the_card(trained_run: Path, tmp_path: Path) -> None:
    from kneeedge.bench.page import bench_json
    from kneeedge.bench.run import BenchRequest, bench
    from kneeedge.system.progress import Progress

    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("models", "MODEL_CARD.md"))
    request = BenchRequest(run=str(run), batch_sizes=(1,), seconds=0.2, n_rounds=1, ceiling=False)
    result = bench(request, Progress(quiet=True))
    text = add_speed(Run(run), bench_json(result)).read_text(encoding="utf-8")
    assert f"| run | pytorch-fp32 | cpu | {result.results[0].latency_ms.p50:.3g} | 1.00 |" in text
    assert "Not measured yet" not in text
