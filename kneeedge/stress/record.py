"""What a stress test tells: of every model a row for each cell, the further models' paired."""

from dataclasses import dataclass

from kneeedge.statistics.intervals import Estimate, Interval
from kneeedge.statistics.paired import PairedChange


@dataclass(frozen=True, kw_only=True)
class CellPairing:
    """A further model's answers beside the first model's, on the same harmed images."""

    change: PairedChange
    "of the accuracy, the first model's less this one's where lost"
    extra_loss: float
    """-2 to 2; by how much more accuracy this model loses than the first, against the clean images:
    how much worse the pairing is here than there"""
    extra_interval: Interval
    "of `extra_loss`, 95 %"


@dataclass(frozen=True, kw_only=True)
class CellScore:
    """One model's answers to all images, harmed in one way; as if none had been refused."""

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
    """One model under every kind of harm."""

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
    """Several models on one labelled split, clean and harmed."""

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
    "waited for reading and harming, and for the networks"
    cpu: str
    threads: int
