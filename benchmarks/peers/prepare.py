"""Makes a peer's model file from the run, in its own process, the way its documentation has it.

Calibration images come from the training split, but for the two files made the way of Ultralytics'
exporter (the project's `ultralytics/engine/exporter.py` and
`ultralytics/utils/export/{onnx,openvino}.py`, whose method is followed here): it calibrates on the
whole val split; for ONNX it calls ONNX Runtime's `quantize_static` for the operators Conv, Gemm and
MatMul with the defaults besides; for OpenVINO it calls `nncf.quantize` with the mixed preset on
what `openvino.convert_model` made of the PyTorch model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.jobs import serve
from benchmarks.peers.load import normalise
from benchmarks.peers.subjects import Place

N_STATIC = 100
"calibration images for ONNX Runtime"
N_NNCF = 300
"what NNCF takes unasked"


@dataclass(frozen=True)
class PrepareRequest:
    """Which file to make."""

    file: str
    place: Place


@dataclass(frozen=True)
class Prepared:
    """What is to be known of the file."""

    note: str
    "what had to be done otherwise than the defaults have it, or empty"


def prepare(request: PrepareRequest) -> Prepared:
    """Make the file."""
    return Prepared(MAKERS[request.file](request.place) or "")


def plain_onnx(place: Place) -> None:
    """`torch.onnx.export` as its documentation shows it: RGB fp32 in, weights beside the graph."""
    import torch

    from kneeedge.runs.folder import Run
    from kneeedge.training.checkpoint import load_original

    model, spec = load_original(Run(Path(place.run)))
    side = spec.pixel_path.size
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, side, side),),
        str(Path(place.work, "plain.onnx")),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
    )


def dynamic_int8(place: Place) -> str:
    """`quantize_dynamic` on the plain file; where that fails, with its issue tracker's remedies."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = str(Path(place.work, "plain.onnx"))
    target = str(Path(place.work, "dynamic.onnx"))
    state = onnxruntime.capi.onnxruntime_pybind11_state
    failures = (onnx.shape_inference.InferenceError, state.NotImplemented, state.Fail)
    try:
        quantize_dynamic(plain, target)
        onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    except failures as error:
        model = onnx.load(plain)
        # stale shapes: onnxruntime#12558 and others
        del model.graph.value_info[:]
        # no ConvInteger of s8: onnxruntime#15888
        quantize_dynamic(model, target, weight_type=QuantType.QUInt8)
        onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
        reason = _first_line(error)
        return f"its defaults fail ({reason}); made with u8 weights and without value_info"
    return ""


def static_int8(place: Place) -> None:
    """`quantize_static` with the defaults of the installed version."""
    from onnxruntime.quantization import quantize_static

    reader = OneByOne(normalised(place, "train", N_STATIC))
    quantize_static(Path(place.work, "plain.onnx"), Path(place.work, "static.onnx"), reader)


def ultralytics_onnx(place: Place) -> None:
    """`quantize_static` on the val split, with only the weighted operators quantised."""
    from onnxruntime.quantization import quantize_static

    reader = OneByOne(normalised(place, "val", None))
    target = Path(place.work, "ultralytics.onnx")
    operators = ["Conv", "Gemm", "MatMul"]
    quantize_static(Path(place.work, "plain.onnx"), target, reader, op_types_to_quantize=operators)


def openvino_fp32(place: Place) -> None:
    """`openvino.convert_model` on the PyTorch model, which takes uint8 and normalises it itself."""
    import openvino
    import torch

    from kneeedge.runs.folder import Run
    from kneeedge.training.checkpoint import load_original

    model, spec = load_original(Run(Path(place.run)))
    side = spec.pixel_path.size
    example = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    converted = openvino.convert_model(model, input=[-1, 1, side, side], example_input=example)
    openvino.save_model(converted, Path(place.work, "openvino.xml"), compress_to_fp16=False)


def openvino_nncf(place: Place) -> None:
    """NNCF's post-training quantisation with its defaults."""
    _quantise(place, "train", "nncf.xml", None)


def ultralytics_openvino(place: Place) -> None:
    """NNCF's post-training quantisation with the mixed preset, on the val split."""
    import nncf

    _quantise(place, "val", "ultralytics.xml", nncf.QuantizationPreset.MIXED)


def _quantise(place: Place, split: str, target: str, preset: Any) -> None:
    import nncf
    import openvino

    # of shape (1, 1, S, S) each
    images = np.load(place.images(split))[:, None]
    model = openvino.Core().read_model(Path(place.work, "openvino.xml"))
    quantised = nncf.quantize(model, nncf.Dataset(list(images)), preset=preset, subset_size=N_NNCF)
    openvino.save_model(quantised, Path(place.work, target), compress_to_fp16=False)


class OneByOne:
    """Calibration data as ONNX Runtime asks for it."""

    def __init__(self, images: Iterator[NDArray[np.float32]]) -> None:
        self.images = images

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next image as the plain file's input, None after the last."""
        image = next(self.images, None)
        return None if image is None else {"image": image}


def normalised(place: Place, split: str, n: int | None) -> Iterator[NDArray[np.float32]]:
    """(1, 3, S, S) float32 of each of the first `n` images, which lie in no order of class."""
    spec = place.spec()
    for image in np.load(place.images(split))[:n]:
        yield normalise(image[None], spec.mean, spec.std)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


MAKERS: dict[str, Callable[[Place], str | None]] = {
    "plain.onnx": plain_onnx,
    "dynamic.onnx": dynamic_int8,
    "static.onnx": static_int8,
    "ultralytics.onnx": ultralytics_onnx,
    "openvino.xml": openvino_fp32,
    "nncf.xml": openvino_nncf,
    "ultralytics.xml": ultralytics_openvino,
}
"in the order in which they need one another"
MADE_FROM = {
    "dynamic.onnx": "plain.onnx",
    "static.onnx": "plain.onnx",
    "ultralytics.onnx": "plain.onnx",
    "nncf.xml": "openvino.xml",
    "ultralytics.xml": "openvino.xml",
}

if __name__ == "__main__":
    serve(PrepareRequest, prepare)
