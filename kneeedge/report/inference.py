"""What `kneeedge infer` and `verify` print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kneeedge.model.spec import DISCLAIMER
from kneeedge.system.files import SHOWN_DIGITS

if TYPE_CHECKING:
    from kneeedge.inference.summary import FolderResult, FolderSummary
    from kneeedge.runtime.golden import GoldenReport
    from kneeedge.runtime.golden_pictures import PictureResult


N_LISTED = 5
"files named, of those that are left out"
WHAT_GOLDEN_SHOWS = (
    "The golden inputs are phantoms, synthetic radiographs: they show that this device computes as "
    "the exporting machine did, not how well the model answers; "
    "`kneeedge evaluate MODEL DATA` shows that on images of yours"
)
STAGES = {
    "running": "the network",
    "reading": "reading the images",
    "writing": "writing the results",
}


def infer_text(result: "FolderResult") -> str:
    """The end of `kneeedge infer`."""
    summary = result.summary
    counts = ", ".join(f"{count:,} {name}" for name, count in summary.counts.items())
    refused = f"; {summary.n_abstained:,} unlike the training images" if summary.n_abstained else ""
    speed = f"{summary.images_per_second:.1f} images/s on {result.provider}"
    model = f"model {result.model_sha256[:SHOWN_DIGITS]}"
    lines = [
        f"{summary.n:,} images: {counts}{refused}; {summary.n_errors:,} errors",
        f"{speed}, {summary.seconds:.1f} s, {summary.out}; {model}",
        stage_line(summary),
        *grey_scale_lines(summary),
    ]
    if result.others:
        lines.append(f"left out, since they are no images: {len(result.others):,} files")
        lines += [f"  {path}" for path in result.others[:N_LISTED]]
        lines += ["  …"] if len(result.others) > N_LISTED else []
    lines += result.remarks
    if summary.n_before:
        lines.append(f"{summary.n_before:,} images had their rows before")
    if summary.n_unfinished:
        unfinished = f"{summary.n_unfinished:,} files were still being written"
        lines.append(f"{unfinished}; the next run with --new-only answers them")
    if summary.n_errors:
        lines.append("the rows with status=error say what is wrong with each file")
    return "\n".join([*lines, DISCLAIMER])


def grey_scale_lines(summary: "FolderSummary") -> list[str]:
    """How DICOM images, where there are any, were brought to the grey levels of the training."""
    if not summary.grey_scales:
        return []
    ways = "; ".join(f"{n:,} by {way}" for way, n in summary.grey_scales.items())
    return [f"DICOM brought to 8-bit grey as the training images are, bone bright: {ways}"]


def stage_line(summary: "FolderSummary") -> str:
    """Which stage limits a folder run, and what each took."""
    stages = summary.stages
    seconds = max(summary.seconds, 1e-9)
    shares = (
        f"{stages.reading / seconds:.0%} waiting for images, "
        f"{stages.running / seconds:.0%} in the network, {stages.writing / seconds:.0%} writing"
    )
    decoding = f"decoding took {stages.decoding_cpu:.1f} s of processor time"
    return f"limited by {STAGES[summary.limited_by]}: {shares}; {decoding}"


def verify_text(reports: "Sequence[GoldenReport]") -> str:
    """A line on each model that `kneeedge verify` ran, and what such lines do not show."""
    return "\n".join([*map(golden_text, reports), WHAT_GOLDEN_SHOWS, DISCLAIMER])


def golden_text(report: "GoldenReport") -> str:
    """One line on a model that `kneeedge verify` ran."""
    verdict = "PASS" if report.passed else "FAIL"
    model = f"{report.model} ({report.sha256[:SHOWN_DIGITS]})"
    device = f"{report.provider} ({report.cpu})"
    from_file = (
        f"{report.max_change_from_file:.3g} to the exporting machine "
        f"(allowed {report.device_tolerance:.3g})"
    )
    from_original = (
        f"{report.max_change_from_original:.3g} to its PyTorch network "
        f"(allowed {report.original_tolerance:.3g})"
    )
    hard = f"{report.n_hard} of them where a small change flips the answer"
    parts = [
        f"{verdict}  {model}: {report.n} golden inputs (phantoms) on {device}",
        f"{hard}: {len(report.flips)} flips",
        f"largest logit change {from_file}, {from_original}",
        pictures_text(report.pictures),
    ]
    if report.wrong_cases:
        remedy = "use another provider or precision"
        parts.append(f"this device does not answer as the original did: {remedy}")
    if report.placement and report.placement.n_astray:
        remedy = "use --provider cpu"
        parts.append(f"{report.placement}, so that part of it ran elsewhere: {remedy}")
    elif report.placement:
        parts.append(str(report.placement))
    if report.concern:
        parts.append(report.concern)
    return "; ".join(parts)


def pictures_text(pictures: "Sequence[PictureResult]") -> str:
    """What became of the golden pictures on their way to the network."""
    failed = [picture for picture in pictures if not picture.passed]
    if not failed:
        return f"{len(pictures)} golden pictures decoded and resized as there"
    first = failed[0]
    what = first.error
    if not what and first.largest_change is not None and first.share_changed is not None:
        share = f"{first.share_changed:.0%} of the pixels"
        what = f"by up to {first.largest_change} grey levels in {share}"
    named = f"{first.name} differs in {first.step}{f' ({what})' if what else ''}"
    problem = f"{len(failed)} of {len(pictures)} golden pictures come out otherwise here, {named}"
    return f"{problem}: install the Pillow and the kneeedge that the file was exported with"
