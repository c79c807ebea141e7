"""The results that pages quote, and how a page names a value in one of them.

    peers:rows[name=kneeedge-int8].single.p50_ms
    growth:growth[n=100000].peak_above_loaded_mb - growth:growth[n=10000].peak_above_loaded_mb
    min recall:rows[*].found

A path starts with the short name of a file. `[3]` takes one element of a list, `[key=value]` the
elements that have that value (`[a.b=value]` below a key), and `[*]` all of them. Arithmetic goes
from left to right, with spaces around its signs. A word before a path (min, max, sum, mean, len)
makes one number of many values.
"""

import json
import re
from collections.abc import Callable
from functools import cache, reduce
from operator import add, getitem, mul, sub, truediv
from pathlib import Path
from statistics import mean
from typing import Any

FOLDER = Path(__file__).parent.parent / "results"
FILES = {
    "train-cost": "2026-11-27-train-cost-cpu.json",
    "recall": "2026-11-28-audit-recall-knee-kl.json",
    "recall-372": "2026-11-28-audit-recall-osteoporosis-372.json",
    "bench": "2026-11-25-bench-knee-kl-cpu.json",
    "growth": "2026-11-25-folder-growth-cpu.json",
    "folders": "2026-11-25-folders-knee-kl-int8-cpu.json",
    "fuzz": "2026-11-25-fuzz.json",
    "gate": "2026-11-27-gate.json",
    "graph": "2026-11-25-graph-cpu.json",
    "graph-fp32": "2026-11-25-graph-fp32-cpu.json",
    "graph-options": "2026-11-25-graph-options-cpu.json",
    "heatmaps": "2026-11-27-heatmaps-demo-int8-cpu.json",
    "int8-search": "2026-11-27-int8-search-cpu.json",
    "isolation": "2026-11-25-isolation-knee-kl-int8-cpu.json",
    "leakage": "2026-11-25-leakage-osteoporosis-372.json",
    "one-image": "2026-11-25-one-image-cpu.json",
    "peers": "2026-11-25-peers-knee-kl.json",
    "refusals": "2026-11-27-refusals-knee-kl-int8.json",
    "widths": "2026-11-25-widths-cpu.json",
    "audit-folder": "2026-11-28-audit-folder-avx2.json",
    "audit-folder-before": "2026-11-28-audit-folder-before-avx2.json",
    "audit-372": "2026-11-26-audit-osteoporosis-372.json",
    "certified": "2026-11-26-certified-knee-kl.json",
    "cluster": "2026-11-26-cluster.json",
    "decoders": "2026-11-27-decoders-cpu.json",
    "drift": "2026-11-27-drift-knee-kl-int8.json",
    "emulation-full": "2026-11-26-emulation-knee-kl-int8.json",
    "emulation-slim6": "2026-11-26-emulation-knee-kl-slim6.json",
    "emulation": "2026-11-26-emulation-demo-int8.json",
    "first-run": "2026-11-26-first-run.json",
    "joint-data": "2026-11-26-joint-data.json",
    "joint-models": "2026-11-26-joint-models-knee-kl-int8.json",
    "planted-labels": "2026-11-26-planted-labels-knee-kl.json",
    "gpu": "2026-11-27-gpu-h100.json",
    "gpu-torch": "2026-11-27-gpu-h100-torch.json",
    "frozen-bits": "2026-11-28-frozen-bits-knee-kl-avx2.json",
    "rounding": "2026-11-28-rounding-knee-kl-avx2.json",
    "train-cost-avx2": "2026-11-28-train-cost-avx2.json",
    "frozen-blocks": "2026-11-27-frozen-blocks-knee-kl.json",
    "kept-epoch": "2026-11-27-kept-epoch-knee-kl.json",
    "trained-blocks": "2026-11-27-trained-blocks-knee-kl.json",
    "default-blocks": "2026-11-27-default-blocks-knee-kl.json",
    "more-views": "2026-11-28-more-views-knee-kl.json",
    "slim-seeds": "2026-11-28-slim-seeds-knee-kl.json",
    "bench-slim-seeds": "2026-11-28-bench-slim-seeds-knee-kl-cpu.json",
    "bench-slim-seeds-before": "2026-11-28-bench-slim-seeds-before-knee-kl-cpu.json",
    "slim-study": "2026-11-27-slim-study-knee-kl.json",
    "slim-steps": "2026-11-28-slim-steps-knee-kl.json",
    "slim-scan": "2026-11-27-slim-scan-knee-kl.json",
    "tune-study": "2026-11-27-tune-knee-kl.json",
    "training-time": "2026-11-27-training-time-knee-kl-cpu.json",
    "training-time-amd": "2026-11-27-training-time-knee-kl-amd.json",
    "members": "2026-11-27-members-knee-kl.json",
    "recipes": "2026-11-27-recipes-corrupted-views-h100.json",
    "recipes-osteoporosis-372": "2026-11-28-recipes-osteoporosis-372-avx2.json",
    "polarity": "2026-11-27-polarity-knee-kl.json",
    "licences": "2026-11-26-licences.json",
    "node": "2026-11-26-node-knee-kl-int8.json",
    "novelty-slim6": "2026-11-26-novelty-knee-kl-slim6-val.json",
    "novelty-seed-0": "2026-11-27-novelty-knee-kl-seed-0-val.json",
    "novelty-seed-1": "2026-11-27-novelty-knee-kl-seed-1-val.json",
    "novelty-seed-2": "2026-11-27-novelty-knee-kl-seed-2-val.json",
    "novelty-int8": "2026-11-27-novelty-knee-kl-int8-val.json",
    "novelty-test": "2026-11-27-novelty-knee-kl-int8-test.json",
    "signed-load": "2026-11-26-signed-load.json",
    "web-full": "2026-11-26-web-knee-kl-int8.json",
    "web-slim6": "2026-11-26-web-knee-kl-slim6.json",
    "wheels": "2026-11-26-wheels-edge-cpu.json",
    "triton": "2026-11-26-triton-knee-kl-slim6-cpu.json",
    "stress": "2026-11-27-stress-knee-kl.json",
    "stress-before": "2026-11-27-stress-knee-kl-before.json",
}
OPERATORS = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
}
FUNCTIONS: dict[str, Callable[[list[Any]], float]] = {
    "min": min,
    "max": max,
    "sum": sum,
    "mean": mean,
    "len": len,
}
SPLIT = re.compile(r" ([-+*/]) ")
STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
"a selector in brackets, or a key"


class FigureError(ValueError):
    """A page names a value that no result has."""


@cache
def read_result(name: str) -> Any:
    """The JSON of the result with this short name."""
    if name not in FILES:
        raise FigureError(f"{name}: no such result; the short names are {', '.join(FILES)}")
    path = FOLDER / FILES[name]
    if not path.is_file():
        raise FigureError(f"{name}: {path.name} is missing; measure it, or name the newer file")
    return json.loads(path.read_text(encoding="utf-8"))


def evaluate(expression: str) -> float:
    """The number that an expression of paths and arithmetic names."""
    first, *others = SPLIT.split(expression.strip())
    number = term(first)
    for sign, text in zip(others[::2], others[1::2], strict=True):
        number = OPERATORS[sign](number, term(text))
    return number


def term(text: str) -> float:
    """A constant, a path, or a function of a path."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    word, space, path = text.partition(" ")
    if space and word in FUNCTIONS:
        return FUNCTIONS[word](values(path))
    number = value(text)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise FigureError(f"{text}: {number!r} is no number")
    return number


def value(path: str) -> Any:
    """What one path names; raises FigureError where it names none, or several."""
    named = values(path)
    if len(named) != 1:
        raise FigureError(f"{path}: names {len(named)} values in place of one")
    return named[0]


def values(path: str) -> list[Any]:
    """All that one path names."""
    name, colon, inner = path.strip().partition(":")
    if not colon:
        raise FigureError(f"{path}: write NAME:PATH")
    nodes = [read_result(name)]
    for selector, key in STEP.findall(inner):
        nodes = [below for node in nodes for below in step(node, selector, key, path)]
    return nodes


def step(node: Any, selector: str, key: str, path: str) -> list[Any]:
    """What a key, or a selector in brackets, names in one node."""
    try:
        if key:
            return [node[key]]
        if selector == "*":
            return list(node)
        keys, equals, wanted = selector.partition("=")
        if not equals:
            return [node[int(selector)]]
        return [below for below in node if str(reduce(getitem, keys.split("."), below)) == wanted]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise FigureError(f"{path}: {key or selector} is not there") from error
