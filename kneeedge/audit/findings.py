"""What an audit means: each finding as one sentence with its cases and what to do."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kneeedge.audit.run import Audit
from kneeedge.audit.shortcut import (
    FEWEST,
    NONE,
    SHORTCUT,
    TOO_FEW,
    Separation,
    Shortcut,
    is_shortcut,
)
from kneeedge.data.groups import Pair

if TYPE_CHECKING:
    from kneeedge.audit.facts import Facts


FAULT, WARNING, NOTE = "fault", "warning", "note"
UNREADABLE, CONFLICT, LEAK, PATIENT_LEAK = "UNREADABLE", "LABEL CONFLICT", "LEAK", "PATIENT LEAK"
NO_PATIENT = "NO PATIENT"
COPIES, IMBALANCE, NO_CLASS = "COPIES", "IMBALANCE", "NO CLASS"
SHORTCUT_FOUND, SHORTCUT_TEST = "SHORTCUT", "SHORTCUT TEST"
SIZE, ASPECT, BLANK, BARS, TEXT, OTHERS = (
    "SIZE",
    "ASPECT",
    "BLANK",
    "WHITE BAR",
    "WRITING",
    "NO IMAGE",
)
UNEVEN = 2.0
"times as many images in the largest class as in the smallest, from which it is said"
ODD_AREA, ODD_ASPECT = 4.0, 1.5
"factor to the median at which a size or an aspect may be an outlier"
FAR = 5.0
"""robust standard deviations (1.4826 × the median absolute deviation) from the median that an
outlier lies at least
"""
EMPTY = 2.0
"grey levels of contrast below which an image shows nothing"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    kind: str
    severity: str
    "fault: `--strict` fails; warning; note"
    what: str
    cases: tuple[str, ...]
    "every file or pair concerned, in words"
    remedy: str


def findings(audit: Audit) -> tuple[Finding, ...]:
    """All findings, the worst first."""
    parts = (_faults, _patients, _copies, _shortcut, _classes, _outliers, _pictures, _others)
    found = [finding for part in parts for finding in part(audit)]
    return tuple(sorted(found, key=lambda finding: (FAULT, WARNING, NOTE).index(finding.severity)))


def failed(found: Iterable[Finding]) -> bool:
    """Whether `--strict` fails: unreadable files, label conflicts, copies or patients in two
    splits.
    """
    return any(finding.severity == FAULT for finding in found)


def counted(n: int, what: str) -> str:
    """1 pair, 2 pairs."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def shortcut_lines(test: Shortcut) -> tuple[str, ...]:
    """The shortcut test in plain words: what file facts alone reach, what lightness adds, and what
    that means.
    """
    if test.verdict == TOO_FEW:
        return (f"too few images for the shortcut test: it needs {FEWEST} groups of each class",)
    several = max(len(test.header), len(test.all_facts)) > 1
    lines = [_header_line(one, several) for one in test.header]
    lines = lines or [
        "size, format and bytes a pixel are the same for all files: no shortcut there"
    ]
    lines += [
        f"with brightness, contrast, border and bars they tell {_figure(one, several)}"
        for one in test.all_facts
    ]
    if test.verdict == NONE:
        return (
            *lines,
            f"no evidence of a shortcut in {test.n:,} images: no interval lies above 0.50",
        )
    if test.verdict == SHORTCUT:
        return (
            *lines,
            "lightness may show the disease, or the machine and the export; this test cannot tell which",
        )
    return (*lines, "the separation is weak, though surely above chance")


def fact_lines(one: Separation, n: int = 3) -> tuple[str, ...]:
    """The facts that matter most for a separation."""
    return tuple(
        f"{weight.fact}: AUROC {weight.alone:.2f} by itself, {weight.by_class}"
        for weight in one.facts[:n]
    )


def _header_line(one: Separation, several: bool) -> str:
    line = f"file facts alone, with no look at the bone, tell {_figure(one, several)}"
    return (
        f"{line}: a network can score that without learning anything about bone"
        if is_shortcut(one)
        else line
    )


def _figure(one: Separation, several: bool) -> str:
    what = f"{one.positive} from the rest" if several else "the classes apart"
    return f"{what} with AUROC {one.auroc:.2f} [{one.interval.low:.2f}, {one.interval.high:.2f}]"


def _faults(audit: Audit) -> Iterable[Finding]:
    copies = audit.copies
    if audit.unreadable:
        yield Finding(
            kind=UNREADABLE,
            severity=FAULT,
            what=f"{counted(len(audit.unreadable), 'file')} cannot be read",
            cases=tuple(f"{one.name}: {one.reason}" for one in audit.unreadable),
            remedy="repair or remove them; `kneeedge train` refuses a folder that holds any",
        )
    if copies.conflicts:
        yield Finding(
            kind=CONFLICT,
            severity=FAULT,
            what=f"{counted(len(copies.conflicts), 'pair')} of copies with different labels",
            cases=_told(audit, copies.conflicts),
            remedy="find out which label is right, or remove both files",
        )
    if copies.leaks:
        yield Finding(
            kind=LEAK,
            severity=FAULT,
            what=f"{counted(len(copies.leaks), 'pair')} of copies in two splits",
            cases=_told(audit, copies.leaks),
            remedy="keep one file of each, or draw the splits anew by group (--write-groups)",
        )
    if audit.shared_patients:
        yield Finding(
            kind=PATIENT_LEAK,
            severity=FAULT,
            what=f"{counted(len(audit.shared_patients), 'patient')} in two splits",
            cases=tuple(f"{one.patient}: {', '.join(one.names)}" for one in audit.shared_patients),
            remedy="move all images of a patient to one split, or draw the splits anew by group (--write-groups)",
        )


def _patients(audit: Audit) -> Iterable[Finding]:
    lost = tuple(image.name for image in audit.images if not image.patient)
    if 0 < len(lost) < len(audit.images):
        yield Finding(
            kind=NO_PATIENT,
            severity=WARNING,
            what=f"{counted(len(lost), 'image')} whose patient is not known",
            cases=lost,
            remedy="give all in the table (--patients), or a pattern for the rest (--group-regex)",
        )


def _copies(audit: Audit) -> Iterable[Finding]:
    told = {*audit.copies.conflicts, *audit.copies.leaks}
    rest = [pair for pair in audit.copies.pairs if pair not in told]
    if rest:
        yield Finding(
            kind=COPIES,
            severity=WARNING,
            what=f"{counted(len(rest), 'pair')} of copies in one class and split, as far as known",
            cases=_told(audit, rest),
            remedy="keep them on one side of every split: give the groups (--write-groups) to `kneeedge train --groups`",
        )


def _told(audit: Audit, pairs: Iterable[Pair]) -> tuple[str, ...]:
    labels = {image.name: image.label for image in audit.images}

    def one(name: str) -> str:
        return (
            name if not labels[name] or f"{labels[name]}/" in name else f"{name} ({labels[name]})"
        )

    closest = sorted(pairs, key=lambda pair: -pair.similarity)
    return tuple(f"{one(pair.first)} = {one(pair.second)}: {pair.how}" for pair in closest)


def _shortcut(audit: Audit) -> Iterable[Finding]:
    test = audit.shortcut
    if test is None:
        return
    first, *more = shortcut_lines(test)
    strongest = max((*test.header, *test.all_facts), key=lambda one: one.auroc, default=None)
    cases = (
        *more,
        *(fact_lines(strongest) if strongest and test.verdict not in (NONE, TOO_FEW) else ()),
    )
    kind, severity = (
        (SHORTCUT_FOUND, WARNING) if test.verdict == SHORTCUT else (SHORTCUT_TEST, NOTE)
    )
    remedies = {
        TOO_FEW: "collect more images before you trust any figure on them",
        NONE: "nothing; what these facts do not show, others still may",
    }
    remedy = "export all classes by one route; a model must clearly beat these figures to have learned anything"
    yield Finding(
        kind=kind,
        severity=severity,
        what=first,
        cases=cases,
        remedy=remedies.get(test.verdict, remedy),
    )


def _classes(audit: Audit) -> Iterable[Finding]:
    for split, counts in audit.counts.items():
        if not split and len(audit.counts) > 1:
            continue  # what lies beside the splits is told as OTHERS
        known = {name: counts[name] for name in audit.classes}
        where = f"{split}: " if split else ""
        if missing := [name for name, n in known.items() if n == 0]:
            yield Finding(
                kind=NO_CLASS,
                severity=WARNING,
                what=f"{where}no image of {', '.join(missing)}",
                cases=(),
                remedy="add some: without them neither sensitivity nor specificity can be measured",
            )
        elif known and max(known.values()) >= UNEVEN * min(known.values()):
            share = ", ".join(f"{n:,} {name}" for name, n in known.items())
            yield Finding(
                kind=IMBALANCE,
                severity=NOTE,
                what=f"{where}{share}",
                cases=(),
                remedy="read sensitivity and specificity rather than accuracy, which a constant answer can drive up",
            )


def _outliers(audit: Audit) -> Iterable[Finding]:
    measures: tuple[tuple[str, str, Callable[[Facts], float], float], ...] = (
        (
            SIZE,
            "far larger or smaller than the others",
            lambda facts: facts.width * facts.height,
            ODD_AREA,
        ),
        (ASPECT, "far wider or narrower than the others", lambda facts: facts.aspect, ODD_ASPECT),
    )
    for kind, what, measure, factor in measures:
        logs = np.log([measure(image.facts) for image in audit.images])
        distance = np.abs(logs - np.median(logs)) if len(logs) else logs
        limit = max(np.log(factor), FAR * 1.4826 * float(np.median(distance))) if len(logs) else 0.0
        odd = [image for image, far in zip(audit.images, distance > limit, strict=True) if far]
        if odd:
            cases = tuple(
                f"{image.name}: {image.facts.width} × {image.facts.height}" for image in odd
            )
            remedy = (
                "look at them: stitched legs, both knees in one picture, thumbnails or wrong files"
            )
            yield Finding(
                kind=kind,
                severity=NOTE,
                what=f"{counted(len(odd), 'image')} {what}",
                cases=cases,
                remedy=remedy,
            )


def _pictures(audit: Audit) -> Iterable[Finding]:
    checks: tuple[tuple[str, str, str, Callable[[Facts], bool], str], ...] = (
        (BLANK, WARNING, "that show nothing", lambda facts: facts.contrast < EMPTY, "remove them"),
        (
            BARS,
            NOTE,
            "with a white bar along an edge",
            lambda facts: facts.white_bar > 0,
            "crop the bars off",
        ),
        (
            TEXT,
            NOTE,
            "with burned-in writing",
            lambda facts: facts.text,
            "crop or black it out: it may name the patient",
        ),
    )
    for kind, severity, what, check, remedy in checks:
        found = [image for image in audit.images if check(image.facts)]
        if found:
            by_class = Counter(image.label for image in found if image.label)
            share = ", ".join(f"{n:,} {name}" for name, n in sorted(by_class.items()))
            said = f"{counted(len(found), 'image')} {what}{f' ({share})' if share else ''}"
            yield Finding(
                kind=kind,
                severity=severity,
                what=said,
                cases=tuple(image.name for image in found),
                remedy=remedy,
            )


def _others(audit: Audit) -> Iterable[Finding]:
    if audit.others:
        what = f"{counted(len(audit.others), 'file')} of another kind, not opened"
        yield Finding(
            kind=OTHERS,
            severity=NOTE,
            what=what,
            cases=audit.others,
            remedy="none; they are left out",
        )
    loose = tuple(image.name for image in audit.images if audit.classes and not image.label)
    if loose:
        what = f"{counted(len(loose), 'image')} in no class folder, looked at for copies alone"
        yield Finding(
            kind=OTHERS,
            severity=NOTE,
            what=what,
            cases=loose,
            remedy="move them into the folder of their class, or out of the data",
        )
