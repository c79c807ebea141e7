"""What every page of kneeedge's is made of: one HTML file, no script, nothing from elsewhere.

Text from files (names of images, classes, options) goes through `words`; all else here takes HTML.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS

_META = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --paper: #fff; --line: #8884; --soft: #8881;
  --fault: #c62828; --warning: #a15c00; --note: #2f6299; --good: #2e7d32; --s0: #1f5fa8;
  --s1: #c2571a; --s2: #2a8c5a; --s3: #8a4fa3; --s4: #b03a48; --s5: #5b6770; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --paper: #15181b; --fault: #ef6b6b;
  --warning: #e0a040; --note: #82b1e6; --good: #6cc070; --s0: #7fb2ef; --s1: #f0a066;
  --s2: #6fcf9b; --s3: #c79be0; --s4: #e88a96; --s5: #aab4bb; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 0 auto; padding: 1.5rem;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0; }
a { color: var(--note); }
code, pre { font: .86em/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
.soft { opacity: .78; font-size: .9rem; }
.verdict { border-radius: .5rem; padding: .7rem 1rem; margin: 1rem 0; font-weight: 600; color: #fff;
  background: #2e7d32; }
.verdict.failed { background: #b3261e; }
.wide { overflow-x: auto; margin: .4rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: .88rem; opacity: .78; padding-bottom: .2rem; }
td, th { padding: .25rem .8rem .25rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; }
table.text td, table.text th { text-align: left; }
td, td code { white-space: nowrap; overflow-wrap: normal; }
table.text td, table.text th { white-space: normal; }
th { font-weight: 600; }
tbody th { font-weight: 400; }
summary { font-size: .88rem; cursor: pointer; opacity: .78; }
img { max-width: 100%; }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page that its list of contents names."""

    key: str
    "of its anchor"
    title: str
    parts: tuple[str, ...]
    "HTML"


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """The whole page as HTML: `title` plain, `parts` of its body HTML, `style` behind STYLE.

    Its content security policy allows for this one style and for pictures within the file, and
    nothing else: no script runs, and nothing is fetched or sent, whatever the text of a file says.
    """
    css = STYLE + style
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    named = f"<title>kneeedge {words(title)}</title>"
    security = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    head = f"{_META}{security}{named}<style>{css}</style>"
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def words(text: object) -> str:
    r"""Plain text as HTML, in an attribute too; what cannot be printed is written as its escape.

    So no name turns the direction of the text behind it, or ends the page. A byte that is no UTF-8
    comes as \udc80 to \udcff, which the writer of the file has to replace.
    """

    def shown(c: str) -> str:
        return c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1]

    return escape("".join(map(shown, str(text))))


def field_name(fields: Iterable[str]) -> str:
    """A field of a record, which may be broken behind its dots and bars."""
    return words(".".join(fields)).replace(".", ".<wbr>").replace("_", "_<wbr>")


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    is_text: bool = False,
) -> str:
    """A table of cells that are HTML already, under plain heads; the first cell names its row.

    Columns but the first stand at the right, as numbers do, unless `is_text`. A table that is wider
    than the page scrolls by itself.
    """
    of_heads = "".join(f'<th scope="col">{words(name)}</th>' for name in heads)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    named = f"<caption>{words(caption)}</caption>" if caption else ""
    kind = ' class="text"' if is_text else ""
    body = f"<thead><tr>{of_heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="wide"><table{kind}>{named}{body}</table></div>'


def plain_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    caption: str = "",
    is_text: bool = False,
) -> str:
    """As `table`, of cells that are plain text; a path may be broken behind its slashes."""
    cells = [[words(cell).replace("/", "/<wbr>") for cell in row] for row in rows]
    return table(heads, cells, caption, is_text)


def jpeg_tag(jpeg: bytes, alt: str) -> str:
    """A JPEG within the page."""
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img alt="{words(alt)}" src="data:image/jpeg;base64,{data}">'


def verdict_tag(verdict: str) -> str:
    """A gate's verdict, in its colour."""
    kind = verdict if verdict in (PASS, FAIL, INCONCLUSIVE) else ""
    return f'<span class="tag {kind}">{words(verdict)}</span>'


def section_html(section: Section) -> str:
    """The section under its heading."""
    heading = f"<h2>{words(section.title)}</h2>"
    return f'<section id="{anchor(section.key)}">{heading}{"".join(section.parts)}</section>'


def contents(sections: Iterable[Section]) -> str:
    """The list of sections, as links."""
    links = [f'<a href="#{anchor(section.key)}">{words(section.title)}</a>' for section in sections]
    return f'<nav aria-label="contents">{" ".join(links)}</nav>'


# Records within the page, every field of which can be linked to


ID_DEPTH = 3
"levels of a record whose fields have anchors"


@dataclass(frozen=True)
class Record:
    """A JSON record that the page holds."""

    key: str
    "of its anchors, as old-metrics"
    name: str
    "of its file"
    value: Any
    "what `json.loads` gives"
    sha256: str = ""
    "of the file; empty where there is none"


def anchor(record: str, *fields: str) -> str:
    """The anchor of a record's field."""
    return quote(".".join((record, *fields)), safe=".-_")


def source(record: str, *fields: str, text: str = "") -> str:
    """A link to a record's field within the page."""
    shown = text or ".".join(fields) or record
    return f'<a class="source" href="#{anchor(record, *fields)}">{words(shown)}</a>'


def record_html(record: Record) -> str:
    """The record, folded away; a link to one of its fields unfolds it."""
    digest = f", sha256 <code>{words(record.sha256)}</code>" if record.sha256 else ""
    body = "".join(_json(record.value, (record.key,), 0))
    summary = f"<summary>{words(record.name)}{digest}</summary>"
    return f'<details>{summary}<pre id="{anchor(record.key)}">{body}</pre></details>'


def _json(value: Any, path: tuple[str, ...], depth: int) -> Iterable[str]:
    """JSON as `json.dumps` writes it with an indent of 2, its upper keys with their anchors."""
    if isinstance(value, dict) and value:
        yield "{\n"
        for i, (key, item) in enumerate(value.items()):
            name = words(json.dumps(key, ensure_ascii=False))
            here = (*path, key)
            if depth < ID_DEPTH:
                name = f'<b id="{anchor(*here)}">{name}</b>'
            yield "  " * (depth + 1) + name + ": "
            yield from _json(item, here, depth + 1)
            yield ",\n" if i < len(value) - 1 else "\n"
        yield "  " * depth + "}"
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        yield "[\n"
        for i, item in enumerate(value):
            yield "  " * (depth + 1)
            yield from _json(item, (*path, str(i)), depth + 1)
            yield ",\n" if i < len(value) - 1 else "\n"
        yield "  " * depth + "]"
    else:
        yield words(json.dumps(value, ensure_ascii=False))
