"""Where a model's weights come from: recipe, data and audit, held-out scores, slimmed original."""

from dataclasses import dataclass, field
from typing import Any

from kneeedge.statistics.intervals import Interval

FOLDERS, GROUPED, PAPER = "folders", "grouped", "paper"
"how splits came about: the user's folders; drawn by group; the paper's sizes, leaky by design"


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a model did on one split, at the spec's threshold."""

    n: int
    "images"
    accuracy: float
    "0 to 1"
    auroc: float | None = None
    "0 to 1; the positive class against the rest; absent where the split has one class only"
    sensitivity: float | None = None
    "0 to 1; recall of the positive class"
    specificity: float | None = None
    "0 to 1; share of the other classes not called positive"
    intervals: dict[str, Interval] = field(default_factory=dict)
    "95 %; of accuracy, auroc, sensitivity and specificity, where they exist and were computed"


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What the audit found in the data before training; images, unless it says pairs."""

    n_images: int
    conflicts: int
    "pairs of copies that carry different labels"
    leaks: int
    "pairs of copies that stand in two splits"
    exact_pairs: int
    "pairs with the same bytes or pixels; of more than 32 such images not every two make one"
    near_pairs: int
    "pairs that show one radiograph, mirrored, resized, cropped or otherwise changed"


@dataclass(frozen=True, kw_only=True)
class Slimmed:
    """Of which original a narrower network was made, and how that one answers."""

    original: str
    "name of its run"
    sha256: str
    "of its weights, model.safetensors"
    channels: tuple[tuple[int, ...], ...]
    "its output channels, one inner tuple a block"
    temperature: float
    threshold: float
    "with its temperature, what its answers are decided by"
    scores: dict[str, Score] = field(default_factory=dict)
    "its own, on each held-out split"


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Where the weights come from."""

    recipe: str
    weights: str
    "imagenet, none, or the sha256 of the file that was loaded"
    seed: int
    data_sha256: str
    "hash over the sorted (path, file hash, split, class) rows of split.csv"
    n_images: dict[str, int]
    "images in each split"
    versions: dict[str, str]
    scores: dict[str, Score] = field(default_factory=dict)
    "of the run's PyTorch model on each held-out split, fp32"
    leaked: int = 0
    "images of val or test of which a copy, or the patient, also stands in another split"
    protocol: str = FOLDERS
    "how the splits came about: folders, grouped, fold k/K, or paper, which trains on test images"
    data_report: DataReport | None = None
    "absent where no audit was run"
    slimmed: Slimmed | None = None
    "absent where the network is no narrowed one"
    dropped_labels: int = 0
    "images that were left out since a person found their labels wrong"

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """Its JSON, without a count of 0: earlier versions read that too."""
        return {name: value for name, value in record.items() if name != "dropped_labels" or value}

    @classmethod
    def unflatten(cls, record: dict[str, Any]) -> dict[str, Any]:
        return record

    @property
    def caveat(self) -> str:
        """One line on why the held-out figures are too good; empty where nothing leaks."""
        if not self.leaked:
            return ""
        why = "paper protocol, which trains on test images; " if self.protocol == PAPER else ""
        leak = f"{self.leaked} held-out images also stand in another split"
        return f"LEAKY: {why}{leak}; all figures are too good"
