"""One way of running a file, in a process of its own: what `benchmarks.graph` gives turns.

    python -m benchmarks.graph.child MODEL LEVEL SPINNING THREADS BATCH

After loading and a first run it writes a line; for each number read from its input, that many runs'
milliseconds.
"""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from kneeedge.pixels.phantom import phantoms

LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def session_options(level: str, spinning: bool, threads: int) -> Any:
    """Those of `kneeedge.runtime.session`, but for the level and for idle threads that spin."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return options


def open_session(model: Path, options: Any) -> Any:
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def inputs(session: Any, batch: int) -> dict[str, np.ndarray]:
    """Phantoms (batch, 1, S, S) uint8."""
    (image,) = session.get_inputs()
    return {image.name: phantoms(batch, image.shape[2])}


def main() -> None:
    model, level, spinning, threads, batch = sys.argv[1:]
    session = open_session(Path(model), session_options(level, spinning == "on", int(threads)))
    feed = inputs(session, int(batch))
    session.run(None, feed)
    print("ready", flush=True)
    for line in sys.stdin:
        # untimed: the other processes' turns have emptied the caches
        session.run(None, feed)
        stamps = [time.perf_counter()]
        for _ in range(int(line)):
            session.run(None, feed)
            stamps.append(time.perf_counter())
        samples = [(end - start) * 1e3 for start, end in itertools.pairwise(stamps)]
        print(json.dumps(samples), flush=True)


if __name__ == "__main__":
    main()
