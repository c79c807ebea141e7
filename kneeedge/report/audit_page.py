"""The audit as one HTML file without scripts or outside resources: findings, then the copies side
by side.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from kneeedge.audit.findings import Finding, counted, failed
from kneeedge.audit.run import Audit, AuditedImage
from kneeedge.audit.shortcut import Separation, Shortcut
from kneeedge.data.groups import Pair
from kneeedge.model.spec import DISCLAIMER
from kneeedge.pixels.picture import read_grey
from kneeedge.report.audit import copies_line, count_rows, verdict

N_PAIRS = 200
"pairs that are shown as pictures"
N_CASES = 6
"cases of a finding that are listed at once; the others unfold"
N_FACTS = 6
SIDE = 240
"longest side of a picture, pixels"
_META = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
_STYLE = """
:root { color-scheme: light dark;
--line: #8884; --soft: #8881; --fault: #c62828; --warning: #b26a00; --note: #3b6ea5; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem;
margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .soft { opacity: .75; font-size: .9rem; }
.verdict { border-radius: .5rem; padding: .7rem 1rem; margin: 1rem 0; font-weight: 600; color: #fff;
background: #2e7d32; }
.verdict.failed { background: var(--fault); }
table { border-collapse: collapse; font-size: .92rem; } td, th { padding: .25rem .8rem .25rem 0; text-align: right;
border-bottom: 1px solid var(--line); } td:first-child, th:first-child { text-align: left; }
summary { font-size: .88rem; cursor: pointer; opacity: .75; }
.finding { border-left: .3rem solid var(--note); background: var(--soft); border-radius: .3rem; padding: .6rem 1rem;
margin: .7rem 0; } .finding.fault { border-color: var(--fault); } .finding.warning { border-color: var(--warning); }
.finding b { margin-right: .6rem; }
.finding.fault b { color: var(--fault); } .finding.warning b { color: var(--warning); }
.finding ul { margin: .3rem 0; padding-left: 1.2rem; font-size: .88rem; overflow-wrap: anywhere; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(31rem, 1fr)); gap: 1rem; }
.pair { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; }
.pair.bad { border-color: var(--fault); } .two { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; }
figure { margin: 0; text-align: center; } .frame { background: #000; border-radius: .3rem; height: 240px; display: flex;
align-items: center; justify-content: center; color: #aaa; } img { max-width: 100%; max-height: 240px; }
figcaption { font-size: .8rem; overflow-wrap: anywhere; margin-top: .3rem; }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; font-size: .78rem;
margin: 0 .3rem .4rem 0; } .tag.bad { background: var(--fault); border-color: var(--fault); color: #fff; }
.bar { display: inline-block; width: 12rem; height: .7rem; background: var(--soft); border-radius: .3rem; }
.bar i { display: block; height: 100%; background: var(--warning); border-radius: .3rem; }
@media (max-width: 40rem) { .pairs { grid-template-columns: 1fr; } }
"""


def audit_page(audit: Audit, found: Sequence[Finding]) -> str:
    """The page as HTML; it reads the images of up to N_PAIRS pairs again, from the folder audited."""
    parts = [
        f"<h1>Audit of {escape(audit.data)}</h1>",
        f'<p class="soft">{escape(DISCLAIMER)} This page holds pictures of patients: keep it where the images are.</p>',
        f'<p class="verdict{" failed" if failed(found) else ""}">{escape(verdict(found))}</p>',
        _counts(audit),
        f"<p>{escape(copies_line(audit))}.</p>",
        "<h2>Findings</h2>",
        *map(_finding, found),
        *(_shortcut(audit.shortcut) if audit.shortcut else ()),
        *_pairs(audit),
    ]
    title = f"<title>kneeedge audit: {escape(Path(audit.data).name)}</title>"
    head = f"{_META}{title}<style>{_STYLE}</style>"
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _counts(audit: Audit) -> str:
    if not audit.classes:
        return f"<p>{counted(len(audit.images), 'image')} without classes.</p>"
    heads, *rows = count_rows(audit)
    return _table(heads, [tuple(map(escape, row)) for row in rows])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already, under plain heads."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _finding(finding: Finding) -> str:
    lines = [f"<li>{escape(case)}</li>" for case in finding.cases]
    cases = f"<ul>{''.join(lines[:N_CASES])}</ul>" if lines else ""
    if rest := lines[N_CASES:]:
        cases += (
            f"<details><summary>and {len(rest):,} more</summary><ul>{''.join(rest)}</ul></details>"
        )
    return (
        f'<div class="finding {finding.severity}"><p><b>{escape(finding.kind)}</b>{escape(finding.what)}</p>'
        f'{cases}<p class="soft">What to do: {escape(finding.remedy)}.</p></div>'
    )


def _shortcut(test: Shortcut) -> list[str]:
    """The facts behind each figure, as a table with bars from chance to certainty."""
    if not test.all_facts:
        return []
    parts = [
        "<h2>Facts that tell the classes apart</h2>",
        f'<p class="soft">{escape(test.method)}.</p>',
    ]
    for what, separations in (
        ("file facts alone", test.header),
        ("with brightness and bars", test.all_facts),
    ):
        for one in separations:
            span = f"{one.auroc:.3f} [{one.interval.low:.3f}, {one.interval.high:.3f}]"
            parts.append(f"<p><strong>{escape(one.positive)}, {what}: AUROC {span}</strong></p>")
            parts.append(_facts(one))
    return parts


def _facts(one: Separation) -> str:
    rows = [
        (
            escape(weight.fact),
            f'<span class="bar"><i style="width:{200 * (weight.alone - 0.5):.0f}%"></i></span> {weight.alone:.2f}',
            f"{weight.lost:+.3f}",
            escape(weight.by_class),
        )
        for weight in one.facts[:N_FACTS]
    ]
    return _table(
        ("fact", "AUROC by itself", "AUROC lost when shuffled", "on average, or most often"), rows
    )


def _pairs(audit: Audit) -> list[str]:
    copies = audit.copies
    conflicts = frozenset(copies.conflicts)
    leaks = frozenset(copies.leaks)
    bad = conflicts | leaks
    ordered = sorted(copies.pairs, key=lambda pair: (pair not in bad, pair.similarity))
    if not ordered:
        return []
    images = {image.name: image for image in audit.images}
    root = Path(audit.data)
    shown = [
        _pair(pair, pair in conflicts, pair in leaks, images, root) for pair in ordered[:N_PAIRS]
    ]
    more = len(ordered) - N_PAIRS
    said = "Conflicts and leaks first; among them the least alike first, since those are to be judged by eye."
    left_out = f" {more:,} more pairs are not shown; --json lists all." if more > 0 else ""
    title = f"<h2>{counted(len(ordered), 'pair')} of copies</h2>"
    return [
        title,
        f'<p class="soft">{said}{left_out}</p>',
        f'<div class="pairs">{"".join(shown)}</div>',
    ]


def _pair(
    pair: Pair, conflict: bool, leak: bool, images: dict[str, AuditedImage], root: Path
) -> str:
    tags = [f'<span class="tag">{escape(pair.how)}</span>']
    if pair.similarity < 1:
        tags.append(f'<span class="tag">similarity {pair.similarity:.3f}</span>')
    tags += ['<span class="tag bad">label conflict</span>'] * conflict + [
        '<span class="tag bad">leak</span>'
    ] * leak
    figures = "".join(_figure(images[name], root) for name in (pair.first, pair.second))
    return f'<div class="pair{" bad" * (conflict or leak)}">{"".join(tags)}<div class="two">{figures}</div></div>'


def _figure(image: AuditedImage, root: Path) -> str:
    facts = image.facts
    place = ", ".join(part for part in (image.split, image.label) if part)
    size = f"{facts.width} × {facts.height} {facts.format}"
    caption = f"{escape(image.name)}<br>{f'<strong>{escape(place)}</strong>, ' if place else ''}{escape(size)}"
    picture = f'<img alt="" src="data:image/jpeg;base64,{_picture(root / image.name)}">'
    return f'<figure><div class="frame">{picture}</div><figcaption>{caption}</figcaption></figure>'


def _picture(path: Path) -> str:
    """A small JPEG in base64."""
    small = Image.fromarray(read_grey(path, SIDE))
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
