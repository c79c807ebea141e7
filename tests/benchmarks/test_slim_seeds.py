"""What `kneeedge slim` gives by seed: one survey, and runs that are read where they are done."""

from functools import partial
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

from benchmarks.slim_seeds import by_seed
from export.options import ExportOptions
from kneeedge.runs.folder import Run
from kneeedge.runs.slim_report import SlimConfig
from kneeedge.slim.run import Slimmer
from kneeedge.system.progress import Progress
from tests.layer_times import even_times

QUIET = Progress(quiet=True)


def test_seeds_share_a_survey_and_finished_runs_are_read(
    trained_run: Path, tmp_path: Path, monkeypatch
):
    surveys = []

    def counted(*given):
        surveys.append(given)
        return even_times(*given)

    monkeypatch.setattr("kneeedge.slim.survey.measure_layers", counted)
    monkeypatch.setattr("kneeedge.slim.survey.uniform_times", lambda *_: (0.0, 1.0))
    monkeypatch.setattr("kneeedge.slim.survey.choose_bf16", lambda *_: False)
    options = partial(ExportOptions, search_minutes=0)
    monkeypatch.setattr("kneeedge.slim.run.ExportOptions", options)
    config = SlimConfig(
        original=str(trained_run), tolerance=0.5, threads=1, epochs=1, views=1, lr=1e-3
    )
    _, rows = by_seed(config, [1.5], 2, tmp_path, QUIET)
    assert len(surveys) == 1
    assert [(row["speedup"], row["seed"]) for row in rows] == [(1.5, 0), (1.5, 1)]
    assert rows[0]["channels"] == rows[1]["channels"]
    weights = [(tmp_path / f"1.5x-{seed}/model.safetensors").read_bytes() for seed in (0, 1)]
    assert weights[0] != weights[1]
    for row in rows:
        run = Run(tmp_path / f"1.5x-{row['seed']}")
        assert (run.models / row["file"]).is_file()
        assert row["worst_loss"] >= -row["accuracy_change"]
    monkeypatch.setattr(Slimmer, "step", None)
    assert by_seed(config, [1.5], 2, tmp_path, QUIET)[1] == rows
