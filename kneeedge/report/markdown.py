"""Tables as Markdown."""

import re
from collections.abc import Iterable, Sequence

TAG = re.compile(r"<(?=[A-Za-z/!?])")
"with which a tag of HTML begins; `< 0.05` is none"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A line for each row; bars and HTML within a cell are escaped, line breaks become spaces."""
    lines = []
    for row in (heads, ["---"] * len(heads), *rows):
        cells = [TAG.sub("&lt;", str(cell)) for cell in row]
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
