"""The stages of `kneeedge infer IMAGE` in this fresh process, as JSON: what `benchmarks.one_image` starts.

    python -m benchmarks.one_image_child MODEL IMAGE STARTED

STARTED is the time at which the process was asked for. It imports nothing before its first stamp.
"""

import time

stamps = [time.time()]

import sys  # noqa: E402

import kneeedge.cli  # noqa: E402, F401

stamps.append(time.time())

import json  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from kneeedge.choose import choose_model  # noqa: E402, F401
from kneeedge.images import find_images  # noqa: E402
from kneeedge.infer import Predictor, infer_folder  # noqa: E402
from kneeedge.progress import Progress  # noqa: E402
from kneeedge.session import load_runtime  # noqa: E402
from kneeedge.summaries import infer_text  # noqa: E402

stamps.append(time.time())
load_runtime()
stamps.append(time.time())
predictor = Predictor(sys.argv[1], "cpu")
stamps.append(time.time())
with tempfile.TemporaryDirectory() as folder:
    begin = time.time()
    result = infer_folder(predictor, find_images([Path(sys.argv[2])]), Path(folder, "out.csv"), Progress(quiet=True))
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
