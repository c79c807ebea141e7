"""How long each layer takes on this machine at each width: whole int8 networks, profiled by ONNX
Runtime.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from export.graph import HEAVY, body, layers
from export.to_int8 import choose_target, to_int8
from kneeedge.runtime.placement import kernels
from kneeedge.system import machine
from kneeedge.system.progress import Progress

SHARES = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
"of each layer's channels, at which it is timed, as inputs and as outputs"
N_RUNS = 12
"runs of each network in a round, of which each layer's median counts"
N_ROUNDS = 3
"""over all networks, of which each layer's fastest counts: another job on the machine slows a
round, and speeds up none
"""
CONVOLUTIONS = ("QLinearConv", "Conv")
EVEN = 8
"a layer has at least so many channels"


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """Milliseconds of each layer of the int8 network for one image, by the channels that it reads
    and writes.
    """

    full: tuple[int, ...]
    "channels of each convolution of the network that was measured"
    shares: tuple[float, ...]
    "rising"
    milliseconds: tuple[tuple[tuple[float, ...], ...], ...]
    """[layer][share of its inputs][share of its outputs]; pooling and the like are counted to the
    layer before them
    """
    overhead_ms: float
    "of a call, beside its layers"
    target: str
    threads: int
    cpu: str

    def layer(self, index: int, n_inputs: int, n_outputs: int) -> float:
        """Between the measured widths bilinear; the first layer always reads the same."""
        x = np.array(self.shares)
        table = np.array(self.milliseconds[index])
        before = 1.0 if index == 0 else n_inputs / self.full[index - 1]
        of_inputs = np.array([np.interp(n_outputs / self.full[index], x, row) for row in table])
        return float(np.interp(before, x, of_inputs))

    def total(self, widths: Sequence[int]) -> float:
        """Of a call of the network with these channels."""
        reads = (0, *widths[:-1])
        return self.overhead_ms + sum(
            self.layer(i, a, b) for i, (a, b) in enumerate(zip(reads, widths, strict=True))
        )


def measure_layers(fp32: onnx.ModelProto, threads: int | None, progress: Progress) -> LayerTimes:
    """Time every layer of the network at every pair of SHARES, for one image.

    In a network whose layers have shares a, b, a, b, … of their channels, half of the layers read a
    and write b; with all pairs of shares each layer is seen reading and writing each. Whole
    networks, because a layer alone in a graph is given conversions of its own and has its input at
    hand.
    """
    full = widths_of(fp32)
    n = len(SHARES)
    target = choose_target("auto")
    n_threads = threads or machine.available_cpus()
    found = np.full((len(full), n, n), np.inf)
    beside = []
    pairs = [(a, b) for a in range(n) for b in range(n)] * N_ROUNDS
    with progress.stage("layer times", len(pairs)) as stage:
        for a, b in pairs:
            chosen = [(a, b)[i % 2] for i in range(len(full))]
            int8 = resized(fp32, [scaled(c, SHARES[k]) for c, k in zip(full, chosen, strict=True)])
            *taken, rest = profile(int8, n_threads)
            beside.append(rest)
            for i, milliseconds in enumerate(taken):
                place = i, chosen[i - 1] if i else a, chosen[i]
                found[place] = min(found[place], milliseconds)
            stage.advance()
    # The first layer reads pixels, whatever share it was paired with: it was timed on the diagonal
    # alone.
    found[0] = np.diagonal(found[0])
    table = tuple(tuple(tuple(map(float, row)) for row in layer) for layer in found)
    return LayerTimes(
        full=full,
        shares=SHARES,
        milliseconds=table,
        overhead_ms=float(np.median(beside)),
        target=target,
        threads=n_threads,
        cpu=machine.cpu_model(),
    )


def scaled(channels: int, share: float) -> int:
    """A share of the channels, at least EVEN."""
    return max(EVEN, round(channels * share))


def widths_of(fp32: onnx.ModelProto) -> tuple[int, ...]:
    """Output channels of each convolution on the way to the logits."""
    arrays = {tensor.name: tensor for tensor in fp32.graph.initializer}
    return tuple(arrays[layer.weights[0]].dims[0] for layer in layers(fp32))


def resized(fp32: onnx.ModelProto, widths: Sequence[int]) -> onnx.ModelProto:
    """The int8 graph of the same network, which gives no distance to training images, with these
    channels.

    Its weights are random, which changes no time; the ranges are so wide that nothing saturates.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(fp32)
    arrays = {tensor.name: tensor for tensor in graph.graph.initializer}
    rng = np.random.default_rng(0)
    n_inputs = 0
    convolutions = [node for node in body(graph) if node.op_type in HEAVY]
    for node, width in zip(convolutions, widths, strict=True):
        shape = list(arrays[node.input[1]].dims)
        shape[:2] = width, n_inputs or shape[1]
        _replace(arrays[node.input[1]], rng.normal(0.0, 0.1, shape))
        _replace(arrays[node.input[2]], np.zeros(width))
        n_inputs = width
    head = next(
        node for node in graph.graph.node if node.op_type == "Conv" and node not in convolutions
    )
    shape = list(arrays[head.input[1]].dims)
    _replace(arrays[head.input[1]], rng.normal(0.0, 0.1, [shape[0], n_inputs, *shape[2:]]))
    ranges = {layer.output: (0.0, 4.0) for layer in layers(graph)}
    return to_int8(graph, ranges, choose_target("auto"))


def _replace(tensor: onnx.TensorProto, values: NDArray[np.floating]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def profile(int8: onnx.ModelProto, threads: int) -> list[float]:
    """Median milliseconds of each layer, its convolution and all until the next; last, of what is
    beside them.
    """
    side = int8.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    image = np.random.default_rng(0).integers(0, 256, (1, 1, side, side), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "layers")
        session = onnxruntime.InferenceSession(
            int8.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(N_RUNS + 1):
            session.run(["logits"], {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return by_layer(events)


def by_layer(events: Sequence[dict[str, Any]]) -> list[float]:
    """Medians over runs, the first left out, from ONNX Runtime's trace: of each layer, and of the
    rest of a run.
    """
    nodes = kernels(events)
    runs = sorted((event for event in events if event["name"] == "model_run"), key=start)
    rows = []
    for run in runs[1:]:
        within = [event for event in nodes if start(run) <= start(event) <= start(run) + run["dur"]]
        row: list[float] = []
        for event in sorted(within, key=start):
            if event["args"]["op_name"] in CONVOLUTIONS:
                row.append(0.0)
            if row:
                row[-1] += event["dur"] / 1000.0
        row.pop()  # the head's
        rows.append([*row, run["dur"] / 1000.0 - sum(row)])
    return [float(value) for value in np.median(np.array(rows), axis=0)]


def start(event: dict[str, Any]) -> int:
    """When an event of the trace began, microseconds."""
    return int(event["ts"])
