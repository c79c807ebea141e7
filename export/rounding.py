"""The first convolution's weights in whole steps, such that their errors cancel."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.graph import body

CORRELATION = 0.95
"of the grey levels of pixels side by side; those of knees have 0.97"
AT_BORDER = 0.01
"of an image's pixels, at which the constant is missing from one side"

Floats = NDArray[np.float64]


def round_first(quantised: onnx.ModelProto, fp32: onnx.ModelProto, largest: int) -> None:
    """Choose the steps of the first convolution's weights anew, none beyond ±`largest`.

    What it reads, a grey level and the constant at nine places each, is nearly one level and one
    constant. So errors of single weights add up in every pixel, unless they are rounded together:
    they were two thirds of the mean square that 7-bit weights move VGG19's fourth block by. A first
    layer in float keeps its weights.
    """
    first = body(fp32)[0]
    tensors = {tensor.name: tensor for tensor in quantised.graph.initializer}
    makers = {node.output[0]: node for node in quantised.graph.node}
    (conv,) = [node for node in quantised.graph.node if node.name == first.name]
    if conv.input[1] not in makers:
        return
    steps, scale, _ = makers[conv.input[1]].input  # of a DequantizeLinear
    exact = next(tensor for tensor in fp32.graph.initializer if tensor.name == first.input[1])
    weights = numpy_helper.to_array(exact).astype(np.float64)
    units = numpy_helper.to_array(tensors[scale]).astype(np.float64)
    flat = weights.reshape(len(weights), -1) / units[:, None]
    chosen = round_together(flat, second_moments(weights.shape[2], weights.shape[3]), largest)
    tensors[steps].CopyFrom(numpy_helper.from_array(chosen.reshape(weights.shape), steps))


def round_together(weights: Floats, moments: Floats, largest: int) -> NDArray[np.int8]:
    """Whole numbers (C, K) near weights (C, K), for inputs of these second moments (K, K).

    One weight after the other is rounded, and those behind it make up for its error (Frantar et al.
    2023, ICLR, "GPTQ", eq. 2 and 3): that of the sum of inputs times weights becomes small.
    """
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    left = weights.copy()
    chosen = np.zeros(weights.shape, np.int8)
    for k in range(weights.shape[1]):
        chosen[:, k] = np.clip(np.round(left[:, k]), -largest, largest)
        missed = (left[:, k] - chosen[:, k]) / upper[k, k]
        left[:, k:] -= np.outer(missed, upper[k, k:])
    return chosen


def second_moments(height: int, width: int) -> Floats:
    """Of grey levels, evenly spread from -1 to 1, at `height` × `width` places, and of as many 1s.

    (2 · height · width,) squared. Levels are as often above zero as below it.
    """
    places = np.indices((height, width)).reshape(2, -1).T
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    n = len(places)
    moments = np.zeros((2 * n, 2 * n))
    moments[:n, :n] = CORRELATION**distances / 3
    moments[n:, n:] = 1 - AT_BORDER * (1 - np.eye(n))
    return moments
