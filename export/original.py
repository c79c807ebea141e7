"""What variants are held against: PyTorch's answers in fp32 to the images of the gate."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.gate_data import GateImages
from kneeedge.data.dataset import Sample
from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.model.spec import ModelSpec
from kneeedge.runs.answers import ORIGINAL, Answers
from kneeedge.runs.folder import Run, open_run
from kneeedge.statistics.partly_labelled import NO_LABEL
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import Gaussians, read_gaussians
from kneeedge.training.score import original_answers


@dataclass(frozen=True)
class Network:
    """A run's PyTorch model, and what its distances are measured by."""

    model: KneeVGG
    spec: ModelSpec
    gaussians: Gaussians | None
    "absent where the model answers every image"

    def answers(
        self, samples: tuple[Sample, ...], title: str, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
        """Logits (N, K) and, unless it answers every image, distances (N,)."""
        pixel_path = self.spec.pixel_path
        logits, parts = original_answers(
            self.model, self.gaussians, samples, pixel_path, title, progress
        )
        if self.gaussians is None or parts is None:
            return logits, None
        return logits, self.gaussians.combined(parts)


@dataclass(frozen=True, kw_only=True)
class Original:
    """The answers to val's images and, behind them, to those of `--gate-data`."""

    samples: tuple[Sample, ...]
    n_val: int
    answers: Answers
    "that variants are held against"
    own_logits: NDArray[np.float32]
    "(N, K) of the network that variants are converted from"
    distances: NDArray[np.float64] | None
    "(N,) likewise; absent where it answers every image"
    is_slimmed: bool
    "whether the answers are another network's, which that one was slimmed from"

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """(N,) class indices, NO_LABEL without one"""
        return np.array([sample.label for sample in self.samples], dtype=np.intp)

    @cached_property
    def could_gain(self) -> NDArray[np.bool_]:
        """(N,): images that are known to be answered wrongly."""
        wrong: NDArray[np.bool_] = self.answers.predictions != self.labels
        labelled: NDArray[np.bool_] = self.labels != NO_LABEL
        return np.logical_and(wrong, labelled)


@dataclass(frozen=True)
class AskedImages:
    """The images of `--gate-data`, and what the original of a slimmed network answers to them."""

    images: GateImages
    logits: NDArray[np.float32]
    "(N, K)"


def open_network(run: Run) -> Network:
    """The PyTorch model of a finished run."""
    model, spec = load_original(run)
    return Network(model, spec, read_gaussians(run.novelty) if spec.novelty else None)


def ask_original(
    run: Run,
    network: Network,
    val: tuple[Sample, ...],
    gate: GateImages | None,
    progress: Progress,
    asked: AskedImages | None = None,
) -> Original:
    """Ask the networks of a run: once for each image that nobody has asked them for.

    `asked` has what the original of a slimmed network is known to answer to the images of `gate`.
    """
    extra = gate.samples if gate else ()
    samples = (*val, *extra)
    title = "PyTorch on val and gate data" if extra else "PyTorch on val"
    own_logits, distances = network.answers(samples, title, progress)
    is_slimmed = network.spec.training.slimmed is not None
    answers = Answers(ORIGINAL, network.spec, own_logits)
    if is_slimmed:
        answers = run.read_original_answers(val, network.spec)
        if extra:
            if asked is None:
                wide = slimmed_from(run, network.spec, "export without --gate-data")
                logits, _ = wide.answers(extra, f"{wide.spec.name} on gate data", progress)
            else:
                logits = asked.logits
            answers = replace(answers, logits=np.concatenate([answers.logits, logits]))
    return Original(
        samples=samples,
        n_val=len(val),
        answers=answers,
        own_logits=own_logits,
        distances=distances,
        is_slimmed=is_slimmed,
    )


def slimmed_from(run: Run, spec: ModelSpec, without: str) -> Network:
    """The network that a slim run was slimmed from, as its own run has it.

    Raises NotFoundError where that run is no longer there, CheckpointError where it holds other
    weights; the remedy is `without`, or to slim again.
    """
    slimmed = spec.training.slimmed
    folder = run.read_config().original
    if slimmed is None or folder is None:
        raise ValueError(f"{spec.name} is no slimmed network")
    remedy = f"{without}, or slim the original again with `kneeedge slim`"
    if not Path(folder).is_dir():
        problem = f"{folder}: the run that this was slimmed from answers further images"
        raise NotFoundError(f"{problem}, and is not there", remedy)
    original = open_run(Path(folder))
    if file_sha256(original.model) != slimmed.sha256:
        problem = "it holds other weights than this run was slimmed from"
        raise CheckpointError(original.folder, problem, remedy)
    return open_network(original)
