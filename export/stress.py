"""The gate under corruption: PyTorch's original and the variants on the same corrupted images."""

import numpy as np
from numpy.typing import NDArray

from export.original import Network, slimmed_from
from kneeedge.data.dataset import Sample
from kneeedge.model.spec import ModelSpec, softmax
from kneeedge.runs.folder import Run
from kneeedge.runtime.batches import BatchRunner
from kneeedge.runtime.session import Outputs, Session
from kneeedge.stress.answers import CellAnswers, Subject, answer_cells
from kneeedge.stress.gate import GATE_CELLS, TOLERANCE, judge_corrupted
from kneeedge.stress.record import StressGate
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress
from kneeedge.training.novelty import predict


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
            n = f"{counted(len(self.samples), 'image')} in {len(GATE_CELLS)} ways"
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


def torch_subject(network: Network) -> Subject:
    """A PyTorch network as what is asked."""
    spec = network.spec

    def run(images: NDArray[np.uint8]) -> Outputs:
        logits, distances = predict(network.model, network.gaussians, images)
        probabilities = softmax(logits, spec.temperature).astype(np.float32)
        of_images = None if distances is None else distances.astype(np.float32)
        return Outputs(probabilities, logits, None, of_images)

    return Subject(spec, run)


def original_of(run: Run, spec: ModelSpec) -> Subject:
    """The network that a slim run was slimmed from; raises what `slimmed_from` raises."""
    return torch_subject(slimmed_from(run, spec, "export without --stress"))
