"""What a stress test tells: of every model a row for each cell, and what the gate made of it."""

from dataclasses import dataclass

from kneeedge.statistics.intervals import Estimate, Interval
from kneeedge.statistics.paired import PairedChange
from kneeedge.system.machine import Environment


@dataclass(frozen=True, kw_only=True)
class CellPairing:
    """A further model's answers beside the first model's, on the same corrupted images."""

    change: PairedChange
    "of the accuracy, the first model's less this one's where lost"
    extra_loss: float
    """-2 to 2; by how much more accuracy this model loses than the first, against the clean images:
    how much worse the pairing is here than there"""
    extra_interval: Interval
    "of `extra_loss`, 95 %"


@dataclass(frozen=True, kw_only=True)
class CellScore:
    """One model's answers to all images, corrupted in one way; as if none had been refused."""

    kind: str
    "a kind of corruption, or `clean`"
    severity: int
    "1 to 5; 0: clean"
    level: float | None
    "of the kind's parameter; null for clean"
    n: int
    "images"
    accuracy: Estimate
    "0 to 1, at the locked threshold"
    auroc: Estimate | None
    "0 to 1, of the positive class, with more than two classes their mean; null with one class"
    sensitivity: Estimate | None
    "0 to 1, at the locked threshold; null without positive images"
    specificity: Estimate | None
    "0 to 1, at the locked threshold; null without other images"
    ece: float
    "0 to 1; expected calibration error, without an interval: resampling finds it too large"
    refused: Estimate
    "0 to 1; share of the images that `infer` leaves without an answer"
    loss: float
    "-1 to 1; accuracy on the clean images less accuracy here"
    wrong_unrefused: float
    "0 to 1; share of all images that are answered wrongly and not refused: what does harm"
    paired: CellPairing | None = None
    "beside the first model; null for that"


@dataclass(frozen=True, kw_only=True)
class StressedModel:
    """One model under every kind of corruption."""

    model: str
    model_sha256: str
    "of the model file"
    precision: str
    provider: str
    threshold: float
    "at which it answers; with more than two classes not used"
    n_seen: int
    "images that, byte for byte, the model was trained or chosen on"
    rows: tuple[CellScore, ...]
    "clean first, then by kind and severity"

    @property
    def clean(self) -> CellScore:
        return self.rows[0]

    def of_kind(self, kind: str) -> tuple[CellScore, ...]:
        """The rows of one kind, severities rising."""
        return tuple(row for row in self.rows if row.kind == kind)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that were tried, in the order of the table."""
        return tuple(dict.fromkeys(row.kind for row in self.rows[1:]))


@dataclass(frozen=True, kw_only=True)
class StressReport:
    """Several models on one labelled split, clean and corrupted."""

    data: str
    split: str
    n: int
    "images"
    n_pictures: int
    "inputs that each model answered: images times cells"
    positive: str
    classes: tuple[str, ...]
    models: tuple[StressedModel, ...]
    "the first is the original that the others are held against"
    seconds: dict[str, float]
    "waited for reading and corrupting, and for the networks"
    threads: int
    "of each session"
    environment: Environment


@dataclass(frozen=True, kw_only=True)
class KindChange:
    """Variant and original on the same images, corrupted in one way."""

    kind: str
    original: float
    "0 to 1; accuracy"
    variant: float
    change: PairedChange
    "of the accuracy"
    extra_loss: float
    "-2 to 2; the variant's loss against clean images less the original's"
    original_refused: float
    "0 to 1; share of the images"
    variant_refused: float


@dataclass(frozen=True, kw_only=True)
class StressGate:
    """What became of a variant under every kind of corruption, beside the original."""

    severity: int
    "of the kinds that have several"
    split: str
    n: int
    "images, each corrupted in every way"
    verdict: str
    "pass, fail or inconclusive; fail is the variant's verdict too, inconclusive is said alone"
    reason: str
    tolerance: float
    "accuracy that may be lost under any kind"
    images_to_settle: int | None
    "how many would settle an inconclusive verdict on the worst kind alone, at its rates"
    kinds: tuple[KindChange, ...]
