"""What the commands say of 16-bit pictures that use fewer bits, and what --grey-bits does there."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kneeedge.cli.app import app
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runtime.session import Session
from tests.tiny_onnx import CLASSES, write_tiny_model

N_CLASS = 3
N = N_CLASS * len(CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12-bit knees in 16-bit PNGs."""
    root = tmp_path_factory.mktemp("knees")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir()
        for i in range(N_CLASS):
            values = rng.integers(0, 4096, (80, 70), dtype=np.uint16)
            Image.fromarray(values).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")


def run(*command: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in command])


def rows_of(out: Path) -> list[dict[str, str]]:
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("isolation", ["--isolate", "--no-isolate"])
def test_infer_warns_once_and_in_every_row(
    tmp_path: Path, folder: Path, model: Path, isolation: str
) -> None:
    done = run("infer", folder, "--model", model, "--out", tmp_path / "p.csv", isolation)
    assert done.exit_code == 0, done.output
    assert done.output.count("DEPTH: ") == 1
    assert f"{N} images of 16 bits a pixel, {CLASSES[0]}/0.png the first" in done.output
    rows = rows_of(tmp_path / "p.csv")
    assert {row["status"] for row in rows} == {"ok"}
    assert all("use no more than 12 bits (--grey-bits)" in row["error"] for row in rows)


def test_infer_reads_the_depth_that_it_is_told(tmp_path: Path, folder: Path, model: Path) -> None:
    out = tmp_path / "p.csv"
    done = run("infer", folder, "--model", model, "--out", out, "--grey-bits", 12)
    assert done.exit_code == 0, done.output
    assert "DEPTH" not in done.output
    row = rows_of(out)[0]
    pixels = load_input(folder / row["path"], PixelPath(64, grey_bits=12))
    assert pixels.max() > 150
    expected = Session(model, "cpu").run(pixels[None, None]).probabilities[0]
    assert float(row[f"p_{CLASSES[0]}"]) == pytest.approx(float(expected[0]), abs=1e-5)
    assert row["error"] == ""


def test_full_16_bits_that_are_told_are_no_warning(
    tmp_path: Path, folder: Path, model: Path
) -> None:
    out = tmp_path / "p.csv"
    done = run("infer", folder, "--model", model, "--out", out, "--grey-bits", 16)
    assert "DEPTH" not in done.output
    assert {row["error"] for row in rows_of(out)} == {""}


def test_evaluate_warns_and_reads_the_depth_that_it_is_told(folder: Path, model: Path) -> None:
    told = run("evaluate", model, folder, "--grey-bits", 12, "--json", "-")
    assert told.exit_code == 0, told.output
    assert "DEPTH" not in told.stderr
    untold = run("evaluate", model, folder, "--json", "-")
    assert f"DEPTH: {N} images" in untold.stderr
    assert json.loads(told.stdout)["auroc"] != json.loads(untold.stdout)["auroc"]


def test_audit_finds_the_depth_and_reads_the_one_that_it_is_told(folder: Path) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("sklearn")
    audit = json.loads(run("audit", folder, "--json", "-", "-q").stdout)
    (finding,) = [finding for finding in audit["findings"] if finding["kind"] == "DEPTH"]
    assert finding["severity"] == "warning"
    assert finding["what"].startswith(f"{N} images of 16 bits a pixel that come out dark")
    assert finding["cases"][0] == f"{CLASSES[0]}/0.png: 12 bits"
    assert "--grey-bits 12" in finding["remedy"]
    told = json.loads(run("audit", folder, "--json", "-", "-q", "--grey-bits", 12).stdout)
    assert "DEPTH" not in {finding["kind"] for finding in told["findings"]}
    assert told["audit"]["grey_bits"] == 12
    means = [image["facts"]["mean"] for image in told["audit"]["images"]]
    assert np.mean(means) == pytest.approx(127.5, abs=3)


@pytest.mark.parametrize("bits", [7, 17])
def test_a_depth_that_is_none_is_wrong_usage(folder: Path, model: Path, bits: int) -> None:
    assert run("infer", folder, "--model", model, "--grey-bits", bits).exit_code == 2
