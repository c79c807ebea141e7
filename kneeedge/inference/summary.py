"""What a run over images came to: counts, and the seconds of each stage."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kneeedge.inference.drift_log import DriftStatus
from kneeedge.inference.predictions import ABSTAIN, ERROR, OK, REFER, Prediction
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.prefetch import DECODING, READING, RUNNING, StageClock


@dataclass(frozen=True)
class StageSeconds:
    """Where the time of a folder run went; the first three add up to it."""

    reading: float
    "the network waited for images that were not decoded yet"
    running: float
    "in the network; that images are decoded at the same time slows it where they share cores"
    writing: float
    "rows, progress, and heat maps that were not written yet"
    decoding_cpu: float
    "processor time of the readers, over all threads"

    def limit(self) -> str:
        """The name of the stage that took most of the time."""
        seconds = {"reading": self.reading, "running": self.running, "writing": self.writing}
        return max(seconds, key=lambda name: seconds[name])


@dataclass(frozen=True, kw_only=True)
class FolderSummary:
    """What a folder run came to."""

    n: int
    "images, those whose rows an earlier run left included"
    n_ok: int
    "images answered"
    n_abstained: int
    "images unlike the training images"
    n_errors: int
    counts: dict[str, int]
    "images answered to be of each class; those abstained from or referred are not among them"
    grey_scales: dict[str, int]
    "DICOM images by how their grey levels were made"
    seconds: float
    "from the first file to the last row"
    images_per_second: float
    stages: StageSeconds
    limited_by: str
    "the stage that took most of the time: reading, running or writing"
    out: str
    n_referred: int = 0
    "images between the certified limits, which a person is to answer"
    n_inverted: int = 0
    "inverted images, whose inverse the network read; answered or not"
    n_before: int = 0
    "images that had their rows before a run with --new-only, and are not counted in `n`"
    n_unfinished: int = 0
    "files that were still being written, and are left to the next run with --new-only"


@dataclass(frozen=True)
class ClusterFacts:
    """What a run over many machines was computed by."""

    n_nodes: int
    "machines that answered"
    n_workers: int
    "networks that answered, those that were lost included"
    start_seconds: float
    "until the first answers: joining or starting the cluster, and loading the model"


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """A folder run, with its predictions where they were asked for."""

    model: str
    model_sha256: str
    provider: str
    summary: FolderSummary
    others: tuple[str, ...]
    "files in the folders that are no images"
    remarks: tuple[str, ...] = ()
    "what else was left out: of kneeedge's own making, the system's, or not to be listed"
    predictions: tuple[Prediction, ...] = ()
    drift: DriftStatus | None = None
    "whether the images are still what they were; absent without --drift"
    cluster: ClusterFacts | None = None
    """absent on one machine; where it is there, the stages are those of one network, on average,
    and what they leave of the time is the cluster's start and the wait for the last network
    """


class AnswerCounts:
    """Counts of statuses, of grey scales, and of classes among the images answered."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.grey_scales: Counter[str] = Counter()
        self.n_inverted = 0

    def add(self, prediction: Prediction) -> None:
        self.statuses[prediction.status] += 1
        self.n_inverted += prediction.inverted is True
        if prediction.dicom is not None and prediction.dicom.grey_scale:
            self.grey_scales[prediction.dicom.grey_scale] += 1
        if prediction.ok and prediction.prediction is not None:
            self.classes[prediction.prediction] += 1


def stage_seconds(clock: StageClock, seconds: float) -> StageSeconds:
    """The stages of a run of `seconds`; what was neither reading nor running is writing."""
    reading = clock.seconds[READING]
    running = clock.seconds[RUNNING]
    return StageSeconds(
        reading=round(reading, 3),
        running=round(running, 3),
        writing=round(max(0.0, seconds - reading - running), 3),
        decoding_cpu=round(clock.seconds[DECODING], 3),
    )


def folder_summary(
    counts: AnswerCounts, spec: ModelSpec, stages: StageSeconds, seconds: float, out: Path
) -> FolderSummary:
    n = counts.statuses.total()
    return FolderSummary(
        n=n,
        n_ok=counts.statuses[OK],
        n_abstained=counts.statuses[ABSTAIN],
        n_referred=counts.statuses[REFER],
        n_inverted=counts.n_inverted,
        n_errors=counts.statuses[ERROR],
        counts={name: counts.classes[name] for name in spec.classes},
        grey_scales=dict(counts.grey_scales),
        seconds=round(seconds, 3),
        images_per_second=round(n / seconds, 2),
        stages=stages,
        limited_by=stages.limit(),
        out=str(out),
    )
