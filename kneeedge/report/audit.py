"""What `kneeedge audit` prints: verdict, counts, then each finding with examples and what to do."""

from collections.abc import Sequence

from kneeedge.audit.closer_findings import BESIDE_JOINT, JOINT_TEST, LABELS
from kneeedge.audit.finding import FAULT, WARNING, Finding
from kneeedge.audit.findings import SHORTCUT_FOUND, SHORTCUT_TEST, failed
from kneeedge.audit.run import Audit
from kneeedge.model.spec import DISCLAIMER
from kneeedge.system.plural import counted

N_LISTED = 3
"cases of a finding that are shown"
N_SUSPECTS = 10
"images of the search for wrong labels that are shown"
WHOLE = (SHORTCUT_FOUND, SHORTCUT_TEST, BESIDE_JOINT, JOINT_TEST)
"findings of which all cases are shown"


def audit_text(audit: Audit, findings: Sequence[Finding]) -> str:
    """The report as plain text."""
    lines = [verdict(findings), "", *count_lines(audit), "", copies_line(audit), ""]
    for finding in findings:
        lines.append(f"{finding.kind}  {finding.what}")
        lines += example_lines(finding)
        lines += [f"    → {finding.remedy}", ""]
    return "\n".join([*lines, DISCLAIMER])


def verdict(findings: Sequence[Finding]) -> str:
    """One line: what is wrong, or that nothing is."""
    if failed(findings):
        kinds = ", ".join(finding.kind for finding in findings if finding.severity == FAULT)
        outcome = "figures of a model on this data cannot be trusted until they are mended"
        return f"FAULTS: {kinds}; {outcome}"
    n = sum(finding.severity == WARNING for finding in findings)
    return f"NO FAULTS: all files are readable, no leak, no label conflict; {counted(n, 'warning')}"


def count_lines(audit: Audit) -> list[str]:
    """Images by split and class, a table of plain text."""
    if not audit.classes:
        n_images = counted(len(audit.images), "image")
        return [f"{n_images}, not in two class folders or more: no labels to check"]
    rows = count_rows(audit)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells))
    return lines


def count_rows(audit: Audit) -> list[tuple[str, ...]]:
    """The heads, then a row a split: its name, its images of each class, and all of them."""
    no_split = "none" if len(audit.counts) > 1 else "all"
    rows: list[tuple[str, ...]] = [("split", *audit.classes, "all")]
    for split, counts in audit.counts.items():
        by_class = [f"{counts.get(name, 0):,}" for name in audit.classes]
        rows.append((split or no_split, *by_class, f"{sum(counts.values()):,}"))
    return rows


def copies_line(audit: Audit) -> str:
    """How many pairs of copies there are, and of what kind."""
    report = audit.copies.data_report
    n_groups = len(set(audit.copies.groups.values()))
    exact = counted(report.exact_pairs, "pair")
    near = counted(report.near_pairs, "pair")
    grouped = f"{counted(report.n_images, 'image')} in {counted(n_groups, 'group')}"
    return f"copies: {exact} of identical images, {near} of altered copies; {grouped}"


def example_lines(finding: Finding) -> list[str]:
    """The first cases, and how many more there are."""
    n_listed = N_SUSPECTS if finding.kind == LABELS else N_LISTED
    cases = finding.cases if finding.kind in WHOLE else finding.cases[:n_listed]
    lines = [f"    {case}" for case in cases]
    n_more = len(finding.cases) - len(cases)
    if n_more:
        lines.append(f"    and {n_more:,} more")
    return lines
