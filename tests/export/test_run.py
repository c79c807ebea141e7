import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import onnx
from onnx import numpy_helper

from export import run as export_module
from export import search as search_module
from export.calibration import choose_images
from export.gate import pair
from export.graph import float_nodes, layers
from export.ranges import METHODS, choose_ranges, collect
from export.run import ExportOptions, export_run
from export.to_fp16 import to_fp16
from export.to_int8 import choose_target, to_int8
from export.to_onnx import to_onnx
from kneeedge.data.dataset import Sample, scan
from kneeedge.errors import ConfigError, DataError, NoAnswerError, NotFoundError
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import Architecture, ModelSpec, PixelPath
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS, judge
from kneeedge.pixels.phantom import phantom
from kneeedge.pixels.pixel_path import load_input
from kneeedge.report.export import gate_text
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.folder import Run, open_run
from kneeedge.runtime.golden import read_golden, verify
from kneeedge.runtime.session import Session
from kneeedge.statistics.paired import paired_change
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original, predict_logits
from kneeedge.training.model import KneeVGG

QUIET = Progress(quiet=True)
PRECISIONS = ("fp32", "fp16", "int8")
TOLERANCE = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.5}
"logits; the narrow network's own are of the order of 1"


@pytest.fixture(params=PRECISIONS)
def variant(request, exported) -> tuple[Path, float]:
    """A published file and how far its logits may be from the original's."""
    return exported[request.param], TOLERANCE[request.param]


@pytest.fixture(scope="module")
def original(trained_run):
    return load_original(open_run(trained_run))


def knees(n: int, side: int = 64) -> np.ndarray:
    return np.stack([phantom(seed, seed % 2, side) for seed in range(n)])[:, None]


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_every_batch_size_gives_the_originals_answers(variant, original, batch):
    path, tolerance = variant
    images = knees(batch)
    outputs = Session(path, "cpu").run(images)
    np.testing.assert_allclose(outputs.logits, predict_logits(original[0], images), atol=tolerance)
    assert outputs.cam.shape == (batch, 2, 2, 2)


def test_an_image_gets_the_same_answer_in_any_batch(variant):
    session, images = Session(variant[0], "cpu"), knees(7)
    alone = np.concatenate([session.run(image[None]).logits for image in images])
    np.testing.assert_allclose(
        session.run(images).logits, alone, atol=1e-4 if "fp16" not in variant[0].name else 0.02
    )


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
    assert (image.name, image.type.tensor_type.elem_type, dims) == (
        "image",
        onnx.TensorProto.UINT8,
        ["N", 1, 64, 64],
    )
    names = ["probabilities", "logits", "cam"] + (
        ["distance"] if Session(variant[0], "cpu").spec.novelty else []
    )
    assert [output.name for output in model.graph.output] == names
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {
        onnx.TensorProto.FLOAT
    }


def test_the_file_is_one_piece(variant):
    model = onnx.load(variant[0], load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not list(variant[0].parent.glob("*.data"))


def test_the_spec_travels_in_every_variant(variant, original):
    spec = Session(variant[0], "cpu").spec
    assert dataclasses.replace(spec, file=None) == original[1]
    assert spec.file.precision in variant[0].name
    assert spec.file.verification.n == 60
    assert (spec.file.calibration is None) == (spec.file.precision != "int8")


def test_golden_answers_are_the_originals(variant, original):
    session = Session(variant[0], "cpu")
    golden = read_golden(session)
    answers = predict_logits(
        original[0], np.stack([phantom(i, i / 7, 64) for i in range(8)])[:, None]
    )
    np.testing.assert_allclose([case.original_logits for case in golden.cases], answers, atol=1e-5)
    assert verify(session, "", "").passed


def test_int8_really_computes_in_int8(exported):
    model = onnx.load(exported["int8"])
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weights = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    in_float = Session(exported["int8"], "cpu").spec.file.calibration.float_layers
    assert sum(kinds.get(name) == onnx.TensorProto.INT8 for name in weights) == 16 - len(in_float)
    assert not any(node.op_type == "Relu" for node in model.graph.node)
    assert exported["int8"].stat().st_size < 0.5 * exported["fp32"].stat().st_size


def test_fp16_really_holds_fp16(exported):
    model = onnx.load(exported["fp16"])
    kinds = [
        t.data_type
        for t in model.graph.initializer
        if len(t.dims) == 4 and t.name.startswith("features")
    ]
    assert kinds == [onnx.TensorProto.FLOAT16] * 16


def test_fp16_casts_once_in_and_once_out(exported):
    casts = [node for node in onnx.load(exported["fp16"]).graph.node if node.op_type == "Cast"]
    has_distance = Session(exported["fp16"], "cpu").spec.novelty is not None
    assert (
        len(casts) == 3 + has_distance
    )  # uint8 → fp32, fp32 → fp16, fp16 → fp32 for the head and for the distance


@pytest.mark.parametrize("target", ["x86", "x86-no-vnni", "arm", "tensorrt"])
def test_every_int8_target_loads_and_answers(original, phantoms, target):
    model, spec = original
    graph = to_onnx(model, spec)
    samples = scan(phantoms).split("train")[:20]
    histograms = collect(graph, samples, spec.pixel_path, QUIET)
    quantised = to_int8(graph, choose_ranges(histograms, "minmax", target == "tensorrt"), target)
    import onnxruntime

    session = onnxruntime.InferenceSession(quantised.SerializeToString())
    images = knees(4)
    np.testing.assert_allclose(
        session.run(["logits"], {"image": images})[0], predict_logits(model, images), atol=1.0
    )
    points = {
        t.name: numpy_helper.to_array(t)
        for t in quantised.graph.initializer
        if t.name.endswith("zero_point")
    }
    activations = [p for name, p in points.items() if "weight" not in name and "bias" not in name]
    assert {p.dtype for p in activations} == {
        np.dtype(np.uint8 if target.startswith("x86") else np.int8)
    }
    if target == "tensorrt":
        assert all((point == 0).all() for point in points.values())
    if target == "x86-no-vnni":
        weights = [
            t
            for t in quantised.graph.initializer
            if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4
        ]
        assert max(np.abs(numpy_helper.to_array(t).astype(int)).max() for t in weights) <= 64


def test_ranges_are_those_of_the_activations(original, phantoms):
    model, spec = original
    graph = to_onnx(model, spec)
    samples = scan(phantoms).split("train")[:6]
    ranges = choose_ranges(collect(graph, samples, spec.pixel_path, QUIET), "minmax")
    images = torch.from_numpy(
        np.stack([load_input(sample.path, spec.pixel_path) for sample in samples])[:, None]
    )
    with torch.no_grad():
        first = model.features[:3](model.normalise(images))  # convolution, batch norm, ReLU
        last = model.features(
            model.normalise(images)
        )  # max-pooling, which ends it, keeps the largest value
    for layer, values in ((layers(graph)[0], first), (layers(graph)[-1], last)):
        assert ranges[layer.output][1] == pytest.approx(values.max().item(), abs=1e-4)


def test_calibration_is_stratified_sorted_and_from_train_alone(phantoms):
    dataset = scan(phantoms)
    chosen = choose_images(dataset, 50, seed=0)
    assert [sample.label for sample in chosen.samples].count(0) == 25
    assert [sample.name for sample in chosen.samples] == sorted(
        sample.name for sample in chosen.samples
    )
    assert {sample.split for sample in chosen.samples} == {"train"}
    assert chosen == choose_images(dataset, 50, seed=0)
    assert chosen != choose_images(dataset, 50, seed=1)


def test_recipes_are_compared_on_other_training_images_where_there_are_any(phantoms):
    dataset = scan(phantoms)
    chosen = choose_images(dataset, 50, seed=0, n_scored=40)
    assert not {sample.name for sample in chosen.samples} & {
        sample.name for sample in chosen.scored
    }
    assert {sample.split for sample in chosen.scored} == {"train"}
    assert [sample.label for sample in chosen.scored].count(0) == 20
    everything = choose_images(dataset, 1000, seed=0, n_scored=40)
    assert {sample.name for sample in everything.scored} < {
        sample.name for sample in everything.samples
    }


def test_the_chosen_and_the_rejected_recipes_are_in_the_file_and_the_report(exported):
    calibration = Session(exported["int8"], "cpu").spec.file.calibration
    (chosen,) = [trial for trial in calibration.trials if trial.chosen]
    assert (chosen.method, chosen.float_layers) == (calibration.method, calibration.float_layers)
    assert {trial.method for trial in calibration.trials} == set(METHODS)
    report = Run(exported["int8"].parent.parent).read_export_report()
    assert (
        next(file for file in report.files if file.report.precision == "int8").calibration
        == calibration
    )
    text = gate_text(report)
    assert all(trial.method in text for trial in calibration.trials)
    assert f"* {calibration.method}" in text


def test_the_report_pairs_ranking_and_calibration_too(exported):
    for file in Run(exported["int8"].parent.parent).read_export_report().files:
        report = file.report
        assert report.auroc_interval.low <= report.auroc_change <= report.auroc_interval.high
        assert report.ece_interval.low <= report.ece_change <= report.ece_interval.high


def test_a_ranking_that_saturated_probabilities_hide_is_seen(original):
    """Every probability rounds to 1, and only the logits still rank."""
    spec = original[1]
    samples = tuple(
        Sample(
            path=Path(f"{i}.png"), name=f"{i}.png", sha256="", split="val", label=i % 2, group=""
        )
        for i in range(40)
    )
    margins = 800.0 + np.arange(40) * np.where(np.arange(40) % 2, 1, -1)
    before = np.column_stack([np.zeros(40), margins])
    after = np.column_stack([np.zeros(40), 1600 - margins])
    report = pair(samples, Answers(ORIGINAL, spec, before), Answers("int8", spec, after), "cpu")
    assert report.auroc_change == pytest.approx(-1.0)


def test_a_calibration_image_that_is_held_out_too_is_refused(phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "data")
    shutil.copy(
        next((tmp_path / "data/test/Healthy").iterdir()), tmp_path / "data/train/Healthy/copy.png"
    )
    with pytest.raises(DataError, match="also stands in val or test"):
        choose_images(scan(tmp_path / "data"), 1000, seed=0)


def test_the_gate_refuses_a_model_that_was_broken_on_purpose(trained_run, tmp_path, monkeypatch):
    """The classes' weights are swapped in the int8 graph: it loads, runs, and answers the opposite."""
    shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run/models", ignore_errors=True)
    real = search_module.to_int8

    def broken(graph, ranges, target, float_layers):
        quantised = real(graph, ranges, target, float_layers)
        head = next(t for t in quantised.graph.initializer if len(t.dims) == 4 and t.dims[0] == 2)
        head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head)[::-1].copy(), head.name))
        return quantised

    monkeypatch.setattr(search_module, "to_int8", broken)
    report = export_run(
        tmp_path / "run", ExportOptions(precisions=("fp32", "int8"), search_minutes=0), QUIET
    )
    assert report.failed
    verdicts = {file.report.precision: file for file in report.files}
    assert (verdicts["fp32"].report.verdict, verdicts["int8"].report.verdict) == (PASS, FAIL)
    assert (tmp_path / "run/models/rejected/narrow.int8.onnx").is_file()
    assert not (tmp_path / "run/models/narrow.int8.onnx").exists()
    assert len(verdicts["int8"].report.flips) > 20
    assert all(case.path.startswith("val/") for case in verdicts["int8"].report.flips)


def test_a_variant_that_answers_nan_is_set_aside_and_the_others_are_done(
    trained_run, tmp_path, monkeypatch
):
    shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run/models", ignore_errors=True)
    real = export_module.to_fp16

    def overflowing(graph, float_layers):
        half = real(graph, float_layers)
        bias = next(t for t in half.graph.initializer if t.name.endswith("bias"))
        bias.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(bias) * np.float16("nan"), bias.name)
        )
        return half

    monkeypatch.setattr(export_module, "to_fp16", overflowing)
    with pytest.raises(
        NoAnswerError,
        match=r"rejected/narrow\.fp16\.onnx: fp16 gives no answers \(the network gave NaN",
    ):
        export_run(tmp_path / "run", ExportOptions(tolerance=0.2, search_minutes=0), QUIET)
    models = tmp_path / "run/models"
    assert [file.report.precision for file in Run(models.parent).read_export_report().files] == [
        "fp32",
        "int8",
    ]
    assert (models / "rejected/narrow.fp16.onnx").is_file()
    assert not [
        path for path in models.iterdir() if "fp16" in path.name or path.name.endswith(".part")
    ]


def test_a_later_export_keeps_the_other_variants_in_the_report(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run/models", ignore_errors=True)
    for precision in ("fp32", "fp16", "fp32"):
        export_run(tmp_path / "run", ExportOptions(precisions=(precision,)), QUIET)
    report = Run(tmp_path / "run").read_export_report()
    assert [file.report.precision for file in report.files] == ["fp32", "fp16"]


def test_the_report_of_another_kneeedge_is_written_anew(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run/models", ignore_errors=True)
    (tmp_path / "run/models").mkdir()
    (tmp_path / "run/models/report.json").write_text('{"run": "narrow", "files": [], "unknown": 1}')
    export_run(tmp_path / "run", ExportOptions(precisions=("fp32",)), QUIET)
    assert [file.report.precision for file in Run(tmp_path / "run").read_export_report().files] == [
        "fp32"
    ]


def test_images_that_cannot_calibrate_are_said_before_the_first_file(
    trained_run, tmp_path, monkeypatch
):
    shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run/models", ignore_errors=True)
    monkeypatch.setattr(
        export_module.Exporter, "publish", lambda *_: pytest.fail("a file was begun")
    )

    def refuse(*_):
        raise DataError(
            "x.png", "this calibration image also stands in val or test", "leave out int8"
        )

    monkeypatch.setattr(export_module, "choose_images", refuse)
    with pytest.raises(DataError, match="also stands in val or test"):
        export_run(tmp_path / "run", ExportOptions(), QUIET)


def test_the_classifier_head_exports_without_a_map(tmp_path):
    torch.manual_seed(0)
    architecture = Architecture(
        tuple((16,) * len(block) for block in Architecture().channels), head="classifier"
    )
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
    assert {node.op_type for node in graph.graph.node} <= {
        "Cast",
        "Mul",
        "Add",
        "Conv",
        "Relu",
        "MaxPool",
        "Reshape",
        "Flatten",
        "Gemm",
        "Div",
        "Softmax",
    }
    import onnxruntime

    images = knees(2, 224)
    for variant in (graph, to_fp16(graph)):
        session = onnxruntime.InferenceSession(variant.SerializeToString())
        probabilities, logits = session.run(["probabilities", "logits"], {"image": images})
        np.testing.assert_allclose(logits, predict_logits(model, images), atol=1e-2)
        scaled = np.exp(logits / 2.0)
        np.testing.assert_allclose(
            probabilities, scaled / scaled.sum(axis=1, keepdims=True), atol=1e-5
        )
    assert len(float_nodes(graph)) < 10


def change(n: int, lost: int, gained: int):
    labels = np.zeros(n, dtype=int)
    original = np.array([0] * lost + [1] * gained + [0] * (n - lost - gained))
    variant = np.array([1] * lost + [0] * gained + [0] * (n - lost - gained))
    return paired_change(labels, original, variant)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "verdict"),
    [
        (300, 0, 0, PASS),
        (100, 0, 0, INCONCLUSIVE),
        (300, 4, 0, INCONCLUSIVE),
        (300, 40, 1, FAIL),
        (20_000, 100, 50, PASS),
    ],
)
def test_the_verdict_follows_the_evidence(n, lost, gained, verdict):
    assert judge(change(n, lost, gained), 0.2, "int8", 0.01)[0] == verdict


def test_equal_logits_need_no_statistics():
    assert judge(change(10, 0, 0), 1e-5, "fp32", 0.01)[0] == PASS
    assert judge(change(10, 0, 0), 5e-3, "fp32", 0.01)[0] == INCONCLUSIVE


def test_a_logit_that_moved_too_far_fails_however_few_flips():
    verdict, reason = judge(change(10_000, 0, 0), 0.9, "fp16", 0.01)
    assert verdict == FAIL
    assert "0.9" in reason


def test_the_report_names_the_flipped_images(original):
    spec = original[1]
    samples = tuple(
        Sample(
            path=Path(f"{i}.png"), name=f"{i}.png", sha256="", split="val", label=i % 2, group=""
        )
        for i in range(4)
    )
    before = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    after = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.5], [0.0, 2.0]])
    report = pair(samples, Answers(ORIGINAL, spec, before), Answers("int8", spec, after), "cpu")
    (flip,) = report.flips
    assert (flip.path, flip.original, flip.variant, flip.max_logit_change) == (
        "2.png",
        "Healthy",
        "Osteoporosis",
        2.0,
    )
    assert report.largest[0].path == "2.png"
    assert report.max_abs_logit_change == 2.0


@pytest.mark.parametrize(
    ("isa", "target"),
    [(("avx2", "avx512_vnni"), "x86"), (("avx2",), "x86-no-vnni"), (("asimd", "asimddp"), "arm")],
)
def test_auto_reads_this_machine(monkeypatch, isa, target):
    monkeypatch.setattr("kneeedge.system.machine.isa_flags", lambda: isa)
    assert choose_target("auto") == target


def test_unknown_targets_and_precisions_are_refused():
    with pytest.raises(ConfigError, match="--int8-target npu is unknown"):
        choose_target("npu")
    with pytest.raises(ConfigError, match="--precision int4 is unknown"):
        ExportOptions(precisions=("int4",))
    with pytest.raises(ConfigError, match="--int8-target npu is unknown"):
        ExportOptions(int8_target="npu")


def test_a_folder_that_is_no_run_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="train one with `kneeedge train DATA`"):
        export_run(tmp_path, ExportOptions(), QUIET)


def test_the_file_knows_the_images_it_was_trained_on(exported, phantoms):
    seen = json.loads(Session(exported["fp32"], "cpu").metadata["kneeedge.seen"])
    assert {split: len(hashes) for split, hashes in seen.items()} == {"train": 120, "val": 60}
    assert scan(phantoms).split("train")[0].sha256[:16] in seen["train"]


def test_a_file_that_misses_its_own_golden_answers_says_fail_itself(
    trained_run, tmp_path, monkeypatch
):
    def missed(*given):
        return dataclasses.replace(verify(*given), passed=False)

    shutil.copytree(trained_run, tmp_path / "run", ignore=shutil.ignore_patterns("models"))
    monkeypatch.setattr(export_module, "verify", missed)
    assert export_run(tmp_path / "run", ExportOptions(precisions=("fp32",)), QUIET).failed
    (path,) = (tmp_path / "run/models/rejected").iterdir()
    assert Session(path, "cpu").spec.file.verification.verdict == FAIL
