"""The model card says what the run's files say, and leaves to a person what no run can know."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.model.provenance import DataReport
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.card import add_speed, card, write_card
from kneeedge.report.card_facts import CardFacts, read_facts
from kneeedge.report.claim import TOPICS, claim_rows
from kneeedge.runs.folder import Run

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture
def facts(trained_run: Path) -> CardFacts:
    return read_facts(Run(trained_run))


def with_training(facts: CardFacts, **changes: object) -> CardFacts:
    """The facts with other fields in what the spec says of the training."""
    training = replace(facts.spec.training, **changes)
    return replace(facts, spec=replace(facts.spec, training=training))


def copy_without_exports(trained_run: Path, tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    left_out = shutil.ignore_patterns(Run(trained_run).models.name, run.card.name)
    shutil.copytree(trained_run, run.folder, ignore=left_out)
    return run


def test_the_card_shows_every_figure_of_the_test_split_with_its_interval(facts: CardFacts) -> None:
    text = card(facts)
    estimates = facts.evaluations["test"].estimates
    for name in ("accuracy", "sensitivity", "specificity"):
        figure = estimates[name]
        span = f"{figure.interval.low:.4f} to {figure.interval.high:.4f}"
        assert f"| {name} | {figure.value:.4f} | {span} |" in text


def test_every_figure_stands_beside_the_source_of_its_images(facts: CardFacts) -> None:
    source = f"`{facts.dataset.root.name}`"
    text = card(facts)
    for split, evaluation in facts.evaluations.items():
        images = f"{source} {split}, {evaluation.n} images"
        rows = [line for line in text.splitlines() if line.endswith(f"| {images} |")]
        assert len(rows) == len(evaluation.estimates) + 2
        assert f"### {images}, prevalence " in text
    assert f"Every figure is of one data source, {source}, " in text
    assert str(facts.dataset.root.parent) not in text.split("## How it was made")[0]


def test_the_card_counts_the_images_of_each_class_and_split(facts: CardFacts) -> None:
    train = facts.dataset.split("train")
    counts = [sum(sample.label == label for sample in train) for label in (0, 1)]
    assert f"| train | {counts[0]} | {counts[1]} | {len(train)} |" in card(facts)


def test_a_leaky_run_says_so_in_its_card(facts: CardFacts) -> None:
    assert "LEAKY: 7 held-out images" in card(with_training(facts, leaked=7))
    assert "LEAKY" not in card(facts)


def test_the_card_says_how_many_processes_trained_together(facts: CardFacts) -> None:
    assert "Trained by 2 processes on" in card(replace(facts, n_processes=2))
    assert "processes" not in card(facts)


def test_a_run_without_an_audit_claims_nothing_of_altered_copies(facts: CardFacts) -> None:
    report = DataReport(n_images=1200, conflicts=0, leaks=0, exact_pairs=0, near_pairs=0)
    audited = with_training(facts, data_report=report)
    assert "nor one with the same bytes, nor its patient" in card(facts)
    assert "nor a copy of one, nor its patient" in card(audited)


def test_the_card_shows_calibration_before_and_after_on_held_out_images(facts: CardFacts) -> None:
    evaluation = facts.evaluations["test"]
    before = evaluation.uncalibrated.ece
    assert f"| ECE | {before:.4f} → {evaluation.ece:.4f} |" in card(facts)


def test_the_disclaimer_stands_before_everything_else(facts: CardFacts) -> None:
    assert card(facts).splitlines()[2] == f"**{DISCLAIMER}**"


def test_every_claim_item_is_there_once_and_only_a_person_answers_for_the_patients(
    facts: CardFacts,
) -> None:
    rows = claim_rows(facts)
    assert [row.item for row in rows] == list(range(1, 45)) == list(range(1, len(TOPICS) + 1))
    by_item = {row.item: row.answer for row in rows}
    assert [by_item[item] for item in (16, 33, 36)] == ["", "", ""]
    assert by_item[19] == "folders, seed 0"


def test_an_unfinished_run_has_no_card_and_says_what_to_do(
    trained_run: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    shutil.copy(Run(trained_run).config, run.config)
    with pytest.raises(NotFoundError, match="finish it"):
        read_facts(run)


def test_damaged_metrics_are_one_clear_error(trained_run: Path, tmp_path: Path) -> None:
    run = copy_without_exports(trained_run, tmp_path)
    metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
    del metrics["test"]["accuracy"]
    run.write_metrics(metrics)
    with pytest.raises(CheckpointError, match="accuracy"):
        read_facts(run)


def test_the_card_is_written_in_the_run_folder(trained_run: Path, tmp_path: Path) -> None:
    run = copy_without_exports(trained_run, tmp_path)
    assert write_card(run) == run.card
    assert run.card.read_text(encoding="utf-8").startswith("# Model card: ")


def test_only_a_slimmed_run_has_a_section_that_names_its_original(
    slim_run: Path, facts: CardFacts
) -> None:
    text = Run(slim_run).card.read_text(encoding="utf-8")
    assert "## A slimmed model\n\nThis is a slimmed model: " in text
    assert "slimmed" not in card(facts)


@pytest.mark.usefixtures("one_cold_start")
def test_a_benchmark_puts_its_speed_into_the_card(trained_run: Path, tmp_path: Path) -> None:
    from kneeedge.bench.page import bench_json
    from kneeedge.bench.run import BenchRequest, bench
    from kneeedge.system.progress import Progress

    run = copy_without_exports(trained_run, tmp_path)
    request = BenchRequest(
        run=str(run.folder), batch_sizes=(1,), seconds=0.2, n_rounds=1, ceiling=False
    )
    result = bench(request, Progress(quiet=True))
    add_speed(run, result, bench_json(result))
    text = run.card.read_text(encoding="utf-8")
    median = result.results[0].latency_ms.p50
    assert f"| run | pytorch-fp32 | cpu | {median:.3g} | 1.00 |" in text
    assert "Not measured yet" not in text
