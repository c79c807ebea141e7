"""What every page of kneeedge's must be: whole HTML, nothing from elsewhere, no script, no style
that its own policy would stop, and no link that leads nowhere.
"""

import base64
import hashlib
import re
from html.parser import HTMLParser

VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr", "path", "circle", "rect",
})  # fmt: skip
ALLOWED = frozenset({
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "a", "nav", "section",
    "div", "span", "b", "strong", "code", "pre", "ul", "li", "table", "caption", "thead", "tbody",
    "tr", "th", "td", "details", "summary", "figure", "figcaption", "img", "svg", "path", "circle",
    "rect", "text", "br", "wbr",
})  # fmt: skip


class PageParser(HTMLParser):
    """Tags in balance, and what they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.style = ""
        self.text: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in ALLOWED:
            self.faults.append(f"<{tag}>")
        if len(named) < len(attrs):
            self.faults.append(f"an attribute of <{tag}> twice")
        self.faults += [f"{name} of <{tag}>" for name in named if name.startswith(("on", "style"))]
        if named.get("http-equiv"):
            self.policy = str(named["content"])
        if "id" in named:
            self.ids.append(str(named["id"]))
        if "href" in named:
            self.links.append(str(named["href"]))
        if "src" in named:
            self.sources.append(str(named["src"]))
            if named.get("alt") is None:
                self.faults.append("a picture without alt")
        if tag == "svg" and not ({"aria-label", "aria-hidden"} & named.keys()):
            self.faults.append("a chart without words")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)


def check_page(page: str) -> PageParser:
    """Assert all that; what was parsed, for more."""
    assert page.startswith("<!doctype html>\n")
    parser = PageParser()
    parser.feed(page)
    parser.close()
    assert parser.faults == []
    assert parser.open == []
    digest = base64.b64encode(hashlib.sha256(parser.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in parser.policy
    assert parser.policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"url\(|@import", parser.style)
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith("#") and link[1:] in parser.ids for link in parser.links)
    assert all(source.startswith("data:image/") for source in parser.sources)
    return parser
