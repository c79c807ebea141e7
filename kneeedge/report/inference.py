"""What `kneeedge infer` prints."""

from typing import TYPE_CHECKING

from kneeedge.inference.drift import BASELINE
from kneeedge.inference.drift_log import LEARNING
from kneeedge.inference.drift_words import OF
from kneeedge.model.spec import DISCLAIMER
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.inference.drift_log import DriftStatus
    from kneeedge.inference.summary import ClusterFacts, FolderResult, FolderSummary

N_LISTED = 5
"files named, of those that are left out"
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
    if summary.n_referred:
        refused += f"; {summary.n_referred:,} to refer to a person"
    images = counted(summary.n, "image")
    speed = f"{summary.images_per_second:.1f} images/s on {result.provider}"
    model = f"model {result.model_sha256[:SHOWN_DIGITS]}"
    lines = [
        f"{images}: {counts}{refused}; {counted(summary.n_errors, 'error')}",
        f"{speed}, {summary.seconds:.1f} s, {summary.out}; {model}",
        cluster_line(result.cluster, summary) if result.cluster else stage_line(summary),
        *grey_scale_lines(summary),
        *inverted_lines(summary.n_inverted),
        *drift_lines(result.drift),
    ]
    if result.others:
        lines.append(f"left out, since they are no images: {counted(len(result.others), 'file')}")
        lines += [f"  {path}" for path in result.others[:N_LISTED]]
        lines += ["  …"] if len(result.others) > N_LISTED else []
    lines += result.remarks
    if summary.n_before:
        lines.append(f"{counted(summary.n_before, 'image')} had rows before")
    if summary.n_unfinished:
        unfinished = f"still being written: {counted(summary.n_unfinished, 'file')}"
        lines.append(f"{unfinished}; the next run with --new-only answers what is then whole")
    if summary.n_errors:
        lines.append("the rows with status=error say what is wrong with each file")
    return "\n".join([*lines, DISCLAIMER])


def grey_scale_lines(summary: "FolderSummary") -> list[str]:
    """How DICOM images, where there are any, were brought to the grey levels of the training."""
    if not summary.grey_scales:
        return []
    ways = "; ".join(f"{n:,} by {way}" for way, n in summary.grey_scales.items())
    return [f"DICOM brought to 8-bit grey as the training images are, bone bright: {ways}"]


def inverted_lines(n_inverted: int | None) -> list[str]:
    """How many images were inverted, and what was done with them, where there are any."""
    if not n_inverted:
        return []
    return [f"inverted (bone dark), and read as their inverse: {counted(n_inverted, 'image')}"]


def drift_lines(drift: "DriftStatus | None") -> list[str]:
    """What has moved, or that nothing has; then what is compared with."""
    if drift is None:
        return []
    lines = [f"drift: {alarm.text}" for alarm in drift.alarms]
    alarmed = {alarm.figure for alarm in drift.alarms}
    earlier = [f for f in drift.figures if f.moved and f.figure not in alarmed]
    lines += [f"drift: {figure.figure} ({figure.moved}) has not come back" for figure in earlier]
    against = OF[drift.against]
    if drift.status == LEARNING:
        against = "nothing yet: the model file carries no reference"
    verdict = "" if lines else "nothing has moved; "
    compared = f"{counted(drift.n_counted, 'image')} compared with {against}"
    if drift.n_baseline < BASELINE:
        compared += f"; {drift.n_baseline:,} of {BASELINE:,} images of this site's baseline"
    lines.append(f"drift: {verdict}{compared}")
    if drift.n_before:
        lines.append(f"drift: compared before, or a copy: {counted(drift.n_before, 'image')}")
    if drift.n_uncounted:
        lines.append(f"drift: of a run without --drift: {counted(drift.n_uncounted, 'row')}")
    return lines


def cluster_line(cluster: "ClusterFacts", summary: "FolderSummary") -> str:
    """What a cluster was, and where the time of its networks went."""
    stages = summary.stages
    n_networks = counted(cluster.n_workers, "network")
    networks = f"{n_networks} on {counted(cluster.n_nodes, 'node')}"
    return (
        f"{networks}: {cluster.start_seconds:.1f} s until the first answers; each network "
        f"{stages.running:.1f} s at work and {stages.reading:.1f} s waiting for images"
    )


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
