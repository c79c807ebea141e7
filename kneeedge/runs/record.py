"""`config.json` of a run: what was asked for, what came of each `auto`, and where it ran."""

from dataclasses import dataclass

from kneeedge.model.provenance import FOLDERS, DataReport, Slimmed, Tuned
from kneeedge.model.spec import Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.system.machine import Environment


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """`config.json`: what was asked for, what came of every `auto`, and where it ran."""

    config: TrainConfig
    command: tuple[str, ...]
    data_root: str
    classes: tuple[str, ...]
    positive: str
    weights_origin: str
    n_frozen_blocks: int
    n_views: int
    "views whose frozen activations are cached; 0: the files are read anew each epoch"
    bf16: bool
    "whether the forward pass runs in bfloat16"
    frozen_precision: str | None = None
    "fp32, bf16 or int8, in which the cached activations were computed; absent where none were"
    device: str
    "cpu or cuda"
    environment: Environment
    n_processes: int = 1
    "that trained together, each on a GPU of its own or on its share of the CPUs"
    protocol: str = FOLDERS
    "how the splits came about; see `TrainingRecord`"
    data_report: DataReport | None = None
    "absent where no audit was run"
    dropped_labels: int = 0
    "images that --drop-labels left out"
    tuned: Tuned | None = None
    "absent where the recipe came from no file"
    slimmed: Slimmed | None = None
    "absent where the network is no narrowed one"
    original: str | None = None
    "folder of the run that was slimmed"
    channels: tuple[tuple[int, ...], ...] | None = None
    "of the narrowed network; absent where `config` says them"

    @property
    def architecture(self) -> Architecture:
        """Of the network trained; a narrowed one's batch norm was folded into its convolutions."""
        if self.channels is None:
            return self.config.architecture
        return Architecture(self.channels, False, self.config.head)
