import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from kneeedge.cli.app import app
from kneeedge.data.dataset import read_split
from kneeedge.errors import ConfigError, NotFoundError
from kneeedge.inference.metrics import evaluate
from kneeedge.model.provenance import GROUPED, PAPER
from kneeedge.pixels.phantom import write_dataset
from kneeedge.report.training import folds_text
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.folds import FoldAnswers, folds_report, pool_answers, read_fold
from kneeedge.system.progress import Progress
from kneeedge.training import figures, folds, loop, score
from kneeedge.training import run as training
from kneeedge.training.checkpoint import load_original
from kneeedge.training.data import cache_activations, views_wanted
from kneeedge.training.folds import FoldsResult, resume_folds, train_folds
from kneeedge.training.prepare import gather_images, split_data

QUIET = Progress(quiet=True)


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def said(self, start: str) -> str:
        return next((line for line in self.lines if line.startswith(start)), "")


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """Pictures take longer to draw than these networks to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "draw", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 knees in two class folders, two a patient; one knee of class 0 also stands in class 1,
    byte for byte.
    """
    folder = tmp_path_factory.mktemp("flat") / "data"
    write_dataset(folder, {"": 36}, size=64)
    shutil.copy(folder / "Healthy/P00000L.png", folder / "Osteoporosis/copy.png")
    return folder


@pytest.fixture(scope="module")
def config(flat: Path) -> TrainConfig:
    return TrainConfig(
        data=str(flat),
        weights="none",
        width=0.07,
        size=32,
        epochs=1,
        precision="32",
        views=2,
        freeze_blocks=2,
        group_regex=r"(P\d+|copy)",
        val_fraction=0.25,
        audit=False,
    )


@pytest.fixture(scope="module")
def crossed(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> FoldsResult:
    folder = tmp_path_factory.mktemp("folds") / "crossed"
    return train_folds(dataclasses.replace(config, folds=3), folder, ["kneeedge", "train"], QUIET)


@pytest.fixture(scope="module")
def audited(config: TrainConfig) -> tuple[Heard, frozenset[str], dict[str, str]]:
    """What the audit says, the images that --drop-conflicts keeps, and the group of each."""
    heard = Heard()
    dataset = gather_images(dataclasses.replace(config, audit=True, drop_conflicts=True), heard).dataset
    names = frozenset(sample.name for sample in dataset.samples)
    return (
        heard,
        names,
        {sample.name: sample.group for sample in gather_images(config, QUIET).dataset.samples},
    )


def test_copies_and_conflicts_are_said_before_training(audited):
    heard = audited[0]
    assert "Healthy/P00000L.png and Osteoporosis/copy.png (same bytes) the first" in heard.said(
        "audit: 1 pairs"
    )
    assert "--drop-conflicts" in heard.said("LABEL CONFLICT: 1 pairs")


def test_a_copy_joins_its_patients_group(audited):
    groups = audited[2]
    assert (
        groups["Osteoporosis/copy.png"]
        == groups["Healthy/P00000L.png"]
        == groups["Healthy/P00000R.png"]
    )


def test_conflicting_copies_can_be_left_out(audited):
    heard, names, _ = audited
    assert not {"Osteoporosis/copy.png", "Healthy/P00000L.png"} & names
    assert "Healthy/P00000R.png" in names
    assert heard.said("left out: 2 images")


def test_a_table_of_groups_is_kept_together(config, tmp_path):
    names = [sample.name for sample in gather_images(config, QUIET).dataset.samples]
    table = tmp_path / "groups.csv"
    table.write_text(
        "path,group\n"
        + "".join(f"{name},{name.split('/')[0]}{i % 3}\n" for i, name in enumerate(names))
    )
    found = gather_images(dataclasses.replace(config, groups=str(table), group_regex=None), QUIET).dataset
    assert len({sample.group for sample in found.samples}) == 5  # six, two of which the copy joins


def test_a_copy_across_split_folders_is_said_counted_and_left_where_it_is(tmp_path, config):
    write_dataset(tmp_path / "data", {"train": 12, "val": 8, "test": 8}, size=64)
    from PIL import Image

    with Image.open(tmp_path / "data/train/Healthy/P00000L.png") as image:
        image.save(tmp_path / "data/test/Healthy/again.bmp")
    changed = dataclasses.replace(config, data=str(tmp_path / "data"), group_regex=None, audit=True)
    heard = Heard()
    result = training.train(changed, tmp_path / "run", [], heard)
    assert "(same pixels) the first" in heard.said("LEAK: 1 pairs")
    assert heard.said("LEAKY: 1 images")
    _, spec = load_original(open_run(tmp_path / "run"))
    assert (spec.training.protocol, spec.training.leaked, result.leaked) == ("folders", 1, 1)
    assert (spec.training.data_report.leaks, spec.training.data_report.exact_pairs) == (1, 1)
    assert spec.training.n_images == {"train": 12, "val": 8, "test": 9}


def test_a_grouped_draw_forgets_the_folders_and_leaks_nothing(tmp_path, config):
    write_dataset(tmp_path / "data", {"train": 12, "val": 8, "test": 8}, size=64)
    shutil.copy(
        tmp_path / "data/train/Healthy/P00000L.png", tmp_path / "data/test/Healthy/again.png"
    )
    changed = dataclasses.replace(
        config, data=str(tmp_path / "data"), group_regex=None, split=GROUPED
    )
    dataset, protocol = split_data(gather_images(changed, QUIET).dataset, changed)
    assert protocol == GROUPED
    assert dataset.leaked() == ()
    assert any(not sample.name.startswith(f"{sample.split}/") for sample in dataset.samples)


@pytest.fixture(scope="module")
def leaky(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper") / "leaky"
    options = [
        "train",
        config.data,
        "--runs",
        str(folder.parent),
        "--name",
        "leaky",
        "--split",
        "paper",
        "--weights",
        "none",
        "--width",
        "0.07",
        "--size",
        "32",
        "--epochs",
        "1",
        "--precision",
        "32",
        "--freeze-blocks",
        "0",
        "--json",
        str(folder.parent / "json"),
    ]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    (folder.parent / "stdout").write_text(result.stdout)
    (folder.parent / "stderr").write_text(result.stderr)
    return folder


def test_the_paper_protocol_is_marked_leaky_in_the_command_output(leaky):
    assert "LEAKY: paper protocol" in (leaky.parent / "stdout").read_text()
    assert "LEAKY: " in (leaky.parent / "stderr").read_text()
    assert json.loads((leaky.parent / "json").read_text())["caveat"].startswith(
        "LEAKY: paper protocol"
    )


def test_the_paper_protocol_is_marked_leaky_in_the_run_folder(leaky):
    assert "LEAKY: paper protocol" in (leaky / "report.txt").read_text()
    metrics = json.loads((leaky / "metrics.json").read_text())
    assert metrics["protocol"] == PAPER
    assert metrics["caveat"].startswith("LEAKY: paper protocol")
    spec = load_original(open_run(leaky))[1]
    assert spec.training.protocol == PAPER
    assert spec.training.leaked >= spec.training.n_images["test"] == 12
    assert spec.training.n_images == {"train": 30, "val": 7, "test": 12}


def test_a_leaky_figure_says_so_on_the_picture(leaky, tmp_path):
    from PIL import Image

    spec = load_original(open_run(leaky))[1]
    fold = read_fold(Run(leaky))
    evaluation = evaluate(fold.labels, fold.probabilities, spec)
    reddish = []
    for name, caveat in (("plain", ""), ("leaky", spec.training.caveat)):
        figures.draw_roc(
            fold.labels, fold.probabilities, evaluation, tmp_path / f"{name}.png", caveat
        )
        with Image.open(tmp_path / f"{name}.png") as image:
            top = np.asarray(image.convert("RGB")).astype(int)[: image.height // 8]
        reddish.append(int(((top[..., 0] - top[..., 1]) > 80).sum()))
    assert reddish[0] == 0
    assert reddish[1] > 200


def test_the_paper_protocol_is_marked_leaky_in_what_is_exported(leaky):
    result = CliRunner().invoke(app, ["export", str(leaky), "--precision", "fp32"])
    assert "LEAKY: paper protocol" in result.stdout, result.output
    model = next((leaky / "models").rglob("*.onnx"))
    assert "paper protocol" in CliRunner().invoke(app, ["info", str(model)]).stdout


def test_calibration_under_the_paper_protocol_takes_no_held_out_image(leaky):
    from export.calibration import choose_images

    spec = load_original(open_run(leaky))[1]
    dataset = read_split(
        leaky / "split.csv", Path(Run(leaky).read_config().data_root), spec.classes
    )
    held_out = {sample.sha256 for sample in dataset.samples if sample.split != "train"}
    chosen = choose_images(dataset, 1000, 0).samples
    assert len(chosen) > 5
    assert not held_out & {sample.sha256 for sample in chosen}


def test_folds_test_every_image_once_by_a_model_that_saw_none_of_its_group(crossed):
    tested: list[str] = []
    for k in range(3):
        dataset = read_split(
            crossed.folder / f"fold-{k + 1}/split.csv", Path(), ("Healthy", "Osteoporosis")
        )
        assert dataset.leaked() == ()
        tested += [sample.name for sample in dataset.split("test")]
    assert len(tested) == len(set(tested)) == 37


def test_each_fold_is_a_run_of_its_own(crossed):
    for k in range(3):
        _, spec = load_original(open_run(crossed.folder / f"fold-{k + 1}"))
        assert spec.training.protocol == f"fold {k + 1}/3"
        assert spec.training.leaked == 0
    names = {path.name for path in crossed.folder.iterdir()}
    assert names == {"fold-1", "fold-2", "fold-3", "folds.json"}


def test_mean_spread_and_pooled_figures_are_those_of_the_folds(crossed):
    report = crossed.report
    values = [score.accuracy for score in report.folds.values()]
    assert report.spread["accuracy"].mean == pytest.approx(np.mean(values))
    assert report.spread["accuracy"].sd == pytest.approx(np.std(values, ddof=1))
    counts = [score.n for score in report.folds.values()]
    assert report.pooled.n == report.n_images == sum(counts) == 37
    assert report.pooled.accuracy.value == pytest.approx(np.average(values, weights=counts))
    assert (
        json.loads((crossed.folder / "folds.json").read_text())["n_groups"] == report.n_groups == 18
    )


def test_the_text_shows_each_fold_mean_spread_and_interval(crossed):
    text = folds_text(crossed.report, crossed.folder)
    for part in (
        "fold-3: ",
        "accuracy: mean ",
        "standard deviation ",
        "out-of-fold answers",
        "95 % intervals",
    ):
        assert part in text


def test_a_pooled_answer_is_that_of_the_images_own_model(crossed):
    answers = [read_fold(Run(crossed.folder / f"fold-{k + 1}")) for k in range(3)]
    specs = [
        dataclasses.replace(fold.spec, threshold=t)
        for fold, t in zip(answers, (0.2, 0.45, 0.9), strict=True)
    ]
    moved = [
        dataclasses.replace(fold, spec=spec) for fold, spec in zip(answers, specs, strict=True)
    ]
    expected = sum(
        np.trace(np.array(evaluate(fold.labels, fold.probabilities, fold.spec).confusion))
        for fold in moved
    )
    pooled, plain = pool_answers(moved), pool_answers(answers)
    assert pooled.accuracy.value == pytest.approx(expected / 37)
    assert (pooled.ece, pooled.brier, pooled.log_loss) == (plain.ece, plain.brier, plain.log_loss)


def test_a_folder_of_folds_is_no_run_to_export(crossed):
    with pytest.raises(
        NotFoundError, match="it holds the folds of a cross-validation; name one of them"
    ):
        open_run(crossed.folder)


def test_finished_folds_are_not_trained_again(config, crossed, tmp_path, monkeypatch):
    saved, calls = loop.save_last, []

    def stop_in_the_second(model, optimizer, average, state, path):
        calls.append(path.parent.name)
        if path.parent.name == "fold-2":
            raise KeyboardInterrupt
        saved(model, optimizer, average, state, path)

    monkeypatch.setattr(loop, "save_last", stop_in_the_second)
    folder = tmp_path / "crossed"
    with pytest.raises(KeyboardInterrupt):
        train_folds(dataclasses.replace(config, folds=3), folder, [], QUIET)
    first = (folder / "fold-1/model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(loop, "save_last", saved)
    report = resume_folds(folder, QUIET).report
    assert (folder / "fold-1/model.safetensors").stat().st_mtime_ns == first
    assert report.folds == crossed.report.folds
    with pytest.raises(ConfigError, match="is finished"):
        resume_folds(folder, QUIET)


def test_the_frozen_blocks_run_once_for_all_folds(config, tmp_path, monkeypatch):
    made = []

    def counted(model, wanted, *rest):
        made.append(sum(wanted.values()))
        return cache_activations(model, wanted, *rest)

    monkeypatch.setattr(folds, "cache_activations", counted)
    monkeypatch.setattr(training, "cache_activations", counted)
    train_folds(dataclasses.replace(config, folds=2), tmp_path / "crossed", [], QUIET)
    assert made == [37 * 2]


def test_a_shared_cache_gives_the_weights_of_a_cache_of_its_own(config, tmp_path):
    gathered = gather_images(config, QUIET)
    changed = dataclasses.replace(config, split=GROUPED)
    dataset, _ = split_data(gathered.dataset, changed)
    training.train(changed, tmp_path / "own", [], QUIET)
    size = training.Size(len(dataset.samples), 0)
    model, record = training.plan_run(changed, dataset, size, [], QUIET)
    store = cache_activations(
        model.eval(),
        views_wanted(dataset.samples, (), record.n_views),
        changed,
        tmp_path / "cache",
        False,
        QUIET,
    )
    (tmp_path / "shared").mkdir()
    training.begin_run(Run(tmp_path / "shared"), record, dataset)
    training.finish_run(Run(tmp_path / "shared"), record, dataset, model, QUIET, store)
    own, shared = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("own", "shared")
    )
    assert own == shared


def test_the_command_line_trains_folds_and_leaves_latest_alone(config, tmp_path):
    options = [
        "train",
        config.data,
        "--runs",
        str(tmp_path),
        "--name",
        "cv",
        "--folds",
        "2",
        "--weights",
        "none",
        "--width",
        "0.07",
        "--size",
        "32",
        "--epochs",
        "1",
        "--precision",
        "32",
        "--no-audit",
        "--group-regex",
        r"(P\d+|copy)",
        "--json",
        str(tmp_path / "folds.json"),
    ]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert "fold-2: " in result.stdout
    assert json.loads((tmp_path / "folds.json").read_text())["n_images"] == 37
    assert not (tmp_path / "latest").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"folds": 1}, "--folds 1 is no cross-validation"),
        ({"folds": 3, "split": PAPER}, "leave out --folds"),
        ({"split": "random"}, "choose one of auto, grouped, paper"),
        ({"drop_conflicts": True, "audit": False}, "leave out --no-audit"),
    ],
)
def test_options_of_the_split_that_contradict_are_refused(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        TrainConfig(data="", **changes)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            "DATA --split paper --val-fraction 0.3",
            "has sizes of its own, not --val-fraction; leave it out",
        ),
        ("DATA --folds 5 --test-fraction 0.3", "whatever --test-fraction says; leave it out"),
        ("--resume RUN --recipe paper", "leave out DATA and the other options"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(options, complaint):
    result = CliRunner().invoke(app, ["train", *options.split()])
    assert result.exit_code == 2
    assert complaint in result.output


def test_the_leakage_study_claims_and_tests_both_protocols(flat, config):
    from benchmarks.leakage import study, table

    gathered, results = study(dataclasses.replace(config, epochs=2), 2, None, QUIET)
    assert [(result.protocol, result.seed) for result in results] == [
        (PAPER, 0),
        (GROUPED, 0),
        (PAPER, 1),
        (GROUPED, 1),
    ]
    for result in results:
        assert result.claimed.n + result.true.n < len(gathered.dataset.samples)
        assert (result.n_known > 0) == (result.protocol == PAPER)
    assert "paper (**leaky**)" in table(results)


def test_summaries_need_every_fold(crossed):
    answers: list[FoldAnswers] = [
        read_fold(Run(crossed.folder / f"fold-{k + 1}")) for k in range(3)
    ]
    assert folds_report("x", answers) == dataclasses.replace(crossed.report, run="x")
