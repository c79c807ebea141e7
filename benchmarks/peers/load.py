"""A subject's file → the function that answers images with it: the same uint8 in, logits out."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.subjects import Place
from kneeedge.runtime.session import Session

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
Answer = Callable[[Images], Logits]
"(N, 1, S, S) → (N, K)"


def load(name: str, file: Path, place: Place) -> Answer:
    """The subject of this name, ready to answer."""
    return LOADERS[name](file, place)


def eager(_: Path, place: Place) -> Answer:
    """PyTorch as most people run it."""
    import torch

    model = _original(place).to(memory_format=torch.contiguous_format)
    return partial(_run_torch, model, False)


def channels_last(_: Path, place: Place) -> Answer:
    """PyTorch as its CPU tuning guide advises: channels-last, bfloat16 autocast."""
    return partial(_run_torch, _original(place), True)


def compiled(_: Path, place: Place) -> Answer:
    """`torch.compile`, each batch shape compiled for itself."""
    import torch

    model = _original(place).to(memory_format=torch.contiguous_format)
    return partial(_run_torch, torch.compile(model, dynamic=False), False)


def onnx_rgb(file: Path, place: Place) -> Answer:
    """A file that takes normalised RGB, on ONNX Runtime; normalising is part of the answer."""
    import onnxruntime

    spec = place.spec()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = place.threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def answer(images: Images) -> Logits:
        rgb = normalise(images, spec.mean, spec.std)
        return session.run(["logits"], {"image": rgb})[0]

    return answer


def openvino_file(precision: str | None, file: Path, place: Place) -> Answer:
    """A file on OpenVINO, compiled for each batch size: its documentation prefers static shapes."""
    import openvino

    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": place.threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        config["INFERENCE_PRECISION_HINT"] = precision

    @cache
    def network(n: int) -> openvino.CompiledModel:
        model = core.read_model(file)
        shape = list(model.input().get_partial_shape())
        model.reshape([n, *(size.get_length() for size in shape[1:])])
        return core.compile_model(model, "CPU", config)

    def answer(images: Images) -> Logits:
        outputs = network(len(images))(images)
        pairs = list(outputs.items())
        if len(pairs) == 1:
            return pairs[0][1]
        return next(value for output, value in pairs if "logits" in output.names)

    return answer


def kneeedge_file(file: Path, place: Place) -> Answer:
    """One of our files, through our session."""
    session = Session(file, "cpu", place.threads)
    return lambda images: session.run(images).logits


def normalise(
    images: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """(N, 1, S, S) uint8 → (N, 3, S, S) float32, in numpy, as code outside the graph does it."""
    shape = (1, 3, 1, 1)
    scaled = images.astype(np.float32) / np.float32(255)
    centred = scaled - np.array(mean, np.float32).reshape(shape)
    return centred / np.array(std, np.float32).reshape(shape)


def _original(place: Place):
    import torch

    from kneeedge.runs.folder import Run
    from kneeedge.training.checkpoint import load_original

    torch.set_num_threads(place.threads)
    return load_original(Run(Path(place.run)))[0]


def _run_torch(model: Callable, bf16: bool, images: Images) -> Logits:
    import torch

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return model(torch.from_numpy(images)).float().numpy()


LOADERS: dict[str, Callable[[Path, Place], Answer]] = {
    "eager": eager,
    "channels-last": channels_last,
    "compile": compiled,
    "onnx": onnx_rgb,
    "dynamic": onnx_rgb,
    "static": onnx_rgb,
    "ultralytics-onnx": onnx_rgb,
    "ultralytics-openvino": partial(openvino_file, None),
    "openvino": partial(openvino_file, "f32"),
    "openvino-bf16": partial(openvino_file, "bf16"),
    "openvino-int8": partial(openvino_file, None),
    "openvino-kneeedge": partial(openvino_file, None),
    "kneeedge-fp32": kneeedge_file,
    "kneeedge-fp16": kneeedge_file,
    "kneeedge-int8": kneeedge_file,
}
