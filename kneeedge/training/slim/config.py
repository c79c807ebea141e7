"""SlimConfig: every choice of `kneeedge slim`, as it is recorded in `slim.json`."""

from dataclasses import dataclass, replace

from kneeedge.errors import ConfigError
from kneeedge.training.config import SLIM, TrainConfig

LADDER = (4.4, 6.0, 8.5, 10.0)
"speedups that a search goes through, against the original's own int8 file, which is the curve's fifth point"


@dataclass(frozen=True)
class SlimConfig:
    """What `kneeedge slim` was asked to do."""

    original: str
    "the run folder"
    speedup: float | None = None
    "times as fast as the original's own int8 file on this machine"
    max_latency_ms: float | None = None
    "of the int8 file for one image on this machine"
    keep: float | None = None
    "0 to 1; as fast as a network with this share of every layer's channels"
    curve: bool = False
    "go through the whole ladder, whatever the gate says, and draw accuracy against latency"
    data: str | None = None
    "the data folder, where it is no longer where the original was trained"
    tolerance: float | None = None
    "accuracy that may be lost, as a share; None: the gate's own for int8"
    threads: int | None = None
    "for the layer times; None: the cores this process may use"
    epochs: int = 5
    "of distillation for each width"
    views: int = 6
    "fixed augmented views of each training image, for which the original is asked once"
    lr: float = 1e-4
    "learning rate of all layers"
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        goals = {name: getattr(self, name) for name in ("speedup", "max_latency_ms", "keep")}
        given = {name: value for name, value in goals.items() if value is not None}
        if len(given) > 1:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigError(f"{names} are two goals", "give one of them")
        if given and self.curve:
            raise ConfigError("--curve goes through widths of its own", "leave out the goal, or --curve")
        if self.speedup is not None and self.speedup <= 1.0:
            raise ConfigError(f"--speedup {self.speedup:g} is no speedup", "give more than 1")
        if self.keep is not None and not 0.0 < self.keep < 1.0:
            raise ConfigError(f"--keep {self.keep:g} is no share of the channels", "give more than 0 and less than 1")
        for name in ("max_latency_ms", "lr"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigError(f"--{name.replace('_', '-')} must be above 0", "give a larger number")
        for name in ("epochs", "views", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 1", "give a larger number")

    @property
    def has_goal(self) -> bool:
        """Whether one network is asked for, rather than a search."""
        return any(value is not None for value in (self.speedup, self.max_latency_ms, self.keep))

    def training(self, original: TrainConfig) -> TrainConfig:
        """How the narrowed network is trained: on the original's images and pixel path, by this config's recipe."""
        return replace(
            original, recipe=SLIM, data=self.data or original.data, epochs=self.epochs, batch_size=self.batch_size,
            views=self.views, lr=self.lr, head_lr=self.lr, lr_decay=1.0, optimizer="adamw", schedule="cosine",
            dropout=0.0, freeze_blocks=0, patience=0, seed=self.seed, batch_norm=False, precision="auto", folds=0,
            ema=0.984,
        )  # fmt: skip
