"""What the widths are chosen by: the channels' importance, the layers' sensitivity and times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from export.calibration import draw
from export.to_onnx import to_onnx
from kneeedge.data.dataset import Dataset
from kneeedge.errors import CheckpointError, ConfigError
from kneeedge.model.spec import ModelSpec, PixelPath
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runs.config import AUTO, scaled
from kneeedge.runs.folder import Run
from kneeedge.runs.slim_report import LADDER, SlimConfig
from kneeedge.slim.allot import Allotment, allot, solve
from kneeedge.slim.chain import KeptChannels, most_important
from kneeedge.slim.importance import channel_importance
from kneeedge.slim.layer_times import LayerTimes, measure_layers, uniform_times
from kneeedge.slim.sensitivity import Sensitivity, measure
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import from_json
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import choose_bf16

N_IMAGES = 64
"training images for importance and sensitivity"
MULTIPLE = 16
"widths are multiples of so many channels: ONNX Runtime takes as long for 88 as for 96"
NARROW_MULTIPLE = 8
"of a layer of fewer than twice as many"
NARROWEST = 1 / 16
"of a layer's channels"
MARGIN = 1.25
"by which a goal must be missed to be refused before the layers are timed"


@dataclass(frozen=True)
class Survey:
    """All that the widths are chosen by."""

    times: LayerTimes
    importance: tuple[tuple[float, ...], ...] = ()
    "of each convolution's channels, see `channel_importance`; empty until it is measured"
    sensitivity: Sensitivity | None = None
    "absent until it is measured"
    bf16: bool = False
    "whether this machine trains, and asks the original, faster in bfloat16"

    def allot(self, milliseconds: float) -> Allotment:
        """The widths that lose least of the answers within this latency.

        Raises ConfigError where no widths are within it.
        """
        layers_ms = milliseconds - self.times.overhead_ms
        try:
            return allot(choices_of(self.times.full), self.loss, self.times.layer, layers_ms)
        except ValueError as error:
            raise ConfigError(f"the goal is out of reach: {error}", "ask for less speed") from error

    def loss(self, layer: int, width: int) -> float:
        """What the answers lose where the layer alone has this width.

        Raises ValueError where that is not measured yet.
        """
        if self.sensitivity is None:
            raise ValueError("the survey holds layer times alone; take the rest of it first")
        return self.sensitivity.error(layer, width / self.times.full[layer])

    def kept(self, widths: tuple[int, ...]) -> KeptChannels:
        """The channels that stay."""
        return most_important([np.array(layer) for layer in self.importance], widths)


def choices_of(full: Sequence[int]) -> list[list[int]]:
    """The widths that each layer may have, where it has `full` channels; rising, up to all."""
    choices = []
    for channels in full:
        multiple = MULTIPLE if channels >= 2 * MULTIPLE else NARROW_MULTIPLE
        narrower = range(multiple, channels, multiple)
        choices.append([*(w for w in narrower if w >= channels * NARROWEST), channels])
    return choices


def goals_of(times: LayerTimes, config: SlimConfig) -> tuple[float, ...]:
    """The latencies, ms, to be reached one after the other; of a search, those within reach.

    Raises ConfigError where none is.
    """
    full = times.full_ms
    # Not that of the narrowest: ONNX Runtime takes longer for 8 channels than for 16.
    fastest = solve(choices_of(times.full), lambda _layer, _width: 0.0, times.layer, np.inf)
    least = fastest.milliseconds + times.overhead_ms
    if config.keep is not None:
        return (times.total([scaled(count, config.keep) for count in times.full]),)
    wanted = wanted_ms(config, full)
    reached = tuple(milliseconds for milliseconds in wanted if milliseconds >= least)
    if not reached:
        raise out_of_reach(config, full, least)
    return reached


def wanted_ms(config: SlimConfig, full: float) -> tuple[float, ...]:
    """The latencies, ms, that are asked for of a network that takes `full`; none with `keep`."""
    if config.max_latency_ms is not None:
        return (config.max_latency_ms,)
    if config.speedup is not None:
        return (full / config.speedup,)
    return () if config.keep is not None else tuple(full / speedup for speedup in LADDER)


def check_reach(uniform: Sequence[float], config: SlimConfig) -> None:
    """Raise ConfigError where a goal is far out of reach, by `uniform_times`; it takes no survey.

    Widths that differ between layers are somewhat faster than the fastest of these, for which
    MARGIN leaves room; `goals_of` knows it exactly.
    """
    full = uniform[-1]
    least = min(uniform)
    wanted = wanted_ms(config, full)
    if wanted and max(wanted) * MARGIN < least:
        raise out_of_reach(config, full, least)


def out_of_reach(config: SlimConfig, full: float, least: float) -> ConfigError:
    """The error where this machine runs no width of a network of `full` ms as fast as asked for."""
    fastest = f"at most {full / least:.1f} times ({least:.3g} ms in place of {full:.3g})"
    if config.max_latency_ms is not None:
        asked = f"--max-latency-ms {config.max_latency_ms:g}"
    elif config.speedup is not None:
        asked = f"--speedup {config.speedup:g}"
    else:
        asked = f"a speedup of {LADDER[0]:g}, the least that is searched for,"
    problem = f"{asked} is out of reach: here no width is as fast, {fastest}"
    return ConfigError(problem, "ask for less, or use the int8 file of this network as it is")


def take_survey(
    model: KneeVGG,
    spec: ModelSpec,
    dataset: Dataset,
    config: SlimConfig,
    run: Run,
    progress: Progress,
) -> Survey:
    """Measure layer times, importance and sensitivity, but for what `run` has of them.

    The times are written to it before the rest is begun. Raises ConfigError, before that too, where
    they leave no width that reaches the goal, and CheckpointError where the network answers all
    images alike.
    """
    begun = read_survey(run)
    if begun is None:
        graph = to_onnx(model, spec)
        check_reach(uniform_times(graph, config.threads), config)
        times = measure_layers(graph, config.threads, progress)
        bf16 = choose_bf16(model, AUTO, spec.pixel_path.size, progress)
        begun = Survey(times, bf16=bf16)
        run.write_survey(begun)
    goals_of(begun.times, config)
    if begun.sensitivity is not None:
        return begun
    images = some_images(dataset, spec.pixel_path, N_IMAGES, config.seed)
    importance = channel_importance(model, images, progress)
    sensitivity = measure(model, importance, images, progress)
    if not np.isfinite(sensitivity.errors).all():
        problem = "it answers all training images alike, so that no width is better than another"
        raise CheckpointError(config.original, problem, "train it longer, or at another --lr")
    values = tuple(tuple(map(float, layer)) for layer in importance)
    return replace(begun, importance=values, sensitivity=sensitivity)


def read_survey(run: Run) -> Survey | None:
    """What the slim run was begun with; None where it holds no survey."""
    if not run.survey.is_file():
        return None
    return from_json(Survey, run.survey.read_text(encoding="utf-8"))


def some_images(dataset: Dataset, pixel_path: PixelPath, n_images: int, seed: int) -> Tensor:
    """Inputs (≤ n, 1, S, S) uint8 of training images of all classes, in mixed order."""
    samples = draw(dataset.split("train"), len(dataset.classes), n_images, seed)
    order = np.random.default_rng(seed).permutation(len(samples))
    images = np.stack([load_input(samples[i].path, pixel_path) for i in order])
    return torch.from_numpy(images[:, None])
