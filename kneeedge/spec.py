"""ModelSpec: every fact a device must know, carried by the checkpoint and by the ONNX file alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import SpecError
from kneeedge.intervals import Interval
from kneeedge.records import from_json, to_json

FORMAT = 2
SPEC_KEY, GOLDEN_KEY, SEEN_KEY = "kneeedge", "kneeedge.golden", "kneeedge.seen"
CARD_KEY = "kneeedge.card"
DISCLAIMER = "Research use only. Not a medical device; not for diagnosis."

VGG19_CHANNELS = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
FITS, HEADS = ("stretch", "pad"), ("gap", "classifier")
FOLDERS, GROUPED, PAPER = "folders", "grouped", "paper"
"protocols: the user's split folders; drawn anew by group; the reference paper's sizes, leaky by design"


@dataclass(frozen=True)
class PixelPath:
    """How a grey radiograph becomes the network's input; see `kneeedge.preprocess`."""

    size: int = 224
    "side of the square input, pixels, a multiple of 32"
    fit: str = "stretch"
    "stretch: both sides to `size`, as the paper does; pad: keep the aspect, black bars"
    dicom_window: int = 0
    "which of several VOI LUTs or windows of a DICOM image; the first is 0"

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32 or self.size > 4096:
            raise ValueError(f"size must be a multiple of 32 from 32 to 4096, not {self.size}")
        if self.dicom_window < 0:
            raise ValueError(f"dicom_window must be 0 or more, not {self.dicom_window}")
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}")


@dataclass(frozen=True)
class Architecture:
    """A VGG: blocks of 3×3 convolutions, each block closed by a 2×2 max-pool, and a head."""

    channels: tuple[tuple[int, ...], ...] = VGG19_CHANNELS
    "output channels of each convolution, one inner tuple a block; five blocks"
    batch_norm: bool = False
    "batch normalisation behind each convolution"
    head: str = "gap"
    "gap: global average pool + linear; classifier: VGG's own three fully connected layers"

    def __post_init__(self) -> None:
        if len(self.channels) != 5 or not all(block and min(block) > 0 for block in self.channels):
            raise ValueError("channels must be five blocks of positive channel counts")
        if self.head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}, not {self.head!r}")


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class DataReport:
    """What the audit found in the data before training; images, unless it says pairs."""

    n_images: int
    conflicts: int
    "pairs of copies that carry different labels"
    leaks: int
    "pairs of copies that stand in two splits"
    exact_pairs: int
    "pairs with the same bytes or the same pixels; of more than 32 such images not every two make one"
    near_pairs: int
    "pairs that show one radiograph, mirrored, resized, cropped or otherwise changed"


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
    "how the splits came about: folders, grouped, fold k/K, or paper (leaky by design: test images are trained on)"
    data_report: DataReport | None = None
    "absent where no audit was run"
    slimmed: Slimmed | None = None
    "absent where the network is no narrowed one"

    @property
    def caveat(self) -> str:
        """One line on why the held-out figures are too good; empty where nothing leaks."""
        if not self.leaked:
            return ""
        why = "paper protocol, which trains on test images; " if self.protocol == PAPER else ""
        return f"LEAKY: {why}{self.leaked} held-out images also stand in another split; all figures are too good"


@dataclass(frozen=True)
class TemperatureFit:
    """What the temperature was fitted on, and what it brought there."""

    split: str
    n: int
    "images"
    ece_before: float
    "0 to 1; expected calibration error at temperature 1"
    ece_after: float
    brier_before: float
    brier_after: float
    log_loss_before: float
    "nats"
    log_loss_after: float


@dataclass(frozen=True)
class Novelty:
    """How far from the training images an image's features may lie before the model abstains."""

    limit: float
    "the largest `distance` that is answered"
    refused: float
    "0 to 1; the share of genuine images that the limit is to refuse"
    split: str
    n: int
    "images whose distances set the limit"
    method: str
    "the features and the distribution fitted to those of the training images"

    def refuses(self, distances: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each distance (N,) is beyond the limit."""
        return np.asarray(distances > self.limit)


@dataclass(frozen=True)
class Trial:
    """One int8 recipe that was tried."""

    method: str
    "how the ranges were chosen from what the calibration images gave"
    float_layers: tuple[str, ...]
    "layers that kept 32-bit floats"
    logit_error: float
    "root mean square logit change on training images"
    flips: int | None
    "answers changed on the validation images; absent where the trial went no further than the training images"
    verdict: str | None
    "of the gate; absent likewise"
    latency: float | None
    "time an image relative to the fp32 file, in the same process; absent where it was not measured"
    chosen: bool


@dataclass(frozen=True)
class Calibration:
    """What the int8 ranges were measured on."""

    n_images: int
    sha256: str
    "hash over the sorted file hashes of the calibration images, all from the training split"
    method: str
    float_layers: tuple[str, ...] = ()
    "layers that keep 32-bit floats"
    trials: tuple[Trial, ...] = ()
    "every recipe that was tried, the chosen one included"
    untried: tuple[str, ...] = ()
    "what the search had no time left for"


@dataclass(frozen=True)
class HalfRange:
    """How the values of the network fit into fp16, on training images and in the weights."""

    n_images: int
    largest: float
    "largest absolute activation; fp16 ends at 65,504"
    largest_layer: str
    subnormal: float
    "0 to 1; largest share, over layers, of non-zero activations below 6.1e-5, where fp16 has fewer digits"
    subnormal_layer: str
    flushed: float
    "0 to 1; largest share, over layers, of non-zero activations that become zero"
    flushed_weights: float
    "0 to 1; the same of weights"
    float_layers: tuple[str, ...]
    "layers that keep 32-bit floats, since their values or weights do not fit"


@dataclass(frozen=True)
class Verification:
    """How the exported file answered beside the original on one split.

    The original of a slimmed network is the one that it was slimmed from.
    """

    verdict: str
    "pass, fail or inconclusive"
    split: str
    n: int
    "images compared"
    flips: int
    "images whose predicted class changed"
    original: Score
    variant: Score
    max_abs_logit_change: float
    mean_abs_logit_change: float
    provider: str
    "the execution provider that ran the file"


@dataclass(frozen=True)
class FileRecord:
    """What one ONNX file adds to the spec."""

    precision: str
    "fp32, fp16 or int8"
    opset: int
    operators: dict[str, int]
    "operator counts of the graph as exported"
    versions: dict[str, str]
    int8_target: str | None = None
    "x86, x86-no-vnni, arm or tensorrt; only for int8"
    calibration: Calibration | None = None
    "only for int8"
    half_range: HalfRange | None = None
    "only for fp16"
    verification: Verification | None = None


@dataclass(frozen=True)
class ModelSpec:
    """Everything that turns pixels into an answer, and where it came from."""

    name: str
    classes: tuple[str, ...]
    "in the order of the network's outputs"
    positive: str
    "the class whose probability `predictions.csv` reports"
    architecture: Architecture
    pixel_path: PixelPath
    mean: tuple[float, ...]
    "of each of the three channels, after division by 255; inside the graph"
    std: tuple[float, ...]
    training: TrainingRecord
    threshold: float = 0.5
    "two classes: positive where its probability is at least this; more classes: argmax, and this is not used"
    threshold_rule: str = "0.5"
    "how the threshold was chosen"
    temperature: float = 1.0
    "probabilities = softmax(logits / temperature)"
    temperature_fit: TemperatureFit | None = None
    "absent where the temperature was not fitted"
    novelty: Novelty | None = None
    "absent where the model answers every image"
    file: FileRecord | None = None
    "absent in a checkpoint"
    format: int = FORMAT

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a model needs at least two different classes, not {list(self.classes)}")
        if self.positive not in self.classes:
            raise ValueError(f"the positive class {self.positive!r} is none of {', '.join(self.classes)}")
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"the threshold must be between 0 and 1, not {self.threshold}")
        if not self.temperature > 0.0:
            raise ValueError(f"the temperature must be above 0, not {self.temperature}")

    @property
    def positive_index(self) -> int:
        return self.classes.index(self.positive)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
        """Class indices (N,) for probabilities (N, K): the locked threshold for two classes, argmax for more."""
        if len(self.classes) > 2:
            return np.asarray(probabilities.argmax(axis=1), dtype=np.intp)
        positive = self.positive_index
        return np.where(probabilities[:, positive] >= self.threshold, positive, 1 - positive)

    def to_json(self) -> str:
        return to_json(self)

    @classmethod
    def read(cls, path: Path) -> "ModelSpec":
        """The spec in a file, `spec.json` of a run; raises SpecError where it does not fit."""
        return cls.from_json(path.read_bytes(), str(path))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "ModelSpec":
        """The spec in `text`, read from `where`; raises SpecError where it does not fit."""
        try:
            spec = from_json(cls, text)
        except ValueError as error:
            raise SpecError(where, f"the spec is not one of kneeedge's: {error}") from error
        if spec.format != FORMAT:
            raise SpecError(where, f"the spec has format {spec.format}, and this kneeedge reads {FORMAT}")
        return spec


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities (N, K) of logits (N, K) over the temperature, in double precision."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    exponentials = np.exp(scaled)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def default_positive(classes: Sequence[str]) -> str:
    """The class called positive when nobody says: the first that is not a name for health, else the last."""
    healthy = {"healthy", "normal", "negative", "control", "0"}
    diseased = [name for name in classes if name.casefold() not in healthy]
    return diseased[0] if len(diseased) == 1 else classes[-1]
