"""Where `kneeedge infer one.png` spends its time, and what a cache of ONNX Runtime's optimised
graph would bring.

python -m benchmarks.one_image MODEL.onnx [MODEL.onnx …] [--repeats 7] > benchmarks/results/….json

Every sample is a fresh process on a warm disk; the samples are interleaved and the figures are
medians. A cached graph may only be used when it belongs to the model file and is undamaged, which
takes a hash of both files.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from kneeedge.pixels.phantom import phantom
from kneeedge.system.machine import environment

LOAD = """
import hashlib, sys, time
import onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
if sys.argv[2] == "optimised":
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
if sys.argv[2] == "save":
    options.optimized_model_filepath = sys.argv[3]
start = time.perf_counter()
if sys.argv[2] == "hash":
    hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()
else:
    onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print((time.perf_counter() - start) * 1e3)
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Milliseconds, medians over fresh processes."""

    model: str
    size_mb: float
    whole_process: float
    "from the start of `python -m kneeedge infer one.png` to its end"
    stages: dict[str, float]
    "of the same in order, the last one being part of the one before it"
    load_file: float
    "ONNX Runtime loads the model file and optimises its graph"
    load_optimised: float
    "it loads its own optimised graph, saved before, and optimises nothing"
    hash_file: float
    "SHA-256 of the model file"
    cache_saves: float
    "load_file less load_optimised and two hashes: what a cache that checks both files would bring"
    samples: dict[str, list[float]]


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def measure(model: Path, image: Path, folder: Path, repeats: int) -> Result:
    samples: dict[str, list[float]] = defaultdict(list)
    optimised = folder / f"{model.stem}.optimised.onnx"
    python("-c", LOAD, str(model), "save", str(optimised))
    for _ in range(repeats + 1):
        start = time.time()
        python(
            "-m",
            "kneeedge",
            "infer",
            str(image),
            "--model",
            str(model),
            "--out",
            str(folder / "o.csv"),
            "-q",
        )
        samples["whole process"].append((time.time() - start) * 1e3)
        stages = json.loads(
            python("-m", "benchmarks.one_image_child", str(model), str(image), str(time.time()))
        )
        for name, value in stages.items():
            samples[name].append(value)
        for what, file in (("file", model), ("optimised", optimised), ("hash", model)):
            samples[f"load: {what}"].append(float(python("-c", LOAD, str(file), what)))
    found = {
        name: round(median(values[1:]), 1) for name, values in samples.items()
    }  # the first warms the disk
    load, ready, hashed = (found[f"load: {what}"] for what in ("file", "optimised", "hash"))
    return Result(
        model=model.name,
        size_mb=round(model.stat().st_size / 1e6, 1),
        whole_process=found["whole process"],
        stages={name: found[name] for name in stages},
        load_file=load,
        load_optimised=ready,
        hash_file=hashed,
        cache_saves=round(load - ready - 2 * hashed, 1),
        samples={
            name: [round(value, 1) for value in values[1:]] for name, values in samples.items()
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    facts = environment()
    with tempfile.TemporaryDirectory() as name:
        image = Path(name, "one.png")
        Image.fromarray(phantom(0, 0.0, 224)).save(image)
        results = [
            measure(model, image, Path(name), arguments.repeats) for model in arguments.models
        ]
    print(
        json.dumps(
            {"environment": asdict(facts), "results": [asdict(result) for result in results]},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
