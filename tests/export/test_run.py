"""A run becomes files that answer as it does, or that are set aside."""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

import onnx
import onnxruntime
from onnx import numpy_helper

from export import refusals as refusals_module
from export import run as export_module
from export import trials as trials_module
from export.any_size import with_resize
from export.golden import margin_of
from export.graph import float_nodes, layers
from export.options import ExportOptions
from export.ranges import METHODS, choose_ranges, collect
from export.run import export_run
from export.to_fp16 import to_fp16
from export.to_int8 import UNSIGNED, to_int8
from export.to_onnx import to_onnx
from kneeedge.data.dataset import scan
from kneeedge.errors import DataError, ModelFileError, NoAnswerError
from kneeedge.model.file import open_model
from kneeedge.model.file_record import INT8_TARGETS
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.reference import reference_in
from kneeedge.model.spec import Architecture, ModelSpec, PixelPath
from kneeedge.model.verdict import FAIL, PASS
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.picture import read_bytes
from kneeedge.pixels.pixel_path import load_input, to_input
from kneeedge.report.card import card_in
from kneeedge.report.export import gate_text
from kneeedge.runs.export_report import ExportReport
from kneeedge.runs.folder import Run
from kneeedge.runtime.golden import (
    AT_LIMIT,
    AT_THRESHOLD,
    PHANTOM,
    golden_inputs,
    read_golden,
    verify,
)
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json
from kneeedge.training.checkpoint import predict_logits
from kneeedge.training.model import KneeVGG
from tests.bench_rows import result, row

QUIET = Progress(quiet=True)
PRECISIONS = ("fp32", "fp16", "int8")
TOLERANCE = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.5}
"logits; the narrow network's own are of the order of 1"


@pytest.fixture(params=PRECISIONS)
def variant(request, exported) -> tuple[Path, float]:
    """A published file and how far its logits may be from the original's."""
    return exported[request.param], TOLERANCE[request.param]


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    """A copy of the trained run without exported files."""
    ignore = shutil.ignore_patterns("models")
    return shutil.copytree(trained_run, tmp_path / "run", symlinks=True, ignore=ignore)


def knees(n: int, side: int = 64) -> np.ndarray:
    return np.stack([phantom(seed, seed % 2, side) for seed in range(n)])[:, None]


def precisions_of(report: ExportReport) -> list[str]:
    return [file.report.precision for file in report.files]


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_every_batch_size_gives_the_originals_answers(variant, original, batch):
    path, tolerance = variant
    images = knees(batch)
    outputs = Session(path, "cpu").run(images)
    np.testing.assert_allclose(outputs.logits, predict_logits(original[0], images), atol=tolerance)
    assert outputs.cam.shape == (batch, 2, 2, 2)


def test_an_image_gets_the_same_answer_in_any_batch(variant):
    path, _ = variant
    session = Session(path, "cpu")
    images = knees(7)
    alone = np.concatenate([session.run(image[None]).logits for image in images])
    tolerance = 0.02 if "fp16" in path.name else 1e-4
    np.testing.assert_allclose(session.run(images).logits, alone, atol=tolerance)


def test_probabilities_are_the_softmax_of_the_logits(variant):
    session = Session(variant[0], "cpu")
    outputs = session.run(knees(3))
    exponentials = np.exp(outputs.logits / session.spec.temperature)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs.probabilities, expected, atol=1e-6)


def test_the_mean_of_the_map_plus_the_bias_is_the_logit(variant, original):
    outputs = Session(variant[0], "cpu").run(knees(3))
    bias = original[0].classifier[-1].bias.detach().numpy()
    np.testing.assert_allclose(outputs.cam.mean(axis=(2, 3)) + bias, outputs.logits, atol=1e-5)


def test_the_signature_is_the_contracts(variant):
    model = onnx.load(variant[0])
    (image,) = model.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, dims) == ("image", ["N", 1, 64, 64])
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    names = ["probabilities", "logits", "cam"]
    if Session(variant[0], "cpu").spec.novelty:
        names.append("distance")
    assert [output.name for output in model.graph.output] == names
    types = {output.type.tensor_type.elem_type for output in model.graph.output}
    assert types == {onnx.TensorProto.FLOAT}


def test_the_file_is_one_piece(variant):
    model = onnx.load(variant[0], load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not list(variant[0].parent.glob("*.data"))


def test_the_spec_travels_in_every_variant(variant, original):
    spec = Session(variant[0], "cpu").spec
    limit = original[1].novelty.limit
    method = original[1].novelty.method
    if spec.file.precision != "fp32":
        limit = spec.novelty.limit
        method += f", by this {spec.file.precision} file's own distances"
    novelty = dataclasses.replace(original[1].novelty, limit=limit, method=method)
    assert dataclasses.replace(spec, file=None) == dataclasses.replace(original[1], novelty=novelty)
    assert spec.file.precision in variant[0].name
    assert spec.file.verification.n == 60
    assert (spec.file.calibration is None) == (spec.file.precision != "int8")


def test_each_file_refuses_by_its_own_distances_and_says_so_everywhere(variant, phantoms, exported):
    """Of 60 images none, by a limit 0.1 % above the largest distance; fp32 has the run's."""
    session = Session(variant[0], "cpu")
    samples = scan(phantoms).split("val")
    inputs = [load_input(sample.path, session.spec.pixel_path) for sample in samples]
    distances = session.run(np.stack(inputs)[:, None]).distance
    limit = session.spec.novelty.limit
    assert limit == pytest.approx(1.001 * distances.max(), rel=1e-3)
    assert reference_in(session.metadata, variant[0]).images
    files = Run(exported["fp32"].parent.parent).read_export_report().files
    (file,) = [file for file in files if file.path == variant[0].name]
    refusals = file.report.refusals
    assert (refusals.variant, refusals.variant_limit) == (0, limit)
    assert (refusals.own_limit is None) == (file.report.precision == "fp32")
    assert f"the training images is over {limit:.6g} (" in card_in(open_model(variant[0]))
    run_card = Run(exported["fp32"].parent.parent).card.read_text(encoding="utf-8")
    for text in (card_in(open_model(variant[0])), run_card):
        assert f"{limit:.4g} |" in text


def test_a_file_with_a_low_limit_counts_its_refusals_in_its_reference(run, monkeypatch):
    """What a drift of refusals is held against follows from the file's limit, not the run's."""
    monkeypatch.setattr(refusals_module, "quantile_limit", lambda _: (0.0, ""))
    export_run(run, ExportOptions(precisions=("fp32", "fp16"), tolerance=1.0), QUIET)
    refused = {}
    for precision in ("fp32", "fp16"):
        path = Run(run).model_file("narrow", precision)
        images = reference_in(Session(path, "cpu").metadata, path).images
        refused[precision] = {image.refused for image in images}
    assert refused == {"fp32": {0.0}, "fp16": {1.0}}


def test_golden_answers_are_the_originals(variant, original):
    session = Session(variant[0], "cpu")
    golden = read_golden(session)
    images = np.stack([phantom(i, i / 7, 64) for i in range(8)])[:, None]
    inputs = golden_inputs(session, golden)
    assert np.array_equal(inputs[:8], images)
    expected = predict_logits(original[0], inputs)
    logits = [case.original_logits for case in golden.cases]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert verify(session, "", "").passed


def test_hard_golden_inputs_lie_on_both_sides_as_near_as_machines_differ(variant):
    session = Session(variant[0], "cpu")
    golden = read_golden(session)
    margin = margin_of(session.spec, np.zeros(2))
    margins = [margin(case.file_logits) for case in golden.cases if case.kind == AT_THRESHOLD]
    assert {np.sign(value) for value in margins} == {-1.0, 1.0}
    least = 2 * golden.device_tolerance
    assert all(abs(value) >= least for value in margins)
    assert np.median(np.abs(margins)) < 4 * least
    easy = [margin(case.file_logits) for case in golden.cases if case.kind == PHANTOM]
    assert len(easy) == 8
    novelty = session.spec.novelty
    if novelty is not None:
        excess = [
            case.file_distance - novelty.limit for case in golden.cases if case.kind == AT_LIMIT
        ]
        assert all(abs(value) >= golden.distance_tolerance for value in excess)


def test_int8_really_computes_in_int8(exported):
    model = onnx.load(exported["int8"])
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weights = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    in_float = Session(exported["int8"], "cpu").spec.file.calibration.float_layers
    assert sum(kinds.get(name) == onnx.TensorProto.INT8 for name in weights) == 16 - len(in_float)
    assert not any(node.op_type == "Relu" for node in model.graph.node)
    assert exported["int8"].stat().st_size < 0.5 * exported["fp32"].stat().st_size


def test_fp16_really_holds_fp16(exported):
    tensors = onnx.load(exported["fp16"]).graph.initializer
    weights = [t for t in tensors if len(t.dims) == 4 and t.name.startswith("features")]
    assert [t.data_type for t in weights] == [onnx.TensorProto.FLOAT16] * 16


def test_fp16_casts_once_in_and_once_out(exported):
    casts = [node for node in onnx.load(exported["fp16"]).graph.node if node.op_type == "Cast"]
    spec = Session(exported["fp16"], "cpu").spec
    n_distance = 2 if spec.novelty else 0
    # uint8 → fp32, fp32 → fp16, fp16 → fp32 for the head and for each block of the distance;
    # and the rows and columns of an image that are not blank
    assert len(casts) == 3 + n_distance + (2 if spec.polarity else 0)


@pytest.mark.parametrize("target", INT8_TARGETS)
def test_every_int8_target_loads_and_answers(original, graph, phantoms, target):
    model, spec = original
    samples = scan(phantoms).split("train")[:20]
    histograms = collect(graph, samples, spec.pixel_path, QUIET)
    ranges = choose_ranges(histograms, "minmax", target == "tensorrt")
    quantised = to_int8(graph, ranges, target)
    session = onnxruntime.InferenceSession(quantised.SerializeToString())
    images = knees(4)
    (logits,) = session.run(["logits"], {"image": images})
    np.testing.assert_allclose(logits, predict_logits(model, images), atol=1.0)
    arrays = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    points = {name: array for name, array in arrays.items() if name.endswith("zero_point")}
    activations = [p for name, p in points.items() if "weight" not in name and "bias" not in name]
    expected_type = np.uint8 if target in UNSIGNED else np.int8
    assert {point.dtype for point in activations} == {np.dtype(expected_type)}
    if target == "tensorrt":
        assert all((point == 0).all() for point in points.values())
    if target == "any":
        weights = [a for a in arrays.values() if a.dtype == np.int8 and a.ndim == 4]
        assert max(np.abs(weight.astype(int)).max() for weight in weights) <= 64


def test_ranges_are_those_of_the_activations(original, graph, phantoms):
    model, spec = original
    samples = scan(phantoms).split("train")[:6]
    ranges = choose_ranges(collect(graph, samples, spec.pixel_path, QUIET), "minmax")
    images = np.stack([load_input(sample.path, spec.pixel_path) for sample in samples])[:, None]
    with torch.no_grad():
        pixels = model.normalise(torch.from_numpy(images))
        first = model.features[:3](pixels)  # convolution, batch norm, ReLU
        last = model.features(pixels)  # max-pooling, which ends it, keeps the largest value
    for layer, values in ((layers(graph)[0], first), (layers(graph)[-1], last)):
        assert ranges[layer.output][1] == pytest.approx(values.max().item(), abs=1e-4)


def test_the_chosen_and_the_rejected_recipes_are_in_the_file_and_the_report(exported):
    calibration = Session(exported["int8"], "cpu").spec.file.calibration
    (chosen,) = [trial for trial in calibration.trials if trial.chosen]
    assert (chosen.method, chosen.float_layers) == (calibration.method, calibration.float_layers)
    assert {trial.method for trial in calibration.trials} == set(METHODS)
    report = Run(exported["int8"].parent.parent).read_export_report()
    (file,) = [file for file in report.files if file.report.precision == "int8"]
    assert file.calibration == calibration
    text = gate_text(report)
    assert all(trial.method in text for trial in calibration.trials)
    assert f"* {calibration.method}" in text


def test_the_report_pairs_ranking_and_calibration_error_too(exported):
    for file in Run(exported["int8"].parent.parent).read_export_report().files:
        report = file.report
        assert report.auroc_interval.low <= report.auroc_change <= report.auroc_interval.high
        assert report.ece_interval.low <= report.ece_change <= report.ece_interval.high


def test_the_gate_refuses_a_model_that_was_broken_on_purpose(run, monkeypatch):
    """The classes' weights are swapped in the int8 graph: it loads, and answers the opposite."""
    real = trials_module.to_int8

    def broken(graph, ranges, target, float_layers):
        quantised = real(graph, ranges, target, float_layers)
        head = next(t for t in quantised.graph.initializer if len(t.dims) == 4 and t.dims[0] == 2)
        head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head)[::-1].copy(), head.name))
        return quantised

    monkeypatch.setattr(trials_module, "to_int8", broken)
    options = ExportOptions(precisions=("fp32", "int8"), search_minutes=0)
    report = export_run(run, options, QUIET)
    assert report.failed
    reports = {file.report.precision: file.report for file in report.files}
    assert (reports["fp32"].verdict, reports["int8"].verdict) == (PASS, FAIL)
    assert (run / "models/rejected/narrow.int8.onnx").is_file()
    assert not (run / "models/narrow.int8.onnx").exists()
    assert len(reports["int8"].flips) > 20
    assert all(case.path.startswith("val/") for case in reports["int8"].flips)


def test_the_card_in_a_file_shows_no_speed_of_the_file_whose_place_it_takes(run):
    measured = row("fp32", 12.0, model="models/narrow.fp32.onnx", model_sha256="0" * 64)
    Run(run).write_benchmark(to_json(result(measured)))
    export_run(run, ExportOptions(precisions=("fp32",)), QUIET)
    card = card_in(open_model(run / "models/narrow.fp32.onnx"))
    assert "## Speed\n\nNot measured yet" in card
    of_run = Run(run).card.read_text(encoding="utf-8")
    assert "Not measured yet" in of_run
    assert "not this run's files as they are: narrow.fp32.onnx." in of_run


def test_a_variant_that_answers_nan_is_set_aside_and_the_others_are_done(run, monkeypatch):
    real = export_module.to_fp16

    def overflowing(graph, float_layers):
        half = real(graph, float_layers)
        bias = next(t for t in half.graph.initializer if t.name.endswith("bias"))
        nans = numpy_helper.to_array(bias) * np.float16("nan")
        bias.CopyFrom(numpy_helper.from_array(nans, bias.name))
        return half

    monkeypatch.setattr(export_module, "to_fp16", overflowing)
    problem = r"rejected/narrow\.fp16\.onnx: fp16 gives no answers \(the network gave NaN"
    with pytest.raises(NoAnswerError, match=problem):
        export_run(run, ExportOptions(tolerance=0.2, search_minutes=0), QUIET)
    assert precisions_of(Run(run).read_export_report()) == ["fp32", "int8"]
    assert (run / "models/rejected/narrow.fp16.onnx").is_file()
    names = [path.name for path in (run / "models").iterdir()]
    assert not [name for name in names if "fp16" in name or name.endswith(".part")]


def test_a_later_export_keeps_the_other_variants_in_the_report(run):
    for precision in ("fp32", "fp16", "fp32"):
        export_run(run, ExportOptions(precisions=(precision,)), QUIET)
    assert precisions_of(Run(run).read_export_report()) == ["fp32", "fp16"]


def test_the_report_of_another_kneeedge_is_written_anew(run):
    (run / "models").mkdir()
    (run / "models/report.json").write_text('{"run": "narrow", "files": [], "unknown": 1}')
    export_run(run, ExportOptions(precisions=("fp32",)), QUIET)
    assert precisions_of(Run(run).read_export_report()) == ["fp32"]


def test_images_that_cannot_calibrate_are_said_before_the_first_file(run, monkeypatch):
    def begin(*_):
        pytest.fail("a file was begun")

    def refuse(*_):
        problem = "this calibration image also stands in val or test"
        raise DataError("x.png", problem, "leave out int8")

    monkeypatch.setattr(export_module.Exporter, "publish", begin)
    monkeypatch.setattr(export_module, "choose_images", refuse)
    with pytest.raises(DataError, match="also stands in val or test"):
        export_run(run, ExportOptions(), QUIET)


def test_the_classifier_head_exports_without_a_map():
    torch.manual_seed(0)
    channels = tuple((16,) * len(block) for block in Architecture().channels)
    architecture = Architecture(channels, head="classifier")
    spec = ModelSpec(
        name="k",
        classes=("a", "b", "c"),
        positive="c",
        architecture=architecture,
        pixel_path=PixelPath(224),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        training=TrainingRecord(
            recipe="default", weights="none", seed=0, data_sha256="", n_images={}, versions={}
        ),
        temperature=2.0,
    )
    model = KneeVGG(architecture, 3).eval()
    graph = to_onnx(model, spec)
    operators = {
        "Cast", "Mul", "Add", "Conv", "Relu", "MaxPool",
        "Reshape", "Flatten", "Gemm", "Div", "Softmax",
    }  # fmt: skip
    assert {node.op_type for node in graph.graph.node} <= operators
    images = knees(2, 224)
    for variant in (graph, to_fp16(graph)):
        session = onnxruntime.InferenceSession(variant.SerializeToString())
        probabilities, logits = session.run(["probabilities", "logits"], {"image": images})
        np.testing.assert_allclose(logits, predict_logits(model, images), atol=1e-2)
        exponentials = np.exp(logits / 2.0)
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert len(float_nodes(graph)) < 10


def test_the_file_knows_the_images_it_was_trained_on(exported, phantoms):
    seen = json.loads(Session(exported["fp32"], "cpu").metadata["kneeedge.seen"])
    assert {split: len(hashes) for split, hashes in seen.items()} == {"train": 120, "val": 60}
    assert scan(phantoms).split("train")[0].sha256[:16] in seen["train"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_file_knows_what_its_validation_images_look_like_to_it(exported, phantoms, precision):
    session = Session(exported[precision], "cpu")
    reference = reference_in(session.metadata, exported[precision])
    samples = sorted(scan(phantoms).split("val"), key=lambda sample: sample.sha256)
    outputs = session.run(load_input(samples[0].path, session.spec.pixel_path)[None, None])
    first = next(iter(reference.images))
    assert (reference.split, reference.n, len(reference.images)) == ("val", 60, 60)
    assert first.distance == pytest.approx(float(outputs.distance[0]), rel=0.01)
    assert first.side == 64.0


def test_a_validation_image_is_opened_once_for_the_original_and_once_for_the_file(
    run, phantoms, monkeypatch
):
    """What the file says of how the images look is made of what the gate read of them."""
    opened = Counter()

    def counted(path):
        opened[path] += 1
        return read_bytes(path)

    monkeypatch.setattr("kneeedge.pixels.reader.read_bytes", counted)
    monkeypatch.setattr("kneeedge.pixels.pixel_path.read_bytes", counted)
    export_run(run, ExportOptions(precisions=("fp32",)), QUIET)
    assert opened == {sample.path: 2 for sample in scan(phantoms).split("val")}


def test_a_file_that_misses_its_own_golden_answers_says_fail_itself(run, monkeypatch):
    def missed(*arguments):
        return dataclasses.replace(verify(*arguments), passed=False)

    monkeypatch.setattr(export_module, "verify", missed)
    assert export_run(run, ExportOptions(precisions=("fp32",)), QUIET).failed
    (path,) = (run / "models/rejected").iterdir()
    assert Session(path, "cpu").spec.file.verification.verdict == FAIL


def test_an_any_size_file_answers_pictures_as_the_file_beside_it_answers_their_inputs(
    run, tmp_path, trained_run
):
    options = ExportOptions(precisions=("fp32", "int8"), search_minutes=0.0, any_size=True)
    report = export_run(run, options, QUIET)
    assert not report.failed
    for file in report.files:
        beside = file.any_size
        assert (beside.n, beside.n_changed) == (2 * file.report.n, 0)
        assert beside.n_sizes > file.report.n / 2
        path = Run(run).models / beside.path
        assert file_sha256(path) == beside.sha256
        any_size = Session(path, "cpu")
        plain = Session(Run(run).models / file.path, "cpu")
        assert verify(any_size, "", "").passed
        moved = rewritten(path, tmp_path / path.name)
        report_of_moved = verify(Session(moved, "cpu"), "", "")
        assert {picture.step for picture in report_of_moved.pictures} >= {
            "the resize inside the file"
        }
        assert not report_of_moved.passed
        rng = np.random.default_rng(0)
        for height, width in ((64, 64), (65, 64), (300, 20), (20, 300), (517, 431)):
            grey = rng.integers(0, 256, (height, width), dtype=np.uint8)
            expected = plain.run(to_input(grey, plain.spec.pixel_path)[None, None])
            assert np.array_equal(any_size.run_picture(grey).logits, expected.logits)
        with pytest.raises(ModelFileError, match="it takes pixels that are resized already"):
            plain.run_picture(grey)
    assert "the same answers to the last bit on" in gate_text(report)


def shift(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Let the resize inside the graph look a quarter of a pixel aside."""
    half = next(t for t in graph.graph.initializer if t.name == "resize.float64.0.5")
    half.CopyFrom(numpy_helper.from_array(np.float64(0.25), half.name))
    return graph


def rewritten(path: Path, copy: Path) -> Path:
    onnx.save(shift(onnx.load(path)), copy)
    return copy


def test_an_any_size_file_that_resizes_otherwise_is_removed(run, monkeypatch):
    def shifted(network, pixel_path):
        return shift(with_resize(network, pixel_path))

    monkeypatch.setattr("export.run.with_resize", shifted)
    options = ExportOptions(precisions=("fp32",), any_size=True)
    report = export_run(run, options, QUIET)
    assert report.failed
    assert report.files[0].any_size.n_changed > 0
    assert list((Run(run).models / "any-size").iterdir()) == []
    assert "FAIL, and it is removed" in gate_text(report)
