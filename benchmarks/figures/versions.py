"""Tables of the versions that kneeedge was run with, and of what wheels of ONNX Runtime answer.

The least versions stand in pyproject.toml, those of development and CI in constraints.txt, and the
others in the results.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.figures.markdown import NONE, table
from benchmarks.figures.results import FILES, FigureError, read_result

ROOT = Path(__file__).parent.parent.parent
SHOWN = {
    "Python": "python",
    "ONNX Runtime": "onnxruntime",
    "ONNX Runtime for GPUs": "onnxruntime-gpu",
    "numpy": "numpy",
    "Pillow": "pillow",
    "PyTorch": "torch",
}
"packages as a reader calls them, and their names"


def versions() -> str:
    """For each package the least version, that of CI, and all that results were measured with."""
    rows = []
    for title, name in SHOWN.items():
        measured = {version for each in recorded() for n, version in each if n == name}
        shown = ", ".join(sorted(measured, key=in_order)) or NONE
        rows.append([title, least(name), pinned().get(name, NONE), shown])
    return table(("", "least", "development and CI", "measured with"), rows, left=4)


def wheels() -> str:
    """Flips and the largest change of a logit by wheel and precision; bold: `verify` fails."""
    rows: dict[str, list[str]] = {}
    precisions = []
    for change in read_result("wheels")["changes"]:
        precisions.append(change["precision"])
        cell = f"{change['flips']} of {change['n']}, {change['max_logit_change']:.1g}"
        cells = rows.setdefault(change["wheel"], [])
        cells.append(cell if change["verified"] else f"**{cell}**")
    heads = ("wheel", *dict.fromkeys(precisions))
    return table(heads, [[wheel, *cells] for wheel, cells in rows.items()])


def in_order(version: str) -> list[int]:
    """What sorts versions by their numbers; without a local part, as +cpu."""
    return [int(digits) for digits in re.findall(r"\d+", version.partition("+")[0])]


@cache
def pinned() -> dict[str, str]:
    """The versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@cache
def least(name: str) -> str:
    """The lower bound of a package in pyproject.toml; raises FigureError where it has none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    wanted.append(f"python{project['requires-python']}")
    for line in wanted:
        match = re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", line)
        if match and match[1] == name:
            return match[2]
    raise FigureError(f"{name}: pyproject.toml has no least version of it")


@cache
def recorded() -> tuple[tuple[tuple[str, str], ...], ...]:
    """Names and versions of every environment in the results, that of Python among them."""
    return tuple(pairs for name in FILES for pairs in environments(read_result(name)))


def environments(node: Any) -> Iterator[tuple[tuple[str, str], ...]]:
    """Those of one JSON: wherever `versions` stands beside `python`."""
    if isinstance(node, dict) and {"versions", "python"} <= set(node):
        yield (*node["versions"].items(), ("python", node["python"]))
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in below:
        yield from environments(child)
