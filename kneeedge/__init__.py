"""kneeedge: labelled knee X-rays to a verified edge model. Research use only; not a medical device.

from kneeedge import Predictor
print(Predictor("model.onnx").predict("xray.png"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kneeedge.errors import KneeEdgeError
from kneeedge.spec import ModelSpec

if TYPE_CHECKING:
    from kneeedge.infer import Predictor
    from kneeedge.predictions import Prediction

__all__ = ["KneeEdgeError", "ModelSpec", "Prediction", "Predictor", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Prediction", "Predictor"):  # on first use: they bring in ONNX Runtime
        return getattr(import_module("kneeedge.infer"), name)
    raise AttributeError(f"module 'kneeedge' has no attribute {name!r}")
