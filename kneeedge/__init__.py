"""kneeedge: labelled knee X-rays to a verified edge model. Research use only; not a medical device.

from kneeedge import Predictor
print(Predictor("model.onnx").predict("xray.png"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kneeedge.errors import KneeEdgeError
from kneeedge.model.spec import ModelSpec
from kneeedge.version import __version__

if TYPE_CHECKING:
    from kneeedge.inference.predictions import Prediction
    from kneeedge.inference.predictor import Predictor

__all__ = ["KneeEdgeError", "ModelSpec", "Prediction", "Predictor", "__version__"]
LAZY = {"Prediction": "kneeedge.inference.predictions", "Predictor": "kneeedge.inference.predictor"}
"imported on first use: they bring in ONNX Runtime"


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module 'kneeedge' has no attribute {name!r}")
