"""A small model file that keeps the whole contract, made without torch."""

import dataclasses
import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from kneeedge.model.file_record import FileRecord
from kneeedge.model.provenance import TrainingRecord
from kneeedge.model.spec import (
    GOLDEN_KEY,
    SEEN_KEY,
    SPEC_KEY,
    Architecture,
    ModelSpec,
    Novelty,
    PixelPath,
    default_positive,
)
from kneeedge.pixels.phantom import phantom
from kneeedge.runtime.golden import PHANTOM, GoldenCase, GoldenSet, to_metadata
from kneeedge.runtime.golden_pictures import encode_png, golden_pictures

CLASSES = ("Healthy", "Osteoporosis")
# ONNX Runtime 1.21 reads both.
OPSET = 18
IR_VERSION = 10
CHANNELS = 4
SIDE_OF_LAST_CONV = 8


def write_tiny_model(
    path: Path,
    precision: str = "fp32",
    classes: tuple[str, ...] = CLASSES,
    size: int = 64,
    seed: int = 0,
    seen: tuple[str, ...] = (),
    limit: float | None = None,
    fit: str = "stretch",
) -> Path:
    """Two convolutions and a global mean.

    The weights are rounded as `precision` would, the arithmetic stays fp32. `seen` are the short
    hashes of the images that the file says it was trained on. With a `limit` the file has a
    distance, the mean grey level, beyond which it abstains.
    """
    path.write_bytes(_tiny_model(precision, classes, size, seed, seen, limit, fit))
    return path


@cache
def _tiny_model(
    precision: str,
    classes: tuple[str, ...],
    size: int,
    seed: int,
    seen: tuple[str, ...],
    limit: float | None,
    fit: str,
) -> bytes:
    """The file's bytes, made once: its golden pictures take a quarter of a second to draw."""
    spec = tiny_spec(precision, classes, size)
    spec = dataclasses.replace(spec, pixel_path=PixelPath(size, fit), novelty=_novelty(limit))
    model = _graph(spec, seed, precision)
    record = FileRecord(
        precision=precision,
        opset=OPSET,
        operators=dict(Counter(node.op_type for node in model.graph.node)),
        versions={},
    )
    spec = dataclasses.replace(spec, file=record)
    metadata = {
        SPEC_KEY: spec.to_json(),
        GOLDEN_KEY: to_metadata(_golden(model, spec)),
        SEEN_KEY: json.dumps({"train": sorted(seen), "val": []}),
    }
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


def tiny_spec(
    precision: str = "fp32", classes: tuple[str, ...] = CLASSES, size: int = 64
) -> ModelSpec:
    """The spec of the file, without its record."""
    training = TrainingRecord(
        recipe="tiny",
        weights="none",
        seed=0,
        data_sha256="0" * 64,
        n_images={"train": 1},
        versions={},
    )
    return ModelSpec(
        name="tiny",
        classes=classes,
        positive=default_positive(classes),
        training=training,
        architecture=Architecture(((CHANNELS,),) * 5),
        pixel_path=PixelPath(size),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def _novelty(limit: float | None) -> Novelty | None:
    if limit is None:
        return None
    return Novelty(limit=limit, refused=0.05, split="val", n=1, method="the mean grey level")


def _graph(spec: ModelSpec, seed: int, precision: str) -> onnx.ModelProto:
    side = spec.pixel_path.size
    n_classes = len(spec.classes)
    make = helper.make_node
    nodes = [
        make("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        make("Sub", ["float", "mean"], ["centred"]),
        make("Div", ["centred", "std"], ["normal"]),
        make("Conv", ["normal", "w1", "b1"], ["conv1"], kernel_shape=[4, 4], strides=[4, 4]),
        make("Relu", ["conv1"], ["relu1"]),
        make("Conv", ["relu1", "w2"], ["cam"], kernel_shape=[8, 8], strides=[8, 8]),
        make("ReduceMean", ["cam", "axes"], ["mean_of_cam"], keepdims=0),
        make("Add", ["mean_of_cam", "b2"], ["logits"]),
        make("Div", ["logits", "temperature"], ["scaled"]),
        make("Softmax", ["scaled"], ["probabilities"], axis=1),
    ]
    value = helper.make_tensor_value_info
    image = value("image", TensorProto.UINT8, ["N", 1, side, side])
    outputs = [
        value("probabilities", TensorProto.FLOAT, ["N", n_classes]),
        value("logits", TensorProto.FLOAT, ["N", n_classes]),
        value("cam", TensorProto.FLOAT, ["N", n_classes, side // 32, side // 32]),
    ]
    weights = _weights(spec, seed, precision)
    if spec.novelty:
        nodes.append(make("ReduceMean", ["float", "axes_of_image"], ["distance"], keepdims=0))
        outputs.append(value("distance", TensorProto.FLOAT, ["N"]))
        weights["axes_of_image"] = np.array([1, 2, 3], dtype=np.int64)
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [image], outputs, initializers)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="kneeedge-tests"
    )
    onnx.checker.check_model(model)
    return model


def _weights(spec: ModelSpec, seed: int, precision: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n_classes = len(spec.classes)
    last = rng.normal(0, 1, (n_classes, CHANNELS, SIDE_OF_LAST_CONV, SIDE_OF_LAST_CONV)) / 8
    return {
        "mean": np.float32(255 * 0.45),
        "std": np.float32(255 * 0.225),
        "w1": _rounded(rng.normal(0, 0.25, (CHANNELS, 1, 4, 4)), precision),
        "b1": np.zeros(CHANNELS, dtype=np.float32),
        "w2": _rounded(last, precision),
        "b2": rng.normal(0, 0.1, n_classes).astype(np.float32),
        "axes": np.array([2, 3], dtype=np.int64),
        "temperature": np.float32(spec.temperature),
    }


def _rounded(weights: np.ndarray, precision: str) -> np.ndarray:
    if precision == "fp16":
        return weights.astype(np.float16).astype(np.float32)
    if precision == "int8":
        scale = np.abs(weights).max() / 127
        return (np.round(weights / scale) * scale).astype(np.float32)
    return weights.astype(np.float32)


def _golden(model: onnx.ModelProto, spec: ModelSpec) -> GoldenSet:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in model.graph.output]
    cases = []
    for seed, severity in enumerate((0.0, 1.0)):
        image = phantom(seed, severity, spec.pixel_path.size)
        seen = dict(zip(names, session.run(names, {"image": image[None, None]}), strict=True))
        logits = seen["logits"]
        answers = tuple(map(float, logits[0]))
        cases.append(
            GoldenCase(
                png=encode_png(image),
                kind=PHANTOM,
                original_logits=answers,
                file_logits=answers,
                file_distance=float(seen["distance"][0]) if spec.novelty else None,
            )
        )
    return GoldenSet(
        cases=tuple(cases),
        pictures=golden_pictures(spec.pixel_path),
        device_tolerance=1e-3,
        original_tolerance=1e-3,
        distance_tolerance=1e-3 if spec.novelty else None,
    )
