"""A slim run is built as its record says, and only `kneeedge slim` goes on with it."""

import dataclasses
import shutil

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

from kneeedge.errors import ConfigError
from kneeedge.runs.folder import Run, open_run
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original, save_weights
from kneeedge.training.run import resume, start_model

QUIET = Progress(quiet=True)


def test_a_slim_run_loads_with_its_own_widths_and_without_batch_norm(slim_run, trained_run):
    model, spec = load_original(open_run(slim_run))
    original = load_original(open_run(trained_run))[1]
    assert (original.architecture.batch_norm, spec.architecture.batch_norm) == (True, False)
    assert spec.architecture.channels[-1][-1] == original.architecture.channels[-1][-1] - 8
    assert model.features[-3].out_channels == spec.architecture.channels[-1][-1]


def test_the_spec_of_a_slim_run_says_of_which_original(slim_run, trained_run):
    slimmed = load_original(open_run(slim_run))[1].training.slimmed
    original = load_original(open_run(trained_run))[1]
    assert slimmed == Run(slim_run).read_config().slimmed
    assert (slimmed.original, slimmed.channels) == (original.name, original.architecture.channels)
    assert slimmed.scores == original.training.scores
    assert original.training.slimmed is None


def test_the_training_of_a_slim_run_begins_with_its_own_widths(slim_run, tmp_path):
    model = load_original(open_run(slim_run))[0]
    run = Run(tmp_path)
    save_weights(model, run.start)
    start = start_model(run, Run(slim_run).read_config())
    assert torch.equal(start.classifier[-1].weight, model.classifier[-1].weight)


@pytest.mark.parametrize(
    ("below", "begun"), [("knee-slim", "knee-slim"), ("knee-slim/steps/2x", "knee-slim")]
)
def test_train_does_not_go_on_with_what_slim_began(slim_run, tmp_path, below, begun):
    """It would train on the labels alone, without the original's answers."""
    shutil.copytree(slim_run, tmp_path / below)
    (tmp_path / below / "spec.json").unlink()
    problem = f"slimmed from narrow.* `kneeedge slim --resume {tmp_path / begun}`"
    with pytest.raises(ConfigError, match=problem):
        resume(tmp_path / below, QUIET)


def test_a_run_without_channels_of_its_own_has_those_of_its_config(trained_run):
    record = Run(trained_run).read_config()
    _, spec = load_original(open_run(trained_run))
    assert record.architecture == record.config.architecture == spec.architecture
    assert dataclasses.replace(record, channels=((8,),) * 5).architecture.channels == ((8,),) * 5
