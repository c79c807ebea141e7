"""The stages of `kneeedge infer IMAGE` in this fresh process: what `benchmarks.one_image` starts.

    python -m benchmarks.one_image.child MODEL IMAGE STARTED

STARTED is the time at which the process was asked for. It imports nothing before its first stamp,
and prints milliseconds as JSON.
"""

import time

stamps = [time.time()]

import sys

import kneeedge.cli.app  # noqa: F401

stamps.append(time.time())

import json
import tempfile
from pathlib import Path

from kneeedge.inference.folder import infer_folder
from kneeedge.inference.predictor import Predictor
from kneeedge.pixels.listing import find_images
from kneeedge.report.inference import infer_text
from kneeedge.runs.choose import choose_model  # noqa: F401
from kneeedge.runtime.providers import load_runtime
from kneeedge.system.progress import Progress

stamps.append(time.time())
load_runtime()
stamps.append(time.time())
predictor = Predictor(sys.argv[1], "cpu")
stamps.append(time.time())
with tempfile.TemporaryDirectory() as folder:
    begin = time.time()
    listing = find_images([Path(sys.argv[2])])
    result = infer_folder(predictor, listing, Path(folder, "out.csv"), Progress(quiet=True))
    infer_text(result)
    stamps.append(time.time() - begin + stamps[-1])
names = (
    "start Python",
    "import command line",
    "import the rest",
    "import ONNX Runtime",
    "load model",
    "infer and write",
)
before = [float(sys.argv[3]), *stamps[:-1]]
stages = {name: (end - start) * 1e3 for name, start, end in zip(names, before, stamps, strict=True)}
print(json.dumps(stages | {"in the network": result.summary.stages.running * 1e3}))
