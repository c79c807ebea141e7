"""The packages stand in the order of the data, and no import runs against it or in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "errors", "version", "system", "statistics", "model", "pixels", "data", "audit", "runtime",
    "inference", "runs", "report", "training", "export", "bench", "slim", "cli",
)  # fmt: skip
"each may import what stands before it, and itself"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for top in ("kneeedge", "export")
    for path in sorted((ROOT / top).rglob("*.py"))
}


def room(module: str) -> str:
    """The package that a module stands in; a module of kneeedge itself is its own."""
    first, *rest = module.split(".")
    return first if first == "export" or not rest else rest[0]


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and module of every import of ours, those within functions included."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            lines += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                lines.append((node.lineno, full if full in MODULES else str(node.module)))
    return [(line, name) for line, name in lines if name in MODULES]


def test_every_package_has_its_place() -> None:
    assert {room(name) for name in MODULES} - {"kneeedge", "__main__"} == set(ORDER)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"kneeedge", "kneeedge.__main__"}))
def test_a_module_imports_only_what_stands_before_it(module: str) -> None:
    place = ORDER.index(room(module))
    path = MODULES[module]
    against = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imports(path)
        if name != "kneeedge" and ORDER.index(room(name)) > place
    ]
    assert against == []


def test_there_is_no_circle() -> None:
    edges = {name: {other for _, other in imports(path)} for name, path in MODULES.items()}
    while ends := {name for name, others in edges.items() if not others & set(edges)}:
        edges = {name: others for name, others in edges.items() if name not in ends}
    assert sorted(edges) == [], "these modules import each other, within functions included"
