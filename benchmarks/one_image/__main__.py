"""Where `kneeedge infer one.png` spends its time, and what a cache of its graph would bring.

    python -m benchmarks.one_image MODEL.onnx [MODEL.onnx …] [--repeats 7] > FILE

The cached graph would be the one that ONNX Runtime has optimised. It may only be used when it
belongs to the model file and is undamaged, which takes a hash of both files. Every sample is a
fresh process on a warm disk; the samples are interleaved and the figures are medians.
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
    "of such a process in order, the last one being part of the one before it"
    load_file: float
    "ONNX Runtime loads the model file and optimises its graph"
    load_optimised: float
    "ONNX Runtime loads its own optimised graph, saved before, and optimises nothing"
    hash_file: float
    "SHA-256 of the model file"
    cache_saves: float
    "load_file less load_optimised and two hashes: what a cache that checks both files would bring"
    samples: dict[str, list[float]]


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def measure(model: Path, image: Path, folder: Path, repeats: int) -> Result:
    """The medians of the repeats; a first one, which warms the disk, is left out."""
    samples: dict[str, list[float]] = defaultdict(list)
    stages: dict[str, float] = {}
    optimised = folder / f"{model.stem}.optimised.onnx"
    python("-c", LOAD, str(model), "save", str(optimised))
    infer = ["infer", str(image), "--model", str(model), "--out", str(folder / "o.csv"), "-q"]
    for _ in range(repeats + 1):
        start = time.time()
        python("-m", "kneeedge", *infer)
        samples["whole process"].append((time.time() - start) * 1e3)
        child = ["-m", "benchmarks.one_image.child", str(model), str(image), str(time.time())]
        stages = json.loads(python(*child))
        for name, ms in stages.items():
            samples[name].append(ms)
        for mode, file in (("file", model), ("optimised", optimised), ("hash", model)):
            samples[f"load: {mode}"].append(float(python("-c", LOAD, str(file), mode)))
    medians = {name: round(median(values[1:]), 1) for name, values in samples.items()}
    load_file = medians["load: file"]
    load_optimised = medians["load: optimised"]
    hash_file = medians["load: hash"]
    return Result(
        model=model.name,
        size_mb=round(model.stat().st_size / 1e6, 1),
        whole_process=medians["whole process"],
        stages={name: medians[name] for name in stages},
        load_file=load_file,
        load_optimised=load_optimised,
        hash_file=hash_file,
        cache_saves=round(load_file - load_optimised - 2 * hash_file, 1),
        samples={name: [round(ms, 1) for ms in values[1:]] for name, values in samples.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    facts = environment()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        image = scratch / "one.png"
        Image.fromarray(phantom(0, 0.0, 224)).save(image)
        results = [measure(model, image, scratch, arguments.repeats) for model in arguments.models]
    record = {"environment": asdict(facts), "results": list(map(asdict, results))}
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
