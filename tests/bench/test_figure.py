"""Accuracy against latency, drawn."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge.bench.figure import check_figure, draw_figure, point
from kneeedge.bench.rows import latency_of
from kneeedge.cli.app import app
from kneeedge.errors import ConfigError
from tests.bench_rows import accuracy, result, row

pytestmark = pytest.mark.torch  # matplotlib comes with the extra `train`


@pytest.mark.parametrize("name", ["f.png", "f.svg"])
def test_every_model_is_a_point_with_its_name(tmp_path: Path, name: str) -> None:
    rows = [row("fp32", 120.0, accuracy(None)), row("int8", 33.0, accuracy()), row("fp16", 130.0)]
    draw_figure(result(*rows), tmp_path / name)
    if name.endswith("svg"):
        text = (tmp_path / name).read_text()
        assert "<svg" in text
    else:
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (1125, 780)
            assert len(picture.convert("RGB").getcolors(1_000_000)) > 20


def test_a_point_carries_both_intervals() -> None:
    samples = [10.0] * 5 + [12.0] * 3 + [15.0] * 4
    x, y, across, up = point(row("int8", 10.0, accuracy(), latency_ms=latency_of(samples)))
    assert (x, y) == (12.0, 0.9)
    assert across == ([2.0], [3.0])
    assert [round(part[0], 6) for part in up] == [0.03, 0.02]


def test_a_mean_of_few_runs_has_no_interval() -> None:
    x, _, across, _ = point(row("int8", 10.0, accuracy(), latency_ms=latency_of([1.0, 3.0])))
    assert (x, across) == (2.0, None)


@pytest.mark.parametrize(("name", "has_accuracy"), [("f.gif", True), ("f.png", False)])
def test_what_cannot_be_drawn_is_refused_before_anything_is_measured(
    name: str, has_accuracy: bool
) -> None:
    with pytest.raises(ConfigError, match="--figure"):
        check_figure(Path(name), has_accuracy)


@pytest.mark.slow
@pytest.mark.usefixtures("one_cold_start")
def test_the_command_writes_every_report(
    tmp_path: Path, models: tuple[str, ...], data: str
) -> None:
    measuring = ["--data", data, "--provider", "cpu", "--batch-size", "2"]
    timing = ["--seconds", "0.1", "--rounds", "1"]
    reports = {
        "--json": tmp_path / "r.json",
        "--csv": tmp_path / "r.csv",
        "--markdown": tmp_path / "r.md",
        "--figure": tmp_path / "r.png",
    }
    writing = [str(part) for option in reports.items() for part in option]
    done = CliRunner().invoke(app, ["bench", *models, *measuring, *timing, *writing])
    assert done.exit_code == 0, done.output
    assert all(path.stat().st_size > 100 for path in reports.values())
    assert "advice: " in done.stdout
