"""The card's Markdown as HTML: paragraphs, lists, tables, bold and code, and no more."""

import re
from collections.abc import Iterator, Sequence

from kneeedge.report.page import table, words

BOLD = re.compile(r"\*\*(.+?)\*\*")
CODE = re.compile(r"`([^`]+)`")
CELL_END = re.compile(r"(?<!\\)\|")


def prose(lines: Sequence[str]) -> Iterator[str]:
    """Lines of the card's Markdown as HTML: paragraphs, lists and tables, bold and code."""
    items: list[str] = []
    cells: list[list[str]] = []
    for line in [*lines, ""]:
        if items and not line.startswith("- "):
            yield f"<ul>{''.join(items)}</ul>"
            items = []
        if cells and not line.startswith("| "):
            heads, _, *rows = cells
            yield table(heads, [[inline(cell) for cell in row] for row in rows], is_text=True)
            cells = []
        if line.startswith("- "):
            items.append(f"<li>{inline(line.removeprefix('- '))}</li>")
        elif line.startswith("| "):
            cells.append([unescaped(cell) for cell in CELL_END.split(line.strip("|"))])
        elif line:
            yield f"<p>{inline(line)}</p>"


def unescaped(cell: str) -> str:
    """A cell of a Markdown table as the text that it shows."""
    return cell.strip().replace("\\|", "|").replace("&lt;", "<")


def inline(line: str) -> str:
    """A line of Markdown as HTML, with its bold and its code."""
    html = CODE.sub(r"<code>\1</code>", words(line))
    return BOLD.sub(r"<strong>\1</strong>", html)
