"""The export gate's verdict on the evidence, and what it reports: `models/report.json`, which every command reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kneeedge.errors import ModelFileError, NotFoundError
from kneeedge.intervals import Interval
from kneeedge.paired import PairedChange
from kneeedge.records import from_json, to_json
from kneeedge.spec import Calibration, HalfRange, Score

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
REPORT = "report.json"
EQUAL_LOGITS = {"fp32": 1e-3}
"largest logit change that is rounding alone: such a variant is the original, and no statistics is needed"
MAX_LOGIT_CHANGE = {"fp32": 1e-2, "fp16": 0.5}
"a larger change is a fault of the conversion, however few answers it flips"
TOLERANCE = {"fp32": 0.01, "fp16": 0.01, "int8": 0.01}
"accuracy that a variant may lose, as a share of all images"


@dataclass(frozen=True)
class CaseChange:
    """One image to which the variant answers otherwise, or much less alike than allowed."""

    path: str
    truth: str
    original: str
    variant: str
    original_probability: float
    "of the positive class"
    variant_probability: float
    max_logit_change: float


@dataclass(frozen=True)
class RefusalChange:
    """Which images a variant refuses as unlike the training images, beside the original, at the same limit."""

    original: int
    "images refused"
    variant: int
    changed: int
    "images refused by one of the two alone"
    mean_change: float
    "distance, variant less original"
    largest_change: float
    "absolute"


@dataclass(frozen=True)
class VerifyReport:
    """A variant beside the original on the same images.

    The original of a slimmed network is the one that it was slimmed from.
    """

    precision: str
    split: str
    provider: str
    n: int
    verdict: str
    "pass, fail or inconclusive"
    reason: str
    tolerance: float
    "accuracy that may be lost"
    original: Score
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
    "how many images would settle an inconclusive verdict, if the same share keeps flipping"
    refusals: RefusalChange | None = None
    "beside this run's own PyTorch model; absent where the model answers every image"
    against: str | None = None
    "the original's name, where this run's network was slimmed from it; absent: this run's own PyTorch model"
    own_logit_change: float | None = None
    "largest logit change from this run's own PyTorch model, where the original is another network"


@dataclass(frozen=True)
class ExportedFile:
    """One variant and where it went."""

    path: str
    "below models/, or below models/rejected/ where the gate refused it"
    sha256: str
    size_mb: float
    report: VerifyReport
    calibration: Calibration | None = None
    "only for int8: the ranges, and every recipe that was tried"
    half_range: HalfRange | None = None
    "only for fp16"


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
        return any(file.report.verdict == FAIL for file in self.files)


def judge(change: PairedChange, max_logit_change: float, precision: str, tolerance: float) -> tuple[str, str]:
    """Verdict and its reason, where the original is the network that the variant was converted from.

    Pass: the logits are the original's up to rounding, or the accuracy lost is, with 95 % confidence, within the
    tolerance. Fail: the loss is beyond it with the same confidence, or the logits moved further than the
    precision can. Anything else needs more images.
    """
    if fault := conversion_fault(max_logit_change, precision):
        return FAIL, fault
    if change.flips == 0 and max_logit_change <= EQUAL_LOGITS.get(precision, -np.inf):
        return PASS, f"the same answers; no logit moved by more than {max_logit_change:.2g}"
    return judge_loss(change, tolerance)


def judge_slimmed(change: PairedChange, own_logit_change: float, precision: str, tolerance: float) -> tuple[str, str]:
    """Verdict and its reason, where the original is the network that the variant's own was slimmed from.

    The loss against the original alone can pass; logits that moved too far from the variant's own network still fail.
    """
    fault = conversion_fault(own_logit_change, precision)
    return (FAIL, fault) if fault else judge_loss(change, tolerance)


def conversion_fault(max_logit_change: float, precision: str) -> str | None:
    """What is wrong where a logit moved further from the converted network than the precision can; else None."""
    most = MAX_LOGIT_CHANGE.get(precision, np.inf)
    if max_logit_change <= most:
        return None
    return f"a logit moved by {max_logit_change:.3g}, and {precision} may move it by {most:g}"


def judge_loss(change: PairedChange, tolerance: float) -> tuple[str, str]:
    """Verdict and its reason by the accuracy lost alone."""
    if change.worst_loss <= tolerance:
        return (
            PASS,
            f"at most {change.worst_loss:.2%} of accuracy lost (95 % confidence), tolerance {tolerance:.2%}",
        )
    if best_case_loss(change) > tolerance:
        return (
            FAIL,
            f"at least {best_case_loss(change):.2%} of accuracy lost (95 % confidence), tolerance {tolerance:.2%}",
        )
    return INCONCLUSIVE, (
        f"{change.n} images cannot tell: between {best_case_loss(change):.2%} and {change.worst_loss:.2%} of accuracy "
        f"lost, tolerance {tolerance:.2%}"
    )


def best_case_loss(change: PairedChange) -> float:
    """The least loss of accuracy that the two-sided 95 % interval allows; negative where it may be a gain."""
    return -change.interval.high


def read_report(models: Path) -> ExportReport:
    """`report.json` of a run's `models/` folder."""
    path = models / REPORT
    if not path.is_file():
        raise NotFoundError(f"{models}: nothing is exported yet", "run `kneeedge export`, or name a model")
    try:
        return from_json(ExportReport, path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFileError(path, f"not a report of this kneeedge ({error})") from error


def write_report(models: Path, report: ExportReport) -> None:
    """Write `report.json`."""
    (models / REPORT).write_text(to_json(report), encoding="utf-8")
