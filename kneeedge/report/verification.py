"""What `kneeedge verify` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kneeedge.inference.predictions import ABSTAIN, ERROR, REFER
from kneeedge.model.spec import DISCLAIMER
from kneeedge.model.verdict import INCONCLUSIVE
from kneeedge.report.export import change_text
from kneeedge.report.scorecard import estimate_text, leak_line, with_interval
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.inference.pairing import ChangedAnswer, Changes, Pairing
    from kneeedge.inference.verification import ImagesReport, Verification
    from kneeedge.runtime.golden import GoldenReport
    from kneeedge.runtime.golden_pictures import PictureResult
    from kneeedge.statistics.paired import ChangedShare

N_LISTED = 10
"images named of a kind; the JSON and the rows have all"
WHAT_GOLDEN_SHOWS = (
    "The golden inputs are phantoms, synthetic radiographs: they show that this device computes as "
    "the exporting machine did, not how well the model answers; "
    "`kneeedge evaluate MODEL DATA` shows that on images of yours"
)


def verify_text(reports: "Sequence[Verification]") -> str:
    """What became of each model's golden inputs and images, and what golden inputs do not show."""
    lines = []
    for report in reports:
        lines.append(golden_text(report.golden))
        if report.images:
            lines += [f"  {line}" for line in images_lines(report.images)]
    return "\n".join([*lines, WHAT_GOLDEN_SHOWS, DISCLAIMER])


def images_lines(report: "ImagesReport") -> list[str]:
    """The answers to the images of a folder, and how they differ from the others."""
    counts = ", ".join(f"{count:,} {name}" for name, count in report.counts.items())
    split = f", split {report.split}" if report.split else ""
    images = f"{counted(report.n, 'image')} of {report.data}{split}: {counts}"
    left_out = f"{report.n_abstained:,} of these unlike the training images"
    if report.n_referred:
        left_out += f", {report.n_referred:,} between the certified limits"
    lines = [f"{images}; {left_out}; {report.n_unread:,} unreadable"]
    lines += report.remarks
    lines += listed([f"  {path}: {error}" for path, error in report.unread.items()])
    if report.accuracy:
        n_read = report.n - report.n_unread
        shown = estimate_text(report.accuracy)
        lines.append(
            f"accuracy {shown} on the {n_read:,} that were read; {leak_line(report.n_seen)}"
        )
    if report.pairing is None:
        lines.append("nothing to pair these answers with: give --against or --against-provider")
        return lines
    return [*lines, *pairing_lines(report.pairing)]


def pairing_lines(pairing: "Pairing") -> list[str]:
    """The verdict, how far figures moved, and the images of which something else is said."""
    there = pairing.there
    which = "the same file" if pairing.same_file else f"{there.model} ({there.precision})"
    if not pairing.same_network:
        which += ", another network,"
    model = there.model_sha256[:SHOWN_DIGITS]
    where = f"{there.provider} ({there.cpu}), {model}"
    lines = [f"{pairing.verdict.upper()}  against {which} on {where}: {pairing.reason}"]
    if pairing.verdict == INCONCLUSIVE and pairing.images_to_settle:
        n = f"{pairing.images_to_settle:,}"
        lines.append(f"  neither proved nor refuted: about {n} images at this rate would settle it")
    if pairing.same_device:
        lines.append("  the same file on the same device: this shows only that it repeats itself")
    lines.append(f"  {counted(pairing.n, 'image')} paired{unpaired_text(pairing)}")
    lines += listed(
        [f"    {path}: only here" for path in pairing.only_here]
        + [f"    {path}: only there" for path in pairing.only_there]
    )
    lines += [f"  {line}" for line in input_lines(pairing)]
    if pairing.changes:
        lines.append(f"  largest changes{changes_text(pairing.changes)}")
    if pairing.other_input and pairing.network_changes:
        n_same = pairing.network_changes.n
        moved = changes_text(pairing.network_changes)
        lines.append(f"  of the {n_same:,} with the same network input{moved}")
    if pairing.accuracy:
        lines.append(f"  accuracy: {change_text(pairing.accuracy)}")
    if pairing.answers:
        lines.append(f"  flips: {share_text(pairing.answers)}")
    if pairing.refusals and pairing.refusals.changed:
        judged = "" if pairing.same_file else "; between two files not part of the verdict"
        lines.append(
            f"  refused or referred in one place alone: {share_text(pairing.refusals)}{judged}"
        )
    return [*lines, *map(flip_line, pairing.flips)]


def share_text(share: "ChangedShare") -> str:
    """Changed answers as a count and a share."""
    shown = with_interval(share.share, share.interval)
    return f"{share.changed:,} of {share.n:,}, a share of {shown}"


def unpaired_text(pairing: "Pairing") -> str:
    """How many images stand alone; empty where none does."""
    if not pairing.only_here and not pairing.only_there:
        return ""
    return f"; {len(pairing.only_here):,} only here, {len(pairing.only_there):,} only there"


def input_lines(pairing: "Pairing") -> list[str]:
    """Whether the network was given the same pixels, and of which files it was not."""
    if not pairing.same_pixel_path:
        return ["network input: not compared, since the two ask for other pixels"]
    if not pairing.other_input:
        return ["network input: the same pixels on both"]
    n = len(pairing.other_input)
    why = f"decoded or resized to other pixels here: {counted(n, 'image')}"
    device = pairing.there
    remedy = f"there it was Pillow {device.pillow} and kneeedge {device.kneeedge}: install those"
    return [
        f"network input: {why}; {remedy}",
        *listed([f"  {path}" for path in pairing.other_input]),
    ]


def changes_text(changes: "Changes") -> str:
    """How far the figures moved."""
    distance = ""
    if changes.max_distance is not None:
        distance = f", distance {changes.max_distance:.3g}"
    return (
        f": logit {changes.max_logit:.3g} (mean {changes.mean_logit:.3g}), "
        f"probability {changes.max_probability:.3g}{distance}"
    )


def flip_line(flip: "ChangedAnswer") -> str:
    """One image of which something else is said here."""
    there = answer_text(flip.there, flip.there_status, flip.there_probability)
    here = answer_text(flip.here, flip.here_status, flip.here_probability)
    facts = [f"truth {flip.truth}"] if flip.truth else []
    facts.append(f"in the {flip.step}" if flip.step != "reading" else "in reading")
    if flip.logit_change is not None and flip.there != flip.here:
        facts.append(f"logit change {flip.logit_change:.3g}")
    if flip.there_distance is not None and flip.here_distance is not None:
        facts.append(f"distance {flip.there_distance:.4g} → {flip.here_distance:.4g}")
    if flip.error:
        facts.append(flip.error)
    return f"    {flip.path}: {there} → {here} ({', '.join(facts)})"


def answer_text(answer: str | None, status: str, probability: float | None) -> str:
    """Healthy 0.123, refused Healthy 0.123, referred Healthy 0.123, or unreadable."""
    if status == ERROR or answer is None or probability is None:
        return "unreadable"
    left_out = {ABSTAIN: "refused ", REFER: "referred "}.get(status, "")
    return f"{left_out}{answer} {probability:.3f}"


def listed(lines: Sequence[str]) -> list[str]:
    """The first N_LISTED lines, and how many more there are."""
    more = len(lines) - N_LISTED
    return [*lines[:N_LISTED], *([f"    … and {more:,} more"] if more > 0 else [])]


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
        f"{hard}: {counted(len(report.flips), 'flip')}",
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
