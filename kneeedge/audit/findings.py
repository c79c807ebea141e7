"""What an audit means: each finding as one sentence with its cases and what to do."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from kneeedge.audit.closer_findings import joint_finding, label_finding
from kneeedge.audit.finding import FAULT, NOTE, WARNING, Finding
from kneeedge.audit.run import Audit, AuditedImage
from kneeedge.audit.shortcut import (
    MIN_GROUPS,
    NONE,
    SHORTCUT,
    TOO_FEW,
    Separation,
    Shortcut,
    is_shortcut,
)
from kneeedge.data.groups import Pair
from kneeedge.data.patients import patient_doubts, patients_line
from kneeedge.system.plural import counted

UNREADABLE, CONFLICT, LEAK, PATIENT_LEAK = "UNREADABLE", "LABEL CONFLICT", "LEAK", "PATIENT LEAK"
PATIENTS, NO_PATIENT, COPIES = "PATIENTS", "NO PATIENT", "COPIES"
SHORTCUT_FOUND, SHORTCUT_TEST = "SHORTCUT", "SHORTCUT TEST"
IMBALANCE, NO_CLASS = "IMBALANCE", "NO CLASS"
SIZE, ASPECT = "SIZE", "ASPECT"
BLANK, BARS, TEXT, OTHERS = "BLANK", "WHITE BAR", "WRITING", "NO IMAGE"
OWN, CLUTTER = "KNEEEDGE'S OWN", "CLUTTER"
DEPTH = "DEPTH"
UNEVEN = 2.0
"times as many images in the largest class as in the smallest, from which it is said"
ODD_AREA = 4.0
"factor to the median at which a number of pixels may be an outlier"
ODD_ASPECT = 1.5
"factor to the median at which an aspect may be an outlier"
FAR = 5.0
"robust deviations (1.4826 × the median absolute one) at which an outlier lies from the median"
MIN_CONTRAST = 2.0
"grey levels below which an image shows nothing"


def list_findings(audit: Audit) -> tuple[Finding, ...]:
    """All findings, the worst first."""
    checks = (
        _faults,
        _patients,
        _copies,
        _shortcut,
        _closer,
        _classes,
        _outliers,
        _depth,
        _contents,
        _others,
    )
    findings = [finding for check in checks for finding in check(audit)]
    severities = (FAULT, WARNING, NOTE)
    return tuple(sorted(findings, key=lambda finding: severities.index(finding.severity)))


def failed(findings: Iterable[Finding]) -> bool:
    """Whether `--strict` fails, as on unreadable files, label conflicts and leaks of splits."""
    return any(finding.severity == FAULT for finding in findings)


def shortcut_lines(test: Shortcut) -> tuple[str, ...]:
    """The shortcut test in plain words: what facts reach, by header and by lightness, and means."""
    if test.verdict == TOO_FEW:
        needed = f"it needs {MIN_GROUPS} groups of each class"
        return (f"too few images for the shortcut test: {needed}",)
    several = max(len(test.header), len(test.all_facts)) > 1
    lines = [_header_line(separation, several) for separation in test.header]
    if not lines:
        lines = ["size, format and bytes a pixel are the same for all files: no shortcut there"]
    for separation in test.all_facts:
        figure = _figure(separation, several)
        lines.append(f"with brightness, contrast, border and bars they tell {figure}")
    return (*lines, _meaning(test))


def _header_line(separation: Separation, several: bool) -> str:
    figure = _figure(separation, several)
    line = f"file facts alone, with no look at the bone, tell {figure}"
    if is_shortcut(separation):
        return f"{line}: a network can score that without learning anything about bone"
    return line


def _figure(separation: Separation, several: bool) -> str:
    """The classes and their AUROC with its interval; the class is named where there are several."""
    apart = f"{separation.positive} from the rest" if several else "the classes apart"
    interval = separation.interval
    return f"{apart} with AUROC {separation.auroc:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _meaning(test: Shortcut) -> str:
    if test.verdict == NONE:
        return f"no evidence of a shortcut in {test.n:,} images: no interval lies above 0.50"
    if test.verdict == SHORTCUT:
        causes = "the disease, or the machine and the export"
        return f"lightness may show {causes}; this test cannot tell which"
    return "the separation is weak, though surely above chance"


def fact_lines(separation: Separation, n: int = 3) -> tuple[str, ...]:
    """The facts that matter most for a separation."""
    return tuple(
        f"{weight.fact}: AUROC {weight.alone:.2f} by itself, {weight.by_class}"
        for weight in separation.facts[:n]
    )


def _faults(audit: Audit) -> Iterable[Finding]:
    copies = audit.copies
    if audit.unreadable:
        yield Finding(
            kind=UNREADABLE,
            severity=FAULT,
            what=f"{counted(len(audit.unreadable), 'file')} cannot be read",
            cases=tuple(f"{file.name}: {file.reason}" for file in audit.unreadable),
            remedy="repair or remove them; `kneeedge train` refuses a folder that holds any",
        )
    if copies.conflicts:
        yield Finding(
            kind=CONFLICT,
            severity=FAULT,
            what=f"{counted(len(copies.conflicts), 'pair')} of copies with different labels",
            cases=_pair_lines(audit, copies.conflicts),
            remedy="find out which label is right, or remove both files",
        )
    if copies.leaks:
        yield Finding(
            kind=LEAK,
            severity=FAULT,
            what=f"{counted(len(copies.leaks), 'pair')} of copies in two splits",
            cases=_pair_lines(audit, copies.leaks),
            remedy="keep one file of each, or draw the splits anew by group (--write-groups)",
        )
    shared = audit.shared_patients
    if shared:
        yield Finding(
            kind=PATIENT_LEAK,
            severity=FAULT,
            what=f"{counted(len(shared), 'patient')} in two splits",
            cases=tuple(f"{patient.patient}: {', '.join(patient.names)}" for patient in shared),
            remedy="move all images of a patient to one split, "
            "or draw the splits anew by group (--write-groups)",
        )


def _patients(audit: Audit) -> Iterable[Finding]:
    owners = [(image.name, image.patient) for image in audit.images]
    doubts = patient_doubts(owners, audit.classes)
    known = patients_line(owners)
    if known:
        yield Finding(
            kind=PATIENTS,
            severity=WARNING if doubts else NOTE,
            what=known,
            cases=tuple(doubts),
            remedy="see whether that is a patient: what is none keeps no images together",
        )
    without = tuple(image.name for image in audit.images if not image.patient)
    if 0 < len(without) < len(audit.images):
        yield Finding(
            kind=NO_PATIENT,
            severity=WARNING,
            what=f"{counted(len(without), 'image')} whose patient is not known",
            cases=without,
            remedy="give all in the table (--patients), or a pattern for the rest (--group-regex)",
        )


def _copies(audit: Audit) -> Iterable[Finding]:
    """Those that are no fault."""
    faults = {*audit.copies.conflicts, *audit.copies.leaks}
    pairs = [pair for pair in audit.copies.pairs if pair not in faults]
    if pairs:
        yield Finding(
            kind=COPIES,
            severity=WARNING,
            what=f"{counted(len(pairs), 'pair')} of copies in one class and split, as far as known",
            cases=_pair_lines(audit, pairs),
            remedy="keep them on one side of every split: "
            "give the groups (--write-groups) to `kneeedge train --groups`",
        )


def _pair_lines(audit: Audit, pairs: Iterable[Pair]) -> tuple[str, ...]:
    """The pairs in words, the most alike first; with labels where no folder tells them."""
    labels = {image.name: image.label for image in audit.images}

    def labelled(name: str) -> str:
        label = labels[name]
        return f"{name} ({label})" if label and f"{label}/" not in name else name

    closest = sorted(pairs, key=lambda pair: -pair.similarity)
    return tuple(
        f"{labelled(pair.first)} = {labelled(pair.second)}: {pair.how}" for pair in closest
    )


def _shortcut(audit: Audit) -> Iterable[Finding]:
    test = audit.shortcut
    if test is None:
        return
    what, *cases = shortcut_lines(test)
    remedies = {
        TOO_FEW: "collect more images before you trust any figure on them",
        NONE: "nothing; what these facts do not show, others still may",
    }
    remedy = remedies.get(test.verdict)
    if remedy is None:
        strongest = max((*test.header, *test.all_facts), key=lambda separation: separation.auroc)
        cases += fact_lines(strongest)
        remedy = (
            "export all classes by one route; "
            "a model must clearly beat these figures to have learned anything"
        )
    is_found = test.verdict == SHORTCUT
    yield Finding(
        kind=SHORTCUT_FOUND if is_found else SHORTCUT_TEST,
        severity=WARNING if is_found else NOTE,
        what=what,
        cases=tuple(cases),
        remedy=remedy,
    )


def _closer(audit: Audit) -> Iterable[Finding]:
    if audit.joint:
        yield joint_finding(audit.joint)
    if audit.labels:
        yield label_finding(audit.labels)


def _classes(audit: Audit) -> Iterable[Finding]:
    for split, counts in audit.counts.items():
        # what lies beside the splits is told as OTHERS
        if not split and len(audit.counts) > 1:
            continue
        n_images = {name: counts[name] for name in audit.classes}
        where = f"{split}: " if split else ""
        missing = [name for name, n in n_images.items() if n == 0]
        if missing:
            yield Finding(
                kind=NO_CLASS,
                severity=WARNING,
                what=f"{where}no image of {', '.join(missing)}",
                cases=(),
                remedy="add some: without them neither sensitivity nor specificity can be measured",
            )
        elif n_images and max(n_images.values()) >= UNEVEN * min(n_images.values()):
            by_class = ", ".join(f"{n:,} {name}" for name, n in n_images.items())
            yield Finding(
                kind=IMBALANCE,
                severity=NOTE,
                what=f"{where}{by_class}",
                cases=(),
                remedy="read sensitivity and specificity rather than accuracy, "
                "which a constant answer can drive up",
            )


def _outliers(audit: Audit) -> Iterable[Finding]:
    n_pixels = [image.facts.n_pixels for image in audit.images]
    aspects = [image.facts.aspect for image in audit.images]
    rows = (
        (SIZE, "far larger or smaller than the others", _far(n_pixels, ODD_AREA)),
        (ASPECT, "far wider or narrower than the others", _far(aspects, ODD_ASPECT)),
    )
    for kind, what, places in rows:
        if places:
            images = [audit.images[i] for i in places]
            yield Finding(
                kind=kind,
                severity=NOTE,
                what=f"{counted(len(images), 'image')} {what}",
                cases=tuple(
                    f"{image.name}: {image.facts.width} × {image.facts.height}" for image in images
                ),
                remedy="look at them: "
                "stitched legs, both knees in one picture, thumbnails or wrong files",
            )


def _far(values: Sequence[float], factor: float) -> list[int]:
    """Indices of the values that lie by `factor` and FAR robust deviations from the median."""
    if not values:
        return []
    logs = np.log(values)
    distance = np.abs(logs - np.median(logs))
    limit = max(np.log(factor), FAR * 1.4826 * float(np.median(distance)))
    return np.flatnonzero(distance > limit).tolist()


def _depth(audit: Audit) -> Iterable[Finding]:
    suspects = [image for image in audit.images if image.depth_suspect]
    if suspects:
        bits = max(image.depth_suspect for image in suspects)
        yield Finding(
            kind=DEPTH,
            severity=WARNING,
            what=f"{counted(len(suspects), 'image')} of 16 bits a pixel that come out dark"
            f"{_by_class(suspects)}: they use no more than {bits} bits",
            cases=tuple(f"{image.name}: {image.depth_suspect} bits" for image in suspects),
            remedy=f"if they were made with {bits} bits, give --grey-bits {bits} to `audit`, "
            "`train`, `infer` and `evaluate`; if they are dark pictures, --grey-bits 16",
        )


def _contents(audit: Audit) -> Iterable[Finding]:
    blank = [image for image in audit.images if image.facts.contrast < MIN_CONTRAST]
    barred = [image for image in audit.images if image.facts.white_bar > 0]
    written_on = [image for image in audit.images if image.facts.text]
    privacy = "crop or black it out: it may name the patient"
    rows = (
        (BLANK, WARNING, blank, "that show nothing", "remove them"),
        (BARS, NOTE, barred, "with a white bar along an edge", "crop the bars off"),
        (TEXT, NOTE, written_on, "with burned-in writing", privacy),
    )
    for kind, severity, images, what, remedy in rows:
        if images:
            yield Finding(
                kind=kind,
                severity=severity,
                what=f"{counted(len(images), 'image')} {what}{_by_class(images)}",
                cases=tuple(image.name for image in images),
                remedy=remedy,
            )


def _by_class(images: Sequence[AuditedImage]) -> str:
    """How many images each class has, in brackets; nothing where no label is known."""
    counts = Counter(image.label for image in images if image.label)
    if not counts:
        return ""
    return f" ({', '.join(f'{n:,} {name}' for name, n in sorted(counts.items()))})"


def _others(audit: Audit) -> Iterable[Finding]:
    if audit.others:
        yield Finding(
            kind=OTHERS,
            severity=NOTE,
            what=f"{counted(len(audit.others), 'file')} of another kind",
            cases=audit.others,
            remedy="none; they are left out",
        )
    if audit.own:
        yield Finding(
            kind=OWN,
            severity=NOTE,
            what=f"{counted(len(audit.own), 'item')} that kneeedge wrote",
            cases=audit.own,
            remedy="none; they are left out, and would be better outside the data",
        )
    if audit.clutter:
        yield Finding(
            kind=CLUTTER,
            severity=NOTE,
            what=f"{counted(len(audit.clutter), 'item')} of the system or file server",
            cases=audit.clutter,
            remedy="none; they are left out",
        )
    loose = tuple(image.name for image in audit.images if audit.classes and not image.label)
    if loose:
        yield Finding(
            kind=OTHERS,
            severity=NOTE,
            what=f"{counted(len(loose), 'image')} in no class folder, looked at for copies alone",
            cases=loose,
            remedy="move them into the folder of their class, or out of the data",
        )
