"""The run folder is read back as it was written, says what is wrong with it, and has one owner."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from kneeedge.errors import (
    CheckpointError,
    DataError,
    ModelFileError,
    NotFoundError,
    OutputExistsError,
    SpecError,
)
from kneeedge.model.provenance import Score
from kneeedge.model.spec import softmax
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.folds import FoldAnswers, folds_report
from kneeedge.runs.latest import latest_run, link_latest
from kneeedge.runs.slim_report import SlimConfig, SlimReport
from kneeedge.system.own import is_run_folder
from kneeedge.system.strict_json import from_json, plain, to_json
from tests.bench_rows import result, row
from tests.run_records import (
    LABELS,
    LOGITS,
    dataset,
    evaluation,
    export_report,
    run_record,
    slim_spec,
    slimmed,
    write_finished_run,
)
from tests.tiny_onnx import CLASSES, tiny_spec

ROOT = Path(__file__).parents[2]
FILE_NAMES = (
    "spec.json", "config.json", "split.csv", "history.csv", "metrics.json", "answers.csv",
    "original.csv", "report.txt", "MODEL_CARD.md", "bench.json", "folds.json", "slim.json",
    "survey.json", "curve.json", "curve.png", "curves.png", "report.json", "model.safetensors",
    "start.safetensors", "last.safetensors", "novelty.safetensors", "report.html",
)  # fmt: skip
ANSWER_COLUMNS = (
    "path", "split", "class", "group", "p_Healthy", "p_Osteoporosis", "logit_Healthy",
    "logit_Osteoporosis",
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The folder of a run that has written nothing yet."""
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    return Run(folder)


def answer_rows(temperature: float = 1.0) -> list[list[str]]:
    rows = []
    for sample, logits in zip(dataset(Path()).samples, LOGITS, strict=True):
        probabilities = softmax(logits[None], temperature)[0]
        figures = [f"{figure:.9g}" for figure in (*probabilities, *logits)]
        rows.append([sample.name, sample.split, CLASSES[sample.label], sample.group, *figures])
    return rows


# What is written is read back


def test_a_run_is_known_for_one_by_its_config(run: Run) -> None:
    assert not is_run_folder(run.folder)
    run.write_config(run_record())
    assert is_run_folder(run.folder)


def test_the_spec_is_read_back(run: Run) -> None:
    run.write_spec(slim_spec())
    assert run.read_spec() == slim_spec()


def test_the_config_is_read_back(run: Run) -> None:
    run.write_config(run_record())
    assert run.read_config() == run_record()


def test_the_folder_of_the_original_is_read_back(run: Run, tmp_path: Path) -> None:
    run.write_config(run_record(original=tmp_path / "wide"))
    assert run.read_original_folder() == tmp_path / "wide"


def test_the_images_and_their_splits_are_read_back(run: Run, tmp_path: Path) -> None:
    run.write_dataset(dataset(tmp_path))
    assert run.read_dataset(tmp_path, CLASSES) == dataset(tmp_path)


def test_the_epochs_are_read_back(run: Run) -> None:
    epochs = [{"epoch": 1, "loss": 0.75, "unwritten": 0}, {"epoch": 2, "loss": 0.5, "unwritten": 0}]
    run.write_history(("epoch", "loss"), epochs)
    assert run.read_history() == [{"epoch": 1.0, "loss": 0.75}, {"epoch": 2.0, "loss": 0.5}]


def test_the_evaluations_are_read_back(run: Run) -> None:
    run.write_metrics({"epoch": 3, "test": plain(evaluation())})
    assert run.read_evaluations() == {"test": evaluation()}


def test_the_answers_are_read_back(run: Run) -> None:
    run.write_answers(ANSWER_COLUMNS, answer_rows())
    recorded = run.read_answers(CLASSES, "test", "train again")
    assert recorded.names == tuple(sample.name for sample in dataset(Path()).samples)
    assert recorded.labels.tolist() == LABELS.tolist()
    assert recorded.logits.tolist() == LOGITS.tolist()
    assert run.read_answers(CLASSES, "val", "train again").names == ()


def test_the_originals_answers_are_read_back(run: Run, tmp_path: Path) -> None:
    run.write_answers(ANSWER_COLUMNS, answer_rows(slimmed().temperature))
    run.answers.rename(run.original_answers)
    samples = dataset(tmp_path).samples
    assert run.read_original_answers(samples, slim_spec()).logits.tolist() == LOGITS.tolist()


def test_the_export_report_is_read_back(run: Run) -> None:
    run.models.mkdir()
    run.write_export_report(export_report(fp32="pass", int8="fail"))
    assert run.read_export_report() == export_report(fp32="pass", int8="fail")


def test_the_benchmark_is_read_back(run: Run) -> None:
    measured = result(row("fp32", 12.0))
    run.write_benchmark(to_json(measured))
    assert run.read_benchmark() == measured


def test_the_report_of_a_slim_run_is_read_back(run: Run) -> None:
    report = SlimReport(SlimConfig(original="runs/wide", keep=0.5), slimmed())
    run.write_slim(report)
    assert run.read_slim() == report


def test_the_folds_are_written_as_json(run: Run) -> None:
    scores = {"test": Score(n=len(LABELS), accuracy=0.75, auroc=0.875)}
    training = dataclasses.replace(tiny_spec().training, scores=scores)
    fold = FoldAnswers(
        spec=dataclasses.replace(tiny_spec(), training=training),
        names=tuple(map(str, range(len(LABELS)))),
        labels=LABELS,
        probabilities=softmax(LOGITS),
        groups=tuple(map(str, range(len(LABELS)))),
    )
    report = folds_report("first", [fold, fold])
    run.write_folds(report)
    assert from_json(type(report), run.folds.read_text(encoding="utf-8")) == report


@pytest.mark.parametrize("document", ["survey", "curve"])
def test_what_slimming_measured_is_written_as_json(run: Run, document: str) -> None:
    if document == "survey":
        run.write_survey({"ms": [1.0, 2.0]})
    else:
        run.write_curve('{"ms": [1.0, 2.0]}')
    text = getattr(run, document).read_text(encoding="utf-8")
    assert json.loads(text) == {"ms": [1.0, 2.0]}


def test_the_texts_are_written_as_they_are(run: Run) -> None:
    run.write_report("accuracy 0.97 ± 0.01\n")
    run.write_card("# Model card: knee\udce4\n")
    assert run.report.read_bytes() == "accuracy 0.97 ± 0.01\n".encode()
    assert run.card.read_bytes() == b"# Model card: knee\xe4\n"


# What is missing or damaged


@pytest.mark.parametrize(
    ("read", "error", "words"),
    [
        (Run.read_spec, FileNotFoundError, "spec.json"),
        (Run.read_config, NotFoundError, "no training run here; give the folder of a run"),
        (Run.read_original_folder, CheckpointError, "does not name the run that was slimmed"),
        (lambda run: run.read_dataset(Path(), CLASSES), NotFoundError, "no such split file"),
        (Run.read_history, FileNotFoundError, "history.csv"),
        (Run.read_evaluations, FileNotFoundError, "metrics.json"),
        (lambda run: run.read_answers(CLASSES, "test", ""), FileNotFoundError, "answers.csv"),
        (
            lambda run: run.read_original_answers(dataset(Path()).samples, slim_spec()),
            CheckpointError,
            "cannot be read",
        ),
        (Run.read_export_report, NotFoundError, "nothing is exported yet; run `kneeedge export`"),
        (Run.read_slim, NotFoundError, "no slim run was begun here"),
    ],
)
def test_a_file_that_is_missing_is_the_error_that_is_documented(
    run: Run, read, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        read(run)


def test_a_benchmark_that_nobody_ran_is_none(run: Run) -> None:
    assert run.read_benchmark() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"x"', "\udcff"])
@pytest.mark.parametrize(
    ("file", "read", "error"),
    [
        ("spec", Run.read_spec, SpecError),
        ("config", Run.read_config, CheckpointError),
        ("config", Run.read_original_folder, CheckpointError),
        ("split", lambda run: run.read_dataset(Path(), CLASSES), DataError),
        ("export_report", Run.read_export_report, ModelFileError),
        ("benchmark", Run.read_benchmark, DataError),
        ("slim", Run.read_slim, CheckpointError),
    ],
)
def test_a_file_that_is_damaged_is_the_error_that_is_documented(
    run: Run, file: str, read, error: type[Exception], text: str
) -> None:
    run.models.mkdir()
    getattr(run, file).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(error):
        read(run)


@pytest.mark.parametrize("text", ["", '{"test": {}}', '{"test": 1}'])
def test_an_evaluation_that_does_not_fit_is_a_value_error(run: Run, text: str) -> None:
    run.metrics.write_text(text)
    with pytest.raises(ValueError, match=r"Expecting value|Evaluation"):
        run.read_evaluations()


def test_answers_that_do_not_fit_end_in_the_remedy(run: Run) -> None:
    run.answers.write_text("path,split\na.png,test\n")
    with pytest.raises(CheckpointError, match=r"do not fit .*; train again"):
        run.read_answers(CLASSES, "test", "train again")


def test_a_history_of_no_figures_is_a_value_error(run: Run) -> None:
    run.history.write_text("epoch,loss\n1,low\n")
    with pytest.raises(ValueError, match="low"):
        run.read_history()


def test_a_write_that_fails_leaves_the_file_as_it_was(run: Run) -> None:
    run.write_metrics({"epoch": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_metrics({"epoch": float("nan")})
    assert json.loads(run.metrics.read_text(encoding="utf-8")) == {"epoch": 1}
    assert [path.name for path in run.folder.iterdir()] == [run.metrics.name]


# What there is


def test_a_run_is_finished_once_it_has_spec_and_weights(run: Run) -> None:
    run.write_spec(tiny_spec())
    assert not run.is_finished
    run.model.write_bytes(b"weights")
    assert run.is_finished


def test_a_finished_run_is_opened(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path / "first")
    run.write_config(run_record())
    assert open_run(run.folder) == run


def test_what_is_no_finished_run_is_not_opened_and_the_remedy_is_said(run: Run) -> None:
    with pytest.raises(NotFoundError, match="no training run here; train one"):
        open_run(run.folder)
    run.write_config(run_record())
    with pytest.raises(NotFoundError, match=r"not finished; finish it with .*--resume"):
        open_run(run.folder)


def test_of_a_cross_validation_a_fold_is_to_be_named(run: Run) -> None:
    assert not run.is_cross_validation
    run.fold(0).folder.mkdir()
    run.fold(0).write_config(run_record())
    assert run.is_cross_validation
    with pytest.raises(NotFoundError, match=r"name one of them, .*fold-1"):
        open_run(run.folder)


def test_a_rejected_file_stands_apart_from_the_published(run: Run) -> None:
    published = run.model_file("knee", "int8")
    rejected = run.model_file("knee", "int8", rejected=True)
    assert published.parent == run.models
    assert rejected.parent.parent == run.models
    assert published.name == rejected.name == "knee.int8.onnx"


# The last run


def test_without_a_finished_run_the_latest_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no finished run; train one"):
        latest_run(tmp_path)


def test_the_latest_run_is_the_one_that_was_linked_last(tmp_path: Path) -> None:
    for name in ("first", "second", "first"):
        link_latest(Run(tmp_path / name))
        (tmp_path / name).mkdir(exist_ok=True)
        assert latest_run(tmp_path).resolve() == tmp_path / name
        assert Run(latest_run(tmp_path)).name == name


def test_what_a_stopped_training_left_of_its_link_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / ".latest.first").symlink_to("first")
    link_latest(Run(tmp_path / "first"))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["first", "latest"]


def test_the_link_survives_a_move_of_all_runs(run: Run, tmp_path: Path) -> None:
    link_latest(run)
    moved = run.folder.parent.rename(tmp_path / "moved")
    assert latest_run(moved).resolve() == moved / "first"


def test_a_latest_run_that_is_gone_is_an_error(run: Run) -> None:
    link_latest(run)
    run.folder.rmdir()
    with pytest.raises(NotFoundError, match="no finished run"):
        latest_run(run.folder.parent)


def test_a_folder_that_has_the_name_of_the_link_is_not_removed(run: Run) -> None:
    (run.folder.parent / "latest").mkdir()
    with pytest.raises(OutputExistsError, match="it is no link; move it away"):
        link_latest(run)
    assert (run.folder.parent / "latest").is_dir()


# One owner


def file_names_in(path: Path) -> list[str]:
    """Where a module spells a file of the run folder: strings that are, or end in, such a name.

    A sentence that tells of one, as a help text or a docstring, has spaces.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    spelt = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if " " not in node.value and node.value.rpartition("/")[2] in FILE_NAMES:
            spelt.append(f"{path.relative_to(ROOT)}:{node.lineno} spells {node.value}")
    return spelt


def test_the_list_of_file_names_is_that_of_the_run_folder(run: Run) -> None:
    files = {
        run.spec, run.config, run.split, run.history, run.metrics, run.answers,
        run.original_answers, run.report, run.card, run.benchmark, run.folds, run.slim, run.survey,
        run.curve, run.curve_figure, run.figure("curves"), run.export_report, run.model, run.start,
        run.last, run.novelty, run.page,
    }  # fmt: skip
    assert {file.name for file in files} == set(FILE_NAMES)


@pytest.mark.parametrize("package", ["kneeedge", "export"])
def test_no_module_but_the_owner_spells_a_file_of_the_run_folder(package: str) -> None:
    # a run folder is known by RUN_CONFIG where images are listed; the owner takes it from there
    owners = {ROOT / "kneeedge/runs/folder.py", ROOT / "kneeedge/system/own.py"}
    modules = [path for path in sorted((ROOT / package).rglob("*.py")) if path not in owners]
    assert [line for path in modules for line in file_names_in(path)] == []
