"""Tables as Markdown."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A line for each row; bars within a cell are escaped, line breaks become spaces."""
    lines = []
    for row in (heads, ["---"] * len(heads), *rows):
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
