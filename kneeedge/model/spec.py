"""ModelSpec: every fact that a device must know, carried by the checkpoint and by the ONNX file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import SpecError
from kneeedge.model.file_record import FileRecord
from kneeedge.model.polarity import Polarity
from kneeedge.model.provenance import TrainingRecord
from kneeedge.system.strict_json import from_json, to_json

FORMAT = 3
SPEC_KEY = "kneeedge"
GOLDEN_KEY = "kneeedge.golden"
SEEN_KEY = "kneeedge.seen"
CARD_KEY = "kneeedge.card"
REFERENCE_KEY = "kneeedge.reference"
"what the entries of an ONNX file's metadata are called"
DISCLAIMER = "Research use only. Not a medical device; not for diagnosis."

VGG19_CHANNELS = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
FITS = ("stretch", "pad")
RESIZE = "triangle-22bit-across-then-down"
"""The one resize: Pillow's BILINEAR, bit for bit, an axis at a time, first across and then down.

Output pixel i of n lies at c = (i + 0.5) · n_in / n on the input. It is the sum of the input pixels
j, weighted by max(0, 1 − |j + 0.5 − c| / s) with s = max(1, n_in / n), over ⌊c − s + 0.5⌋ ≤ j <
⌊c + s + 0.5⌋ inside the image. The weights are divided by their sum in double precision and rounded
half up to multiples of 2^-22; the sum is rounded half up to 8 bits and clipped.
"""
HEADS = ("gap", "classifier")
LATER = ("certified", "polarity")
"fields of the spec that its JSON leaves out where they are absent"
MIN_GREY_BITS, MAX_GREY_BITS = 8, 16
"of pixels that are stored in 16 bits"


@dataclass(frozen=True)
class PixelPath:
    """How a grey radiograph becomes the network's input; see `kneeedge.pixels.pixel_path`."""

    size: int = 224
    "side of the square input, pixels, a multiple of 32"
    fit: str = "stretch"
    "stretch: both sides to `size`, as the paper does; pad: keep the aspect, black bars"
    resize: str = RESIZE
    "how it is brought to its size, to the bit: see RESIZE"
    dicom_window: int = 0
    "which of several VOI LUTs or windows of a DICOM image; the first is 0"
    grey_bits: int = 0
    "bits that pixels of 16 or 32 use, 8 to 16, where fewer than 16; 0: not told, and all 16"

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """Its JSON, without a depth that is not told: earlier versions read that too."""
        return {name: value for name, value in record.items() if name != "grey_bits" or value}

    @classmethod
    def unflatten(cls, record: dict[str, Any]) -> dict[str, Any]:
        return record

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32 or self.size > 4096:
            raise ValueError(f"size must be a multiple of 32 from 32 to 4096, not {self.size}")
        if self.dicom_window < 0:
            raise ValueError(f"dicom_window must be 0 or more, not {self.dicom_window}")
        if self.resize != RESIZE:
            raise ValueError(f"resize must be {RESIZE}, not {self.resize!r}")
        if self.grey_bits and not MIN_GREY_BITS <= self.grey_bits <= MAX_GREY_BITS:
            depths = f"{MIN_GREY_BITS} to {MAX_GREY_BITS}"
            raise ValueError(f"grey_bits must be 0 or {depths}, not {self.grey_bits}")
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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
    """the features, the distribution fitted to those of the training images, and how the limit was
    found: by the original's distances, or by those of the file itself where rounding moves them"""

    def refuses(self, distances: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each distance (N,) is beyond the limit, as real numbers."""
        # NumPy would round the limit to the distances' own precision
        return np.asarray(np.asarray(distances, dtype=np.float64) > self.limit)


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Three answers of two classes: negative, positive, and in between none, for a person to give.

    Of the answers that are given so many are right, with a confidence that was asked for.
    """

    low: float
    "negative where the positive class's probability is below this; the threshold at most"
    high: float
    "positive where it is at least this; the threshold at least"
    ppv: float
    "0 to 1; the share of positive answers that is promised to be right, at least"
    npv: float
    "0 to 1; of negative answers"
    confidence: float
    "0 to 1; that both promises are kept"
    split: str
    "of which images the limits were found on"
    n: int
    "images, without those that the model abstains from"
    n_units: int
    "patients, or images where none is known to have two"
    n_answered: int
    "images that got an answer there"
    ppv_bound: float
    "0 to 1; what was shown there, `ppv` or more"
    npv_bound: float
    prevalence: float
    "0 to 1; share of the positive class for which it holds: that of the images, or a given one"
    method: str
    "how the limits were found, and what counts as one image"

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(f"the certified limits must rise, not {self.low} and {self.high}")

    def refers(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each probability (N,) of the positive class is left to a person."""
        exact = np.asarray(probabilities, dtype=np.float64)
        return np.asarray((exact >= self.low) & (exact < self.high))


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything that turns pixels into an answer, and where it came from."""

    name: str
    classes: tuple[str, ...]
    "in the order of the network's outputs"
    positive: str
    "the class whose probability a prediction gives as its `probability`, whatever the answer"
    architecture: Architecture
    pixel_path: PixelPath
    mean: tuple[float, ...]
    "of each of the three channels, after division by 255; inside the graph"
    std: tuple[float, ...]
    training: TrainingRecord
    threshold: float = 0.5
    "two classes: positive where its probability is at least this; not used with more classes"
    threshold_rule: str = "0.5"
    "how the threshold was chosen"
    temperature: float = 1.0
    "probabilities = softmax(logits / temperature)"
    temperature_fit: TemperatureFit | None = None
    "absent where the temperature was not fitted"
    novelty: Novelty | None = None
    "absent where the model answers every image"
    certified: Certified | None = None
    "absent where there are but two answers"
    polarity: Polarity | None = None
    "absent where the network sees every image as it is"
    file: FileRecord | None = None
    "absent in a checkpoint"
    format: int = FORMAT

    def __post_init__(self) -> None:
        classes = list(self.classes)
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise ValueError(f"a model needs at least two different classes, not {classes}")
        if self.positive not in classes:
            names = ", ".join(classes)
            raise ValueError(f"the positive class {self.positive!r} is none of {names}")
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"the threshold must be between 0 and 1, not {self.threshold}")
        if not self.temperature > 0.0:
            raise ValueError(f"the temperature must be above 0, not {self.temperature}")
        self._check_certified()

    def _check_certified(self) -> None:
        certified = self.certified
        if certified is None:
            return
        if len(classes := self.classes) > 2:
            raise ValueError(f"certified limits are for two classes, not {len(classes)}")
        if not certified.low <= self.threshold <= certified.high:
            limits = f"{certified.low} and {certified.high}"
            raise ValueError(f"the threshold {self.threshold} is not between the limits {limits}")

    def flatten(self, record: dict[str, Any]) -> dict[str, Any]:
        """Its JSON, without what later versions added and it lacks: earlier ones read that too."""
        return {
            name: value for name, value in record.items() if name not in LATER or value is not None
        }

    @classmethod
    def unflatten(cls, record: dict[str, Any]) -> dict[str, Any]:
        return record

    @property
    def positive_index(self) -> int:
        return self.classes.index(self.positive)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
        """Class indices (N,) of probabilities (N, K): two by the threshold, more by argmax.

        Of equal ones the first is taken. They are compared as real numbers, in double precision:
        in single precision the threshold would be another number.
        """
        exact = np.asarray(probabilities, dtype=np.float64)
        if len(self.classes) > 2:
            return np.asarray(exact.argmax(axis=1), dtype=np.intp)
        positive = self.positive_index
        return np.where(exact[:, positive] >= self.threshold, positive, 1 - positive)

    def inverted(self, images: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
        """Whether the graph turns each network input (N, 1, S, S) around; None: it turns none."""
        return None if self.polarity is None else self.polarity.inverted(images[:, 0])

    def refers(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each row of probabilities (N, K) is left to a person; never without limits."""
        positive = np.asarray(probabilities)[:, self.positive_index]
        if self.certified is None:
            return np.zeros(len(positive), dtype=bool)
        return self.certified.refers(positive)

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
            problem = f"the spec has format {spec.format}, and this kneeedge reads {FORMAT}"
            raise SpecError(where, problem)
        return spec


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities (N, K) of logits (N, K) over the temperature, in double precision."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    exponentials = np.exp(scaled)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def default_positive(classes: Sequence[str]) -> str:
    """The class called positive by default: the only one not named for health, else the last."""
    healthy = {"healthy", "normal", "negative", "control", "0"}
    diseased = [name for name in classes if name.casefold() not in healthy]
    return diseased[0] if len(diseased) == 1 else classes[-1]
