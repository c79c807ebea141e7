"""`kneeedge verify --emulate`: by a qemu that only pretends, and by qemu where it is installed."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import KneeEdgeError
from kneeedge.pixels.phantom import write_dataset
from kneeedge.runtime.arm64_root import find_root
from kneeedge.runtime.emulated_cpus import emulated_cpus
from kneeedge.runtime.emulator import open_emulator
from tests.tiny_onnx import write_tiny_model
from tests.tools import need

NAMED = os.environ.get("KNEEEDGE_EMULATION_ROOT")
ROOT = Path(NAMED).absolute() if NAMED else None
"where the arm64 Python is; None: in the user's cache"
FAKE_QEMU = """
import os, signal, sys, time
if sys.argv[1:] == ["--version"]:
    sys.exit(print("qemu-x86_64 version 7.2.22 (Debian 1:7.2)"))
_, _, prefix, _, cpu, python, *words = sys.argv
if cpu == "Nehalem":
    print("qemu-x86_64: warning: TCG doesn't support requested feature: pcid", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)
if cpu == "SandyBridge":
    print("evaluate: 3/4, 0.1/s, 30 s left\\nevaluate: 4/", end="", file=sys.stderr, flush=True)
    time.sleep(60)
    open("waited.txt", "w").close()
if cpu == "EPYC":
    sys.exit(print("[{}]"))
if cpu in ("Haswell", "Skylake-Client"):
    info = f"open({prefix!r} + '/proc/cpuinfo').read()" if cpu == "Haswell" else "'flags: sse4_2'"
    code = (
        "from kneeedge.cli.start import main; from kneeedge.system import machine;"
        f"machine.read_text = lambda _: {info}; main()"
    )
    words = ["-c", code, *words[4:]]
os.execv(python, [python, *words])
"""
"of the CPUs one crashes, one hangs, one answers nonsense, one is another, and one is itself"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, where children find this kneeedge."""
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "m.onnx")
    return tmp_path


@pytest.fixture
def fake_qemu(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = place / "bin/qemu-x86_64-static"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{FAKE_QEMU}", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def verify(*options: str) -> tuple[int, str, list[dict]]:
    """Exit code, what is printed, and the records of `kneeedge verify m.onnx`."""
    done = CliRunner().invoke(app, ["verify", "m.onnx", "-q", "--json", "r.json", *options])
    path = Path("r.json")
    return done.exit_code, done.output, json.loads(path.read_text()) if path.exists() else []


def test_a_cpu_that_crashes_is_a_row_beside_the_others(place, fake_qemu) -> None:
    code, text, records = verify("--emulate", "nehalem,haswell,skylake,zen")
    assert code == 3
    nehalem, haswell, skylake, zen = records
    assert nehalem["failure"] == "signal 11, Segmentation fault"
    assert skylake["failure"].startswith("it read ")  # another CPU's instruction sets
    assert zen["failure"].startswith("its report is damaged")
    assert [record["passed"] for record in records] == [False, True, False, False]
    assert nehalem["answers"] is None
    golden = haswell["answers"]
    assert (golden["cpu"], golden["isa"]) == ("Intel Haswell (AVX2), emulated by qemu", ["avx2"])
    assert (golden["n"], golden["flips"], golden["passed"]) == (2, [], True)
    assert haswell["emulator"] == "qemu-x86_64 7.2.22"
    lines = [line.split() for line in text.splitlines()]
    assert ["haswell", "m.onnx", "PASS", "0", "of", "2"] in [words[:6] for words in lines]
    assert "nehalem m.onnx: no answers: signal 11, Segmentation fault" in text


def test_a_cpu_that_takes_too_long_is_a_row_that_says_so(place, fake_qemu) -> None:
    code, text, _ = verify("--emulate", "sandybridge", "--timeout", "1")
    assert code == 3
    assert "no answers within 1 s; give it a longer --timeout" in text
    assert not Path("waited.txt").exists()


def test_how_far_an_emulated_run_is_stands_beside_the_count(place, fake_qemu, monkeypatch) -> None:
    monkeypatch.setattr("kneeedge.system.progress.LINE_SECONDS", 0.1)
    command = ["verify", "m.onnx", "--emulate", "sandybridge", "--timeout", "1"]
    text = CliRunner().invoke(app, command).output
    assert "emulate: 0/1, sandybridge: evaluate: 3/4, 0.1/s, 30 s left\n" in text


def test_images_are_held_against_this_cpus_answers_and_flips_are_named(place, fake_qemu) -> None:
    write_dataset(place / "knees", {"test": 4}, size=64)
    code, _, (record,) = verify("--emulate", "haswell", "--data", "knees", "--rows", "rows.csv")
    assert code == 0
    pairing = record["answers"]["images"]["pairing"]
    assert (pairing["n"], pairing["verdict"], pairing["flips"]) == (4, "pass", [])
    assert "emulated" not in pairing["there"]["cpu"]
    table = Path("rows.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert {row["cpu"] for row in rows} == {"Intel Haswell (AVX2), emulated by qemu"}
    other = {"Healthy": "Osteoporosis", "Osteoporosis": "Healthy"}[rows[0]["prediction"]]
    changed = table.replace(f"ok,{rows[0]['prediction']}", f"ok,{other}", 1)
    Path("other.csv").write_text(changed)
    against = ("--data", "knees", "--against", "other.csv")
    _, text, (record,) = verify("--emulate", "haswell", *against)
    (flip,) = record["answers"]["images"]["pairing"]["flips"]
    assert flip["path"] == rows[0]["path"]
    assert f"haswell m.onnx: {rows[0]['path']}: {other}" in text


def test_what_cannot_be_verified_here_is_refused_before_it_is_emulated(place, fake_qemu) -> None:
    Path("knees").mkdir()
    code, text, records = verify("--emulate", "haswell", "--data", "knees", "--against", "m.onnx")
    assert (code, records) == (1, [])
    assert "error: knees" in text


@pytest.mark.parametrize(
    "options", [("--provider", "cuda"), ("--data", ".", "--against-provider", "cpu")]
)
def test_what_is_not_of_an_emulated_cpu_is_refused(place, options) -> None:
    code, text, _ = verify("--emulate", "haswell", *options)
    assert code == 2
    assert "leave out" in text


PRODUCT = """
import sys
import numpy as np
import onnxruntime
from numpy._core._multiarray_umath import __cpu_features__ as features

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
(product,) = session.run(None, {"a": np.full((4, 64), 255, np.uint8)})
flags = [name for name in ("AVX2", "AVX512F", "ASIMD", "ASIMDDP") if features.get(name)]
print(*flags, product.max())
"""
"what NumPy finds out of the CPU by itself, and a sum of u8·s8 products that 16 bits do not hold"
EXACT = 64 * 255 * 127
SATURATED = 32 * 32767
"each pair of products ends at the largest number of 16 bits"


@pytest.fixture
def qemu(place: Path) -> None:
    need("qemu-x86_64-static", "qemu-aarch64-static")


@pytest.fixture
def arm64(qemu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that `KNEEEDGE_EMULATION_ROOT` names, or the one in the user's cache."""
    if ROOT:
        monkeypatch.setenv("KNEEEDGE_EMULATION_ROOT", str(ROOT))
    try:
        find_root(ROOT)
    except KneeEdgeError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def by_itself(name: str, folder: Path) -> list[str]:
    """What `PRODUCT` prints on the CPU."""
    weights = numpy_helper.from_array(np.full((64, 64), 127, np.int8), "b")
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    a = helper.make_tensor_value_info("a", TensorProto.UINT8, (4, 64))
    c = helper.make_tensor_value_info("c", TensorProto.INT32, (4, 64))
    graph = helper.make_graph([node], "product", [a], [c], [weights])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "p.onnx")
    (cpu,) = emulated_cpus(name)
    emulator = open_emulator(cpu.architecture, ROOT)
    emulator.prepare(folder / "cpu", cpu)
    words = emulator.command(folder / "cpu", cpu)
    done = subprocess.run(
        [*words[: words.index("-m")], "-c", PRODUCT, str(folder / "p.onnx")],
        env=emulator.variables(folder / "cpu"),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.slow
def test_haswell_answers_the_golden_inputs_and_saturates_as_it_does(place, qemu) -> None:
    code, _, (record,) = verify("--emulate", "haswell")
    assert (code, record["failure"]) == (0, "")
    golden = record["answers"]
    assert golden["isa"] == ["avx2"]
    assert golden["cpu"].startswith("Intel Haswell")
    assert all(picture["passed"] for picture in golden["pictures"])
    assert by_itself("haswell", place) == ["AVX2", str(SATURATED)]


@pytest.mark.slow
def test_cortex_a72_answers_the_golden_inputs_and_adds_exactly(place, arm64) -> None:
    code, _, (record,) = verify("--emulate", "cortex-a72")
    assert (code, record["failure"]) == (0, "")
    golden = record["answers"]
    assert golden["isa"] == ["asimd"]
    assert golden["cpu"].startswith("Arm Cortex-A72")
    assert all(picture["passed"] for picture in golden["pictures"])
    assert by_itself("cortex-a72", place) == ["ASIMD", str(EXACT)]
