"""How far the frozen blocks' activations move by the bits that they are computed in.

    python -m benchmarks.frozen_bits DATA --weights FILE [--images 32] [--json FILE]

Against PyTorch's in fp32, on validation images. An x86 CPU without VNNI adds pairs of u8×s8
products in 16 bits, which 8-bit weights may exceed and 7-bit ones do not. So each graph is computed
in float too, on its own 8-bit steps. Each is also there with the first layer's weights rounded one
by one, as before `export.rounding`.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from export.calibration import draw
from export.frozen import METHOD, N_IMAGES, cut_before_head, frozen_graph
from export.ranges import choose_ranges, collect
from export.to_int8 import to_int8
from kneeedge.data.dataset import scan
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.config import TrainConfig
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.training.lower import ACTIVATIONS, SCALE
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import N_FROZEN
from kneeedge.training.weights import load_pretrained

TARGETS = {"int8, 8-bit weights": "vnni", "int8, 7-bit weights": "any"}
Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"activations (1, C, H, W) of one image (1, 1, S, S)"


def in_int8(graph: onnx.ModelProto, in_float: bool) -> Compute:
    """What a quantised graph computes, as this CPU does or in float arithmetic."""
    options = onnxruntime.SessionOptions()
    if in_float:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    scale = float(session.get_modelmeta().custom_metadata_map[SCALE])

    def compute(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        (steps,) = session.run([ACTIVATIONS], {"image": image})
        return np.asarray(steps, dtype=np.float32) * np.float32(scale)

    return compute


def moved(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Root mean square of the difference, as a share of the exact activations'."""
    return float(np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    config = TrainConfig(data=str(given.data), weights=given.weights)
    dataset = scan(given.data)
    model = KneeVGG(config.architecture, len(dataset.classes), n_frozen=N_FROZEN).eval()
    load_pretrained(model, given.weights)
    fp32 = frozen_graph(model, config.size)
    drawn = draw(dataset.split("train"), len(dataset.classes), N_IMAGES, config.seed)
    ranges = choose_ranges(collect(fp32, drawn, config.pixel_path, Progress()), METHOD)
    ways: dict[str, Compute] = {}
    for name, target in TARGETS.items():
        graph = cut_before_head(to_int8(fp32, ranges, target))
        ways[name] = in_int8(graph, in_float=False)
        ways[f"{name}, in float"] = in_int8(graph, in_float=True)
        with patch("export.to_int8.round_first"):
            graph = cut_before_head(to_int8(fp32, ranges, target))
        ways[f"{name}, each by itself, in float"] = in_int8(graph, in_float=True)
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for sample in draw(dataset.split("val"), len(dataset.classes), given.images, config.seed):
        image = load_input(sample.path, config.pixel_path)[None, None]
        with torch.inference_mode():
            exact = model.lower(torch.from_numpy(image)).numpy()
        for name, compute in ways.items():
            shares[name].append(moved(compute(image), exact))
    rows = [
        {"name": name, "moved": round(float(np.median(of)), 5), "most": round(max(of), 5)}
        for name, of in shares.items()
    ]
    for row in rows:
        print(f"{row['name']}: {row['moved']:.2%} in the median image, {row['most']:.2%} at most")
    if given.json:
        record = {"environment": asdict(environment()), "n_images": given.images, "rows": rows}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
