"""The study against peers: its counts, how it deals images out, and subjects on a narrow model."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.jobs import JobError, error_line, run_job
from benchmarks.peers.load import normalise
from benchmarks.peers.prepare import MADE_FROM, MAKERS
from benchmarks.peers.probe import SIDES, Ceiling, ProbeRequest, best_of, probe
from benchmarks.peers.rows import (
    HEADS,
    Material,
    Measurement,
    Row,
    answers_in_order,
    combine,
    table,
)
from benchmarks.peers.study import Options, study
from benchmarks.peers.subjects import SUBJECTS, Place, size_mb
from benchmarks.peers.turn import BatchRuns, Turn, TurnRequest, share_out
from kneeedge.bench.accuracy import Truth
from kneeedge.errors import ConfigError
from kneeedge.model.spec import Architecture
from kneeedge.statistics.percentiles import runs_needed
from kneeedge.system.progress import Progress
from tests.tiny_onnx import tiny_spec

pytestmark = pytest.mark.torch


def turn(samples: tuple[float, ...], peak: float | None = 1.0) -> Turn:
    return Turn(1.0, (BatchRuns(1, samples, peak),), ())


@pytest.mark.parametrize("n", [2, 5, 24, 157, 1000])
def test_each_image_is_answered_once_and_batches_ascend(n):
    parts = share_out(n, 34, (8, 32))
    assert [i for _, part in parts for i in range(n)[part]] == list(range(n))
    assert [size for size, _ in parts] == sorted(size for size, _ in parts)


def test_the_study_of_472_images_supports_a_p90():
    _, alone = share_out(157, 34, (8, 32))[0]
    n_timed = [len(range(472)[i::3][alone]) - 1 for i in range(3)]
    assert 3 * min(n_timed) >= runs_needed(0.9)


def test_a_p90_of_too_few_runs_for_an_interval_is_absent():
    assert combine([turn((1.0,) * 11)] * 3, 1).p90_ms is None
    assert combine([turn((1.0,) * 12)] * 3, 1).p90_ms == 1.0


def test_runs_keep_every_sample_and_tell_the_spread_of_the_rounds():
    runs = combine([turn((10.0, 10.0), 5.0), turn((12.0, 12.0), 7.0)], 1)
    assert runs.rounds == ((10.0, 10.0), (12.0, 12.0))
    assert (runs.p50_ms, runs.spread, runs.peak_memory_mb) == (11.0, 0.2, 7.0)
    assert runs.images_per_second == pytest.approx(1000 / 11, abs=0.001)


def test_the_turns_answers_come_back_in_the_order_of_the_images():
    logits = np.array([[0.0, i] for i in range(5)])
    turns = [Turn(1.0, (), tuple(map(tuple, logits[i::2].tolist()))) for i in range(2)]
    truth = Truth("test", np.zeros(5, np.intp), ("",) * 5)
    answers = answers_in_order(
        Measurement(SUBJECTS[-1], turns=turns), Material(tiny_spec(), truth, 0)
    )
    assert (answers.logits == logits).all()


def test_numpy_normalises_as_the_model_does():
    import torch

    from kneeedge.training.model import IMAGENET_MEAN, IMAGENET_STD, KneeVGG

    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    model = KneeVGG(Architecture(((4,),) * 5), 2)
    wanted = model.normalise(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(normalise(images, IMAGENET_MEAN, IMAGENET_STD), wanted, atol=1e-6)


def test_a_product_that_is_only_emulated_is_not_tried_on_longer_sides(monkeypatch):
    torch = pytest.importorskip("torch")
    rates = {"fp32": 50.0, "bf16": 0.5, "int8": 200.0}
    tried = []

    def products(_threads):
        def of(name):
            return name, lambda side: lambda: (name, side)

        return [of(name) for name in rates]

    def best_run(run, _seconds):
        name, side = run()
        tried.append((name, side))
        return side**3 / rates[name] / 1e9, 1

    monkeypatch.setattr("benchmarks.peers.probe.products", products)
    monkeypatch.setattr("benchmarks.peers.probe.best_run", best_run)
    assert probe(ProbeRequest(torch.get_num_threads())) == Ceiling(**rates)
    assert [side for name, side in tried if name == "bf16"] == [SIDES[0]]
    assert [side for name, side in tried if name == "int8"] == list(SIDES)


def test_the_best_probe_of_each_arithmetic_counts():
    assert best_of([Ceiling(1.0, 5.0, 3.0), Ceiling(2.0, 4.0, 3.5)]) == Ceiling(2.0, 5.0, 3.5)


def test_a_failure_stays_in_the_table_with_its_reason():
    failure = "NotImplemented: no kernel"
    row = Row(name="static", title="static int8", arithmetic="int8", note="", failure=failure)
    line = table([row]).splitlines()[-1]
    assert f"failed: {failure}" in line
    assert line.count("|") == len(HEADS) + 1


def test_a_job_that_failed_is_told_by_the_line_of_its_error():
    assert error_line(1, b"Traceback\nValueError: bad\nbye\n") == "ValueError: bad"
    assert error_line(-9, b"") == "signal 9"


def test_files_are_made_after_those_that_they_are_made_from():
    order = list(MAKERS)
    assert all(order.index(source) < order.index(file) for file, source in MADE_FROM.items())


def test_every_subject_has_a_loader_and_a_file_that_someone_makes():
    from benchmarks.peers.load import LOADERS

    assert list(LOADERS) == [subject.name for subject in SUBJECTS]
    made = {subject.file for subject in SUBJECTS if not subject.file.startswith("kneeedge.")}
    assert made == {"model.safetensors", *MAKERS}


def test_the_size_holds_the_weights_beside_the_graph(tmp_path):
    (tmp_path / "plain.onnx").write_bytes(bytes(10_000))
    (tmp_path / "plain.onnx.data").write_bytes(bytes(990_000))
    assert size_mb(tmp_path / "plain.onnx") == 1.0


def test_an_unknown_subject_is_refused():
    message = "--only names the unknown tensorflow; choose from eager,"
    with pytest.raises(ConfigError, match=message):
        Options(run="run", data="data", threads=1, only=("tensorflow",))


def test_a_process_that_dies_gives_its_reason(tmp_path):
    request = TurnRequest(
        subject="eager",
        place=Place(str(tmp_path), str(tmp_path), 1),
        first=0,
        step=1,
        n_single=1,
        batch_sizes=(8,),
    )
    with pytest.raises(JobError, match="FileNotFoundError"):
        run_job("turn", request, Turn, tmp_path)


def measure(run: Path, data: Path, work: Path, *names: str) -> dict[str, Row]:
    options = Options(
        run=str(run),
        data=str(data),
        threads=1,
        only=names,
        rounds=2,
        n_single=2,
        batch_sizes=(4,),
        n_accuracy=24,
    )
    return {row.name: row for row in study(options, work, Progress(quiet=True)).rows}


@pytest.mark.slow
def test_peers_answer_as_the_original_and_a_missing_file_is_a_failing_row(
    trained_run, exported, phantoms, tmp_path
):
    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    for name in ("spec.json", "split.csv", "model.safetensors"):
        (run / name).symlink_to(trained_run / name)
    (run / "models" / exported["int8"].name).symlink_to(exported["int8"])
    names = ("eager", "onnx", "static", "kneeedge-fp16", "kneeedge-int8")
    rows = measure(run, phantoms, tmp_path, *names)
    assert tuple(rows) == names
    assert "RUN/models/no-fp16.onnx: no such model file" in rows["kneeedge-fp16"].failure
    assert rows["kneeedge-fp16"].single is None
    assert rows["onnx"].accuracy.flips == 0
    for name in ("eager", "static", "kneeedge-int8"):
        assert rows[name].failure is None
        assert rows[name].accuracy.n == 24
        assert [len(samples) for samples in rows[name].single.rounds] == [2, 2]
    assert rows["eager"].times_eager == 1.0


@pytest.mark.slow
def test_openvino_answers_as_the_original(trained_run, exported, phantoms, tmp_path):
    pytest.importorskip("openvino", reason="pip install --group peers")
    rows = measure(trained_run, phantoms, tmp_path, "eager", "openvino", "openvino-kneeedge")
    assert rows["openvino"].accuracy.flips == 0
    assert rows["openvino-kneeedge"].failure is None


@pytest.mark.slow
def test_nncf_quantises_the_network(trained_run, exported, phantoms, tmp_path):
    pytest.importorskip("nncf", reason="pip install --group peers")
    rows = measure(trained_run, phantoms, tmp_path, "eager", "openvino-int8", "openvino")
    assert rows["openvino-int8"].failure is None
    assert rows["openvino-int8"].size_mb < 0.6 * rows["openvino"].size_mb
