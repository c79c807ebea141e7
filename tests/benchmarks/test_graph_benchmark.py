"""The benchmark of the graph: what it reads in optimised graphs and profiles, and its turns."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.graph import __main__ as benchmark
from benchmarks.graph.__main__ import (
    Way,
    facts_of,
    facts_table,
    named_model,
    speed_table,
    speeds,
    take_turns,
)
from benchmarks.graph.facts import (
    NCHWC,
    Stray,
    convolutions_of,
    first_layer,
    is_lowest,
    layout_of,
    stray_nodes,
    structure_of,
    times_of,
)
from tests.tiny_onnx import write_tiny_model


def graph_of(*nodes: onnx.NodeProto, **initialisers: np.ndarray) -> onnx.GraphProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 1, 4, 4])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in initialisers.items()]
    return helper.make_graph(nodes, "g", [image], [answer], tensors)


def eight_bit(name: str, zero: str, **attributes: int) -> onnx.NodeProto:
    inputs = ["x", "s", "z", "w", "s", "z", "s", zero]
    return helper.make_node(
        "QLinearConv", inputs, [name], name=name, domain="com.microsoft", **attributes
    )


def kernel(name: str, op: str, dur: int) -> dict:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "args": {"op_name": op}}


def test_an_8_bit_convolution_has_its_relu_where_its_range_ends_at_zero():
    graph = graph_of(
        eight_bit("a", "lowest"),
        eight_bit("b", "middle"),
        lowest=np.uint8(0),
        middle=np.uint8(128),
    )
    convolutions = convolutions_of(graph)
    assert (convolutions.n, convolutions.n_quantised, convolutions.n_with_relu) == (2, 2, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.uint8(0), True),
        (np.int8(-128), True),
        (np.int8(0), False),
        (np.uint8(1), False),
        (np.float32(0), False),
        (np.zeros(2, np.uint8), False),
    ],
)
def test_the_lowest_value_is_that_of_its_type(value, expected):
    assert is_lowest(numpy_helper.from_array(np.asarray(value), "z")) is expected


def test_a_float_convolution_has_its_relu_where_it_says_so():
    fused = helper.make_node(
        "FusedConv", ["x", "w"], ["a"], domain="com.microsoft", activation="Relu"
    )
    plain = helper.make_node("Conv", ["a", "w"], ["y"])
    convolutions = convolutions_of(graph_of(fused, plain))
    assert (convolutions.n, convolutions.n_quantised, convolutions.n_with_relu) == (2, 0, 1)


def test_layouts_are_told_apart():
    blocked = helper.make_node("Conv", ["x", "w"], ["y"], domain=NCHWC)
    nodes = [
        blocked,
        eight_bit("a", "z", channels_last=1),
        eight_bit("a", "z"),
        helper.make_node("Conv", [], []),
    ]
    assert [layout_of(node) for node in nodes] == ["NCHWc", "NHWC", "NCHW", "NCHW"]


def test_a_stray_node_is_told_with_its_neighbours():
    graph = graph_of(
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Transpose", ["r"], ["y"]),
    )
    assert stray_nodes(graph) == (
        Stray("Cast", "input image", "Conv"),
        Stray("Transpose", "Relu", "output y"),
    )
    assert structure_of(graph).n_relu == 1


def test_the_first_layer_is_all_from_the_image_to_the_first_convolution():
    graph = graph_of(
        helper.make_node("Transpose", ["constant"], ["beside"], name="beside"),
        helper.make_node("Cast", ["image"], ["x"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("Conv", ["c", "w"], ["y"], name="second"),
    )
    assert first_layer(graph) == ["cast", "first"]
    events = [{"cat": "Session", "name": "model_run", "dur": 5}]
    durations = ((90, 10, 1), (1000, 1000, 1000), (1000, 2000, 1000), (1000, 9000, 1000))
    for cast, first, second in durations:
        events.append(kernel("cast", "Cast", cast))
        events.append(kernel("first", "Conv", first))
        events.append(kernel("second", "Conv", second))
    times = times_of(graph, events, n_warmup=1)
    assert [(node.name, node.operator, node.ms) for node in times.nodes] == [
        ("cast", "Cast", 1.0),
        ("first", "Conv", 2.0),
        ("second", "Conv", 1.0),
    ]
    assert (times.total_ms, times.first_layer_share) == (4.0, 0.75)


def test_a_profile_of_another_graph_is_refused():
    graph = graph_of(helper.make_node("Conv", ["image", "w"], ["y"], name="first"))
    with pytest.raises(ValueError, match="does not name the node first"):
        times_of(graph, [kernel("other", "Conv", 1)], 0)


def test_a_graph_without_a_convolution_is_refused():
    with pytest.raises(ValueError, match="no convolution"):
        first_layer(graph_of(helper.make_node("Relu", ["image"], ["y"], name="r")))


def test_ratios_are_taken_within_each_round():
    """The machine slows down tenfold a round; the second way takes twice the first in each."""
    ways = [Way("a", "all", "on"), Way("b", "all", "on")]
    rounds = [[[scale] * 3, [2 * scale] * 3] for scale in (1.0, 10.0, 100.0, 1000.0)]
    first, second = speeds(ways, rounds, batch=2)
    assert (first.ratio, second.ratio, second.ratio_quartiles) == (1.0, 2.0, (2.0, 2.0))
    assert first.ms_per_image == 27.5
    assert second.rounds == ((2.0,) * 3, (20.0,) * 3, (200.0,) * 3, (2000.0,) * 3)


def test_turns_alternate():
    order = []

    def turn_of(name: str):
        return lambda n: order.append((name, n)) or [1.0] * n

    rounds = take_turns([turn_of("a"), turn_of("b")], 3, seconds=0)
    assert order == [("a", 3), ("b", 3)] * 2
    assert rounds == [[[1.0] * 3] * 2] * 2


def test_a_file_may_be_given_a_name():
    assert [named_model(text)[0] for text in ("old=a/k.onnx", "a/k.onnx")] == ["old", "k.onnx"]


def test_a_real_file_is_looked_at_as_it_runs(tmp_path):
    facts = facts_of("tiny", write_tiny_model(tmp_path / "tiny.onnx"), threads=1)
    convolutions = facts.structure.convolutions
    assert (convolutions.n, convolutions.n_quantised) == (2, 0)
    assert 0 < facts.times.first_layer_share <= 1
    assert sum(facts.structure.operators.values()) == len(facts.times.nodes)
    assert facts.structure.stray[0] == Stray("Cast", "input image", "Sub")
    assert "| tiny | " in facts_table([facts])


@pytest.mark.slow
def test_the_whole_comparison_names_no_path(tmp_path, monkeypatch, capsys):
    path = write_tiny_model(tmp_path / "tiny.onnx")
    out = tmp_path / "f.json"
    ways = ["--levels", "all", "basic", "--spinning", "off"]
    timing = ["--batch", "2", "--seconds", "0", "--threads", "1"]
    argv = ["graph", f"old={path}", f"new={path}", *ways, *timing, "--json", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    benchmark.main()
    text = out.read_text()
    assert str(tmp_path) not in text
    timed = [tuple(speed["way"].values()) for speed in json.loads(text)["speeds"]]
    assert timed == [(file, level, "off") for file in ("old", "new") for level in ("all", "basic")]
    assert "| new | basic | off | 2 |" in capsys.readouterr().out


def test_the_table_of_speeds_has_a_line_for_each_way():
    rounds = [[[1.0], [0.9]]] * 4
    table = speed_table(speeds([Way("old", "all", "on"), Way("new", "all", "on")], rounds, 1))
    assert table.splitlines()[-1] == "| new | all | on | 1 | 0.90 | 0.900 | 0.900–0.900 |"
