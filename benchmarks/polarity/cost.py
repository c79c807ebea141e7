"""What the test for inverted images costs: in a graph that does nothing else, and beside it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import torch

from kneeedge.model.polarity import Polarity
from kneeedge.training.polarity import BLANK_RANGE, Upright

N_TIMES = 300


class Graph(torch.nn.Module):
    """The pixels in, and the first arithmetic that a network's graph has."""

    def __init__(self, upright: torch.nn.Module) -> None:
        super().__init__()
        self.upright = upright

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        turned: torch.Tensor = self.upright(image.float())
        return turned / 128.0 - 1.0


def cost(side: int) -> dict[str, Any]:
    """Median milliseconds for one image (side, side) on one core, by the test before and now.

    `in_graph` is less the graph that turns nothing; `beside` is what a row's `inverted` takes.
    """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 1, side, side), dtype=np.uint8)
    weights = tuple(rng.normal(size=64).tolist())
    tests = {
        name: Polarity(weights=weights, limit=-1.0, n=1, n_inverted=0, blank_range=blank_range)
        for name, blank_range in (("before", None), ("now", BLANK_RANGE))
    }
    nothing = graph_ms(torch.nn.Identity(), image)
    in_graph = {name: graph_ms(Upright(test), image) - nothing for name, test in tests.items()}
    beside = {
        name: median_ms(lambda test=test: test.inverted(image[:, 0]))
        for name, test in tests.items()
    }
    return {
        what: {name: round(ms, 4) for name, ms in times.items()}
        for what, times in (("in_graph_ms", in_graph), ("beside_ms", beside))
    }


def graph_ms(upright: torch.nn.Module, image: np.ndarray) -> float:
    """Median milliseconds of a graph that only turns images."""
    program = torch.onnx.export(
        Graph(upright).eval(),
        (torch.from_numpy(image),),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    return median_ms(lambda: session.run(None, {"image": image}))


def median_ms(call: Callable[[], object]) -> float:
    """Median milliseconds of a call, after some that do not count."""
    seconds = []
    for i in range(N_TIMES + N_TIMES // 10):
        start = time.perf_counter()
        call()
        if i >= N_TIMES // 10:
            seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))
