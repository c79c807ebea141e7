"""The packages stand in the order of the data, and no import runs against it or in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "errors", "version", "system", "statistics", "model", "pixels", "data", "audit", "runtime",
    "inference", "stress", "cluster", "node", "runs", "report", "web", "triton", "training",
    "tune", "export", "bench", "slim", "cli",
)  # fmt: skip
"each may import what stands before it, and itself"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


PATHS = sorted([*(ROOT / "kneeedge").rglob("*.py"), *(ROOT / "export").rglob("*.py")])
MODULES = {module_name(path): path for path in PATHS}


def package(module: str) -> str:
    """The package that a module stands in; a module of kneeedge itself is its own."""
    parts = module.split(".")
    if parts[0] == "export" or len(parts) == 1:
        return parts[0]
    return parts[1]


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and module of every import of ours, those within functions included."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            lines += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                name = submodule if submodule in MODULES else str(node.module)
                lines.append((node.lineno, name))
    return [(line, name) for line, name in lines if name in MODULES]


def test_every_package_has_its_place() -> None:
    assert {package(name) for name in MODULES} - {"kneeedge", "__main__"} == set(ORDER)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"kneeedge", "kneeedge.__main__"}))
def test_a_module_imports_only_what_stands_before_it(module: str) -> None:
    place = ORDER.index(package(module))
    path = MODULES[module]
    violations = []
    for line, name in imports(path):
        if name != "kneeedge" and ORDER.index(package(name)) > place:
            violations.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert violations == []


def test_there_is_no_circle() -> None:
    """Modules that import none of those left over are taken out until there are no more."""
    imported = {}
    for module, path in MODULES.items():
        imported[module] = {name for _, name in imports(path)}
    while True:
        leaves = {module for module, names in imported.items() if not names & set(imported)}
        if not leaves:
            break
        imported = {module: names for module, names in imported.items() if module not in leaves}
    assert sorted(imported) == [], "these modules import each other, within functions included"
