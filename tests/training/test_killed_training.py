"""A training killed while it writes a checkpoint goes on from the last good one to the same end."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

from kneeedge.system.progress import Progress
from kneeedge.training import loop
from kneeedge.training.run import resume, train

QUIET = Progress(quiet=True)
N_EPOCHS = 3
CHILD = """
import sys
from pathlib import Path
from kneeedge.system.progress import Progress
from kneeedge.training import loop
from kneeedge.training.run import resume

save_last = loop.save_last

def announce(*arguments):
    print("saving", flush=True)
    save_last(*arguments)

loop.save_last = announce
resume(Path(sys.argv[1]), Progress(quiet=True))
"""
"goes on with a run, and says when it begins to write a checkpoint"
TORN = """
import os, signal, sys
from pathlib import Path
from kneeedge.system.progress import Progress
from kneeedge.training import checkpoint
from kneeedge.training.run import resume

save_file = checkpoint.save_file

def tear(tensors, path, metadata):
    save_file(tensors, path, metadata)
    if any(name.startswith("optimizer.") for name in tensors):
        os.truncate(path, int(path.stat().st_size * float(sys.argv[2])))
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = tear
resume(Path(sys.argv[1]), Progress(quiet=True))
"""
"is killed when a given share of the next checkpoint is written"


@pytest.fixture(scope="module")
def runs(narrow_config, tmp_path_factory) -> tuple[Path, Path]:
    """An unbroken run, and the same one stopped after its first epoch's checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    config = dataclasses.replace(narrow_config, epochs=N_EPOCHS)
    train(config, folder / "unbroken", [], QUIET)
    save_last = loop.save_last

    def stop(*arguments: object) -> None:
        save_last(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_last", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder / "broken", [], QUIET)
    return folder / "unbroken", folder / "broken"


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    modules = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": modules}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_training_killed_at_random_points_of_its_checkpoints_ends_with_the_same_weights(runs):
    unbroken, broken = runs
    rng = random.Random(0)  # noqa: S311
    last_good = (broken / "last.safetensors").read_bytes()
    n_killed = 0
    for share in (0.0, 0.9):
        with child(TORN, broken, share) as torn:
            assert torn.wait(120) == -signal.SIGKILL
        assert half_written(broken)
        assert (broken / "last.safetensors").read_bytes() == last_good
    for _ in range(2):
        with child(CHILD, broken) as process:
            if process.stdout.readline():
                time.sleep(rng.uniform(0.0, 0.02))  # a checkpoint takes some 10 ms
                process.kill()
            n_killed += process.wait(120) == -signal.SIGKILL
        if (broken / "spec.json").is_file():
            break
    assert n_killed
    if not (broken / "spec.json").is_file():
        resume(broken, QUIET)
    expected = (unbroken / "model.safetensors").read_bytes()
    assert (broken / "model.safetensors").read_bytes() == expected
    assert not (broken / "last.safetensors").exists()
    assert not half_written(broken)


def half_written(run: Path) -> list[Path]:
    """What a killed writer left beside its file; the next write of that file takes its place."""
    return list(run.glob(".*.new"))
