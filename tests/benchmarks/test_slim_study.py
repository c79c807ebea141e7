"""How narrowed networks are trained and compared by the study of them."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

from benchmarks import slim_study
from kneeedge.runs.slim_report import SlimConfig
from kneeedge.slim.chain import widths
from kneeedge.system.progress import Progress
from tests.layer_times import even_times


@pytest.fixture(autouse=True)
def timed_evenly(monkeypatch):
    monkeypatch.setattr("kneeedge.slim.survey.measure_layers", even_times)
    monkeypatch.setattr("kneeedge.slim.survey.uniform_times", lambda *_: (0.0, 1.0))


def test_a_variant_sets_fields_of_the_run_and_of_the_study():
    base = SlimConfig(original="run")
    variant = slim_study.named_variant("long=epochs:12,lr:0.001,map_weight:0.5,stages:2", base)
    assert (variant.config.epochs, variant.config.lr) == (12, 0.001)
    assert (variant.map_weight, variant.stages) == (0.5, 2)


def test_stages_end_at_the_same_widths_and_each_figure_is_paired_by_seed(
    trained_run: Path, tmp_path: Path
):
    base = SlimConfig(original=str(trained_run), keep=0.6, epochs=2, views=1, lr=1e-3, threads=1)
    study = slim_study.begin(base, tmp_path, Progress(quiet=True))
    plain = slim_study.named_variant("plain", base)
    gradual = slim_study.named_variant("gradual=stages:2", base)
    (goal,) = study.slimmer.goals()
    allotted = study.slimmer.survey.allot(goal).widths
    for variant in (plain, gradual):
        folder = tmp_path / f"{variant.name}-network"
        folder.mkdir()
        assert widths(study.train(variant, folder)) == allotted
    runs = {v.name: [study.run(v, seed) for seed in (0, 1)] for v in (plain, gradual)}
    assert all((tmp_path / f"gradual-{seed}/run.json").is_file() for seed in (0, 1))
    figures = slim_study.compared(runs["plain"], runs["gradual"])["test flips"]
    of_seeds = [run["test"]["flips"] for run in runs["gradual"]]
    assert figures["mean"] == pytest.approx(sum(of_seeds) / 2, abs=1e-6)
    before = [run["test"]["flips"] for run in runs["plain"]]
    assert figures["change"]["mean"] == pytest.approx((sum(of_seeds) - sum(before)) / 2, abs=1e-6)


def test_a_run_that_is_there_is_not_trained_again(trained_run: Path, tmp_path: Path, monkeypatch):
    base = SlimConfig(original=str(trained_run), keep=0.6, epochs=1, views=1, threads=1)
    study = slim_study.begin(base, tmp_path, Progress(quiet=True))
    variant = slim_study.named_variant("plain", base)
    run = study.run(variant, 0)
    assert -1 <= run["val"]["accuracy_change"] <= run["val"]["flips"]
    assert run["val"]["worst_loss"] >= -run["val"]["accuracy_change"]
    monkeypatch.setattr(slim_study.Study, "train", None)
    assert study.run(variant, 0) == run
