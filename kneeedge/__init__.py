"""Labelled knee X-rays to a verified edge model. Research use only; not a medical device.

    from kneeedge import Predictor

    predictor = Predictor("model.onnx")
    answer = predictor.predict("xray.png")  # or an array, a Pillow image, a file's bytes, a list
    print(answer.prediction, answer.confidence)
    answers = predictor.predict_folder("radiographs")

What is raised is a KneeEdgeError, one line that ends in what to do; `kneeedge.errors` has them all.
"""

from kneeedge.version import __version__

TYPE_CHECKING = False  # as in `typing`, whose import takes a while: see `kneeedge.cli.start`
if TYPE_CHECKING:
    from typing import Any

    from kneeedge.errors import ImageError, InputError, KneeEdgeError
    from kneeedge.inference.predictions import Prediction
    from kneeedge.inference.predictor import Predictor
    from kneeedge.model.spec import ModelSpec

__all__ = [
    "ImageError",
    "InputError",
    "KneeEdgeError",
    "ModelSpec",
    "Prediction",
    "Predictor",
    "__version__",
]
LAZY = {
    "ImageError": "kneeedge.errors",
    "InputError": "kneeedge.errors",
    "KneeEdgeError": "kneeedge.errors",
    "ModelSpec": "kneeedge.model.spec",
    "Prediction": "kneeedge.inference.predictions",
    "Predictor": "kneeedge.inference.predictor",
}
"imported on first use: they bring in NumPy, Pillow and ONNX Runtime"


def __getattr__(name: str) -> "Any":
    if name in LAZY:
        from importlib import import_module

        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module 'kneeedge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
