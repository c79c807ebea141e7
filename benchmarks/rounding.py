"""What rounding the first layer's weights together is worth in an int8 file.

    python -m benchmarks.rounding RUN [RUN …] [--json FILE]

The logits of the run's int8 graph (`--int8-target any`, least-squares ranges of training images,
all layers in 8 bits) against those of its fp32 graph, on its validation images: with each weight
rounded by itself, and as `export.rounding` does it.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from numpy.typing import NDArray

from export.calibration import draw
from export.graph import ANSWER
from export.ranges import choose_ranges, collect, load_chunks, open_session
from export.to_int8 import DEFAULT_TARGET, to_int8
from export.to_onnx import to_onnx
from kneeedge.runs.folder import open_run
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original

N_IMAGES = 64
"training images that set the ranges"
METHOD = "mse"
TOGETHER, ALONE = "together", "each by itself"


def row_of(folder: Path, progress: Progress) -> dict[str, Any]:
    """How far the logits of both int8 graphs of a run lie from those of its fp32 graph."""
    run = open_run(folder)
    model, spec = load_original(run)
    record = run.read_config()
    dataset = run.read_dataset(Path(record.data_root), record.classes)
    fp32 = to_onnx(model, spec)
    drawn = draw(dataset.split("train"), len(dataset.classes), N_IMAGES, 0)
    ranges = choose_ranges(collect(fp32, drawn, spec.pixel_path, progress), METHOD)
    graphs = {TOGETHER: to_int8(fp32, ranges, DEFAULT_TARGET)}
    with patch("export.to_int8.round_first"):
        graphs[ALONE] = to_int8(fp32, ranges, DEFAULT_TARGET)
    images = list(load_chunks(dataset.split("val"), spec.pixel_path, 1))
    exact = logits_of(fp32, images)
    spread = float(exact.std(axis=0).mean())
    rows = []
    for name in (ALONE, TOGETHER):
        found = logits_of(graphs[name], images)
        row = {
            "weights": name,
            "logit_error": round(float(np.sqrt(((found - exact) ** 2).mean())) / spread, 5),
            "largest": round(float(np.abs(found - exact).max()) / spread, 5),
            "flips": int((found.argmax(axis=1) != exact.argmax(axis=1)).sum()),
        }
        rows.append(row)
    return {"run": run.name, "n_images": len(images), "rows": rows}


def logits_of(graph: onnx.ModelProto, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """(N, K) logits of images (1, 1, S, S)."""
    session = open_session(graph)
    return np.concatenate([session.run([ANSWER], {"image": image})[0] for image in images])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = [row_of(folder, Progress()) for folder in given.run]
    for result in results:
        for row in result["rows"]:
            print(
                f"{result['run']}, {row['weights']}: logits off by {row['logit_error']:.2%} of "
                f"their spread, at most {row['largest']:.2%}; {row['flips']} of "
                f"{result['n_images']} answers differ"
            )
    if given.json:
        record = {"environment": asdict(environment()), "runs": results}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
