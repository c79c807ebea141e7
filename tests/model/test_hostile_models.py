"""A model from elsewhere is hostile: whatever is wrong with it is one line, in every command."""

import base64
import io
import itertools
import json
import math
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import KneeEdgeError
from kneeedge.model.file import open_model
from kneeedge.model.metadata import MAX_METADATA, MAX_SPEC
from kneeedge.model.spec import GOLDEN_KEY, SPEC_KEY
from tests.tiny_onnx import write_tiny_model

pytestmark = pytest.mark.torch

Change = Callable[[onnx.ModelProto], None]


def spec_text(change: Callable[[str], str]) -> Change:
    def changed(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == SPEC_KEY)
        entry.value = change(entry.value)

    return changed


def in_spec(old: str, new: str) -> Change:
    """One fact of the spec is another."""

    def changed(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return spec_text(changed)


def no_spec(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def two_specs(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key=SPEC_KEY, value="{}")


def much_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="x", value="x" * MAX_METADATA)


def external(location: str) -> Change:
    def changed(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[2]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return changed


def external_in_a_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hostname")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def operator(kind: str, domain: str) -> Change:
    def changed(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(kind, ["logits"], ["x"], domain=domain))
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return changed


def function(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("own", "f", ["a"], ["b"], nodes, [helper.make_opsetid("", 18)])
    )


def endless_loop(model: onnx.ModelProto) -> None:
    condition = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    step = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    again = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["again"])], "body", [step, condition], [again]
    )
    model.graph.node.append(helper.make_node("Loop", ["", "on"], [], body=body))


def sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))


def claim(*dims: int) -> Change:
    def changed(model: onnx.ModelProto) -> None:
        del model.graph.initializer[2].dims[:]
        model.graph.initializer[2].dims.extend(dims)

    return changed


def claim_without_data(model: onnx.ModelProto) -> None:
    model.graph.initializer.add(name="x", data_type=TensorProto.FLOAT, dims=[2**40])


def text_tensor(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("x", TensorProto.STRING, [1], [b"x"]))


def input_side(side: int) -> Change:
    def changed(model: onnx.ModelProto) -> None:
        for axis in (2, 3):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side

    return changed


def other_output(name: str) -> Change:
    def changed(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", ["logits"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]))

    return changed


def vast_memory(model: onnx.ModelProto) -> None:
    """The logits are to be had only with 4 TB of ones."""
    model.graph.initializer.append(helper.make_tensor("vast", TensorProto.INT64, [1], [2**40]))
    softmax = model.graph.node.pop()
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["vast"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["scaled", "zero"], ["sum"]),
        ]
    )
    softmax.input[0] = "sum"
    model.graph.node.append(softmax)


NEVER = "which no file of kneeedge's has"
CHANGES: dict[str, tuple[Change, str]] = {
    "no spec": (no_spec, "carries no kneeedge spec"),
    "spec is no JSON": (spec_text(lambda text: "x" + text), "the spec is not one of kneeedge's"),
    "spec is no object": (spec_text(lambda _: "[]"), "the spec is not one of kneeedge's"),
    "spec is nested": (spec_text(lambda _: "[" * 100_000), "nested too deeply"),
    "spec with infinity": (in_spec('"temperature": 1.0', '"temperature": 1e999'), "finite"),
    "spec with a vast number": (
        in_spec('"temperature": 1.0', f'"temperature": {"9" * 400}'),
        "finite",
    ),
    "spec of another format": (in_spec('"format": 3', '"format": 4'), "has format 4"),
    "huge spec": (spec_text(lambda text: " " * MAX_SPEC + text), f"{MAX_SPEC:,} are the most"),
    "huge metadata": (much_metadata, f"{MAX_METADATA:,} are the most"),
    "two specs": (two_specs, "two entries 'kneeedge', which contradict"),
    "external data inside": (external("weights.bin"), "keeps weights in another file"),
    "external data outside": (external("../../secret"), "keeps weights in another file"),
    "external data in a constant": (external_in_a_constant, "keeps weights in another file"),
    "custom operator": (operator("Evil", "com.example"), "operators of the domain 'com.example'"),
    "operator that reads an engine": (
        operator("EPContext", "com.microsoft"),
        "of the domain 'com.microsoft'",
    ),
    "unknown operator": (operator("Evil", ""), "ONNX Runtime cannot load it"),
    "function": (function, f"functions of its own, {NEVER}"),
    "loop": (endless_loop, f"a graph within the graph (a loop or a branch), {NEVER}"),
    "sparse tensor": (sparse, f"sparse tensors, {NEVER}"),
    "text tensor": (text_tensor, f"tensors of the type 8, {NEVER}"),
    "vast claim": (claim(2**40), "claims 1,099,511,627,776 elements and has 256 bytes"),
    "vast product": (
        claim(2**31, 2**31, 2**31),
        "claims 2,147,483,648 × 2,147,483,648 × 2,147,483,648 elements",
    ),
    "negative claim": (claim(-1), "claims 18,446,744,073,709,551,615 elements"),
    "negative product": (claim(-8, -8), "elements and has 256 bytes"),
    "many dimensions": (claim(*[2] * 1000), "tensors of 1,000 dimensions"),
    "claim without data": (claim_without_data, "claims 1,099,511,627,776 elements"),
    "claim of one more": (claim(65), "claims 65 elements and has 256 bytes"),
    "vast input": (input_side(2**40), "its input is"),
    "spec of another size": (in_spec('"size": 64', '"size": 96'), "not image uint8 [N, 1, 96"),
    "spec of more classes": (
        in_spec('"classes": [', '"classes": ["Other", '),
        "no output probabilities [N, 3]",
    ),
    "output that no model has": (other_output("secret"), "it has an output 'secret'"),
    "output with a name without end": (other_output("x" * 10_000), "it has an output 'xxx"),
    "spec with a name without end": (
        in_spec('"name"', f'"{"x" * 10_000}": 1, "name"'),
        "has the unknown field 'xxx",
    ),
}


def commands(model: Path, data: Path, out: Path) -> dict[str, list[object]]:
    """The words of every command that reads a model file, by its name."""
    return {
        "infer": ["infer", data / "test", "--model", model, "--out", out / "p.csv", "-q"],
        "evaluate": ["evaluate", model, data, "-q"],
        "stress": ["stress", model, data, "--kinds", "inverted", "-q"],
        "verify": ["verify", model],
        "info": ["info", model],
        "bench": ["bench", model, "--seconds", "0.1", "-q"],
    }


def refused_by_all(
    model: Path, data: Path, out: Path, message: str, *, without_session: bool = True
) -> None:
    for name, command in commands(model, data, out).items():
        if without_session or name != "info":
            refused(command, message)
    assert not (out / "p.csv").exists()


def refused(command: list[object], message: str) -> None:
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == 1, f"{command[0]}: {result.output} {result.exception!r}"
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) < 1000


ONLY_IN_SESSION = {
    "unknown operator",
    "vast input",
    "spec of another size",
    "spec of more classes",
    "output that no model has",
    "output with a name without end",
}
"what ONNX Runtime shows of the graph; `info` reads what the file says of itself and runs nothing"


IN_FILE = [name for name in CHANGES if name not in ONLY_IN_SESSION]
IN_SESSION = [pytest.param(name, marks=pytest.mark.slow) for name in sorted(ONLY_IN_SESSION)]


@pytest.mark.parametrize("name", [*IN_FILE, *IN_SESSION])
def test_what_is_wrong_with_a_model_is_one_line(tmp_path, phantoms, name):
    change, message = CHANGES[name]
    path = write_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(bytes(256))
    refused_by_all(path, phantoms, tmp_path, message, without_session=name not in ONLY_IN_SESSION)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (operator("Evil", ""), "verify"),
        (vast_memory, "infer"),
        (vast_memory, "evaluate"),
        (vast_memory, "verify"),
        pytest.param(vast_memory, "bench", marks=pytest.mark.slow),
    ],
)
def test_what_native_code_would_print_is_no_second_line(tmp_path, phantoms, change, name):
    """In a process of its own, since ONNX Runtime writes past Python."""
    path = write_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    words = commands(path, phantoms, tmp_path)[name]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "kneeedge", *map(str, words)]
    process = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert (process.returncode, len(process.stderr.splitlines())) == (1, 1), process.stderr
    assert process.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        b"{}",
        b"hello",
        bytes(1000),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(9),
    ],
)
def test_what_is_no_onnx_file_is_one_line(tmp_path, phantoms, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refused_by_all(path, phantoms, tmp_path, "it is no ONNX file")


def test_a_renamed_image_is_one_line(tmp_path, phantoms):
    path = tmp_path / "m.onnx"
    path.write_bytes(next((phantoms / "test/Healthy").iterdir()).read_bytes())
    refused_by_all(path, phantoms, tmp_path, "it is no ONNX file")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_model_is_one_line(tmp_path, phantoms, share):
    path = write_tiny_model(tmp_path / "m.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused_by_all(path, phantoms, tmp_path, str(path))


def test_a_vast_file_is_not_read(tmp_path, phantoms):
    path = tmp_path / "m.onnx"
    path.touch()
    os.truncate(path, 2**40)  # a hole
    refused_by_all(path, phantoms, tmp_path, "an ONNX file has 2,147,483,647 at most")


def test_a_folder_and_a_pipe_are_no_model(tmp_path, phantoms):
    refused_by_all(tmp_path, phantoms, tmp_path, "it is no file")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused_by_all(tmp_path / "pipe.onnx", phantoms, tmp_path, "it is no file")
    refused_by_all(tmp_path / "none.onnx", phantoms, tmp_path, "no such model file")


def test_a_field_number_that_other_readers_cut_short_hides_nothing(tmp_path):
    """Of a tag of more than 32 bits protobuf drops the upper ones: it sees data_location, 14."""
    path = write_tiny_model(tmp_path / "m.onnx")
    tag = (14 << 3) | (1 << 32)
    low_bytes = [(tag >> shift) & 0x7F | 0x80 for shift in (0, 7, 14, 21)]
    tensor = bytes([*low_bytes, tag >> 28]) + b"\x01"
    graph = bytes([5 << 3 | 2, len(tensor)]) + tensor
    path.write_bytes(path.read_bytes() + bytes([7 << 3 | 2, len(graph)]) + graph)
    with pytest.raises(KneeEdgeError, match="a field's number is too large"):
        open_model(path)


def test_a_deep_graph_is_fine(tmp_path):
    path = write_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    softmax = model.graph.node.pop()
    names = [softmax.input[0], *(f"deep{i}" for i in range(5_000))]
    model.graph.node.extend(helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names))
    softmax.input[0] = names[-1]
    model.graph.node.append(softmax)
    path.write_bytes(model.SerializeToString())
    result = CliRunner().invoke(app, ["info", str(path)])
    assert result.exit_code == 0, result.output


def test_what_a_model_says_does_not_steer_the_terminal(tmp_path):
    path = write_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    in_spec('"name": "tiny"', '"name": "\\u001b[2J\\r\\u202e"')(model)
    onnx.save(model, path)
    result = CliRunner().invoke(app, ["info", str(path)])
    assert result.exit_code == 0, result.output
    assert "\\x1b[2J\\r\\u202e" in result.stdout
    assert not {"\x1b", "\r", "\u202e"} & set(result.stdout)


def test_a_name_of_several_lines_is_one_line(tmp_path):
    path = tmp_path / "a\nerror: b\x1b[2J.onnx"
    refused(["info", path], "a\\nerror: b\\x1b[2J.onnx: no such model file")


def png(width: int, height: int) -> str:
    """A PNG that declares this size, with the pixels of a smaller one."""
    buffer = io.BytesIO()
    Image.new("1", (64, 64)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return base64.b64encode(data).decode()


def in_case(field: str, value: object) -> Callable[[dict], dict]:
    """The first golden case has another value in a field, and is the only one."""
    return lambda golden: golden | {"cases": [golden["cases"][0] | {field: value}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda golden: golden | {"cases": []}, "its golden set is empty"),
        (lambda golden: golden | {"cases": 1}, "its golden answers are damaged"),
        (lambda golden: golden | {"device_tolerance": math.inf}, "its golden answers are damaged"),
        (in_case("png", "!"), "its golden inputs are damaged"),
        (in_case("png", "eA=="), "its golden inputs are damaged"),
        (in_case("png", png(65, 64)), "65 × 64 pixels, not 64 × 64"),
        (in_case("png", png(60_000, 60_000)), "inputs are damaged"),
        (in_case("file_logits", [1.0]), "not of 2 classes each"),
    ],
)
def test_a_damaged_golden_set_is_one_line(tmp_path, change, message):
    path = write_tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    entry = next(entry for entry in model.metadata_props if entry.key == GOLDEN_KEY)
    entry.value = json.dumps(change(json.loads(entry.value)))
    onnx.save(model, path)
    refused(["verify", path], message)


def test_a_few_changed_bytes_never_end_in_anything_but_a_refusal(tmp_path):
    path = write_tiny_model(tmp_path / "m.onnx")
    rng = random.Random(0)  # noqa: S311
    data = path.read_bytes()
    n_refused = 0
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            open_model(path)
        except KneeEdgeError:
            n_refused += 1
    assert n_refused > 50
