"""The audit as one HTML file without scripts or outside resources: findings, then copies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kneeedge.audit.finding import Finding
from kneeedge.audit.findings import failed
from kneeedge.audit.run import Audit, AuditedImage
from kneeedge.audit.shortcut import Separation, Shortcut
from kneeedge.data.groups import Pair
from kneeedge.inference.predictions import Prediction
from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.audit import copies_line, count_rows, verdict
from kneeedge.report.audit_closer import joint_section, suspects_section
from kneeedge.report.audit_parts import bar, figure
from kneeedge.report.page import page, table, words
from kneeedge.system.plural import counted

N_PAIRS = 200
"pairs that are shown as pictures"
N_CASES = 6
"cases of a finding that are listed at once; the others unfold"
N_FACTS = 6
_STYLE = """
.finding { border-left: .3rem solid var(--note); background: var(--soft); border-radius: .3rem;
  padding: .6rem 1rem; margin: .7rem 0; }
.finding.fault { border-color: var(--fault); }
.finding.warning { border-color: var(--warning); }
.finding b { margin-right: .6rem; }
.finding.fault b { color: var(--fault); }
.finding.warning b { color: var(--warning); }
.finding ul { margin: .3rem 0; padding-left: 1.2rem; font-size: .88rem; overflow-wrap: anywhere; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(31rem, 1fr)); gap: 1rem; }
.pair { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; }
.pair.bad { border-color: var(--fault); }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; }
figure { margin: 0; text-align: center; }
.frame { background: #000; border-radius: .3rem; height: 240px; display: flex; align-items: center;
  justify-content: center; color: #aaa; }
img { max-width: 100%; max-height: 240px; }
figcaption { font-size: .8rem; overflow-wrap: anywhere; margin-top: .3rem; }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem;
  font-size: .78rem; margin: 0 .3rem .4rem 0; }
.tag.bad { background: var(--fault); border-color: var(--fault); color: #fff; }
svg.bar { display: inline-block; width: 12rem; height: .7rem; background: var(--soft);
  border-radius: .3rem; }
svg.bar rect { fill: var(--warning); }
@media (max-width: 40rem) { .pairs { grid-template-columns: 1fr; } }
"""


def audit_page(
    audit: Audit, findings: Sequence[Finding], answers: Mapping[str, Prediction] | None = None
) -> str:
    """The page as HTML; the images of up to N_PAIRS pairs are read again from the folder.

    `answers` are a model's to images of doubtful labels, by name, with their class maps.
    """
    privacy = "This page holds pictures of patients: keep it where the images are."
    outcome = "verdict failed" if failed(findings) else "verdict"
    parts = [
        f"<h1>Audit of {words(audit.data)}</h1>",
        f'<p class="soft">{words(DISCLAIMER)} {privacy}</p>',
        f'<p class="{outcome}">{words(verdict(findings))}</p>',
        _counts(audit),
        f"<p>{words(copies_line(audit))}.</p>",
        "<h2>Findings</h2>",
        *map(_finding, findings),
    ]
    if audit.shortcut:
        parts += _shortcut(audit.shortcut)
    if audit.joint:
        parts += joint_section(audit.joint)
    if audit.labels:
        parts += suspects_section(audit, audit.labels, answers or {})
    parts += _pairs(audit)
    return page(f"audit: {Path(audit.data).name}", parts, _STYLE)


def _counts(audit: Audit) -> str:
    if not audit.classes:
        return f"<p>{counted(len(audit.images), 'image')} without classes.</p>"
    heads, *rows = count_rows(audit)
    return table(heads, [tuple(map(words, row)) for row in rows])


def _finding(finding: Finding) -> str:
    kind = f"<b>{words(finding.kind)}</b>"
    remedy = f'<p class="soft">What to do: {words(finding.remedy)}.</p>'
    return (
        f'<div class="finding {finding.severity}"><p>{kind}{words(finding.what)}</p>'
        f"{_cases(finding.cases)}{remedy}</div>"
    )


def _cases(cases: Sequence[str]) -> str:
    """A list of N_CASES, the others folded away below it; nothing where there are none."""
    items = [f"<li>{words(case)}</li>" for case in cases]
    if not items:
        return ""
    shown = f"<ul>{''.join(items[:N_CASES])}</ul>"
    folded = items[N_CASES:]
    if not folded:
        return shown
    summary = f"<summary>and {len(folded):,} more</summary>"
    return f"{shown}<details>{summary}<ul>{''.join(folded)}</ul></details>"


def _shortcut(test: Shortcut) -> list[str]:
    """The facts behind each figure, as a table with bars from chance to certainty."""
    if not test.all_facts:
        return []
    parts = [
        "<h2>Facts that tell the classes apart</h2>",
        f'<p class="soft">{words(test.method)}.</p>',
    ]
    for separation in test.header:
        parts += _separation(separation, "file facts alone")
    for separation in test.all_facts:
        parts += _separation(separation, "with brightness and bars")
    return parts


def _separation(separation: Separation, basis: str) -> list[str]:
    interval = separation.interval
    figure = f"{separation.auroc:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    line = f"{words(separation.positive)}, {basis}: AUROC {figure}"
    heads = ("fact", "AUROC by itself", "AUROC lost when shuffled", "on average, or most often")
    rows = []
    for weight in separation.facts[:N_FACTS]:
        lost = f"{weight.lost:+.3f}"
        rows.append((words(weight.fact), bar(weight.alone), lost, words(weight.by_class)))
    return [f"<p><strong>{line}</strong></p>", table(heads, rows)]


def _pairs(audit: Audit) -> list[str]:
    copies = audit.copies
    conflicts = frozenset(copies.conflicts)
    leaks = frozenset(copies.leaks)
    bad = conflicts | leaks
    ordered = sorted(copies.pairs, key=lambda pair: (pair not in bad, pair.similarity))
    if not ordered:
        return []
    images = {image.name: image for image in audit.images}
    root = audit.root
    shown = [
        _pair(pair, pair in conflicts, pair in leaks, images, root, audit.grey_bits)
        for pair in ordered[:N_PAIRS]
    ]
    order = (
        "Conflicts and leaks first; "
        "among them the least alike first, since those are to be judged by eye."
    )
    n_more = len(ordered) - N_PAIRS
    left_out = f" {n_more:,} more pairs are not shown; --json lists all." if n_more > 0 else ""
    return [
        f"<h2>{counted(len(ordered), 'pair')} of copies</h2>",
        f'<p class="soft">{order}{left_out}</p>',
        f'<div class="pairs">{"".join(shown)}</div>',
    ]


def _pair(
    pair: Pair,
    conflict: bool,
    leak: bool,
    images: dict[str, AuditedImage],
    root: Path,
    grey_bits: int,
) -> str:
    tags = [f'<span class="tag">{words(pair.how)}</span>']
    if pair.similarity < 1:
        tags.append(f'<span class="tag">similarity {pair.similarity:.3f}</span>')
    if conflict:
        tags.append('<span class="tag bad">label conflict</span>')
    if leak:
        tags.append('<span class="tag bad">leak</span>')
    figures = "".join(figure(images[name], root, grey_bits) for name in (pair.first, pair.second))
    frame = "pair bad" if conflict or leak else "pair"
    return f'<div class="{frame}">{"".join(tags)}<div class="two">{figures}</div></div>'
