"""A training killed while it writes a checkpoint goes on from the last good one, and ends as if
nothing had been.
"""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

from kneeedge.system.progress import Progress
from kneeedge.training import loop
from kneeedge.training.run import resume, train

QUIET = Progress(quiet=True)
N_EPOCHS = 4
CHILD = """
import sys
from pathlib import Path
from kneeedge.system.progress import Progress
from kneeedge.training import loop
from kneeedge.training.run import resume

saved = loop.save_last

def announce(*arguments):
    print("saving", flush=True)
    saved(*arguments)

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

whole = checkpoint.save_file

def torn(tensors, path, metadata):
    whole(tensors, path, metadata)
    if path.name == ".last.safetensors.part":
        os.truncate(path, int(path.stat().st_size * float(sys.argv[2])))
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = torn
resume(Path(sys.argv[1]), Progress(quiet=True))
"""
"is killed when a given share of the next checkpoint is written"


@pytest.fixture(scope="module")
def runs(narrow_config, tmp_path_factory) -> tuple[Path, Path]:
    """An unbroken run, and the same one stopped after its first epoch's checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    config = dataclasses.replace(narrow_config, epochs=N_EPOCHS)
    train(config, folder / "unbroken", [], QUIET)
    saved = loop.save_last

    def stop(*arguments: object) -> None:
        saved(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_last", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder / "broken", [], QUIET)
    return folder / "unbroken", folder / "broken"


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    modules = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": modules}
    )


def test_a_training_killed_at_random_points_of_its_checkpoints_ends_with_the_same_weights(runs):
    unbroken, broken = runs
    rng, n_killed = random.Random(0), 0  # noqa: S311
    for share in (0.0, 0.9):
        with child(TORN, broken, share) as torn:
            assert torn.wait(120) == -signal.SIGKILL
        assert (broken / ".last.safetensors.part").is_file()
        assert (broken / "last.safetensors").is_file()
    for _ in range(3):
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
    assert (broken / "model.safetensors").read_bytes() == (
        unbroken / "model.safetensors"
    ).read_bytes()
    assert not list(broken.glob("last.safetensors"))
