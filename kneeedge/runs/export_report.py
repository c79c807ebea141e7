"""`models/report.json`: what an export made and how the gate judged it."""

from dataclasses import dataclass

from kneeedge.model.file_record import Calibration, GateData, HalfRange, images_of
from kneeedge.model.provenance import Score
from kneeedge.model.verdict import FAIL, PASS
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.paired import ChangedShare, PairedChange
from kneeedge.statistics.partly_labelled import PartlyLabelledChange
from kneeedge.stress.record import StressGate


@dataclass(frozen=True, kw_only=True)
class CaseChange:
    """One image to which the variant answers otherwise, or much less alike than allowed."""

    path: str
    "below the data folder; of an image of `gate_data` with that folder's name before it"
    truth: str | None
    "absent without a label"
    original: str
    variant: str
    original_probability: float
    "of the positive class"
    variant_probability: float
    max_logit_change: float


@dataclass(frozen=True, kw_only=True)
class RefusalChange:
    """Which images variant and original refuse as unlike the training images, each by its limit."""

    original: int
    "images refused"
    variant: int
    changed: int
    "images refused by one of the two alone"
    mean_change: float
    "distance, variant less original"
    largest_change: float
    "absolute"
    original_limit: float | None = None
    "of the distance; absent, as all below, in a report from before files had limits of their own"
    variant_limit: float | None = None
    "set by the variant's own distances; of an fp32 file the original's limit"
    at_original_limit: int | None = None
    "images that the variant would refuse at the original's limit"
    interval: Interval | None = None
    "of the share refused, variant less original, 95 %, two-sided (Tango 1998)"
    effective_n: float | None = None
    "lone images that would tell as much of it; absent where no patient has two"

    @property
    def variant_alone(self) -> int:
        """Images that the variant refuses and the original answers."""
        return (self.changed + self.variant - self.original) // 2

    @property
    def original_alone(self) -> int:
        """Images that the original refuses and the variant answers."""
        return self.changed - self.variant_alone

    @property
    def own_limit(self) -> float | None:
        """The variant's limit where it is another than the original's."""
        return None if self.variant_limit == self.original_limit else self.variant_limit

    @property
    def at_one_limit(self) -> bool:
        """Whether the variant is held to the original's limit, and the report says so."""
        return self.variant_limit is not None and self.own_limit is None


@dataclass(frozen=True, kw_only=True)
class ReferralChange:
    """Which images variant and original leave to a person, at the same certified limits."""

    original: int
    "images referred"
    variant: int
    changed: int
    "images referred by one of the two alone"
    crossed: int
    "images that each of the two answers, and otherwise"
    original_wrong: int
    "images answered wrongly, those referred not among them"
    variant_wrong: int


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """A variant beside the original on the same images.

    The original of a slimmed network is the one that it was slimmed from.
    """

    precision: str
    split: str
    provider: str
    n: int
    "images of the split"
    verdict: str
    "pass, fail or inconclusive"
    reason: str
    tolerance: float
    "accuracy that may be lost, and share of the images that may be refused more"
    original: Score
    "on all images with labels, as `changes` are"
    variant: Score
    changes: dict[str, PairedChange]
    "accuracy, and the positive class's sensitivity and specificity, at the locked threshold"
    auroc_change: float | None
    auroc_interval: Interval | None
    "95 %, paired"
    ece_change: float
    "expected calibration error, variant less original"
    ece_interval: Interval
    "95 %, paired bootstrap"
    max_abs_logit_change: float
    mean_abs_logit_change: float
    flips: tuple[CaseChange, ...]
    "every image whose predicted class changed"
    largest: tuple[CaseChange, ...]
    "the images with the largest logit changes"
    images_to_settle: int | None
    """how many images, these among them, would settle an inconclusive verdict, if the same share
    keeps flipping"""
    refusals: RefusalChange | None = None
    "beside this run's own PyTorch model; absent where the model answers every image"
    referrals: ReferralChange | None = None
    "beside this run's own PyTorch model; absent where there are no certified limits"
    against: str | None = None
    "the original that this run's network was slimmed from; absent: this run's own PyTorch model"
    own_logit_change: float | None = None
    "largest logit change from this run's own PyTorch model, where the original is another network"
    stress: StressGate | None = None
    "the same on corrupted images of the split; absent where that was not asked for"
    gate_data: GateData | None = None
    "images of `--gate-data` that the verdict rests on too; absent where there were none"
    bounds: PartlyLabelledChange | None = None
    "of the accuracy over all images, which decide; absent where all images have labels"
    agreement: ChangedShare | None = None
    "of the answers to the images without labels; absent where all have them"

    @property
    def deciding(self) -> PartlyLabelledChange | PairedChange:
        """The change over all images that the verdict rests on."""
        return self.bounds or self.changes["accuracy"]

    @property
    def images(self) -> str:
        """The images that the verdict rests on, in words."""
        return images_of(self.n, self.split, self.gate_data)

    @property
    def passed_by_logits(self) -> bool:
        """Whether it passed as the original up to rounding, where statistics could not tell."""
        return self.verdict == PASS and self.deciding.worst_loss > self.tolerance


@dataclass(frozen=True, kw_only=True)
class AnySizeFile:
    """The file beside a variant that resizes pictures of any size itself."""

    path: str
    "below models/"
    sha256: str
    size_mb: float
    n: int
    "val pictures, each at its own size and at another, on which it was held against the variant"
    n_sizes: int
    "different sizes among them"
    n_changed: int
    "pictures of which a logit is not the variant's to the last bit"

    @property
    def failed(self) -> bool:
        return self.n_changed > 0


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One variant and where it went."""

    path: str
    "below models/, or below models/rejected/ where the gate refused it"
    sha256: str
    size_mb: float
    report: VerifyReport
    int8_target: str | None = None
    "one of INT8_TARGETS; only for int8"
    calibration: Calibration | None = None
    "only for int8: the ranges, and every recipe that was tried"
    half_range: HalfRange | None = None
    "only for fp16"
    any_size: AnySizeFile | None = None
    "only where it was asked for, and the gate did not refuse the variant"


@dataclass(frozen=True)
class ExportReport:
    """Every variant of a run."""

    run: str
    "the run's name"
    files: tuple[ExportedFile, ...]
    caveat: str = ""
    "why the original's held-out figures are too good, where they are; see `TrainingRecord.caveat`"

    @property
    def failed(self) -> bool:
        any_size = (file.any_size for file in self.files if file.any_size)
        refused = any(file.report.verdict == FAIL for file in self.files)
        return refused or any(file.failed for file in any_size)
