"""Several processes train one network: each its part, one writes, and none outlives another."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from kneeedge.cli.app import app
from kneeedge.cli.train import make_config
from kneeedge.data.dataset import Sample
from kneeedge.errors import ConfigError, WorkerError
from kneeedge.runs.config import TrainConfig
from kneeedge.runs.folder import Run
from kneeedge.system import ranks
from kneeedge.system.processes import environment
from kneeedge.system.progress import Progress
from kneeedge.system.ranks import Rank, this_rank
from kneeedge.training import launch, team
from kneeedge.training.cache import ActivationStore
from kneeedge.training.data import eval_rows, shuffled
from kneeedge.training.loop import dropout_seed
from kneeedge.training.run import resume, train

QUIET = Progress(quiet=True)
CHILD = "tests.training.undrawn_process"
OPTIONS = {
    "weights": "none", "width": 0.07, "size": 32, "epochs": 2, "precision": "32", "views": 2,
    "freeze_blocks": 2, "group_regex": r"(P\d+|copy)", "val_fraction": 0.25, "batch_size": 7,
    "lr": 3e-3, "lr_decay": 1.0,
}  # fmt: skip
"of a training of seconds, with the frozen blocks' cache and batches that two share unevenly"
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip
needs_two_cpus = pytest.mark.skipif(team.usable_cpus() < 2, reason="two processes need two CPUs")


def words(data: Path, runs: Path, name: str, **changes: object) -> list[str]:
    """The command line of a training with OPTIONS and changes of them."""
    options = [f"--{key.replace('_', '-')}={value}" for key, value in (OPTIONS | changes).items()]
    return ["train", str(data), "--no-audit", f"--runs={runs}", f"--name={name}", *options]


def started(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> tuple[int, str]:
    """Exit code and output of `kneeedge ARGUMENTS`, whose processes draw no pictures."""
    monkeypatch.setattr(sys, "argv", ["kneeedge", *arguments])
    monkeypatch.setattr(launch, "command", lambda _, *rest: [sys.executable, "-m", CHILD, *rest])
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def by_torchrun(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    begin = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*begin, "-m", CHILD, *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def without_seconds(run: Path) -> list[str]:
    return [line.rpartition(",")[0] for line in (run / "history.csv").read_text().splitlines()]


# Who does what


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 2, 7, 16, 33, 100])
def test_every_image_is_one_processs_and_parts_differ_by_one_at_most(size, n):
    parts = [range(n)[Rank(number, size).part(n)] for number in range(size)]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    looked_at = [rows for number in range(size) for rows in eval_rows(Rank(number, size), n)]
    assert sorted(i for rows in looked_at for i in rows) == list(range(n))


@pytest.mark.parametrize("size", [2, 3])
def test_the_processes_batches_are_those_of_one_process_taken_apart(size):
    n = 23
    same = {"path": Path(), "sha256": "0" * 64, "split": "train", "group": ""}
    samples = [Sample(name=f"{i}", label=i, **same) for i in range(n)]
    first_row = {f"{i}": 2 * i for i in range(n)}
    rows = np.arange(2 * n, dtype=np.float32).reshape(-1, 1, 1, 1)
    store = ActivationStore(rows, first_row, dict.fromkeys(first_row, 2))
    config = TrainConfig(data="", batch_size=7)
    whole = store.batches(samples, (), config)
    assert whole.batch_sizes == [7, 7, 7, 2] == list(map(len, shuffled(config, n, 0)))
    parts = [store.batches(samples, (), config, Rank(number, size)) for number in range(size)]
    for (x, y), *own in zip(whole.train(3), *(part.train(3) for part in parts), strict=True):
        real = [each for i, each in enumerate(own) if range(len(x))[Rank(i, size).part(len(x))]]
        assert torch.equal(torch.cat([part for part, _ in real]), x)
        assert torch.equal(torch.cat([labels for _, labels in real]), y)
        assert all(len(part) >= 1 for part, _ in own)


def test_dropout_differs_by_process_and_not_by_run():
    seeds = [dropout_seed(seed, epoch, k) for seed in (0, 1) for epoch in (0, 1) for k in range(4)]
    assert len(set(seeds)) == len(seeds)
    assert dropout_seed(1, 2, 3) == dropout_seed(1, 2, 3)
    assert dropout_seed(5, 7, 0) == 5 * 1_000_003 + 7


# What is refused


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not set; start the training with --devices or"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "1"}, "on several machines; .* --nnodes 1"),
        (TORCHRUN | {"RANK": "2"}, "RANK 2 is not below WORLD_SIZE 2"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE=two is no number"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "do not know each other; start one, with --devices"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "4 processes were started"),
    ],
)
def test_a_launcher_that_does_not_tell_who_trains_is_refused(monkeypatch, variables, complaint):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=complaint):
        this_rank()


@pytest.mark.parametrize(
    ("variables", "line", "complaint"),
    [
        ({}, "train DATA --devices 8 --batch-size 4", "give 8 or more, or fewer devices"),
        ({}, "train DATA --devices 0", "--devices 0 is too small; give 1 or more"),
        (TORCHRUN, "train DATA --devices 3", "of 3 processes, and torchrun started 2; leave out"),
        (TORCHRUN | {"WORLD_SIZE": "1"}, "train DATA --devices 2", "and torchrun started 1; leave"),
        (
            TORCHRUN | {ranks.RESTARTS: "1"},
            "train DATA",
            "would begin anew; go on with `kneeedge train --resume RUN`",
        ),
        (TORCHRUN, "slim", "2 processes of `kneeedge slim`, which works in one; start it without"),
        (TORCHRUN, "demo", "2 processes of `kneeedge demo`"),
    ],
)
def test_what_makes_no_sense_together_is_one_line(monkeypatch, variables, line, complaint):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2
    assert complaint in result.output
    assert len(result.output.splitlines()) == 1


def test_only_the_first_process_says_what_all_find_wrong(monkeypatch):
    for name, value in (TORCHRUN | {"RANK": "1", "LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    for line in ("train DATA --devices 3", "train DATA --epochs 0", "slim"):
        result = CliRunner().invoke(app, line.split())
        assert result.exit_code
        assert result.output == ""


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(team, "usable_cpus", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    team.check_devices(3)
    with pytest.raises(ConfigError, match="4 processes are to train on 3 CPUs; give --devices 3"):
        team.check_devices(4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="4 processes are to train on 1 GPU; give --devices 1"):
        team.check_devices(4)


def test_a_config_of_two_devices_is_not_trained_by_one_process(config, tmp_path):
    asked = dataclasses.replace(config, devices=2)
    with pytest.raises(ConfigError, match="asks for 2 devices, and 1 is training"):
        train(asked, tmp_path / "run", [], QUIET)
    assert not (tmp_path / "run").exists()


# Who ends whom


def watched(monkeypatch: pytest.MonkeyPatch, first: str, second: str) -> int:
    """The exit code of two processes that run this Python, with `rank` and the usual modules."""
    head = "import os, signal, sys, time; "
    codes = [head + first, head + second]

    def command(module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-c", codes.pop(0)]

    monkeypatch.setattr(launch, "command", command)
    monkeypatch.setattr(launch, "END_SECONDS", 0.5)
    return launch.train_together(2, [])


def test_a_killed_process_ends_the_others_and_is_named(monkeypatch):
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(WorkerError, match=r"process 2 of 2 of the training .* signal 9, Killed"):
        watched(monkeypatch, "time.sleep(600)", kill)
    with pytest.raises(WorkerError, match=r"process 1 of 2 .* signal 9"):
        watched(monkeypatch, kill, f"sys.exit({ranks.PEER_LOST})")


def test_the_exit_code_is_that_of_the_process_that_said_why(monkeypatch):
    assert watched(monkeypatch, "pass", "pass") == 0
    assert watched(monkeypatch, f"sys.exit({ranks.PEER_LOST})", "sys.exit(2)") == 2
    assert watched(monkeypatch, "sys.exit(1)", "time.sleep(600)") == 1


# Together


@needs_two_cpus
def test_two_processes_have_one_processs_gradient(monkeypatch, tmp_path):
    command = [sys.executable, "-m", "tests.training.two_processes", str(tmp_path / "found.json")]
    monkeypatch.setattr(launch, "command", lambda *_: command)
    assert launch.train_together(2, []) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert max(found["without norm"]) < 1e-5  # of the largest; an unweighted mean: 0.1 and more
    assert max(found["with norm"]) > 1e-3  # each normalises by its own part
    assert found["statistics"] == [[1.0, 1.0], [0.0, 1.0]]
    assert found["kept"][0] != found["kept"][1]
    assert found["text"] == "knée 0"
    assert found["lost"]


@needs_two_cpus
def test_two_processes_train_one_processs_weights(monkeypatch, flat, tmp_path, capfd):
    arguments = words(flat, tmp_path, "two", devices=2, dropout=0.0)
    assert started(monkeypatch, arguments) == (0, "")
    said = capfd.readouterr()
    assert said.out.count("kneeedge export") == 1
    assert said.err.count("epoch   2/2") == 1
    record = Run(tmp_path / "two").read_config()
    assert (record.n_processes, record.config.devices, record.n_views) == (2, 2, 2)
    monkeypatch.setattr("kneeedge.training.score.draw", lambda *_: None)
    given = OPTIONS | {"dropout": 0.0, "audit": False}
    train(make_config(str(flat), "default", given), tmp_path / "one", [], QUIET)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    moved = [name for name in one if not name.startswith("features.")] + ["features.34.weight"]
    for name in moved:
        assert (one[name] - two[name]).norm() < 1e-2 * one[name].norm(), name
    rows = [Run(tmp_path / name).read_history() for name in ("one", "two")]
    for a, b in zip(*rows, strict=True):
        for figure in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert a[figure] == pytest.approx(b[figure], rel=1e-4)
    with pytest.raises(ConfigError, match="is finished"):
        resume(tmp_path / "two", QUIET)


@needs_two_cpus
def test_a_killed_process_ends_the_training_which_goes_on_to_torchruns_weights(
    monkeypatch, flat, tmp_path, capfd
):
    unbroken = by_torchrun(words(flat, tmp_path, "unbroken"))
    assert unbroken.returncode == 0, unbroken.stderr
    assert unbroken.stdout.count("kneeedge export") == 1
    assert Run(tmp_path / "unbroken").read_config().n_processes == 2
    broken = tmp_path / "broken"
    monkeypatch.setenv("KILLED", "1")
    code, output = started(monkeypatch, words(flat, tmp_path, "broken", devices=2))
    assert code == 1
    assert output == (
        "error: process 2 of 2 of the training ended without a result: signal 9, "
        f"{signal.strsignal(9)}, as when memory runs out; "
        f"go on with `kneeedge train --resume {broken}`\n"
    )
    assert "rror" not in capfd.readouterr().err
    assert not Run(broken).is_finished
    assert (tmp_path / "latest").resolve().name == "unbroken"
    monkeypatch.delenv("KILLED")
    with pytest.raises(ConfigError, match="was begun by 2 processes, not by 1; go on with"):
        resume(broken, QUIET)
    assert started(monkeypatch, ["train", "--resume", str(broken)]) == (0, "")
    expected = (tmp_path / "unbroken/model.safetensors").read_bytes()
    assert (broken / "model.safetensors").read_bytes() == expected
    assert without_seconds(broken) == without_seconds(tmp_path / "unbroken")


@needs_two_cpus
def test_torchrun_ends_with_one_line_of_ours_where_a_process_is_killed(flat, tmp_path):
    ended = by_torchrun(words(flat, tmp_path, "run"), KILLED="1")
    assert ended.returncode
    ours = [line for line in ended.stderr.splitlines() if "--resume" in line]
    assert len(ours) == 1
    assert ours[0].endswith(f"go on with `kneeedge train --resume {tmp_path / 'run'}`")
    assert not Run(tmp_path / "run").is_finished


@needs_two_cpus
def test_two_processes_train_folds(monkeypatch, flat, tmp_path):
    arguments = words(flat, tmp_path, "folds", devices=2, folds=2, epochs=1)
    assert started(monkeypatch, arguments) == (0, "")
    report = json.loads((tmp_path / "folds/folds.json").read_text(encoding="utf-8"))
    assert report["n_images"] == 37
    assert {path.name for path in (tmp_path / "folds").iterdir()} == {
        "fold-1", "fold-2", "folds.json",
    }  # fmt: skip
