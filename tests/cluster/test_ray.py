"""`infer --engine ray` on real clusters: one of its own, and one of two nodes with kills."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

if "CI" not in os.environ:  # there it is installed, or the test fails
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
if sys.platform != "linux":
    pytest.skip("the nodes are looked into by /proc", allow_module_level=True)

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.inference.journal import has_rows, journal_of, read_content
from kneeedge.inference.output import rows_of
from kneeedge.pixels.phantom import write_dataset
from tests.cluster.nodes import TwoNodes, below, environment, parents, until
from tests.cluster.object_store import Bucket
from tests.inverting_models import write_inverting
from tests.tiny_onnx import write_tiny_model

pytestmark = pytest.mark.slow
A_ROUND = 8
"images of the first batches of two networks"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_inverting(write_tiny_model(folder / "tiny.onnx"), folder / "model.onnx")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Forty phantoms, one inverted, one file that is none, and one that is left out."""
    folder = tmp_path_factory.mktemp("knees")
    write_dataset(folder, {"test": 40}, size=64)
    inverted = min(folder.rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(inverted))).save(inverted)
    (folder / "test/Healthy/damaged.png").write_bytes(b"no picture")
    (folder / "test/readme.txt").write_text("left out")
    return folder


@pytest.fixture(scope="module")
def plain(model, images, tmp_path_factory) -> bytes:
    """What one machine answers."""
    out = tmp_path_factory.mktemp("plain") / "p.csv"
    words = ["infer", images, "--model", model, "--threads", "1", "--out", out, "-q"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 3
    return out.read_bytes()


@pytest.fixture(scope="module")
def bucket(images):
    bucket = Bucket(images)
    yield bucket
    bucket.close()


@pytest.fixture(scope="module")
def cluster():
    nodes = TwoNodes()
    try:
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture
def start():
    """Starts drivers, which do not outlive a test that fails."""
    drivers = []

    def started(env: dict[str, str], *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "kneeedge", "infer", "--engine", "ray", *map(str, words)]
        driver = subprocess.Popen(command, env=env, text=True, stdout=-1, stderr=-1)
        drivers.append(driver)
        return driver

    yield started
    for driver in drivers:
        driver.kill()
        driver.communicate()


def finish(driver: subprocess.Popen[str]) -> str:
    """What it said; one image is damaged, so that its exit code is 3.

    What Ray says of losses is no part of what it printed.
    """
    printed, said = driver.communicate()
    assert driver.returncode == 3, f"{printed}\n{said}"
    assert "Traceback" not in said
    assert "raylet" not in printed
    assert printed.startswith("41 images: ")
    return said


def answered(out: Path) -> list[str]:
    """The paths in the journal."""
    with journal_of(out).open("rb", buffering=0) as file:
        return [path for batch in read_content(file).batches for path in batch.paths]


def test_a_cluster_of_its_own_gives_the_bytes_of_one_machine_and_leaves_no_process(
    start, model, images, plain, tmp_path
):
    out = tmp_path / "p.csv"
    driver = start(environment(), images, "--model", model, "--out", out, "--json", "-")
    started: set[int] = set()
    while driver.poll() is None:
        started |= set(below(driver.pid))
        try:
            printed, said = driver.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
    assert driver.returncode == 3, said
    assert out.read_bytes() == plain
    record = json.loads(printed)
    assert record["summary"]["n_errors"] == 1
    assert record["cluster"]["n_nodes"] == 1
    assert len(record["predictions"]) == 41
    assert said.count("\n") < 10, said
    until(lambda: not started & set(parents()), "the end of Ray's processes")


def test_a_killed_network_costs_no_row_and_doubles_none(
    start, model, bucket, plain, cluster, tmp_path
):
    out = tmp_path / "p.csv"
    bucket.allow(0)
    driver = start(
        cluster.environment, bucket.address, "--model", model, "--out", out,
        "--ray-address", cluster.address,
    )  # fmt: skip
    until(lambda: bucket.n_waiting == 2, "a network on each node")
    (victim,) = cluster.workers(0)
    assert len(cluster.workers(1)) == 1
    bucket.allow(A_ROUND)
    until(lambda: has_rows(out), "rows in the journal")
    os.kill(victim, signal.SIGKILL)
    bucket.allow(float("inf"))
    said = finish(driver)
    assert "a worker or a node was lost" in said
    assert out.read_bytes() == plain


def test_a_killed_driver_and_a_killed_node_lose_no_row_and_answer_none_twice(
    start, model, bucket, plain, cluster, tmp_path
):
    out = tmp_path / "p.parquet"
    words = [bucket.address, "--model", model, "--out", out, "--ray-address", cluster.address]
    bucket.allow(A_ROUND)
    driver = start(cluster.environment, *words)
    until(lambda: has_rows(out), "rows in the journal")
    driver.kill()
    driver.communicate()
    kept = answered(out)
    until(lambda: not cluster.workers(0) + cluster.workers(1), "the end of the driver's networks")
    until(lambda: bucket.n_waiting == 0, "the end of their connections")

    bucket.allow(0)
    bucket.read.clear()
    driver = start(cluster.environment, *words, "--resume")
    until(lambda: bucket.n_waiting == 2, "a network on each node")
    assert len(cluster.workers(1)) == 1
    bucket.allow(A_ROUND)
    until(lambda: len(answered(out)) > len(kept), "more rows in the journal")
    cluster.kill_node(1)
    bucket.allow(float("inf"))
    assert "a worker or a node was lost" in finish(driver)
    assert not set(bucket.read) & set(kept), "read again"
    header, *rows = rows_of(plain)
    table = pq.read_table(out)
    assert table.column_names == ["index", *header]
    assert table["index"].to_pylist() == list(range(len(rows)))
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        is_number = name in ("probability", "distance") or name.startswith("p_")
        read = float if is_number else "true".__eq__ if name == "inverted" else None
        values = [(read(cell) if cell else None) if read else cell for cell in cells]
        assert table[name].to_pylist() == values, name
    assert set(table["inverted"].to_pylist()) == {True, False, None}
    assert table.schema.metadata[b"model_sha256"]
