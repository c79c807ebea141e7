"""What a trained network sees of the joint, as text and as a section of the model card."""

from collections.abc import Sequence

from kneeedge.inference.joint import JointReport, Pointing
from kneeedge.pixels.joint import MIN_AUROC, OFF_CENTRE
from kneeedge.report.markdown import table
from kneeedge.report.scorecard import estimate_text
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted


def joint_text(report: JointReport) -> str:
    """The AUROC of each view with its interval, what it means, and where the class maps lie."""
    lines = [f"the joint, on {report.split} ({counted(report.n, 'image')}):"]
    for view in report.views:
        auroc = estimate_text(view.auroc)
        accuracy = f"accuracy {view.accuracy.value:.4f}, {view.changed:.1%} of the answers change"
        lines.append(f"  {view.view:<14} AUROC {auroc}, {accuracy}")
    lines.append(f"  {meaning(report)}")
    lines += [f"  {line}" for line in pointing_lines(report)]
    return "\n".join([*lines, *(f"  {line}" for line in doubts(report))])


def meaning(report: JointReport) -> str:
    """Whether the network tells the classes apart without their joint, in plain words."""
    beside = [view for view in report.views if view.is_beside_the_joint]
    if beside:
        names = " and by ".join(view.view for view in beside)
        return (
            f"WARNING: by {names} alone it still tells the classes apart, so some of what it "
            "has learned is not the joint"
        )
    return (
        "without the joint it hardly tells the classes apart: no view without it is surely above "
        f"chance and reaches AUROC {MIN_AUROC:.2f}"
    )


def pointing_lines(report: JointReport) -> list[str]:
    """Where the class maps of right and of wrong answers lie."""
    if not report.pointing:
        return ["the model gives no class map, so there is nothing to say of where it points"]
    lines = [pointing_line(pointing, report.area) for pointing in report.pointing if pointing.n]
    for pointing in report.pointing:
        furthest = ", ".join(f"{case.name} {case.mass:.0%}" for case in pointing.furthest)
        if furthest:
            lines.append(f"furthest from the joint, {pointing.answers}: {furthest}")
    return lines


def pointing_line(pointing: Pointing, area: float) -> str:
    """The share of the evidence in the joint's band, beside what a map without any aim has."""
    interval = pointing.interval
    span = f" [{interval.low:.0%}, {interval.high:.0%}]" if interval else ""
    maps = f"class maps of {pointing.n:,} {pointing.answers} answers"
    return (
        f"{maps}: {pointing.mass:.0%}{span} of the evidence in the joint's band, "
        f"which is {area:.0%} of the picture"
    )


def doubts(report: JointReport) -> list[str]:
    """What makes the test say less."""
    if report.n_off_centre < OFF_CENTRE * report.n:
        return []
    images = f"{report.n_off_centre:,} of {report.n:,} images show no joint near the middle"
    return [f"{images}: there the fixed band may miss it, and the test says less"]


def joint_lines(report: JointReport | None, hashes: frozenset[str]) -> list[str]:
    """The section of the card; `hashes` are those of the run's files as they are now."""
    how = "run `kneeedge evaluate MODEL DATA --joint` with one of the run's files"
    if report is None:
        return [f"Not tested yet: {how}."]
    if report.model_sha256 not in hashes:
        return [f"Tested with a file that the run no longer has: {how}."]
    rows = [
        [
            view.view,
            estimate_text(view.auroc),
            f"{view.accuracy.value:.4f}",
            f"{view.changed:.1%}",
        ]
        for view in report.views
    ]
    source = (
        f"`{report.model}` ({report.model_sha256[:SHOWN_DIGITS]}) on {report.split} of "
        f"`{report.data}`, {report.n:,} images; the joint is a fixed band across the middle."
    )
    remarks: Sequence[str] = [meaning(report), *_pointing(report), *doubts(report)]
    return [
        source,
        "",
        *table(["shown", "AUROC [95 %]", "accuracy", "answers that change"], rows),
        "",
        *(f"- {remark}." for remark in remarks),
    ]


def _pointing(report: JointReport) -> list[str]:
    """Without the names of images, which a card that goes round is not to hold."""
    return [pointing_line(pointing, report.area) for pointing in report.pointing if pointing.n]
