"""What `kneeedge verify --emulate` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kneeedge.model.spec import DISCLAIMER
from kneeedge.report.verification import N_LISTED, WHAT_GOLDEN_SHOWS, flip_line, pictures_text

if TYPE_CHECKING:
    from kneeedge.inference.emulation import EmulatedReport

NAMES = ("CPU", "file", "")
GOLDEN = ("flips", "change", "allowed", "of PyTorch", "allowed", "pictures")
IMAGES = ("images", "flips", "refused", "change", "verdict")
WHAT_EMULATION_SHOWS = (
    "change: of a logit, the largest against the exporting machine; of PyTorch: against the "
    "original network. The seconds are the emulation's, not the CPU's own; what only the real chip "
    "does (errata, heat, memory) does not show here"
)


def emulation_report(reports: "Sequence[EmulatedReport]") -> Group:
    """A row for each file on each CPU, and below them what they do not say."""
    tables: list[RenderableType] = [table((*NAMES, *GOLDEN, "seconds"), golden_rows(reports)), ""]
    if images := images_rows(reports):
        tables += [table((*NAMES, *IMAGES), images), ""]
    lines = [*remarks(reports), WHAT_EMULATION_SHOWS, WHAT_GOLDEN_SHOWS, DISCLAIMER]
    return Group(*tables, *map(Text, lines))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose names fold where it is too wide."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, head in enumerate(heads):
        grid.add_column(head, justify="left" if i < len(NAMES) else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


def golden_rows(reports: "Sequence[EmulatedReport]") -> list[list[str]]:
    """The golden inputs and pictures of each file on each CPU."""
    rows = []
    for report in reports:
        figures = ["-"] * len(GOLDEN)
        if report.answers:
            golden = report.answers.golden
            n_right = sum(picture.passed for picture in golden.pictures)
            figures = [
                f"{len(golden.flips)} of {golden.n}",
                f"{golden.max_change_from_file:.2g}",
                f"{golden.device_tolerance:.2g}",
                f"{golden.max_change_from_original:.2g}",
                f"{golden.original_tolerance:.2g}",
                f"{n_right} of {len(golden.pictures)}",
            ]
        rows.append([*names(report), *figures, f"{report.seconds:.0f}"])
    return rows


def images_rows(reports: "Sequence[EmulatedReport]") -> list[list[str]]:
    """The images of `--data` on each CPU, beside the other answers to them."""
    rows = []
    for report in reports:
        images = report.answers.images if report.answers else None
        if images is None or images.pairing is None:
            continue
        pairing = images.pairing
        figures = [
            f"{pairing.n:,}",
            str(pairing.answers.changed) if pairing.answers else "-",
            str(pairing.refusals.changed) if pairing.refusals else "-",
            f"{pairing.changes.max_logit:.2g}" if pairing.changes else "-",
            pairing.verdict,
        ]
        rows.append([*names(report), *figures])
    return rows


def names(report: "EmulatedReport") -> list[str]:
    return [report.emulated, report.model, "PASS" if report.passed else "FAIL"]


def remarks(reports: "Sequence[EmulatedReport]") -> list[str]:
    """Why rows failed, and what else is to be known of them; rows of one remark in one line."""
    rows_of: dict[str, list[str]] = {}
    for report in reports:
        for remark in remarks_of(report):
            rows_of.setdefault(remark, []).append(f"{report.emulated} {report.model}")
    return [f"{', '.join(rows)}: {remark}" for remark, rows in rows_of.items()]


def remarks_of(report: "EmulatedReport") -> list[str]:
    """What a row does not say by its figures."""
    if report.answers is None:
        return [f"no answers: {report.failure}"]
    golden = report.answers.golden
    found = [golden.concern] if golden.concern else []
    if golden.wrong_cases:
        found.append(f"{len(golden.wrong_cases)} of {golden.n} golden inputs beyond a tolerance")
    if not all(picture.passed for picture in golden.pictures):
        found.append(pictures_text(golden.pictures))
    images = report.answers.images
    if images and images.pairing:
        found += [flip_line(flip).strip() for flip in images.pairing.flips[:N_LISTED]]
        more = len(images.pairing.flips) - N_LISTED
        found += [f"{more:,} more images of another answer; --json names them"] * (more > 0)
    return found
