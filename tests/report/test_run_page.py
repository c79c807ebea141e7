"""The page of a run, and of what moved between two: whole, alone, the same bytes, no pictures."""

import dataclasses
import hashlib
import json
import stat
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge.bench.page import bench_json
from kneeedge.cli.app import app
from kneeedge.data.dataset import scan
from kneeedge.inference.evaluation import evaluation_samples
from kneeedge.inference.metrics import evaluate
from kneeedge.inference.predictions import READ_INVERSE
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels import isolation
from kneeedge.pixels.phantom import write_dataset
from kneeedge.report.change_page import change_page
from kneeedge.report.charts import axis
from kneeedge.report.page import Record, page, record_html, words
from kneeedge.report.prose import prose
from kneeedge.report.run_facts import read_run
from kneeedge.report.run_page import run_page
from kneeedge.report.run_pictures import N_SAMPLES, _pictures, picture_reader, sample_figures
from kneeedge.runs.compare import compare_runs
from kneeedge.runs.findings import STRESS
from kneeedge.runs.folder import Run
from kneeedge.stress.run import StressRequest, stress
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import plain
from tests.bench_rows import accuracy, result, row
from tests.inverting_models import write_inverting
from tests.kept_runs import write_kept_run
from tests.report.pages import check_page
from tests.run_records import export_report, run_record
from tests.tiny_onnx import CLASSES, tiny_spec, write_tiny_model
from tests.tools import need

LABELS = [0, 1, 0, 1, 0, 1, 0, 1]
ANSWERS = [0, 1, 0, 1, 1, 1, 0, 0]
HOSTILE = ('Healthy"><script>alert(1)</script>', "O'&<img src=x onerror=alert(2)>")
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_auroc", "lr", "seconds")


def write_run(
    folder: Path, classes: tuple[str, ...] = CLASSES, answers: Sequence[int] = ANSWERS
) -> Run:
    """A finished run with all that a page shows; eight pictures below it."""
    spec = tiny_spec(classes=classes)
    hashes = [picture(folder.with_name(f"{folder.name}-data"), i) for i in range(len(LABELS))]
    run = write_kept_run(folder, LABELS, answers, hashes=hashes, spec=spec)
    data = folder.with_name(f"{folder.name}-data")
    for i, label in enumerate(LABELS):
        place = data / "test" / CLASSES[label] / f"{folder.name}-{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        (data / f"{i}.png").rename(place)
    run.write_config(
        dataclasses.replace(
            run_record(), data_root=str(data), classes=classes, positive=spec.positive
        )
    )
    recorded = run.read_answers(classes, "test", "")
    evaluation = evaluate(recorded.labels, recorded.probabilities, spec)
    run.write_metrics({"kept_epoch": 2, "epochs": 3, "test": plain(evaluation)})
    rows = [
        (float(n), 12.0 if n == 1 else 0.5 / n, 0.5 + 0.1 * n, 0.6, 0.7, 0.8 + 0.01 * n, 1e-4, 1.0)
        for n in (1, 2, 3)
    ]
    run.write_history(COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in rows])
    run.models.mkdir()
    run.write_export_report(export_report(fp32="pass", int8="inconclusive"))
    write_tiny_model(run.models / "tiny.fp32.onnx", classes=classes)
    return run


def picture(folder: Path, i: int) -> str:
    """Write a picture; its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(i).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(grey).save(folder / f"{i}.png")
    return hashlib.sha256((folder / f"{i}.png").read_bytes()).hexdigest()


def report(*given: object):
    return CliRunner().invoke(app, ["report", *map(str, given)])


def test_a_page_is_whole_alone_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert report(run.folder, "--html").exit_code == 0
    first = run.page.read_bytes()
    done = report("--html", "--json", "-", run.folder)
    assert json.loads(done.stdout)[0]["state"] == "finished"
    assert report(run.folder).exit_code == 0
    assert run.page.read_bytes() == first
    parser = check_page(first.decode())
    text = " ".join(parser.text)
    for said in (
        "Run run", "Not a medical device", "Data, splits and leaks", "kept: epoch 2", "ROC",
        "Calibration", "The wrongest answers", "2 of 8 answers on test are wrong", "CLAIM 2024",
        "inconclusive", "Not measured yet", "training 12 in epoch 1 is above",
    ):  # fmt: skip
        assert said in text, said


def test_no_picture_of_a_patient_is_in_it_unless_asked_for(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.figure("samples").write_bytes(b"\x89PNG\r\n\x1a\nof patients")
    plain_page = check_page(run_page(read_run(run.folder)))
    assert plain_page.sources == []
    assert any("run-4.png" in text for text in plain_page.text)
    place = tmp_path / "with.html"
    done = report(run.folder, "--with-images", "--html", place)
    assert done.exit_code == 0, done.output
    first = place.read_bytes()
    shown = check_page(first.decode())
    assert len(shown.sources) == 4  # two wrong answers, each with its class map; no training images
    assert "This page holds pictures of patients" in " ".join(shown.text)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert report(run.folder, "--with-images", "--html", place).exit_code == 0
    assert place.read_bytes() == first


def test_the_class_map_of_an_inverted_radiograph_is_over_the_inverse_that_was_read(
    tmp_path: Path,
) -> None:
    write_dataset(tmp_path / "data", {"test": 4}, size=64)
    first = min((tmp_path / "data").rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(first))).save(first)
    model = write_inverting(write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "model.onnx")
    predictor = Predictor(model, "cpu")
    _, samples = evaluation_samples(tmp_path / "data", predictor.spec.classes)
    with closing(picture_reader(predictor.spec, 64)) as reader:
        files = [reader.read(sample.path) for sample in samples]
    for sample, file in zip(samples, files, strict=True):
        answer = predictor.predict(sample.path, heatmap=True)
        shown, mapped, remark = _pictures(sample, file, predictor, answer.prediction)
        np.testing.assert_array_equal(shown, np.asarray(Image.open(sample.path)))
        np.testing.assert_array_equal(mapped, answer.heatmap)
        is_inverted = sample.path == first
        assert answer.inverted is is_inverted
        assert remark == (f"; {READ_INVERSE}" if is_inverted else "")


def test_a_picture_that_is_gone_or_another_one_is_said_and_not_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    data = tmp_path / "run-data/test"
    (data / CLASSES[0] / "run-4.png").unlink()
    Image.new("L", (40, 40)).save(data / CLASSES[1] / "run-7.png")
    parser = check_page(run_page(read_run(run.folder), with_images=True))
    assert parser.sources == []
    assert " ".join(parser.text).count("the file is gone, or is another one") == 2


def test_a_page_with_pictures_opens_none_in_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a picture was decoded beside the report")

    run = write_run(tmp_path / "run")
    write_dataset(tmp_path / "knees", {"train": 2 * N_SAMPLES, "val": 2}, size=48)
    dataset = scan(tmp_path / "knees")
    monkeypatch.setattr("kneeedge.pixels.pixel_path.decode_picture", opened)
    monkeypatch.setattr("kneeedge.pixels.picture.decode_picture", opened)
    monkeypatch.setattr(Image, "open", opened)
    parser = check_page(run_page(read_run(run.folder), with_images=True))
    assert len(parser.sources) == 4
    assert "".join(sample_figures(dataset, tiny_spec())).count("<img") == 2 * N_SAMPLES


def test_a_picture_that_crashes_its_decoder_costs_the_page_that_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "DECODER", "tests.fake_decoder")
    run = write_run(tmp_path / "segfault")
    parser = check_page(run_page(read_run(run.folder), with_images=True))
    assert parser.sources == []
    crashed = "no picture: the decoder crashed (signal 11, Segmentation fault)"
    assert " ".join(parser.text).count(crashed) == 2


def test_names_of_classes_images_and_records_cannot_leave_their_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", HOSTILE)
    name = '"><script>alert(3)<.json'
    (run.folder / name).write_text(json.dumps({'<i id="x">': {"</pre><script>": "</pre>"}}))
    for page_text in (
        run_page(read_run(run.folder), with_images=True),
        change_page(
            read_run(run.folder), read_run(run.folder), compare_runs(run.folder, run.folder)
        ),
    ):
        parser = check_page(page_text)
        assert "<script" not in page_text
        assert any("<script>alert(1)</script>" in text for text in parser.text)


@pytest.mark.parametrize(
    "name", ["a\x00b", "a\x1b[31m", "a\u202eb", "a\nb", "]]>", "-->", "&lt;", "a\udce4b"]
)
def test_what_cannot_be_printed_is_written_as_its_escape(name: str) -> None:
    shown = words(name)
    assert all(c.isprintable() or "\udc80" <= c <= "\udcff" for c in shown)
    assert "<" not in shown
    check_page(page(f"run: {name}", [f"<p>{shown}</p>"]))


def test_a_page_replaces_an_older_page_and_nothing_else(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    mine = tmp_path / "mine.html"
    mine.write_text("<!doctype html><title>mine</title>")
    done = report(run.folder, "--html", mine)
    assert done.exit_code == 1
    assert "it is no page that kneeedge wrote" in done.stderr
    assert "mine" in mine.read_text()


def test_records_of_other_commands_have_a_section_each(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    rows = [
        {
            "kind": "noise",
            "severity": n,
            "accuracy": {"value": 0.9, "interval": {"low": 0.8, "high": 1.0}},
        }
        for n in range(5)
    ]
    (run.folder / "study.json").write_text(json.dumps({"n": 160, "rows": rows}))
    parser = check_page(run_page(read_run(run.folder)))
    text = " ".join(parser.text)
    assert "study.json" in text
    assert "0.9 [0.8, 1]" in text
    assert "study.rows" in parser.ids


def test_the_page_shows_what_corruption_costs_the_file_that_the_run_has(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    model = write_tiny_model(tmp_path / "model.onnx")
    request = StressRequest(
        models=(model,), data=tmp_path / "run-data", kinds=("noise", "mirrored")
    )
    found = stress(request, Progress(quiet=True))
    STRESS.write(run, found)
    facts = read_run(run.folder)
    stale = " ".join(check_page(run_page(facts)).text)
    assert "Measured with a file that the run no longer has" in stale
    hashes = frozenset({found.models[0].model_sha256})
    card = dataclasses.replace(facts.card, hashes=hashes)
    parser = check_page(run_page(dataclasses.replace(facts, card=card)))
    text = " ".join(parser.text)
    first = found.models[0]
    accuracies = " · ".join(f"{row.accuracy.value:.3f}" for row in first.of_kind("noise"))
    assert "1 · 2 · 3 · 4 · 5" in text
    assert accuracies in text
    assert "Wrong and not refused" in text
    assert "stress.models" in parser.ids


def test_what_was_measured_stands_with_its_warnings(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    measured = result(
        row("pytorch-fp32", 2500.0),
        row("int8", 12.5, accuracy(), model_sha256="0" * 64),
        warnings=("busy <b>",),
    )
    run.write_benchmark(bench_json(measured))
    text = " ".join(check_page(run_page(read_run(run.folder))).text)
    assert "2,500" in text
    assert "200.00" in text
    assert "Warning: busy <b>." in text
    assert "2 of 472 answers flipped" in text


def test_a_browser_takes_the_pages_by_their_own_policy(tmp_path: Path) -> None:
    """And would complain: of a page whose style was changed, it does."""
    need("chromium")
    run = write_run(tmp_path / "run")
    place = tmp_path / "page.html"
    place.write_text(run_page(read_run(run.folder), with_images=True))
    assert "Content Security Policy directive" not in complaints(place)
    place.write_text(place.read_text().replace("svg { display", "svg  { display"))
    assert "Content Security Policy directive" in complaints(place)


def complaints(path: Path) -> str:
    """What chromium says of a page."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    picture_of = f"--screenshot={path.with_suffix('.png')}"
    profile = f"--user-data-dir={path.with_name('profile')}"
    command = ["chromium", *options, profile, picture_of, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert path.with_suffix(".png").stat().st_size > 1000
    return done.stderr


def test_a_leaky_run_says_so_at_the_top(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    spec = run.read_spec()
    run.write_spec(dataclasses.replace(spec, training=dataclasses.replace(spec.training, leaked=7)))
    assert '<p class="verdict failed">LEAKY: 7 held-out images' in run_page(read_run(run.folder))


def test_what_moved_is_paired_named_and_linked_to_its_record(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old")
    new = write_run(tmp_path / "new", answers=LABELS)
    record = new.read_config()
    config = dataclasses.replace(record.config, lr=0.5, epochs=9)
    new.write_config(dataclasses.replace(record, config=config))
    done = report(old.folder, new.folder, "--html")
    assert done.exit_code == 0, done.output
    place = new.folder / "change-from-old.html"
    parser = check_page(place.read_text())
    text = " ".join(parser.text)
    assert "Paired on the same 8 test images" in text
    assert "Answers that differ: 2; 0 right to wrong, 2 wrong to right" in text
    assert "went right" in text
    assert "0.5" in text
    assert {"#new-config.config.lr", "#comparison.changes.accuracy"} <= set(parser.links)
    first = place.read_bytes()
    report(old.folder, new.folder)
    assert place.read_bytes() == first


def test_runs_of_other_images_are_not_paired_and_their_crossing_is_said(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old")
    new = write_run(tmp_path / "new")
    names = new.split.read_text().splitlines()
    moved = [line.replace(",test,", ",train,") if "-3.png" in line else line for line in names]
    new.split.write_text("\n".join(moved) + "\n")
    answers = new.answers.read_text().splitlines()
    kept = [line for line in answers if "-3.png" not in line]
    new.answers.write_text("\n".join(kept) + "\n")
    done = report(old.folder, new.folder, "--html", tmp_path / "change.html")
    assert done.exit_code == 3
    parser = check_page((tmp_path / "change.html").read_text())
    text = " ".join(parser.text)
    assert "Not paired: their test images are not the same: 8 and 7" in text
    assert "1 test images of the old run are train of the new" in text
    assert "old, its own images" in text


@pytest.mark.parametrize(
    ("given", "code"),
    [(("a", "b", "c"), 2), (("a", "b", "--with-images"), 2), (("none",), 1), ((), 2)],
)
def test_what_is_no_run_or_too_many_is_refused(given: tuple[str, ...], code: int) -> None:
    assert report(*given).exit_code == code


def test_a_record_is_json_again(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "b": [{"c": True}, {"d": []}], "e": {}, "ü": "<&\n"}
    parser = check_page(page("record", [record_html(Record("key", "r.json", value))]))
    inside = "".join(parser.text).partition("r.json")[2]
    assert json.loads(inside) == value


def test_an_axis_holds_its_values_between_round_ticks() -> None:
    for values in ([0.941, 0.982], [12.0, 0.1], [5.0], [0.0, 0.0], [-1e-7, 3e-7]):
        drawn = axis("x", values)
        assert drawn.low <= min(values) <= max(values) <= drawn.high
        assert 2 <= len(drawn.ticks) <= 12


def test_the_cards_markdown_becomes_lists_tables_and_paragraphs() -> None:
    lines = [
        "a **b** `c`",
        "",
        "- x",
        "- y<",
        "",
        "| h | i |",
        "| --- | --- |",
        "| 1 \\| 2 | &lt;b> |",
    ]
    html = "".join(prose(lines))
    assert "<p>a <strong>b</strong> <code>c</code></p><ul><li>x</li><li>y&lt;</li></ul>" in html
    assert "1 | 2" in html
    assert "&lt;b&gt;" in html
