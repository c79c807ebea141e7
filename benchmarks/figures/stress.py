"""Tables of the kinds of harm, and of what models answer under them."""

from benchmarks.figures.markdown import NONE, table
from kneeedge.pixels.corruptions import KINDS


def kinds() -> str:
    """Every kind with its parameter at each severity."""
    rows = []
    for kind in KINDS:
        levels = [f"{level:g}" for level in kind.levels] if kind.levels[1:] else [NONE] * 5
        rows.append([f"`{kind.name}`", kind.cause, kind.parameter, *levels])
    return table(("kind", "as of", "its levels count", *"12345"), rows, left=3)
