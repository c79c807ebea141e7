"""What one ONNX file adds to the spec: its precision, how that was made, how the file answered."""

from dataclasses import dataclass

from kneeedge.model.provenance import Score
from kneeedge.system.plural import counted

INT8_TARGETS = {
    "any": "any CPU: 7-bit weights, with which no sum saturates",
    "vnni": "x86 CPUs with VNNI: 8-bit weights, for which others take a slower kernel",
    "arm": "Arm CPUs: signed activations",
    "tensorrt": "TensorRT: symmetric activations",
}
"devices that an int8 file can be made for"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One int8 recipe that was tried."""

    method: str
    "how the ranges were chosen from what the calibration images gave"
    float_layers: tuple[str, ...]
    "layers that kept 32-bit floats"
    logit_error: float
    "root mean square logit change on training images; at least this where it was stopped"
    flips: int | None
    "answers changed on the gate's images; absent where only training images were tried"
    verdict: str | None
    "of the gate; absent where it was not asked, and where the recipe was dropped"
    latency: float | None
    "time an image relative to the fp32 file, in the same process; absent where it was not measured"
    chosen: bool
    dropped_after: int | None = None
    """gate's images after which it could neither pass nor come before the best: `flips` are of
    these; absent where all were looked at"""
    stopped_after: int | None = None
    "training images after which it could no longer win; absent where all were run"


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class HalfRange:
    """How the values of the network fit into fp16, on training images and in the weights."""

    n_images: int
    largest: float
    "largest absolute activation; fp16 ends at 65,504"
    largest_layer: str
    subnormal: float
    """0 to 1; largest share, over layers, of non-zero activations below 6.1e-5, from where on fp16
    has fewer digits
    """
    subnormal_layer: str
    flushed: float
    "0 to 1; largest share, over layers, of non-zero activations that become zero"
    flushed_weights: float
    "0 to 1; largest share, over layers, of non-zero weights that become zero"
    float_layers: tuple[str, ...]
    "layers that keep 32-bit floats, since their values or weights do not fit"


@dataclass(frozen=True, kw_only=True)
class GateData:
    """The images of `export --gate-data` that a verdict rests on, beside those of val."""

    folder: str
    "its name, without where it stands"
    n: int
    is_labelled: bool
    "whether its images have classes; without, they say only how often answers agree"
    sha256: str
    "hash over the sorted file hashes of the images"
    left_out: dict[str, int]
    "images of the folder that are no evidence, by the reason"
    n_refused: int | None = None
    "of `n`, images that the run's PyTorch model refuses; absent where it answers every image"


def images_of(n: int, split: str, gate_data: GateData | None) -> str:
    """The images that a verdict rests on, in words: `n` of the split, and those given beside."""
    if gate_data is None:
        return counted(n, f"{split} image")
    labels = "" if gate_data.is_labelled else " without labels"
    return f"{n} {split} + {counted(gate_data.n, 'gate image')}{labels} ({gate_data.folder})"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How the exported file answered beside the original on one split.

    The original of a slimmed network is the one that it was slimmed from.
    """

    verdict: str
    "pass, fail or inconclusive"
    split: str
    n: int
    "images of the split that were compared"
    flips: int
    "images whose predicted class changed, those of `gate_data` among them"
    original: Score
    variant: Score
    max_abs_logit_change: float
    mean_abs_logit_change: float
    provider: str
    "the execution provider that ran the file"
    gate_data: GateData | None = None
    "images beside those of `split`, not among `n`; absent where there were none"

    @property
    def images(self) -> str:
        """The images that the verdict rests on, in words."""
        return images_of(self.n, self.split, self.gate_data)


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """The facts of one ONNX file, in the spec that it carries."""

    precision: str
    "fp32, fp16 or int8"
    opset: int
    operators: dict[str, int]
    "operator counts of the graph as exported"
    versions: dict[str, str]
    int8_target: str | None = None
    "one of INT8_TARGETS; only for int8"
    calibration: Calibration | None = None
    "only for int8"
    half_range: HalfRange | None = None
    "only for fp16"
    verification: Verification | None = None
