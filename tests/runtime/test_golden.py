"""`kneeedge verify` on devices that answer otherwise: the file is altered, or what the CPU can."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import SpecError
from kneeedge.model.spec import GOLDEN_KEY, SPEC_KEY
from kneeedge.report.verification import golden_text
from kneeedge.runtime.golden import (
    AT_THRESHOLD,
    int8_concern,
    read_golden,
    verify,
)
from kneeedge.runtime.golden_pictures import decode_png, encode_png
from kneeedge.runtime.session import Session
from tests.tiny_onnx import write_tiny_model

VNNI = ("avx2", "avx512_vnni")
PLAIN = ("avx2",)
ARM = ("asimd", "asimddp")
REMEDY = "export for every CPU with `kneeedge export --int8-target any`"


@pytest.fixture
def model(tmp_path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx", "int8")


def rewrite(path: Path, change) -> Path:
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, path)
    return path


def change_entry(path: Path, key: str, change) -> Path:
    """Alter one of the file's JSON documents."""

    def edit(graph):
        entry = next(entry for entry in graph.metadata_props if entry.key == key)
        document = json.loads(entry.value)
        change(document)
        entry.value = json.dumps(document)

    return rewrite(path, edit)


def made_for(path: Path, target: str) -> Path:
    return change_entry(path, SPEC_KEY, lambda spec: spec["file"].update(int8_target=target))


def report_of(path: Path, isa: tuple[str, ...] = VNNI):
    return verify(Session(path, "cpu"), "", "some CPU", isa)


def test_the_exporting_machine_passes_its_own_file(model):
    report = report_of(made_for(model, "vnni"))
    assert (report.passed, report.concern, report.wrong_cases) == (True, "", ())
    assert golden_text(report).startswith("PASS")


@pytest.mark.parametrize("name", ["w1", "w2", "b2"])
def test_altered_weights_fail(model, name):
    def halve(graph):
        tensor = next(t for t in graph.graph.initializer if t.name == name)
        half = numpy_helper.to_array(tensor) * np.float32(0.5)
        tensor.CopyFrom(numpy_helper.from_array(half, name))

    report = report_of(rewrite(model, halve))
    assert not report.passed
    assert golden_text(report).startswith("FAIL")
    assert "use another provider or precision" in golden_text(report)


@pytest.mark.parametrize("field", ["original_logits", "file_logits"])
def test_one_altered_golden_answer_fails_and_is_named(model, field):
    def alter(golden):
        golden["cases"][1][field][0] += 0.01

    report = report_of(change_entry(model, GOLDEN_KEY, alter))
    assert not report.passed
    assert report.wrong_cases == (1,)


def test_the_report_says_which_instruction_sets_both_machines_have(model):
    change_entry(model, GOLDEN_KEY, lambda golden: golden.update(isa=list(VNNI), cpu="maker"))
    report = report_of(model, PLAIN)
    assert (report.isa, report.file_isa) == (PLAIN, VNNI)


def test_a_cpu_without_vnni_passes_with_a_word_on_speed_and_the_remedy(model):
    text = golden_text(report_of(made_for(model, "vnni"), PLAIN))
    assert text.startswith("PASS")
    assert "made for x86 CPUs with VNNI" in text
    assert text.endswith("it may be slow on this CPU; " + REMEDY)


def test_a_cpu_without_vnni_that_answers_otherwise_fails_and_says_why(model):
    made_for(model, "vnni")
    change_entry(model, GOLDEN_KEY, lambda golden: golden["cases"][0]["file_logits"].reverse())
    text = golden_text(report_of(model, PLAIN))
    assert text.startswith("FAIL")
    assert text.endswith(REMEDY)


@pytest.mark.parametrize(
    ("target", "isa", "expected"),
    [
        ("vnni", VNNI, ""),
        ("vnni", ("avx2", "avx_vnni"), ""),
        ("any", PLAIN, ""),
        ("any", VNNI, ""),
        ("any", ARM, ""),
        ("arm", ARM, ""),
        (None, PLAIN, ""),
        ("vnni", (), ""),
        ("vnni", PLAIN, REMEDY),
        ("vnni", ARM, REMEDY),
        ("arm", VNNI, REMEDY),
        ("tensorrt", VNNI, REMEDY),
    ],
)
def test_a_file_for_another_cpu_says_how_to_make_one_for_this(target, isa, expected):
    concern = int8_concern(target, "cpu", isa)
    assert concern.endswith(expected)
    assert bool(concern) == bool(expected)


def test_what_the_cpu_can_do_is_no_concern_elsewhere():
    assert int8_concern("vnni", "cuda", PLAIN) == ""


def test_the_command_tells_the_verdict_of_a_device_without_vnni(model, monkeypatch):
    made_for(model, "vnni")
    monkeypatch.setattr("kneeedge.system.machine.isa_flags", lambda: PLAIN)
    done = CliRunner().invoke(app, ["verify", str(model), "--provider", "cpu", "--json", "-"])
    assert done.exit_code == 0
    (report,) = json.loads(done.stdout)
    assert report["passed"]
    assert report["isa"] == list(PLAIN)
    assert report["concern"].endswith(REMEDY)


def test_the_command_exits_3_on_a_device_that_answers_otherwise(model):
    change_entry(model, GOLDEN_KEY, lambda golden: golden["cases"][0]["file_logits"].reverse())
    done = CliRunner().invoke(app, ["verify", str(model), "--provider", "cpu"])
    assert done.exit_code == 3
    assert done.stdout.startswith("FAIL")


def test_a_golden_set_without_the_exporting_machine_is_read(model):
    """Files of earlier versions do not name it."""

    def forget(golden):
        golden.pop("cpu", None)
        golden.pop("isa", None)

    assert report_of(change_entry(model, GOLDEN_KEY, forget)).file_isa == ()


@pytest.mark.parametrize("logits", [[float("nan"), 0.0], [0.0]])
def test_golden_answers_that_no_device_could_miss_are_refused(model, logits):
    change_entry(model, GOLDEN_KEY, lambda golden: golden["cases"][0].update(file_logits=logits))
    with pytest.raises(SpecError, match="golden answers are"):
        report_of(model)


@pytest.mark.parametrize("png", ["?", encode_png(np.zeros((32, 32), np.uint8))])
def test_a_golden_input_that_is_no_image_of_the_networks_size_is_refused(model, png):
    change_entry(model, GOLDEN_KEY, lambda golden: golden["cases"][0].update(png=png))
    with pytest.raises(SpecError, match="golden inputs are damaged"):
        report_of(model)


def test_verify_says_that_its_inputs_are_phantoms_and_what_they_do_not_show(model):
    done = CliRunner().invoke(app, ["verify", str(model), str(model), "--provider", "cpu"])
    assert done.stdout.count(" golden inputs (phantoms) on cpu ") == 2
    assert done.stdout.count("not how well the model answers") == 1
    assert "Not a medical device" in done.stdout
    (record, *_) = json.loads(
        CliRunner().invoke(app, ["verify", str(model), "--provider", "cpu", "--json", "-"]).stdout
    )
    assert record["inputs"] == "phantoms: synthetic radiographs, of no patient"


def test_an_answer_that_flips_is_counted_however_small_the_change(model):
    """At the threshold a change within the tolerance is another answer."""

    def move_to_the_threshold(golden):
        case = golden["cases"][1]
        healthy, diseased = case["file_logits"]
        middle = (healthy + diseased) / 2
        golden["device_tolerance"] = golden["original_tolerance"] = abs(diseased - healthy)
        case["kind"] = AT_THRESHOLD
        case["file_logits"] = [middle + 1e-4, middle - 1e-4]
        if healthy > diseased:
            case["file_logits"].reverse()

    report = report_of(change_entry(model, GOLDEN_KEY, move_to_the_threshold))
    assert (report.n_hard, report.flips, report.wrong_cases) == (1, (1,), ())
    assert not report.passed
    assert "1 of them where a small change flips the answer: 1 flip" in golden_text(report)


@pytest.mark.parametrize(
    ("field", "value", "step"),
    [
        ("input_sha256", "0" * 64, "resizing"),
        ("grey_sha256", "0" * 64, ""),
        ("content", encode_png(np.zeros((9, 9), np.uint8)), "decoding"),
        ("content", "AAAA", "decoding"),
    ],
)
def test_a_picture_that_comes_out_otherwise_says_at_which_step(model, field, value, step):
    def alter(golden):
        golden["pictures"][1][field] = value

    report = report_of(change_entry(model, GOLDEN_KEY, alter))
    result = report.pictures[1]
    assert (result.passed, result.step) == (step == "", step)
    assert report.passed == result.passed
    if step:
        assert f"tall.png differs in {step}" in golden_text(report)


def test_a_jpeg_is_held_to_its_stated_number_of_levels(model):
    def alter(golden):
        jpeg = golden["pictures"][-1]
        assert jpeg["name"] == "reduced.jpg"
        seen = decode_png(jpeg["input_png"], 64).astype(int)
        seen[0, 0] += 2 if seen[0, 0] < 100 else -2
        jpeg["input_png"] = encode_png(seen.astype(np.uint8))
        jpeg["input_sha256"] = jpeg["grey_sha256"] = "0" * 64

    (*_, result) = report_of(change_entry(model, GOLDEN_KEY, alter)).pictures
    assert (result.passed, result.largest_change, result.share_changed) == (True, 2, 1 / 64**2)

    def tighten(golden):
        golden["pictures"][-1]["levels"] = 1

    (*_, result) = report_of(change_entry(model, GOLDEN_KEY, tighten)).pictures
    assert not result.passed


def test_the_golden_pictures_are_tall_wide_deep_and_jpeg(model):
    pictures = read_golden(Session(model, "cpu")).pictures
    names = [picture.name for picture in pictures]
    assert {"tall.png", "wide.png", "deep.png", "full.jpg", "reduced.jpg"} <= set(names)
    with Image.open(
        io.BytesIO(base64.b64decode(pictures[names.index("deep.png")].content))
    ) as deep:
        assert deep.mode == "I;16"
    assert all(picture.levels == 0 for picture in pictures if picture.name.endswith(".png"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("content", "no base64"), ("input_png", "no base64"), ("input_png", "AAAA")],
)
def test_a_damaged_golden_picture_is_one_line(model, field, value):
    def alter(golden):
        golden["pictures"][-1] |= {"input_sha256": "", field: value}

    with pytest.raises(SpecError, match="its golden pictures are damaged"):
        report_of(change_entry(model, GOLDEN_KEY, alter))
