"""int8 on an x86 CPU without VNNI, where pairs of u8×s8 products are added in 16 bits."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

from export.ranges import choose_ranges, collect
from export.sealed import file_record, save
from export.to_int8 import to_int8
from export.to_onnx import to_onnx
from kneeedge.data.dataset import scan
from kneeedge.runs.folder import open_run
from kneeedge.runtime.emulator import NOT_HANDED_ON
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original
from tests.tools import need

RUN = """
import sys, numpy, onnxruntime
from pathlib import Path
from kneeedge.runtime.session import Session
folder = Path(sys.argv[1])
images = numpy.load(folder / "images.npy")
for target in ("any", "vnni"):
    model = folder / f"{target}.onnx"
    plain = onnxruntime.InferenceSession(model).run(["logits"], {"image": images})[0]
    ours = Session(model, "cpu").run(images).logits
    numpy.savez(folder / f"{target}.npz", plain=plain, ours=ours)
"""


@pytest.fixture(scope="module")
def folder(trained_run, phantoms, tmp_path_factory) -> Path:
    """Two int8 files of a network whose weights are all positive, so that sums grow large."""
    model, spec = load_original(open_run(trained_run))
    for name, weights in model.named_parameters():
        if name.startswith("features"):
            weights.data.abs_()
    spec = dataclasses.replace(spec, novelty=None)
    graph = to_onnx(model, spec)
    samples = scan(phantoms).split("train")[:8]
    histograms = collect(graph, samples, spec.pixel_path, Progress(quiet=True))
    ranges = choose_ranges(histograms, "minmax")
    path = tmp_path_factory.mktemp("saturation")
    for target in ("any", "vnni"):
        int8 = to_int8(graph, ranges, target)
        record = dataclasses.replace(file_record("int8", int8), int8_target=target)
        save(int8, path / f"{target}.onnx", spec, record, {})
    images = np.random.default_rng(0).integers(128, 256, (2, 1, 64, 64), dtype=np.uint8)
    np.save(path / "images.npy", images)
    return path


def logits(folder: Path, *emulator: str) -> dict[str, dict[str, np.ndarray]]:
    """By target, the logits of a plain session of ONNX Runtime and of ours."""
    command = [*emulator, sys.executable, "-c", RUN, str(folder)]
    environment = {name: os.environ[name] for name in os.environ if name not in NOT_HANDED_ON}
    environment["ORT_DISABLE_TELEMETRY"] = "1"
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return {target: dict(np.load(folder / f"{target}.npz")) for target in ("any", "vnni")}


def test_int8_answers_without_vnni_as_with_it(folder):
    need("qemu-x86_64-static")
    exact = logits(folder, "qemu-x86_64-static", "-cpu", "Westmere")  # whose kernel adds in 32 bits
    haswell = logits(folder, "qemu-x86_64-static", "-cpu", "Haswell")
    for target in ("any", "vnni"):
        np.testing.assert_allclose(haswell[target]["ours"], exact[target]["plain"], rtol=1e-5)
    np.testing.assert_allclose(haswell["any"]["plain"], exact["any"]["plain"], rtol=1e-5)
    lost = np.abs(haswell["vnni"]["plain"] / exact["vnni"]["plain"] - 1).max()
    assert lost > 0.01, "the sums do not saturate here: the test shows nothing"
