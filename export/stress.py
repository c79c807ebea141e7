"""The gate under corruption: PyTorch's original and the variants on the same corrupted images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.runs.folder import Run, open_run
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.session import Outputs, Session
from kneeedge.stress.answers import CellAnswers, Subject, answer_cells
from kneeedge.stress.gate import GATE_CELLS, TOLERANCE, judge_corrupted
from kneeedge.stress.record import StressGate
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original
from kneeedge.training.model import KneeVGG
from kneeedge.training.novelty import Gaussians, predict, read_gaussians

SLIM_AGAIN = "export without --stress, or slim the original again with `kneeedge slim`"


class OriginalUnderStress:
    """The original's answers to corrupted images, asked for once, and each variant beside them."""

    def __init__(
        self, original: Subject, is_converted: bool, samples: tuple[Sample, ...], progress: Progress
    ) -> None:
        self.original = original
        self.is_converted = is_converted
        "whether the variants are of the original itself, and not of a network slimmed from it"
        self.samples = samples
        self.progress = progress
        self._answers: CellAnswers | None = None

    def judge(self, session: Session, precision: str, tolerance: float | None) -> StressGate:
        """The verdict on a variant, at TOLERANCE where none is given."""
        if self._answers is None:
            n = f"{len(self.samples):,} images in {len(GATE_CELLS)} ways"
            self.progress(f"stress: the original answers {n}, then each variant")
            self._answers = self._ask(self.original)
        limit = TOLERANCE if tolerance is None else tolerance
        variant = self._ask(Subject(session.spec, BatchRunner(session, self.progress).run))
        return judge_corrupted(
            self.samples, self._answers, variant, precision, limit, self.is_converted
        )

    def _ask(self, subject: Subject) -> CellAnswers:
        (answers,) = answer_cells([subject], self.samples, GATE_CELLS, self.progress)
        return answers


def torch_subject(model: KneeVGG, spec: ModelSpec, gaussians: Gaussians | None) -> Subject:
    """A PyTorch network as what is asked."""

    def run(images: NDArray[np.uint8]) -> Outputs:
        logits, distances = predict(model, gaussians, images)
        probabilities = softmax(logits, spec.temperature).astype(np.float32)
        of_images = None if distances is None else distances.astype(np.float32)
        return Outputs(probabilities, logits, None, of_images)

    return Subject(spec, run)


def original_of(run: Run, spec: ModelSpec) -> Subject:
    """The network that a slim run was slimmed from, as its own run has it.

    Raises NotFoundError where that run is no longer there, CheckpointError where it holds other
    weights.
    """
    slimmed = spec.training.slimmed
    folder = run.read_config().original
    if slimmed is None or folder is None:
        raise ValueError(f"{spec.name} is no slimmed network")
    if not Path(folder).is_dir():
        problem = f"{folder}: the run that this was slimmed from answers the corrupted images"
        raise NotFoundError(f"{problem}, and is not there", SLIM_AGAIN)
    original = open_run(Path(folder))
    if file_sha256(original.model) != slimmed.sha256:
        problem = "it holds other weights than this run was slimmed from"
        raise CheckpointError(original.folder, problem, SLIM_AGAIN)
    model, original_spec = load_original(original)
    gaussians = read_gaussians(original.novelty) if original_spec.novelty else None
    return torch_subject(model, original_spec, gaussians)
