"""What one machine alone does is refused by Ray, and the other way round, before any work."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.cluster.engine import MOST_IMAGES, chunks_of
from kneeedge.cluster.messages import Chunk
from kneeedge.cluster.sources import ClusterImage
from kneeedge.pixels.phantom import write_dataset
from kneeedge.system.strict_json import from_json, to_json
from tests.tiny_onnx import write_tiny_model


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "m.onnx")
    (tmp_path / "knees").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("--engine ray --watch", "--watch is for one machine"),
        ("--engine ray --new-only", "--new-only is for one machine"),
        ("--engine ray --heatmaps h", "--heatmaps is for one machine"),
        ("--engine ray --dicom-sr h", "--dicom-sr is for one machine"),
        ("--engine ray --out -", "--out - is for one machine"),
        ("--engine ray --out p.txt", "neither CSV nor Parquet"),
        ("--engine ray --ray-address ray://head:10001", "does not run through Ray Client"),
        ("--engine ray --ray-address local", "listens to the network"),
        ("--engine spark", "--engine spark is unknown"),
        ("--ray-address auto", "--ray-address is for --engine ray"),
        ("--ray-workers 2", "--ray-workers is for --engine ray"),
        ("--out p.parquet", "Parquet is for --engine ray"),
        ("s3://bucket/knees", "s3://bucket/knees is for --engine ray"),
    ],
)
def test_what_an_engine_does_not_do_is_wrong_usage_in_one_line(place, words, refusal):
    done = CliRunner().invoke(app, ["infer", "knees", "--model", "m.onnx", *words.split()])
    assert done.exit_code == 2, done.output
    assert refusal in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("address", ["127.0.0.1:1", "head", "127.0.0.1:x"])
def test_a_cluster_that_is_not_there_is_wrong_usage_at_once(place, address):
    pytest.importorskip("ray")
    write_dataset(place / "knees", {"test": 2}, size=64)
    words = f"infer knees --model m.onnx --engine ray --ray-address {address}"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 2, done.output
    assert done.stderr.splitlines()[-1].startswith(f"error: no Ray cluster at {address} (")


def test_an_output_that_is_not_ours_is_not_written_over(place):
    (place / "p.parquet").write_bytes(b"PAR1 of somebody else's")
    words = "infer knees --model m.onnx --engine ray --out p.parquet"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 1
    assert "is no Parquet table of answers that kneeedge wrote" in done.stderr
    assert (place / "p.parquet").read_bytes() == b"PAR1 of somebody else's"


def test_chunks_feed_all_workers_keep_the_order_and_are_never_large():
    images = [ClusterImage("/d", f"{i}.png") for i in range(40_000)]
    batches = {i: images[i * 4 : i * 4 + 4] for i in range(10_000)}
    few = chunks_of({i: batches[i] for i in range(20)}, n_workers=2)
    assert [len(chunk.numbers) for chunk in few] == [2] * 10
    many = chunks_of(batches, n_workers=2)
    assert all(len(chunk.batches) * 4 <= MOST_IMAGES for chunk in many)
    assert [n for chunk in many for n in chunk.numbers] == list(range(10_000))


def test_a_chunk_arrives_as_it_was_sent_bytes_of_names_included():
    chunk = Chunk((3,), ((ClusterImage("s3://b", "a\udcff.png", "s3://b/", 5, 7),),))
    text = to_json(chunk, indent=None)
    assert json.loads(text)
    assert from_json(Chunk, text) == chunk
