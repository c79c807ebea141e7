"""Where a model's weights come from: recipe, data and audit, held-out scores, slimmed original."""

from dataclasses import dataclass, field
from typing import Any

from kneeedge.statistics.intervals import Interval
from kneeedge.system.files import SHOWN_DIGITS

LATER = ("dropped_labels", "tuned")
"fields of TrainingRecord that its JSON leaves out where they are absent"
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
class SearchWorth:
    """What a search for a recipe was worth, by groups of images that it did not see."""

    verdict: str
    "better, worse, or no better than the default"
    log_loss: float
    "nats; the recipe's less the default's, at each run's fitted temperature; below 0: better"
    interval: Interval
    "of it, 95 %"
    n_images: int
    n_groups: int
    n_seeds: int
    "trainings of either; 0 where the default itself was the best, which needs no training"

    @property
    def line(self) -> str:
        """The verdict and the figure in words."""
        if not self.n_seeds:
            return f"{self.verdict}: no other recipe did better on the search's own folds"
        return (
            f"{self.verdict}: log loss {self.log_loss:+.4f} "
            f"[{self.interval.low:+.4f}, {self.interval.high:+.4f}] against the default on "
            f"{self.n_images:,} images of {self.n_groups:,} groups that the search did not see, "
            f"{self.n_seeds} seed{'s' if self.n_seeds > 1 else ''}"
        )


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The file that a run's recipe came from."""

    study: str
    "name of the folder of `kneeedge tune`"
    sha256: str
    "of the file"
    n_trials: int
    worth: SearchWorth
    changed: tuple[str, ...] = ()
    "its fields for which the run was given another value"
    n_test_searched: int = 0
    "test images of the run that the recipe was searched on, by their bytes"

    @property
    def line(self) -> str:
        """Where the recipe came from, and what the search was worth."""
        but = f", but for {', '.join(self.changed)}" if self.changed else ""
        return (
            f"recipe of study {self.study} ({self.n_trials:,} trials, file "
            f"{self.sha256[:SHOWN_DIGITS]}){but}; {self.worth.line}"
        )


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
    tuned: Tuned | None = None
    "absent where the recipe came from no file"

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """Its JSON, without what is absent of LATER: earlier versions read that too."""
        return {name: value for name, value in record.items() if name not in LATER or value}

    @classmethod
    def unflatten(cls, record: dict[str, Any]) -> dict[str, Any]:
        return record

    @property
    def caveat(self) -> str:
        """One line on why the held-out figures are too good; empty where nothing leaks."""
        leaks = []
        if self.leaked:
            why = "paper protocol, which trains on test images; " if self.protocol == PAPER else ""
            leaks.append(f"{why}{self.leaked} held-out images also stand in another split")
        if self.tuned and self.tuned.n_test_searched:
            leaks.append(f"the recipe was searched on {self.tuned.n_test_searched} test images")
        return f"LEAKY: {'; '.join(leaks)}; all figures are too good" if leaks else ""
