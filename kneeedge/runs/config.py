"""TrainConfig: every choice of a training run, with its default, as `config.json` records it."""

from dataclasses import dataclass, replace

from kneeedge.errors import ConfigError
from kneeedge.model.certify import parse_promise
from kneeedge.model.decision import DEFAULT_THRESHOLD, parse_rule
from kneeedge.model.provenance import GROUPED, PAPER
from kneeedge.model.spec import (
    FITS,
    HEADS,
    MAX_GREY_BITS,
    MIN_GREY_BITS,
    VGG19_CHANNELS,
    Architecture,
    PixelPath,
)

AUTO = "auto"
RECIPES = ("default", "paper")
SLIM = "slim"
"recipe of what `kneeedge slim` trains; see `training.slim.config`"
TUNED = "tuned"
"recipe of a run that a file of `kneeedge tune` is given to"
SPLITS = (AUTO, GROUPED, PAPER)
N_BLOCKS = len(VGG19_CHANNELS)


RANGES = {
    "size": (32, 4096),
    "epochs": (1, 1_000_000),
    "batch_size": (1, 65_536),
    "views": (1, 10_000),
    "seed": (0, 2**31 - 1),
    "patience": (0, 1_000_000),
    "workers": (0, 1024),
    "devices": (1, 1024),
    "folds": (0, 1000),
    "rotation": (0, 360),
    "weight_decay": (0, 1000),
    "cache_gb": (0, 1_000_000),
    "lr": (0, 1000),
    "head_lr": (0, 1000),
    "lr_decay": (0, 1000),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "width": (0, 16),
}
"least and most of a field: what is beyond is a slip, or takes all memory"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What `kneeedge train` was asked to do."""

    data: str
    "the data folder: {train,val,test}/<Class>/… or <Class>/…"
    recipe: str = "default"
    "default, paper or tuned (set the fields below where no option does), or slim"
    recipe_file: str | None = None
    "the file of `kneeedge tune` whose fields a tuned one has"
    seed: int = 0

    positive: str | None = None
    "the class called positive; by default the one that is not a name for health"
    threshold: str = DEFAULT_THRESHOLD
    "youden, sensitivity=X, specificity=X, chosen on val, or a number; two classes only"
    abstain: bool = True
    "fit how far an image may lie from the training images before the model abstains"
    certify: str | None = None
    "ppv=X,npv=X: find limits on val that keep them, and leave what lies between to a person"
    group_regex: str | None = None
    "what a file's path must match; its first group (or the whole match) names the patient"
    groups: str | None = None
    "a CSV file of path,group: images that must stand on one side of a split"
    audit: bool = True
    "look for copies first, and keep them on one side of every split that is drawn"
    drop_conflicts: bool = False
    "leave out every image of which a copy carries another label"
    drop_labels: str | None = None
    "a CSV file of path,label, as `audit --write-labels` writes it: images that are left out"
    split: str = AUTO
    "auto: the split folders if any, else grouped; grouped: drawn anew; paper: leaky, the paper's"
    folds: int = 0
    "K for cross-validation by group over all images; 0: one run"
    val_fraction: float = 0.15
    "share of the groups, where the data has no split folders; with folds, of those not tested on"
    test_fraction: float = 0.2

    size: int = 224
    "side of the network's input, pixels"
    fit: str = "stretch"
    grey_bits: int = 0
    "bits that pixels of 16 use, 8 to 16; 0: not told, and all 16"
    weights: str = "imagenet"
    "imagenet, none, a safetensors file or torchvision's vgg19-dcbb9e9d.pth"
    head: str = "gap"
    width: float = 1.0
    "factor on VGG19's channel counts; below 1 only with --weights none"
    batch_norm: bool = False
    freeze_blocks: int | None = None
    "lower blocks that keep their weights; None: 4 with pretrained weights and no GPU, else 0"

    epochs: int = 16
    "passes over the training images; each pass sees one view of each"
    batch_size: int = 16
    "images a step, over all devices together"
    optimizer: str = "adamw"
    "adamw or adam"
    head_lr: float = 1e-3
    lr: float = 1e-4
    "learning rate of the highest block"
    lr_decay: float = 0.5
    "factor on the learning rate for each block further down"
    weight_decay: float = 0.05
    schedule: str = "cosine"
    "cosine (with warm-up) or constant"
    warmup: float = 0.1
    "share of the steps over which the learning rate rises"
    label_smoothing: float = 0.05
    dropout: float = 0.2
    mixup: float = 0.0
    "alpha of mixup behind the frozen blocks; 0: none"
    cutmix: float = 0.0
    "alpha of CutMix there; 0: none; beside mixup each batch takes one of the two by chance"
    ema: float = 0.984
    "decay a step of the average that is validated and kept (0.984: about 64 steps); 0: no average"
    patience: int = 8
    "epochs without a better validation AUROC before training stops; 0: never stops"

    rotation: float = 10.0
    "largest rotation of an augmented view, degrees"
    flip: bool = True
    corruptions: str = ""
    "kinds of `kneeedge stress`, by commas, one of which makes half of the views drawn worse"
    views: int = 8
    "fixed augmented views an image where the lower blocks are frozen; each epoch sees the next one"
    cache_gb: float = 8.0
    "disk that the frozen blocks' activations may take while training runs"
    precision: str = AUTO
    "auto, 32 or bf16"
    frozen_precision: str = AUTO
    "auto, 32, bf16 or int8: in which a CPU computes the frozen blocks' cached activations"
    workers: int = 0
    "image reading processes of each training process; 0: it reads itself"
    devices: int = 1
    "processes that train together, each on a GPU of its own, or on its share of the CPUs"

    def __post_init__(self) -> None:
        _one_of("recipe", self.recipe, (*RECIPES, SLIM, TUNED))
        _one_of("fit", self.fit, FITS)
        _one_of("head", self.head, HEADS)
        _one_of("optimizer", self.optimizer, ("adamw", "adam"))
        _one_of("schedule", self.schedule, ("cosine", "constant"))
        _one_of("precision", self.precision, (AUTO, "32", "bf16"))
        _one_of("frozen_precision", self.frozen_precision, (AUTO, "32", "bf16", "int8"))
        _one_of("split", self.split, SPLITS)
        parse_rule(self.threshold)
        _ = self.corrupted_by  # raises where it names what there is not
        self._check_promise()
        for name in ("lr", "head_lr", "width"):
            _above_zero(name, getattr(self, name))
        for name, (low, high) in RANGES.items():
            _within(name, getattr(self, name), low, high)
        if self.size % 32:
            raise ConfigError(f"--size {self.size} is no multiple of 32", "give for example 224")
        for name in ("dropout", "label_smoothing", "warmup", "ema"):
            _share(name, getattr(self, name))
        if self.grey_bits and not MIN_GREY_BITS <= self.grey_bits <= MAX_GREY_BITS:
            problem = f"--grey-bits {self.grey_bits} is no depth of pixels"
            raise ConfigError(problem, f"give {MIN_GREY_BITS} to {MAX_GREY_BITS}, or leave it out")
        check_batch(self.batch_size, self.devices)
        self._check_data()
        self._check_network()

    @property
    def pixel_path(self) -> PixelPath:
        """How an image becomes the network's input."""
        return PixelPath(self.size, self.fit, grey_bits=self.grey_bits)

    @property
    def corrupted_by(self) -> tuple[str, ...]:
        """The kinds that views are corrupted by. Raises ConfigError where they are no kinds."""
        if not self.corruptions:
            return ()
        from kneeedge.pixels.corruptions import parse_kinds  # Pillow, which `--help` does without

        return parse_kinds(self.corruptions, "--corruptions")

    def _check_data(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            _share(name, getattr(self, name))
        if self.val_fraction + self.test_fraction >= 1.0:
            problem = "--val-fraction and --test-fraction leave nothing to train on"
            raise ConfigError(problem, "lower one of them")
        if self.folds < 0 or self.folds == 1:
            problem = f"--folds {self.folds} is no cross-validation"
            raise ConfigError(problem, "give 2 or more, or 0 for one run")
        if self.folds and self.split == PAPER:
            raise ConfigError("--split paper has its own test, not folds", "leave out --folds")
        if self.folds and not self.val_fraction:
            problem = "--folds chooses each fold's weights on val"
            raise ConfigError(problem, "give a --val-fraction above 0")
        if self.drop_conflicts and not self.audit:
            problem = "--drop-conflicts needs the audit to find them"
            raise ConfigError(problem, "leave out --no-audit")

    def _check_promise(self) -> None:
        if self.certify is None:
            return
        parse_promise(self.certify)
        if self.folds:
            raise ConfigError("--certify is for one model, not folds", "leave out --folds")

    def _check_network(self) -> None:
        if self.freeze_blocks is not None and not 0 <= self.freeze_blocks <= N_BLOCKS:
            problem = f"--freeze-blocks {self.freeze_blocks} is not one of 0 to {N_BLOCKS}"
            raise ConfigError(problem, "choose one")
        if self.weights == "imagenet" and (self.width != 1.0 or self.batch_norm):
            problem = "ImageNet weights fit only the full width without batch norm"
            raise ConfigError(problem, "add --weights none or drop the option")

    @property
    def channels(self) -> tuple[tuple[int, ...], ...]:
        """VGG19's channel counts times `width`, in multiples of 8."""
        blocks = [[scaled(count, self.width) for count in block] for block in VGG19_CHANNELS]
        return tuple(map(tuple, blocks))

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.channels, self.batch_norm, self.head)


def check_batch(batch_size: int, n_processes: int) -> None:
    """Raise ConfigError where some processes would never have an image to learn from."""
    if batch_size < n_processes:
        problem = f"--batch-size {batch_size} leaves some of {n_processes} devices without images"
        raise ConfigError(problem, f"give {n_processes} or more, or fewer devices")


def scaled(count: int, factor: float) -> int:
    """A channel count times a factor, in multiples of 8."""
    return max(8, round(count * factor / 8) * 8)


def paper_recipe(config: TrainConfig) -> TrainConfig:
    """The reference paper's protocol: rotation and flip, 224², 200 epochs, VGG19's own classifier.

    The paper names neither optimiser nor learning rate; Adam at a constant 1e-4 is our reading of
    common practice.
    """
    return replace(
        config,
        recipe="paper",
        head="classifier",
        epochs=200,
        optimizer="adam",
        schedule="constant",
        lr=1e-4,
        head_lr=1e-4,
        lr_decay=1.0,
        batch_size=32,
        weight_decay=0.0,
        label_smoothing=0.0,
        dropout=0.5,
        ema=0.0,
        patience=0,
    )


def _one_of(name: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ConfigError(
            f"{_option(name)} {value} is unknown", f"choose one of {', '.join(options)}"
        )


def _within(name: str, value: float, low: float, high: float) -> None:
    if not value >= low:
        raise ConfigError(f"{_option(name)} {value} is too small", f"give {low} or more")
    if value > high:
        raise ConfigError(f"{_option(name)} {value} is too large", f"give {high:,} at most")


def _above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{_option(name)} {value} is too small", "give a number above 0")


def _share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ConfigError(
            f"{_option(name)} {value} is out of range", "give 0 or more and less than 1"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
