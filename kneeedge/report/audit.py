"""What `kneeedge audit` prints: the verdict, the counts, then each finding with examples and what
to do.
"""

from collections.abc import Sequence

from kneeedge.audit.findings import (
    FAULT,
    SHORTCUT_FOUND,
    SHORTCUT_TEST,
    WARNING,
    Finding,
    counted,
    failed,
)
from kneeedge.audit.run import Audit
from kneeedge.model.spec import DISCLAIMER

N_LISTED = 3


def audit_text(audit: Audit, found: Sequence[Finding]) -> str:
    """The report as plain text."""
    lines = [verdict(found), "", *count_lines(audit), "", copies_line(audit), ""]
    for finding in found:
        lines += [
            f"{finding.kind}  {finding.what}",
            *example_lines(finding),
            f"    → {finding.remedy}",
            "",
        ]
    return "\n".join([*lines, DISCLAIMER])


def verdict(found: Sequence[Finding]) -> str:
    """One line: what is wrong, or that nothing is."""
    if failed(found):
        kinds = ", ".join(finding.kind for finding in found if finding.severity == FAULT)
        return f"FAULTS: {kinds}; figures of a model on this data cannot be trusted until they are mended"
    n = sum(finding.severity == WARNING for finding in found)
    return f"NO FAULTS: all files are readable, no leak, no label conflict; {counted(n, 'warning')}"


def count_lines(audit: Audit) -> list[str]:
    """Images by split and class, a table of plain text."""
    if not audit.classes:
        return [
            f"{counted(len(audit.images), 'image')}, not in two class folders or more: no labels to check"
        ]
    rows = count_rows(audit)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def count_rows(audit: Audit) -> list[tuple[str, ...]]:
    """The heads, then a row a split: its name, its images of each class, and all of them."""
    no_split = "none" if len(audit.counts) > 1 else "all"
    rows = [
        (
            split or no_split,
            *(f"{counts.get(name, 0):,}" for name in audit.classes),
            f"{sum(counts.values()):,}",
        )
        for split, counts in audit.counts.items()
    ]
    return [("split", *audit.classes, "all"), *rows]


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
    listed = (
        finding.cases
        if finding.kind in (SHORTCUT_FOUND, SHORTCUT_TEST)
        else finding.cases[:N_LISTED]
    )
    lines = [f"    {case}" for case in listed]
    more = len(finding.cases) - len(listed)
    return [*lines, f"    and {more:,} more"] if more else lines
