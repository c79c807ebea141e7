"""How long each layer takes here at each width: whole int8 networks, profiled by ONNX Runtime."""

import itertools
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
from export.to_int8 import DEFAULT_TARGET, to_int8
from kneeedge.runtime.placement import kernels
from kneeedge.system import machine
from kneeedge.system.progress import Progress

SHARES = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
"of each layer's channels, at which it is timed, as inputs and as outputs"
N_RUNS = 12
"runs of each network in a round, of which each layer's median counts"
N_ROUNDS = 3
"over all networks, of which each layer's fastest counts: another job only slows a round"
CONVOLUTIONS = ("QLinearConv", "Conv")
FEWEST_CHANNELS = 8
"of a layer"


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """Milliseconds of each int8 layer for one image, by the channels that it reads and writes."""

    full: tuple[int, ...]
    "channels of each convolution of the network that was measured"
    shares: tuple[float, ...]
    "rising"
    milliseconds: tuple[tuple[tuple[float, ...], ...], ...]
    "[layer][share of its inputs][share of its outputs], what follows until the next layer included"
    overhead_ms: float
    "of a call, beside its layers"
    target: str
    threads: int
    cpu: str

    def layer(self, index: int, n_inputs: int, n_outputs: int) -> float:
        """Milliseconds of a layer, bilinear between the measured widths.

        The first layer reads the same whatever `n_inputs` is.
        """
        shares = np.array(self.shares)
        input_share = 1.0 if index == 0 else n_inputs / self.full[index - 1]
        output_share = n_outputs / self.full[index]
        rows = np.array(self.milliseconds[index])
        by_input_share = np.array([np.interp(output_share, shares, row) for row in rows])
        return float(np.interp(input_share, shares, by_input_share))

    @property
    def full_ms(self) -> float:
        """Milliseconds of a call of the whole network."""
        return self.total(self.full)

    def total(self, widths: Sequence[int]) -> float:
        """Milliseconds of a call of the network with these channels."""
        inputs = (0, *widths[:-1])
        return self.overhead_ms + sum(
            self.layer(i, n_inputs, n_outputs)
            for i, (n_inputs, n_outputs) in enumerate(zip(inputs, widths, strict=True))
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
    n_threads = threads or machine.available_cpus()
    table = np.full((len(full), n, n), np.inf)
    overheads = []
    pairs = list(itertools.product(range(n), repeat=2)) * N_ROUNDS
    with progress.stage("layer times", len(pairs)) as stage:
        for a, b in pairs:
            chosen = [(a, b)[i % 2] for i in range(len(full))]
            shares = [SHARES[k] for k in chosen]
            int8 = resized(fp32, list(map(share_of, full, shares)))
            *layer_ms, overhead_ms = profile(int8, n_threads)
            overheads.append(overhead_ms)
            for i, milliseconds in enumerate(layer_ms):
                place = (i, chosen[i - 1] if i else a, chosen[i])
                table[place] = min(table[place], milliseconds)
            stage.advance()
    # The first layer reads pixels, whatever its share: it was timed on the diagonal alone.
    table[0] = np.diagonal(table[0])
    return LayerTimes(
        full=full,
        shares=SHARES,
        milliseconds=tuple(tuple(map(tuple, layer)) for layer in table.tolist()),
        overhead_ms=float(np.median(overheads)),
        target=DEFAULT_TARGET,
        threads=n_threads,
        cpu=machine.cpu_model(),
    )


def uniform_times(fp32: onnx.ModelProto, threads: int | None) -> tuple[float, ...]:
    """Milliseconds of a call with each of SHARES of all channels: in seconds, about what is there.

    `measure_layers` takes minutes to know it well.
    """
    full = widths_of(fp32)
    n_threads = threads or machine.available_cpus()
    networks = [resized(fp32, [share_of(count, share) for count in full]) for share in SHARES]
    return tuple(sum(profile(network, n_threads)) for network in networks)


def share_of(channels: int, share: float) -> int:
    """A share of the channels, at least FEWEST_CHANNELS."""
    return max(FEWEST_CHANNELS, round(channels * share))


def widths_of(fp32: onnx.ModelProto) -> tuple[int, ...]:
    """Output channels of each convolution on the way to the logits."""
    arrays = {tensor.name: tensor for tensor in fp32.graph.initializer}
    return tuple(arrays[layer.weights[0]].dims[0] for layer in layers(fp32))


def resized(fp32: onnx.ModelProto, widths: Sequence[int]) -> onnx.ModelProto:
    """The int8 graph of the same network with these channels.

    The network gives no distance to training images. Its weights are random, which changes no time;
    the ranges are so wide that nothing saturates.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(fp32)
    arrays = {tensor.name: tensor for tensor in graph.graph.initializer}
    rng = np.random.default_rng(0)
    n_inputs = 0
    convolutions = [node for node in body(graph) if node.op_type in HEAVY]
    for node, width in zip(convolutions, widths, strict=True):
        weights = arrays[node.input[1]]
        shape = [width, n_inputs or weights.dims[1], *weights.dims[2:]]
        _replace(weights, rng.normal(0.0, 0.1, shape))
        _replace(arrays[node.input[2]], np.zeros(width))
        n_inputs = width
    others = [node for node in graph.graph.node if node not in convolutions]
    head = next(node for node in others if node.op_type == "Conv")
    weights = arrays[head.input[1]]
    shape = [weights.dims[0], n_inputs, *weights.dims[2:]]
    _replace(weights, rng.normal(0.0, 0.1, shape))
    ranges = {layer.output: (0.0, 4.0) for layer in layers(graph)}
    return to_int8(graph, ranges, DEFAULT_TARGET)


def _replace(tensor: onnx.TensorProto, values: NDArray[np.floating]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def profile(int8: onnx.ModelProto, threads: int) -> list[float]:
    """Median milliseconds of each layer, and last of what a call takes beside its layers.

    To a layer belong its convolution and all that runs until the next one.
    """
    side = int8.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    image = np.random.default_rng(0).integers(0, 256, (1, 1, side, side), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "layers")
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(
            int8.SerializeToString(), options, providers=providers
        )
        for _ in range(N_RUNS + 1):
            session.run(["logits"], {"image": image})
        trace = Path(session.end_profiling()).read_text(encoding="utf-8")
    return by_layer(json.loads(trace))


def by_layer(events: Sequence[dict[str, Any]]) -> list[float]:
    """Medians over runs, the first left out, of each layer's milliseconds and of the overhead.

    `events` are those of ONNX Runtime's trace.
    """
    nodes = sorted(kernels(events), key=start_us)
    runs = sorted((event for event in events if event["name"] == "model_run"), key=start_us)
    rows = []
    for run in runs[1:]:
        end_us = start_us(run) + run["dur"]
        layer_ms: list[float] = []
        for event in nodes:
            if not start_us(run) <= start_us(event) <= end_us:
                continue
            if event["args"]["op_name"] in CONVOLUTIONS:
                layer_ms.append(0.0)
            if layer_ms:
                layer_ms[-1] += event["dur"] / 1000.0
        layer_ms.pop()  # the head's
        rows.append([*layer_ms, run["dur"] / 1000.0 - sum(layer_ms)])
    return [float(value) for value in np.median(np.array(rows), axis=0)]


def start_us(event: dict[str, Any]) -> int:
    """When an event of the trace began, microseconds."""
    return int(event["ts"])
