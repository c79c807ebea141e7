"""What the widths are chosen by: the channels' importance, the layers' sensitivity and times."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from export.calibration import draw
from export.to_onnx import to_onnx
from kneeedge.data.dataset import Dataset
from kneeedge.errors import ConfigError
from kneeedge.model.spec import ModelSpec, PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.config import scaled
from kneeedge.runs.folder import Run
from kneeedge.runs.slim_report import LADDER, SlimConfig
from kneeedge.slim.allot import Allotment, allot, solve
from kneeedge.slim.chain import KeptChannels, most_important
from kneeedge.slim.importance import channel_importance
from kneeedge.slim.layer_times import LayerTimes, measure_layers
from kneeedge.slim.sensitivity import Sensitivity, measure
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json
from kneeedge.training.model import KneeVGG

N_IMAGES = 64
"training images for importance and sensitivity"
MULTIPLE = 8
"widths are multiples of so many channels"
NARROWEST = 1 / 16
"of a layer's channels"


@dataclass(frozen=True)
class Survey:
    """All that the widths are chosen by."""

    importance: tuple[tuple[float, ...], ...]
    "of each convolution's channels, see `channel_importance`"
    sensitivity: Sensitivity
    times: LayerTimes

    def allot(self, milliseconds: float) -> Allotment:
        """The widths that lose least of the answers within this latency.

        Raises ConfigError where no widths are within it.
        """
        layers_ms = milliseconds - self.times.overhead_ms
        try:
            return allot(self.choices, self.loss, self.times.layer, layers_ms)
        except ValueError as error:
            raise ConfigError(f"the goal is out of reach: {error}", "ask for less speed") from error

    def loss(self, layer: int, width: int) -> float:
        """What the answers lose where the layer alone has this width."""
        return self.sensitivity.error(layer, width / self.times.full[layer])

    @property
    def choices(self) -> list[list[int]]:
        """The widths that each layer may have."""
        return [
            [w for w in range(MULTIPLE, c + 1, MULTIPLE) if w >= c * NARROWEST]
            for c in self.times.full
        ]

    def kept(self, widths: tuple[int, ...]) -> KeptChannels:
        """The channels that stay."""
        return most_important([np.array(layer) for layer in self.importance], widths)

    def goals(self, config: SlimConfig) -> tuple[float, ...]:
        """The latencies, ms, to be reached one after the other; of a search, those within reach."""
        full = self.times.total(self.times.full)
        if config.max_latency_ms is not None:
            return (config.max_latency_ms,)
        if config.speedup is not None:
            return (full / config.speedup,)
        if config.keep is not None:
            widths = [scaled(count, config.keep) for count in self.times.full]
            return (self.times.total(widths),)
        # Not that of the narrowest: ONNX Runtime takes longer for 8 channels than for 16.
        fastest = solve(self.choices, self.loss, self.times.layer, np.inf)
        least = fastest.milliseconds + self.times.overhead_ms
        ladder = [full / speedup for speedup in LADDER]
        return tuple(latency for latency in ladder if latency >= least)


def take_survey(
    model: KneeVGG,
    spec: ModelSpec,
    dataset: Dataset,
    config: SlimConfig,
    run: Run,
    progress: Progress,
) -> Survey:
    """Measure importance, sensitivity and layer times, or take up what the slim run has."""
    if run.survey.is_file():
        return from_json(Survey, run.survey.read_text(encoding="utf-8"))
    images = some_images(dataset, spec.pixel_path, N_IMAGES, config.seed)
    importance = channel_importance(model, images, progress)
    sensitivity = measure(model, importance, images, progress)
    times = measure_layers(to_onnx(model, spec), config.threads, progress)
    values = tuple(tuple(map(float, layer)) for layer in importance)
    survey = Survey(values, sensitivity, times)
    run.write_survey(survey)
    return survey


def some_images(dataset: Dataset, pixel_path: PixelPath, n_images: int, seed: int) -> Tensor:
    """Inputs (≤ n, 1, S, S) uint8 of training images of all classes, in mixed order."""
    samples = draw(dataset.split("train"), len(dataset.classes), n_images, seed)
    order = np.random.default_rng(seed).permutation(len(samples))
    images = np.stack([load_input(samples[i].path, pixel_path) for i in order])
    return torch.from_numpy(images[:, None])
